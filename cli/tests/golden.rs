//! What people and scripts get to see, to the letter: a file in `tests/golden` for each case.
//!
//! `SKEP_UPDATE_DOCS=1 cargo test -p skep-cli --test golden` writes them anew; the change is then read in the diff. Nothing in
//! them depends on the clock, on the machine or on chance.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use serde_json::{Value, json};
use skep_cli::{ClientLine, grouped};
use support::{Manager, Outcome, Reply, Seen, operation, put, skep};

/// Where nobody answers, on every machine.
const NOBODY: &str = "http://127.0.0.1:1";

/// As wide as the program's help is where there is no terminal.
const WIDTH: usize = 100;

/// A case: the name of its file, the line, and what the managers answer.
struct Case(&'static str, &'static str, fn(&Seen) -> Reply);

/// Help and what is wrong with a line are told without a manager.
const HELP: &[Case] = &[
    Case("help-short", "-h", nothing),
    Case("help-long", "--help", nothing),
    Case("help-host-create", "host create --help", nothing),
    Case("help-up", "up --help", nothing),
    Case("help-apply", "apply --help", nothing),
    Case("help-wait", "wait --help", nothing),
    Case("help-api", "api --help", nothing),
    Case("help-env-update", "env update --help", nothing),
    Case("help-user", "user --help", nothing),
    Case("usage-unknown-verb", "host crate web-1", nothing),
    Case("usage-unknown-flag", "up --stak shop", nothing),
    Case("usage-missing-argument", "host create web-1", nothing),
    Case("usage-driver-with-d", "host create -d local web-1", nothing),
    Case("usage-bad-value", "host ls -o tabel", nothing),
    Case("usage-unconfirmed", "host rm web-1", nothing),
    Case("usage-no-reference", "inspect web-1", nothing),
    Case("explain-host", "explain host", nothing),
    Case("explain-env", "explain envs", nothing),
    Case("explain-field", "explain env.spec.nfs", nothing),
    Case("explain-unknown-type", "explain hots", nothing),
    Case("explain-unknown-field", "explain host.spec.lables", nothing),
];

const LISTS: &[Case] = &[
    Case("hosts-table", "host ls", world),
    Case("hosts-wide", "host ls -o wide", world),
    Case("hosts-json", "host ls -o json", world),
    Case("hosts-yaml", "host ls -o yaml", world),
    Case("hosts-name", "host ls -o name", world),
    Case("hosts-csv", "host ls -o csv", world),
    Case("hosts-ndjson", "host ls -o ndjson", world),
    Case("hosts-quiet", "host ls -q", world),
    Case("hosts-format", "host ls --format {{.Name}}={{.State}}", world),
    Case("hosts-jq", "host ls --jq .items[].metadata.name", world),
    Case("hosts-none", "host ls -e empty", world),
    Case("envs-table", "env ls", world),
    Case("stacks-table", "stack ls", world),
    Case("users-table", "user ls", world),
    Case("tokens-table", "token ls", world),
    Case("operations-table", "operation ls", world),
    Case("cluster-status", "cluster status", world),
];

const ENDS: &[Case] = &[
    Case("created", "host create web-1 web-2 --driver local --progress none", accepted),
    Case("detached", "host create web-1 --driver local --detach", accepted),
    Case("refused", "env create prod -t small --managers 5", refused),
    Case("refused-json", "env create prod -t small --managers 5 -o json", refused),
    Case("refused-yaml", "env create prod -t small --managers 5 -o yaml", refused),
    Case("conflict", "env update prod --managers 3", conflict),
    Case("not-allowed", "host ls", not_allowed),
    Case("not-found", "host inspect wbe-1", not_found),
    Case("failed", "host create web-1 --driver local --progress none", failed),
    Case("paused", "host create web-1 --driver local --progress none", paused),
    Case("partly", "host create web-1 web-2 web-3 --driver local --progress none", partly),
];

fn nothing(_: &Seen) -> Reply {
    Reply::Drop
}

/// Three hosts and what runs on them.
fn world(seen: &Seen) -> Reply {
    let items = match seen.target.split('?').next().unwrap() {
        "/v1/environments/prod/hosts" => hosts(),
        "/v1/environments/empty/hosts" => json!([]),
        "/v1/environments" => environments(),
        "/v1/environments/prod/stacks" => stacks(),
        "/v1/users" => users(),
        "/v1/tokens" => tokens(),
        "/v1/operations" => operations(),
        "/v1/cluster" => return Reply::Json(200, cluster()),
        target => panic!("nothing is played at {target}"),
    };
    Reply::Json(200, json!({"items": items, "revision": 81240}))
}

fn hosts() -> Value {
    json!([
        {"kind": "Host",
         "metadata": {"name": "web-1", "id": "host_1", "created_at": "2026-11-14T10:00:00Z", "revision": 81001},
         "spec": {"driver": "local", "role": "auto", "labels": {"rack": "b", "zone": "eu-1"}},
         "status": {"state": "active", "since": "2026-11-20T07:00:00Z", "message": null, "address": "10.90.0.2",
                    "machine": "local/skep-web-1", "operation": null,
                    "swarm": {"node": "n1", "role": "manager", "leader": true, "ready": true},
                    "agent": {"connected": true, "manager": "m2"},
                    "inventory": {"cpus": 2, "memory_bytes": 4_294_967_296_u64, "engine_version": "29.1.2",
                                  "architecture": "x86_64", "kernel": "6.12.9", "mtu": 1450}}},
        {"kind": "Host",
         "metadata": {"name": "web-2", "id": "host_2", "created_at": "2026-11-20T09:59:20Z", "revision": 81230},
         "spec": {"driver": "local", "role": "worker", "labels": {}},
         "status": {"state": "joining", "since": "2026-11-20T09:59:40Z", "message": "waiting for \"swarm join\", step 3",
                    "address": null, "machine": "local/skep-web-2", "operation": "op_7", "swarm": null,
                    "agent": {"connected": false, "manager": null}, "inventory": null}},
        {"kind": "Host",
         "metadata": {"name": "edge", "id": "host_3", "created_at": "2026-11-14T10:00:00Z", "revision": 81100},
         "spec": {"driver": null, "role": "worker", "labels": {"zone": "eu-2"}},
         "status": {"state": "swarm-down", "since": "2026-11-20T09:59:30Z", "message": "its node is down",
                    "address": "192.0.2.7", "machine": null, "operation": null,
                    "swarm": {"node": "n3", "role": "worker", "leader": false, "ready": false},
                    "agent": {"connected": true, "manager": "m1"},
                    "inventory": {"cpus": 64, "memory_bytes": 549_755_813_888_u64, "engine_version": "28.5.1",
                                  "architecture": "aarch64", "kernel": "6.1.0", "mtu": 1500}}}
    ])
}

fn environments() -> Value {
    json!([
        {"metadata": {"name": "prod", "id": "env_1", "created_at": "2026-11-14T09:00:00Z"},
         "spec": {"template": "default", "swarm_managers": 3},
         "status": {"state": "active", "hosts": {"active": 2, "total": 3}, "swarm": {"managers": 3, "quorum": true},
                    "message": null}},
        {"metadata": {"name": "test", "id": "env_2", "created_at": "2026-11-20T09:00:00Z"},
         "spec": {"template": "small", "swarm_managers": 3},
         "status": {"state": "degraded", "hosts": {"active": 1, "total": 3}, "swarm": {"managers": 3, "quorum": false},
                    "message": "2 of 3 swarm managers cannot be reached"}}
    ])
}

fn stacks() -> Value {
    json!([
        {"metadata": {"name": "shop", "id": "stack_1", "created_at": "2026-11-14T11:00:00Z"},
         "spec": {"services": [{"name": "web", "ports": [{"published": 80, "target": 8080, "protocol": "tcp"}]},
                               {"name": "db", "ports": []}]},
         "status": {"state": "active", "message": null,
                    "services": [{"name": "web", "running": 2, "desired": 2}, {"name": "db", "running": 1, "desired": 1}]}},
        {"metadata": {"name": "blog", "id": "stack_2", "created_at": "2026-11-20T09:58:00Z"},
         "spec": {"services": [{"name": "blog", "ports": []}]},
         "status": {"state": "deploying", "message": "blog: no such image", "services": []}}
    ])
}

fn users() -> Value {
    json!([
        {"metadata": {"name": "ann", "id": "user_1", "created_at": "2026-11-01T08:00:00Z"},
         "spec": {"groups": ["dev", "ops"]}, "status": {"state": "active", "provider": "local", "created_by": "setup"}},
        {"metadata": {"name": "ben", "id": "user_2", "created_at": "2026-11-02T08:00:00Z"},
         "spec": {"groups": []}, "status": {"state": "disabled", "provider": "local", "created_by": "ann"}}
    ])
}

fn tokens() -> Value {
    json!([
        {"id": "3f9c2a7be01d4c55", "name": "laptop", "kind": "key", "principal": "ann", "role": null,
         "last_used_at": "2026-11-20T09:00:00Z", "expires_at": null, "created_at": "2026-11-01T08:10:00Z"},
        {"id": "77aa2a7be01d4c55", "name": "", "kind": "session", "principal": "ann", "role": null,
         "last_used_at": null, "expires_at": "2026-11-21T08:00:00Z", "created_at": "2026-11-20T08:00:00Z"}
    ])
}

fn operations() -> Value {
    let mut failed = operation("op_6", "host/web-9", "failed", "failed", 8);
    failed["error"] = no_room();
    json!([operation("op_7", "host/web-2", "running", "running", 9), failed])
}

fn cluster() -> Value {
    let member = |name: &str, id: u64, role: &str, state: &str, behind: Option<u64>| {
        json!({"name": name, "id": id, "role": role, "state": state, "applied_index": behind.map(|behind| 81240 - behind),
               "lag_entries": behind, "last_contact_ms": behind.map(|_| 12), "resident_bytes": 104_857_600, "version": "1.0.0",
               "api_url": format!("https://{name}.example.com:8443")})
    };
    json!({"cluster": "c1", "leader": "m2", "term": 4, "voters": 3, "quorum": 2, "failure_tolerance": 0, "revision": 81240,
           "diverged": [],
           "members": [member("m1", 1, "voter", "follower", Some(0)), member("m2", 2, "voter", "leader", Some(0)),
                       member("m3", 3, "voter", "unreachable", None)]})
}

/// The operation that a change has begun, which ends so.
fn ending(seen: &Seen, end: impl Fn(&str) -> Value) -> Reply {
    let id = |number: &str| format!("op_{number}");
    if seen.wants_events {
        let number = seen.target.trim_end_matches(|c: char| !c.is_ascii_digit()).rsplit('_').next().unwrap();
        return Reply::Events(vec![put(&end(number))]);
    }
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    let name = body["name"].as_str().unwrap();
    let number = name.rsplit('-').next().unwrap();
    Reply::Json(202, operation(&id(number), &format!("host/{name}"), "queued", "pending", 5))
}

fn accepted(seen: &Seen) -> Reply {
    ending(seen, succeeded)
}

fn succeeded(number: &str) -> Value {
    operation(&format!("op_{number}"), &format!("host/web-{number}"), "succeeded", "done", 8)
}

fn failed(seen: &Seen) -> Reply {
    ending(seen, without_room)
}

fn without_room(number: &str) -> Value {
    let mut failed = operation(&format!("op_{number}"), &format!("host/web-{number}"), "failed", "failed", 8);
    failed["error"] = no_room();
    failed
}

fn paused(seen: &Seen) -> Reply {
    ending(seen, |number| {
        let mut paused = without_room(number);
        paused["state"] = json!("paused");
        paused["paused"] = json!({"by": "skep"});
        paused
    })
}

/// The first comes about, the second fails, the third is refused.
fn partly(seen: &Seen) -> Reply {
    match (seen.wants_events, String::from_utf8_lossy(&seen.body).contains("web-3")) {
        (false, true) => Reply::Json(
            409,
            problem(
                409,
                "SKP-1301",
                "NAME_TAKEN",
                "A host named web-3 exists in prod.",
                "choose another name",
            ),
        ),
        _ => ending(seen, |number| if number == "1" { succeeded(number) } else { without_room(number) }),
    }
}

fn no_room() -> Value {
    json!({"code": "SKP-2001", "title": "No room", "detail": "The driver local has no room for another machine.",
           "hint": "remove a host, or choose another driver"})
}

fn problem(status: u16, code: &str, reason: &str, detail: &str, hint: &str) -> Value {
    json!({"type": format!("https://skep.dev/errors/{code}"), "title": "Refused", "status": status, "detail": detail,
           "code": code, "reason": reason, "params": {}, "errors": [], "hint": hint, "retryable": false,
           "outcome": null, "request_id": "0198f2c1"})
}

fn refused(_: &Seen) -> Reply {
    let mut problem = problem(
        422,
        "SKP-1202",
        "INVALID_VALUE",
        "The environment cannot be made as it is wished.",
        "correct what is named, then repeat the command",
    );
    problem["errors"] = json!([
        {"pointer": "/spec/swarm_managers", "detail": "the template small allows 3 at most"},
        {"pointer": "/spec/template", "line": 4, "detail": "is not public"}
    ]);
    problem["params"] = json!({"template": "small", "owner": "ben"});
    Reply::Json(422, problem)
}

fn conflict(_: &Seen) -> Reply {
    let detail = "Environment prod is being changed by op_7.";
    Reply::Json(
        409,
        problem(409, "SKP-1307", "OPERATION_IN_PROGRESS", detail, "wait for it: skep op watch op_7"),
    )
}

fn not_allowed(_: &Seen) -> Reply {
    let detail = "ben may not read hosts in prod.";
    Reply::Json(
        403,
        problem(
            403,
            "SKP-1102",
            "FORBIDDEN",
            detail,
            "an owner can give a role: skep env members add user/ben -e prod",
        ),
    )
}

fn not_found(_: &Seen) -> Reply {
    let detail = "There is no host named wbe-1 in prod.";
    Reply::Json(
        404,
        problem(404, "SKP-1203", "NOT_FOUND", detail, "did you mean web-1? see: skep host ls -e prod"),
    )
}

/// What the program prints and how it ends, also where the line itself is wrong or asks for help.
async fn told(urls: &[String], line: &str) -> Outcome {
    let words = std::iter::once("skep").chain(line.split_whitespace());
    match grouped(ClientLine::command()).term_width(WIDTH).try_get_matches_from(words) {
        Ok(_) => skep(urls, line).await,
        Err(told) => {
            let text = told.render().to_string();
            let (out, err) = if told.use_stderr() { (String::new(), text) } else { (text, String::new()) };
            Outcome { code: u8::try_from(told.exit_code()).unwrap(), out, err }
        }
    }
}

async fn check_all(cases: &'static [Case]) {
    for Case(name, line, answer) in cases {
        let manager = Manager::start(|_, seen| answer(seen)).await;
        let outcome = told(&[manager.url()], line).await;
        check(name, line, &outcome);
    }
}

fn folder() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests")).join("tests/golden")
}

fn check(name: &str, line: &str, outcome: &Outcome) {
    let mut text = format!("$ skep {line}\nexit code {}\n", outcome.code);
    for (title, printed) in [("stdout", &outcome.out), ("stderr", &outcome.err)] {
        if !printed.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "--- {title}\n{printed}");
        }
    }
    let path = folder().join(format!("{name}.txt"));
    if std::env::var_os("SKEP_UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "cli/tests/golden/{name}.txt says something else; if this is meant, run this test with SKEP_UPDATE_DOCS=1 and read \
         the diff. It was:\n{there}\nIt is:\n{text}"
    );
}

#[tokio::test]
async fn help_and_what_is_wrong_with_a_line() {
    check_all(HELP).await;
}

#[tokio::test]
async fn lists_in_every_form() {
    check_all(LISTS).await;
}

#[tokio::test]
async fn how_changes_end() {
    check_all(ENDS).await;
}

#[tokio::test]
async fn nobody_answers() {
    let line = "host ls";
    check("unreachable", line, &skep(&[NOBODY.to_owned()], line).await);
}

/// Takes as long as the client tries again.
#[tokio::test]
async fn the_answer_stays_lost() {
    let manager = Manager::start(|_, _| Reply::Drop).await;
    let line = "env create test --idempotency-key 0198f2c1-0000-7000-8000-000000000001";
    let outcome = skep(&[manager.url()], line).await;
    let err = outcome.err.replace(&manager.url(), "https://m1.example.com:8443");
    check("outcome-unknown", line, &Outcome { err, ..outcome });
}

#[test]
fn every_file_has_its_case() {
    let alone = ["unreachable", "outcome-unknown"];
    let cases = HELP.iter().chain(LISTS).chain(ENDS).map(|Case(name, ..)| *name);
    let names: Vec<String> = cases.chain(alone).map(|name| format!("{name}.txt")).collect();
    for file in fs::read_dir(folder()).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&file), "no case is named cli/tests/golden/{file}: remove it");
    }
}
