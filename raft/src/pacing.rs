//! When a follower is told how far the log is committed.
//!
//! openraft tells it at once, in a message of its own if there are no entries to go with. For one write after another
//! that is two messages to each follower and two answers for every write, although the next entries would have said
//! the same. So the news waits for entries, but not for long, and not while somebody at that follower waits for it:
//! a reader for whom the leader has named a newer index, or a writer whose write was forwarded from there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use openraft::entry::RaftEntry as _;
use openraft::raft::AppendEntriesRequest;
use skep_ledger::Revision;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use crate::types::{LogId, TypeConfig};

/// How far a follower's state may be behind for the sake of fewer messages. Several times as long as a write takes on a
/// fast disk, so that one client's writes follow each other within it; a watcher cannot tell the difference.
const NEWS_MAY_WAIT: Duration = Duration::from_millis(5);

/// What decides it, for all followers.
#[derive(Clone)]
pub(crate) struct Pacing {
    appended: watch::Sender<u64>,
    followers: Arc<Mutex<BTreeMap<u64, Arc<Pace>>>>,
}

/// What one follower knows, and whether it should know more.
#[derive(Default)]
struct Pace {
    committed: AtomicU64,
    wanted: Notify,
}

impl Pacing {
    pub(crate) fn new() -> Pacing {
        Pacing { appended: watch::Sender::new(0), followers: Arc::default() }
    }

    /// The log of this replica ends here now.
    pub(crate) fn appended(&self, last: u64) {
        self.appended.send_replace(last);
    }

    /// Somebody at `follower` waits until it has applied `revision`, which is committed.
    pub(crate) fn wanted_at(&self, follower: u64, revision: Revision) {
        let pace = self.of(follower);
        if pace.committed.load(Ordering::Acquire) < revision {
            pace.wanted.notify_one();
        }
    }

    fn of(&self, follower: u64) -> Arc<Pace> {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.entry(follower).or_default().clone()
    }

    /// The messages for `follower`, each asked of openraft only when it is time for it. The first is asked for at once.
    pub(crate) fn paced<S>(
        &self,
        follower: u64,
        messages: S,
    ) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + use<S>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin + Send + 'static,
    {
        let (appended, pace) = (self.appended.subscribe(), self.of(follower));
        // One for all messages: a timer that is moved on before it rings costs next to nothing, a new one a system call.
        let patience = Box::pin(sleep(NEWS_MAY_WAIT));
        futures::stream::unfold((messages, appended, pace, patience, None), |state| async move {
            let (mut messages, mut appended, pace, mut patience, sent) = state;
            if let Some(sent) = sent {
                patience.as_mut().reset(Instant::now() + NEWS_MAY_WAIT);
                tokio::select! {
                    _ = appended.wait_for(|last| *last > sent) => {}
                    () = pace.wanted.notified() => {}
                    () = patience.as_mut() => {}
                }
            }
            let message = messages.next().await?;
            let index = |log_id: Option<&LogId>| log_id.map_or(0, |log_id| log_id.index());
            pace.committed.store(index(message.leader_commit.as_ref()), Ordering::Release);
            let last = message.entries.last().map(|entry| entry.log_id());
            let sent = index(last.as_ref().or(message.prev_log_id.as_ref()));
            Some((message, (messages, appended, pace, patience, Some(sent))))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::channel::mpsc::{UnboundedSender, unbounded};
    use openraft::EntryPayload;

    use super::*;
    use crate::types::{Entry, Vote};

    const FOLLOWER: u64 = 2;

    type Message = AppendEntriesRequest<TypeConfig>;

    /// Entries up to `last`, after `prev`, and the news that `committed` is.
    fn message(prev: u64, last: u64, committed: u64) -> Message {
        let id = |index| LogId::new_term_index(1, index);
        let entry = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
        Message {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(prev)),
            leader_commit: Some(id(committed)),
            entries: (prev + 1..=last).map(entry).collect(),
        }
    }

    /// How many entries a message has, and what it says to be committed.
    fn said(message: &Message) -> (usize, u64) {
        (message.entries.len(), message.leader_commit.map_or(0, |log_id| log_id.index()))
    }

    fn said_at_once(paced: &mut (impl Stream<Item = Message> + Unpin)) -> Option<(usize, u64)> {
        paced.next().now_or_never().flatten().as_ref().map(said)
    }

    /// A stream whose first message, with the entry 5, is out.
    async fn begun() -> (Pacing, UnboundedSender<Message>, impl Stream<Item = Message> + Unpin) {
        let pacing = Pacing::new();
        let (openraft, messages) = unbounded();
        let mut paced = Box::pin(pacing.paced(FOLLOWER, messages));
        pacing.appended(5);
        openraft.unbounded_send(message(4, 5, 4)).expect("sent");
        assert_eq!(said_at_once(&mut paced), Some((1, 4)), "the first goes at once");
        (pacing, openraft, paced)
    }

    #[tokio::test]
    async fn news_without_entries_waits_and_then_goes() {
        let (_pacing, openraft, mut paced) = begun().await;
        openraft.unbounded_send(message(5, 5, 5)).expect("sent");
        let began = Instant::now();
        assert_eq!(said_at_once(&mut paced), None);
        assert_eq!(paced.next().await.as_ref().map(said), Some((0, 5)));
        assert!(began.elapsed() >= NEWS_MAY_WAIT, "after {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn entries_never_wait() {
        let (pacing, openraft, mut paced) = begun().await;
        openraft.unbounded_send(message(5, 6, 5)).expect("sent");
        pacing.appended(6);
        assert_eq!(said_at_once(&mut paced), Some((1, 5)));
    }

    #[tokio::test]
    async fn news_that_somebody_waits_for_goes_at_once() {
        let (pacing, openraft, mut paced) = begun().await;
        openraft.unbounded_send(message(5, 5, 5)).expect("sent");
        pacing.wanted_at(FOLLOWER, 4);
        assert_eq!(said_at_once(&mut paced), None, "the follower knows that already");
        pacing.wanted_at(FOLLOWER, 5);
        assert_eq!(said_at_once(&mut paced), Some((0, 5)));
    }
}
