//! `skep api`, `skep wait` and the shortcuts, over a played API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use serde_json::{Value, json};
use support::{Manager, Reply, operation, problem, put, skep};

#[tokio::test]
async fn a_call_carries_the_token_a_key_and_the_body() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("group.json");
    std::fs::write(&file, "{\"name\": \"dev\"}\n").unwrap();
    let manager = Manager::start(|_, _| Reply::Kind(201, "application/json", "{\"made\": true}")).await;
    let from_file = format!("api post /v1/groups?dry_run=true @{}", file.display());
    for line in [
        from_file.as_str(),
        "api POST /v1/groups -d {\"name\":\"dev\"}",
        "api POST v1/groups --data {\"name\":\"dev\"}",
    ] {
        let outcome = skep(&[manager.url()], line).await;
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (0, "{\n  \"made\": true\n}\n"),
            "{line}: {outcome:?}"
        );
    }
    assert_eq!(manager.requests()[..2], ["POST /v1/groups?dry_run=true", "POST /v1/groups"]);
    for seen in manager.seen() {
        assert_eq!(serde_json::from_slice::<Value>(&seen.body).unwrap(), json!({"name": "dev"}));
        assert!(seen.key.is_some() && seen.token.as_deref() == Some("Bearer skp_secret"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_call_that_reads_has_no_key_and_prints_what_comes() {
    let manager = Manager::start(|_, seen| match seen.target.as_str() {
        "/metrics" => Reply::Kind(200, "text/plain", "skep_up 1\n"),
        "/v1/users/a%2Fb" => Reply::Kind(200, "application/json", "{\"name\": \"a/b\"}"),
        _ => Reply::Json(404, problem(404, None)),
    })
    .await;
    let text = skep(&[manager.url()], "api GET /metrics").await;
    assert_eq!((text.code, text.out.as_str()), (0, "skep_up 1\n"), "{text:?}");
    let filtered = skep(&[manager.url()], "api GET /v1/users/a%2Fb --jq .name").await;
    assert_eq!((filtered.code, filtered.out.as_str()), (0, "a/b\n"), "{filtered:?}");
    let head = skep(&[manager.url()], "api GET /metrics -i").await;
    assert!(head.out.starts_with("HTTP/1.1 200 OK\n"), "{head:?}");
    assert!(head.out.contains("skep-node: m2\n") && head.out.ends_with("\n\nskep_up 1\n"), "{head:?}");
    assert!(manager.seen().iter().all(|seen| seen.key.is_none()));
    let missing = skep(&[manager.url()], "api GET /v1/nothing").await;
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.err.starts_with("error[SKP-1301]: Refused with 404."), "{}", missing.err);
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_sent_again_with_its_key() {
    let manager = Manager::start(|number, _| match number {
        0 => Reply::Drop,
        _ => Reply::Kind(200, "application/json", "{}"),
    })
    .await;
    let outcome = skep(&[manager.url()], "api DELETE /v1/groups/dev").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let keys: Vec<_> = manager.seen().into_iter().map(|seen| seen.key).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
}

#[tokio::test]
async fn a_call_that_cannot_be_meant_is_not_sent() {
    let manager = Manager::start(|_, _| Reply::Json(200, json!({}))).await;
    for (line, told) in [
        ("api POST /v1/groups -d {name:dev}", "is not JSON"),
        ("api GET /v1/groups {}", "GET takes no body"),
        ("api GET /v1/../groups", "'.' or '..'"),
        ("api GET https://elsewhere/v1/groups", "the context says whom to ask"),
        ("api POST /v1/groups --paginate", "--paginate reads lists"),
    ] {
        let outcome = skep(&[manager.url()], line).await;
        assert_eq!(outcome.code, 2, "{line}: {outcome:?}");
        assert!(outcome.err.contains(told), "{line}: {}", outcome.err);
    }
    assert_eq!(manager.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn all_pages_of_a_list_are_one() {
    let manager = Manager::start(|number, _| match number {
        0 => Reply::Json(200, json!({"items": [1, 2], "revision": 5, "next_cursor": "c&1"})),
        _ => Reply::Json(200, json!({"items": [3], "revision": 5})),
    })
    .await;
    let outcome = skep(&[manager.url()], "api GET /v1/templates?limit=2 --paginate").await;
    assert_eq!(
        serde_json::from_str::<Value>(&outcome.out).unwrap(),
        json!({"items": [1, 2, 3], "revision": 5})
    );
    assert_eq!(manager.requests(), ["GET /v1/templates?limit=2", "GET /v1/templates?limit=2&cursor=c%261"]);
}

#[tokio::test]
async fn waiting_ends_when_a_thing_is_in_the_state_or_cannot_come_to_it() {
    let host = |state: &str| json!({"status": {"state": state, "message": "no room"}});
    let manager = Manager::start(move |number, _| {
        Reply::Json(200, host(if number == 0 { "joining" } else { "active" }))
    })
    .await;
    let outcome = skep(&[manager.url()], "wait host/web-1").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "host/web-1 is active\n"), "{outcome:?}");
    assert_eq!(
        manager.requests(),
        ["GET /v1/environments/prod/hosts/web-1", "GET /v1/environments/prod/hosts/web-1"]
    );

    let manager = Manager::start(move |_, _| Reply::Json(200, host("failed"))).await;
    let outcome = skep(&[manager.url()], "wait host/web-1").await;
    assert_eq!(outcome.code, 7, "{outcome:?}");
    assert!(outcome.err.starts_with("error: host/web-1 is failed: no room\n"), "{}", outcome.err);
    let wanted = skep(&[manager.url()], "wait host/web-1 --for state=failed").await;
    assert_eq!(wanted.code, 0, "{wanted:?}");

    let manager = Manager::start(move |_, _| Reply::Json(200, host("joining"))).await;
    let outcome = skep(&[manager.url()], "wait host/web-1 --timeout 1s").await;
    assert_eq!(outcome.code, 6, "{outcome:?}");
    assert!(outcome.err.contains("waited 1 s for host/web-1 to be active"), "{}", outcome.err);
}

#[tokio::test]
async fn what_is_not_there_is_gone_for_those_who_wait_for_that() {
    let manager = Manager::start(|number, _| match number {
        0 => Reply::Json(200, json!({"status": {"state": "deleting"}})),
        _ => Reply::Json(404, problem(404, None)),
    })
    .await;
    let outcome = skep(&[manager.url()], "wait env/test --for deleted").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "env/test is gone\n"), "{outcome:?}");
    let outcome = skep(&[manager.url()], "wait env/test").await;
    assert_eq!(outcome.code, 3, "{outcome:?}");
}

#[tokio::test]
async fn operations_are_waited_for_until_their_end() {
    for (state, code) in [("succeeded", 0), ("failed", 7)] {
        let manager = Manager::start(move |_, seen| match seen.wants_events {
            true => Reply::Events(vec![put(&operation("op_1", "host/a", state, "done", 8))]),
            false => Reply::Json(200, operation("op_1", "host/a", "running", "running", 6)),
        })
        .await;
        let outcome = skep(&[manager.url()], "wait op/op_1 --progress none").await;
        assert_eq!(outcome.code, code, "{outcome:?}");
    }
}

#[tokio::test]
async fn references_of_any_type_are_inspected_and_removed() {
    let manager = Manager::start(|_, seen| match seen.method.as_str() {
        "GET" => Reply::Json(200, json!({"metadata": {"name": "x"}})),
        _ if seen.target.contains("stacks") => {
            Reply::Json(202, operation("op_1", "stack/shop", "succeeded", "done", 8))
        }
        _ => Reply::Json(200, json!({"metadata": {"name": "dev"}})),
    })
    .await;
    let outcome = skep(&[manager.url()], "inspect user/ann environment/prod -o name").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "user/x\nenv/x\n"), "{outcome:?}");
    let outcome = skep(&[manager.url()], "rm stack/shop group/dev --yes --progress none").await;
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (0, "stack/shop removed\ngroup/dev removed\n"),
        "{outcome:?}"
    );
    assert_eq!(
        manager.requests(),
        [
            "GET /v1/users/ann",
            "GET /v1/environments/prod",
            "DELETE /v1/environments/prod/stacks/shop",
            "DELETE /v1/groups/dev"
        ]
    );
    let unknown = skep(&[manager.url()], "rm web-1").await;
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.err.contains("types are: env, template, host"), "{}", unknown.err);
}
