//! openraft's state machine on our storage: applies agreed transactions, makes and installs snapshots.
//!
//! What a transaction does is decided by `skep_ledger::apply`. Here the rows of entries that were agreed on together
//! are written in one batch with the new position, so that after a crash the state says by itself how far it goes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use skep_ledger::{Feed, OldestRequest, Outcome, Position, ReadError, Revision, Row, Rows, Txn, View, apply};
use skep_storage::{Checkpoint, Staging, StateView, Store};

use crate::codec::{self, AppliedPosition};
use crate::digest::{Chained, Digest};
use crate::digests::Digests;
use crate::log_store::failed;
use crate::pending::PendingRows;
use crate::types::{Entry, LogId, Membership, SnapshotMeta, TypeConfig};

/// Entries that are written together: enough to make a write cheap for each, few enough that the first does not wait.
const ENTRIES_TOGETHER_MAX: usize = 512;

/// Rows copied at a time when a checkpoint of our own has to be installed.
const INSTALL_CHUNK_BYTES: usize = 1024 * 1024;

/// A whole state: one of ours on disk, or one that a peer sent and that lies staged beside the current one.
pub(crate) enum StateFiles {
    Ours(Checkpoint),
    Received {
        rows: Staging,
        /// What the sender's replica had applied until then.
        digest: Digest,
    },
}

impl StateFiles {
    fn digest(&self) -> io::Result<Digest> {
        match self {
            StateFiles::Ours(checkpoint) => Ok(codec::position_from_bytes(checkpoint.position())?.digest),
            StateFiles::Received { digest, .. } => Ok(*digest),
        }
    }
}

type Responder = openraft::storage::ApplyResponder<TypeConfig>;
type Snapshot = openraft::alias::SnapshotOf<TypeConfig, StateFiles>;

/// The state of this replica.
pub(crate) struct StateMachine {
    store: Store,
    feed: Arc<Feed>,
    digests: Arc<Digests>,
    applied_term: Arc<AtomicU64>,
    position: AppliedPosition,
    oldest: OldestRequest,
    /// `position.membership` as it is stored.
    membership: Bytes,
}

/// What an applied entry means for those who wait for it or watch.
struct Decided {
    revision: Revision,
    digest: Digest,
    outcome: Outcome,
    /// The transaction, if it has changed something.
    changed: Option<Txn>,
    responder: Option<Responder>,
}

impl StateMachine {
    pub(crate) fn open(store: Store) -> io::Result<StateMachine> {
        let position = position_of(&store)?;
        let feed = Arc::new(Feed::starting_at(index(&position)));
        let membership = codec::membership_to_bytes(&position.membership)?;
        let digests = Arc::new(Digests::default());
        // Before the first entry there is nothing to compare; the first one has the index zero.
        if let Some(log_id) = &position.log_id {
            digests.note(log_id.index(), position.digest);
        }
        let term = position.log_id.as_ref().map_or(0, |log_id| log_id.committed_leader_id().term);
        let applied_term = Arc::new(AtomicU64::new(term));
        let oldest = OldestRequest::default();
        Ok(StateMachine { store, feed, digests, applied_term, position, oldest, membership })
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// The term of the newest applied entry, once everybody who waits for it has been told.
    pub(crate) fn applied_term(&self) -> &Arc<AtomicU64> {
        &self.applied_term
    }

    /// What other replicas are compared with.
    pub(crate) fn digests(&self) -> &Arc<Digests> {
        &self.digests
    }

    /// Applies entries as one write: each is decided on what those before it have changed.
    fn apply_together(&mut self, entries: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let mut rows = PendingRows::on(StoredRows(self.store.view()));
        let decided: Vec<Decided> = entries
            .into_iter()
            .map(|(entry, responder)| self.decide(&mut rows, entry, responder))
            .collect::<io::Result<_>>()?;
        let position =
            codec::position_to_bytes(self.position.log_id, &self.position.digest, &self.membership);
        self.store.apply(rows.into_changes(), &position).map_err(failed)?;
        for entry in decided {
            self.digests.note(entry.revision, entry.digest);
            match &entry.changed {
                Some(txn) => self.feed.publish(entry.revision, txn),
                None => self.feed.advance(entry.revision),
            }
            if let Some(responder) = entry.responder {
                responder.send(entry.outcome);
            }
        }
        let term = self.position.log_id.as_ref().map_or(0, |log_id| log_id.committed_leader_id().term);
        self.applied_term.store(term, Ordering::Release);
        Ok(())
    }

    fn decide(
        &mut self,
        rows: &mut PendingRows,
        entry: Entry,
        responder: Option<Responder>,
    ) -> io::Result<Decided> {
        let log_id = entry.log_id;
        let revision = log_id.index();
        let mut digest = Chained::after(&self.position.digest, revision);
        let (outcome, changed) = match entry.payload {
            EntryPayload::Blank => (Outcome::Nothing, None),
            EntryPayload::Membership(membership) => {
                self.position.membership = Membership::new(Some(log_id), membership);
                self.membership = codec::membership_to_bytes(&self.position.membership)?;
                (Outcome::Nothing, None)
            }
            EntryPayload::Normal(command) => {
                let txn = Txn::decode(&command.0).map_err(io::Error::other)?;
                let at = Position { revision, term: log_id.committed_leader_id().term };
                let applied = apply(rows, &txn, at, &mut self.oldest).map_err(io::Error::other)?;
                applied.changes.iter().for_each(|change| digest.add(change));
                rows.change(applied.changes);
                let changed = matches!(applied.outcome, Outcome::Committed(_)).then_some(txn);
                (applied.outcome, changed)
            }
        };
        self.position.log_id = Some(log_id);
        self.position.digest = digest.finish();
        Ok(Decided { revision, digest: self.position.digest, outcome, changed, responder })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = StateFiles;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.position.log_id, self.position.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = entries.ready_chunks(ENTRIES_TOGETHER_MAX);
        while let Some(together) = entries.next().await {
            self.apply_together(together.into_iter().collect::<io::Result<_>>()?)?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        // The checkpoint is taken here, while nothing else is applied, so data and position are of one instant.
        let store = self.store.clone();
        let taken = tokio::task::spawn_blocking(move || store.checkpoint()).await;
        Some(SnapshotBuilder(taken.map_err(io::Error::other).and_then(|taken| taken.map_err(failed))))
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder(self.store.checkpoint().map_err(failed))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: StateFiles) -> Result<(), io::Error> {
        let membership = codec::membership_to_bytes(&meta.last_membership)?;
        let digest = snapshot.digest()?;
        let bytes = codec::position_to_bytes(meta.last_log_id, &digest, &membership);
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || install(&store, snapshot, &bytes))
            .await
            .map_err(io::Error::other)??;
        self.position =
            AppliedPosition { log_id: meta.last_log_id, digest, membership: meta.last_membership.clone() };
        self.oldest = OldestRequest::default();
        self.membership = membership;
        self.digests.note(index(&self.position), digest);
        self.feed.reset(index(&self.position));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let Some(latest) = self.store.latest_checkpoint().map_err(failed)? else {
            return Ok(None);
        };
        let latest = snapshot(latest)?;
        if latest.meta.last_log_id >= purged(&self.store)? {
            return Ok(Some(latest));
        }
        // The process ended between an install and its checkpoint. An older snapshot does not reach the log that
        // is left, so nobody could be brought up to date with it.
        snapshot(self.store.checkpoint().map_err(failed)?).map(Some)
    }
}

/// A checkpoint that was taken when openraft asked for a builder.
pub(crate) struct SnapshotBuilder(io::Result<Checkpoint>);

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = StateFiles;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        match &self.0 {
            Ok(checkpoint) => snapshot(checkpoint.clone()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

fn snapshot(checkpoint: Checkpoint) -> io::Result<Snapshot> {
    let position = codec::position_from_bytes(checkpoint.position())?;
    let meta = SnapshotMeta { last_log_id: position.log_id, last_membership: position.membership };
    Ok(Snapshot { meta, snapshot: StateFiles::Ours(checkpoint) })
}

fn install(store: &Store, snapshot: StateFiles, position: &[u8]) -> io::Result<()> {
    let staging = match snapshot {
        StateFiles::Received { rows, .. } => rows,
        StateFiles::Ours(checkpoint) => {
            let staging = store.stage().map_err(failed)?;
            for chunk in checkpoint.chunks(INSTALL_CHUNK_BYTES).map_err(failed)? {
                staging.put(chunk.map_err(failed)?).map_err(failed)?;
            }
            staging
        }
    };
    staging.install(position).map_err(failed)?;
    // openraft expects the installed snapshot to be the current one, also after a restart.
    store.checkpoint().map_err(failed)?;
    Ok(())
}

fn position_of(store: &Store) -> io::Result<AppliedPosition> {
    codec::position_from_bytes(&store.position().map_err(failed)?.unwrap_or_default())
}

fn purged(store: &Store) -> io::Result<Option<LogId>> {
    store.purged().map_err(failed)?.map(|bytes| codec::from_json(&bytes)).transpose()
}

fn index(position: &AppliedPosition) -> u64 {
    position.log_id.as_ref().map_or(0, |log_id| log_id.index())
}

/// A view of the store, with the revision that it itself says it goes up to.
pub(crate) fn view(store: &Store) -> io::Result<View> {
    let rows = StoredRows(store.view());
    let revision = index_of(&rows.0)?;
    Ok(View::new(Arc::new(rows), revision))
}

/// Stands for a view when there is none: whoever reads it learns why.
pub(crate) fn unreadable_view(error: &io::Error) -> View {
    View::new(Arc::new(Unreadable(ReadError::new(error))), 0)
}

struct Unreadable(ReadError);

impl Rows for Unreadable {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Err(self.0.clone())
    }

    fn scan_from(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<Row>, ReadError> {
        Err(self.0.clone())
    }
}

pub(crate) struct StoredRows(pub(crate) StateView);

impl Rows for StoredRows {
    fn get(&self, row: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.get(row).map_err(ReadError::new)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Row>, ReadError> {
        self.0.scan_prefix_from(prefix, from).take(limit).collect::<Result<_, _>>().map_err(ReadError::new)
    }
}

/// The index that a view of the store goes up to.
pub(crate) fn index_of(view: &StateView) -> io::Result<u64> {
    codec::index_from_bytes(view.position().map_err(failed)?.unwrap_or_default())
}

/// The index that a store's state goes up to.
pub(crate) fn applied_index(store: &Store) -> io::Result<u64> {
    Ok(index(&position_of(store)?))
}

/// The membership of a store's state.
pub(crate) fn membership(store: &Store) -> io::Result<Membership> {
    Ok(position_of(store)?.membership)
}
