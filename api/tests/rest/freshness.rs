//! How new an answer is: what clients may ask for, and what answers say.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use jiff::Timestamp;
use skep_ledger::{Contact, Feed, Ledger, MemoryLedger, Outcome, Txn, Unavailable, View};

use crate::support::{Ask, Door, NoHosts, hub, identity};

/// A follower that has lost its leader a while ago.
struct Behind(Arc<MemoryLedger>);

#[async_trait]
impl Ledger for Behind {
    async fn propose(&self, txn: Txn) -> Result<Outcome, Unavailable> {
        self.0.propose(txn).await
    }
    async fn fresh_view(&self) -> Result<View, Unavailable> {
        self.0.fresh_view().await
    }
    fn view(&self) -> View {
        self.0.view()
    }
    fn feed(&self) -> &Feed {
        self.0.feed()
    }
    fn now(&self) -> Timestamp {
        self.0.now()
    }
    fn contact(&self) -> Contact {
        Contact { leader_known: false, age: Duration::from_millis(1_234) }
    }
}

#[tokio::test]
async fn answers_say_how_they_were_read() {
    let door = Door::new().await;
    for (path, mode) in [
        ("/v1/environments", "consistent"),
        ("/v1/environments?consistency=consistent", "consistent"),
        ("/v1/environments?consistency=stale", "stale"),
        ("/v1/operations?consistency=stale", "stale"),
        ("/v1/operations", "consistent"),
        ("/v1/meta", "stale"),
    ] {
        let answer = door.get(path).await;
        assert_eq!(answer.header("skep-consistency"), mode, "{path}");
        assert_eq!((answer.header("skep-known-leader"), answer.header("skep-last-contact")), ("true", "0"));
    }
}

#[tokio::test]
async fn a_stale_answer_says_how_old_it_may_be() {
    let door = Door::before(hub(&identity(), NoHosts::events()), |ledger| Arc::new(Behind(ledger))).await;
    let answer = door.get("/v1/environments?consistency=stale").await;
    assert_eq!((answer.header("skep-known-leader"), answer.header("skep-last-contact")), ("false", "1234"));
}

#[tokio::test]
async fn a_manager_that_is_behind_waits_for_what_the_client_has_seen() {
    let door = Door::new().await;
    let next = door.ledger.view().revision() + 1;
    let ask = Ask::new(Method::GET, "/v1/environments?consistency=stale")
        .with("skep-min-revision", &next.to_string());
    let (answer, _) = tokio::join!(door.send(&ask), door.environment("prod"));
    assert_eq!(answer.body["items"][0]["metadata"]["name"], "prod");
    assert!(answer.header("skep-revision").parse::<u64>().unwrap() >= next);
}

#[tokio::test]
async fn a_revision_that_does_not_come_is_told() {
    let door = Door::new().await;
    let ask = Ask::new(Method::GET, "/v1/environments").with("skep-min-revision", "1000000");
    let answer = door.send(&ask).await;
    answer.is_problem(503, "SKP-3010");
    assert!(answer.detail().contains("1000000") && answer.body["retryable"] == true, "{answer:?}");
    door.get("/v1/events?since=1000000").await.is_problem(503, "SKP-3010");
}

#[tokio::test]
async fn a_revision_that_is_none_is_refused() {
    let door = Door::new().await;
    let ask = Ask::new(Method::GET, "/v1/environments").with("skep-min-revision", "yesterday");
    door.send(&ask).await.is_problem(400, "SKP-1001");
}
