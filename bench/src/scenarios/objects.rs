//! Many objects: an empty member catches up, all members are restarted, and how much memory that takes (P6).
//!
//! The third member is stopped right after the cluster was founded and has nothing but its founding. When it comes
//! back, the others have 100 000 objects, and their logs no longer reach back to where it stopped.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::throughput::{connected, value};
use super::{Effort, MEMBERS};
use crate::load::{fill, name_key};
use crate::process::resident_bytes;
use crate::report::{Finding, seconds};
use crate::statistics::rounded;
use crate::system::{Clients, Cluster, Session as _};

const RESTART_MAX_S: f64 = 3.0;
const CATCH_UP_MAX_S: f64 = 10.0;
const RESIDENT_MAX_MIB: f64 = 200.0;

const VALUE_BYTES: usize = 256;

/// Connections that fill the cluster.
const FILLERS: usize = 64;

const MIB: f64 = 1024.0 * 1024.0;

/// What one system did.
pub(crate) struct Objects {
    fill: Duration,
    catch_up: Duration,
    restart: Duration,
    resident_filled_mib: Vec<f64>,
    resident_restarted_mib: Vec<f64>,
}

/// Goes through all of it with a fresh cluster.
pub(crate) async fn objects<C: Clients>(cluster: &mut Cluster<C>, effort: Effort) -> Result<Objects> {
    cluster.members.start_all()?;
    cluster.settled().await?;
    let absent = MEMBERS - 1;
    cluster.members.kill(absent);
    let leader = cluster.settled().await?;

    let begin = Instant::now();
    let value = value(VALUE_BYTES);
    fill(&connected(&cluster.clients, FILLERS, |_| leader).await?, effort.objects, &value).await?;
    let mut last = String::new();
    name_key(&mut last, effort.objects);
    let mark = Bytes::from_static(b"the last of all");
    cluster.clients.connect(leader).await?.put(&last, mark.clone()).await?;
    let fill = begin.elapsed();

    let begin = Instant::now();
    cluster.members.start(absent)?;
    cluster.has_applied(absent, &last, &mark).await.context("catching up")?;
    let catch_up = begin.elapsed();
    cluster.settled().await?;
    let resident_filled_mib = resident(cluster)?;

    cluster.members.kill_all()?;
    let begin = Instant::now();
    cluster.members.start_all()?;
    for member in 0..MEMBERS {
        cluster.serving(member).await.context("after the restart")?;
    }
    let restart = begin.elapsed();
    let resident_restarted_mib = resident(cluster)?;
    cluster.members.kill_all()?;
    Ok(Objects { fill, catch_up, restart, resident_filled_mib, resident_restarted_mib })
}

fn resident<C: Clients>(cluster: &Cluster<C>) -> Result<Vec<f64>> {
    let mib = |member| {
        let bytes = resident_bytes(cluster.members.process(member)?.pid())?;
        Ok(rounded(bytes as f64 / MIB, 1))
    };
    cluster.members.running().into_iter().map(mib).collect()
}

impl Objects {
    fn largest_mib(&self) -> f64 {
        self.resident_filled_mib.iter().chain(&self.resident_restarted_mib).copied().fold(0.0, f64::max)
    }

    fn summary(&self) -> Value {
        json!({
            "restart_s": seconds(self.restart),
            "catch_up_s": seconds(self.catch_up),
            "resident_mib": self.largest_mib(),
        })
    }

    fn detail(&self) -> Value {
        let mut detail = self.summary();
        detail["fill_s"] = json!(seconds(self.fill));
        detail["resident_filled_mib"] = json!(self.resident_filled_mib);
        detail["resident_restarted_mib"] = json!(self.resident_restarted_mib);
        detail
    }
}

/// What both did.
pub(crate) fn finding(skep: &Objects, etcd: &Objects, effort: Effort) -> Finding {
    println!("  {} objects: Skep {}", effort.objects, skep.summary());
    println!("                  etcd {}", etcd.summary());
    Finding {
        id: "P6",
        measured: skep.summary(),
        target: json!({
            "restart_s": RESTART_MAX_S, "catch_up_s": CATCH_UP_MAX_S, "resident_mib": RESIDENT_MAX_MIB,
        }),
        pass: seconds(skep.restart) <= RESTART_MAX_S
            && seconds(skep.catch_up) <= CATCH_UP_MAX_S
            && skep.largest_mib() <= RESIDENT_MAX_MIB,
        detail: json!({
            "objects": effort.objects,
            "value_bytes": VALUE_BYTES,
            "empty_member": "stopped right after the founding; the others' logs no longer reach back to it",
            "skep": skep.detail(),
            "etcd": etcd.detail(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_that_is_too_large_misses_the_target() {
        let seen = |resident: &[f64], restart_s| Objects {
            fill: Duration::from_secs(9),
            catch_up: Duration::from_secs(2),
            restart: Duration::from_secs(restart_s),
            resident_filled_mib: resident.to_vec(),
            resident_restarted_mib: vec![50.0],
        };
        let etcd = seen(&[100.0], 1);
        let pass = |skep| finding(&skep, &etcd, super::super::QUICK).pass;
        assert!(pass(seen(&[100.0, 199.0], 3)));
        assert!(!pass(seen(&[100.0, 201.0], 3)));
        assert!(!pass(seen(&[100.0, 199.0], 4)));
    }
}
