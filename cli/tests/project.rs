//! Where a command works: contexts that are chosen, a working tree that says where it belongs; and what is only rehearsed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::{Manager, Outcome, Reply, operation, problem, skep, skep_in};

/// A home with two contexts, and a working tree.
struct Desk {
    home: tempfile::TempDir,
    tree: tempfile::TempDir,
}

impl Desk {
    fn new(prod: &str, lab: &str) -> Desk {
        let desk = Desk { home: tempfile::tempdir().unwrap(), tree: tempfile::tempdir().unwrap() };
        let file = format!(
            "current = 'prod'\n[contexts.prod]\nurl = '{prod}'\nenv = 'shop'\n[contexts.lab]\nurl = '{lab}'\n"
        );
        fs::write(desk.home.path().join("config.toml"), file).unwrap();
        desk
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.tree.path().join(name), text).unwrap();
    }

    async fn skep(&self, line: &str) -> Outcome {
        let home = self.home.path().display().to_string();
        skep_in(self.tree.path(), &[("SKEP_CONFIG_HOME", &home)], line).await
    }
}

#[tokio::test]
async fn a_working_tree_says_where_its_stack_runs_and_what_it_is_made_of() {
    let deployed = |_, _: &_| Reply::Json(202, operation("op_1", "stack/shop", "succeeded", "done", 8));
    let (prod, lab) = (Manager::start(deployed).await, Manager::start(deployed).await);
    let desk = Desk::new(&prod.url(), &lab.url());
    let nothing = desk.skep("up --stack shop").await;
    assert_eq!(nothing.code, 2, "{nothing:?}");
    assert!(nothing.err.contains("has no compose file: compose.yaml, compose.yml"), "{}", nothing.err);
    desk.write("compose.yml", "services: {}");
    let nameless = desk.skep("up").await;
    assert!(nameless.code == 2 && nameless.err.contains("--stack NAME"), "{nameless:?}");

    desk.write(".skep.toml", "context = 'lab'\nenv = 'test'\nstack = 'shop'\nfiles = ['web.yml']");
    desk.write("web.yml", "services: {web: {image: nginx}}");
    let outcome = desk.skep("up").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "stack/shop deployed\n"), "{outcome:?}");
    assert_eq!(
        (prod.requests(), lab.requests()),
        (vec![], vec!["PUT /v1/environments/test/stacks/shop".to_owned()])
    );
    let sent: Value = serde_json::from_slice(&lab.seen()[0].body).unwrap();
    assert!(sent["recipe"].as_str().unwrap().contains("nginx"), "{sent}");

    desk.write(".skep.toml", "url = 'https://elsewhere'");
    let refused = desk.skep("up").await;
    assert!(refused.code == 2 && refused.err.contains(".skep.toml is not valid"), "{refused:?}");
}

#[tokio::test]
async fn every_value_is_shown_with_its_origin() {
    let desk = Desk::new("https://prod:8443", "https://lab:8443");
    desk.write(".skep.toml", "env = 'mine'");
    let shown = desk.skep("context show --timeout 30s").await;
    assert_eq!(
        shown.out,
        "context     prod  (skep use)\n\
         server      https://prod:8443  (context prod)\n\
         token       -  (not set)\n\
         ca-file     -  (not set)\n\
         environment mine  (.skep.toml)\n\
         output      -  (built in)\n\
         progress    auto  (built in)\n\
         timeout     30 s  (flag --timeout)\n\
         wait        yes  (built in)\n\
         consistency -  (built in)\n",
        "{shown:?}"
    );
}

#[tokio::test]
async fn one_goes_back_to_what_was_chosen_before() {
    let desk = Desk::new("https://prod:8443", "https://lab:8443");
    let nothing = desk.skep("use -").await;
    assert!(nothing.code == 2 && nothing.err.contains("nothing was chosen before"), "{nothing:?}");
    for (line, chosen) in [
        ("use lab", "lab/-"),
        ("use -", "prod/shop"),
        ("use -", "lab/-"),
        ("use prod/blog", "prod/blog"),
        ("use /shop", "prod/shop"),
        ("use -", "prod/blog"),
    ] {
        assert_eq!(desk.skep(line).await.code, 0, "{line}");
        assert_eq!(desk.skep("use").await.out, format!("{chosen}\n"), "{line}");
    }
}

#[tokio::test]
async fn whatever_changes_something_can_be_rehearsed_and_is_not_waited_for() {
    let manager =
        Manager::start(|_, seen| match seen.target.contains("dry_run=true") || seen.method == "GET" {
            true if seen.target.contains("hosts") => {
                Reply::Json(200, operation("op_1", "host/web-1", "pending", "rehearsed", 8))
            }
            true => Reply::Json(200, json!({"metadata": {"name": "dev"}, "spec": {"services": []}})),
            false => Reply::Json(500, problem(500, None)),
        })
        .await;
    for (line, printed) in [
        ("group create dev --dry-run", "group/dev created (dry run)\n"),
        ("group rm dev --dry-run", "group/dev removed (dry run)\n"),
        ("env rm dev --dry-run", "env/dev removed (dry run)\n"),
        ("host create web-1 --driver local --dry-run", "host/web-1 created (dry run)\n"),
        ("host rm web-1 --dry-run -o name", "host/web-1\n"),
    ] {
        let outcome = skep(&[manager.url()], line).await;
        assert_eq!((outcome.code, outcome.out.as_str()), (0, printed), "{line}: {outcome:?}");
    }
    let changes = manager.requests().into_iter().filter(|request| !request.starts_with("GET"));
    assert!(changes.into_iter().all(|request| request.ends_with("dry_run=true")), "{:?}", manager.requests());
    for line in [
        "use prod --dry-run",
        "logout --dry-run",
        "context rm prod --dry-run",
        "snapshot save kept.backup --dry-run",
        "debug bundle kept.json --dry-run",
    ] {
        let outcome = skep(&[manager.url()], line).await;
        assert!(outcome.code == 2 && outcome.err.contains("has no dry run"), "{line}: {outcome:?}");
    }
}
