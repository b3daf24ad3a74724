//! What people have typed so far, and what they type here: Rancher 1.6, rancher-compose, docker-machine, MiCADO, and steps
//! with curl, docker or a console.
//!
//! Each of these is in one of two tables: with the line that does the same here and the requests that it sends, or left out,
//! with a word that says why. What comes later moves from the second table to the first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;
mod seeds {
    pub(crate) mod left_out;
    pub(crate) mod lines;
    pub(crate) mod list;
}

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use seeds::left_out::LEFT_OUT;
use seeds::lines::{LINES, Line};
use seeds::list::SEEDS;
use serde_json::{Value, json};
use support::{Manager, Reply, Seen, operation, put, skep_in};

/// Files that the lines name with `FOLDER/`.
const FILES: &[(&str, &str)] = &[
    ("docker-compose.yml", "services: {web: {image: nginx}}\n"),
    ("swarmNFS.yaml", "name: swarmNFS\n"),
    ("settings.env", "export MTU=1400\n"),
    (".skep.toml", "stack = \"testApp\"\n"),
    ("token", "skp_a_b\n"),
    ("password", "correct horse battery\n"),
];

/// One answer for everything: a thing of any kind, a list without items (of hosts: with one), an operation that has succeeded.
fn answer(seen: &Seen) -> Reply {
    if seen.wants_events && seen.target.starts_with("/v1/events") {
        let event = json!({"kind": "Host", "verb": "put", "name": "web-1", "object": {"seal": null}});
        return Reply::Events(vec![format!("id: 6\nevent: put\ndata: {event}\n\n")]);
    }
    let mut answer = operation("op_1", "host/web-1", "succeeded", "done", 8);
    if seen.wants_events {
        return Reply::Events(vec![put(&answer)]);
    }
    if seen.target.contains("/exec") || seen.target.contains("/logs") {
        // Frames are not played here: the request is what counts.
        return Reply::Json(404, support::problem(404, None));
    }
    let is_of_hosts = seen.target.starts_with("/v1/environments/prod/hosts?");
    let items = if is_of_hosts { json!([{"metadata": {"name": "web-1"}}]) } else { json!([]) };
    let more = json!({
        "metadata": {"name": "web-1", "id": "host_1"},
        "spec": {"document": "name: swarmNFS\n"},
        "status": {"state": "active"},
        "items": items,
        "setup": false,
        "principal": "ann",
        "token": "skp_a_b",
        "join": {"pinned_key": "sha256//AA==", "script_url": "https://10.0.0.11:8443/join/skh_c1.t1.0.0"},
    });
    for (name, value) in more.as_object().unwrap() {
        answer[name] = value.clone();
    }
    Reply::Json(if seen.method == "GET" { 200 } else { 202 }, answer)
}

/// A folder as somebody has it who has signed in and works on an application.
fn folder(url: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        fs::write(folder.path().join(name), text).unwrap();
    }
    fs::create_dir(folder.path().join("config")).unwrap();
    let context = format!("current = \"prod\"\n[contexts.prod]\nurl = \"{url}\"\nenv = \"prod\"\n");
    fs::write(folder.path().join("config/config.toml"), context).unwrap();
    folder
}

async fn run(words: &str, url: &str, folder: &Path) -> support::Outcome {
    let words = words.replace("FOLDER", &folder.display().to_string()).replace("URL", url);
    let config = folder.join("config").display().to_string();
    let variables = [("SKEP_CONFIG_HOME", config.as_str()), ("SKEP_PROGRESS", "none")];
    skep_in(folder, &variables, &words).await
}

/// What is wrong with a line, if something is.
async fn wrong(line: &Line) -> Option<String> {
    let Line { seed, skep, requests, body } = line;
    let manager = Manager::start(|_, seen| answer(seen)).await;
    let folder = folder(&manager.url());
    let outcome = run(skep, &manager.url(), folder.path()).await;
    let sent = manager.requests();
    // That the operation is followed goes without saying.
    let sent: Vec<&String> = sent.iter().filter(|request| *request != "GET /v1/operations/op_1").collect();
    if sent != *requests {
        return Some(format!("{seed}\n  skep {skep}\n  sends {sent:?}\n  not   {requests:?}\n  {outcome:?}"));
    }
    let frames = requests.iter().any(|request| request.contains("/exec") || request.contains("/logs"));
    if !frames && outcome.code != 0 {
        return Some(format!("{seed}\n  skep {skep}\n  ends with {outcome:?}"));
    }
    let wanted: Value = serde_json::from_str(body.as_ref()?).unwrap();
    let there = manager.seen().into_iter().find(|seen| seen.method != "GET").unwrap();
    let there: Value = serde_json::from_slice(&there.body).unwrap();
    (there != wanted).then(|| format!("{seed}\n  skep {skep}\n  says {there}\n  not  {wanted}"))
}

#[tokio::test]
async fn what_is_typed_here_instead_asks_for_the_same() {
    let mut all = Vec::new();
    for line in LINES {
        all.extend(wrong(line).await);
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// The played API answers anything; the real one has these routes.
#[test]
fn what_is_asked_for_is_in_the_document_of_the_api() {
    let crate_folder = std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests");
    let page = Path::new(&crate_folder).join("../docs/reference/openapi.json");
    let document: Value = serde_json::from_str(&fs::read_to_string(page).unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let is = |place: &str, asked: &str| {
        let (place, asked): (Vec<_>, Vec<_>) = (place.split('/').collect(), asked.split('/').collect());
        let same = |(one, other): (&&str, &&str)| one.starts_with('{') || one == other;
        place.len() == asked.len() && place.iter().zip(&asked).all(same)
    };
    for request in LINES.iter().flat_map(|line| line.requests) {
        let (method, target) = request.split_once(' ').unwrap();
        let asked = target.split('?').next().unwrap();
        let method = method.to_lowercase();
        let known = paths.iter().any(|(place, methods)| is(place, asked) && !methods[&method].is_null());
        assert!(known, "the API has no {request}");
    }
}

#[test]
fn each_seed_command_is_in_one_table() {
    let done: BTreeSet<&str> = LINES.iter().map(|line| line.seed).collect();
    let left_out: BTreeSet<&str> = LEFT_OUT.iter().map(|(seed, _)| *seed).collect();
    assert_eq!(left_out.len(), LEFT_OUT.len(), "one is left out twice");
    for seed in SEEDS {
        assert!(done.contains(seed) != left_out.contains(seed), "'{seed}' is in both tables, or in none");
    }
    let listed: BTreeSet<&str> = SEEDS.iter().copied().collect();
    assert_eq!(listed.len(), SEEDS.len(), "one is listed twice");
    for seed in done.union(&left_out) {
        assert!(listed.contains(seed), "'{seed}' is not in the list");
    }
}
