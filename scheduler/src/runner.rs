//! Runs planners and engine while this manager leads: one task per operation, woken by every change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skep_ledger::{Ledger, Term};
use skep_model::CLUSTER;
use skep_model::ids::OperationId;
use skep_model::operation::Operation;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::engine::{Engine, Stop, Turned};
use crate::plan::{self, Picture};
use crate::world::World;

/// A pass without any change: deadlines pass, and pauses after failures end.
const PASS_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// Before the replicas are asked again after they could not be.
const UNAVAILABLE_PAUSE: Duration = Duration::from_millis(200);

/// Operations that have ended and can still be looked up. Every pass reads them, so there cannot be very many.
const OPERATIONS_KEPT_MAX: usize = 1_000;

/// So that not every new operation costs a transaction for an old one.
const OPERATIONS_FORGOTTEN_AT_ONCE: usize = 50;

/// Works whenever this manager leads, until the sender of `leadership` is gone. `node` is the manager's name.
pub(crate) async fn run(
    ledger: Arc<dyn Ledger>,
    world: Arc<dyn World>,
    node: String,
    mut leadership: watch::Receiver<Option<Term>>,
) {
    loop {
        let term = *leadership.borrow_and_update();
        match term {
            None => {
                if leadership.changed().await.is_err() {
                    return;
                }
            }
            Some(term) => {
                tracing::info!(term, "the scheduler starts");
                let engine = Arc::new(Engine::new(ledger.clone(), world.clone(), &node, term));
                // Dropping the future of `lead` ends all tasks of the term.
                tokio::select! {
                    stop = lead(engine) => tracing::info!(term, reason = %stop, "the scheduler stops"),
                    changed = leadership.changed() => {
                        tracing::info!(term, "the scheduler stops: leadership has changed");
                        if changed.is_err() {
                            return;
                        }
                        continue;
                    }
                }
                tokio::time::sleep(UNAVAILABLE_PAUSE).await;
            }
        }
    }
}

async fn lead(engine: Arc<Engine>) -> Stop {
    let mut tasks: JoinSet<OperationId> = JoinSet::new();
    let mut driven: BTreeSet<OperationId> = BTreeSet::new();
    let mut changes = engine.ledger().feed().latest();
    loop {
        changes.mark_unchanged();
        match pass(&engine).await {
            Ok(open) => {
                for id in open {
                    if driven.insert(id.clone()) {
                        tasks.spawn(drive(engine.clone(), id));
                    }
                }
            }
            Err(stop) => return stop,
        }
        tokio::select! {
            Some(done) = tasks.join_next() => match done {
                Ok(id) => {
                    driven.remove(&id);
                }
                Err(error) => return Stop::Unexpected(format!("a task of the scheduler ended badly: {error}")),
            },
            _ = changes.changed() => {}
            () = tokio::time::sleep(PASS_AT_LEAST_EVERY) => {}
        }
    }
}

/// Starts what the planners decide; answers the operations that have not ended.
async fn pass(engine: &Engine) -> Result<Vec<OperationId>, Stop> {
    let ledger = engine.ledger();
    for decision in plan::decide(&Picture::of(ledger.view(), ledger.now())?)? {
        tracing::info!(%decision, "a planner starts an operation");
        engine.start(&decision, OperationId::new(Uuid::now_v7())).await?;
    }
    let operations = ledger.view().list::<Operation>(CLUSTER)?;
    let (ended, open): (Vec<_>, Vec<_>) = operations.into_iter().partition(|operation| operation.ended());
    // Ids are ordered by time, and so is the list.
    let surplus = ended.len().saturating_sub(OPERATIONS_KEPT_MAX);
    if surplus >= OPERATIONS_FORGOTTEN_AT_ONCE {
        engine.forget(ended.iter().take(surplus).map(|operation| &operation.id)).await?;
    }
    Ok(open.into_iter().map(|operation| operation.record.id).collect())
}

/// Turns one operation until it has ended or somebody else must take it over.
async fn drive(engine: Arc<Engine>, id: OperationId) -> OperationId {
    let mut changes = engine.ledger().feed().latest();
    loop {
        changes.mark_unchanged();
        match engine.turn(&id).await {
            Ok(Turned::Moved) => {}
            Ok(Turned::Ended) => return id,
            Ok(Turned::Waits(None)) => {
                let _ = changes.changed().await;
            }
            Ok(Turned::Waits(Some(most))) => {
                let wake = tokio::time::timeout(most, changes.changed());
                let _ = wake.await;
            }
            Err(Stop::Deposed(term)) => {
                tracing::info!(operation.id = %id, term, "somebody else leads");
                return id;
            }
            Err(stop) => {
                tracing::warn!(operation.id = %id, error = %stop, "an operation could not be moved");
                tokio::time::sleep(UNAVAILABLE_PAUSE).await;
            }
        }
    }
}
