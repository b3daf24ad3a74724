//! Operations: lists, and streams that follow one to its end.

use serde_json::json;
use skep_ledger::Ledger;
use skep_model::operation::{self, Operation};
use skep_model::{CLUSTER, Ruling};

use crate::stream::Events;
use crate::support::{Answer, Door, rule};

/// Follows an operation.
async fn follow(door: &Door, id: &str, seen: Option<u64>) -> Events {
    Events::open(door, &format!("/v1/operations/{id}"), seen).await
}

fn id_of(answer: &Answer) -> String {
    answer.body["id"].as_str().unwrap().to_owned()
}

/// Moves an operation as the engine does.
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
async fn a_stream_tells_every_change_and_ends_with_the_operation() {
    let door = Door::new().await;
    let id = id_of(&door.environment("prod").await);
    let mut events = follow(&door, &id, None).await;
    let first = events.next().await.unwrap();
    assert_eq!(
        (first.name.as_str(), &first.data),
        ("put", &door.get(&format!("/v1/operations/{id}")).await.body)
    );
    assert_eq!(first.data["revision"], first.id.unwrap());

    moved(&door, &id, |operation, now| {
        operation.prepare(["only"].into_iter());
        operation.begin("making it", "m2", now);
    })
    .await;
    let second = events.next().await.unwrap();
    assert!(second.id > first.id);
    assert_eq!(second.data["attempts_by_node"], json!({"m2": 1}));
    let step = &second.data["steps"][0];
    assert_eq!(
        (&step["state"], &step["owner"], &step["attempt"]),
        (&json!("running"), &json!("m2"), &json!(1))
    );

    // What others do is no news.
    door.environment("dev").await;
    moved(&door, &id, |operation, now| operation.advance(now)).await;
    let last = events.next().await.unwrap();
    assert_eq!((&last.data["state"], &last.data["result"]["name"]), (&json!("succeeded"), &json!("prod")));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_comes_back_is_told_only_what_it_missed() {
    let door = Door::new().await;
    let id = id_of(&door.environment("prod").await);
    let seen = follow(&door, &id, None).await.next().await.unwrap().id.unwrap();
    let mut events = follow(&door, &id, Some(seen)).await;
    moved(&door, &id, |operation, _| operation.prepare(["only"].into_iter())).await;
    let next = events.next().await.unwrap();
    assert!(next.id > Some(seen) && next.data["steps"][0]["state"] == "pending", "{next:?}");
    // From a future that never was: the cluster was restored, everything is news.
    let mut events = follow(&door, &id, Some(1_000_000)).await;
    assert_eq!(events.next().await.unwrap().id, next.id);
}

#[tokio::test]
async fn the_end_is_told_to_whoever_asks_after_it() {
    let door = Door::new().await;
    let id = id_of(&door.environment("prod").await);
    moved(&door, &id, |operation, now| {
        operation.prepare(["only"].into_iter());
        operation.abandon("no quota", now);
    })
    .await;
    let shown = door.get(&format!("/v1/operations/{id}")).await.body;
    assert_eq!((&shown["state"], &shown["error"]["code"]), (&json!("failed"), &json!("SKP-2402")));
    assert_eq!(shown["error"]["detail"], "no quota");
    let revision = shown["revision"].as_u64().unwrap();
    let mut events = follow(&door, &id, Some(revision)).await;
    assert_eq!(events.next().await.unwrap().data, shown);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_watcher_that_fell_behind_the_history_looks_again() {
    let door = Door::new().await;
    let id = id_of(&door.environment("prod").await);
    let mut events = follow(&door, &id, None).await;
    events.next().await.unwrap();
    moved(&door, &id, |operation, _| operation.prepare(["only"].into_iter())).await;
    door.ledger.feed().reset(door.ledger.view().revision());
    let next = events.next().await.unwrap();
    assert_eq!(next.data["steps"][0]["name"], "only");
}

#[tokio::test]
async fn operations_are_listed_by_state() {
    let door = Door::new().await;
    let done = id_of(&door.environment("prod").await);
    let running = id_of(&door.environment("dev").await);
    moved(&door, &done, |operation, now| {
        operation.prepare(["only"].into_iter());
        operation.advance(now);
    })
    .await;
    for (query, expected) in
        [("", vec![&done, &running]), ("?state=running", vec![&running]), ("?state=failed", vec![])]
    {
        let list = door.get(&format!("/v1/operations{query}")).await.body;
        let ids: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{query}");
    }
    door.get("/v1/operations/op_1").await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn a_long_list_of_operations_comes_in_parts() {
    let door = Door::new().await;
    let mut made = vec![];
    for number in 0..5 {
        made.push(id_of(&door.environment(&format!("e{number}")).await));
    }
    let mut seen: Vec<String> = vec![];
    let mut path = "/v1/operations?limit=2".to_owned();
    loop {
        let page = door.get(&path).await.body;
        let items = page["items"].as_array().unwrap();
        assert!((1..=2).contains(&items.len()), "{page}");
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/operations?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, made);
    // More than is given at once is asked for: as much as there is, and no error.
    assert_eq!(door.get("/v1/operations?limit=5000").await.body["items"].as_array().unwrap().len(), 5);
    let exactly = door.get("/v1/operations?limit=5").await.body;
    assert!(exactly.get("next_cursor").is_none(), "{exactly}");
}
