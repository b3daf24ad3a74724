//! The replicated state machine: what every replica does with an agreed transaction. Pure.
//!
//! ```text
//!   answered before? ──yes──► Replayed      (so a retry is harmless even if its checks no longer hold;
//!                                            a transaction without a request id is never a retry)
//!   other term?      ──yes──► Fenced
//!   a read changed?  ──yes──► Conflict
//!   otherwise all ops are written with this entry's revision
//! ```

use prost::Message as _;

use crate::oldest::{Age, OldestRequest};
use crate::txn::Remembered;
use crate::{Outcome, ReadError, Revision, Rows, Term, Txn, row};

/// How long a repeated request is still answered with its first outcome.
pub const REQUESTS_KEPT_FOR_HOURS: i64 = 24;

/// ... and for how many revisions at most, so that a busy day does not fill the disk.
pub const REQUESTS_KEPT_FOR_REVISIONS: u64 = 1_000_000;

/// Looking for expired requests costs as much as a small transaction, so it is done at every so many revisions.
const REQUESTS_FORGOTTEN_EVERY_REVISIONS: u64 = 16;

/// Expired requests forgotten at a time: more than are remembered meanwhile, so that the rows shrink after a busy day;
/// few, so that nobody waits for it.
const REQUESTS_FORGOTTEN_MAX: usize = 64;

/// Where in the log a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its index.
    pub revision: Revision,
    /// The term of the leader that appended it.
    pub term: Term,
}

/// A row to write (`Some`) or to delete (`None`).
pub type RowChange = (Vec<u8>, Option<Vec<u8>>);

/// What a transaction does to the rows, and what its proposer is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    /// For the proposer.
    pub outcome: Outcome,
    /// For the store, to be written in one batch with the position.
    pub changes: Vec<RowChange>,
}

/// Decides an agreed transaction on the rows as they are just before it. What it answers does not depend on what is known
/// of the `oldest` request, only how long it takes.
pub fn apply(
    rows: &dyn Rows,
    txn: &Txn,
    position: Position,
    oldest: &mut OldestRequest,
) -> Result<Applied, ReadError> {
    if let Some(replayed) = answered_before(rows, txn)? {
        return Ok(refused(replayed));
    }
    if txn.fence.is_some_and(|term| term != position.term) {
        return Ok(refused(Outcome::Fenced(position.term)));
    }
    for check in &txn.checks {
        let found = revision_of(rows, &check.row)?;
        if found != check.revision {
            return Ok(refused(Outcome::Conflict(check.name(), position.revision)));
        }
    }
    let mut changes = written(txn, position.revision);
    let remembered = (!txn.request.is_empty()).then(|| remember(txn, position.revision, &mut changes));
    if position.revision.is_multiple_of(REQUESTS_FORGOTTEN_EVERY_REVISIONS) {
        forget(rows, txn, position.revision, oldest, &mut changes)?;
    }
    // Only now: what is forgotten is looked for among the rows before this transaction.
    if let Some(age_row) = remembered {
        oldest.remembered(age_row, Age { at_ms: txn.at_ms, revision: position.revision });
    }
    Ok(Applied { outcome: Outcome::Committed(position.revision), changes })
}

fn refused(outcome: Outcome) -> Applied {
    Applied { outcome, changes: vec![] }
}

/// When a row was written; zero if it is not there.
pub(crate) fn revision_of(rows: &dyn Rows, row: &[u8]) -> Result<Revision, ReadError> {
    match rows.get(row)? {
        None => Ok(0),
        Some(stored) => match row::unstamp(&stored) {
            Some((revision, _)) => Ok(revision),
            None => Err(ReadError::malformed("row without revision")),
        },
    }
}

fn written(txn: &Txn, revision: Revision) -> Vec<RowChange> {
    let mut changes = Vec::with_capacity(txn.ops.len() + 4);
    let mut stamps = std::collections::BTreeSet::new();
    for op in &txn.ops {
        changes.push((op.row.clone(), op.value.as_ref().map(|value| row::stamp(revision, value))));
        stamps.extend(row::stamps(&op.row).into_iter().flatten());
    }
    changes.extend(stamps.into_iter().map(|stamp| (stamp, Some(row::stamp(revision, &[])))));
    changes
}

fn answered_before(rows: &dyn Rows, txn: &Txn) -> Result<Option<Outcome>, ReadError> {
    if txn.request.is_empty() {
        return Ok(None);
    }
    let Some(stored) = rows.get(&row::request(&txn.request))? else {
        return Ok(None);
    };
    let (revision, remembered) =
        Remembered::stored(&stored).ok_or_else(|| ReadError::malformed("request row"))?;
    Ok(Some(Outcome::Replayed(revision, remembered.answer)))
}

/// Answers the row that orders it by age.
fn remember(txn: &Txn, revision: Revision, changes: &mut Vec<RowChange>) -> Vec<u8> {
    let remembered = Remembered { at_ms: txn.at_ms, answer: txn.answer.clone() };
    let age_row = row::request_age(txn.at_ms, &txn.request);
    changes.push((row::request(&txn.request), Some(row::stamp(revision, &remembered.encode_to_vec()))));
    changes.push((age_row.clone(), Some(row::stamp(revision, &[]))));
    age_row
}

/// Forgets the oldest requests, if they are too old or too many have come since.
fn forget(
    rows: &dyn Rows,
    txn: &Txn,
    revision: Revision,
    oldest: &mut OldestRequest,
    changes: &mut Vec<RowChange>,
) -> Result<(), ReadError> {
    let oldest_kept_ms = txn.at_ms - REQUESTS_KEPT_FOR_HOURS * 3_600_000;
    let oldest_kept = revision.saturating_sub(REQUESTS_KEPT_FOR_REVISIONS);
    let kept = |age: &Age| age.at_ms >= oldest_kept_ms && age.revision >= oldest_kept;
    if oldest.age().as_ref().is_some_and(kept) {
        return Ok(());
    }
    for (age_row, stored) in rows.scan_from(row::REQUEST_AGES, oldest.from(), REQUESTS_FORGOTTEN_MAX)? {
        let Some((at_ms, id)) = row::parse_request_age(&age_row) else {
            return Err(ReadError::malformed("request age row"));
        };
        let age = Age { at_ms, revision: row::unstamp(&stored).map_or(revision, |(written, _)| written) };
        if kept(&age) {
            oldest.found(age_row, age);
            break;
        }
        oldest.forgotten(&age_row);
        changes.push((row::request(id), None));
        changes.push((age_row, None));
    }
    Ok(())
}
