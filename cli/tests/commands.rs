//! Commands from the line that is typed to what is printed, over a played API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use support::{Manager, Reply, operation, problem, put, skep};

/// Accepts every change and streams the given documents for it.
async fn accepting(documents: Vec<Value>) -> Manager {
    Manager::start(move |_, seen| match seen.wants_events {
        true => Reply::Events(documents.iter().map(put).collect()),
        false => Reply::Json(202, operation("op_1", "host/web-1", "queued", "pending", 5)),
    })
    .await
}

fn failed() -> Value {
    let mut failed = operation("op_1", "host/web-1", "failed", "failed", 8);
    failed["error"] = json!({"code": "SKP-2001", "title": "No room", "detail": "No room left."});
    failed
}

#[tokio::test]
async fn a_change_is_followed_to_its_success() {
    let manager = accepting(vec![
        operation("op_1", "host/web-1", "running", "running", 6),
        operation("op_1", "host/web-1", "running", "running", 7),
        operation("op_1", "host/web-1", "succeeded", "done", 8),
    ])
    .await;
    let outcome = skep(&[manager.url()], "host create web-1 --driver local --option size=m").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "host/web-1 created\n"), "{outcome:?}");
    let words: Vec<&str> = outcome.err.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(
        words,
        [
            "op_1 create-host host/web-1 queued",
            "op_1 create-host host/web-1 running",
            "op_1 host/web-1 machine running (m1)",
            "op_1 host/web-1 machine done (m1)",
            "op_1 create-host host/web-1 succeeded",
        ]
    );
    assert_eq!(manager.requests(), ["POST /v1/environments/prod/hosts", "GET /v1/operations/op_1"]);
    let body: Value = serde_json::from_slice(&manager.seen()[0].body).unwrap();
    assert_eq!(body, json!({"name": "web-1", "driver": "local", "options": {"size": "m"}}));
}

#[tokio::test]
async fn hosts_that_are_counted_get_the_names_that_are_free() {
    let manager = Manager::start(|_, seen| match seen.method.as_str() {
        "GET" => {
            Reply::Json(200, json!({"items": [{"metadata": {"name": "web2"}}, {"metadata": {"name": "db"}}]}))
        }
        _ => Reply::Json(202, operation("op_1", "host/web", "queued", "pending", 5)),
    })
    .await;
    let line = "host create --count 3 --name-prefix web --driver local --label rack=b --label zone=eu-1 -d";
    let outcome = skep(&[manager.url()], line).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let seen = manager.seen();
    let bodies: Vec<Value> =
        seen.iter().skip(1).map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    let wish = |name: &str| json!({"name": name, "driver": "local", "options": {}, "labels": {"rack": "b", "zone": "eu-1"}});
    assert_eq!(bodies, [wish("web1"), wish("web3"), wish("web4")]);

    let again = "host create --count 3 --name-prefix web --driver local \
                 --idempotency-key 0198f2c1-0000-7000-8000-000000000001";
    let outcome = skep(&[manager.url()], again).await;
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert_eq!(manager.seen().len(), seen.len(), "nothing was sent");
}

#[tokio::test]
async fn a_filter_that_fails_is_no_wrong_usage_once_something_was_sent() {
    let manager = Manager::start(|_, _| Reply::Json(201, json!({"metadata": {"name": "dev"}}))).await;
    for line in ["group create dev --jq .metadata.name.x", "group inspect dev --jq .metadata.name[]"] {
        let outcome = skep(&[manager.url()], line).await;
        assert_eq!((outcome.code, outcome.out.as_str()), (1, ""), "{line}: {outcome:?}");
        assert!(outcome.err.contains("only printing has failed"), "{}", outcome.err);
    }
    let sent = manager.seen().len();
    assert_eq!(skep(&[manager.url()], "group create dev --jq .[").await.code, 2);
    assert_eq!(manager.seen().len(), sent, "nothing was sent");
}

#[tokio::test]
async fn a_failed_operation_is_exit_code_7() {
    let manager = accepting(vec![failed()]).await;
    let outcome = skep(&[manager.url()], "host create web-1 --driver local --progress none").await;
    assert_eq!(outcome.code, 7);
    assert!(
        outcome.err.starts_with("error[SKP-2001]: create-host host/web-1 failed: No room left.\n"),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("operation op_1"), "{}", outcome.err);
    assert_eq!(outcome.out, "");

    let outcome = skep(&[manager.url()], "host create web-1 --driver local -o json --progress none").await;
    assert_eq!(serde_json::from_str::<Value>(&outcome.out).unwrap()["state"], "failed");
    assert_eq!(serde_json::from_str::<Value>(&outcome.err).unwrap()["code"], "SKP-2001");
}

#[tokio::test]
async fn progress_for_programs_is_one_object_per_line() {
    let manager = accepting(vec![operation("op_1", "host/web-1", "succeeded", "done", 8)]).await;
    let outcome = skep(&[manager.url()], "host create web-1 --driver local --progress json").await;
    let states: Vec<Value> = outcome
        .err
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["state"].clone())
        .collect();
    assert_eq!(states, ["queued", "done", "succeeded"]);
}

#[tokio::test]
async fn a_stream_that_breaks_off_goes_on_at_another_manager_without_loss_or_repetition() {
    let first = Manager::start(|_, seen| match seen.wants_events {
        true => Reply::Events(vec![put(&operation("op_1", "host/web-1", "running", "running", 6))]),
        false => Reply::Json(202, operation("op_1", "host/web-1", "queued", "pending", 5)),
    })
    .await;
    let second = Manager::start(|_, _| {
        Reply::Events(vec![
            put(&operation("op_1", "host/web-1", "running", "running", 6)),
            put(&operation("op_1", "host/web-1", "succeeded", "done", 8)),
        ])
    })
    .await;
    let outcome = skep(&[first.url(), second.url()], "host create web-1 --driver local").await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(second.seen()[0].last_event.as_deref(), Some("6"));
    assert_eq!(
        outcome.err.lines().count(),
        5,
        "each change once, no word about a short break: {}",
        outcome.err
    );
}

#[tokio::test]
async fn waiting_too_long_names_the_operation_and_how_to_go_on() {
    let manager = Manager::start(|_, seen| match seen.wants_events {
        true => Reply::EndlessEvents(vec![put(&operation("op_1", "host/web-1", "running", "running", 6))]),
        false => Reply::Json(202, operation("op_1", "host/web-1", "queued", "pending", 5)),
    })
    .await;
    let outcome = skep(&[manager.url()], "host create web-1 --driver local --timeout 1s").await;
    assert_eq!(outcome.code, 6);
    assert!(outcome.err.contains("skep op watch op_1"), "{}", outcome.err);
    assert!(outcome.err.contains("the operation continues"), "{}", outcome.err);
}

#[tokio::test]
async fn an_interrupt_stops_the_waiting_only() {
    let (stop, stopped) = tokio::sync::mpsc::unbounded_channel::<()>();
    let manager = Manager::start(move |_, seen| match seen.wants_events {
        true => {
            let _ = stop.send(());
            Reply::EndlessEvents(vec![put(&operation("op_1", "host/web-1", "running", "running", 6))])
        }
        false => Reply::Json(202, operation("op_1", "host/web-1", "queued", "pending", 5)),
    })
    .await;
    let interrupt = async move {
        let mut stopped = stopped;
        stopped.recv().await;
    };
    let url = manager.url();
    let variables = [("SKEP_URL", url.as_str()), ("SKEP_ENV", "prod")];
    let outcome = support::skep_until(&variables, "host create web-1 --driver local", interrupt).await;
    assert_eq!(outcome.code, 130, "{outcome:?}");
    assert!(outcome.err.ends_with("Still running: op_1. Resume: skep op watch op_1\n"), "{}", outcome.err);
}

#[tokio::test]
async fn detached_prints_the_id_and_does_not_follow() {
    let manager = accepting(vec![]).await;
    let outcome = skep(&[manager.url()], "-d host create web-1 --driver local").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "op_1\n"));
    assert_eq!(manager.requests().len(), 1);
}

#[tokio::test]
async fn children_are_shown_below_their_parent() {
    let shown = AtomicBool::new(false);
    let manager = Manager::start(move |_, seen| {
        let mut parent = operation("op_1", "env/prod", "running", "running", 6);
        parent["children"] = json!(["op_2"]);
        let mut child = operation("op_2", "host/a", "succeeded", "done", 7);
        child["parent"] = json!("op_1");
        match (seen.wants_events, seen.target.ends_with("op_2")) {
            (true, true) => {
                shown.store(true, Ordering::SeqCst);
                Reply::Events(vec![put(&child)])
            }
            // The parent's end comes only after the child was asked for; until then its stream breaks off.
            (true, false) if shown.load(Ordering::SeqCst) => {
                parent["state"] = json!("succeeded");
                parent["revision"] = json!(9);
                Reply::Events(vec![put(&parent)])
            }
            (true, false) => Reply::Events(vec![put(&parent)]),
            (false, _) => Reply::Json(202, parent),
        }
    })
    .await;
    let outcome = skep(&[manager.url()], "env create prod -t swarm --hosts 1 --driver local").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "env/prod created\n"), "{outcome:?}");
    let body: Value = serde_json::from_slice(&manager.seen()[0].body).unwrap();
    assert_eq!(
        body,
        json!({"name": "prod", "template": "swarm", "hosts": {"count": 1, "driver": "local", "options": {}}})
    );
}

#[tokio::test]
async fn several_hosts_that_fail_in_part_are_listed() {
    let manager = Manager::start(|_, seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        match seen.wants_events {
            true => Reply::Events(vec![put(&operation("op_1", "host/a", "succeeded", "done", 8))]),
            false if body.contains("\"b\"") => Reply::Json(409, problem(409, None)),
            false => Reply::Json(202, operation("op_1", "host/a", "queued", "pending", 5)),
        }
    })
    .await;
    let outcome = skep(&[manager.url()], "host create a b --driver local --progress none").await;
    assert_eq!(outcome.code, 11, "{outcome:?}");
    assert_eq!(
        outcome.out,
        "NAME     RESULT    OPERATION   MESSAGE\n\
         host/a   created   op_1\n\
         host/b   failed    -           Refused with 409.\n"
    );
    assert!(outcome.err.contains("error: 1 of 2 failed"), "{}", outcome.err);
    let keys: Vec<Option<String>> =
        manager.seen().iter().filter(|seen| seen.method == "POST").map(|seen| seen.key.clone()).collect();
    assert!(keys.len() == 2 && keys[0] != keys[1], "each write has a key of its own: {keys:?}");
}

#[tokio::test]
async fn what_is_destroyed_must_be_confirmed() {
    let manager = accepting(vec![operation("op_1", "host/web-1", "succeeded", "done", 8)]).await;
    let outcome = skep(&[manager.url()], "host rm web-1").await;
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("--yes"), "{}", outcome.err);
    assert_eq!(manager.requests(), Vec::<String>::new());
    let outcome = skep(&[manager.url()], "host rm host/web-1 --yes").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "host/web-1 removed\n"), "{outcome:?}");
    assert_eq!(manager.requests()[0], "DELETE /v1/environments/prod/hosts/web-1");
}

#[tokio::test]
async fn all_hosts_are_removed_only_by_the_name_of_their_environment() {
    let manager = Manager::start(|_, seen| match seen.method.as_str() {
        "GET" if seen.target.starts_with("/v1/environments/prod/hosts") => {
            let host = |name: &str| json!({"kind": "Host", "metadata": {"name": name}});
            Reply::Json(200, json!({"items": [host("web-1"), host("web-2")], "revision": 5}))
        }
        "GET" => Reply::Json(200, operation("op_1", "host/web-1", "succeeded", "done", 8)),
        _ => Reply::Json(202, operation("op_1", "host/web-1", "succeeded", "done", 8)),
    })
    .await;
    for (line, code) in [
        ("host rm --all", 2),
        ("host rm --all --yes", 2),
        ("host rm --all --confirm test", 2),
        ("host rm --all --confirm prod --idempotency-key 0199a1f0-0000-7000-8000-000000000001", 2),
        ("host rm --all --confirm prod", 0),
    ] {
        let outcome = skep(&[manager.url()], line).await;
        assert_eq!(outcome.code, code, "{line}: {outcome:?}");
        let requests = manager.requests();
        let deleted: Vec<_> = requests.iter().filter(|request| request.starts_with("DELETE")).collect();
        let wanted = ["DELETE /v1/environments/prod/hosts/web-1", "DELETE /v1/environments/prod/hosts/web-2"];
        assert_eq!(deleted, if code == 0 { &wanted[..] } else { &[] }, "{line}");
    }
}

#[tokio::test]
async fn an_environment_is_destroyed_only_by_name() {
    let manager = Manager::start(|_, seen| match (seen.method.as_str(), seen.target.as_str()) {
        ("GET", "/v1/environments/prod") => Reply::Json(200, json!({"status": {"hosts": {"total": 3}}})),
        ("GET", _) => Reply::Json(200, json!({"items": [{}, {}], "revision": 5})),
        _ => Reply::Json(202, operation("op_1", "env/prod", "succeeded", "done", 8)),
    })
    .await;
    for (line, code) in [
        ("env rm prod", 2),
        ("env rm prod --yes", 2),
        ("env rm prod --confirm test", 2),
        ("env rm prod --confirm prod", 0),
    ] {
        let outcome = skep(&[manager.url()], line).await;
        assert_eq!(outcome.code, code, "{line}: {outcome:?}");
        let deleted = manager.requests().iter().any(|request| request.starts_with("DELETE"));
        assert_eq!(deleted, code == 0, "{line}");
        if line == "env rm prod --yes" {
            assert!(outcome.err.contains("3 hosts and 2 stacks"), "{}", outcome.err);
            assert!(outcome.err.contains("--confirm prod"), "{}", outcome.err);
        }
    }
}

#[tokio::test]
async fn lists_can_be_tables_names_or_the_answer_itself() {
    let answer = json!({"items": [{"kind": "Template", "metadata": {"name": "swarm", "id": "t1",
                        "created_at": "2026-11-20T10:00:00Z", "unknown_field": [1]},
                        "spec": {"description": "Three managers", "swarm_managers": 3, "mtu": 1450, "public": true}}],
                        "revision": 12});
    let copy = answer.clone();
    let manager = Manager::start(move |_, _| Reply::Json(200, copy.clone())).await;
    let table = skep(&[manager.url()], "templates").await;
    assert_eq!(
        table.out,
        "NAME    MANAGERS   MTU    PUBLIC   AGE                    DESCRIPTION\n\
         swarm   3          1450   yes      2026-11-20T10:00:00Z   Three managers\n"
    );
    assert_eq!(skep(&[manager.url()], "template ls -o name").await.out, "template/swarm\n");
    assert_eq!(skep(&[manager.url()], "template ls -q").await.out, "swarm\n");
    let printed = skep(&[manager.url()], "template ls -o json").await.out;
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), answer);
}

#[tokio::test]
async fn a_recipe_is_sent_with_its_variables() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let recipe = file("compose.yml", "services: {web: {image: \"web:${TAG}\"}}\n");
    let variables = file("prod.env", "TAG=1\nMODE=full\n");
    let manager =
        Manager::start(|_, _| Reply::Json(202, operation("op_1", "stack/shop", "succeeded", "done", 8)))
            .await;
    let line = format!("up -f {recipe} --stack shop --env-file {variables} --set TAG=2");
    let outcome = skep(&[manager.url()], &line).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "stack/shop deployed\n"), "{outcome:?}");
    assert_eq!(manager.requests(), ["PUT /v1/environments/prod/stacks/shop"]);
    let body: Value = serde_json::from_slice(&manager.seen()[0].body).unwrap();
    assert_eq!(body["variables"], json!({"TAG": "2", "MODE": "full"}));
    assert!(body["recipe"].as_str().unwrap().starts_with("services:"));

    let outcome = skep(&[manager.url()], "up -f /nowhere/compose.yml --stack shop").await;
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("/nowhere/compose.yml"), "{}", outcome.err);
}

#[tokio::test]
async fn an_image_is_streamed_and_each_host_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.tar");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    std::fs::write(&path, &bytes).unwrap();
    let manager = Manager::start(|_, seen| match seen.method.as_str() {
        "GET" => Reply::Json(200, json!({})),
        _ => Reply::Json(
            200,
            json!({"items": [{"host": "a", "image": "web:1", "ok": true, "message": ""},
                             {"host": "b", "image": null, "ok": false, "message": "no space left"}]}),
        ),
    })
    .await;
    let outcome = skep(&[manager.url()], &format!("image load {} --import web:1", path.display())).await;
    assert_eq!(outcome.code, 11, "{outcome:?}");
    assert_eq!(
        outcome.out,
        "HOST   IMAGE   OK    MESSAGE\n\
         a      web:1   yes\n\
         b      -       no    no space left\n"
    );
    let upload = &manager.seen()[1];
    assert_eq!(upload.target, "/v1/environments/prod/images?import=web%3A1");
    assert!(upload.body == bytes, "all bytes arrived");
}

#[tokio::test]
async fn an_operation_can_be_watched_later() {
    let done = operation("op_1", "host/a", "succeeded", "done", 8);
    let manager = Manager::start(move |_, seen| match seen.wants_events {
        true => Reply::Events(vec![put(&done)]),
        false => Reply::Json(200, operation("op_1", "host/a", "running", "running", 6)),
    })
    .await;
    let outcome = skep(&[manager.url()], "op watch op/op_1").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "op_1 host/a succeeded\n"), "{outcome:?}");
    let manager = Manager::start(|_, _| Reply::Json(200, failed())).await;
    assert_eq!(skep(&[manager.url()], "op watch op_1").await.code, 7);
}

#[tokio::test]
async fn the_topic_of_exit_codes_needs_no_server() {
    let outcome = support::skep_with(&[], "help exit-codes").await;
    assert_eq!(outcome.code, 0);
    assert!(outcome.out.contains("    9  outcome unknown"), "{}", outcome.out);
    assert_eq!(support::skep_with(&[], "help nothing").await.code, 2);
}

/// What a dry run of a cancellation answers.
fn cancellation() -> Value {
    json!({
        "operation": operation("op_1", "host/web-1", "cancelling", "failed", 6),
        "gives_back": [{"step": "machine", "what": "the machine is given back to its driver"}],
        "stays": [{"step": "swarm", "what": "hosts that have joined stay in the swarm"}],
    })
}

#[tokio::test]
async fn a_cancellation_shows_what_is_given_back_before_it_begins() {
    let manager = Manager::start(|_, seen| match (seen.wants_events, seen.target.contains("dry_run=true")) {
        (true, _) => Reply::Events(vec![put(&operation("op_1", "host/web-1", "cancelled", "undone", 8))]),
        (_, true) => Reply::Json(200, cancellation()),
        _ => Reply::Json(202, operation("op_1", "host/web-1", "cancelling", "failed", 6)),
    })
    .await;
    let shown = skep(&[manager.url()], "op cancel op_1 --dry-run").await;
    assert_eq!(shown.code, 0, "{shown:?}");
    for line in [
        "Given back:\n    machine: the machine is given back",
        "Kept:\n    swarm: hosts that have joined stay",
    ] {
        assert!(shown.out.contains(line), "{}", shown.out);
    }
    assert_eq!(manager.requests(), ["POST /v1/operations/op_1/actions/cancel?dry_run=true"]);
    // Without a terminal nobody can be asked, so --yes must be there.
    let unasked = skep(&[manager.url()], "op cancel op_1").await;
    assert_eq!((unasked.code, manager.requests().len()), (2, 2), "{unasked:?}");
    assert!(unasked.err.contains("machine: the machine is given back"), "{}", unasked.err);
    let done = skep(&[manager.url()], "op cancel op/op_1 --yes").await;
    assert_eq!((done.code, done.out.as_str()), (0, "op/op_1 cancelled\n"), "{done:?}");
}

#[tokio::test]
async fn a_failed_operation_is_tried_again_as_another_which_is_followed() {
    let manager = Manager::start(|_, seen| match seen.wants_events {
        true => Reply::Events(vec![put(&operation("op_2", "host/web-1", "succeeded", "done", 9))]),
        false => Reply::Json(202, operation("op_2", "host/web-1", "running", "pending", 8)),
    })
    .await;
    let outcome = skep(&[manager.url()], "op retry op_1").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "op_2 host/web-1 succeeded\n"), "{outcome:?}");
    assert!(outcome.err.contains("op/op_1 is tried again as op_2"), "{}", outcome.err);
    let outcome = skep(&[manager.url()], "op retry op_2").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "op/op_2 is tried at once\n"), "{outcome:?}");
}

#[tokio::test]
async fn an_operation_is_paused_and_resumed() {
    let manager =
        Manager::start(|_, _| Reply::Json(202, operation("op_1", "host/a", "paused", "running", 7))).await;
    assert_eq!(skep(&[manager.url()], "op pause op_1").await.out, "op/op_1 paused\n");
    assert_eq!(skep(&[manager.url()], "op resume op_1").await.out, "op/op_1 resumed\n");
    let asked = ["POST /v1/operations/op_1/actions/pause", "POST /v1/operations/op_1/actions/resume"];
    assert_eq!(manager.requests(), asked);
}

#[tokio::test]
async fn the_log_of_an_operation_is_followed_over_streams_that_break_off() {
    let line = |number: u64, text: &str| {
        let line =
            json!({"number": number, "at": "2026-11-20T10:00:01Z", "step": null, "node": null, "text": text});
        format!("event: line\ndata: {line}\n\n")
    };
    let running = put(&operation("op_1", "host/a", "running", "running", 6));
    let ended = put(&operation("op_1", "host/a", "succeeded", "done", 8));
    let manager = Manager::start(move |number, seen| match (seen.wants_events, number) {
        (false, _) => Reply::Json(
            200,
            json!({"revision": 7, "items": [
            {"number": 0, "at": "2026-11-20T10:00:01Z", "step": "machine", "node": "m1", "text": "undone"}]}),
        ),
        (true, 0) => Reply::Events(vec![line(0, "asked for"), running.clone(), line(1, "began")]),
        (true, _) => Reply::Events(vec![line(1, "began"), line(2, "done"), ended.clone()]),
    })
    .await;
    let followed = skep(&[manager.url()], "op logs op_1 --follow").await;
    let at = "2026-11-20T10:00:01.000Z";
    assert_eq!(followed.out, format!("{at} asked for\n{at} began\n{at} done\n"), "{followed:?}");
    assert_eq!(manager.seen()[1].last_event.as_deref(), Some("6"), "it goes on after what it has seen");
    let listed = skep(&[manager.url()], "op logs op_1").await;
    assert_eq!((listed.code, listed.out.as_str()), (0, "2026-11-20T10:00:01.000Z m1 machine: undone\n"));
}
