//! How often each manager syncs its disk for a write: group commit shows here, and so does a sync too many (P1).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::throughput::{connected, value};
use crate::load::{Fleet, KeyClient, Work};
use crate::skep::Skep;
use crate::statistics::rounded;
use crate::strace::Strace;
use crate::system::Cluster;

/// Of the managers' metrics: its count is the number of syncs.
const METRIC: &str = "skep_raft_fsync_duration_seconds_count";

/// How many clients write at a time.
const CLIENTS: &[usize] = &[1, 64];

/// Long enough for thousands of syncs.
const ROUND: Duration = Duration::from_secs(1);

/// Syncs per write of each manager. Counted by the managers themselves if they do, otherwise by `strace`, which slows
/// them, so that more writes share a sync than without it.
pub(crate) async fn per_write(cluster: &mut Cluster<Skep>, dir: &Path) -> Result<Value> {
    let mut all = vec![];
    for clients in CLIENTS {
        let leader = cluster.settled().await?;
        let sessions = connected(&cluster.clients, *clients, |_| leader).await?;
        let value = value(256);
        let writer = |session| KeyClient::new(session, Work::Write, value.clone());
        let mut fleet = Fleet::new(sessions.into_iter().map(writer).collect());
        let by_metrics = told(cluster).await?;
        let (counted_by, syncs, writes) = match by_metrics {
            Some(before) => {
                let writes = fleet.round(ROUND).await?.answered;
                let after = told(cluster).await?.context("the managers stopped counting their syncs")?;
                let syncs: Vec<u64> =
                    after.iter().zip(&before).map(|(after, before)| after - before).collect();
                ("the managers' metrics", syncs, writes)
            }
            None => {
                let (syncs, writes) = traced(cluster, &mut fleet, dir).await?;
                ("strace", syncs, writes)
            }
        };
        let per_write: Vec<f64> =
            syncs.iter().map(|syncs| rounded(*syncs as f64 / writes.max(1) as f64, 3)).collect();
        println!("  syncs per write, {clients} clients: {per_write:?} (counted by {counted_by})");
        all.push(json!({ "clients": clients, "writes": writes, "syncs_per_write_of_each_manager": per_write,
            "leader": leader + 1, "counted_by": counted_by }));
    }
    Ok(json!(all))
}

async fn traced<S: crate::system::Session>(
    cluster: &Cluster<Skep>,
    fleet: &mut Fleet<KeyClient<S>>,
    dir: &Path,
) -> Result<(Vec<u64>, u64)> {
    let mut straces = vec![];
    for member in cluster.members.running() {
        straces.push(Strace::count_syncs(cluster.members.process(member)?.pid(), dir).await?);
    }
    let writes = fleet.round(ROUND).await?.answered;
    let mut syncs = vec![];
    for strace in straces {
        syncs.push(strace.stop().await?);
    }
    Ok((syncs, writes))
}

/// How many syncs each manager has made so far, if they all say.
async fn told(cluster: &Cluster<Skep>) -> Result<Option<Vec<u64>>> {
    let mut all = vec![];
    for member in cluster.members.running() {
        let answer = cluster.clients.get(member, "/metrics").await?;
        match count_in(&String::from_utf8_lossy(answer.body())) {
            Some(count) => all.push(count),
            None => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// The sum over all series of the metric.
fn count_in(metrics: &str) -> Option<u64> {
    let counts = metrics.lines().filter(|line| line.starts_with(METRIC));
    let counts: Vec<f64> = counts.filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
    (!counts.is_empty()).then(|| counts.iter().sum::<f64>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_the_metrics_or_it_is_not_there() {
        let metrics = "# TYPE skep_raft_fsync_duration_seconds histogram\n\
                       skep_raft_fsync_duration_seconds_sum 1.5\n\
                       skep_raft_fsync_duration_seconds_count 42\n";
        assert_eq!(count_in(metrics), Some(42));
        assert_eq!(count_in("404 not found"), None);
    }
}
