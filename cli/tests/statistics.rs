//! `skep host stats` from the line that is typed to what is printed, over a played API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use serde_json::{Value, json};
use support::{Manager, Reply, skep};

const GIB: u64 = 1024 * 1024 * 1024;

/// Two samples, ten seconds apart; the first has no rates.
fn statistics(host: &str, containers: Vec<Value>) -> Value {
    json!({"kind": "HostStatistics", "host": host, "environment": "prod", "interval_seconds": 10,
           "at": ["2026-11-20T10:00:00Z", "2026-11-20T10:00:10Z"],
           "series": {"cpu_percent": [null, 12.5], "memory_used_bytes": [GIB, 2 * GIB],
                      "memory_total_bytes": [8 * GIB, 8 * GIB], "disk_used_bytes": [GIB, null],
                      "disk_total_bytes": [GIB, null], "network_received_bytes_per_second": [null, 1536],
                      "network_sent_bytes_per_second": [null, 0]},
           "containers": containers, "containers_left_out": 0})
}

fn container(name: &str, service: Option<&str>, cpu: Value, memory: Value) -> Value {
    json!({"id": format!("{name}-id"), "name": name, "service": service, "task": null, "memory_limit_bytes": GIB,
           "series": {"cpu_percent": [99.0, cpu], "memory_used_bytes": [1024, memory],
                      "network_received_bytes_per_second": [null, 10], "network_sent_bytes_per_second": [null, null]}})
}

/// The hosts `a`, `b` and `c`, of which `b` has a silent agent.
async fn three_hosts() -> Manager {
    Manager::start(|_, seen| {
        let (path, query) = seen.target.split_once('?').unwrap_or((seen.target.as_str(), ""));
        let containers = match query.contains("containers=true") {
            true => vec![
                container("web", Some("shop_web"), json!(150.0), json!(GIB / 2)),
                container("old", None, json!(null), json!(null)),
            ],
            false => vec![],
        };
        match path.strip_prefix("/v1/environments/prod/hosts").unwrap() {
            "" => {
                let host = |name: &str| json!({"metadata": {"name": name}});
                // As long lists do, it comes in pages.
                Reply::Json(200, match query.contains("cursor=more") {
                    true => json!({"items": [host("c")], "revision": 2}),
                    false => json!({"items": [host("a"), host("b")], "revision": 1, "next_cursor": "more"}),
                })
            }
            "/a/stats" => Reply::Json(200, statistics("a", containers)),
            "/c/stats" => Reply::Json(200, statistics("c", vec![])),
            "/b/stats" => Reply::Json(
                502,
                json!({"type": "urn:skep:error:SKP-2401", "title": "Engine unreachable", "status": 502,
                       "code": "SKP-2401", "detail": "host 'b' does not tell its statistics", "retryable": true}),
            ),
            other => panic!("{other}"),
        }
    })
    .await
}

#[tokio::test]
async fn every_host_has_a_line_and_a_silent_one_says_why() {
    let manager = three_hosts().await;
    let outcome = skep(&[manager.url()], "host stats").await;
    let history = format!("{}:", " ".repeat(29));
    assert_eq!(
        outcome.out,
        format!(
            "HOST   CPU     MEM               DISK   IN/S      OUT/S   CPU, LAST HOUR                   MESSAGE\n\
             a      12.5%   2.0 GiB/8.0 GiB   -      1.5 KiB   0 B     {history}\n\
             b      -       -                 -      -         -       -                                \
             host 'b' does not tell its statistics\n\
             c      12.5%   2.0 GiB/8.0 GiB   -      1.5 KiB   0 B     {history}\n"
        )
    );
    assert_eq!((outcome.code, outcome.err.lines().next()), (11, Some("error: 1 of 3 failed")), "{outcome:?}");
    let mut requests = manager.requests();
    requests[2..].sort();
    let page = |more: &str| format!("GET /v1/environments/prod/hosts?limit=1000{more}");
    let stats = |host: &str| format!("GET /v1/environments/prod/hosts/{host}/stats?containers=false");
    let expected = [page(""), page("&cursor=more"), stats("a"), stats("b"), stats("c")];
    assert_eq!(requests, expected);
}

#[tokio::test]
async fn containers_have_a_line_each() {
    let manager = three_hosts().await;
    let outcome = skep(&[manager.url()], "host stats host/a --containers").await;
    let blanks = " ".repeat(29);
    assert_eq!(
        outcome.out,
        format!(
            "CONTAINER   HOST   SERVICE    CPU      MEM                 IN/S   OUT/S   CPU, LAST HOUR                   MESSAGE\n\
             old         a      -          -        -                   10 B   -       {blanks}@   \
             has ended, or did not answer just now\n\
             web         a      shop_web   150.0%   512.0 MiB/1.0 GiB   10 B   -       {blanks}+\n"
        )
    );
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

#[tokio::test]
async fn programs_get_what_the_manager_sent() {
    let manager = three_hosts().await;
    let outcome = skep(&[manager.url()], "host stats c -o json").await;
    assert_eq!(serde_json::from_str::<Value>(&outcome.out).unwrap(), statistics("c", vec![]));
    let outcome = skep(&[manager.url()], "host stats -o json").await;
    let expected = json!({"items": [statistics("a", vec![]), statistics("c", vec![])]});
    assert_eq!((outcome.code, serde_json::from_str::<Value>(&outcome.out).unwrap()), (11, expected));
    assert!(outcome.err.contains("SKP-2401"), "{}", outcome.err);
    let outcome = skep(&[manager.url()], "host stats a c -o name").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "host/a\nhost/c\n"));
}

#[tokio::test]
async fn one_host_that_does_not_answer_is_a_failure_as_any_other() {
    let manager = three_hosts().await;
    let outcome = skep(&[manager.url()], "host stats b").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""), "{outcome:?}");
    assert!(
        outcome.err.starts_with("error[SKP-2401]: host 'b' does not tell its statistics\n"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn an_environment_without_hosts_is_told_how_to_get_one_and_what_is_left_out_is_said() {
    let manager = Manager::start(|_, seen| match seen.target.contains("stats") {
        true => {
            let mut told = statistics("a", vec![]);
            told["containers_left_out"] = json!(7);
            Reply::Json(200, told)
        }
        false => Reply::Json(200, json!({"items": [], "revision": 1})),
    })
    .await;
    let outcome = skep(&[manager.url()], "host stats").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, ""));
    assert!(outcome.err.starts_with("No hosts in this environment yet."), "{}", outcome.err);
    let outcome = skep(&[manager.url()], "host stats a").await;
    assert_eq!(outcome.err, "host/a runs 7 more containers than its agent keeps statistics of\n");
}
