//! Signing in, from the line that is typed to the context that is kept.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::{Manager, Reply, Seen, skep, skep_with};

/// A home with the files that scripts give.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("code"), "7Q3KD-0R5TX-9M2WB-HCV4E\n").unwrap();
        fs::write(home.path().join("password"), "correct horse battery\n").unwrap();
        Home(home)
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    async fn skep(&self, line: &str) -> support::Outcome {
        skep_with(&[("SKEP_CONFIG_HOME", &self.file("config"))], line).await
    }
}

/// A cluster with or without an administrator, whose device is approved the third time that it asks.
async fn cluster(setup: bool) -> Manager {
    let exchanges = std::sync::atomic::AtomicUsize::new(0);
    Manager::start(move |_, seen: &Seen| match (seen.method.as_str(), seen.target.as_str()) {
        ("GET", "/v1/auth-providers") => Reply::Json(200, json!({"items": [], "setup": setup})),
        ("POST", "/v1/setup") => Reply::Json(201, json!({"metadata": {"name": "ann"}})),
        ("POST", "/v1/sessions") => Reply::Json(201, json!({"token": "skp_a_b"})),
        ("POST", "/v1/device-codes") => Reply::Json(
            201,
            json!({"device_code": "skd_a_b", "user_code": "WDJB-MJHT", "expires_in": 600, "interval": 0}),
        ),
        ("POST", "/v1/device-codes/actions/exchange") => {
            match exchanges.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 | 1 => Reply::Json(400, refusal("SKP-1108", "AUTHORIZATION_PENDING")),
                _ => Reply::Json(201, json!({"token": "skp_a_b"})),
            }
        }
        ("GET", "/v1/whoami") if seen.token.as_deref() == Some("Bearer skp_a_b") => {
            Reply::Json(200, json!({"principal": "ann", "token": {"kind": "session"}}))
        }
        _ => Reply::Json(404, refusal("SKP-1002", "UNKNOWN_ROUTE")),
    })
    .await
}

fn refusal(code: &str, reason: &str) -> Value {
    json!({"type": "about:blank", "title": "Refused", "status": 400, "detail": "not now", "code": code,
           "reason": reason, "params": {}, "errors": [], "hint": null, "retryable": true, "outcome": null})
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

#[tokio::test]
async fn the_first_login_makes_the_administrator_and_signs_in() {
    let (home, manager) = (Home::new(), cluster(true).await);
    let line = format!(
        "login {} --context prod --setup-code-file {} --username ann --password-file {}",
        manager.url(),
        home.file("code"),
        home.file("password")
    );
    let outcome = home.skep(&line).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "context/prod signed in as ann\n"), "{outcome:?}");
    assert_eq!(manager.requests(), ["POST /v1/setup", "POST /v1/sessions", "GET /v1/whoami"]);
    let seen = manager.seen();
    let password = "correct horse battery";
    assert_eq!(
        body(&seen[0]),
        json!({"code": "7Q3KD-0R5TX-9M2WB-HCV4E", "user": "ann", "password": password})
    );
    assert_eq!(body(&seen[1]), json!({"user": "ann", "password": password}));
    assert!(seen[0].key.is_some() && seen[0].token.is_none(), "{seen:?}");
    assert_eq!(fs::read_to_string(home.file("config/tokens/prod")).unwrap(), "skp_a_b");
    assert!(!format!("{outcome:?}").contains("horse"), "{outcome:?}");
}

#[tokio::test]
async fn a_script_is_told_what_a_new_cluster_waits_for() {
    let (home, manager) = (Home::new(), cluster(true).await);
    let line = format!("login {} --user ann --password-file {}", manager.url(), home.file("password"));
    let outcome = home.skep(&line).await;
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.err.contains("--setup-code-file FILE"), "{outcome:?}");
    assert_eq!(manager.requests(), ["GET /v1/auth-providers"], "nothing was tried with the password");
}

#[tokio::test]
async fn a_cluster_with_an_administrator_is_signed_in_to_as_ever() {
    let (home, manager) = (Home::new(), cluster(false).await);
    let line = format!("login {} --user ann --password-file {}", manager.url(), home.file("password"));
    let outcome = home.skep(&line).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(manager.requests(), ["GET /v1/auth-providers", "POST /v1/sessions", "GET /v1/whoami"]);
    let nobody = home.skep(&format!("login {}", manager.url())).await;
    assert_eq!(nobody.code, 2, "{nobody:?}");
    assert!(nobody.err.contains("--device") && nobody.err.contains("--user"), "{nobody:?}");
}

#[tokio::test]
async fn a_device_shows_its_code_and_comes_in_when_it_was_approved() {
    let (home, manager) = (Home::new(), cluster(false).await);
    let outcome = home.skep(&format!("login {} --context prod --device", manager.url())).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (0, "context/prod signed in as ann\n"), "{outcome:?}");
    assert!(outcome.err.contains("skep login approve WDJB-MJHT"), "{outcome:?}");
    let exchange = "POST /v1/device-codes/actions/exchange";
    assert_eq!(manager.requests(), ["POST /v1/device-codes", exchange, exchange, exchange, "GET /v1/whoami"]);
    assert_eq!(body(&manager.seen()[1]), json!({"device_code": "skd_a_b"}));
    assert!(body(&manager.seen()[0])["client"].as_str().unwrap().starts_with("skep "));
    assert_eq!(fs::read_to_string(home.file("config/tokens/prod")).unwrap(), "skp_a_b");
    assert!(!outcome.err.contains("skd_"), "the long code is the device's own: {outcome:?}");
}

#[tokio::test]
async fn a_device_is_looked_at_before_it_is_approved() {
    let device = || json!({"user_code": "WDJB-MJHT", "client": "skep on build-7", "address": "10.0.0.7", "state": "approved"});
    let manager = Manager::start(move |_, _| Reply::Json(200, device())).await;
    let unsure = skep(&[manager.url()], "login approve WDJB-MJHT").await;
    assert_eq!(unsure.code, 2, "{unsure:?}");
    assert!(unsure.err.contains("'skep on build-7' at 10.0.0.7"), "{unsure:?}");
    assert_eq!(manager.requests(), ["GET /v1/device-codes/WDJB-MJHT"]);
    let sure = skep(&[manager.url()], "login approve WDJB-MJHT --yes").await;
    assert_eq!((sure.code, sure.out.as_str()), (0, "device/WDJB-MJHT approved\n"), "{sure:?}");
    let denied = skep(&[manager.url()], "login deny WDJB-MJHT").await;
    assert_eq!((denied.code, denied.out.as_str()), (0, "device/WDJB-MJHT denied\n"), "{denied:?}");
    assert_eq!(
        manager.requests()[1..],
        [
            "GET /v1/device-codes/WDJB-MJHT",
            "POST /v1/device-codes/WDJB-MJHT/actions/approve",
            "POST /v1/device-codes/WDJB-MJHT/actions/deny"
        ]
    );
}

#[tokio::test]
async fn a_context_goes_to_another_machine_as_one_file() {
    let (home, there, manager) = (Home::new(), Home::new(), cluster(false).await);
    let line = format!("login {} --context prod --device", manager.url());
    assert_eq!(home.skep(&line).await.code, 0);
    assert_eq!(home.skep("use prod/shop").await.code, 0);
    let ca = rcgen::generate_simple_self_signed(["skep".to_owned()]).unwrap().cert.pem();
    fs::write(home.file("ca.pem"), &ca).unwrap();
    let config = fs::read_to_string(home.file("config/config.toml")).unwrap();
    fs::write(home.file("config/config.toml"), format!("{config}ca_file = '{}'\n", home.file("ca.pem")))
        .unwrap();

    let exported = home.skep("context export").await;
    assert!(exported.code == 0 && !exported.out.contains("skp_a_b"), "{exported:?}");
    fs::write(there.file("prod.toml"), &exported.out).unwrap();
    let imported = there.skep(&format!("context import {}", there.file("prod.toml"))).await;
    assert_eq!((imported.code, imported.out.as_str()), (0, "context/prod imported\n"), "{imported:?}");
    let shown = there.skep("context show --context prod").await.out;
    for value in [manager.url().as_str(), "shop", "authorities/"] {
        assert!(shown.contains(value), "{value}: {shown}");
    }
    let authority =
        || fs::read_dir(there.file("config/authorities")).unwrap().map(|file| file.unwrap().path());
    assert_eq!(authority().map(|file| fs::read_to_string(file).unwrap()).collect::<Vec<_>>(), [ca]);
    assert!(!fs::exists(there.file("config/tokens")).unwrap());

    let again = there.skep(&format!("context import {}", there.file("prod.toml"))).await;
    assert!(again.code == 2 && again.err.contains("there is a context named 'prod' already"), "{again:?}");
    let exported = home.skep("context export prod --with-token").await.out;
    fs::write(there.file("mine.toml"), exported).unwrap();
    assert_eq!(there.skep(&format!("context import {} mine", there.file("mine.toml"))).await.code, 0);
    assert_eq!(fs::read_to_string(there.file("config/tokens/mine")).unwrap(), "skp_a_b");

    for name in ["prod", "mine"] {
        assert_eq!(there.skep(&format!("context rm {name}")).await.code, 0);
    }
    assert_eq!(authority().count(), 0, "what came with a context goes with it");
    assert!(fs::exists(home.file("ca.pem")).unwrap());
}

#[tokio::test]
async fn what_is_no_exported_context_changes_nothing() {
    let home = Home::new();
    for (text, complaint) in [
        ("name = 'prod'", "missing field `url`"),
        ("name = 'prod'\nurl = 'https://a:8443'\nuser = 'ann'", "unknown field `user`"),
        ("name = 'a/b'\nurl = 'https://a:8443'", "'a/b' cannot be the name of a context"),
        ("name = 'prod'\nurl = 'http://a:8443'", "would send the token in clear"),
        ("name = 'prod'\nurl = 'https://a:8443'\nca = 'no PEM'", "the file's ca holds no certificate"),
    ] {
        fs::write(home.file("given.toml"), text).unwrap();
        let refused = home.skep(&format!("context import {}", home.file("given.toml"))).await;
        assert!(refused.code == 2 && refused.err.contains(complaint), "{text}: {refused:?}");
    }
    assert!(!fs::exists(home.file("config")).unwrap());
}
