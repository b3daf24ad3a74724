//! What every cluster of real processes needs: a manager as a child of the test, a client command, and waiting.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::lab::{Ran, ran};
use crate::secrets;

/// Whatever is waited for comes within this time or not at all; elections, snapshots and slow machines included.
pub const WAIT_MAX: Duration = Duration::from_secs(90);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Of each log, in the message of a failed test.
const LINES_TOLD: usize = 15;

/// A running manager. Dropping it ends it, and fails the test if it has logged a secret.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command that appends what it says to a log.
    pub fn start(mut command: Command, log: &Path) -> Result<Process> {
        let file = File::options().create(true).append(true).open(log).context("opening a log")?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        Ok(Process { child: child.context("starting a manager")?, log: log.to_owned() })
    }

    /// Its number on this machine.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("looking at a manager")
    }

    /// Ends it from one moment to the next.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("ending a manager")?;
        self.child.wait().context("waiting for a manager").map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let told = secrets::none_logged_in(&self.log);
            assert!(told.is_ok(), "{told:?}");
        }
    }
}

/// How a client command reaches a cluster.
#[derive(Clone)]
pub struct Access {
    /// The program.
    pub binary: PathBuf,
    /// The managers' API addresses.
    pub urls: Vec<String>,
    /// The certificate of their authority.
    pub ca: PathBuf,
    /// The administrator's token.
    pub token: PathBuf,
}

impl Access {
    /// Runs a client command to its end; nothing of the caller's own settings is used.
    pub fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("SKEP_URL", self.urls.join(","));
        command.env("SKEP_CA_FILE", &self.ca).env("SKEP_TOKEN_FILE", &self.token);
        for own in ["SKEP_ENV", "SKEP_TOKEN", "SKEP_RECOVERY_KEY_FILE", "SKEP_OUTPUT"] {
            command.env_remove(own);
        }
        ran(command)
    }
}

/// Waits until `look` finds something; says what was missing otherwise, and then what `more` tells.
pub fn wait_for<T>(
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
    more: impl Fn() -> String,
) -> Result<T> {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        match look() {
            Ok(Some(found)) => return Ok(found),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("waiting for {what}{}", more())));
            }
            Ok(None) if Instant::now() > deadline => {
                bail!("waited {} s for {what}{}", WAIT_MAX.as_secs(), more())
            }
            _ => std::thread::sleep(LOOK),
        }
    }
}

/// The end of every log.
pub fn tails<'a>(logs: impl IntoIterator<Item = &'a Path>) -> String {
    let tail = |log: &Path| {
        let said = fs::read_to_string(log).unwrap_or_default();
        let from = said.lines().count().saturating_sub(LINES_TOLD);
        let lines: Vec<&str> = said.lines().skip(from).collect();
        format!("\n--- {}\n{}", log.display(), lines.join("\n"))
    };
    logs.into_iter().map(tail).collect()
}
