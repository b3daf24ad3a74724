//! Backups at the door: streamed with what is known of them, listed, removed; and the schedule.

use http::{Method, StatusCode};
use serde_json::json;
use skep_backup::RecoveryKey;
use skep_model::snapshot;

use crate::support::{Ask, Door, kept_snapshot, put, rule};

#[tokio::test]
async fn a_backup_of_now_is_streamed_with_what_is_known_of_it() {
    let door = Door::new().await;
    let answer = door.get("/v1/snapshots/now/content").await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &json!("made")));
    for (name, value) in [("revision", "7"), ("epoch", "2"), ("rows", "3"), ("sha256", "ab")] {
        assert_eq!(answer.headers[&format!("skep-snapshot-{name}")], value, "{name}");
    }
    assert_eq!(answer.headers["content-length"], "4");
    assert_eq!(door.get("/v1/snapshots/now/content?consistency=stale").await.body, json!("old!"));
    let nobody = door.send(&Ask::new(Method::GET, "/v1/snapshots/now/content").without_token()).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_kept_backup_is_listed_fetched_where_it_is_and_marked_when_it_has_to_go() {
    let door = Door::new().await;
    let file = door.spool.path().join("skep-1.backup");
    std::fs::write(&file, "kept").unwrap();
    let (here, elsewhere) =
        (kept_snapshot("m1", file.to_str().unwrap()), kept_snapshot("m9", "/backups/far"));
    for snapshot in [&here, &elsewhere] {
        rule(&*door.ledger, |tx| snapshot::taken(tx, snapshot).map(|()| true)).await;
    }
    assert_eq!(door.get("/v1/snapshots").await.body["items"].as_array().unwrap().len(), 2);
    assert_eq!(door.get(&format!("/v1/snapshots/{}/content", here.id)).await.body, json!("kept"));
    let refused = door.get(&format!("/v1/snapshots/{}/content", elsewhere.id)).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::CONFLICT, &json!("SKP-3413")));
    assert!(refused.body["detail"].as_str().unwrap().contains("m9"), "{refused:?}");

    std::fs::remove_file(&file).unwrap();
    let lost = door.get(&format!("/v1/snapshots/{}/content", here.id)).await;
    lost.is_problem(500, "SKP-3411");
    assert!(lost.detail().contains("skep-1.backup"), "{lost:?}");

    let removed = door.send(&Ask::new(Method::DELETE, &format!("/v1/snapshots/{}", here.id))).await;
    assert_eq!((removed.status, &removed.body["status"]["state"]), (StatusCode::OK, &json!("going")));
    assert_eq!(door.get("/v1/snapshots/snap_none").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn without_a_recovery_key_the_refusal_says_how_to_make_one() {
    let door = Door::new().await;
    let refused = door.send(&Ask::new(Method::POST, "/v1/snapshots")).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::CONFLICT, &json!("SKP-3412")));
    assert!(refused.body["hint"].as_str().unwrap().contains("new-key"), "{refused:?}");
}

#[tokio::test]
async fn a_schedule_is_changed_as_a_whole_and_keys_are_read_at_the_door() {
    let door = Door::new().await;
    let path = "/v1/snapshot-schedules/default";
    assert_eq!(door.get(path).await.status, StatusCode::NOT_FOUND);
    let key = RecoveryKey::generate().recipient().to_string();
    let spec = |recipient: &str| json!({"enabled": true, "every_minutes": 60, "keep": 3, "directory": null, "recipients": [recipient]});
    let set = |body| put(path, body);
    let answer = door.send(&set(spec(&key))).await;
    assert_eq!((answer.status, &answer.body["spec"]), (StatusCode::OK, &spec(&key)), "{answer:?}");
    assert_eq!(door.get(path).await.body["spec"], spec(&key));
    let refused = door.send(&set(spec("age1typo"))).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("SKP-1202"))
    );
    assert_eq!(door.get("/v1/snapshot-schedules/other").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_backup_that_is_asked_for_again_with_its_key_is_made_once() {
    let door = Door::new().await;
    let key = RecoveryKey::generate().recipient().to_string();
    let spec =
        json!({"enabled": true, "every_minutes": 60, "keep": 3, "directory": null, "recipients": [key]});
    assert_eq!(door.send(&put("/v1/snapshot-schedules/default", spec)).await.status, StatusCode::OK);
    let rehearsed = door.send(&Ask::new(Method::POST, "/v1/snapshots?dry_run=true")).await;
    assert_eq!((rehearsed.status, &rehearsed.body["manager"]), (StatusCode::OK, &json!("m1")));
    let ask = Ask::new(Method::POST, "/v1/snapshots").with("idempotency-key", "nightly");
    let (first, again) = (door.send(&ask).await, door.send(&ask).await);
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::CREATED), "{again:?}");
    assert_eq!(first.body["metadata"]["id"], again.body["metadata"]["id"]);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let another = door.send(&Ask::new(Method::POST, "/v1/snapshots")).await;
    assert_ne!(first.body["metadata"]["id"], another.body["metadata"]["id"]);
}
