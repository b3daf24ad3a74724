//! Statistics: through the hub from real agents, which take them of this computer.

use std::time::Duration;

use serde_json::{Value, json};

use crate::engines::{DEADLINE, Site};
use crate::support::Answer;

const HOST: &str = "/v1/environments/prod/hosts/a/stats";

/// The host's statistics as soon as its agent has taken a sample.
async fn sampled(site: &Site) -> Answer {
    let sampled = async {
        loop {
            let answer = site.door.get(HOST).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            if answer.body["at"] != json!([]) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, sampled).await.expect("the agent takes its first sample")
}

#[tokio::test]
async fn a_host_tells_how_busy_it_and_its_containers_are() {
    let site = Site::with_hosts().await;
    let body = sampled(&site).await.body;
    let told = (&body["kind"], &body["host"], &body["environment"], &body["interval_seconds"]);
    assert_eq!(told, (&json!("HostStatistics"), &json!("a"), &json!("prod"), &json!(10)));
    let samples = body["at"].as_array().unwrap().len();
    for series in body["series"].as_object().unwrap().values() {
        assert_eq!(series.as_array().unwrap().len(), samples, "{body}");
    }
    let first = |field: &str| body["series"][field][0].clone();
    assert_eq!(first("cpu_percent"), Value::Null, "a rate needs two samples, and a gap is no zero");
    assert!(first("memory_used_bytes").as_u64() < first("memory_total_bytes").as_u64(), "{body}");
    let [container] = &body["containers"].as_array().unwrap()[..] else { panic!("{body}") };
    let told = (&container["id"], &container["name"], &container["service"], &container["task"]);
    assert_eq!(told, (&json!("c1"), &json!("shop_web.1.t1"), &json!("shop_web"), &json!("t1")));
    assert_eq!(container["series"]["memory_used_bytes"][0], json!(700));
    assert_eq!(container["series"]["network_sent_bytes_per_second"][0], Value::Null);
    assert_eq!((&container["memory_limit_bytes"], &body["containers_left_out"]), (&json!(4000), &json!(0)));
}

#[tokio::test]
async fn only_later_samples_and_only_the_host_can_be_asked_for() {
    let site = Site::with_hosts().await;
    let first = sampled(&site).await.body["at"][0].as_str().unwrap().to_owned();
    let later = site.door.get(&format!("{HOST}?since={first}&containers=false")).await;
    assert_eq!((later.status.as_u16(), &later.body["containers"]), (200, &json!([])), "{later:?}");
    assert!(!later.body["at"].as_array().unwrap().contains(&json!(first)), "{later:?}");
    site.door.get(&format!("{HOST}?since=yesterday")).await.is_problem(400, "SKP-1001");
    site.door.get(&format!("{HOST}?from=1")).await.is_problem(400, "SKP-1001");
}

#[tokio::test]
async fn a_host_that_cannot_be_asked_is_a_problem_that_names_it() {
    let mut site = Site::with_hosts().await;
    site.hosts.clear();
    site.holds(0).await;
    let refused = site.door.get(HOST).await;
    refused.is_problem(502, "SKP-2401");
    assert!(refused.detail().contains("host 'a'"), "{refused:?}");
    site.door.get("/v1/environments/prod/hosts/nobody/stats").await.is_problem(404, "SKP-1203");
    site.door.get("/v1/environments/nowhere/hosts/a/stats").await.is_problem(404, "SKP-1203");
}
