//! The machine that all figures belong to: its disk's own speed, and what else it was doing.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::{Value, json};

use crate::process::processor_seconds;
use crate::statistics::rounded;

/// What a write-ahead log typically adds at once.
const APPEND_BYTES: usize = 4096;

/// Enough for a percentile, soon done even on a slow disk.
const APPENDS: usize = 500;

/// What the machine is, before anything runs on it.
pub(crate) fn describe(data: &Path) -> Result<Value> {
    let file_system = statfs(data).with_context(|| format!("looking at {}", data.display()))?;
    if file_system.filesystem_type() == TMPFS_MAGIC {
        bail!("{} is kept in memory: name a folder on a disk with --data", data.display());
    }
    let (p50, p99) = append_ms(data)?;
    Ok(json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "load_average_at_start": load_average()?,
        "append_4_kib_and_fdatasync_ms": { "p50": p50, "p99": p99 },
    }))
}

/// Of the last minute.
fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("reading the load average")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().context("understanding the load average")
}

fn append_ms(data: &Path) -> Result<(f64, f64)> {
    let path = data.join("disk-speed");
    let mut file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let block = [7; APPEND_BYTES];
    let mut times = Vec::with_capacity(APPENDS);
    for _ in 0..APPENDS {
        let begin = Instant::now();
        file.write_all(&block).and_then(|()| file.sync_data()).context("measuring the disk")?;
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
    }
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    times.sort_by(f64::total_cmp);
    Ok((rounded(times[APPENDS / 2], 3), rounded(times[APPENDS * 99 / 100], 3)))
}

/// Says how much of the machine others have used since it was made.
pub(crate) struct Neighbours {
    ours: Vec<nix::unistd::Pid>,
    used_by_all: f64,
    used_by_us: f64,
    since: Instant,
}

impl Neighbours {
    /// From now on; these processes and this one are not "others". None of them may end meanwhile.
    pub(crate) fn watch(mut ours: Vec<nix::unistd::Pid>) -> Result<Neighbours> {
        ours.push(nix::unistd::getpid());
        let used_by_us = sum(&ours)?;
        Ok(Neighbours { ours, used_by_all: used_seconds()?, used_by_us, since: Instant::now() })
    }

    /// Processors that others kept busy, on average.
    pub(crate) fn busy(&self) -> Result<f64> {
        let all = used_seconds()? - self.used_by_all;
        let ours = sum(&self.ours)? - self.used_by_us;
        Ok(rounded((all - ours).max(0.0) / self.since.elapsed().as_secs_f64(), 2))
    }
}

fn sum(pids: &[nix::unistd::Pid]) -> Result<f64> {
    pids.iter().map(|pid| processor_seconds(*pid)).sum()
}

/// Processor time that programs have used since the machine was started: user, nice and system.
fn used_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks = line.split_whitespace().take(3).map(str::parse::<f64>).sum::<Result<f64, _>>();
    Ok(ticks.context("understanding /proc/stat")? / crate::process::TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_tried_and_nothing_is_left_on_it() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let (p50, p99) = append_ms(dir.path()).expect("measures");
        assert!(p50 <= p99);
        assert_eq!(fs::read_dir(dir.path()).expect("reads").count(), 0);
    }

    #[test]
    fn this_process_is_no_neighbour_of_its_own() {
        let neighbours = Neighbours::watch(vec![]).expect("watches");
        assert!(neighbours.busy().expect("measures") >= 0.0);
    }
}
