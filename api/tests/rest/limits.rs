//! How much one of those who ask may ask for, and what those are told who ask for more.

use std::net::IpAddr;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::json;
use skep_api::{ClientAddress, LimitsConfig, TooBusy};
use tower::ServiceExt as _;

use crate::roles::{by, user};
use crate::support::{Answer, Ask, Door, UNLIMITED, post};

/// A door with these limits, and the users `ann` and `ben`.
async fn limited(config: LimitsConfig) -> Door {
    let mut door = Door::new().await;
    user(&door, "ann").await;
    user(&door, "ben").await;
    door.router = skep_api::router(door.api.clone().limited_to(&config));
    door
}

fn read() -> Ask {
    Ask::new(Method::GET, "/v1/whoami")
}

fn write() -> Ask {
    post("/v1/environments", json!({"name": "x", "template": "ghost"}))
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").parse().unwrap()
}

#[tokio::test]
async fn reads_and_writes_of_a_principal_are_counted_apart_and_nobody_elses_with_them() {
    let door = limited(LimitsConfig { reads_per_second: 1, writes_per_second: 2, ..UNLIMITED }).await;
    for left in (0..5).rev() {
        let answer = door.send(&by(read(), "ann")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("ratelimit-policy"), "\"reads\";q=5;w=5");
        assert_eq!(answer.header("ratelimit"), format!("\"reads\";r={left};t={}", 5 - left));
    }
    let refused = door.send(&by(read(), "ann")).await;
    refused.is_problem(429, "SKP-1407");
    assert_eq!((retry_after(&refused), refused.header("ratelimit")), (1, "\"reads\";r=0;t=5"));
    assert_eq!(refused.body["params"]["retry_after_seconds"], 1);
    assert!(refused.detail().contains("ann may ask for 5 reads within 5 s"), "{refused:?}");

    let written = door.send(&by(write(), "ann")).await;
    written.is_problem(404, "SKP-1203");
    assert_eq!(written.header("ratelimit-policy"), "\"writes\";q=10;w=5");
    assert_eq!(door.send(&by(read(), "ben")).await.status, 200);
    let metrics = door.get("/metrics").await;
    let line = "skep_http_requests_limited_total{limit=\"reads\"} 1\n";
    assert!(metrics.body.as_str().unwrap().contains(line), "{metrics:?}");
}

#[tokio::test]
async fn who_may_not_do_it_is_counted_as_well_and_told_how_it_stands() {
    let door = limited(LimitsConfig { reads_per_second: 1, ..UNLIMITED }).await;
    let ask = || by(Ask::new(Method::GET, "/v1/users"), "ann");
    for _ in 0..5 {
        let denied = door.send(&ask()).await;
        denied.is_problem(403, "SKP-1102");
        assert!(denied.headers.contains_key("ratelimit"), "{denied:?}");
    }
    door.send(&ask()).await.is_problem(429, "SKP-1407");
    let stranger = door.send(&read().without_token()).await;
    stranger.is_problem(401, "SKP-1101");
    assert!(!stranger.headers.contains_key("ratelimit"), "nobody has a limit of nobody's");
}

#[tokio::test]
async fn who_acts_as_the_cluster_is_not_limited_and_nothing_is_where_a_limit_is_zero() {
    let door = limited(LimitsConfig { reads_per_second: 1, ..UNLIMITED }).await;
    for _ in 0..20 {
        let answer = door.send(&read()).await;
        assert_eq!((answer.status.as_u16(), answer.headers.contains_key("ratelimit")), (200, false));
        door.send(&by(write(), "ann")).await.is_problem(404, "SKP-1203");
    }
}

#[tokio::test]
async fn a_principal_has_so_many_watches_and_may_have_another_when_one_has_ended() {
    let door = limited(LimitsConfig { watches: 2, ..UNLIMITED }).await;
    let open = async |name: &str| {
        let ask = by(Ask::new(Method::GET, "/v1/events"), name);
        door.router.clone().oneshot(ask.request()).await.unwrap()
    };
    let (first, second) = (open("ann").await, open("ann").await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let refused = door.send(&by(Ask::new(Method::GET, "/v1/events?index=0&wait=1s"), "ann")).await;
    refused.is_problem(429, "SKP-1408");
    assert!(refused.detail().contains("ann has 2 watches"), "{refused:?}");
    assert_eq!(retry_after(&refused), 1);
    assert_eq!(open("ben").await.status(), 200);
    drop(first);
    assert_eq!(open("ann").await.status(), 200);
}

#[tokio::test]
async fn an_address_fetches_so_many_scripts_for_new_hosts_and_others_are_not_kept_from_it() {
    let door = limited(LimitsConfig { joins_per_minute: 2, ..UNLIMITED }).await;
    let status = async |path: &str, from: [u8; 4]| {
        let mut request = Ask::new(Method::GET, path).without_token().request();
        request.extensions_mut().insert(ClientAddress(IpAddr::from(from)));
        door.router.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    let (here, there) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    for _ in 0..2 {
        assert_eq!(status("/join/skh_nobody", here).await, 403);
    }
    assert_eq!(status("/join/skh_nobody", here).await, 429);
    assert_eq!(status("/join/skh_somebody", here).await, 429, "whatever token it is");
    assert_eq!(status("/join/skh_nobody/skep", here).await, 403, "programs are counted apart");
    assert_eq!(status("/join/skh_nobody", there).await, 403);
    assert_eq!(status("/livez", here).await, 200);
}

#[tokio::test]
async fn what_is_too_long_to_make_sense_is_not_looked_at() {
    let door = Door::new().await;
    let long = format!("/v1/events?topics={}", "host:prod/a,".repeat(1_000));
    door.get(&long).await.is_problem(414, "SKP-1410");
}

#[tokio::test]
async fn an_address_with_too_many_connections_is_told_what_to_do() {
    let answer = TooBusy::of_address(7).oneshot(read().request()).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["connection"]), (429, &"close".parse().unwrap()));
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(problem["code"], "SKP-1409");
    assert!(problem["hint"].as_str().unwrap().contains("trusted_proxies"), "{problem}");
}
