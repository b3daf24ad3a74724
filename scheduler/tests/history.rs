//! The history of operations is bounded: the oldest go, the newest stay.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skep_ledger::{Ledger, MemoryLedger, Request, Term, View, transact};
use skep_model::fact::Fact;
use skep_model::ids::OperationId;
use skep_model::operation::{self, Operation, Subject};
use skep_model::{CLUSTER, Refusal};
use skep_scheduler::{Effect, EffectError, World};
use tokio::sync::watch;
use uuid::Uuid;

/// Nothing is done to the world here.
struct NoWorld;

#[async_trait]
impl World for NoWorld {
    async fn perform(
        &self,
        effect: &Effect,
        _: &View,
        _: &Operation,
        _: Term,
    ) -> Result<Vec<Fact>, EffectError> {
        panic!("nobody asked for: {effect}");
    }
}

#[tokio::test]
async fn of_many_ended_operations_the_newest_are_kept() {
    let ledger = MemoryLedger::new();
    let all: Vec<_> = (1..=1_200).map(|number| OperationId::new(Uuid::from_u128(number))).collect();
    transact(&*ledger, Request::new(), |tx| -> Result<(), Refusal> {
        for id in &all {
            let subject = Subject::new("host", id, "h");
            let mut operation = operation::start(tx, id.clone(), "create-host", subject, None, None)?;
            operation.prepare(["only"].into_iter());
            operation.advance(tx.now());
            operation::save(tx, &operation)?;
        }
        Ok(())
    })
    .await
    .expect("commits");
    let (_leader, leadership) = watch::channel(Some(ledger.term()));
    let scheduler =
        tokio::spawn(skep_scheduler::run(ledger.clone(), Arc::new(NoWorld), "m1".into(), leadership));
    let kept = tokio::time::timeout(Duration::from_secs(20), async {
        let mut changes = ledger.feed().latest();
        loop {
            let kept = ledger.view().list::<Operation>(CLUSTER).expect("reads");
            if kept.len() < all.len() {
                return kept;
            }
            changes.changed().await.expect("the ledger lives");
        }
    });
    let kept: Vec<_> = kept.await.expect("old ones go").into_iter().map(|stored| stored.record.id).collect();
    assert_eq!(kept, all[200..], "exactly the newest 1000 are kept");
    scheduler.abort();
}
