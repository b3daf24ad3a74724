//! The ledger in memory, and with it the state machine of every replica, against a model.

mod contract;

use std::sync::Arc;

use contract::{Ledgers, agrees_with_the_model, steps};
use proptest::prelude::*;
use skep_ledger::{Key, Ledger, MemoryLedger, Outcome, RequestId, Txn, View};

struct InMemory(Arc<MemoryLedger>);

impl Ledgers for InMemory {
    fn term(&self) -> u64 {
        self.0.term()
    }

    async fn propose(&mut self, _: usize, txn: Txn) -> Outcome {
        self.0.propose(txn).await.expect("is answered")
    }

    async fn view(&mut self, _: usize) -> View {
        self.0.fresh_view().await.expect("is answered")
    }

    fn count(&self) -> usize {
        1
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("starts").block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_interleaving_of_transactions_agrees_with_the_model(steps in steps(1..60)) {
        block_on(agrees_with_the_model(&mut InMemory(MemoryLedger::new()), &steps));
    }

    /// Whoever follows the changes and nothing else has the same objects in the end.
    #[test]
    fn the_changes_alone_tell_which_objects_there_are(steps in steps(1..40)) {
        block_on(async {
            // At one moment: older changes are forgotten after a while.
            let steps: Vec<_> = steps.into_iter().map(|step| contract::Step { later_minutes: 0, ..step }).collect();
            let ledger = MemoryLedger::new();
            let mut ledgers = InMemory(ledger.clone());
            agrees_with_the_model(&mut ledgers, &steps).await;
            let mut told = std::collections::BTreeMap::new();
            let mut watch = ledger.feed().watch(0);
            while watch.position() < ledger.view().revision() {
                let skep_ledger::WatchEvent::Changes(changes) = watch.next().await else {
                    panic!("so few changes are all remembered")
                };
                for change in changes {
                    for row in &change.rows {
                        told.insert(row.key.clone(), (!row.deleted).then_some(change.revision));
                    }
                }
            }
            for place in contract::Place::all() {
                let key = place.key();
                let found = ledger.view().bytes(&key).expect("is read").map(|(revision, _)| revision);
                assert_eq!(found, told.get(&key).copied().flatten(), "{key}");
            }
        });
    }
}

#[tokio::test]
async fn a_request_is_remembered_for_a_day_and_forgotten_some_time_after() {
    let ledger = MemoryLedger::new();
    let write = |id: u8, hours: i64| {
        let at = contract::beginning() + jiff::SignedDuration::from_hours(hours);
        let key = Key::new("t", "p", "i");
        Txn::decided(Some(RequestId::from_bytes([id; 16])), at, [], [(key, Some(vec![id]))])
    };
    for id in 0..10 {
        assert!(matches!(ledger.propose(write(id, 0)).await, Ok(Outcome::Committed(_))));
    }
    assert!(matches!(ledger.propose(write(3, 24)).await, Ok(Outcome::Replayed(4, _))));
    for id in 10..20 {
        assert!(matches!(ledger.propose(write(id, 25)).await, Ok(Outcome::Committed(_))));
    }
    let known = contract::remembered(&ledger.view(), 0..20);
    assert_eq!(known, (10..20).collect(), "those of yesterday are gone, those of today are not");
}

#[tokio::test]
async fn a_check_of_no_row_at_all_is_a_conflict_and_no_panic() {
    let ledger = MemoryLedger::new();
    for row in [vec![], vec![0xff], b"d".to_vec()] {
        let mut txn =
            Txn::decided(None, contract::beginning(), [], [(Key::new("t", "p", "i"), Some(vec![]))]);
        txn.checks.push(skep_ledger::Check { row, revision: 7 });
        let outcome = ledger.propose(txn).await;
        assert!(matches!(outcome, Ok(Outcome::Conflict(..))), "{outcome:?}");
    }
}
