//! One manager's disk needs 50 ms for every sync, first a follower's, then the leader's: nobody may be voted out for it (P4).

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::throughput::value;
use super::writers::Writers;
use super::{Effort, MEMBERS};
use crate::skep::Skep;
use crate::strace::Strace;
use crate::system::{Cluster, WAIT_MAX};

/// What a disk in trouble needs; a good one needs a tenth of a millisecond.
const SYNC_DELAY: Duration = Duration::from_millis(50);

/// Enough for a sync to be under way all the time.
const WRITERS: usize = 16;

/// Who was elected although nobody had failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elections {
    /// While a follower's disk was slow.
    pub(crate) follower: u64,
    /// While the leader's disk was slow.
    pub(crate) leader: u64,
    /// Writes that were acknowledged in the two phases.
    pub(crate) writes_meanwhile: [usize; 2],
    /// Syncs that were made slow in the two phases.
    pub(crate) slow_syncs: [u64; 2],
}

impl Elections {
    pub(crate) fn total(&self) -> u64 {
        self.follower + self.leader
    }

    pub(crate) fn detail(&self) -> Value {
        let phase = |elections, at: usize| json!({ "elections": elections, "writes_meanwhile": self.writes_meanwhile[at], "slow_syncs": self.slow_syncs[at] });
        json!({
            "sync_delay_ms": SYNC_DELAY.as_millis() as u64,
            "follower": phase(self.follower, 0),
            "leader": phase(self.leader, 1),
        })
    }
}

/// Slows both disks in turn, under load, and counts terms.
pub(crate) async fn elections(cluster: &mut Cluster<Skep>, effort: Effort, dir: &Path) -> Result<Elections> {
    let leader = cluster.settled().await?;
    let of_follower = phase(cluster, (leader + 1) % MEMBERS, effort, dir).await?;
    let leader = cluster.settled().await?;
    let of_leader = phase(cluster, leader, effort, dir).await?;
    cluster.settled().await?;
    Ok(Elections {
        follower: of_follower.elections,
        leader: of_leader.elections,
        writes_meanwhile: [of_follower.writes, of_leader.writes],
        slow_syncs: [of_follower.slow_syncs, of_leader.slow_syncs],
    })
}

struct Phase {
    elections: u64,
    writes: usize,
    slow_syncs: u64,
}

async fn phase(cluster: &mut Cluster<Skep>, slow: usize, effort: Effort, dir: &Path) -> Result<Phase> {
    let writers = Writers::start(&cluster.clients, WRITERS, &value(256));
    writers.acknowledged(WRITERS, WAIT_MAX).await?;
    let before = newest_term(cluster).await?;
    let strace = Strace::delay_syncs(cluster.members.process(slow)?.pid(), SYNC_DELAY, dir).await?;
    let begun = writers.with(|seen| seen.acknowledged.len());
    tokio::time::sleep(effort.slow).await;
    let writes = writers.with(|seen| seen.acknowledged.len()) - begun;
    let after = newest_term(cluster).await?;
    let slow_syncs = strace.stop().await?;
    writers.stop().await;
    if slow_syncs == 0 {
        bail!("no sync was made slow, so nothing was measured");
    }
    Ok(Phase { elections: after - before, writes, slow_syncs })
}

/// Of those that answer: every election makes a term, also one that nobody wins.
async fn newest_term(cluster: &Cluster<Skep>) -> Result<u64> {
    let mut newest = None;
    for member in cluster.members.running() {
        if let Ok(term) = cluster.clients.term(member).await {
            newest = newest.max(Some(term));
        }
    }
    match newest {
        Some(term) => Ok(term),
        None => bail!("no manager tells its term"),
    }
}
