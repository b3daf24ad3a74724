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
}

impl Elections {
    pub(crate) fn total(&self) -> u64 {
        self.follower + self.leader
    }

    pub(crate) fn detail(&self) -> Value {
        let phase = |elections, writes| json!({ "elections": elections, "writes_meanwhile": writes });
        json!({
            "sync_delay_ms": SYNC_DELAY.as_millis() as u64,
            "follower": phase(self.follower, self.writes_meanwhile[0]),
            "leader": phase(self.leader, self.writes_meanwhile[1]),
        })
    }
}

/// Slows both disks in turn, under load, and counts terms.
pub(crate) async fn elections(cluster: &mut Cluster<Skep>, effort: Effort, dir: &Path) -> Result<Elections> {
    let leader = cluster.settled().await?;
    let (follower, writes_of_follower) = phase(cluster, (leader + 1) % MEMBERS, effort, dir).await?;
    let leader = cluster.settled().await?;
    let (leader, writes_of_leader) = phase(cluster, leader, effort, dir).await?;
    cluster.settled().await?;
    Ok(Elections { follower, leader, writes_meanwhile: [writes_of_follower, writes_of_leader] })
}

async fn phase(cluster: &mut Cluster<Skep>, slow: usize, effort: Effort, dir: &Path) -> Result<(u64, usize)> {
    let writers = Writers::start(&cluster.clients, WRITERS, &value(256));
    writers.acknowledged(WRITERS, WAIT_MAX).await?;
    let before = newest_term(cluster).await?;
    let strace = Strace::delay_syncs(cluster.members.process(slow)?.pid(), SYNC_DELAY, dir).await?;
    let begun = writers.with(|seen| seen.acknowledged.len());
    tokio::time::sleep(effort.slow).await;
    let written = writers.with(|seen| seen.acknowledged.len()) - begun;
    let after = newest_term(cluster).await?;
    strace.stop().await?;
    writers.stop().await;
    Ok((after - before, written))
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
