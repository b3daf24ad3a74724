//! Streams: what changes, and one operation to its end.

use serde_json::{Value, json};
use skep_api::Readiness;
use skep_ledger::Ledger;
use skep_model::operation::{self, Operation};
use skep_model::{CLUSTER, Ruling};
use tonic::Code;

use crate::client::{Client, info};
use crate::support::{Door, rule};

async fn watch(door: &Door, request: Value) -> crate::client::Events {
    Client::new(door).follow("WatchService/Watch", request).await.unwrap()
}

async fn moved(door: &Door, id: &str, change: impl Fn(&mut Operation, jiff::Timestamp) + Send + Sync) {
    rule(&*door.ledger, |tx| -> Ruling<bool> {
        let mut operation = tx.get::<Operation>(CLUSTER, id)?.unwrap().record;
        change(&mut operation, tx.now());
        operation::save(tx, &operation)?;
        Ok(true)
    })
    .await;
}

#[tokio::test]
async fn a_watch_tells_what_its_topics_name_and_nothing_else() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.environment("dev").await;
    let mut events = watch(&door, json!({"topics": ["host:prod/*", "stack:prod/*"]})).await;
    let begin = events.next().await.unwrap();
    assert_eq!(begin, json!({"event": "bookmark", "revision": door.ledger.view().revision(), "epoch": 2}));
    door.host("dev", "other").await;
    let id = door.host("prod", "web-1").await;
    let event = events.next().await.unwrap();
    assert_eq!(
        (&event["event"], &event["kind"], &event["id"]),
        (&json!("put"), &json!("Host"), &json!(id.to_string()))
    );
    assert_eq!(event["object"]["metadata"]["name"], "web-1");
    assert_eq!(event["revision"], door.ledger.view().revision());
}

#[tokio::test]
async fn whoever_comes_back_goes_on_where_they_were() {
    let door = Door::new().await;
    let since = door.ledger.view().revision();
    door.environment("prod").await;
    door.host("prod", "a").await;
    let mut events = watch(&door, json!({"topics": ["environment", "host"], "since": since})).await;
    let first = events.next().await.unwrap();
    assert_eq!(first["kind"], "Environment");
    let mut events =
        watch(&door, json!({"topics": ["environment", "host"], "since": first["revision"]})).await;
    assert_eq!(events.next().await.unwrap()["object"]["metadata"]["name"], "a");
    let mut events = watch(&door, json!({"since": 1, "epoch": 1})).await;
    assert_eq!(events.next().await.unwrap()["event"], "reset");
}

#[tokio::test]
async fn a_watch_tells_nobody_what_they_may_not_see() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.environment("dev").await;
    let client = Client::new(&door);
    let key = json!({"environment": "prod", "wish": {"name": "ci", "role": "readonly"}});
    let told = client.call("TokenService/CreateEnvironmentToken", key).await.unwrap();
    let reader = client.with("authorization", &format!("Bearer {}", told.message["token"].as_str().unwrap()));
    let since = door.ledger.view().revision();
    door.host("dev", "hidden").await;
    door.host("prod", "shown").await;
    let request = json!({"topics": ["host"], "since": since});
    let mut events = reader.follow("WatchService/Watch", request).await.unwrap();
    assert_eq!(events.next().await.unwrap()["object"]["metadata"]["name"], "shown");
}

#[tokio::test]
async fn topics_that_cannot_be_followed_are_named() {
    let door = Door::new().await;
    let client = Client::new(&door);
    let refused = client.follow("WatchService/Watch", json!({"topics": ["hots"]})).await.err().unwrap();
    assert_eq!(
        (refused.code(), info(&refused).metadata["code"].as_str()),
        (Code::InvalidArgument, "SKP-1001")
    );
    assert!(refused.message().contains("hots"), "{refused:?}");
}

#[tokio::test]
async fn a_manager_that_drains_sends_its_watchers_elsewhere() {
    let door = Door::new().await;
    let mut events = watch(&door, json!({"topics": ["stack"]})).await;
    assert_eq!(events.next().await.unwrap()["event"], "bookmark");
    *door.manager.readiness.lock().unwrap() = Readiness::Draining;
    assert_eq!(events.next().await.unwrap()["event"], "reconnect");
    assert!(events.next().await.is_none());
}

/// The lines of the log before the operation, and the operation.
async fn until_put(events: &mut crate::client::Events) -> (Vec<String>, Value) {
    let mut lines = vec![];
    loop {
        let event = events.next().await.unwrap();
        match event["event"].as_str() {
            Some("put") => return (lines, event["operation"].clone()),
            Some("line") => lines.push(event["line"]["text"].as_str().unwrap().to_owned()),
            other => panic!("{other:?}: {event}"),
        }
    }
}

#[tokio::test]
async fn an_operation_is_followed_to_its_end() {
    let door = Door::new().await;
    let id = door.environment("prod").await.body["id"].as_str().unwrap().to_owned();
    let client = Client::new(&door);
    let request = json!({"operation": id, "logs": true});
    let mut events = client.follow("OperationService/WatchOperation", request).await.unwrap();
    let (lines, first) = until_put(&mut events).await;
    assert!(!lines.is_empty(), "its log is told before the change that it tells of");
    let shown = client.call("OperationService/GetOperation", json!({"operation": id})).await.unwrap();
    assert_eq!(first, shown.message);
    moved(&door, &id, |operation, now| {
        operation.prepare(["only"].into_iter());
        operation.begin("making it", "m2", now);
    })
    .await;
    let (_, second) = until_put(&mut events).await;
    assert_eq!(second["attempts_by_node"], json!({"m2": 1}));
    moved(&door, &id, |operation, now| operation.advance(now)).await;
    let mut last = Value::Null;
    while let Some(event) = events.next().await {
        last = event;
    }
    assert_eq!(last["operation"]["state"], "succeeded");
}

#[tokio::test]
async fn an_operation_that_is_not_there_cannot_be_followed() {
    let door = Door::new().await;
    let request = json!({"operation": "op_none"});
    let refused = Client::new(&door).follow("OperationService/WatchOperation", request).await.err().unwrap();
    assert_eq!(refused.code(), Code::NotFound);
}
