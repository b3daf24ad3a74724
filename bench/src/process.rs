//! Programs that the benchmark starts and, however it ends itself, ends again.
//!
//! Each is started through `setpriv --pdeathsig`, so that the kernel ends it if this process is killed; the process id
//! is the program's own all the same. It is a process group of its own, so that Ctrl-C in a terminal reaches the
//! benchmark alone, which then ends the programs itself.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

/// Between two looks at something that is about to happen.
pub(crate) const LOOK: Duration = Duration::from_millis(2);

/// The kernel counts processor time in hundredths of a second, on every architecture that Rust has.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

/// How a program is started, every time.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// What it says; appended to.
    pub(crate) log: PathBuf,
}

/// A program that runs. Dropping it kills it.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Launch {
    /// Starts it.
    pub(crate) fn start(&self) -> Result<Process> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log: File = log.with_context(|| format!("opening {}", self.log.display()))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing a log")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {} ({})", self.name, self.program.display()))?;
        Ok(Process { name: self.name.clone(), log: self.log.clone(), child })
    }
}

impl Process {
    pub(crate) fn pid(&self) -> Pid {
        // The kernel's process ids are positive numbers of 31 bits.
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal. The process id cannot be another's: it is kept until this program has been waited for.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("looking after {}", self.name))
    }

    /// Fails with the end of its log if it has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}): {}", self.name, last_lines(&self.log)),
        }
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self, max: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + max;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} has not ended within {} s", self.name, max.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory that is really there.
pub(crate) fn resident_bytes(pid: Pid) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("{path} has no VmRSS"))? * 1024)
}

/// Processor time that it has used so far, of all its threads.
pub(crate) fn processor_seconds(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The name is in parentheses and may contain anything; user and system time are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace());
    let ticks: f64 = fields
        .into_iter()
        .flatten()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>)
        .sum::<Result<f64, _>>()
        .with_context(|| format!("understanding {path}"))?;
    Ok(ticks / TICKS_PER_SECOND)
}

fn last_lines(log: &Path) -> String {
    const LINES: usize = 3;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}
