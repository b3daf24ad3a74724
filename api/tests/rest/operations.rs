//! Operations: lists, and streams that follow one to its end.

use http::Method;
use serde_json::json;
use skep_ledger::Ledger;
use skep_model::ids::OperationId;
use skep_model::operation::{self, Operation};
use skep_model::{CLUSTER, Ruling, environment};

use crate::stream::Events;
use crate::support::{Answer, Ask, Door, post, rule};

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
async fn whoever_prefers_to_wait_is_answered_with_the_end_if_it_comes_in_time() {
    let door = Door::new().await;
    let wish = |name: &str| post("/v1/environments", json!({"name": name, "template": "default"}));
    let answer = door.send(&wish("slow").with("prefer", "wait=0")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["state"]), (202, &json!("running")), "{answer:?}");
    assert!(!answer.headers.contains_key("preference-applied"));

    let waiting = wish("prod").with("prefer", "respond-async, wait=60");
    let ending = async {
        let mut changes = door.ledger.feed().watch(door.ledger.view().revision());
        loop {
            let all = door.ledger.view().list::<Operation>(CLUSTER).unwrap();
            if let Some(begun) = all.iter().find(|operation| operation.subject.name == "prod") {
                return moved(&door, begun.id.as_str(), |operation, now| operation.abandon("no quota", now))
                    .await;
            }
            changes.next().await;
        }
    };
    let (answer, ()) = tokio::join!(door.send(&waiting), ending);
    assert_eq!((answer.status.as_u16(), &answer.body["state"]), (200, &json!("failed")), "{answer:?}");
    assert_eq!(answer.header("preference-applied"), "wait=60");
    door.send(&wish("more").with("prefer", "wait=soon")).await.is_problem(400, "SKP-1001");
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

/// Lets an operation make something that can be given back, and something that cannot.
async fn made(door: &Door, id: &str) {
    let planned = |name: &str, undo: Option<&str>| operation::Planned {
        undo: undo.map(str::to_owned),
        keeps: format!("the {name} stays"),
        ..operation::Planned::from(name)
    };
    let machine = || planned("machine", Some("the machine is given back to its driver"));
    moved(door, id, |operation, now| {
        operation.prepare([machine(), planned("swarm", None), planned("open", None)].into_iter());
        for _ in 0..2 {
            operation.begin("doing it", "m1", now);
            operation.advance(now);
        }
    })
    .await;
}

fn ask(id: &str, action: &str) -> Ask {
    Ask::new(Method::POST, &format!("/v1/operations/{id}/actions/{action}"))
}

#[tokio::test]
async fn a_cancellation_is_rehearsed_in_words_then_turns_the_operation_around_once() {
    let door = Door::new().await;
    let id = id_of(&door.environment("prod").await);
    made(&door, &id).await;
    let plan = door.send(&ask(&id, "cancel?dry_run=true")).await;
    assert_eq!(plan.status, 200, "{plan:?}");
    let machine = json!({"step": "machine", "what": "the machine is given back to its driver"});
    assert_eq!(plan.body["gives_back"], json!([machine]));
    assert_eq!(plan.body["stays"], json!([{"step": "swarm", "what": "the swarm stays"}]));
    assert_eq!(plan.body["operation"]["state"], "cancelling");
    let before = door.get(&format!("/v1/operations/{id}")).await.body;
    assert_eq!(
        (&before["state"], &before["cancellable"]),
        (&json!("running"), &json!(true)),
        "only rehearsed"
    );

    let accepted = door.send(&ask(&id, "cancel")).await;
    assert_eq!(
        (accepted.status.as_u16(), accepted.header("location")),
        (202, &*format!("/v1/operations/{id}"))
    );
    let shown = door.get(&format!("/v1/operations/{id}")).await.body;
    assert_eq!((&shown["state"], &shown["cancelled"]["by"]), (&json!("cancelling"), &json!("admin")));
    assert_eq!(door.get("/v1/operations?state=cancelling").await.body["items"][0]["id"], id);
    let again = door.send(&ask(&id, "cancel")).await;
    again.is_problem(409, "SKP-1308");
    assert!(again.detail().contains("gives back already what it made"), "{again:?}");
    moved(&door, &id, |operation, now| {
        operation.keep(now);
        operation.keep(now);
        operation.advance(now);
    })
    .await;
    let ended = door.get(&format!("/v1/operations/{id}")).await.body;
    let states: Vec<_> = ended["steps"].as_array().unwrap().iter().map(|step| &step["state"]).collect();
    assert_eq!(states, ["undone", "kept", "failed"]);
    assert_eq!(ended["state"], "cancelled");
    door.send(&ask(&id, "pause")).await.is_problem(409, "SKP-1308");
    door.send(&ask("op_1", "cancel")).await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn a_paused_operation_says_who_and_since_when_until_it_is_resumed() {
    let door = Door::new().await;
    let id = id_of(&door.environment("prod").await);
    let paused = door.send(&ask(&id, "pause")).await.body;
    assert_eq!((&paused["state"], &paused["paused"]["by"]), (&json!("paused"), &json!("admin")));
    assert!(paused["paused"]["at"].is_string() && paused["deadline"].is_string(), "{paused}");
    door.send(&ask(&id, "retry")).await.is_problem(409, "SKP-1308");
    let resumed = door.send(&ask(&id, "resume")).await.body;
    assert_eq!((&resumed["state"], &resumed["paused"]), (&json!("running"), &json!(null)));
    door.send(&ask(&id, "resume")).await.is_problem(409, "SKP-1308");
}

#[tokio::test]
async fn a_waiting_operation_is_tried_at_once_and_a_failed_one_as_another() {
    let door = Door::new().await;
    let id = id_of(&door.environment("prod").await);
    moved(&door, &id, |operation, now| {
        operation.prepare(["only"].into_iter());
        operation.begin("doing it", "m1", now);
        operation.failed("no answer", now + jiff::SignedDuration::from_secs(15));
    })
    .await;
    let waiting = door.get(&format!("/v1/operations/{id}")).await.body;
    assert!(waiting["steps"][0]["retry_at"].is_string(), "{waiting}");
    let tried = door.send(&ask(&id, "retry")).await.body;
    assert_eq!((&tried["id"], &tried["steps"][0]["retry_at"]), (&json!(id), &json!(null)));
    moved(&door, &id, |operation, now| operation.abandon("no quota", now)).await;
    let again = door.send(&ask(&id, "retry")).await;
    assert_eq!(again.status, 202, "{again:?}");
    assert_ne!(again.body["id"], json!(id));
    assert_eq!((&again.body["retry_of"], &again.body["type"]), (&json!(id), &json!("create-environment")));
    let busy = door.send(&ask(&id, "retry")).await;
    busy.is_problem(409, "SKP-1307");
    assert_eq!(busy.body["params"]["operation"], again.body["id"]);
}

#[tokio::test]
async fn the_log_is_listed_and_streamed_and_whoever_comes_back_gets_the_rest() {
    let door = Door::new().await;
    let id = id_of(&door.environment("prod").await);
    let mut events = Events::open(&door, &format!("/v1/operations/{id}?logs=true"), None).await;
    let first = events.next().await.unwrap();
    assert_eq!((first.name.as_str(), &first.data["number"]), ("line", &json!(0)));
    let seen = events.next().await.unwrap();
    assert_eq!(seen.name, "put", "the change comes after its lines");
    moved(&door, &id, |operation, now| {
        operation.prepare(["only"].into_iter());
        operation.begin("making it", "m2", now);
    })
    .await;
    let began = events.next().await.unwrap();
    assert_eq!(
        (&began.data["text"], &began.data["step"], &began.data["node"]),
        (&json!("attempt 1 began: making it"), &json!("only"), &json!("m2"))
    );
    moved(&door, &id, |operation, now| operation.advance(now)).await;
    let list = door.get(&format!("/v1/operations/{id}/logs")).await.body;
    let texts: Vec<_> = list["items"].as_array().unwrap().iter().map(|line| &line["text"]).collect();
    assert_eq!(
        texts,
        [
            "asked for: create-environment of environment/prod",
            "attempt 1 began: making it",
            "done",
            "succeeded"
        ]
    );
    let mut events = Events::open(&door, &format!("/v1/operations/{id}/logs"), seen.id).await;
    let mut rest = vec![];
    while let Some(event) = events.next().await {
        rest.push(format!("{} {}", event.name, event.data["number"]));
    }
    assert_eq!(rest, ["line 1", "line 2", "line 3", "put null"]);
    door.get("/v1/operations/op_1/logs").await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn the_queue_behind_one_thing_is_bounded() {
    let door = Door::new().await;
    let first = id_of(&door.environment("prod").await);
    let environment = door.find("prod");
    for _ in 0..operation::QUEUED_PER_SUBJECT_MAX {
        rule(&*door.ledger, |tx| {
            let subject = environment::subject(&environment);
            let id = OperationId::new(uuid::Uuid::now_v7());
            operation::start(tx, id, "create-environment", subject, Some(&environment), None).map(|_| true)
        })
        .await;
    }
    // A removal is let in beyond the bound.
    let removal = door.send(&Ask::new(Method::DELETE, "/v1/environments/prod")).await;
    assert_eq!((removal.status.as_u16(), &removal.body["state"]), (202, &json!("queued")), "{removal:?}");
    let cancelled = door.send(&ask(removal.body["id"].as_str().unwrap(), "cancel")).await;
    assert_eq!(cancelled.body["state"], "cancelled", "one that has not begun is simply over");
    assert!(door.find("prod").removal.is_none(), "and what it would have removed stays");
    assert_eq!(door.get(&format!("/v1/operations/{first}")).await.body["state"], "running");
}
