//! What the doors want to know about the managers, asked of Raft.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use skep_api::{Cluster, ClusterStatus, MemberStatus, Readiness};
use skep_raft::Replica;

/// This manager's view of the managers.
pub(crate) struct Members {
    replica: Replica,
    cluster: String,
    name: String,
    draining: AtomicBool,
}

impl Members {
    pub(crate) fn new(replica: Replica, cluster: &str, name: &str) -> Members {
        Members { replica, cluster: cluster.into(), name: name.into(), draining: AtomicBool::new(false) }
    }

    /// From now on load balancers are told to send nothing new.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Cluster for Members {
    async fn status(&self) -> ClusterStatus {
        let status = self.replica.status().await;
        ClusterStatus {
            cluster: status.cluster,
            leader: status.leader,
            term: status.term,
            voters: status.voters,
            quorum: status.quorum,
            failure_tolerance: status.failure_tolerance,
            revision: status.revision,
            epoch: self.replica.epoch(),
            diverged: diverged(&status.members),
            members: status.members.into_iter().map(member).collect(),
        }
    }

    fn readiness(&self) -> Readiness {
        match (self.draining.load(Ordering::SeqCst), self.replica.knows_leader()) {
            (true, _) => Readiness::Draining,
            (false, true) => Readiness::Serving,
            (false, false) => Readiness::Unusable("no leader is known".into()),
        }
    }

    fn is_leader(&self) -> bool {
        self.replica.is_leader()
    }

    fn node_name(&self) -> &str {
        &self.name
    }

    fn cluster_id(&self) -> &str {
        &self.cluster
    }

    fn epoch(&self) -> u64 {
        self.replica.epoch()
    }
}

/// Every manager that differs from another one, whoever of the two has said so.
fn diverged(members: &[skep_raft::MemberStatus]) -> Vec<String> {
    let pairs = members.iter().flat_map(|member| member.diverged.iter().map(|other| (member.id, *other)));
    let involved: BTreeSet<u64> = pairs.flat_map(|(one, other)| [one, other]).collect();
    let named = members.iter().filter(|member| involved.contains(&member.id));
    named.map(|member| member.name.clone()).collect()
}

fn member(status: skep_raft::MemberStatus) -> MemberStatus {
    MemberStatus {
        name: status.name,
        id: status.id,
        role: status.role,
        state: status.state,
        peer_address: Some(status.peer_address),
        api_url: Some(status.api_url),
        last_log_index: status.last_log_index,
        applied_index: status.applied_index,
        lag_entries: status.lag_entries,
        last_contact_ms: status.last_contact_ms,
        version: status.version,
        resident_bytes: status.resident_bytes,
        epoch: (status.epoch > 0).then_some(status.epoch),
        snapshot_rows: status.snapshot_rows,
    }
}
