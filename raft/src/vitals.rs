//! How a replica is: what monitoring asks for, and how old its knowledge may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use skep_ledger::{Contact, Revision, Term};
use skep_storage::{Meters, Sizes, StorageError};

use crate::replica::Replica;

/// One replica's own view of itself and of those who follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct Vitals {
    /// `leader`, `follower`, `candidate` or `learner`.
    pub state: &'static str,
    /// The current term.
    pub term: Term,
    /// The newest entry that it knows to be committed.
    pub commit_index: Revision,
    /// The newest entry that it has applied.
    pub applied_index: Revision,
    /// Managers that vote.
    pub voters: usize,
    /// How many more managers may fail; only the leader can say.
    pub failure_tolerance: Option<usize>,
    /// On the leader, everyone else.
    pub peers: Vec<PeerVitals>,
}

/// What a leader knows of another manager.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerVitals {
    /// Its name.
    pub name: String,
    /// Entries of the leader's log that it is not known to have.
    pub lag_entries: u64,
    /// Since when it has not answered; `None` if it never has.
    pub last_contact: Option<Duration>,
}

/// What [`Vitals::state`] can be.
pub const STATES: &[&str] = &["leader", "follower", "candidate", "learner"];

/// A peer that has not answered for this long counts as failed: twenty heartbeats of managers in different places.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(4);

/// When a leader was heard of last, in milliseconds after the start.
#[derive(Debug)]
pub(crate) struct Heard {
    start: Instant,
    after_ms: AtomicU64,
}

impl Default for Heard {
    fn default() -> Heard {
        Heard { start: Instant::now(), after_ms: AtomicU64::new(0) }
    }
}

impl Heard {
    /// A leader has spoken.
    pub(crate) fn now(&self) {
        self.after_ms.store(milliseconds(self.start.elapsed()), Ordering::Relaxed);
    }

    fn ago(&self) -> Duration {
        let heard = Duration::from_millis(self.after_ms.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(heard)
    }
}

/// openraft's own instants.
fn ago(at: impl openraft::Instant) -> Duration {
    at.elapsed()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Replica {
    /// How this replica is. Asks nobody.
    pub fn vitals(&self) -> Vitals {
        let metrics = self.raft().metrics();
        let now = metrics.borrow_watched();
        let membership = now.membership_config.membership();
        let (_, me) = self.identity();
        let last = now.last_log_index.unwrap_or(0);
        let peer = |(id, matched): (&u64, &Option<crate::types::LogId>)| {
            let heard = now.heartbeat.as_ref().and_then(|heard| heard.get(id).copied().flatten());
            PeerVitals {
                name: membership.get_node(id).map_or_else(|| id.to_string(), |node| node.name.clone()),
                lag_entries: last.saturating_sub(matched.as_ref().map_or(0, |log_id| log_id.index())),
                last_contact: heard.map(|at| ago(*at)),
            }
        };
        let replication = now.replication.iter().flatten().filter(|(id, _)| **id != me);
        let alive = |id: &u64| {
            let heard = now.heartbeat.as_ref().and_then(|heard| heard.get(id).copied().flatten());
            *id == me || heard.is_some_and(|at| ago(*at) <= PEER_SILENCE_MAX)
        };
        let voters = membership.voter_ids().count();
        let reachable = membership.voter_ids().filter(alive).count();
        Vitals {
            state: match now.state {
                ServerState::Leader => "leader",
                ServerState::Candidate => "candidate",
                ServerState::Learner => "learner",
                ServerState::Follower | ServerState::Shutdown => "follower",
            },
            term: now.current_term,
            commit_index: now.local_committed.as_ref().map_or(0, |log_id| log_id.index()),
            applied_index: now.last_applied.as_ref().map_or(0, |log_id| log_id.index()),
            voters,
            failure_tolerance: now.state.is_leader().then(|| reachable.saturating_sub(voters / 2 + 1)),
            peers: replication.map(peer).collect(),
        }
    }

    /// Counts, from now on, how often another manager became the leader that this one knows.
    pub fn leader_changes(&self) -> Arc<AtomicU64> {
        let count = Arc::new(AtomicU64::new(0));
        let (counted, mut metrics) = (count.clone(), self.raft().server_metrics());
        tokio::spawn(async move {
            let mut last = metrics.borrow_watched().current_leader;
            while metrics.changed().await.is_ok() {
                let leader = metrics.borrow_watched().current_leader;
                if leader.is_some() && leader != last {
                    // The first leader after the start is not a change.
                    counted.fetch_add(u64::from(last.is_some()), Ordering::Relaxed);
                    last = leader;
                }
            }
        });
        count
    }

    /// How long appends and syncs take.
    pub fn storage_meters(&self) -> &Meters {
        self.store().meters()
    }

    /// How large the store is. Looks at the disk.
    ///
    /// # Errors
    /// If its folder cannot be read.
    pub fn storage_sizes(&self) -> Result<Sizes, StorageError> {
        self.store().sizes()
    }

    pub(crate) fn contact_with_leader(&self) -> Contact {
        let metrics = self.raft().metrics();
        let now = metrics.borrow_watched();
        let leader_known = now.current_leader.is_some();
        if !now.state.is_leader() {
            return Contact { leader_known, age: self.heard().ago() };
        }
        let alone = now.membership_config.membership().voter_ids().count() <= 1;
        let age = match &now.last_quorum_acked {
            _ if alone => Duration::ZERO,
            Some(at) => ago(**at),
            None => self.heard().ago(),
        };
        Contact { leader_known, age }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_has_spoken_was_heard_just_now() {
        let heard = Heard { start: Instant::now() - Duration::from_secs(60), after_ms: AtomicU64::new(0) };
        assert!(heard.ago() >= Duration::from_secs(60));
        heard.now();
        assert!(heard.ago() < Duration::from_secs(30));
    }
}
