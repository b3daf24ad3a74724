//! A cluster on this machine, started with `skep dev` and used through the command line.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::machine_part::{Part, Running};
use crate::{process, secrets};

/// From nothing to managers that answer; an earlier cluster of the name may be busy removing itself meanwhile.
const START_MAX: Duration = Duration::from_secs(90);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A running cluster. Dropping it stops it and removes everything it made.
pub struct Lab {
    name: String,
    dir: PathBuf,
    binary: PathBuf,
    dev: Child,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// What kind of cluster is wanted.
pub struct Wish<'a> {
    /// Its name; labs of different names can run beside each other.
    pub name: &'a str,
    /// How many managers.
    pub managers: usize,
    /// The first API port.
    pub port: u16,
    /// Where it is kept.
    pub root: PathBuf,
    /// The program.
    pub binary: PathBuf,
    /// Run as this user instead of root.
    pub user: Option<u32>,
    /// What managers log, as `SKEP_LOG` says it.
    pub log: &'a str,
}

/// What is tested logs much, because no secret may be in it.
const LOGGED_IN_TESTS: &str = "debug,openraft=error,h2=info";

/// What a user's managers log.
pub const LOGGED: &str = "info,openraft=error";

impl Wish<'_> {
    /// The wish that most have: run by root, kept where `skep dev` keeps it.
    pub fn new(name: &str, managers: usize, port: u16) -> Result<Wish<'_>> {
        let root = "/var/lib/skep-dev".into();
        Ok(Wish { name, managers, port, root, binary: skep()?, user: None, log: LOGGED_IN_TESTS })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(["dev", "--hosts", "0", "--until-stdin-closes", "--name", self.name])
            .arg("--dir")
            .arg(&self.root)
            .args(["--managers", &self.managers.to_string(), "--port", &self.port.to_string()])
            .env("SKEP_LOG", self.log);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }
}

impl Lab {
    /// Starts managers, without hosts.
    pub fn start(wish: &Wish<'_>) -> Result<Lab> {
        let deadline = Instant::now() + START_MAX;
        loop {
            let dev = wish
                .command()
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn()
                .context("starting skep dev")?;
            let dir = wish.root.join(wish.name);
            let mut lab = Lab { name: wish.name.into(), dir, binary: wish.binary.clone(), dev };
            match lab.ready(deadline)? {
                None => return Ok(lab),
                Some(refusal) if refusal.contains("is running") && Instant::now() < deadline => {
                    std::thread::sleep(LOOK * 10);
                }
                Some(refusal) => bail!("skep dev did not start: {refusal}"),
            }
        }
    }

    /// `None` when the managers answer; what `skep dev` said if it has ended instead.
    fn ready(&mut self, deadline: Instant) -> Result<Option<String>> {
        loop {
            if self.dev.try_wait().context("waiting for skep dev")?.is_some() {
                let mut said = String::new();
                if let Some(stderr) = &mut self.dev.stderr {
                    std::io::Read::read_to_string(stderr, &mut said).context("reading what skep dev said")?;
                }
                return Ok(Some(said));
            }
            // The settings are written anew by this run; an older file leads to managers that do not answer.
            if self.dir.join("env").exists() && self.skep(&["cluster", "status", "-q"])?.code == 0 {
                return Ok(None);
            }
            if Instant::now() > deadline {
                bail!("the managers did not answer within {} s", START_MAX.as_secs());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Runs a client command to its end, with other settings.
    pub fn skep_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Ran> {
        let mut command = self.client(arguments);
        command.envs(variables.iter().copied());
        ran(command)
    }

    /// The newest revision that a manager has applied.
    pub fn revision(&self) -> Result<u64> {
        self.json(&["cluster", "status"])?["revision"].as_u64().context("a status without a revision")
    }

    /// Runs a client command to its end.
    pub fn skep(&self, arguments: &[&str]) -> Result<Ran> {
        ran(self.client(arguments))
    }

    /// Runs a client command and insists that it succeeds.
    pub fn succeed(&self, arguments: &[&str]) -> Result<String> {
        let ran = self.skep(arguments)?;
        if ran.code != 0 {
            bail!("skep {} ended with {}: {}", arguments.join(" "), ran.code, ran.stderr);
        }
        Ok(ran.stdout)
    }

    /// Runs a client command and reads what it prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.succeed(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("reading the answer of skep {}", arguments.join(" ")))
    }

    /// Starts a client command.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.client(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting a client")
    }

    /// Starts a client command whose output is read while it runs.
    pub fn follow(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.client(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("starting a client")
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).stdin(Stdio::null()).env_remove("SKEP_ENV");
        for (name, value) in self.settings() {
            command.env(name, value);
        }
        command
    }

    /// The client's settings as `skep dev` wrote them.
    pub fn settings(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.dir.join("env")).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        pairs
            .filter(|(name, _)| *name != "SKEP_ENV")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The managers' API addresses.
    pub fn urls(&self) -> Vec<String> {
        let settings = self.settings();
        let urls = settings.iter().find(|(name, _)| name == "SKEP_URL").map(|(_, urls)| urls.as_str());
        urls.unwrap_or_default().split(',').map(str::to_owned).collect()
    }

    /// The leader's name; waits until there is one.
    pub fn leader(&self) -> Result<String> {
        self.wait_for("a leader", || {
            let status = self.json(&["cluster", "status"])?;
            Ok(status["leader"].as_str().map(str::to_owned))
        })
    }

    /// Ends a manager without a warning.
    pub fn sigkill(&self, manager: &str) -> Result<()> {
        let pid = fs::read_to_string(self.dir.join(manager).join("pid")).context("reading a process id")?;
        let pid = pid.trim().parse().context("reading a process id")?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("killing {manager}"))
    }

    /// Waits until every manager is there, follows the leader and has applied all of its log.
    pub fn all_managers_caught_up(&self) -> Result<()> {
        self.wait_for("all managers to have caught up", || {
            let status = self.json(&["cluster", "status"])?;
            let caught_up = |member: &Value| member["state"] != "unreachable" && member["lag_entries"] == 0;
            let members = status["members"].as_array().is_some_and(|members| members.iter().all(caught_up));
            Ok((members && !status["leader"].is_null()).then_some(()))
        })
    }

    /// Runs the `docker` program on the socket of a host's own engine.
    pub fn docker(&self, host_id: &str, arguments: &[&str]) -> Result<String> {
        let socket = self.socket(host_id)?;
        let mut command = Command::new("docker");
        let ran = ran({
            command.arg("-H").arg(format!("unix://{}", socket.display())).args(arguments);
            command
        })?;
        if ran.code != 0 {
            bail!("docker {} on {host_id} ended with {}: {}", arguments.join(" "), ran.code, ran.stderr);
        }
        Ok(ran.stdout)
    }

    fn socket(&self, host_id: &str) -> Result<PathBuf> {
        let socket = self.host_folder(host_id)?.join("docker.sock");
        ensure!(socket.exists(), "{host_id} has no engine");
        Ok(socket)
    }

    /// Where the driver keeps what belongs to a host.
    pub fn host_folder(&self, host_id: &str) -> Result<PathBuf> {
        let clusters = fs::read_dir(self.dir.join("hosts")).context("looking for the hosts' folders")?;
        let folders = clusters.flatten().map(|cluster| cluster.path().join("hosts").join(host_id));
        folders.filter(|folder| folder.exists()).last().with_context(|| format!("{host_id} has no folder"))
    }

    /// How many engines of this cluster's hosts run.
    pub fn engines(&self) -> usize {
        self.processes(Part::Engine.is_it()).count()
    }

    /// How many agents of this cluster's hosts run.
    pub fn agents(&self) -> usize {
        self.processes(Part::Agent.is_it()).count()
    }

    /// How many network namespaces this cluster's hosts have.
    pub fn namespaces(&self) -> usize {
        let tags = fs::read_dir(self.dir.join("hosts")).into_iter().flatten().flatten();
        let prefixes: Vec<String> =
            tags.map(|tag| format!("skep-{}-", tag.file_name().to_string_lossy())).collect();
        let all = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let names = all.map(|namespace| namespace.file_name().to_string_lossy().into_owned());
        names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).count()
    }

    /// Ends a host's engine without a warning; its agent stays.
    pub fn sigkill_engine(&self, host_id: &str) -> Result<()> {
        self.signal(host_id, Part::Engine, Signal::SIGKILL)
    }

    /// Ends a host's agent without a warning; its engine stays.
    pub fn sigkill_agent(&self, host_id: &str) -> Result<()> {
        self.signal(host_id, Part::Agent, Signal::SIGKILL)
    }

    /// Lets a host's engine stand still (`SIGSTOP`), or go on (`SIGCONT`).
    pub fn signal_engine(&self, host_id: &str, signal: Signal) -> Result<()> {
        self.signal(host_id, Part::Engine, signal)
    }

    /// Switches a host's machine off, from one moment to the next.
    pub fn switch_off(&self, host_id: &str) -> Result<()> {
        self.switch("--switch-off", host_id)
    }

    /// Switches a host's machine on: its engine and its agent are started, whichever does not run.
    pub fn switch_on(&self, host_id: &str) -> Result<()> {
        self.switch("--switch-on", host_id)
    }

    fn switch(&self, how: &str, host_id: &str) -> Result<()> {
        let root = self.dir.parent().context("finding the clusters' folder")?;
        let mut command = Command::new(&self.binary);
        command.args(["dev", "--name", &self.name, "--dir"]).arg(root).args([how, host_id]);
        let ran = ran(command)?;
        if ran.code != 0 {
            bail!("skep dev {how} {host_id} ended with {}: {}", ran.code, ran.stderr);
        }
        Ok(())
    }

    fn signal(&self, host_id: &str, part: Part, signal: Signal) -> Result<()> {
        let found = self.processes(part.is_it()).find(|(_, line)| line.contains(host_id));
        let (pid, _) = found.with_context(|| format!("{host_id} does not run it"))?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("sending {signal} to {host_id}"))
    }

    /// Where the driver `local` keeps this cluster's hosts.
    pub fn hosts_folder(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    /// Whatever is there of this cluster's hosts: folders, network namespaces, ends of cables.
    pub fn machines(&self) -> Result<Vec<String>> {
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let mut found = vec![];
        for tag in names(&self.hosts_folder()) {
            found.extend(names(&self.hosts_folder().join(&tag).join("hosts")));
            let (namespace, cable) = (format!("skep-{tag}-"), format!("sk{tag}h"));
            found.extend(
                names(Path::new("/run/netns")).into_iter().filter(|name| name.starts_with(&namespace)),
            );
            found.extend(
                names(Path::new("/sys/class/net")).into_iter().filter(|name| name.starts_with(&cable)),
            );
        }
        Ok(found)
    }

    /// A process of a host, if it runs.
    pub fn on_host(&self, host_id: &str, part: Part) -> Result<Option<Running>> {
        let found = self.processes(part.is_it()).find(|(_, line)| line.contains(host_id));
        found.map(|(pid, _)| Running::of(Pid::from_raw(pid))).transpose()
    }

    /// Processes that belong to this cluster's hosts and their command lines, as /proc has them.
    ///
    /// An engine starts helpers of its own, and each has the engine's command line until it becomes the helper: the child
    /// of one that is counted is none, nor is what has ended while it was looked at.
    fn processes(&self, is_it: fn(&[&str]) -> bool) -> impl Iterator<Item = (i32, String)> {
        let ours = self.dir.join("hosts").display().to_string();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let found: Vec<(i32, String)> = processes
            .filter_map(|entry| {
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).into_owned();
                let is_ours = is_it(&line.split('\0').collect::<Vec<_>>()) && line.contains(&ours);
                Some((entry.file_name().to_str()?.parse().ok()?, line)).filter(|_| is_ours)
            })
            .collect();
        let all: Vec<i32> = found.iter().map(|(pid, _)| *pid).collect();
        found.into_iter().filter(move |(pid, _)| parent(*pid).is_some_and(|parent| !all.contains(&parent)))
    }

    /// Waits until `look` finds something; says what was missing otherwise.
    pub fn wait_for<T>(&self, what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        process::wait_for(what, look, String::new)
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stops everything; says what could not be removed, and whether a secret was logged.
    pub fn stop(mut self) -> Result<()> {
        secrets::none_logged_below(&self.dir)?;
        self.end()?;
        match self.engines() {
            0 if !self.dir.exists() => Ok(()),
            engines => bail!(
                "{engines} engines are left, and {} is there: {}",
                self.dir.display(),
                self.dir.exists()
            ),
        }
    }

    fn end(&mut self) -> Result<()> {
        // Closing its standard input is the sign; see `--until-stdin-closes`.
        drop(self.dev.stdin.take());
        self.dev.wait().context("waiting for skep dev to clean up").map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// The `skep` program that was built together with this one.
pub fn skep() -> Result<PathBuf> {
    let here = std::env::current_exe().context("finding this program")?;
    let found =
        here.ancestors().skip(1).take(2).map(|folder| folder.join("skep")).find(|path| path.is_file());
    found.with_context(|| {
        format!("there is no skep beside {}: build it with 'cargo build --workspace'", here.display())
    })
}

/// Runs a command to its end. Complaints are seen by many: a secret in one is an error.
pub fn ran(mut command: Command) -> Result<Ran> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {program}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    secrets::none_in(&format!("what {program} complained about"), &stderr)?;
    Ok(Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr,
    })
}

/// Who has started a process; none if it has ended. proc_pid_stat(5): the fourth field, after a name that may hold anything.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_the_one_that_has_started_it() {
        let own = i32::try_from(std::process::id()).expect("a number");
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("runs");
        let pid = i32::try_from(child.id()).expect("a number");
        assert_eq!(parent(pid), Some(own));
        drop(child.stdin.take());
        child.wait().expect("ends");
        assert_eq!(parent(pid), None);
    }
}
