//! openraft's state machine on our storage: applies agreed transactions, makes and installs snapshots.
//!
//! What a transaction does is decided by `skep_ledger::apply`. Here its rows and the new position are written in
//! one batch, so that after a crash the state says by itself how far it goes.

use std::io;
use std::sync::Arc;

use futures::{Stream, TryStreamExt as _};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use skep_ledger::{Feed, Outcome, Position, ReadError, Row, Rows, Txn, View, apply};
use skep_storage::{Checkpoint, RowChange, Staging, StateView, Store};

use crate::codec::{self, AppliedPosition};
use crate::log_store::failed;
use crate::types::{Command, LogId, ManagerNode, Membership, SnapshotMeta, TypeConfig};

/// Rows copied at a time when a checkpoint of our own has to be installed.
const INSTALL_CHUNK_BYTES: usize = 1024 * 1024;

/// A whole state: one of ours on disk, or one that a peer sent and that lies staged beside the current one.
pub(crate) enum StateFiles {
    Ours(Checkpoint),
    Received(Staging),
}

type Payload = EntryPayload<Command, u64, ManagerNode>;
type Snapshot = openraft::alias::SnapshotOf<TypeConfig, StateFiles>;

/// The state of this replica.
pub(crate) struct StateMachine {
    store: Store,
    feed: Arc<Feed>,
    position: AppliedPosition,
}

impl StateMachine {
    pub(crate) fn open(store: Store) -> io::Result<StateMachine> {
        let position = position_of(store.position().map_err(failed)?.as_deref())?;
        let feed = Arc::new(Feed::starting_at(index(&position)));
        Ok(StateMachine { store, feed, position })
    }

    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    fn apply_entry(&mut self, log_id: LogId, payload: Payload) -> io::Result<Outcome> {
        self.position.log_id = Some(log_id);
        let revision = log_id.index();
        match payload {
            EntryPayload::Blank => self.write(vec![])?,
            EntryPayload::Membership(membership) => {
                self.position.membership = Membership::new(Some(log_id), membership);
                self.write(vec![])?;
            }
            EntryPayload::Normal(command) => {
                let txn = Txn::decode(&command.0).map_err(io::Error::other)?;
                let at = Position { revision, term: log_id.committed_leader_id().term };
                let rows = StoredRows(self.store.view());
                let applied = apply(&rows, &txn, at).map_err(io::Error::other)?;
                self.write(applied.changes)?;
                match applied.outcome {
                    Outcome::Committed(_) => self.feed.publish(revision, &txn),
                    _ => self.feed.advance(revision),
                }
                return Ok(applied.outcome);
            }
        }
        self.feed.advance(revision);
        Ok(Outcome::Nothing)
    }

    fn write(&self, changes: Vec<skep_ledger::RowChange>) -> io::Result<()> {
        let changes = changes
            .into_iter()
            .map(|(row, value)| match value {
                Some(value) => RowChange::Put(row, value),
                None => RowChange::Delete(row),
            })
            .collect();
        self.store.apply(changes, &codec::to_json(&self.position)?).map_err(failed)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = StateFiles;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.position.log_id, self.position.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let outcome = self.apply_entry(entry.log_id, entry.payload)?;
            if let Some(responder) = responder {
                responder.send(outcome);
            }
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
        let position = AppliedPosition { log_id: meta.last_log_id, membership: meta.last_membership.clone() };
        let (store, bytes) = (self.store.clone(), codec::to_json(&position)?);
        tokio::task::spawn_blocking(move || install(&store, snapshot, &bytes))
            .await
            .map_err(io::Error::other)??;
        self.feed.reset(index(&position));
        self.position = position;
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
    let position = position_of(Some(checkpoint.position()))?;
    let meta = SnapshotMeta { last_log_id: position.log_id, last_membership: position.membership };
    Ok(Snapshot { meta, snapshot: StateFiles::Ours(checkpoint) })
}

fn install(store: &Store, snapshot: StateFiles, position: &[u8]) -> io::Result<()> {
    let staging = match snapshot {
        StateFiles::Received(staging) => staging,
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

pub(crate) fn position_of(bytes: Option<&[u8]>) -> io::Result<AppliedPosition> {
    // An empty position belongs to a state to which nothing was ever applied.
    match bytes {
        Some(bytes) if !bytes.is_empty() => codec::from_json(bytes),
        _ => Ok(AppliedPosition::default()),
    }
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
    let position = position_of(rows.0.position().map_err(failed)?.as_deref())?;
    let revision = index(&position);
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

    fn scan(&self, _: &[u8], _: usize) -> Result<Vec<Row>, ReadError> {
        Err(self.0.clone())
    }
}

pub(crate) struct StoredRows(pub(crate) StateView);

impl Rows for StoredRows {
    fn get(&self, row: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.get(row).map_err(ReadError::new)
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Result<Vec<Row>, ReadError> {
        self.0.scan_prefix(prefix).take(limit).collect::<Result<_, _>>().map_err(ReadError::new)
    }
}

/// The index that a view of the store goes up to.
pub(crate) fn index_of(view: &StateView) -> io::Result<u64> {
    Ok(index(&position_of(view.position().map_err(failed)?.as_deref())?))
}

/// The index that a store's state goes up to.
pub(crate) fn applied_index(store: &Store) -> io::Result<u64> {
    index_of(&store.view())
}

/// The membership of a store's state.
pub(crate) fn membership(store: &Store) -> io::Result<Membership> {
    Ok(position_of(store.position().map_err(failed)?.as_deref())?.membership)
}
