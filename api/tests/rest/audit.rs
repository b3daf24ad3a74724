//! What is written down of who has done what.

use http::Method;
use serde_json::{Value, json};
use skep_ledger::Ledger as _;

use crate::support::{Ask, Door, delete, post};

async fn entries(door: &Door) -> Vec<Value> {
    door.get("/v1/audit").await.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_change_is_written_down_with_it() {
    let door = Door::new().await;
    let made = door.environment("prod").await;
    let entries = entries(&door).await;
    assert_eq!(entries.len(), 1, "{entries:#?}");
    let entry = &entries[0];
    for (member, wanted) in [
        ("principal", "admin"),
        ("token", "one"),
        ("call", "POST /v1/environments"),
        ("route", "/v1/environments"),
        ("about", "environment/prod"),
        ("operation", made.body["id"].as_str().unwrap()),
        ("request", made.header("skep-request-id")),
        ("node", "m1"),
        ("outcome", "done"),
        ("code", ""),
    ] {
        assert_eq!(entry[member], wanted, "{member}");
    }
    let revision = door.ledger.view().revision();
    assert_eq!(made.header("skep-revision"), revision.to_string(), "no other transaction was needed for it");
}

#[tokio::test]
async fn a_request_that_is_repeated_or_only_rehearsed_is_not_written_down_again() {
    let door = Door::new().await;
    let ask = || post("/v1/groups", json!({"name": "dev"})).with("idempotency-key", "k");
    door.send(&ask()).await;
    door.send(&ask()).await;
    door.send(&post("/v1/groups?dry_run=true", json!({"name": "ops"}))).await;
    door.api.write_collected().await;
    let entries = entries(&door).await;
    assert_eq!(entries.len(), 1, "{entries:#?}");
    assert_eq!(entries[0]["about"], "dev");
}

#[tokio::test]
async fn what_is_denied_or_refused_is_counted_and_written_down_together() {
    let door = Door::new().await;
    let knock = Ask::new(Method::GET, "/v1/users").with("authorization", "Bearer skp_x_y");
    for _ in 0..3 {
        door.send(&knock).await.is_problem(401, "SKP-1101");
    }
    door.send(&delete("/v1/groups/nobody")).await.is_problem(404, "SKP-1203");
    assert_eq!(entries(&door).await.len(), 0, "not for each of them");
    door.api.write_collected().await;
    let entries = entries(&door).await;
    let told = |entry: &Value| {
        let text = |member: &str| entry[member].as_str().unwrap().to_owned();
        (text("principal"), text("call"), text("outcome"), text("code"), entry["count"].as_u64().unwrap())
    };
    let mut told: Vec<_> = entries.iter().map(told).collect();
    told.sort();
    assert_eq!(
        told,
        [
            (String::new(), "GET /v1/users".into(), "denied".into(), "SKP-1101".into(), 3),
            ("admin".into(), "DELETE /v1/groups/nobody".into(), "refused".into(), "SKP-1203".into(), 1),
        ]
    );
}

#[tokio::test]
async fn reading_is_not_written_down_unless_it_opens_something() {
    let door = Door::new().await;
    door.get("/v1/environments").await;
    door.get("/v1/audit").await;
    door.api.write_collected().await;
    assert_eq!(entries(&door).await.len(), 0);
    door.get("/v1/snapshots/snap_1/content").await;
    door.api.write_collected().await;
    assert_eq!(entries(&door).await[0]["route"], "/v1/snapshots/{snapshot}/content");
}

#[tokio::test]
async fn whoever_signs_in_or_tries_to_is_written_down_without_the_password() {
    let door = Door::new().await;
    let password = "correct horse battery";
    door.send(&post("/v1/users", json!({"name": "ann", "password": password}))).await;
    for password in [password, "wrong horse battery"] {
        door.send(&post("/v1/sessions", json!({"user": "ann", "password": password})).without_token()).await;
    }
    door.api.write_collected().await;
    let entries = entries(&door).await;
    let sessions: Vec<_> = entries.iter().filter(|entry| entry["route"] == "/v1/sessions").collect();
    let mut outcomes: Vec<_> = sessions.iter().map(|entry| entry["outcome"].as_str().unwrap()).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["denied", "done"]);
    assert!(sessions.iter().all(|entry| entry["about"] == "user/ann"), "{sessions:#?}");
    assert!(!json!(entries).to_string().contains("horse"), "{entries:#?}");
}

#[tokio::test]
async fn seals_cover_what_was_written_and_pages_lead_through_it() {
    let door = Door::new().await;
    for name in ["a", "b", "c"] {
        door.send(&post("/v1/groups", json!({"name": name}))).await;
    }
    door.api.seal_audit().await;
    door.api.seal_audit().await;
    let seals = door.get("/v1/audit/seals").await.body;
    assert_eq!(seals["items"].as_array().unwrap().len(), 1, "{seals}");
    assert_eq!((&seals["items"][0]["entries"], &seals["items"][0]["number"]), (&json!(3), &json!(1)));
    let first = door.get("/v1/audit?limit=2").await.body;
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = door.get(&format!("/v1/audit?limit=2&cursor={cursor}")).await.body;
    let abouts = |page: &Value| {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|entry| entry["about"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((abouts(&first), abouts(&rest)), (vec!["a".into(), "b".into()], vec!["c".into()]));
    assert!(rest["next_cursor"].is_null() && rest["items"][0]["seal"] == 1, "{rest}");
    for wrong in ["yesterday", "2026-13-01", "2026-1-1", "2026-11-28T00:00:00"] {
        let refused = door.get(&format!("/v1/audit?since={wrong}")).await;
        refused.is_problem(400, "SKP-1001");
        assert!(refused.detail().contains("since") && refused.detail().contains(wrong), "{refused:?}");
    }
    let denied = door.get("/v1/audit?outcome=denied").await.body;
    assert_eq!(denied["items"], json!([]));
}
