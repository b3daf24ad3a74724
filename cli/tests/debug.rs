//! `skep debug bundle`, `skep doctor server` and `client`, over a played API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use support::{Manager, Reply, Seen, problem, skep};

/// What must be in no bundle.
const SECRET: &str = "planted-secret";

fn answer(seen: &Seen) -> Reply {
    let host =
        json!({"metadata": {"name": "web-1"}, "spec": {"role": "auto", "options": {"password": SECRET}}});
    let stack =
        json!({"metadata": {"name": "shop"}, "spec": {"recipe": SECRET}, "status": {"state": "active"}});
    let list = |items: Value| Reply::Json(200, json!({"items": items, "revision": 5}));
    match seen.target.split('?').next().unwrap_or_default() {
        "/v1/meta" => Reply::Json(200, json!({"version": "0.1.0", "cluster": "c1", "node": "m1"})),
        "/v1/whoami" => Reply::Json(200, json!({"principal": "ann"})),
        // Its own address is not known to the one who plays it.
        "/v1/cluster" => Reply::Json(
            200,
            json!({"leader": "m1", "voters": 3, "failure_tolerance": 1, "diverged": [],
                   "members": [{"name": "m1", "version": "0.1.0", "api_url": null}]}),
        ),
        "/v1/environments" => list(json!([{"metadata": {"name": "prod"}}])),
        "/v1/environments/prod/hosts" => list(json!([host])),
        "/v1/environments/prod/stacks" => list(json!([stack])),
        "/v1/operations" | "/v1/drivers" => list(json!([])),
        _ => Reply::Json(403, problem(403, None)),
    }
}

#[tokio::test]
async fn a_bundle_has_what_is_shown_without_secrets_and_names_what_it_lacks() {
    let manager = Manager::start(|_, seen| answer(seen)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.json");
    let line = format!("debug bundle {}", file.display());
    let outcome = skep(&[manager.url()], &line).await;
    assert_eq!((outcome.code, outcome.out.trim()), (0, file.to_str().unwrap()), "{outcome:?}");
    assert!(outcome.err.contains("could not be had: in_environments/prod/tasks."), "{}", outcome.err);
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in [SECRET, "skp_secret"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bundle: Value = serde_json::from_str(&text).unwrap();
    let host = &bundle["in_environments"]["prod"]["hosts"]["items"][0];
    assert_eq!(*host, json!({"metadata": {"name": "web-1"}, "spec": {"role": "auto"}}));
    assert_eq!(bundle["client"]["settings"]["server"]["origin"], "variable SKEP_URL");
    let again = skep(&[manager.url()], &line).await;
    assert!(again.code != 0 && again.err.contains("exists"), "what is there is not overwritten: {again:?}");
}

#[tokio::test]
async fn a_bundle_is_made_of_what_there_is_when_no_manager_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.json");
    let url = "http://127.0.0.1:1".to_owned();
    let outcome = skep(&[url], &format!("debug bundle {}", file.display())).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(
        outcome.err.contains("could not be had: cluster, drivers, environments, meta, operations."),
        "{}",
        outcome.err
    );
}

#[tokio::test]
async fn managers_and_this_machine_are_checked() {
    let manager = Manager::start(|_, seen| answer(seen)).await;
    let server = skep(&[manager.url()], "doctor server -o json").await;
    assert_eq!(server.code, 0, "{server:?}");
    let checks: Value = serde_json::from_str(&server.out).unwrap();
    assert_eq!(
        checks["items"][0],
        json!({"about": "cluster", "check": "leader", "state": "ok", "message": "m1", "fix": ""})
    );
    let client = skep(&[manager.url()], "doctor client").await;
    assert_eq!(client.code, 0, "{client:?}");
    assert!(client.out.contains("identity   ok        ann"), "{}", client.out);
    assert!(client.err.contains("SKEP_TOKEN_FILE"), "a token that others may read is told: {}", client.err);
    let nobody = skep(&["http://127.0.0.1:1".to_owned()], "doctor client").await;
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(nobody.err.contains("check again: skep doctor client"), "{}", nobody.err);
}
