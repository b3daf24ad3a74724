//! Many who add something at one time: none of them waits for the others, let alone gives up because of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::json;
use skep_ledger::{Ledger, MemoryLedger, Outcome, Txn, Unavailable, View};
use tokio::sync::Barrier;

use crate::support::{Ask, Door, NoHosts, hub, identity, post, put};

const CROWD: usize = 8;

/// A ledger whose first changes all come at one time: each was decided before any other came about.
struct Crowded {
    ledger: Arc<MemoryLedger>,
    all: Barrier,
    crowding: Arc<AtomicUsize>,
    lost_to: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Ledger for Crowded {
    async fn propose(&self, txn: Txn) -> Result<Outcome, Unavailable> {
        let left = self.crowding.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            self.all.wait().await;
        }
        let outcome = self.ledger.propose(txn).await;
        if let Ok(Outcome::Conflict(what, _)) = &outcome {
            self.lost_to.lock().unwrap().push(what.clone());
        }
        outcome
    }
    async fn fresh_view(&self) -> Result<View, Unavailable> {
        self.ledger.fresh_view().await
    }
    like_its_ledger!();
}

#[tokio::test]
async fn whoever_adds_something_does_not_wait_for_others_who_add() {
    let (crowding, lost_to) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(vec![])));
    let door = Door::before(hub(&identity(), NoHosts::events()), |ledger| {
        let (crowding, lost_to) = (crowding.clone(), lost_to.clone());
        Arc::new(Crowded { ledger, all: Barrier::new(CROWD), crowding, lost_to })
    })
    .await;
    let password = "a long enough password";
    door.environment("prod").await;
    let sign_in =
        |user: String| post("/v1/sessions", json!({"user": user, "password": password})).without_token();
    let asks: [(&str, &dyn Fn(usize) -> Ask); 9] = [
        ("users", &|n| post("/v1/users", json!({"name": format!("user-{n}"), "password": password}))),
        ("groups", &|n| post("/v1/groups", json!({"name": format!("group-{n}")}))),
        ("roles", &|n| {
            let role = json!({"spec": {"permissions": ["view:host"]}});
            put(&format!("/v1/roles/role-{n}"), role).with("if-none-match", "*")
        }),
        ("environments", &|n| {
            post("/v1/environments", json!({"name": format!("env-{n}"), "template": "default"}))
        }),
        ("members", &|n| {
            put(&format!("/v1/environments/prod/members/user/user-{n}"), json!({"role": "member"}))
        }),
        ("registration tokens", &|_| post("/v1/environments/prod/registration-tokens", json!({}))),
        ("keys of an environment", &|_| post("/v1/environments/prod/tokens", json!({"role": "member"}))),
        ("sessions of many users", &|n| sign_in(format!("user-{n}"))),
        ("sessions of one user", &|_| sign_in("user-0".into())),
    ];
    for (what, ask) in asks {
        crowding.store(CROWD, Ordering::SeqCst);
        let asks: Vec<_> = (0..CROWD).map(ask).collect();
        for answer in join_all(asks.iter().map(|ask| door.send(ask))).await {
            assert!(answer.status.is_success(), "{what}: {answer:?}");
        }
        assert_eq!(*lost_to.lock().unwrap(), Vec::<String>::new(), "{what}: nobody decides twice");
    }
}
