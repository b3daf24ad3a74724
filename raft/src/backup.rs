//! The state of a cluster out to a backup, and from a backup into the data folders of a new cluster.
//!
//! Neither knows the form of the file. What goes out is a view: changes go on meanwhile, and nothing waits.
//!
//! A restored replica looks as if it had applied everything up to one position and had let the log behind it go:
//!
//! ```text
//!   rows of the backup ─► one change on top of them ─► position (term, revision + 1), membership of the new managers
//!   epoch + 1 · vote of a much later term · log purged up to the position · a snapshot of it
//! ```
//! Every new manager gets the same, so none of them has to be sent anything, and any majority of them can elect.
//!
//! Terms go on, and jump: hosts refuse a term that is lower than the highest that they have obeyed, and the old cluster
//! may have gone on after the backup was taken.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use openraft::Membership as OpenMembership;
use skep_ledger::{
    Ledger as _, OldestRequest, Outcome, Position, ReadError, Revision, Row, Term, Txn, Unavailable, View,
    apply,
};
use skep_storage::{Identity, RowChange, Staging, StateView, StorageError, Store};

use crate::codec;
use crate::digest::{Chained, Digest};
use crate::log_store::failed;
use crate::replica::Replica;
use crate::state_machine::{self, StoredRows};
use crate::types::{LogId, ManagerNode, Membership, Vote};

/// Terms between a backup and what is restored from it: more than elections can use up in the life of a cluster.
const TERMS_SKIPPED: Term = 1_000_000;

/// The state of a cluster at one revision, for as long as it is kept.
pub struct Export {
    /// The newest change in it.
    pub revision: Revision,
    /// The term of that change.
    pub term: Term,
    /// The epoch of the cluster.
    pub epoch: u64,
    /// The highest number of a member; the caller may know of higher ones that were given.
    pub highest_node: u64,
    view: StateView,
}

impl Replica {
    /// The state of now. `fresh` waits until it contains everything that was acknowledged anywhere; otherwise it is
    /// what this replica has, also without a leader.
    pub async fn export(&self, fresh: bool) -> Result<Export, Unavailable> {
        if fresh {
            self.fresh_view().await?;
        }
        let export = exported(self.store().view(), self.epoch());
        export.map_err(|error| Unavailable::NotStarted(format!("reading the state: {error}")))
    }
}

fn exported(view: StateView, epoch: u64) -> io::Result<Export> {
    let position = codec::position_from_bytes(view.position().map_err(failed)?.unwrap_or_default())?;
    let at = position.log_id.ok_or_else(|| io::Error::other("nothing was ever agreed on here"))?;
    let highest_node = position.membership.membership().nodes().map(|(id, _)| *id).max().unwrap_or(0);
    Ok(Export { revision: at.index(), term: at.committed_leader_id().term, epoch, highest_node, view })
}

impl Export {
    /// All rows, in the order of their keys, read as they are asked for. Blocks.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row, ReadError>> {
        self.view.scan_prefix(b"").map(|row| row.map_err(ReadError::new))
    }
}

/// What was wrong with a restore. The folder is not one that a manager may be started on.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The data directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The rows or openraft's records.
    #[error("restoring the state: {0}")]
    State(#[from] io::Error),
    /// The change on top of the backup did not apply.
    #[error("restoring the state: the change that completes it was answered with {0:?}")]
    Change(Outcome),
}

/// Where a backup stands, and what its replicas are from now on.
#[derive(Debug, Clone)]
pub struct RestorePoint {
    /// The newest change in the backup.
    pub revision: Revision,
    /// The term of that change.
    pub term: Term,
    /// The new epoch.
    pub epoch: u64,
    /// The managers of the new cluster, each a voter.
    pub managers: BTreeMap<u64, ManagerNode>,
}

/// The data of one new manager that is being written. Dropped without [`Restoration::finish`], it is worthless.
pub struct Restoration {
    store: Store,
    staging: Staging,
    node: u64,
    /// Of the rows, so that the managers can be compared with each other from the beginning.
    digest: Chained,
}

impl Restoration {
    /// Begins in an empty folder.
    pub fn begin(dir: &Path, cluster: &str, node: u64) -> Result<Restoration, RestoreError> {
        let store = Store::open(dir, &Identity { cluster: cluster.to_owned(), node })?;
        let staging = store.stage()?;
        let digest = Chained::after(&Digest::default(), 0);
        Ok(Restoration { store, staging, node, digest })
    }

    /// Adds rows of the backup, in their order.
    pub fn put(&mut self, rows: Vec<Row>) -> Result<(), RestoreError> {
        let changes = rows.into_iter().map(|(row, value)| (row, Some(value)));
        let rows =
            changes.inspect(|change| self.digest.add(change)).filter_map(|(row, value)| Some((row, value?)));
        Ok(self.staging.put(rows.collect())?)
    }

    /// Makes the rows a replica's state with one `change` on top, which must be the same for every manager. What is
    /// here is durable when this returns.
    pub fn finish(
        self,
        point: &RestorePoint,
        change: impl FnOnce(&View) -> Result<Txn, ReadError>,
    ) -> Result<(), RestoreError> {
        let Restoration { store, staging, node, digest } = self;
        let (backup, digest) = (LogId::new_term_index(point.term, point.revision), digest.finish());
        staging.install(&position(backup, &digest, &point.managers)?)?;
        let txn = change(&state_machine::view(&store)?).map_err(io::Error::other)?;
        let last = LogId::new_term_index(point.term, point.revision + 1);
        write_change(&store, &txn, last, &digest, point)?;
        // The vote comes before the purge: a log that is empty and was never voted on is taken for a lost one.
        store.save_vote(&codec::to_json(&Vote::new(point.term + TERMS_SKIPPED, node))?)?;
        store.begin_epoch(point.epoch)?;
        store.purge(last.index(), &codec::to_json(&last)?)?;
        store.checkpoint()?;
        Ok(())
    }
}

fn position(last: LogId, digest: &Digest, managers: &BTreeMap<u64, ManagerNode>) -> io::Result<Vec<u8>> {
    let voters = managers.keys().copied().collect();
    let membership = OpenMembership::new(vec![voters], managers.clone()).map_err(io::Error::other)?;
    let membership = codec::membership_to_bytes(&Membership::new(Some(last), membership))?;
    Ok(codec::position_to_bytes(Some(last), digest, &membership))
}

/// As an entry of the log would be applied.
fn write_change(
    store: &Store,
    txn: &Txn,
    last: LogId,
    before: &Digest,
    point: &RestorePoint,
) -> Result<(), RestoreError> {
    let at = Position { revision: last.index(), term: point.term };
    let applied = apply(&StoredRows(store.view()), txn, at, &mut OldestRequest::default());
    let applied = applied.map_err(io::Error::other)?;
    if !matches!(applied.outcome, Outcome::Committed(_)) {
        return Err(RestoreError::Change(applied.outcome));
    }
    let mut digest = Chained::after(before, last.index());
    applied.changes.iter().for_each(|change| digest.add(change));
    let changes = applied.changes.into_iter().map(|(row, value)| match value {
        Some(value) => RowChange::Put(row, value),
        None => RowChange::Delete(row),
    });
    let position = position(last, &digest.finish(), &point.managers)?;
    Ok(store.apply(changes.collect(), &position)?)
}
