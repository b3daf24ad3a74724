//! The leader is told to leave, as before an upgrade, while clients write: nobody may notice more than a pause (P5).

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::throughput::value;
use super::writers::Writers;
use crate::report::{Finding, seconds};
use crate::statistics::{largest, median, rounded};
use crate::system::{Clients, Cluster, WAIT_MAX};

const PAUSE_MEDIAN_MAX_MS: f64 = 25.0;
const PAUSE_MAX_MS: f64 = 100.0;

const WRITERS: usize = 8;

/// Writes that show that all writers are at work, before and after.
const IN_SWING: usize = 200;

/// What writers saw of the stops of leaders.
pub(crate) struct Handovers {
    /// Longest time without an acknowledged write, per stop.
    pauses_ms: Vec<f64>,
    /// Longest time that one writer waited, per stop.
    waits_ms: Vec<f64>,
    /// From the signal to the end of the process, per stop.
    stops_s: Vec<f64>,
    failed: usize,
    refused: usize,
    examples: Vec<String>,
}

/// Stops one leader after the other; each comes back before the next.
pub(crate) async fn handovers<C: Clients>(cluster: &mut Cluster<C>, count: usize) -> Result<Handovers> {
    let (pauses_ms, waits_ms, stops_s, examples) = (vec![], vec![], vec![], vec![]);
    let mut all = Handovers { pauses_ms, waits_ms, stops_s, failed: 0, refused: 0, examples };
    for number in 0..count {
        handover(cluster, &mut all).await.with_context(|| format!("{}, stop {}", C::NAME, number + 1))?;
    }
    cluster.settled().await?;
    Ok(all)
}

async fn handover<C: Clients>(cluster: &mut Cluster<C>, all: &mut Handovers) -> Result<()> {
    let leader = cluster.settled().await?;
    let writers = Writers::start(&cluster.clients, WRITERS, &value(256));
    writers.acknowledged(IN_SWING, WAIT_MAX).await?;
    let from = Instant::now();
    let process = cluster.members.process_mut(leader)?;
    process.signal(Signal::SIGTERM)?;
    process.wait(WAIT_MAX).await?;
    all.stops_s.push(seconds(from.elapsed()));
    cluster.members.kill(leader);
    let so_far = writers.with(|seen| seen.acknowledged.len());
    writers.acknowledged(so_far + IN_SWING, WAIT_MAX).await?;
    let until = Instant::now();
    let seen = writers.stop().await;
    all.pauses_ms.push(ms(seen.longest_silence(from, until)));
    all.waits_ms.push(ms(seen.longest_wait(from, until)));
    all.failed += seen.failed;
    all.refused += seen.refused;
    all.examples.extend(seen.examples);
    cluster.members.start(leader)
}

fn ms(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1_000.0, 1)
}

impl Handovers {
    fn detail(&self) -> Value {
        json!({
            "pause_median_ms": median(&self.pauses_ms).map(|middle| rounded(middle, 1)),
            "pause_max_ms": largest(&self.pauses_ms),
            "pauses_ms": self.pauses_ms,
            "longest_wait_of_one_writer_ms": self.waits_ms,
            "from_signal_to_end_s": self.stops_s,
            "failed_requests": self.failed,
            "refused_and_repeated": self.refused,
            "examples_of_failures": self.examples,
        })
    }
}

/// What both did.
pub(crate) fn finding(skep: &Handovers, etcd: &Handovers) -> Finding {
    let middle = median(&skep.pauses_ms).map(|middle| rounded(middle, 1));
    let longest = largest(&skep.pauses_ms);
    println!("  leader told to leave: Skep paused {:?} ms, {} failed", skep.pauses_ms, skep.failed);
    println!("                        etcd paused {:?} ms, {} failed", etcd.pauses_ms, etcd.failed);
    let quick = middle.is_some_and(|middle| middle <= PAUSE_MEDIAN_MAX_MS)
        && longest.is_some_and(|longest| longest <= PAUSE_MAX_MS);
    Finding {
        id: "P5",
        measured: json!({ "pause_median_ms": middle, "pause_max_ms": longest, "failed_requests": skep.failed }),
        target: json!({ "pause_median_ms": PAUSE_MEDIAN_MAX_MS, "pause_max_ms": PAUSE_MAX_MS, "failed_requests": 0 }),
        pass: quick && skep.failed == 0,
        detail: json!({ "skep": skep.detail(), "etcd": etcd.detail() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_pause_with_a_failed_request_misses_the_target() {
        let seen = |pauses_ms: &[f64], failed| Handovers {
            pauses_ms: pauses_ms.to_vec(),
            waits_ms: vec![],
            stops_s: vec![],
            failed,
            refused: 0,
            examples: vec![],
        };
        let etcd = seen(&[21.0], 4);
        assert!(finding(&seen(&[20.0, 99.0, 21.0], 0), &etcd).pass);
        assert!(!finding(&seen(&[20.0, 99.0, 21.0], 1), &etcd).pass);
        assert!(!finding(&seen(&[20.0, 101.0, 21.0], 0), &etcd).pass);
        assert!(!finding(&seen(&[26.0], 0), &etcd).pass);
    }
}
