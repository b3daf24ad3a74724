//! Managers on this machine as real processes, without hosts: each one its own `skep server` with its own data folder.
//!
//! Why not `skep dev`: what is tried here happens to single managers, and `skep dev` would start them again.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::{Ran, ran, skep};

/// Whatever is waited for comes within this time or not at all.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Loopback networks tried before giving up: others run clusters on this machine as well.
const NETWORKS_TRIED_MAX: u8 = 50;

/// The ports that `skep init` writes.
const PORTS: [u16; 2] = [8443, 8444];

/// A cluster of manager processes. Dropping it ends them and removes their folders.
pub struct Founders {
    dir: tempfile::TempDir,
    binary: PathBuf,
    addresses: Vec<String>,
    running: Vec<Option<Child>>,
}

impl Founders {
    /// Founds a cluster of this many managers, and waits until it has a leader.
    pub fn found(count: usize) -> Result<Founders> {
        let (dir, binary) = (tempfile::tempdir().context("making a folder")?, skep()?);
        let addresses = free_addresses(count)?;
        let mut init = Command::new(&binary);
        init.args(["init", "--out"]).arg(dir.path().join("founders"));
        for (address, number) in addresses.iter().zip(1..) {
            init.arg("--manager").arg(format!("m{number}={address}"));
        }
        let done = ran(init)?;
        if done.code != 0 {
            bail!("skep init ended with {}: {}", done.code, done.stderr);
        }
        let running = (0..count).map(|_| None).collect();
        let mut managers = Founders { dir, binary, addresses, running };
        for number in 1..=count {
            managers.listen_on_own_address(number)?;
            managers.start(number)?;
        }
        managers.wait_for("a leader", || Ok(managers.leader()?.map(drop)))?;
        Ok(managers)
    }

    /// Starts a manager on its folder.
    pub fn start(&mut self, number: usize) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path(number));
        let log = log.context("opening a log")?;
        let child = Command::new(&self.binary)
            .args(["server", "--data-dir"])
            .arg(self.data_dir(number))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting a manager")?;
        self.running[number - 1] = Some(child);
        Ok(())
    }

    /// Ends a manager from one moment to the next.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        if let Some(mut child) = self.running[number - 1].take() {
            child.kill().context("ending a manager")?;
            child.wait().context("waiting for a manager")?;
        }
        Ok(())
    }

    /// Waits until a manager ends by itself.
    pub fn ended(&mut self, number: usize) -> Result<ExitStatus> {
        let mut child = self.running[number - 1].take().context("it does not run")?;
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            if let Some(status) = child.try_wait().context("looking at a manager")? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.running[number - 1] = Some(child);
                bail!("m{number} has not ended within {} s: {}", WAIT_MAX.as_secs(), self.log(number)?);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The process of a manager.
    pub fn pid(&self, number: usize) -> Result<u32> {
        Ok(self.running[number - 1].as_ref().context("it does not run")?.id())
    }

    /// What a manager has said, in all its lives.
    pub fn log(&self, number: usize) -> Result<String> {
        fs::read_to_string(self.log_path(number)).context("reading a log")
    }

    /// A manager's data folder.
    pub fn data_dir(&self, number: usize) -> PathBuf {
        self.dir.path().join("founders").join(format!("m{number}"))
    }

    /// Runs a command whose last argument is a manager's data folder.
    pub fn skep_at(&self, number: usize, arguments: &[&str]) -> Result<Ran> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg(self.data_dir(number));
        ran(command)
    }

    /// Runs a client command that may ask any manager.
    pub fn skep(&self, arguments: &[&str]) -> Result<Ran> {
        let urls: Vec<String> =
            self.addresses.iter().map(|address| format!("https://{address}:{}", PORTS[0])).collect();
        let founders = self.dir.path().join("founders");
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env("SKEP_URL", urls.join(","))
            .env("SKEP_CA_FILE", founders.join("m1/identity/ca.pem"))
            .env("SKEP_TOKEN_FILE", founders.join("admin-token"))
            .env_remove("SKEP_ENV");
        ran(command)
    }

    /// Runs a client command again until it succeeds: for what a client would repeat as well.
    pub fn succeed(&self, arguments: &[&str]) -> Result<String> {
        self.wait_for(&arguments.join(" "), || {
            let ran = self.skep(arguments)?;
            if ran.code == 0 {
                return Ok(Some(ran.stdout));
            }
            bail!("it ended with {}: {}", ran.code, ran.stderr)
        })
    }

    /// The cluster's status, as whoever answers sees it.
    pub fn status(&self) -> Result<Value> {
        let text = self.succeed(&["cluster", "status", "-o", "json"])?;
        serde_json::from_str(&text).context("reading a status")
    }

    /// The number of the leader, if one is known.
    pub fn leader(&self) -> Result<Option<usize>> {
        let ran = self.skep(&["cluster", "status", "-o", "json"])?;
        if ran.code != 0 {
            return Ok(None);
        }
        let status: Value = serde_json::from_str(&ran.stdout).context("reading a status")?;
        Ok(status["leader"].as_str().and_then(|name| name.strip_prefix('m')?.parse().ok()))
    }

    /// Waits until every manager answers and has applied all of its log.
    pub fn all_caught_up(&self) -> Result<()> {
        self.wait_for("all managers to have caught up", || {
            let status = self.status()?;
            let caught_up = |member: &Value| member["state"] != "unreachable" && member["lag_entries"] == 0;
            Ok(status["members"].as_array().is_some_and(|all| all.iter().all(caught_up)).then_some(()))
        })
    }

    /// Waits until `look` finds something; says what was missing otherwise.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            match look() {
                Ok(Some(found)) => return Ok(found),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("waiting for {what}")));
                }
                Ok(None) if Instant::now() > deadline => bail!("waited {} s for {what}", WAIT_MAX.as_secs()),
                _ => std::thread::sleep(LOOK),
            }
        }
    }

    /// `skep init` writes for machines of their own; here they share one.
    fn listen_on_own_address(&self, number: usize) -> Result<()> {
        let path = self.data_dir(number).join("server.toml");
        let text = fs::read_to_string(&path).context("reading a configuration")?;
        let text = text
            .replace("0.0.0.0:", &format!("{}:", self.addresses[number - 1]))
            .replace("drain_delay_secs = 10", "drain_delay_secs = 0");
        fs::write(&path, text).context("writing a configuration")
    }

    fn log_path(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("m{number}.log"))
    }
}

impl Drop for Founders {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The newest write-ahead log of a manager.
pub fn write_ahead_log(data_dir: &Path) -> Result<PathBuf> {
    let folder = data_dir.join("raft/db");
    let mut logs: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("looking into {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs.pop().context("there is no write-ahead log")
}

/// Addresses of this machine on which nobody has the ports.
fn free_addresses(count: usize) -> Result<Vec<String>> {
    let seed = std::process::id();
    for network in 0..NETWORKS_TRIED_MAX {
        let second = 20 + (seed + u32::from(network)) % 200;
        let third = 1 + (seed / 200) % 250;
        let addresses: Vec<String> =
            (1..=count).map(|number| format!("127.{second}.{third}.{number}")).collect();
        let free =
            |address: &String| PORTS.iter().all(|port| TcpListener::bind((address.as_str(), *port)).is_ok());
        if addresses.iter().all(free) {
            return Ok(addresses);
        }
    }
    bail!("no free addresses with the ports {PORTS:?} were found in {NETWORKS_TRIED_MAX} loopback networks")
}
