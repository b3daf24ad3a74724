//! Changes as they happen: streams, requests that wait, and what becomes of those who fall behind.

use http::Method;
use serde_json::{Value, json};
use skep_api::Readiness;
use skep_ledger::{Key, Ledger, RequestId, Txn};
use skep_model::Ruling;
use skep_model::stack::Stack;

use crate::stream::Events;
use crate::support::{Ask, Door, rule};

/// Something that happens and concerns nobody here.
async fn noise(door: &Door) {
    let key = Key::new("kv", "p", "k");
    let txn = Txn::decided(Some(RequestId::new()), door.ledger.now(), [], [(key, Some(vec![]))]);
    door.ledger.propose(txn).await.unwrap();
}

fn about(event: &Value) -> (&str, &str) {
    let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
    (event["kind"].as_str().unwrap(), name)
}

#[tokio::test]
async fn a_stream_tells_what_its_topics_name_and_nothing_else() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.environment("dev").await;
    let mut events = Events::open(&door, "/v1/events?topics=host:prod/*,stack:prod/*", None).await;
    let begin = events.next().await.unwrap();
    let now = door.ledger.view().revision();
    assert_eq!((begin.name.as_str(), begin.id, &begin.data["epoch"]), ("bookmark", Some(now), &json!(2)));
    noise(&door).await;
    door.host("dev", "other").await;
    let id = door.host("prod", "web-1").await;
    let event = events.next().await.unwrap();
    assert_eq!(event.name, "put");
    assert_eq!(about(&event.data), ("Host", "web-1"));
    let shown = door.get("/v1/environments/prod/hosts/web-1").await.body;
    assert_eq!((&event.data["object"], &event.data["id"]), (&shown, &json!(id.to_string())));
    assert_eq!(event.data["revision"], event.id.unwrap());
}

#[tokio::test]
async fn a_list_asked_for_as_a_stream_is_followed() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.environment("dev").await;
    let mut hosts = Events::open(&door, "/v1/environments/prod/hosts", None).await;
    let mut environments = Events::open(&door, "/v1/environments", None).await;
    for events in [&mut hosts, &mut environments] {
        assert_eq!(events.next().await.unwrap().name, "bookmark");
    }
    door.host("dev", "other").await;
    door.host("prod", "web-1").await;
    door.environment("test").await;
    let event = hosts.next().await.unwrap();
    assert_eq!(about(&event.data), ("Host", "web-1"));
    let cursor = event.id;
    assert_eq!(about(&environments.next().await.unwrap().data), ("Environment", "test"));
    door.host("prod", "web-2").await;
    let mut again = Events::open(&door, "/v1/environments/prod/hosts", cursor).await;
    assert_eq!(
        about(&again.next().await.unwrap().data),
        ("Host", "web-2"),
        "it goes on where it was cut off"
    );
}

#[tokio::test]
async fn a_list_is_followed_as_a_whole_or_not_at_all() {
    let door = Door::new().await;
    door.environment("prod").await;
    let ask = |path: &str| Ask::new(Method::GET, path).with("accept", "text/event-stream");
    let refused = door.send(&ask("/v1/environments/prod/hosts?state=active")).await;
    refused.is_problem(400, "SKP-1001");
    assert!(refused.body["hint"].as_str().unwrap().contains("/v1/events?topics=host:"), "{}", refused.body);
    assert_eq!(door.send(&ask("/v1/environments/none/hosts")).await.status, 404);
    // What cannot be followed is answered as it always is.
    let roles = door.send(&ask("/v1/roles")).await;
    assert_eq!((roles.status.as_u16(), roles.body["items"].is_array()), (200, true));
}

#[tokio::test]
async fn whoever_comes_back_is_told_what_they_missed_in_order_and_once() {
    let door = Door::new().await;
    let since = door.ledger.view().revision();
    door.environment("prod").await;
    door.host("prod", "a").await;
    door.host("prod", "b").await;
    let path = format!("/v1/events?topics=environment,host:*&since={since}");
    let mut events = Events::open(&door, &path, None).await;
    let mut cursor = None;
    for expected in [("Environment", "prod"), ("Host", "a")] {
        let event = events.next().await.unwrap();
        assert_eq!(about(&event.data), expected);
        cursor = event.id;
    }
    // The connection is lost here; `since` is still in its address.
    let mut events = Events::open(&door, &path, cursor).await;
    assert_eq!(about(&events.next().await.unwrap().data), ("Host", "b"));
}

#[tokio::test]
async fn all_objects_of_one_change_come_before_its_cursor() {
    let door = Door::new().await;
    let since = door.ledger.view().revision();
    door.environment("prod").await;
    let mut events = Events::open(&door, &format!("/v1/events?since={since}"), None).await;
    let (first, second) = (events.next().await.unwrap(), events.next().await.unwrap());
    assert_eq!(first.data["revision"], second.data["revision"]);
    assert_eq!((first.id, second.id), (None, second.data["revision"].as_u64()));
    let kinds = [&first.data["kind"], &second.data["kind"]];
    assert!(kinds.contains(&&json!("Environment")) && kinds.contains(&&json!("Operation")), "{kinds:?}");
}

#[tokio::test]
async fn a_change_that_was_overtaken_is_told_as_the_newer_one() {
    let door = Door::new().await;
    door.environment("prod").await;
    let id = door.host("prod", "web-1").await;
    let since = door.ledger.view().revision();
    for _ in 0..3 {
        rule(&*door.ledger, |tx| -> Ruling<bool> {
            let host = tx.get::<skep_model::host::Host>(door.find("prod").id.as_str(), id.as_str())?.unwrap();
            tx.put(&host.record);
            Ok(true)
        })
        .await;
    }
    let mut events = Events::open(&door, &format!("/v1/events?topics=host:*&since={since}"), None).await;
    assert_eq!(events.next().await.unwrap().id, Some(since + 3));
}

#[tokio::test]
async fn what_is_gone_is_told_and_what_follows_too() {
    let door = Door::new().await;
    door.environment("prod").await;
    let since = door.ledger.view().revision();
    let partition = door.find("prod").id.to_string();
    rule(&*door.ledger, |tx| -> Ruling<bool> {
        tx.delete::<Stack>(&partition, "stack_1");
        Ok(true)
    })
    .await;
    let mut events =
        Events::open(&door, &format!("/v1/events?topics=stack:prod/*&since={since}"), None).await;
    let event = events.next().await.unwrap();
    assert_eq!((event.name.as_str(), &event.data["id"]), ("delete", &json!("stack_1")));
    assert!(event.data["object"].is_null());
}

#[tokio::test]
async fn whoever_is_behind_the_history_starts_over() {
    let door = Door::new().await;
    door.environment("prod").await;
    let now = door.ledger.view().revision();
    door.ledger.feed().reset(now);
    let mut events = Events::open(&door, "/v1/events?since=1", None).await;
    let event = events.next().await.unwrap();
    assert_eq!((event.name.as_str(), event.id), ("reset", Some(now)));
    door.environment("dev").await;
    assert!(events.next().await.unwrap().data["revision"].as_u64() > Some(now));
    let waited = door.get("/v1/events?index=1").await.body;
    assert_eq!(waited["reset"], true);
}

#[tokio::test]
async fn a_revision_of_another_epoch_is_no_cursor() {
    let door = Door::new().await;
    let now = door.ledger.view().revision();
    let mut events = Events::open(&door, "/v1/events?since=1000000&epoch=7", None).await;
    let event = events.next().await.unwrap();
    assert_eq!((event.name.as_str(), event.id, &event.data["epoch"]), ("reset", Some(now), &json!(2)));
    let waited = door.get("/v1/events?index=1000000&epoch=7").await.body;
    assert_eq!((&waited["reset"], &waited["revision"]), (&json!(true), &json!(now)));
}

#[tokio::test]
async fn a_request_waits_for_a_change_that_concerns_it() {
    let door = Door::new().await;
    door.environment("prod").await;
    let index = door.ledger.view().revision();
    let path = format!("/v1/events?topics=host:prod/*&index={index}&wait=30s");
    let asked = Ask::new(Method::GET, &path);
    let (waited, _) = tokio::join!(door.send(&asked), async {
        noise(&door).await;
        door.host("prod", "web-1").await
    });
    assert_eq!(waited.status, 200, "{waited:?}");
    assert_eq!(about(&waited.body["events"][0]), ("Host", "web-1"));
    assert_eq!((&waited.body["revision"], &waited.body["reset"]), (&json!(index + 2), &json!(false)));
    // Nothing comes: an empty answer, with a cursor that has moved past what did not matter.
    noise(&door).await;
    let next = door.get(&format!("/v1/events?topics=host:prod/*&index={}&wait=0s", index + 2)).await.body;
    assert_eq!((&next["events"], &next["revision"]), (&json!([]), &json!(index + 3)));
    // Whoever has no index yet gets one.
    assert_eq!(door.get("/v1/events?wait=30s").await.body["revision"], index + 3);
}

#[tokio::test]
async fn an_idle_client_is_moved_forward_and_sent_away_by_a_manager_that_drains() {
    let door = Door::new().await;
    let mut events = Events::open(&door, "/v1/events?topics=stack", None).await;
    events.next().await.unwrap();
    noise(&door).await;
    let event = events.next().await.unwrap();
    assert_eq!((event.name.as_str(), event.id), ("bookmark", Some(door.ledger.view().revision())));
    *door.manager.readiness.lock().unwrap() = Readiness::Draining;
    let event = events.next().await.unwrap();
    assert_eq!((event.name.as_str(), event.id), ("reconnect", Some(door.ledger.view().revision())));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn topics_that_cannot_be_followed_are_named() {
    let door = Door::new().await;
    door.environment("prod").await;
    for (query, status, code, word) in [
        ("topics=hots", 400, "SKP-1001", "hots"),
        ("topics=host:web-1", 400, "SKP-1001", "host:web-1"),
        ("topics=host:", 400, "SKP-1001", "host:"),
        ("topics=,", 400, "SKP-1001", "topics"),
        ("topics=host:nowhere/*", 404, "SKP-1203", "nowhere"),
        ("topics=host:prod/ghost", 404, "SKP-1203", "ghost"),
        ("since=soon", 400, "SKP-1001", "since"),
        ("wait=long", 400, "SKP-1001", "long"),
        ("topic=host", 400, "SKP-1001", "topic"),
    ] {
        let answer = door.get(&format!("/v1/events?{query}")).await;
        answer.is_problem(status, code);
        assert!(answer.detail().contains(word), "{query}: {answer:?}");
    }
    let many = vec!["host"; 65].join(",");
    door.get(&format!("/v1/events?topics={many}")).await.is_problem(400, "SKP-1001");
    door.send(&Ask::new(Method::GET, "/v1/events").without_token()).await.is_problem(401, "SKP-1101");
}
