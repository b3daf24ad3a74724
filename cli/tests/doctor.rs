//! `skep doctor` from the line that is typed to what is printed, over a played API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use serde_json::{Value, json};
use support::{Manager, Reply, problem, skep};

fn way(from: &str, to: &str, overlay: Value) -> Value {
    let port = |port: &str, passes: Value| json!({"port": port, "passes": passes});
    let ports = [port("7946/tcp", json!(true)), port("7946/udp", json!(true)), port("4789/udp", overlay)];
    json!({"from": from, "to": to, "ports": ports, "packet_bytes": 1500})
}

fn finding(code: &str, severity: &str, host: &str, from: &[&str], seen: &str) -> Value {
    json!({"code": code, "reason": "REASON", "severity": severity, "host": host, "from": from, "seen": seen,
           "cause": "A filter stops it.", "fix": "Let it pass."})
}

fn diagnosis(overlay: Value, findings: Vec<Value>, unchecked: Vec<Value>) -> Value {
    let host = |name: &str, clock: i64| json!({"name": name, "address": "10.0.0.1", "reached": true, "engine_version": "28.1.2", "clock_ahead_ms": clock});
    json!({"kind": "Diagnosis", "environment": "prod", "packet_bytes_needed": 1500, "all_pairs": true,
           "hosts": [host("prod-1", 12), host("prod-2", -1500)],
           "ways": [way("prod-1", "prod-2", overlay), way("prod-2", "prod-1", json!(true))],
           "findings": findings, "unchecked": unchecked})
}

async fn answering(diagnosis: Value) -> Manager {
    Manager::start(move |_, _| Reply::Json(200, diagnosis.clone())).await
}

#[tokio::test]
async fn a_healthy_environment_is_told_in_a_table_and_a_matrix() {
    let manager = answering(diagnosis(json!(true), vec![], vec![])).await;
    let outcome = skep(&[manager.url()], "doctor env prod").await;
    assert_eq!(
        outcome.out,
        "HOST     ADDRESS    AGENT   ENGINE   CLOCK      SENDS   HEARS   PACKETS\n\
         prod-1   10.0.0.1   ready   28.1.2   +0.012 s   1/1     1/1     1500\n\
         prod-2   10.0.0.1   ready   28.1.2   -1.500 s   1/1     1/1     1500\n\
         \n\
         FROM / TO   1   2\n\
         1 prod-1    -  ok\n\
         2 prod-2   ok   -\n\
         \n\
         2 hosts, 2 ways: nothing is wrong\n"
    );
    assert_eq!(outcome.err, "Checking the hosts of env/prod and the network between them…\n");
    assert_eq!(outcome.code, 0);
    assert_eq!(manager.requests(), ["POST /v1/environments/prod/actions/diagnose"]);
}

/// On twenty hosts alike, nobody wants to read it twenty times.
#[tokio::test]
async fn what_several_hosts_have_in_common_is_explained_once() {
    let disk = |host: &str| finding("SKF-131", "warning", host, &[], "1 MiB is free");
    let found = vec![disk("prod-1"), disk("prod-2")];
    let manager = answering(diagnosis(json!(true), found, vec![])).await;
    let outcome = skep(&[manager.url()], "doctor env prod --progress none").await;
    let told = "warning[SKF-131]: prod-1: 1 MiB is free\nwarning[SKF-131]: prod-2: 1 MiB is free\n  cause: A filter stops it.\n";
    assert!(outcome.out.contains(told), "{}", outcome.out);
    assert_eq!(outcome.out.matches("cause:").count(), 1, "{}", outcome.out);
}

#[tokio::test]
async fn an_error_is_told_with_cause_and_fix_and_is_exit_code_1() {
    let blocked = finding(
        "SKF-205",
        "error",
        "prod-2",
        &["prod-1"],
        "from prod-1 to prod-2: 4789/udp: datagrams do not arrive",
    );
    let clock =
        finding("SKF-111", "warning", "prod-2", &[], "the host's clock is 1.500 s behind the manager's");
    let gap = json!({"host": "prod-3", "what": "the host and its network", "why": "it is\u{1b}[2J gone"});
    let manager = answering(diagnosis(json!(false), vec![blocked, clock], vec![gap])).await;
    let outcome = skep(&[manager.url()], "doctor env prod --progress none").await;
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let (_, rest) = outcome.out.split_once("FROM / TO   1   2\n").unwrap();
    assert_eq!(
        rest,
        "1 prod-1    -  NO\n\
         2 prod-2   ok   -\n\
         \n\
         error[SKF-205]: from prod-1 to prod-2: 4789/udp: datagrams do not arrive\n\
         \x20 cause: A filter stops it.\n\
         \x20 fix:   Let it pass.\n\
         \n\
         warning[SKF-111]: prod-2: the host's clock is 1.500 s behind the manager's\n\
         \x20 cause: A filter stops it.\n\
         \x20 fix:   Let it pass.\n\
         \n\
         Not checked:\n\
         \x20 prod-3: the host and its network: it is [2J gone\n\
         \n\
         2 hosts, 2 ways: 1 error, 1 warning\n"
    );
    assert!(outcome.err.starts_with("error: 1 error was found\n"), "{}", outcome.err);
}

#[tokio::test]
async fn warnings_alone_are_no_failure() {
    let clock = finding("SKF-111", "warning", "prod-2", &[], "the clock differs");
    let manager = answering(diagnosis(json!(null), vec![clock], vec![])).await;
    let outcome = skep(&[manager.url()], "doctor env prod").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.out.contains("1 prod-1    -   ?\n"), "{}", outcome.out);
    assert!(outcome.out.ends_with("2 hosts, 2 ways: 0 errors, 1 warning\n"), "{}", outcome.out);
}

#[tokio::test]
async fn programs_get_what_the_manager_sent_and_names_are_codes() {
    let told = diagnosis(json!(false), vec![finding("SKF-205", "error", "prod-2", &["prod-1"], "x")], vec![]);
    let manager = answering(told.clone()).await;
    let outcome = skep(&[manager.url()], "doctor env prod -o json --progress none").await;
    assert_eq!((outcome.code, serde_json::from_str::<Value>(&outcome.out).unwrap()), (1, told));
    assert_eq!(serde_json::from_str::<Value>(&outcome.err).unwrap()["exit_code"], 1);
    let outcome = skep(&[manager.url()], "doctor env prod -q").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (1, "SKF-205 prod-2\n"));
}

#[tokio::test]
async fn a_large_environment_has_no_matrix_and_says_what_was_left_out() {
    let mut told = diagnosis(json!(true), vec![], vec![]);
    told["all_pairs"] = json!(false);
    let manager = answering(told).await;
    let outcome = skep(&[manager.url()], "doctor env prod").await;
    assert!(!outcome.out.contains("FROM / TO"), "{}", outcome.out);
    assert!(
        outcome.out.contains("only ways to and from swarm managers and between neighbours"),
        "{}",
        outcome.out
    );
}

#[tokio::test]
async fn an_environment_without_hosts_and_one_that_is_not_there() {
    let manager = answering(json!({"hosts": [], "ways": [], "findings": [], "unchecked": []})).await;
    let outcome = skep(&[manager.url()], "doctor env prod").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "No host to check.\n"));
    let manager = Manager::start(|_, _| Reply::Json(404, problem(404, None))).await;
    assert_eq!(skep(&[manager.url()], "doctor env nowhere").await.code, 3);
}
