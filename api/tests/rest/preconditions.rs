//! Changes that depend on what was seen, and answers that are spared.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, Ask, Door, delete, post, put};

fn role(permissions: Value) -> Ask {
    put("/v1/roles/deployer", json!({"spec": {"permissions": permissions}}))
}

async fn etag(door: &Door, path: &str) -> String {
    let answer: Answer = door.get(path).await;
    assert_eq!(answer.header("etag"), format!("\"{}\"", answer.body["metadata"]["revision"]), "{answer:?}");
    answer.header("etag").to_owned()
}

#[tokio::test]
async fn a_change_is_made_only_to_what_was_seen() {
    let door = Door::new().await;
    assert_eq!(door.send(&role(json!(["view:host"]))).await.status, 200);
    let seen = etag(&door, "/v1/roles/deployer").await;
    let change = |tag: &str| role(json!(["view:host", "view:stack"])).with("if-match", tag);
    assert_eq!(door.send(&change(&seen)).await.status, 200);
    let refused = door.send(&change(&seen)).await;
    refused.is_problem(412, "SKP-1311");
    let now = etag(&door, "/v1/roles/deployer").await;
    assert_eq!(refused.header("etag"), now, "it says which revision there is");
    door.send(&delete("/v1/roles/deployer").with("if-match", &seen)).await.is_problem(412, "SKP-1311");
    let either = format!("{seen}, {now}");
    assert_eq!(door.send(&delete("/v1/roles/deployer").with("if-match", &either)).await.status, 200);
    door.send(&delete("/v1/roles/deployer").with("if-match", "*")).await.is_problem(412, "SKP-1311");
}

#[tokio::test]
async fn a_role_is_not_changed_unseen() {
    let door = Door::new().await;
    let new = role(json!(["view:host"])).with("if-none-match", "*");
    assert_eq!(door.send(&new).await.status, 200);
    door.send(&new).await.is_problem(412, "SKP-1311");
    door.send(&role(json!(["view:stack"]))).await.is_problem(428, "SKP-1312");
    assert_eq!(door.get("/v1/roles/deployer").await.body["spec"]["permissions"], json!(["view:host"]));
}

#[tokio::test]
async fn a_request_that_is_repeated_is_answered_whatever_has_become_of_its_condition() {
    let door = Door::new().await;
    door.send(&role(json!(["view:host"]))).await;
    let seen = etag(&door, "/v1/roles/deployer").await;
    let change = role(json!(["view:stack"])).with("if-match", &seen).with("idempotency-key", "k");
    assert_eq!(door.send(&change).await.status, 200);
    let again = door.send(&change).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (StatusCode::OK, "true"));
}

#[tokio::test]
async fn a_dry_run_looks_at_the_condition_too() {
    let door = Door::new().await;
    door.environment("prod").await;
    let rehearse = Ask::new(Method::DELETE, "/v1/environments/prod?dry_run=true");
    let seen = etag(&door, "/v1/environments/prod").await;
    assert_eq!(door.send(&rehearse.clone().with("if-match", &seen)).await.status, 200);
    door.send(&rehearse.with("if-match", "\"1\"")).await.is_problem(412, "SKP-1311");
}

#[tokio::test]
async fn a_condition_that_means_nothing_is_refused() {
    let door = Door::new().await;
    for (ask, header, value) in [
        (post("/v1/groups", json!({"name": "dev"})), "if-match", "\"7\""),
        (role(json!(["view:host"])), "if-match", "seven"),
        (role(json!(["view:host"])), "if-none-match", "\"7\""),
    ] {
        door.send(&ask.with(header, value)).await.is_problem(400, "SKP-1001");
    }
    // It cannot be there and not be there.
    let both = role(json!(["view:host"])).with("if-none-match", "*").with("if-match", "*");
    door.send(&both).await.is_problem(412, "SKP-1311");
}

#[tokio::test]
async fn whoever_has_an_object_already_is_not_sent_it_again() {
    let door = Door::new().await;
    door.environment("prod").await;
    let seen = etag(&door, "/v1/environments/prod").await;
    let look = |tag: &str| Ask::new(Method::GET, "/v1/environments/prod").with("if-none-match", tag);
    let spared = door.send(&look(&seen)).await;
    assert_eq!((spared.status, spared.body.as_str()), (StatusCode::NOT_MODIFIED, Some("")));
    assert_eq!(spared.header("etag"), seen);
    assert_eq!(door.send(&look("\"1\"")).await.status, 200);
}
