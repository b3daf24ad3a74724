//! The leader's process is killed: how long until the next write is acknowledged (P4).

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::slow_disk::Elections;
use crate::report::{Finding, seconds};
use crate::statistics::{largest, median};
use crate::system::{Clients, Cluster, Failure, Session, WAIT_MAX};

const MEDIAN_MAX: f64 = 0.5;
const OUTAGE_MAX: f64 = 1.5;

/// Between two attempts at each survivor. New ones do not wait for old ones: what is measured is when writing is
/// possible again, and not how long a request hangs that came too early.
const ATTEMPT_EVERY: Duration = Duration::from_millis(5);

/// Kills the leader again and again; every killed member comes back before the next one. The outages, in seconds.
pub(crate) async fn outages<C: Clients>(cluster: &mut Cluster<C>, kills: usize) -> Result<Vec<f64>> {
    let mut outages = vec![];
    for number in 0..kills {
        let outage =
            outage(cluster, number).await.with_context(|| format!("{}, kill {}", C::NAME, number + 1))?;
        outages.push(seconds(outage));
    }
    cluster.settled().await?;
    Ok(outages)
}

async fn outage<C: Clients>(cluster: &mut Cluster<C>, number: usize) -> Result<Duration> {
    let leader = cluster.settled().await?;
    let mut sessions = vec![];
    for survivor in cluster.members.running().into_iter().filter(|member| *member != leader) {
        sessions.push(cluster.clients.connect(survivor).await?);
    }
    let begin = Instant::now();
    cluster.members.process(leader)?.signal(Signal::SIGKILL)?;
    let outage = first_write(&sessions, number).await? - begin;
    cluster.members.kill(leader);
    cluster.members.start(leader)?;
    Ok(outage)
}

/// When the first of many attempts was acknowledged.
async fn first_write<S: Session>(sessions: &[S], number: usize) -> Result<Instant> {
    let deadline = Instant::now() + WAIT_MAX;
    let mut attempts = JoinSet::new();
    let mut last: Option<Failure> = None;
    let mut tick = tokio::time::interval(ATTEMPT_EVERY);
    loop {
        tokio::select! {
            at = tick.tick() => {
                if at > deadline {
                    bail!("no write was acknowledged within {} s: {last:?}", WAIT_MAX.as_secs());
                }
                for session in sessions {
                    let (mut session, value) = (session.clone(), Bytes::from(format!("after kill {number}")));
                    attempts.spawn(async move { session.put("outage", value).await.map(|()| Instant::now()) });
                }
            }
            Some(attempt) = attempts.join_next() => match attempt.context("an attempt stopped")? {
                Ok(at) => return Ok(at),
                Err(failure) => last = Some(failure),
            }
        }
    }
}

/// What the outages and the slow disk come to.
pub(crate) fn finding(skep: &[f64], etcd: &[f64], slow_disk: &Result<Elections>) -> Finding {
    let (middle, longest) = (median(skep), largest(skep));
    let (elections, slow) = match slow_disk {
        Ok(elections) => (json!(elections.total()), elections.detail()),
        Err(error) => (Value::Null, json!({ "error": format!("{error:#}") })),
    };
    let quick = middle.is_some_and(|middle| middle <= MEDIAN_MAX)
        && longest.is_some_and(|longest| longest <= OUTAGE_MAX);
    println!("  leader killed, seconds without writes: Skep {skep:?}, etcd {etcd:?}");
    println!("  slow disk: {slow}");
    Finding {
        id: "P4",
        measured: json!({ "median_s": middle, "max_s": longest, "elections_by_a_slow_disk": elections }),
        target: json!({ "median_s": MEDIAN_MAX, "max_s": OUTAGE_MAX, "elections_by_a_slow_disk": 0 }),
        pass: quick && elections == json!(0),
        detail: json!({
            "skep": { "median_s": middle, "max_s": longest, "outages_s": skep },
            "etcd": { "median_s": median(etcd), "max_s": largest(etcd), "outages_s": etcd },
            "slow_disk": slow,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_failover_is_not_enough_if_a_slow_disk_causes_elections() {
        let slow = |follower, leader| Ok(Elections { follower, leader, writes_meanwhile: [10, 10] });
        assert!(finding(&[0.2, 0.4, 0.3], &[1.3], &slow(0, 0)).pass);
        assert!(!finding(&[0.2, 0.4, 0.3], &[1.3], &slow(0, 1)).pass);
        assert!(!finding(&[0.2, 1.6, 0.3], &[1.3], &slow(0, 0)).pass);
        assert!(!finding(&[0.2], &[1.3], &Err(anyhow::anyhow!("no strace"))).pass);
    }
}
