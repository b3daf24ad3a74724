//! A manager that has lost the others: what it knows it says, what it cannot know it does not pretend.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use jiff::Timestamp;
use serde_json::json;
use skep_ledger::{Feed, Ledger, MemoryLedger, Outcome, Txn, Unavailable, View};

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
    fn view(&self) -> View {
        self.ledger.view()
    }
    fn feed(&self) -> &Feed {
        self.ledger.feed()
    }
    fn now(&self) -> Timestamp {
        self.ledger.now()
    }
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
