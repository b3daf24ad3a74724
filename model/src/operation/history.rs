//! How long operations that have ended are remembered.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use skep_ledger::Tx;

use super::{Operation, queue};
use crate::Ruling;
use crate::ids::OperationId;

/// After that nobody asks any more; whoever must know for longer keeps the events.
pub const KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Ended operations that can still be looked up, however young: lists read all of them.
pub const KEPT_MAX: usize = 1_000;

/// Which operations are forgotten now, oldest first: those that ended too long ago, and the oldest of too many.
///
/// `operations` are all there are, in the order of their ids, which is the order of time. Those of an operation that
/// has not ended stay with it.
pub fn forgotten<'a>(operations: impl Iterator<Item = &'a Operation>, now: Timestamp) -> Vec<OperationId> {
    let all: Vec<_> = operations.collect();
    let open: BTreeSet<_> = all.iter().filter(|operation| !operation.ended()).map(|open| &open.id).collect();
    let ended: Vec<_> = all
        .iter()
        .filter(|operation| {
            operation.ended() && !operation.parent.as_ref().is_some_and(|id| open.contains(id))
        })
        .collect();
    let surplus = ended.len().saturating_sub(KEPT_MAX);
    let old = |operation: &Operation| operation.ended_at.is_some_and(|at| now.duration_since(at) > KEPT_FOR);
    let gone = ended.iter().enumerate().filter(|(index, operation)| *index < surplus || old(operation));
    gone.map(|(_, operation)| operation.id.clone()).collect()
}

/// Forgets these, with everything that was said about them.
pub fn forget(tx: &mut Tx<'_>, ids: &[OperationId]) -> Ruling<()> {
    queue::forget_all(tx, ids)
}
