//! The index that a linearizable read has to wait for, shared by all who wait for one.
//!
//! Only the leader knows it, and only after a quorum has confirmed that it still leads. Readers that come while it is
//! being asked for wait for the next answer, and get it together: the one on its way may be older than their question.
//!
//! Of three voters, the leader and the follower that asks are a quorum. So a follower says with its question in which
//! term it follows the leader and has voted for nobody later, and that is the confirmation; nobody else is asked:
//!
//! - While the follower asks, after the reads have begun, it has promised nothing to a later leader.
//! - When the leader answers, neither has the leader. A later leader needs one of the two, so there was none yet.
//! - The leader has applied an entry of its own term, so it has applied all that earlier leaders have acknowledged, and
//!   what it has acknowledged itself it had applied before.

use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver as _;
use skep_ledger::{Ledger as _, Revision};
use skep_wire::channels::Purpose;
use skep_wire::proto::peer::ReadIndexRequest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::ballot::Ballot;
use crate::network::Network;
use crate::replica::Replica;
use crate::types::Raft;

/// A read index is cheap to ask for again, and a lost one must not hold a reader up.
const TRY_MAX: Duration = Duration::from_millis(500);

type Answer = Result<Revision, String>;

/// Where readers ask. The asking ends with the last handle.
pub(crate) struct ReadIndexes(mpsc::UnboundedSender<oneshot::Sender<Answer>>);

impl ReadIndexes {
    pub(crate) fn start(raft: Raft, network: Network, ballot: Ballot) -> ReadIndexes {
        let (readers, asked) = mpsc::unbounded_channel();
        tokio::spawn(answer_together(Leader { raft, network, ballot }, asked));
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
    ballot: Ballot,
}

impl Leader {
    async fn read_index(&self) -> Answer {
        let leader = self.raft.metrics().borrow_watched().current_leader;
        let leader = leader.ok_or("there is no leader")?;
        if leader == self.network.node {
            let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
            return Ok(linearizer.map_err(|error| error.to_string())?.read_log_id().index());
        }
        let mut client =
            self.network.client(leader, Purpose::Heartbeat).map_err(|error| error.to_string())?;
        let request =
            ReadIndexRequest { node: self.network.node, follows_in_term: self.ballot.follows(leader) };
        let reply = client.read_index(request).await.map_err(|status| status.message().to_owned())?;
        Ok(reply.into_inner().index)
    }
}

impl Replica {
    /// The index for a follower's readers; only the leader can say.
    pub(crate) async fn read_index_for(&self, request: ReadIndexRequest) -> Answer {
        if let Some(index) = self.read_index_by_two(&request) {
            return Ok(index);
        }
        match self.is_leader() {
            true => self.read_indexes().next().await,
            false => Err(format!("manager {} does not lead", self.identity().1)),
        }
    }

    /// The index, if this replica and the one that asks are a quorum and that is enough; see the top.
    fn read_index_by_two(&self, request: &ReadIndexRequest) -> Option<Revision> {
        let own = self.identity().1;
        let term = request.follows_in_term?;
        let is_quorum = {
            let metrics = self.raft().metrics();
            let now = metrics.borrow_watched();
            let voters = now.membership_config.membership().get_joint_config();
            matches!(voters.as_slice(), [voters] if voters.len() <= 3
                && request.node != own && voters.contains(&request.node) && voters.contains(&own))
        };
        let leads = is_quorum && self.applied_term() == term && self.ballot().follows(own) == Some(term);
        leads.then(|| *self.feed().latest().borrow())
    }
}
