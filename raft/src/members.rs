//! Who belongs to the cluster, and how that changes while it runs: managers join as learners, vote once they have
//! caught up, hand leadership over, and leave.
//!
//! Every change is made on the leader, checked for quorum before it begins (`quorum.rs`), and tied to the membership
//! that it was decided on: openraft would let two changes overtake each other otherwise. A change that was interrupted
//! between its two halves is completed by [`Replica::settle`]. Numbers are never used again; who counts them is the
//! caller, because that is replicated state.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::Precondition;
use skep_storage::{Identity, Store};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::codec;
use crate::founding;
use crate::proposing::TRY_MAX;
use crate::quorum::{self, Voter};
use crate::replica::{Replica, StartError, raft_error};
use crate::status::MemberStatus;
use crate::types::{LogId, ManagerNode, Vote};

/// A change of the members is two entries, each agreed on by a quorum; longer means that a quorum was lost meanwhile.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// Entries that a learner may be behind to count as caught up: what is written during one round of replication on a
/// busy cluster. It will wait for the rest as any voter does.
const CAUGHT_UP_ENTRIES_MAX: u64 = 1_000;

/// One manager of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name and addresses.
    pub node: ManagerNode,
    /// Does it vote? Otherwise it only receives.
    pub votes: bool,
}

/// Everyone, by number.
pub type Members = BTreeMap<u64, Member>;

/// Why the members were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another replica leads, or none. Nothing was changed.
    #[error("this manager does not lead")]
    NotLeader,
    /// It would leave a cluster that cannot agree. Nothing was changed.
    #[error("{0}")]
    QuorumAtRisk(String),
    /// It is not far enough, or cannot be reached. Nothing was changed.
    #[error("{0}")]
    NotReady(String),
    /// Another change was first. Nothing was changed.
    #[error("another change of the members is under way: {0}")]
    Busy(String),
    /// It may still take effect.
    #[error("the change of the members is not confirmed: {0}")]
    Unknown(String),
}

/// Makes the data folder of a manager that was given a number and has never had data. From then on an empty folder
/// means that its data was lost, as with founders (see `founding.rs`). `epoch` is that of the cluster that it joins.
pub fn prepare(dir: &Path, cluster: &str, node: u64, epoch: u64) -> Result<(), StartError> {
    let store = Store::open(dir, &Identity { cluster: cluster.to_owned(), node })?;
    if founding::is_empty(&store)? {
        store.begin_epoch(epoch)?;
        store.save_vote(&codec::to_json(&Vote::new(0, node)).map_err(raft_error)?)?;
    }
    Ok(())
}

impl Replica {
    /// The members, as far as this replica knows; empty before it has heard of any. Follows every change.
    pub fn membership(&self) -> watch::Receiver<Members> {
        let mut metrics = self.raft().server_metrics();
        let (sender, receiver) = watch::channel(self.members_now());
        let replica = self.clone();
        tokio::spawn(async move {
            while metrics.changed().await.is_ok() && !sender.is_closed() {
                let now = replica.members_now();
                sender.send_if_modified(|known| {
                    let changed = *known != now;
                    *known = now;
                    changed
                });
            }
        });
        receiver
    }

    /// The members at present, as far as this replica knows.
    pub fn members_now(&self) -> Members {
        let metrics = self.raft().server_metrics();
        let now = metrics.borrow_watched();
        let membership = now.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let member = |(id, node): (&u64, &ManagerNode)| {
            (*id, Member { node: node.clone(), votes: voters.contains(id) })
        };
        membership.nodes().map(member).collect()
    }

    /// The members' own words about themselves.
    pub async fn described_members(&self) -> Vec<MemberStatus> {
        self.members().await
    }

    /// Who leads, as far as this replica knows.
    pub fn leader_id(&self) -> Option<u64> {
        self.raft().server_metrics().borrow_watched().current_leader
    }

    /// Lets a manager receive everything, without a vote; in the same change, another may go. A manager that is in
    /// already stays as it is.
    pub async fn admit(
        &self,
        id: u64,
        node: ManagerNode,
        instead_of: Option<u64>,
    ) -> Result<(), ChangeError> {
        let members = self.members_now();
        let gone = instead_of.filter(|gone| members.contains_key(gone));
        if members.contains_key(&id) && gone.is_none() {
            return Ok(());
        }
        let mut changes = vec![ChangeMembers::AddNodes(BTreeMap::from([(id, node)]))];
        if let Some(gone) = gone {
            changes.push(self.removal(&members, gone).await?);
        }
        self.change(ChangeMembers::Batch(changes)).await
    }

    /// Takes a manager out. A manager that is out already is fine.
    pub async fn remove_member(&self, id: u64) -> Result<(), ChangeError> {
        let members = self.members_now();
        if !members.contains_key(&id) {
            return Ok(());
        }
        let removal = self.removal(&members, id).await?;
        self.change(removal).await
    }

    /// Could this manager be taken out now?
    pub async fn may_remove(&self, id: u64) -> Result<(), ChangeError> {
        self.removal(&self.members_now(), id).await.map(drop)
    }

    /// Lets managers vote, all in one change: one after the other would pass through even numbers of voters, which
    /// need more of them without being safer.
    pub async fn promote(&self, ids: &BTreeSet<u64>) -> Result<(), ChangeError> {
        let members = self.members_now();
        let new: BTreeSet<u64> =
            ids.iter().copied().filter(|id| members.get(id).is_some_and(|member| !member.votes)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.may_promote(&new).await?;
        self.change(ChangeMembers::AddVoterIds(new)).await
    }

    /// Could these learners vote now? One that does not answer would be missed at once, however far it had come.
    pub async fn may_promote(&self, ids: &BTreeSet<u64>) -> Result<(), ChangeError> {
        let caught_up = self.caught_up()?;
        let described = self.members().await;
        for id in ids {
            let member = described.iter().find(|member| member.id == *id);
            let name = member.map(|member| member.name.clone()).unwrap_or_default();
            if member.is_none_or(|member| member.state == "unreachable") {
                return Err(ChangeError::NotReady(format!("{name} (manager {id}) cannot be reached")));
            }
            if !caught_up.contains(id) {
                let why = format!("{name} (manager {id}) has not caught up with the leader yet");
                return Err(ChangeError::NotReady(why));
            }
        }
        quorum::may_vote(&self.voters_of(&described), ids.len()).map_err(ChangeError::QuorumAtRisk)
    }

    /// The learners that have nearly everything that the leader has. Only the leader knows.
    pub fn caught_up(&self) -> Result<BTreeSet<u64>, ChangeError> {
        let metrics = self.raft().metrics();
        let now = metrics.borrow_watched();
        let replication = now.replication.as_ref().ok_or(ChangeError::NotLeader)?;
        let last = now.last_log_index.unwrap_or(0);
        let near = |matched: &Option<LogId>| {
            matched.as_ref().is_some_and(|at| at.index() + CAUGHT_UP_ENTRIES_MAX >= last)
        };
        let learners = now.membership_config.membership().learner_ids();
        Ok(learners.filter(|id| replication.get(id).is_some_and(near)).collect())
    }

    /// Completes a change that was interrupted between its two halves.
    pub async fn settle(&self) -> Result<(), ChangeError> {
        let joint = {
            let metrics = self.raft().server_metrics();
            let now = metrics.borrow_watched();
            now.membership_config.get_joint_config().len() > 1
        };
        match joint {
            true => self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await,
            false => Ok(()),
        }
    }

    /// The voters that may be removed by themselves after they have been dead for long, out of those that are.
    pub async fn may_be_cleaned_up(&self, dead: u64) -> bool {
        quorum::may_be_cleaned_up(&self.counted_voters().await, dead)
    }

    /// Hands leadership to a voter, the furthest if none is named, and waits until this replica does not lead.
    pub async fn transfer_leadership(&self, to: Option<u64>) -> Result<(), ChangeError> {
        let successor = self.successor(to).await?;
        let handed_over = async {
            let mut metrics = self.raft().server_metrics();
            loop {
                if metrics.borrow_watched().current_leader.is_some_and(|leader| leader != self.identity().1) {
                    return;
                }
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        self.raft().trigger().transfer_leader(successor).await.map_err(unknown)?;
        timeout(TRY_MAX, handed_over)
            .await
            .map_err(|_| ChangeError::Unknown("no other manager has taken over yet".into()))
    }

    /// Who would lead if this replica handed leadership over?
    pub async fn successor(&self, to: Option<u64>) -> Result<u64, ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::NotLeader);
        }
        let ready = |member: &&MemberStatus| {
            member.role == "voter" && member.state != "unreachable" && member.id != self.identity().1
        };
        let members = self.members().await;
        let able: Vec<_> = members.iter().filter(ready).collect();
        let found = match to {
            Some(wanted) => able.iter().find(|member| member.id == wanted),
            // One that drains would only hand it on.
            None => able.iter().max_by_key(|member| (!member.draining, member.last_log_index)),
        };
        found.map(|member| member.id).ok_or_else(|| {
            ChangeError::NotReady(match to {
                Some(_) => "it does not vote, or cannot be reached".into(),
                None => "no other manager that votes can be reached".into(),
            })
        })
    }

    /// The voters and whether they answer.
    async fn counted_voters(&self) -> Vec<Voter> {
        self.voters_of(&self.members().await)
    }

    fn voters_of(&self, described: &[MemberStatus]) -> Vec<Voter> {
        let voting = self.members_now();
        let votes = |id: &u64| voting.get(id).is_some_and(|member| member.votes);
        let voters = described.iter().filter(|member| votes(&member.id));
        voters.map(|member| Voter { id: member.id, reachable: member.state != "unreachable" }).collect()
    }

    async fn removal(
        &self,
        members: &Members,
        id: u64,
    ) -> Result<ChangeMembers<u64, ManagerNode>, ChangeError> {
        let gone = BTreeSet::from([id]);
        if !members.get(&id).is_some_and(|member| member.votes) {
            return Ok(ChangeMembers::RemoveNodes(gone));
        }
        quorum::may_leave(&self.counted_voters().await, id).map_err(ChangeError::QuorumAtRisk)?;
        Ok(ChangeMembers::RemoveVoters(gone))
    }

    /// Brings a change through, if the members are still those that it was decided on.
    async fn change(&self, change: ChangeMembers<u64, ManagerNode>) -> Result<(), ChangeError> {
        let decided_on = {
            let metrics = self.raft().server_metrics();
            let now = metrics.borrow_watched();
            Precondition::LastMembershipLogId { last_membership_log_id: *now.membership_config.log_id() }
        };
        // Removed voters are not kept as learners: they are gone.
        let changing = self.raft().change_membership_if(change, false, [decided_on]);
        match timeout(CHANGE_MAX, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(error))) => Err(match error {
                ClientWriteError::ForwardToLeader(_) => ChangeError::NotLeader,
                ClientWriteError::ChangeMembershipError(error) => ChangeError::Busy(error.to_string()),
                ClientWriteError::PreconditionFailed(error) => ChangeError::Busy(error.to_string()),
                error => unknown(error),
            }),
            Ok(Err(error)) => Err(unknown(error)),
            Err(_) => Err(unknown("the replicas did not agree in time")),
        }
    }
}

fn unknown(error: impl std::fmt::Display) -> ChangeError {
    ChangeError::Unknown(error.to_string())
}
