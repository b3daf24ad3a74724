//! What Skep costs while nothing happens (P8), and how soon it is there (P12).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Effort;
use crate::process::{LOOK, processor_seconds, resident_bytes};
use crate::report::{Finding, seconds};
use crate::skep::Skep;
use crate::statistics::{largest, median, rounded};
use crate::system::{Clients, Cluster, WAIT_MAX};

const RESIDENT_MAX_MIB: f64 = 45.0;
const PROCESSOR_MAX_PERCENT: f64 = 1.0;
const BINARY_MAX_MIB: f64 = 45.0;

const READY_MAX_S: f64 = 0.5;
const HELP_MAX_MS: f64 = 20.0;

/// `skep --help` is quick, so it is asked often.
const HELPS: usize = 20;

const MIB: f64 = 1024.0 * 1024.0;

/// What members cost that have nothing to do.
pub(crate) struct Idle {
    resident_mib: Vec<f64>,
    processor_percent: Vec<f64>,
}

/// Looks at a settled cluster that nobody uses.
pub(crate) async fn idle<C: Clients>(cluster: &mut Cluster<C>, effort: Effort) -> Result<Idle> {
    cluster.settled().await?;
    let pid = |member: usize| Ok(cluster.members.process(member)?.pid());
    let pids: Vec<Pid> = cluster.members.running().into_iter().map(pid).collect::<Result<_>>()?;
    let used = || pids.iter().map(|pid| processor_seconds(*pid)).collect::<Result<Vec<f64>>>();
    let (begin, before) = (Instant::now(), used()?);
    tokio::time::sleep(effort.idle).await;
    let (elapsed, after) = (begin.elapsed().as_secs_f64(), used()?);
    let percent = |(after, before): (f64, f64)| rounded((after - before) / elapsed * 100.0, 2);
    let mib = |pid: &Pid| Ok(rounded(resident_bytes(*pid)? as f64 / MIB, 1));
    Ok(Idle {
        resident_mib: pids.iter().map(mib).collect::<Result<_>>()?,
        processor_percent: after.into_iter().zip(before).map(percent).collect(),
    })
}

impl Idle {
    fn detail(&self) -> Value {
        json!({ "resident_mib": self.resident_mib, "processor_percent": self.processor_percent })
    }
}

/// P8. The largest of the managers counts.
pub(crate) fn idle_finding(skep: &Idle, etcd: &Idle, binary: &Path) -> Result<Finding> {
    let size = fs::metadata(binary).with_context(|| format!("looking at {}", binary.display()))?.len();
    let binary_mib = rounded(size as f64 / MIB, 1);
    let (resident, processor) = (largest(&skep.resident_mib), largest(&skep.processor_percent));
    let below = |value: Option<f64>, max| value.is_some_and(|value| value <= max);
    Ok(Finding {
        id: "P8",
        measured: json!({ "resident_mib": resident, "processor_percent": processor, "binary_mib": binary_mib }),
        target: json!({
            "resident_mib": RESIDENT_MAX_MIB,
            "processor_percent": PROCESSOR_MAX_PERCENT,
            "binary_mib": BINARY_MAX_MIB,
        }),
        pass: below(resident, RESIDENT_MAX_MIB)
            && below(processor, PROCESSOR_MAX_PERCENT)
            && binary_mib <= BINARY_MAX_MIB,
        detail: json!({
            "skep": skep.detail(),
            "etcd": etcd.detail(),
            "not_measured": "the agent, which needs a host",
        }),
    })
}

/// P12, with a cluster of one manager that has been founded.
pub(crate) async fn starts(cluster: &mut Cluster<Skep>, binary: &Path, effort: Effort) -> Result<Finding> {
    let first = start(cluster).await.context("the first start")?;
    let mut ready_s = vec![];
    for _ in 0..effort.starts {
        cluster.members.kill(0);
        ready_s.push(seconds(start(cluster).await?));
    }
    cluster.members.kill(0);
    let mut help_ms = vec![];
    for _ in 0..HELPS {
        let begin = Instant::now();
        let help = Command::new(binary).arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !help.context("starting skep --help")?.success() {
            bail!("skep --help fails");
        }
        help_ms.push(rounded(begin.elapsed().as_secs_f64() * 1_000.0, 2));
    }
    let help = median(&help_ms).map(|help| rounded(help, 2));
    let ready = median(&ready_s).map(|ready| rounded(ready, 4));
    Ok(Finding {
        id: "P12",
        measured: json!({ "ready_s": ready, "help_ms": help }),
        target: json!({ "ready_s": READY_MAX_S, "help_ms": HELP_MAX_MS }),
        pass: ready.is_some_and(|ready| ready <= READY_MAX_S) && help.is_some_and(|help| help <= HELP_MAX_MS),
        detail: json!({
            "first_start_s": seconds(first),
            "starts_s": ready_s,
            "ready": "one manager, from its start until /readyz answers 200",
            "help_ms": help_ms,
        }),
    })
}

async fn start(cluster: &mut Cluster<Skep>) -> Result<Duration> {
    let begin = Instant::now();
    cluster.members.start(0)?;
    while !cluster.clients.probe(0, "/readyz").await.unwrap_or(false) {
        cluster.members.process_mut(0)?.must_run()?;
        if begin.elapsed() > WAIT_MAX {
            bail!("the manager is not ready after {} s", WAIT_MAX.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(begin.elapsed())
}
