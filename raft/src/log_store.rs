//! openraft's log on our storage. What must be durable when is said in openraft's documentation of each method;
//! `skep_storage` keeps it with one write-ahead log and one syncing thread.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, entry::RaftEntry};
use skep_storage::{StorageError, Store};

use crate::ballot::Ballot;
use crate::codec;
use crate::growth::Growth;
use crate::pacing::Pacing;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Entries sent to a follower in one message stay well below the message limit of the peer link.
const REPLICATED_BYTES_MAX: usize = 1024 * 1024;

/// The newest entries that are also kept in memory: enough for followers and whoever applies to keep up from there.
const TAIL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// ... in number, because small ones cost more than their bytes.
const TAIL_ENTRIES_MAX: usize = 8192;

/// The log of this replica. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    store: Store,
    tail: Arc<Mutex<Tail>>,
    ballot: Ballot,
    pacing: Pacing,
    growth: Arc<Growth>,
}

impl LogStore {
    pub(crate) fn open(store: Store, pacing: Pacing, growth: Growth) -> io::Result<LogStore> {
        let (tail, ballot) = (Arc::default(), Ballot::default());
        let log = LogStore { store, tail, ballot, pacing, growth: Arc::new(growth) };
        log.ballot.cast(log.vote()?);
        Ok(log)
    }

    /// The vote that this replica stands by.
    pub(crate) fn ballot(&self) -> &Ballot {
        &self.ballot
    }

    fn vote(&self) -> io::Result<Option<Vote>> {
        self.store.vote().map_err(failed)?.map(|bytes| codec::from_json(&bytes)).transpose()
    }

    fn entries(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        if let Some(newest) = self.tail().range(from, to, bytes_max) {
            return Ok(newest);
        }
        let found = self.store.entries(from, to, bytes_max).map_err(failed)?;
        found.into_iter().map(|(_, bytes)| codec::entry_from_bytes(bytes)).collect()
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newest entries, without a hole, as they were appended.
#[derive(Default)]
struct Tail {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Tail {
    fn append(&mut self, entry: Entry, bytes: usize) {
        if self.entries.back().is_some_and(|(last, _)| last.index() + 1 != entry.index()) {
            *self = Tail::default();
        }
        self.entries.push_back((entry, bytes));
        self.bytes += bytes;
        while self.bytes > TAIL_BYTES_MAX || self.entries.len() > TAIL_ENTRIES_MAX {
            self.drop_first();
        }
    }

    fn truncate_after(&mut self, last: Option<u64>) {
        while self.entries.back().is_some_and(|(entry, _)| last.is_none_or(|last| entry.index() > last)) {
            self.bytes -= self.entries.pop_back().map_or(0, |(_, bytes)| bytes);
        }
    }

    fn purge(&mut self, upto: u64) {
        while self.entries.front().is_some_and(|(entry, _)| entry.index() <= upto) {
            self.drop_first();
        }
    }

    /// Nothing if the range begins before the tail.
    fn range(&self, from: u64, to_exclusive: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        let first = self.entries.front().map(|(entry, _)| entry.index())?;
        let skipped = usize::try_from(from.checked_sub(first)?).ok()?;
        if skipped >= self.entries.len() {
            return None;
        }
        let mut bytes = 0;
        let within = |(at, (entry, size)): &(usize, &(Entry, usize))| {
            bytes += size;
            entry.index() < to_exclusive && (*at == 0 || bytes <= bytes_max)
        };
        let newest = self.entries.range(skipped..).enumerate().take_while(within);
        Some(newest.map(|(_, (entry, _))| entry.clone()).collect())
    }

    fn begins(&self) -> Option<LogId> {
        self.entries.front().map(|(entry, _)| entry.log_id())
    }

    fn drop_first(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
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
        self.vote()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.store.purged().map_err(failed)?;
        let last_purged_log_id = purged.map(|bytes| codec::from_json::<LogId>(&bytes)).transpose()?;
        let last = self.store.last_entry().map_err(failed)?;
        let last = last.map(|(_, bytes)| codec::entry_from_bytes(bytes)).transpose()?;
        Ok(LogState {
            last_purged_log_id,
            last_log_id: last.map(|entry| entry.log_id()).or(last_purged_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (store, bytes) = (self.store.clone(), codec::to_json(vote)?);
        self.ballot.cast(Some(*vote));
        tokio::task::spawn_blocking(move || store.save_vote(&bytes))
            .await
            .map_err(io::Error::other)?
            .map_err(failed)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let bytes = committed.map(|log_id| codec::to_json(&log_id)).transpose()?;
        self.store.save_committed(bytes.as_deref()).map_err(failed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.store.committed().map_err(failed)?.map(|bytes| codec::from_json(&bytes)).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let encoded = entries
            .iter()
            .map(|entry| Ok((entry.index(), codec::entry_to_bytes(entry)?)))
            .collect::<io::Result<Vec<_>>>()?;
        let sizes: Vec<usize> = encoded.iter().map(|(_, bytes)| bytes.len()).collect();
        let durable = move |result: Result<(), StorageError>| callback.io_completed(result.map_err(failed));
        self.store.append(encoded, durable).map_err(failed)?;
        let last = entries.last().map(RaftEntry::index);
        let mut tail = self.tail();
        let bytes = sizes.iter().sum();
        entries.into_iter().zip(sizes).for_each(|(entry, bytes)| tail.append(entry, bytes));
        let begins = tail.begins();
        drop(tail);
        // Who needs entries from before the tail is far behind anyway.
        self.growth.appended(bytes, begins);
        last.into_iter().for_each(|last| self.pacing.appended(last));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let last = last.map(|log_id| log_id.index());
        self.tail().truncate_after(last);
        self.store.truncate_after(last).map_err(failed)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.tail().purge(upto.index());
        self.store.purge(upto.index(), &codec::to_json(&upto)?).map_err(failed)
    }
}

pub(crate) fn failed(error: StorageError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Command;
    use openraft::EntryPayload;

    fn entry(index: u64) -> Entry {
        let payload = EntryPayload::Normal(Command::from(vec![0; 10]));
        Entry { log_id: LogId::new_term_index(1, index), payload }
    }

    fn indexes(found: Option<Vec<Entry>>) -> Option<Vec<u64>> {
        found.map(|entries| entries.iter().map(RaftEntry::index).collect())
    }

    #[test]
    fn the_tail_answers_only_from_where_it_begins() {
        let mut tail = Tail::default();
        (5..10).for_each(|index| tail.append(entry(index), 10));
        assert_eq!(indexes(tail.range(4, 10, usize::MAX)), None);
        assert_eq!(indexes(tail.range(5, 8, usize::MAX)), Some(vec![5, 6, 7]));
        assert_eq!(indexes(tail.range(7, 99, 20)), Some(vec![7, 8]));
        assert_eq!(indexes(tail.range(7, 99, 1)), Some(vec![7]), "never empty");
        assert_eq!(indexes(tail.range(10, 99, usize::MAX)), None);
    }

    #[test]
    fn what_is_truncated_or_purged_is_not_answered_any_more() {
        let mut tail = Tail::default();
        (5..10).for_each(|index| tail.append(entry(index), 10));
        tail.truncate_after(Some(7));
        assert_eq!(indexes(tail.range(6, 99, usize::MAX)), Some(vec![6, 7]));
        tail.purge(6);
        assert_eq!(indexes(tail.range(6, 99, usize::MAX)), None);
        assert_eq!(tail.bytes, 10);
        tail.append(entry(20), 10);
        assert_eq!(indexes(tail.range(7, 99, usize::MAX)), None, "there would be a hole");
    }
}
