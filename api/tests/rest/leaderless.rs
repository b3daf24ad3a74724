//! A manager that has lost the others: what it knows it says, what it cannot know it does not pretend.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use serde_json::json;
use skep_ledger::{Ledger, MemoryLedger, Outcome, ReadError, Row, Rows, Txn, Unavailable, View};

use crate::support::{Ask, Door, NoHosts, hub, identity, post};

/// A replica without a leader, or one whose leader goes silent after a proposal.
struct Lonely {
    ledger: Arc<MemoryLedger>,
    propose: Unavailable,
}

#[async_trait]
impl Ledger for Lonely {
    async fn propose(&self, _: Txn) -> Result<Outcome, Unavailable> {
        Err(self.propose.clone())
    }
    async fn fresh_view(&self) -> Result<View, Unavailable> {
        Err(Unavailable::NotStarted("no leader for 5 s".into()))
    }
    like_its_ledger!();
}

async fn lonely(propose: Unavailable) -> Door {
    Door::before(hub(&identity(), NoHosts::events()), |ledger| Arc::new(Lonely { ledger, propose })).await
}

fn no_leader() -> Unavailable {
    Unavailable::NotStarted("no leader for 5 s".into())
}

#[tokio::test]
async fn only_stale_reads_are_answered() {
    let door = lonely(no_leader()).await;
    let answer = door.get("/v1/environments").await;
    answer.is_problem(503, "SKP-3001");
    assert_eq!((&answer.body["outcome"], &answer.body["retryable"]), (&json!("not_started"), &json!(true)));
    assert_eq!(answer.header("retry-after"), "1");
    let answer = door.get("/v1/environments?consistency=stale").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for path in ["/v1/cluster", "/v1/meta", "/v1/whoami"] {
        assert_eq!(door.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_known_here_may_exist_elsewhere() {
    let door = lonely(no_leader()).await;
    let answer =
        door.send(&Ask::new(Method::GET, "/v1/meta").with("authorization", "Bearer skp_new_token")).await;
    answer.is_problem(503, "SKP-3001");
}

#[tokio::test]
async fn a_change_says_whether_it_may_have_happened() {
    for (propose, code, outcome) in [
        (no_leader(), "SKP-3001", "not_started"),
        (Unavailable::Unknown("the leader went silent".into()), "SKP-3002", "unknown"),
    ] {
        let door = lonely(propose).await;
        let answer =
            door.send(&post("/v1/environments", json!({"name": "prod", "template": "default"}))).await;
        answer.is_problem(503, code);
        assert_eq!(answer.body["outcome"], outcome);
    }
}

#[tokio::test]
async fn a_change_that_is_too_large_is_not_tried() {
    let door = lonely(Unavailable::TooLarge { bytes: 9, limit_bytes: 8 }).await;
    let answer = door.send(&post("/v1/environments", json!({"name": "prod", "template": "default"}))).await;
    answer.is_problem(413, "SKP-1402");
    assert_eq!(answer.body["params"], json!({"bytes": 9, "limit_bytes": 8}));
}

#[tokio::test]
async fn an_object_that_is_too_large_is_named() {
    let object = "environment/prod".to_owned();
    let door = lonely(Unavailable::ObjectTooLarge { object, bytes: 9, limit_bytes: 8 }).await;
    let answer = door.send(&post("/v1/environments", json!({"name": "prod", "template": "default"}))).await;
    answer.is_problem(413, "SKP-1403");
    assert_eq!(answer.body["params"], json!({"object": "environment/prod", "bytes": 9, "limit_bytes": 8}));
}

/// A replica on which others always come first, and whose newest state cannot be read.
struct Troubled {
    ledger: Arc<MemoryLedger>,
    unreadable: bool,
}

struct Unreadable;

impl Rows for Unreadable {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Err(ReadError::new("a block has the wrong checksum"))
    }
    fn scan_from(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<Row>, ReadError> {
        Err(ReadError::new("a block has the wrong checksum"))
    }
}

#[async_trait]
impl Ledger for Troubled {
    async fn propose(&self, _: Txn) -> Result<Outcome, Unavailable> {
        Ok(Outcome::Conflict("environment/prod".into(), self.ledger.view().revision()))
    }
    async fn fresh_view(&self) -> Result<View, Unavailable> {
        let view = self.ledger.view();
        Ok(if self.unreadable { View::new(Arc::new(Unreadable), view.revision()) } else { view })
    }
    like_its_ledger!();
}

async fn troubled(unreadable: bool) -> Door {
    let wrap = |ledger| Arc::new(Troubled { ledger, unreadable }) as Arc<dyn Ledger>;
    Door::before(hub(&identity(), NoHosts::events()), wrap).await
}

#[tokio::test]
async fn who_always_comes_second_is_told_so_and_has_changed_nothing() {
    let door = troubled(false).await;
    let answer = door.send(&post("/v1/environments", json!({"name": "prod", "template": "default"}))).await;
    answer.is_problem(409, "SKP-1304");
    assert_eq!((&answer.body["outcome"], &answer.body["retryable"]), (&json!("not_started"), &json!(true)));
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_this_managers_trouble_and_is_said() {
    let answer = troubled(true).await.get("/v1/environments").await;
    answer.is_problem(500, "SKP-9001");
    assert!(answer.detail().contains("checksum"), "{answer:?}");
}

/// A replica with a mistake in it.
struct Mistaken {
    ledger: Arc<MemoryLedger>,
}

#[async_trait]
impl Ledger for Mistaken {
    async fn propose(&self, _: Txn) -> Result<Outcome, Unavailable> {
        panic!("what was asked is a planted detail");
    }
    async fn fresh_view(&self) -> Result<View, Unavailable> {
        panic!("what was asked is a planted detail");
    }
    like_its_ledger!();
}

#[tokio::test]
async fn a_mistake_of_the_manager_costs_one_request_and_is_told_without_its_details() {
    let wrap = |ledger| Arc::new(Mistaken { ledger }) as Arc<dyn Ledger>;
    let door = Door::before(hub(&identity(), NoHosts::events()), wrap).await;
    let change = post("/v1/environments", json!({"name": "prod", "template": "default"}));
    for (ask, outcome) in
        [(Ask::new(Method::GET, "/v1/environments"), json!(null)), (change, json!("unknown"))]
    {
        let answer = door.send(&ask).await;
        answer.is_problem(500, "SKP-9002");
        assert_eq!(answer.body["outcome"], outcome);
        assert!(
            answer.body["request_id"].is_string() && !answer.body.to_string().contains("planted"),
            "{answer:?}"
        );
    }
    assert_eq!(door.get("/v1/environments?consistency=stale").await.status, 200);
}
