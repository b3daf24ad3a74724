//! What users of the ledger rely on, shown on the in-memory ledger: the state machine is the same one.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use skep_ledger::{
    Feed, Ledger, MemoryLedger, Outcome, ReadError, Record, Request, RequestId, TransactError, Tx, Txn,
    Unavailable, View, WatchEvent, transact,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Account {
    owner: String,
    bank: String,
    balance: i64,
}

impl Record for Account {
    const TABLE: &'static str = "account";
    fn partition(&self) -> &str {
        &self.bank
    }
    fn id(&self) -> String {
        self.owner.clone()
    }
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("not enough")]
    NotEnough,
    #[error(transparent)]
    Read(#[from] ReadError),
}

fn deposit(tx: &mut Tx<'_>, owner: &str, amount: i64) -> Result<i64, Refusal> {
    let found = tx.get::<Account>("b", owner)?;
    let balance = found.map_or(0, |account| account.balance) + amount;
    if balance < 0 {
        return Err(Refusal::NotEnough);
    }
    tx.put(&Account { owner: owner.into(), bank: "b".into(), balance });
    Ok(balance)
}

#[tokio::test]
async fn a_committed_change_is_seen_with_its_revision() {
    let ledger = MemoryLedger::new();
    let done = transact(&*ledger, Request::new(), |tx| deposit(tx, "ann", 5)).await.expect("commits");
    let ann = ledger.view().get::<Account>("b", "ann").expect("reads").expect("exists");
    assert_eq!((ann.balance, ann.revision), (5, done.revision));
}

#[tokio::test]
async fn a_refusal_changes_nothing() {
    let ledger = MemoryLedger::new();
    let refused = transact(&*ledger, Request::new(), |tx| deposit(tx, "ann", -1)).await;
    assert!(matches!(refused, Err(TransactError::Refused(Refusal::NotEnough))));
    assert_eq!(ledger.view().revision(), 0);
}

#[tokio::test]
async fn a_repeated_request_changes_things_once_and_gets_the_first_answer() {
    let ledger = MemoryLedger::new();
    let id = RequestId::new();
    let first =
        transact(&*ledger, Request::repeatable(id), |tx| deposit(tx, "ann", 5)).await.expect("commits");
    let again =
        transact(&*ledger, Request::repeatable(id), |tx| deposit(tx, "ann", 5)).await.expect("is answered");
    assert_eq!((again.answer, again.revision, again.replayed), (first.answer, first.revision, true));
    assert_eq!(ledger.view().get::<Account>("b", "ann").expect("reads").expect("exists").balance, 5);
}

#[tokio::test]
async fn a_repeated_request_is_answered_even_if_its_rule_would_refuse_by_now() {
    let ledger = MemoryLedger::new();
    transact(&*ledger, Request::new(), |tx| deposit(tx, "ann", 5)).await.expect("commits");
    let id = RequestId::new();
    let withdraw = || Request::repeatable(id);
    let first = transact(&*ledger, withdraw(), |tx| deposit(tx, "ann", -5)).await.expect("commits");
    let again = transact(&*ledger, withdraw(), |tx| deposit(tx, "ann", -5)).await.expect("is answered");
    assert_eq!((again.answer, again.replayed), (first.answer, true));
}

/// A ledger on whose way everything arrives twice.
struct Echoing {
    ledger: Arc<MemoryLedger>,
    /// What is told of the first transaction instead of what became of it.
    told: Mutex<Option<Outcome>>,
}

#[async_trait]
impl Ledger for Echoing {
    async fn propose(&self, txn: Txn) -> Result<Outcome, Unavailable> {
        self.ledger.propose(txn.clone()).await?;
        let second = self.ledger.propose(txn).await?;
        Ok(self.told.lock().expect("is whole").take().unwrap_or(second))
    }
    async fn fresh_view(&self) -> Result<View, Unavailable> {
        self.ledger.fresh_view().await
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

#[tokio::test]
async fn what_arrives_twice_counts_once_and_nothing_has_to_be_remembered_of_it() {
    let echoing = Echoing { ledger: MemoryLedger::new(), told: Mutex::default() };
    let done = transact(&echoing, Request::new(), |tx| deposit(tx, "ann", 5)).await.expect("commits");
    assert_eq!((done.answer, done.revision, done.replayed), (5, 1, false));
    assert_eq!(echoing.view().get::<Account>("b", "ann").expect("reads").expect("exists").balance, 5);
}

#[tokio::test]
async fn an_attempt_that_comes_through_after_it_had_lost_is_not_answered_for() {
    let lost = Outcome::Conflict("account/b/ann".into(), 1);
    let echoing = Echoing { ledger: MemoryLedger::new(), told: Mutex::new(Some(lost)) };
    let told = transact(&echoing, Request::new(), |tx| deposit(tx, "ann", 5)).await;
    assert!(matches!(told, Err(TransactError::Unavailable(Unavailable::Unknown(_)))), "{told:?}");
}

#[tokio::test]
async fn requests_are_forgotten_after_a_day() {
    let ledger = MemoryLedger::new();
    let id = RequestId::new();
    transact(&*ledger, Request::repeatable(id), |tx| deposit(tx, "ann", 5)).await.expect("commits");
    ledger.set_now(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(25));
    // Expired requests are looked for now and then only.
    for _ in 0..20 {
        transact(&*ledger, Request::new(), |tx| deposit(tx, "bob", 1)).await.expect("commits");
    }
    let again =
        transact(&*ledger, Request::repeatable(id), |tx| deposit(tx, "ann", 5)).await.expect("commits");
    assert!(!again.replayed);
}

#[tokio::test]
async fn another_term_refuses_what_was_decided_in_this_one() {
    let ledger = MemoryLedger::new();
    let request = Request::fenced(ledger.term());
    ledger.next_term();
    let refused = transact(&*ledger, request, |tx| deposit(tx, "ann", 5)).await;
    assert!(matches!(refused, Err(TransactError::Fenced(2))));
}

#[tokio::test]
async fn a_list_conflicts_with_an_insert_into_its_partition() {
    let ledger = MemoryLedger::new();
    let mut rounds = 0;
    let total = transact(&*ledger, Request::new(), |tx| {
        rounds += 1;
        let total: i64 = tx.list::<Account>("b")?.iter().map(|account| account.balance).sum();
        if rounds == 1 {
            // Somebody else commits between this rule's read and its proposal.
            let other = ledger.clone();
            futures_block(async move {
                transact(&*other, Request::new(), |tx| deposit(tx, "eve", 7)).await.expect("commits");
            });
        }
        tx.put(&Account { owner: "sum".into(), bank: "totals".into(), balance: total });
        Ok::<_, Refusal>(total)
    })
    .await
    .expect("commits in the second round");
    assert_eq!((total.answer, rounds), (7, 2));
}

fn futures_block(work: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().build().expect("starts").block_on(work);
    })
    .join()
    .expect("finishes");
}

#[tokio::test]
async fn a_watch_tells_every_change_once_and_in_order() {
    let ledger = MemoryLedger::new();
    for amount in 1..=3 {
        transact(&*ledger, Request::new(), |tx| deposit(tx, "ann", amount)).await.expect("commits");
    }
    let mut watch = ledger.feed().watch(1);
    let WatchEvent::Changes(changes) = watch.next().await else { panic!("no reset is due") };
    assert_eq!(changes.iter().map(|change| change.revision).collect::<Vec<_>>(), [2, 3]);
    transact(&*ledger, Request::new(), |tx| deposit(tx, "bob", 1)).await.expect("commits");
    let WatchEvent::Changes(changes) = watch.next().await else { panic!("no reset is due") };
    assert_eq!(changes[0].rows[0].key.id, "bob");
}

#[tokio::test]
async fn a_watch_behind_the_history_is_reset() {
    let ledger = MemoryLedger::new();
    ledger.feed().reset(10);
    assert_eq!(ledger.feed().watch(4).next().await, WatchEvent::Reset(10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Transfers keep the sum whatever their order; the ledger agrees with a plain map at every step.
    #[test]
    fn agrees_with_a_plain_map(deposits in proptest::collection::vec((0u8..4, -5i64..10), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("starts");
        runtime.block_on(async {
            let ledger = MemoryLedger::new();
            let mut model = std::collections::BTreeMap::<String, i64>::new();
            for (owner, amount) in deposits {
                let owner = format!("owner-{owner}");
                let done = transact(&*ledger, Request::new(), |tx| deposit(tx, &owner, amount)).await;
                let balance = model.get(&owner).copied().unwrap_or(0) + amount;
                if balance >= 0 {
                    model.insert(owner, balance);
                }
                assert_eq!(done.is_ok(), balance >= 0);
            }
            let found: std::collections::BTreeMap<_, _> = ledger.view().list_all::<Account>().expect("reads")
                .into_iter().map(|account| (account.owner.clone(), account.balance)).collect();
            assert_eq!(found, model);
        });
    }
}
