//! `strace`, attached to a process that runs: to make its disk slow, and to count what it syncs.
//!
//! It is the one way to slow a disk for a single process without root's device mapper. It costs the process a stop at
//! every call, so nothing is timed meanwhile except by how often leaders change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::process::{LOOK, Launch, Process};

/// What makes data durable.
const SYNC_CALLS: &str = "fdatasync,fsync,sync_file_range";

/// Attaching stops every thread once.
const ATTACH_MAX: Duration = Duration::from_secs(10);

/// Letting go does too.
const DETACH_MAX: Duration = Duration::from_secs(10);

/// An attached `strace`; dropping it lets the process go.
pub(crate) struct Strace {
    process: Process,
    output: PathBuf,
}

impl Strace {
    /// Every sync takes this much longer.
    pub(crate) async fn delay_syncs(pid: Pid, delay: Duration, dir: &Path) -> Result<Strace> {
        let inject = format!("inject=fdatasync,fsync:delay_enter={}", delay.as_micros());
        attach(pid, &["-e", &format!("trace={SYNC_CALLS}"), "-e", &inject], dir).await
    }

    /// Counts syncs.
    pub(crate) async fn count_syncs(pid: Pid, dir: &Path) -> Result<Strace> {
        attach(pid, &["-c", "-e", &format!("trace={SYNC_CALLS}")], dir).await
    }

    /// Lets the process go and tells how many calls were counted.
    pub(crate) async fn stop(mut self) -> Result<u64> {
        // On this signal it lets go and writes its table.
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(DETACH_MAX).await?;
        let table = fs::read_to_string(&self.output);
        Ok(counted(&table.with_context(|| format!("reading {}", self.output.display()))?))
    }
}

async fn attach(pid: Pid, arguments: &[&str], dir: &Path) -> Result<Strace> {
    let output = dir.join(format!("strace-{pid}.txt"));
    let own = ["-f".into(), "-p".into(), pid.to_string(), "-o".into(), output.display().to_string()];
    let launch = Launch {
        name: "strace".into(),
        program: "strace".into(),
        arguments: own.into_iter().chain(arguments.iter().map(|text| (*text).to_owned())).collect(),
        log: dir.join(format!("strace-{pid}.log")),
    };
    let mut process = launch.start()?;
    let deadline = Instant::now() + ATTACH_MAX;
    while !all_threads_are_traced(pid)? {
        process
            .must_run()
            .context("strace could not attach: it needs root, or kernel.yama.ptrace_scope=0")?;
        if Instant::now() > deadline {
            bail!("strace has not attached to {pid} within {} s", ATTACH_MAX.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(Strace { process, output })
}

fn all_threads_are_traced(pid: Pid) -> Result<bool> {
    let tasks = format!("/proc/{pid}/task");
    for task in fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))? {
        let status = task.with_context(|| format!("reading {tasks}"))?.path().join("status");
        // A thread may end between the two looks.
        let Ok(status) = fs::read_to_string(status) else { continue };
        if status.lines().any(|line| line.split_whitespace().eq(["TracerPid:", "0"])) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The calls in a table of `strace -c`: the fourth column, of the lines that end in one of the calls' names.
fn counted(table: &str) -> u64 {
    let calls = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_sync = fields.last().is_some_and(|name| SYNC_CALLS.split(',').any(|call| call == *name));
        if is_sync { fields.get(3)?.parse::<u64>().ok() } else { None }
    };
    table.lines().filter_map(calls).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_all_rows_are_added_up_without_the_total() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.00    0.520000         100      5200           fdatasync
  1.00    0.000100          50         2         1 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.520100          99      5202         1 total
";
        assert_eq!(counted(table), 5202);
        assert_eq!(counted(""), 0);
    }
}
