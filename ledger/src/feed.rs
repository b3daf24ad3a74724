//! What changed, in order: the memory behind every watch.
//!
//! The revision is the cursor, so a client resumes on any replica. A watcher says which objects it follows
//! ([`Filter`]), and a change costs nothing for those who follow others: who wants it is looked up by table and
//! partition (see `topic.rs`), and only they are woken.
//!
//! ```text
//!   publish ─┬─► history: what a watcher that resumes has missed; bounded by number, rows and age
//!            ├─► the buffers of the watchers that match; one that is full is emptied, its watcher starts over
//!            └─► whoever waits for this revision, and nobody else
//! ```
//!
//! There is no clock in here: the age of a change is the difference between the times that its proposer and the
//! newest change's proposer wrote into their transactions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use crate::topic::{Filter, Index};
use crate::{Key, Revision, Txn};

/// Changes remembered for watchers that resume: some minutes of a busy cluster.
pub const HISTORY_CHANGES_MAX: usize = 10_000;

/// Rows remembered for them, because one change may write thousands; a row takes about 200 bytes.
pub const HISTORY_ROWS_MAX: usize = 50_000;

/// How long a change is remembered while newer ones come: whoever was away for longer had better list again.
pub const HISTORY_AGE_MINUTES_MAX: i64 = 15;

/// Changes that wait for one watcher; one that is further behind starts over, which is cheaper for both.
pub const WATCH_BUFFER_CHANGES_MAX: usize = 1_000;

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

/// What a watcher is told.
#[derive(Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Changes in order; never empty. Each has at least one row that the watcher follows, and maybe others.
    Changes(Vec<Arc<Change>>),
    /// Something may be missing: list again and go on from this revision.
    Reset(Revision),
}

/// Why watchers had to start over, and how many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeedMeters {
    /// Watches at this moment.
    pub watches: u64,
    /// They resumed from before the history.
    pub resets_history: u64,
    /// They read too slowly.
    pub resets_slow: u64,
    /// The state was replaced as a whole.
    pub resets_replaced: u64,
}

/// The recent changes of one replica.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    latest: watch::Sender<Revision>,
    resets: [AtomicU64; 3],
}

#[derive(Debug)]
struct State {
    /// Everything up to here was applied.
    newest: Revision,
    /// Changes up to here are forgotten.
    forgotten: Revision,
    /// With the time at which each was proposed, in milliseconds.
    changes: VecDeque<(i64, Arc<Change>)>,
    /// The rows of all of them.
    rows: usize,
    /// Never used twice, for watches and those who wait.
    next_id: u64,
    watches: BTreeMap<u64, Subscription>,
    index: Index,
    /// Who waits for a revision; the number tells them apart.
    waiting: BTreeMap<(Revision, u64), oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Subscription {
    filter: Arc<Filter>,
    /// Everything up to here was told, or lies in `pending`.
    after: Revision,
    pending: Vec<Arc<Change>>,
    /// Why it must start over.
    lost: Option<Loss>,
    wake: Arc<Notify>,
}

#[derive(Debug, Clone, Copy)]
enum Loss {
    History,
    Slow,
    Replaced,
}

impl Feed {
    /// An empty history that begins after `revision`.
    pub fn starting_at(revision: Revision) -> Feed {
        let state = State {
            newest: revision,
            forgotten: revision,
            changes: VecDeque::new(),
            rows: 0,
            next_id: 0,
            watches: BTreeMap::new(),
            index: Index::default(),
            waiting: BTreeMap::new(),
        };
        let latest = watch::Sender::new(revision);
        Feed { shared: Arc::new(Shared { state: Mutex::new(state), latest, resets: Default::default() }) }
    }

    /// The newest applied revision; changes whenever anything is applied.
    pub fn latest(&self) -> watch::Receiver<Revision> {
        self.shared.latest.subscribe()
    }

    /// Waits until this replica has applied `revision`.
    pub async fn reached(&self, revision: Revision) {
        if let Some(mut waiter) = self.shared.wait_for(revision) {
            // The sender lives in the feed until it sends.
            let _ = (&mut waiter.reached).await;
        }
    }

    /// Follows all changes after `since`.
    pub fn watch(&self, since: Revision) -> Watch {
        self.watch_matching(since, Filter::everything())
    }

    /// Follows the changes after `since` to the objects that match.
    pub fn watch_matching(&self, since: Revision, filter: Filter) -> Watch {
        let filter = Arc::new(filter);
        let wake = Arc::new(Notify::new());
        let mut state = self.shared.lock();
        let id = state.fresh_id();
        let (pending, lost) = match state.since(since, &filter) {
            Some(missed) if missed.len() <= WATCH_BUFFER_CHANGES_MAX => (missed, None),
            _ => (vec![], Some(Loss::History)),
        };
        let subscription =
            Subscription { filter: filter.clone(), after: since, pending, lost, wake: wake.clone() };
        state.watches.insert(id, subscription);
        state.index.add(id, &filter);
        drop(state);
        Watch { shared: self.shared.clone(), id, filter, wake }
    }

    /// A transaction was applied. Called by whoever applies, in order.
    pub fn publish(&self, revision: Revision, txn: &Txn) {
        let rows: Vec<_> = txn
            .ops
            .iter()
            .filter_map(|op| Some(ChangedRow { key: op.key()?, deleted: op.value.is_none() }))
            .collect();
        let change = Arc::new(Change { revision, rows });
        let mut state = self.shared.lock();
        state.tell(&change);
        state.remember(txn.at_ms, change);
        self.shared.move_to(state, revision);
    }

    /// Something without changes was applied; whoever waits for the revision goes on.
    pub fn advance(&self, revision: Revision) {
        self.shared.move_to(self.shared.lock(), revision);
    }

    /// The state was replaced as a whole; watchers must start over.
    pub fn reset(&self, revision: Revision) {
        let mut state = self.shared.lock();
        state.changes.clear();
        state.rows = 0;
        state.forgotten = revision;
        for subscription in state.watches.values_mut() {
            subscription.lose(Loss::Replaced);
        }
        self.shared.move_to(state, revision);
    }

    /// What happens here, in numbers.
    pub fn meters(&self) -> FeedMeters {
        let resets = |loss: Loss| self.shared.resets[loss as usize].load(Ordering::Relaxed);
        FeedMeters {
            watches: self.shared.lock().watches.len() as u64,
            resets_history: resets(Loss::History),
            resets_slow: resets(Loss::Slow),
            resets_replaced: resets(Loss::Replaced),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everybody go on who waits for at most this revision.
    fn move_to(&self, mut state: MutexGuard<'_, State>, revision: Revision) {
        state.newest = revision;
        let later = state.waiting.split_off(&(revision.saturating_add(1), 0));
        let reached = std::mem::replace(&mut state.waiting, later);
        drop(state);
        for (_, waiter) in reached {
            // Who does not wait any more has no receiver.
            let _ = waiter.send(());
        }
        self.latest.send_replace(revision);
    }

    fn wait_for(self: &Arc<Shared>, revision: Revision) -> Option<Waiter> {
        let mut state = self.lock();
        if state.newest >= revision {
            return None;
        }
        let key = (revision, state.fresh_id());
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(key, sender);
        drop(state);
        Some(Waiter { shared: self.clone(), key, reached: receiver })
    }
}

/// Somebody who waits for a revision; forgotten when they give up.
struct Waiter {
    shared: Arc<Shared>,
    key: (Revision, u64),
    reached: oneshot::Receiver<()>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.key);
    }
}

impl State {
    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// What a watcher has missed, or `None` if that is not known any more.
    fn since(&self, revision: Revision, filter: &Filter) -> Option<Vec<Arc<Change>>> {
        if revision < self.forgotten {
            return None;
        }
        let first = self.changes.partition_point(|(_, change)| change.revision <= revision);
        let missed = self.changes.range(first..).map(|(_, change)| change);
        Some(missed.filter(|change| filter.concerns(change)).cloned().collect())
    }

    fn tell(&mut self, change: &Arc<Change>) {
        for id in self.index.interested_in(change) {
            if let Some(subscription) = self.watches.get_mut(&id)
                && change.revision > subscription.after
                && subscription.filter.concerns(change)
            {
                subscription.tell(change);
            }
        }
    }

    fn remember(&mut self, at_ms: i64, change: Arc<Change>) {
        self.rows += change.rows.len();
        self.changes.push_back((at_ms, change));
        let oldest_kept_ms = at_ms.saturating_sub(HISTORY_AGE_MINUTES_MAX * 60_000);
        while let Some((proposed_ms, oldest)) = self.changes.front() {
            let fits = self.changes.len() <= HISTORY_CHANGES_MAX
                && self.rows <= HISTORY_ROWS_MAX
                && *proposed_ms >= oldest_kept_ms;
            if fits {
                break;
            }
            self.rows -= oldest.rows.len();
            self.forgotten = oldest.revision;
            self.changes.pop_front();
        }
    }
}

impl Subscription {
    fn tell(&mut self, change: &Arc<Change>) {
        if self.lost.is_none() {
            if self.pending.len() >= WATCH_BUFFER_CHANGES_MAX {
                return self.lose(Loss::Slow);
            }
            self.pending.push(change.clone());
            self.wake.notify_one();
        }
    }

    fn lose(&mut self, loss: Loss) {
        // Not only emptied: a buffer that was large once is not needed again soon.
        self.pending = vec![];
        self.lost = Some(loss);
        self.wake.notify_one();
    }
}

/// A place in the feed. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    id: u64,
    filter: Arc<Filter>,
    wake: Arc<Notify>,
}

impl Watch {
    /// The next changes that match; waits for them. Every change is told once, in order. May be given up at any time.
    pub async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.wake.notified().await;
        }
    }

    /// What [`Watch::next`] would answer at once; `None` if it would wait.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        let mut state = self.shared.lock();
        let newest = state.newest;
        let subscription = state.watches.get_mut(&self.id)?;
        if let Some(loss) = subscription.lost.take() {
            self.shared.resets[loss as usize].fetch_add(1, Ordering::Relaxed);
            subscription.after = newest;
            return Some(WatchEvent::Reset(newest));
        }
        let changes = std::mem::take(&mut subscription.pending);
        subscription.after = changes.last()?.revision;
        Some(WatchEvent::Changes(changes))
    }

    /// Which objects are followed.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Everything that matches up to this revision was told: where to resume, also if nothing has matched for long.
    pub fn position(&self) -> Revision {
        let state = self.shared.lock();
        match state.watches.get(&self.id) {
            Some(watch) if watch.pending.is_empty() && watch.lost.is_none() => watch.after.max(state.newest),
            Some(watch) => watch.after,
            None => 0,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.watches.remove(&self.id);
        state.index.remove(self.id, &self.filter);
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
