//! What the doors count, and who may see it.

use http::{Method, StatusCode};
use skep_api::TooBusy;
use tower::ServiceExt;

use crate::stream::Events;
use crate::support::{Ask, Door};

async fn metrics(door: &Door) -> String {
    let answer = door.get("/metrics").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    answer.body.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn requests_are_counted_by_the_pattern_of_their_path() {
    let door = Door::new().await;
    door.environment("prod").await;
    for name in ["prod", "prod", "ghost"] {
        door.get(&format!("/v1/environments/{name}")).await;
    }
    door.get("/nowhere").await;
    door.send(&Ask::new(Method::from_bytes(b"BREW").unwrap(), "/v1/environments")).await;
    let text = metrics(&door).await;
    for line in [
        "skep_http_requests_total{method=\"GET\",route=\"/v1/environments/{environment}\",code=\"200\"} 2",
        "skep_http_requests_total{method=\"GET\",route=\"/v1/environments/{environment}\",code=\"404\"} 1",
        "skep_http_requests_total{method=\"POST\",route=\"/v1/environments\",code=\"202\"} 1",
        "skep_http_requests_total{method=\"GET\",route=\"none\",code=\"404\"} 1",
        "skep_http_requests_total{method=\"other\",route=\"/v1/environments\",code=\"405\"} 1",
        "skep_http_request_duration_seconds_count{route=\"/v1/environments/{environment}\"} 3",
        "skep_operations{state=\"running\",type=\"create-environment\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn streams_are_counted_while_they_last() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.host("prod", "web-1").await;
    let streams = async |door: &Door| metrics(door).await.contains("skep_watch_streams{kind=\"event\"} 1");
    let events = Events::open(&door, "/v1/events", None).await;
    assert!(streams(&door).await);
    drop(events);
    assert!(!streams(&door).await);
    assert!(metrics(&door).await.contains("skep_hosts{env=\"prod\",state=\"creating\"} 1"));
}

#[tokio::test]
async fn metrics_need_a_token() {
    let door = Door::new().await;
    door.send(&Ask::new(Method::GET, "/metrics").without_token()).await.is_problem(401, "SKP-1101");
}

#[tokio::test]
async fn a_manager_without_room_says_so_and_closes() {
    let answer = TooBusy::router(7).oneshot(Ask::new(Method::GET, "/v1/meta").request()).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["connection"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"close".parse().unwrap())
    );
    let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((problem["code"].as_str(), problem["retryable"].as_bool()), (Some("SKP-1405"), Some(true)));
}
