//! `make bench`: how fast Skep is, beside etcd, in one run on one disk.
//!
//! Absolute figures drift between machines and hours, so every claim is a ratio of neighbouring rounds. Both systems
//! run as three real processes each and are driven by the same closed loops over the same kind of connection; what
//! differs is that Skep's is encrypted and authenticated. One thread drives both, so that it takes little from the
//! processors that the members need. `docs/how-to/measure.md` says how to read what comes out.

mod agents;
mod chaos;
mod chart;
mod connection;
mod etcd;
mod load;
mod machine;
mod process;
mod random;
mod report;
mod scenarios;
mod skep;
mod statistics;
mod strace;
mod system;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::etcd::Etcd;
use crate::machine::Neighbours;
use crate::report::{Finding, Report};
use crate::scenarios::throughput::{self, Arena};
use crate::scenarios::{
    Effort, FULL, MEMBERS, QUICK, agents as storms, doors, footprint, handover, kills, objects, planners,
    slow_disk, syncs,
};
use crate::skep::Skep;
use crate::system::Cluster;

/// Measures Skep and, in the same run, etcd 3.5.1
#[derive(Parser)]
#[command(name = "skep-bench")]
struct Bench {
    /// Every scenario in three minutes, with fewer and shorter rounds
    #[arg(long)]
    quick: bool,
    /// Only these targets
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Of P1 to P3, only workloads whose names contain this, like "256 clients"; writes no summary
    #[arg(long, value_name = "TEXT")]
    workload: Option<String>,
    /// The program under test [default: beside this one]
    #[arg(long, value_name = "FILE")]
    skep: Option<PathBuf>,
    /// etcd 3.5.1
    #[arg(long, value_name = "FILE", default_value = "etcd")]
    etcd: PathBuf,
    /// Where summary.json and ratios.svg are written
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Where both systems keep their data, on a disk [default: below --out]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Leave data and logs where they are; after a failure they are left anyway
    #[arg(long)]
    keep: bool,
    /// Measure nothing: commit this many transactions while managers are killed, and look for what was lost
    #[arg(long, value_name = "COUNT", num_args = 0..=1, default_missing_value = "1000000")]
    chaos: Option<u64>,
}

/// What can be asked for with `--only`, in the order in which it is measured.
const IDS: &[&str] = &["P12", "P8", "P1", "P2", "P3", "P4", "P5", "P6", "P9", "P10", "P13", "P14"];

fn main() -> ExitCode {
    let bench = Bench::parse();
    // One thread; see above.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::from(error).context("starting the runtime")),
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = bench.run() => outcome,
            // Whatever runs is ended when it is dropped.
            () = stop_signal() => bail!("interrupted"),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

async fn stop_signal() {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

impl Bench {
    async fn run(&self) -> Result<()> {
        if let Some(unknown) = self.only.iter().find(|id| !IDS.contains(&id.as_str())) {
            bail!("--only {unknown}: there is no such target here; use some of {}", IDS.join(","));
        }
        let effort = if self.quick { QUICK } else { FULL };
        let data = self.data.clone().unwrap_or_else(|| self.out.join("data"));
        let mut data = Data::make(&data, self.keep)?;
        if let Some(transactions) = self.chaos {
            let outcome = self.chaos(transactions, &data).await;
            data.keep |= outcome.is_err();
            return outcome;
        }
        let mut machine = machine::describe(&data.dir)?;
        println!("machine: {machine}\n");
        let mut report = Report::default();
        self.small(effort, &data, &mut report).await?;
        let busy = self.large(effort, &data, &mut report).await?;
        machine["processors_used_by_others"] = busy;
        self.many(effort, &data, &mut report).await?;
        self.agents(effort, &data, &mut report).await?;
        self.doors(effort, &data, &mut report).await?;
        if self.wants("P10") {
            report.add(planners::passes().await.unwrap_or_else(|error| Finding::failed("P10", &error)));
        }
        machine["skep"] = json!(self.skep()?.display().to_string());
        println!("other programs used {} processors meanwhile", machine["processors_used_by_others"]);
        // A target of which only a part was measured is neither met nor missed.
        if self.workload.is_none() {
            report.write(&self.out, &machine, !self.only.is_empty())?;
            println!("written: {0}/summary.json, {0}/ratios.svg", self.out.display());
        }
        if !report.missed().is_empty() {
            println!("missed: {}", report.missed().join(", "));
        }
        data.keep |= !report.unmeasured().is_empty();
        match report.unmeasured()[..] {
            [] => Ok(()),
            ref ids => bail!("could not be measured: {}", ids.join(", ")),
        }
    }

    async fn chaos(&self, transactions: u64, data: &Data) -> Result<()> {
        let folder = data.folder("chaos")?;
        let mut cluster = skep::found(&self.skep()?, &folder, &data.addresses(0, MEMBERS))?;
        cluster.members.start_all()?;
        chaos::run(&mut cluster, transactions).await
    }

    /// One manager alone.
    async fn small(&self, effort: Effort, data: &Data, report: &mut Report) -> Result<()> {
        if !self.wants("P12") {
            return Ok(());
        }
        let binary = self.skep()?;
        let mut alone = skep::found(&binary, &data.folder("alone")?, &data.addresses(40, 1))?;
        let finding = footprint::starts(&mut alone, &binary, effort).await;
        report.add(finding.unwrap_or_else(|error| Finding::failed("P12", &error)));
        Ok(())
    }

    /// Three members of each, side by side. Answers how much of the machine others used during the workloads.
    async fn large(&self, effort: Effort, data: &Data, report: &mut Report) -> Result<Value> {
        if !["P8", "P1", "P2", "P3", "P4", "P5"].iter().any(|id| self.wants(id)) {
            return Ok(Value::Null);
        }
        let (mut skep, mut etcd) = self.clusters(data, "large", 0)?;
        skep.members.start_all()?;
        etcd.members.start_all()?;
        if self.wants("P8") {
            let finding = idle(&mut skep, &mut etcd, &self.skep()?, effort).await;
            report.add(finding.unwrap_or_else(|error| Finding::failed("P8", &error)));
        }
        let busy = self.workloads(&mut skep, &mut etcd, effort, data, report).await;
        if self.wants("P4") {
            let finding = failover(&mut skep, &mut etcd, effort, &data.dir).await;
            report.add(finding.unwrap_or_else(|error| Finding::failed("P4", &error)));
        }
        if self.wants("P5") {
            let finding = planned(&mut skep, &mut etcd, effort).await;
            report.add(finding.unwrap_or_else(|error| Finding::failed("P5", &error)));
        }
        Ok(busy)
    }

    /// Answers how much of the machine others used meanwhile, if that could be measured.
    async fn workloads(
        &self,
        skep: &mut Cluster<Skep>,
        etcd: &mut Cluster<Etcd>,
        effort: Effort,
        data: &Data,
        report: &mut Report,
    ) -> Value {
        let wanted: Vec<&'static str> = ["P1", "P2", "P3"].into_iter().filter(|id| self.wants(id)).collect();
        if wanted.is_empty() {
            return Value::Null;
        }
        let neighbours = match begin(skep, etcd, effort).await {
            Ok(neighbours) => neighbours,
            Err(error) => {
                wanted.iter().for_each(|id| report.add(Finding::failed(id, &error)));
                return Value::Null;
            }
        };
        throughput::heading();
        for id in wanted {
            let more = match id {
                // Before the workloads, so that it is printed above their verdict.
                "P1" => match syncs::per_write(skep, &data.dir).await {
                    Ok(syncs) => json!({ "syncs": syncs }),
                    Err(error) => json!({ "syncs": { "error": format!("{error:#}") } }),
                },
                _ => json!({}),
            };
            let mut arena = Arena { skep: &mut *skep, etcd: &mut *etcd, effort };
            arena.measure(id, self.workload.as_deref().unwrap_or_default(), report, more).await;
        }
        // A member that has ended meanwhile took its processor time with it.
        neighbours.busy().map_or(Value::Null, |busy| json!(busy))
    }

    /// Many objects, in clusters of their own, one system after the other.
    async fn many(&self, effort: Effort, data: &Data, report: &mut Report) -> Result<()> {
        if !self.wants("P6") {
            return Ok(());
        }
        let (mut skep, mut etcd) = self.clusters(data, "many", 20)?;
        let finding = filled(&mut skep, &mut etcd, effort).await;
        report.add(finding.unwrap_or_else(|error| Finding::failed("P6", &error)));
        Ok(())
    }

    /// Agents by the thousand, in a cluster of their own.
    async fn agents(&self, effort: Effort, data: &Data, report: &mut Report) -> Result<()> {
        if !self.wants("P9") {
            return Ok(());
        }
        let mut skep = skep::found(&self.skep()?, &data.folder("agents")?, &data.addresses(50, MEMBERS))?;
        let finding = storms::storm(&mut skep, effort).await;
        report.add(finding.unwrap_or_else(|error| Finding::failed("P9", &error)));
        Ok(())
    }

    /// The published API, in clusters of their own.
    async fn doors(&self, effort: Effort, data: &Data, report: &mut Report) -> Result<()> {
        if !["P13", "P14"].iter().any(|id| self.wants(id)) {
            return Ok(());
        }
        storms::raise_file_limit(doors::WATCHES as u64)?;
        let (mut skep, mut etcd) = self.clusters(data, "doors", 60)?;
        skep.members.start_all()?;
        if self.wants("P13") {
            let finding = doors::watches(&mut skep).await;
            report.add(finding.unwrap_or_else(|error| Finding::failed("P13", &error)));
        }
        if self.wants("P14") {
            etcd.members.start_all()?;
            let finding = doors::reads(&mut skep, &mut etcd, &self.skep()?, effort).await;
            report.add(finding.unwrap_or_else(|error| Finding::failed("P14", &error)));
        }
        Ok(())
    }

    fn clusters(&self, data: &Data, name: &str, first: u8) -> Result<(Cluster<Skep>, Cluster<Etcd>)> {
        let skep = data.folder(&format!("{name}-skep"))?;
        let skep = skep::found(&self.skep()?, &skep, &data.addresses(first, MEMBERS))?;
        let etcd = data.folder(&format!("{name}-etcd"))?;
        Ok((skep, etcd::found(&self.etcd, &etcd, &data.addresses(first + 10, MEMBERS))))
    }

    fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == id)
    }

    fn skep(&self) -> Result<PathBuf> {
        let this = std::env::current_exe().context("finding this program")?;
        let binary = self.skep.clone().unwrap_or_else(|| this.with_file_name("skep"));
        if !binary.is_file() {
            bail!(
                "there is no {}: build it with 'cargo build --release --workspace', or name it with --skep",
                binary.display()
            );
        }
        Ok(binary)
    }
}

/// Fills both clusters; from then on it is watched what others do.
async fn begin(skep: &mut Cluster<Skep>, etcd: &mut Cluster<Etcd>, effort: Effort) -> Result<Neighbours> {
    Arena { skep: &mut *skep, etcd: &mut *etcd, effort }.fill().await?;
    let mut ours = vec![];
    for member in 0..MEMBERS {
        ours.extend([skep.members.process(member)?.pid(), etcd.members.process(member)?.pid()]);
    }
    Neighbours::watch(ours)
}

async fn idle(
    skep: &mut Cluster<Skep>,
    etcd: &mut Cluster<Etcd>,
    binary: &Path,
    effort: Effort,
) -> Result<Finding> {
    let theirs = footprint::idle(etcd, effort).await?;
    let ours = footprint::idle(skep, effort).await?;
    footprint::idle_finding(&ours, &theirs, binary)
}

async fn failover(
    skep: &mut Cluster<Skep>,
    etcd: &mut Cluster<Etcd>,
    effort: Effort,
    dir: &Path,
) -> Result<Finding> {
    let theirs = kills::outages(etcd, effort.kills).await?;
    let ours = kills::outages(skep, effort.kills).await?;
    let slow = slow_disk::elections(skep, effort, dir).await;
    Ok(kills::finding(&ours, &theirs, &slow))
}

async fn planned(skep: &mut Cluster<Skep>, etcd: &mut Cluster<Etcd>, effort: Effort) -> Result<Finding> {
    let theirs = handover::handovers(etcd, effort.handovers).await?;
    let ours = handover::handovers(skep, effort.handovers).await?;
    Ok(handover::finding(&ours, &theirs))
}

async fn filled(skep: &mut Cluster<Skep>, etcd: &mut Cluster<Etcd>, effort: Effort) -> Result<Finding> {
    let theirs = objects::objects(etcd, effort).await.context("etcd")?;
    let ours = objects::objects(skep, effort).await.context("Skep")?;
    Ok(objects::finding(&ours, &theirs, effort))
}

/// The data of one run; removed at its end.
struct Data {
    dir: PathBuf,
    keep: bool,
}

impl Data {
    fn make(parent: &Path, keep: bool) -> Result<Data> {
        let dir = parent.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        // Both systems get absolute paths: they may change their working folder.
        let dir = dir.canonicalize().with_context(|| format!("finding {}", dir.display()))?;
        Ok(Data { dir, keep })
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.join(name);
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// Loopback addresses that no other run uses at the same time.
    fn addresses(&self, first: u8, count: usize) -> Vec<Ipv4Addr> {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        (first + 1..).take(count).map(|last| Ipv4Addr::new(127, 128 | (high & 0x7f), low, last)).collect()
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if self.keep {
            println!("data and logs are in {}", self.dir.display());
        } else if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("removing {}: {error}", self.dir.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_names_what_can_be_measured() {
        use clap::CommandFactory as _;
        Bench::command().debug_assert();
        let bench = Bench::parse_from(["skep-bench", "--only", "P1,P4"]);
        assert!(bench.wants("P4") && !bench.wants("P2"));
    }

    #[tokio::test]
    async fn a_target_that_does_not_exist_is_refused_by_name() {
        let bench = Bench::parse_from(["skep-bench", "--only", "P99"]);
        let error = bench.run().await.expect_err("is refused").to_string();
        assert!(error.contains("P99") && error.contains("P12"), "{error}");
    }

    #[test]
    fn members_get_addresses_of_their_own_and_data_is_removed() {
        let parent = tempfile::tempdir().expect("makes a folder");
        let data = Data::make(parent.path(), false).expect("makes a folder");
        let addresses = [data.addresses(0, 3), data.addresses(10, 3)].concat();
        assert!(addresses.iter().all(|address| address.is_loopback()), "{addresses:?}");
        assert_eq!(addresses.iter().collect::<std::collections::BTreeSet<_>>().len(), 6);
        data.folder("a").expect("makes a folder");
        drop(data);
        assert_eq!(fs::read_dir(parent.path()).expect("reads").count(), 0);
    }
}
