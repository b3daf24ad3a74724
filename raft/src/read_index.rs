//! The index that a linearizable read has to wait for, shared by all who wait for one.
//!
//! Only the leader knows it, and only after a quorum has confirmed that it still leads. Readers that come while it is
//! being asked for wait for the next answer, and get it together: the one on its way may be older than their question.
//!
//! Of three voters, the leader and one follower are a quorum, so one word of a follower is the confirmation, and Raft
//! itself need not be asked:
//!
//! - Readers at a follower: it says with its question in which term it follows the leader and has voted for nobody later.
//! - Readers at the leader: it asks one follower the same.
//!
//! Why that is enough: when the follower says so, after the reads have begun, it has promised nothing to a later leader,
//! and when the leader answers, neither has the leader. A later leader needs one of the two, so there was none yet. And
//! a leader that has applied an entry of its own term has applied all that earlier leaders have acknowledged; what it
//! has acknowledged itself it had applied before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver as _;
use skep_ledger::{Feed, Revision, Term};
use skep_wire::channels::Purpose;
use skep_wire::proto::peer::{ConfirmRequest, ReadIndexRequest};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::ballot::Ballot;
use crate::network::Network;
use crate::replica::Replica;
use crate::types::Raft;

/// A read index is cheap to ask for again, and a lost one must not hold a reader up.
const TRY_MAX: Duration = Duration::from_millis(500);

/// A follower that does not confirm within this time is not waited for; another one is asked.
const CONFIRM_MAX: Duration = Duration::from_millis(50);

type Answer = Result<Revision, String>;

/// Where readers ask. The asking ends with the last handle.
pub(crate) struct ReadIndexes(mpsc::UnboundedSender<oneshot::Sender<Answer>>);

impl ReadIndexes {
    pub(crate) fn start(raft: Raft, network: Network, standing: Standing, lease: bool) -> ReadIndexes {
        let (readers, asked) = mpsc::unbounded_channel();
        tokio::spawn(answer_together(
            Leader { raft, network, standing, lease, confirmed_last: AtomicU64::default() },
            asked,
        ));
        ReadIndexes(readers)
    }

    /// An index that contains every write that was acknowledged before this call.
    pub(crate) async fn next(&self) -> Answer {
        let ended = || "this replica has stopped".to_owned();
        let (reader, answer) = oneshot::channel();
        self.0.send(reader).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

async fn answer_together(leader: Leader, mut asked: mpsc::UnboundedReceiver<oneshot::Sender<Answer>>) {
    let mut readers = Vec::new();
    while asked.recv_many(&mut readers, usize::MAX).await > 0 {
        let answer = timeout(TRY_MAX, leader.read_index()).await.unwrap_or_else(|_| {
            Err(format!("the leader was not confirmed within {} ms", TRY_MAX.as_millis()))
        });
        for reader in readers.drain(..) {
            // A reader that has gone needs no answer.
            let _ = reader.send(answer.clone());
        }
    }
}

/// The way to whoever leads.
struct Leader {
    raft: Raft,
    network: Network,
    standing: Standing,
    /// See [`crate::ReplicaConfig::lease_reads`].
    lease: bool,
    /// The follower that confirmed last is asked first, so that a silent one delays one round of readers and not all.
    confirmed_last: AtomicU64,
}

impl Leader {
    async fn read_index(&self) -> Answer {
        let leader = self.raft.metrics().borrow_watched().current_leader;
        let leader = leader.ok_or("there is no leader")?;
        if leader != self.network.node {
            return self.ask(leader).await;
        }
        if !self.lease
            && let Some(index) = self.confirmed_by_one().await
        {
            return Ok(index);
        }
        let policy = if self.lease { ReadPolicy::LeaseRead } else { ReadPolicy::ReadIndex };
        let linearizer = self.raft.get_read_linearizer(policy).await;
        Ok(linearizer.map_err(|error| error.to_string())?.read_log_id().index())
    }

    async fn ask(&self, leader: u64) -> Answer {
        let mut client =
            self.network.client(leader, Purpose::Heartbeat).map_err(|error| error.to_string())?;
        let follows_in_term = self.standing.ballot.follows(leader);
        let request = ReadIndexRequest { node: self.network.node, follows_in_term };
        let reply = client.read_index(request).await.map_err(|status| status.message().to_owned())?;
        Ok(reply.into_inner().index)
    }

    /// The index, if one follower is enough and says at once that it follows.
    async fn confirmed_by_one(&self) -> Option<Revision> {
        let own = self.network.node;
        let term = self.standing.ballot.follows(own)?;
        let mut voters = voters_if_two_are_a_quorum(&self.raft)?;
        if !voters.remove(&own) {
            return None;
        }
        for follower in asked_first(voters, self.confirmed_last.load(Ordering::Relaxed)) {
            let asked = timeout(CONFIRM_MAX, self.follows(follower, own, term)).await;
            if asked == Ok(true) {
                self.confirmed_last.store(follower, Ordering::Relaxed);
                return self.standing.index_in(term, own);
            }
        }
        None
    }

    async fn follows(&self, follower: u64, leader: u64, term: Term) -> bool {
        let Ok(mut client) = self.network.client(follower, Purpose::Heartbeat) else {
            return false;
        };
        let answer = client.confirm(ConfirmRequest { leader, term }).await;
        answer.is_ok_and(|answer| answer.into_inner().follows)
    }
}

/// How far this replica is, and whom it follows.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) ballot: Ballot,
    /// See [`crate::state_machine::StateMachine::applied_term`].
    pub(crate) applied_term: Arc<AtomicU64>,
    pub(crate) feed: Arc<Feed>,
}

impl Standing {
    /// The index for readers, if this replica, `own`, still leads in `term` and has applied an entry of it.
    fn index_in(&self, term: Term, own: u64) -> Option<Revision> {
        let applied = self.applied_term.load(Ordering::Acquire) == term;
        let leads = self.ballot.follows(own) == Some(term);
        (applied && leads).then(|| *self.feed.latest().borrow())
    }
}

/// The voters, if any two of them can agree on everything.
fn voters_if_two_are_a_quorum(raft: &Raft) -> Option<BTreeSet<u64>> {
    let metrics = raft.metrics();
    let now = metrics.borrow_watched();
    match now.membership_config.membership().get_joint_config().as_slice() {
        [voters] if voters.len() <= 3 => Some(voters.clone()),
        _ => None,
    }
}

fn asked_first(followers: BTreeSet<u64>, first: u64) -> impl Iterator<Item = u64> {
    let known = followers.contains(&first).then_some(first);
    known.into_iter().chain(followers.into_iter().filter(move |follower| *follower != first))
}

impl Replica {
    /// The index for a follower's readers; only the leader can say.
    pub(crate) async fn read_index_for(&self, request: ReadIndexRequest) -> Answer {
        let own = self.identity().1;
        if let Some(term) = request.follows_in_term
            && let Some(voters) = voters_if_two_are_a_quorum(self.raft())
            && request.node != own
            && voters.contains(&request.node)
            && voters.contains(&own)
            && let Some(index) = self.standing().index_in(term, own)
        {
            return Ok(index);
        }
        match self.is_leader() {
            true => self.read_indexes().next().await,
            false => Err(format!("manager {own} does not lead")),
        }
    }

    /// Does this replica follow that leader, and nobody later?
    pub(crate) fn confirms(&self, request: ConfirmRequest) -> bool {
        self.standing().ballot.follows(request.leader) == Some(request.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_confirmed_last_is_asked_first_and_the_others_after_it() {
        let asked = |first| asked_first(BTreeSet::from([1, 2, 3]), first).collect::<Vec<_>>();
        assert_eq!(asked(3), [3, 1, 2]);
        assert_eq!(asked(1), [1, 2, 3]);
        assert_eq!(asked(9), [1, 2, 3], "nobody yet, or one that is no voter any more");
    }
}
