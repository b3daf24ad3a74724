//! A ledger of one process, for tests of rules, planners, workflows and doors.
//!
//! It is a product behind the same trait: the same [`apply()`] on a sorted map instead of replicas. Terms can be
//! moved on by hand, which is what a leader change looks like from above.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    Feed, Key, Ledger, OldestRequest, Outcome, Position, ReadError, Revision, Row, RowChange, Rows, Term,
    Txn, Unavailable, View, apply,
};

/// All state in memory, one replica, always the leader.
#[derive(Debug)]
pub struct MemoryLedger {
    state: Mutex<State>,
    term: AtomicU64,
    feed: Feed,
}

#[derive(Debug, Clone, Default)]
struct State {
    rows: Arc<SortedRows>,
    oldest: OldestRequest,
    revision: Revision,
    now: Timestamp,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SortedRows(BTreeMap<Vec<u8>, Vec<u8>>);

impl MemoryLedger {
    /// An empty ledger in term 1, at the beginning of time.
    pub fn new() -> Arc<MemoryLedger> {
        Arc::new(MemoryLedger {
            state: Mutex::default(),
            term: AtomicU64::new(1),
            feed: Feed::starting_at(0),
        })
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.term.load(Ordering::SeqCst)
    }

    /// Begins the next term: what was fenced with an earlier one is refused from now on.
    pub fn next_term(&self) -> Term {
        self.term.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Moves the clock; it never moves by itself.
    pub fn set_now(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// The keys of all objects, in order: what is there shows what was forgotten to be removed.
    pub fn keys(&self) -> Vec<Key> {
        self.lock().rows.0.keys().filter_map(|row| Key::parse(row)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn propose(&self, txn: Txn) -> Result<Outcome, Unavailable> {
        txn.within_limits()?;
        let state = &mut *self.lock();
        let position = Position { revision: state.revision + 1, term: self.term() };
        let applied = apply(&*state.rows, &txn, position, &mut state.oldest)
            .map_err(|error| Unavailable::NotStarted(error.to_string()))?;
        state.revision = position.revision;
        Arc::make_mut(&mut state.rows).change(applied.changes);
        match applied.outcome {
            Outcome::Committed(revision) => self.feed.publish(revision, &txn),
            _ => self.feed.advance(position.revision),
        }
        Ok(applied.outcome)
    }

    async fn fresh_view(&self) -> Result<View, Unavailable> {
        Ok(self.view())
    }

    fn view(&self) -> View {
        let state = self.lock();
        View::new(state.rows.clone(), state.revision)
    }

    fn feed(&self) -> &Feed {
        &self.feed
    }

    fn now(&self) -> Timestamp {
        self.lock().now
    }
}

impl SortedRows {
    pub(crate) fn change(&mut self, changes: Vec<RowChange>) {
        for (row, value) in changes {
            match value {
                Some(value) => self.0.insert(row, value),
                None => self.0.remove(&row),
            };
        }
    }
}

impl Rows for SortedRows {
    fn get(&self, row: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0.get(row).cloned())
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Row>, ReadError> {
        let from = prefix.max(from).to_vec();
        let matching = self.0.range(from..).take_while(|(row, _)| row.starts_with(prefix));
        Ok(matching.take(limit).map(|(row, value)| (row.clone(), value.clone())).collect())
    }
}
