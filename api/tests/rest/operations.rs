//! Operations: lists, and streams that follow one to its end.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skep_ledger::Ledger;
use skep_model::operation::{self, Operation};
use skep_model::{CLUSTER, Ruling};
use tower::ServiceExt;

use crate::support::{Answer, Ask, Door, rule};

/// Far beyond what anything here takes, so that only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A stream of server-sent events that is read one by one.
struct Events {
    response: Response<Body>,
    text: String,
}

#[derive(Debug)]
struct Event {
    id: u64,
    name: String,
    data: Value,
}

impl Events {
    async fn of(door: &Door, id: &str, seen: Option<u64>) -> Events {
        let mut ask =
            Ask::new(Method::GET, &format!("/v1/operations/{id}")).with("accept", "text/event-stream");
        if let Some(seen) = seen {
            ask = ask.with("last-event-id", &seen.to_string());
        }
        let response = door.router.clone().oneshot(ask.request()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { response, text: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(Event::parse(&event));
            }
            let frame = tokio::time::timeout(DEADLINE, self.response.body_mut().frame());
            let bytes = frame.await.expect("the next event comes")?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

impl Event {
    fn parse(text: &str) -> Event {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
        };
        Event {
            id: field("id").parse().unwrap(),
            name: field("event"),
            data: serde_json::from_str(&field("data")).unwrap(),
        }
    }
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
    let mut events = Events::of(&door, &id, None).await;
    let first = events.next().await.unwrap();
    assert_eq!(
        (first.name.as_str(), &first.data),
        ("put", &door.get(&format!("/v1/operations/{id}")).await.body)
    );
    assert_eq!(first.data["revision"], first.id);

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
    let seen = Events::of(&door, &id, None).await.next().await.unwrap().id;
    let mut events = Events::of(&door, &id, Some(seen)).await;
    moved(&door, &id, |operation, _| operation.prepare(["only"].into_iter())).await;
    let next = events.next().await.unwrap();
    assert!(next.id > seen && next.data["steps"][0]["state"] == "pending", "{next:?}");
    // From a future that never was: the cluster was restored, everything is news.
    let mut events = Events::of(&door, &id, Some(1_000_000)).await;
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
    let mut events = Events::of(&door, &id, Some(revision)).await;
    assert_eq!(events.next().await.unwrap().data, shown);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_watcher_that_fell_behind_the_history_looks_again() {
    let door = Door::new().await;
    let id = id_of(&door.environment("prod").await);
    let mut events = Events::of(&door, &id, None).await;
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
