//! Diagnoses: through the hub and real agents, whose hosts are two addresses of this computer. Needs root, as agents do.

use http::Method;
use serde_json::{Value, json};

use crate::engines::Site;
use crate::support::{Answer, Ask};

async fn diagnosed(site: &Site, environment: &str) -> Answer {
    let path = format!("/v1/environments/{environment}/actions/diagnose");
    site.door.send(&Ask::new(Method::POST, &path)).await
}

/// Code and host of each finding, except those that depend on the computer on which the test runs.
fn findings(answer: &Answer) -> Vec<(String, String)> {
    let own = ["SKF-121", "SKF-122", "SKF-123", "SKF-131", "SKF-132"];
    let findings = answer.body["findings"].as_array().unwrap().iter();
    let findings = findings.map(|finding| {
        for field in ["reason", "severity", "seen", "cause", "fix"] {
            assert!(finding[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {finding}");
        }
        let text = |field: &str| finding[field].as_str().unwrap().to_owned();
        (text("code"), text("host"))
    });
    findings.filter(|(code, _)| !own.contains(&code.as_str())).collect()
}

fn row(code: &str, host: &str) -> (String, String) {
    (code.to_owned(), host.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_between_hosts_and_what_is_wrong_with_them_is_told() {
    let site = Site::with_hosts().await;
    site.door.host("prod", "c").await;
    let answer = diagnosed(&site, "prod").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = &answer.body;
    let told = (&body["kind"], &body["environment"], &body["packet_bytes_needed"], &body["all_pairs"]);
    assert_eq!(told, (&json!("Diagnosis"), &json!("prod"), &json!(1500), &json!(true)));
    for (at, name) in ["a", "b"].into_iter().enumerate() {
        let host = &body["hosts"][at];
        let told = (&host["name"], &host["reached"], &host["engine_version"]);
        assert_eq!(told, (&json!(name), &json!(true), &json!("20.10.24")));
        assert!(host["clock_ahead_ms"].is_i64(), "{host}");
    }
    // Nobody listens for connections here, although both are nodes of the swarm; datagrams pass.
    let port = |port: &str, passes: bool| json!({"port": port, "passes": passes});
    let way = |from: &str, to: &str, mut ports: Vec<Value>| {
        ports.extend([port("7946/tcp", false), port("7946/udp", true), port("4789/udp", true)]);
        json!({"from": from, "to": to, "ports": ports, "packet_bytes": 9000})
    };
    let ways = [way("a", "b", vec![]), way("b", "a", vec![port("2377/tcp", false)])];
    assert_eq!(body["ways"], json!(ways));
    // It is one machine with one name.
    let expected = [
        row("SKF-202", "a"),
        row("SKF-203", "a"),
        row("SKF-203", "b"),
        row("SKF-152", "a"),
        row("SKF-152", "b"),
    ];
    let mut found = findings(&answer);
    found.sort();
    let mut sorted = expected.to_vec();
    sorted.sort();
    assert_eq!(found, sorted);
    let gap =
        json!({"host": "c", "what": "the host and its network", "why": "its agent has not registered yet"});
    assert_eq!(body["unchecked"], json!([gap]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_host_is_a_finding_and_no_error() {
    let mut site = Site::with_hosts().await;
    site.hosts.pop();
    site.holds(1).await;
    let answer = diagnosed(&site, "prod").await;
    assert_eq!((answer.status.as_u16(), &answer.body["ways"]), (200, &json!([])));
    assert_eq!(findings(&answer), [row("SKF-101", "b")]);
    assert_eq!(answer.body["hosts"][1]["reached"], false);
    assert_eq!(answer.body["unchecked"][0]["host"], "b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_environment_is_checked_once_at_a_time() {
    let site = Site::with_hosts().await;
    let (first, second) = tokio::join!(diagnosed(&site, "prod"), diagnosed(&site, "prod"));
    assert_eq!(first.status, 200, "{first:?}");
    second.is_problem(409, "SKP-2404");
    assert_eq!(diagnosed(&site, "prod").await.status, 200);
}

#[tokio::test]
async fn an_environment_without_hosts_has_nothing_wrong_and_one_that_is_not_there_is_refused() {
    let site = Site::new().await;
    let answer = diagnosed(&site, "prod").await;
    assert_eq!((answer.status.as_u16(), &answer.body["findings"]), (200, &json!([])));
    diagnosed(&site, "nowhere").await.is_problem(404, "SKP-1203");
}
