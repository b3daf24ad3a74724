//! Managers on this machine as real processes, without hosts: each one its own `skep server` with its own data folder.
//!
//! Why not `skep dev`: what is tried here happens to single managers, and `skep dev` would start them again.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::{Ran, ran, skep};
use crate::process::{self, Access, Process};

/// Loopback networks tried before giving up: others run clusters on this machine as well.
const NETWORKS_TRIED_MAX: u8 = 50;

/// The ports that `skep init` writes.
const PORTS: [u16; 2] = [8443, 8444];

/// A cluster of manager processes. Dropping it ends them and removes their folders.
pub struct Managers {
    /// First, so that they have ended when their folders go.
    running: Vec<Option<Process>>,
    dir: tempfile::TempDir,
    binary: PathBuf,
    addresses: Vec<String>,
}

impl Managers {
    /// Founds a cluster of this many managers, and waits until it has a leader.
    pub fn found(count: usize) -> Result<Managers> {
        Managers::found_at(free_addresses(count)?)
    }

    /// As [`Managers::found`]; each of them says for so long that it is about to stop, before it does.
    pub fn found_with_notice(count: usize, seconds: u32) -> Result<Managers> {
        Managers::of(free_addresses(count)?, seconds)
    }

    /// Founds a cluster with a manager at each of these addresses of this machine.
    pub fn found_at(addresses: Vec<String>) -> Result<Managers> {
        Managers::of(addresses, 0)
    }

    fn of(addresses: Vec<String>, notice_seconds: u32) -> Result<Managers> {
        let (dir, binary) = (tempfile::tempdir().context("making a folder")?, skep()?);
        let count = addresses.len();
        let mut init = Command::new(&binary);
        init.args(["init", "--admin-token", "--out"]).arg(dir.path().join("founders"));
        for (address, number) in addresses.iter().zip(1..) {
            init.arg("--manager").arg(format!("m{number}={address}"));
        }
        let done = ran(init)?;
        if done.code != 0 {
            bail!("skep init ended with {}: {}", done.code, done.stderr);
        }
        let running = (0..count).map(|_| None).collect();
        let mut managers = Managers { dir, binary, addresses, running };
        for number in 1..=count {
            managers.settle(number, notice_seconds)?;
            managers.start(number)?;
        }
        managers.wait_for("a leader", || Ok(managers.leader()?.map(drop)))?;
        Ok(managers)
    }

    /// Starts a manager on its folder.
    pub fn start(&mut self, number: usize) -> Result<()> {
        let mut server = Command::new(&self.binary);
        server.args(["server", "--data-dir"]).arg(self.data_dir(number));
        self.running[number - 1] = Some(Process::start(server, &self.log_path(number))?);
        Ok(())
    }

    /// Ends a manager from one moment to the next.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        self.running[number - 1].take().map_or(Ok(()), Process::kill)
    }

    /// Waits until a manager ends by itself.
    pub fn ended(&mut self, number: usize) -> Result<ExitStatus> {
        let log = self.log_path(number);
        let running = self.running[number - 1].as_mut().context("it does not run")?;
        let status =
            process::wait_for(&format!("m{number} to end"), || running.ended(), || process::tails([&*log]))?;
        self.running[number - 1] = None;
        Ok(status)
    }

    /// The process of a manager.
    pub fn pid(&self, number: usize) -> Result<u32> {
        Ok(self.running[number - 1].as_ref().context("it does not run")?.pid())
    }

    /// What a manager has said, in all its lives.
    pub fn log(&self, number: usize) -> Result<String> {
        fs::read_to_string(self.log_path(number)).context("reading a log")
    }

    /// A manager's data folder.
    pub fn data_dir(&self, number: usize) -> PathBuf {
        self.dir.path().join("founders").join(format!("m{number}"))
    }

    /// Where a manager's API is.
    pub fn api_address(&self, number: usize) -> String {
        format!("{}:{}", self.addresses[number - 1], PORTS[0])
    }

    /// The certificate of the cluster's authority.
    pub fn authority(&self) -> PathBuf {
        self.data_dir(1).join("identity/ca.pem")
    }

    /// The administrator's token.
    pub fn admin_token(&self) -> PathBuf {
        self.dir.path().join("founders/admin-token")
    }

    /// Adds lines to the configuration of a manager, which must not run.
    pub fn configure(&self, number: usize, lines: &str) -> Result<()> {
        let path = self.data_dir(number).join("server.toml");
        let text = fs::read_to_string(&path).context("reading a configuration")?;
        fs::write(&path, format!("{lines}\n{text}")).context("writing a configuration")
    }

    /// Runs a command whose last argument is a manager's data folder.
    pub fn skep_at(&self, number: usize, arguments: &[&str]) -> Result<Ran> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg(self.data_dir(number));
        ran(command)
    }

    /// Runs a client command that may ask any manager.
    pub fn skep(&self, arguments: &[&str]) -> Result<Ran> {
        let url = |address: &String| format!("https://{address}:{}", PORTS[0]);
        Access {
            binary: self.binary.clone(),
            urls: self.addresses.iter().map(url).collect(),
            ca: self.authority(),
            token: self.admin_token(),
        }
        .run(arguments)
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
    pub fn wait_for<T>(&self, what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let logs: Vec<PathBuf> = (1..=self.running.len()).map(|number| self.log_path(number)).collect();
        process::wait_for(what, look, || process::tails(logs.iter().map(PathBuf::as_path)))
    }

    /// `skep init` writes for machines of their own; here they share one.
    fn settle(&self, number: usize, notice_seconds: u32) -> Result<()> {
        let path = self.data_dir(number).join("server.toml");
        let text = fs::read_to_string(&path).context("reading a configuration")?;
        let text = text
            .replace("0.0.0.0:", &format!("{}:", self.addresses[number - 1]))
            .replace("drain_delay_secs = 10", &format!("drain_delay_secs = {notice_seconds}"));
        fs::write(&path, text).context("writing a configuration")
    }

    fn log_path(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("m{number}.log"))
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
    // Tests of one program look at the same moment, and then all would find the same ones free.
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let seed = std::process::id();
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    for network in 0..NETWORKS_TRIED_MAX {
        let second = 20 + (seed + u32::from(network)) % 200;
        let third = 1 + (seed / 200 + cluster) % 250;
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
