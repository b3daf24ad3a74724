//! What managers know about themselves and each other, for people and for the start of a cluster.

use std::sync::OnceLock;

use openraft::Membership;
use serde::{Deserialize, Serialize};

use crate::replica::Replica;
use crate::types::ManagerNode;

/// One manager as it describes itself; what could not be asked is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// `m1`.
    pub name: String,
    /// Its number, never used again for another manager.
    pub id: u64,
    /// `voter` or `learner`.
    pub role: String,
    /// `leader`, `follower`, `candidate`, `learner` or `unreachable`.
    pub state: String,
    /// Where its peer port is.
    pub peer_address: String,
    /// Where its API is.
    pub api_url: String,
    /// The newest entry in its log.
    pub last_log_index: Option<u64>,
    /// The newest entry that it has applied.
    pub applied_index: Option<u64>,
    /// Entries that it is behind the furthest one.
    pub lag_entries: Option<u64>,
    /// How long ago it answered.
    pub last_contact_ms: Option<u64>,
    /// Its program version.
    pub version: Option<String>,
    /// Memory that it occupies.
    pub resident_bytes: Option<u64>,
    /// Its term.
    pub term: Option<u64>,
    /// Has it ever been part of a cluster?
    pub initialized: bool,
    /// Does it answer Raft's messages? An empty replica does not before it knows that it is new.
    pub takes_part: bool,
    /// Is it about to stop, or was it told to serve nothing new?
    #[serde(default)]
    pub draining: bool,
    /// When its certificate ends, in seconds since 1970.
    #[serde(default)]
    pub certificate_expires_at: Option<i64>,
    /// The epoch of its data.
    #[serde(default)]
    pub epoch: u64,
    /// Managers whose state differs from its own where they must be equal.
    #[serde(default)]
    pub diverged: Vec<u64>,
    /// Rows of a whole state that it is being sent, while that goes on.
    #[serde(default)]
    pub snapshot_rows: Option<u64>,
}

/// The managers together, as seen from one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: String,
    /// The leader's name, if one is known.
    pub leader: Option<String>,
    /// Its term.
    pub term: u64,
    /// Managers that vote.
    pub voters: usize,
    /// How many of them must agree.
    pub quorum: usize,
    /// How many more may fail before nothing can be agreed on; what is unreachable already counts.
    pub failure_tolerance: usize,
    /// The newest revision applied here.
    pub revision: u64,
    /// Everyone, in the order of their numbers.
    pub members: Vec<MemberStatus>,
}

impl ClusterStatus {
    /// Puts the members' own words together.
    pub(crate) fn of(
        cluster: &str,
        leader: Option<u64>,
        term: u64,
        revision: u64,
        mut members: Vec<MemberStatus>,
    ) -> ClusterStatus {
        let furthest = members.iter().filter_map(|member| member.last_log_index).max();
        for member in &mut members {
            member.lag_entries = furthest.zip(member.applied_index).map(|(last, at)| last.saturating_sub(at));
        }
        let voters = members.iter().filter(|member| member.role == "voter").count();
        let reachable =
            members.iter().filter(|member| member.role == "voter" && member.state != "unreachable").count();
        let quorum = voters / 2 + 1;
        ClusterStatus {
            cluster: cluster.to_owned(),
            leader: members.iter().find(|member| Some(member.id) == leader).map(|member| member.name.clone()),
            term,
            voters,
            quorum,
            failure_tolerance: reachable.saturating_sub(quorum),
            revision,
            members,
        }
    }
}

/// Adds to what a replica says about itself what only its process knows.
#[derive(Default)]
pub(crate) struct About(OnceLock<Complete>);

type Complete = Box<dyn Fn(&mut MemberStatus) + Send + Sync>;

impl About {
    pub(crate) fn completed(&self, mut status: MemberStatus) -> MemberStatus {
        if let Some(complete) = self.0.get() {
            complete(&mut status);
        }
        status
    }
}

impl Replica {
    /// From now on `complete` has the last word on what this replica says about itself. Only the first call counts.
    pub fn describe_with(&self, complete: impl Fn(&mut MemberStatus) + Send + Sync + 'static) {
        let _ = self.about().0.set(Box::new(complete));
    }
}

/// Memory that this process occupies, as the kernel counts it.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// A manager that no membership names yet is a founder, and founders vote.
pub(crate) fn role(membership: &Membership<u64, ManagerNode>, node: u64) -> &'static str {
    let votes = membership.voter_ids().any(|id| id == node);
    if votes || membership.voter_ids().next().is_none() { "voter" } else { "learner" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unreachable_counts_against_the_failure_tolerance() {
        let member = |id, state: &str| MemberStatus {
            id,
            role: "voter".into(),
            state: state.into(),
            ..MemberStatus::default()
        };
        let members = vec![member(1, "leader"), member(2, "follower"), member(3, "unreachable")];
        let status = ClusterStatus::of("c", Some(1), 2, 10, members);
        assert_eq!((status.voters, status.quorum, status.failure_tolerance), (3, 2, 0));
    }
}
