//! What changed, in order: the memory behind every watch.
//!
//! The revision is the cursor, so a client resumes on any replica. Nothing is buffered per watcher: each reads from
//! the shared recent history at its own pace, and one that falls behind it is told to start over.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{Key, Revision, Txn};

/// Changes remembered for watchers that resume.
const HISTORY_CHANGES_MAX: usize = 10_000;

/// One applied transaction.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Its revision.
    pub revision: Revision,
    /// What it wrote.
    pub rows: Vec<ChangedRow>,
}

/// One object written or deleted.
#[derive(Debug, PartialEq, Eq)]
pub struct ChangedRow {
    /// Which.
    pub key: Key,
    /// It is gone.
    pub deleted: bool,
}

/// The recent changes of one replica.
#[derive(Debug)]
pub struct Feed {
    history: Mutex<History>,
    latest: watch::Sender<Revision>,
}

#[derive(Debug)]
struct History {
    /// Changes up to here are forgotten.
    forgotten: Revision,
    changes: VecDeque<Arc<Change>>,
}

impl Feed {
    /// An empty history that begins after `revision`.
    pub fn starting_at(revision: Revision) -> Feed {
        Feed {
            history: Mutex::new(History { forgotten: revision, changes: VecDeque::new() }),
            latest: watch::Sender::new(revision),
        }
    }

    /// The newest applied revision; changes whenever anything is applied.
    pub fn latest(&self) -> watch::Receiver<Revision> {
        self.latest.subscribe()
    }

    /// Waits until this replica has applied `revision`.
    pub async fn reached(&self, revision: Revision) {
        // The sender lives in `self`, so the channel cannot be closed while this waits.
        let _ = self.latest().wait_for(|latest| *latest >= revision).await;
    }

    /// Follows the changes after `since`.
    pub fn watch(&self, since: Revision) -> Watch<'_> {
        Watch { feed: self, latest: self.latest(), cursor: since }
    }

    /// A transaction was applied. Called by whoever applies, in order.
    pub fn publish(&self, revision: Revision, txn: &Txn) {
        let rows = txn
            .ops
            .iter()
            .filter_map(|op| Some(ChangedRow { key: op.key()?, deleted: op.value.is_none() }))
            .collect();
        let mut history = self.lock();
        history.changes.push_back(Arc::new(Change { revision, rows }));
        if history.changes.len() > HISTORY_CHANGES_MAX
            && let Some(oldest) = history.changes.pop_front()
        {
            history.forgotten = oldest.revision;
        }
        drop(history);
        self.latest.send_replace(revision);
    }

    /// Something without changes was applied; whoever waits for the revision goes on.
    pub fn advance(&self, revision: Revision) {
        self.latest.send_replace(revision);
    }

    /// The state was replaced as a whole; watchers must start over.
    pub fn reset(&self, revision: Revision) {
        let mut history = self.lock();
        history.changes.clear();
        history.forgotten = revision;
        drop(history);
        self.latest.send_replace(revision);
    }

    fn since(&self, revision: Revision) -> Option<Vec<Arc<Change>>> {
        let history = self.lock();
        if revision < history.forgotten {
            return None;
        }
        let first = history.changes.partition_point(|change| change.revision <= revision);
        Some(history.changes.range(first..).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a watcher is told.
#[derive(Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Changes in order; never empty.
    Changes(Vec<Arc<Change>>),
    /// The history no longer reaches back to the cursor: list again and go on from this revision.
    Reset(Revision),
}

/// A cursor in the feed.
#[derive(Debug)]
pub struct Watch<'f> {
    feed: &'f Feed,
    latest: watch::Receiver<Revision>,
    cursor: Revision,
}

impl Watch<'_> {
    /// The next changes; waits for them. Every change is told once, in order.
    pub async fn next(&mut self) -> WatchEvent {
        loop {
            let latest = *self.latest.borrow_and_update();
            let Some(changes) = self.feed.since(self.cursor) else {
                self.cursor = latest;
                return WatchEvent::Reset(latest);
            };
            if let Some(newest) = changes.last() {
                self.cursor = newest.revision;
                return WatchEvent::Changes(changes);
            }
            self.cursor = self.cursor.max(latest);
            if self.latest.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
