//! Join tokens, actions on managers, and what the managers do by themselves.

use serde_json::json;
use skep_api::MemberAction;

use crate::support::{Ask, Door, delete, post, put};

#[tokio::test]
async fn a_join_token_is_shown_once_and_the_same_key_gets_the_same_one() {
    let door = Door::new().await;
    let ask = post("/v1/cluster/join-tokens", json!({"role": "standby", "ttl_seconds": 60}))
        .with("idempotency-key", "k1");
    let made = door.send(&ask).await;
    assert_eq!(made.status, 201, "{made:?}");
    let (id, token) = (made.body["id"].as_str().unwrap(), made.body["token"].as_str().unwrap());
    assert!(token.contains(id), "{made:?}");
    assert_eq!(door.send(&ask).await.body["token"], token);

    let listed = door.get("/v1/cluster/join-tokens").await;
    assert_eq!(listed.body["items"][0]["role"], "standby", "{listed:?}");
    assert!(listed.body["items"][0].get("token").is_none(), "{listed:?}");

    let path = format!("/v1/cluster/join-tokens/{id}");
    assert_eq!(door.send(&delete(&path)).await.status, 200);
    door.send(&delete(&path)).await.is_problem(404, "SKP-1203");
    let wrong = post("/v1/cluster/join-tokens", json!({"uses": 0}));
    door.send(&wrong).await.is_problem(422, "SKP-1202");
}

#[tokio::test]
async fn actions_reach_the_managers_and_their_refusals_the_client() {
    let door = Door::new().await;
    let done = door.send(&post("/v1/cluster/actions/transfer-leader", json!({"to": "m2"}))).await;
    assert_eq!(done.status, 200, "{done:?}");
    let rehearsed = Ask::new(http::Method::POST, "/v1/cluster/members/m1/actions/drain?dry_run=true");
    assert_eq!(door.send(&rehearsed).await.status, 200);
    let acted = door.manager.acted.lock().unwrap().clone();
    assert_eq!(acted, [MemberAction::TransferLeader(Some("m2".into()))]);

    let remove =
        |name: &str| Ask::new(http::Method::POST, &format!("/v1/cluster/members/{name}/actions/remove"));
    door.send(&remove("m1")).await.is_problem(409, "SKP-3101");
    door.send(&remove("m9")).await.is_problem(404, "SKP-1203");
    door.send(&remove("m1").without_token()).await.is_problem(401, "SKP-1101");

    for (place, status, code) in [
        ("behind/actions/promote", 409, "SKP-3102"),
        ("second/actions/promote", 409, "SKP-3103"),
        ("silent/actions/drain", 502, "SKP-3104"),
    ] {
        let ask = Ask::new(http::Method::POST, &format!("/v1/cluster/members/{place}"));
        let refused = door.send(&ask).await;
        refused.is_problem(status, code);
        assert_eq!(refused.body["retryable"], true, "{refused:?}");
    }
}

#[tokio::test]
async fn the_autopilot_is_off_until_it_is_set_and_refuses_haste() {
    let door = Door::new().await;
    let path = "/v1/cluster/autopilot";
    assert!(door.get(path).await.body["remove_dead_after_seconds"].is_null());
    door.send(&put(path, json!({"remove_dead_after_seconds": 3}))).await.is_problem(422, "SKP-1202");
    door.send(&put(path, json!([60]))).await.is_problem(422, "SKP-1006");
    let set = door.send(&put(path, json!({"remove_dead_after_seconds": 600}))).await;
    assert_eq!(set.status, 200, "{set:?}");
    assert_eq!(door.get(path).await.body["remove_dead_after_seconds"], 600);
}

#[tokio::test]
async fn the_clusters_names_are_set_all_at_once_and_must_be_names() {
    let door = Door::new().await;
    let path = "/v1/cluster/sans";
    assert_eq!(door.get(path).await.body["names"], json!([]));
    let refused = door.send(&put(path, json!({"names": ["skep.example.com", "https://lb"]}))).await;
    refused.is_problem(422, "SKP-1202");
    assert!(refused.body["detail"].as_str().unwrap().contains("https://lb"), "{refused:?}");
    door.send(&put(path, json!({"names": "lb"}))).await.is_problem(422, "SKP-1006");
    let set = door.send(&put(path, json!({"names": ["LB.example.com", "10.0.0.9"]}))).await;
    assert_eq!(set.status, 200, "{set:?}");
    assert_eq!(door.get(path).await.body["names"], json!(["lb.example.com", "10.0.0.9"]));
}
