//! openraft's log on our storage. What must be durable when is said in openraft's documentation of each method;
//! `skep_storage` keeps it with one write-ahead log and one syncing thread.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, entry::RaftEntry};
use skep_storage::{StorageError, Store};

use crate::codec;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Entries sent to a follower in one message stay well below the message limit of the peer link.
const REPLICATED_BYTES_MAX: usize = 1024 * 1024;

/// The log of this replica.
#[derive(Clone)]
pub(crate) struct LogStore(pub(crate) Store);

impl LogStore {
    fn entries(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let found = self.0.entries(from, to, bytes_max).map_err(failed)?;
        found.iter().map(|(_, bytes)| codec::entry_from_bytes(bytes)).collect()
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.entries(start, end, REPLICATED_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.0.vote().map_err(failed)?.map(|bytes| codec::from_json(&bytes)).transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.0.purged().map_err(failed)?;
        let last_purged_log_id = purged.map(|bytes| codec::from_json::<LogId>(&bytes)).transpose()?;
        let last = self.0.last_entry().map_err(failed)?;
        let last = last.map(|(_, bytes)| codec::entry_from_bytes(&bytes)).transpose()?;
        Ok(LogState {
            last_purged_log_id,
            last_log_id: last.map(|entry| entry.log_id()).or(last_purged_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (store, bytes) = (self.0.clone(), codec::to_json(vote)?);
        tokio::task::spawn_blocking(move || store.save_vote(&bytes))
            .await
            .map_err(io::Error::other)?
            .map_err(failed)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let bytes = committed.map(|log_id| codec::to_json(&log_id)).transpose()?;
        self.0.save_committed(bytes.as_deref()).map_err(failed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.0.committed().map_err(failed)?.map(|bytes| codec::from_json(&bytes)).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encoded = entries
            .into_iter()
            .map(|entry| Ok((entry.index(), codec::entry_to_bytes(&entry)?)))
            .collect::<io::Result<Vec<_>>>()?;
        let durable = move |result: Result<(), StorageError>| callback.io_completed(result.map_err(failed));
        self.0.append(encoded, durable).map_err(failed)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.0.truncate_after(last.map(|log_id| log_id.index())).map_err(failed)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.0.purge(upto.index(), &codec::to_json(&upto)?).map_err(failed)
    }
}

pub(crate) fn failed(error: StorageError) -> io::Error {
    io::Error::other(error)
}
