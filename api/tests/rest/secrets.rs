//! Passwords and unlock keys: they come in, are used, and come out only where they are asked for by name.

use http::Method;
use serde_json::json;
use skep_ledger::Ledger as _;
use skep_model::environment;
use skep_model::host::Host;
use skep_model::registry::{self, password_words};
use skep_model::sealed::Sealed;
use skep_model::swarm_keys::unlock_key_words;
use skep_sealing::{SealingKey, Secret};

use crate::engines::Site;
use crate::support::{Ask, Door, delete, post, put, rule};

const PLACE: &str = "/v1/environments/prod/registries/registry.example.com";

/// As the door has it; see `Door::before`.
fn sealing() -> SealingKey {
    SealingKey::derive(&[7; 32], "c1").unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_login_is_checked_kept_sealed_and_never_shown() {
    let site = Site::with_hosts().await;
    let wish = |password: &str| put(PLACE, json!({"user": "ann", "password": password}));
    site.door.send(&wish("wrong")).await.is_problem(422, "SKP-2432");
    site.door.get(PLACE).await.is_problem(404, "SKP-1203");
    let kept = site.door.send(&wish("hunter2").with("idempotency-key", "k1")).await;
    assert_eq!((kept.status.as_u16(), &kept.body["checked"]), (201, &json!(true)), "{kept:?}");
    let again = site.door.send(&wish("hunter2").with("idempotency-key", "k1")).await;
    assert_eq!(again.body, kept.body);
    let other = put(PLACE, json!({"user": "ann", "password": "hunter3", "check": false}));
    let other = site.door.send(&other.with("idempotency-key", "k1")).await;
    other.is_problem(422, "SKP-1007");

    let environment = site.door.find("prod");
    let stored = registry::find(&site.door.ledger.view(), &environment, "registry.example.com").unwrap();
    let words = password_words(&environment.id, "registry.example.com");
    assert_eq!(sealing().open(&words, stored.password.envelope()).unwrap().reveal(), "hunter2");
    let shown = site.door.get("/v1/environments/prod/registries").await;
    assert_eq!(shown.body["items"][0]["user"], "ann");
    assert!(!format!("{shown:?}{kept:?}").contains("hunter2"));
    assert!(!holds(stored.password.envelope(), "hunter2"));

    let gone = site.door.send(&delete(PLACE)).await;
    assert_eq!((gone.status.as_u16(), &gone.body["user"]), (200, &json!("ann")), "{gone:?}");
    site.door.send(&delete(PLACE)).await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn a_registry_that_cannot_be_asked_is_refused_unless_nobody_wants_to_ask() {
    let site = Site::with_hosts().await;
    let down = "/v1/environments/prod/registries/down.example.com";
    let refused = site.door.send(&put(down, json!({"user": "ann", "password": "hunter2"}))).await;
    refused.is_problem(502, "SKP-2433");
    assert!(refused.detail().contains("a: dial tcp: no such host"), "{refused:?}");
    assert!(refused.body["hint"].as_str().unwrap().contains("--no-check"));
    let dry = Ask::new(Method::PUT, &format!("{down}?dry_run=true"))
        .with("content-type", "application/json")
        .bytes(json!({"user": "ann", "password": "hunter2", "check": false}).to_string());
    assert_eq!(site.door.send(&dry).await.status, 200);
    site.door.get(down).await.is_problem(404, "SKP-1203");
    let kept =
        site.door.send(&put(down, json!({"user": "ann", "password": "hunter2", "check": false}))).await;
    assert_eq!((kept.status.as_u16(), &kept.body["checked"]), (201, &json!(false)), "{kept:?}");

    for server in ["https:%2F%2Fregistry.example.com", "Registry.example.com", "registry"] {
        let path = format!("/v1/environments/prod/registries/{server}");
        let wish = put(&path, json!({"user": "ann", "password": "hunter2", "check": false}));
        site.door.send(&wish).await.is_problem(422, "SKP-1202");
    }
    site.door.environment("empty").await;
    let path = "/v1/environments/empty/registries/registry.example.com";
    site.door
        .send(&put(path, json!({"user": "ann", "password": "hunter2"})))
        .await
        .is_problem(409, "SKP-2403");
}

#[tokio::test]
async fn the_unlock_key_is_shown_to_who_asks_for_it_and_to_nobody_else() {
    let site = Site::with_hosts().await;
    let show = post("/v1/environments/prod/actions/show-unlock-key", json!({}));
    site.door.send(&show).await.is_problem(409, "SKP-1332");
    let id = site.door.find("prod").id;
    let seal_with = async |key: &SealingKey| {
        let sealed = key.seal(&unlock_key_words(&id), &Secret::new("SWMKEY-1-planted")).unwrap();
        rule(&*site.door.ledger, |tx| {
            let mut environment = environment::named(tx, "prod")?;
            environment.keys.unlock_key = Some(Sealed::new(sealed.clone()));
            tx.put(&environment);
            Ok(true)
        })
        .await;
    };
    seal_with(&sealing()).await;
    let shown = site.door.send(&show).await;
    assert_eq!(shown.body["unlock_key"], "SWMKEY-1-planted", "{shown:?}");
    let environment = site.door.get("/v1/environments/prod").await;
    assert!(!format!("{environment:?}").contains("planted"), "{environment:?}");
    site.door.send(&show.clone().without_token()).await.is_problem(401, "SKP-1101");

    // As after a restoration into a cluster with other keys.
    seal_with(&SealingKey::derive(&[8; 32], "c2").unwrap()).await;
    site.door.send(&show).await.is_problem(500, "SKP-2431");
}

#[tokio::test]
async fn a_given_unlock_key_is_sealed_before_it_is_written_down() {
    let site = Site::with_hosts().await;
    let unlock = post("/v1/environments/prod/actions/unlock", json!({"unlock_key": "SWMKEY-1-planted"}));
    site.door.send(&unlock).await.is_problem(409, "SKP-1333");
    let id = site.door.find("prod").id;
    rule(&*site.door.ledger, |tx| {
        for host in tx.list::<Host>(id.as_str())? {
            tx.put(&Host { swarm_locked: true, ..host.record });
        }
        Ok(true)
    })
    .await;
    let accepted = site.door.send(&unlock).await;
    assert_eq!(
        (accepted.status.as_u16(), &accepted.body["type"]),
        (202, &json!("unlock-swarm")),
        "{accepted:?}"
    );
    let environment = site.door.find("prod");
    let given = environment.keys.given_unlock_key.clone().unwrap();
    let opened = sealing().open(&unlock_key_words(&environment.id), given.envelope()).unwrap();
    assert_eq!(opened.reveal(), "SWMKEY-1-planted");
    assert!(!holds(given.envelope(), "planted"));
}

#[tokio::test]
async fn wishes_for_a_swarm_are_operations_and_say_what_cannot_be() {
    let door = Door::new().await;
    door.environment("prod").await;
    for action in ["rotate-tokens", "rotate-ca", "rotate-unlock-key"] {
        let path = format!("/v1/environments/prod/actions/{action}");
        door.send(&post(&path, json!({}))).await.is_problem(409, "SKP-1331");
    }
    let patch = |body| {
        Ask::new(Method::PATCH, "/v1/environments/prod").with("content-type", "application/json").bytes(body)
    };
    let accepted = door.send(&patch(r#"{"spec": {"autolock": true, "certificate_days": 30}}"#)).await;
    assert_eq!(
        (accepted.status.as_u16(), &accepted.body["type"]),
        (202, &json!("update-swarm")),
        "{accepted:?}"
    );
    let spec = door.get("/v1/environments/prod").await.body["spec"].clone();
    assert_eq!((&spec["autolock"], &spec["certificate_days"]), (&json!(true), &json!(30)));
    door.send(&patch(r#"{"spec": {"certificate_days": 0}}"#)).await.is_problem(422, "SKP-1202");
}
