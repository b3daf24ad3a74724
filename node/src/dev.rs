//! `skep dev`: a throw-away cluster on this machine, made of the real parts.
//!
//! Managers are child processes with real data folders; hosts are network namespaces with real engines (driver
//! `local`). Everything lies below one folder and one cluster name, so that a later run finds and removes whatever an
//! earlier one left behind, even if that was killed, and nothing else.
//!
//! A manager that dies is started again after a moment: killing one is what such a cluster is for.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use skep_drivers::{DriverConfig, local};
use skep_model::name::Name;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::founding::{Founding, FoundingManager, RECOVERY_KEY_FILE, TOKEN_FILE, found};
use crate::ports::stop_signal;

/// Hosts on one machine; each is an engine of about 120 MiB.
const HOSTS_MAX: usize = 9;

/// The last peer port is 106 higher than the first API port.
const PORT_MAX: i64 = 65_400;

/// A dead manager stays dead long enough that the others have to do without it.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// Managers that have not stopped by then are killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// From founding to the first answer.
const READY_MAX: Duration = Duration::from_secs(30);

/// By this variable the managers of a throw-away cluster are recognized, whoever their parent is now.
const MARK: &str = "SKEP_DEV";

#[derive(Args)]
#[command(after_help = "Examples:\n  skep dev                             one manager, no hosts\n  \
                        sudo skep dev --managers 3 --hosts 3  a highly available cluster with a real swarm\n  \
                        sudo skep dev --switch-off dev-2      its second host loses power; --switch-on brings it back\n\n\
                        Ctrl-C stops it and removes everything it made.")]
pub(crate) struct Dev {
    /// How many managers: 1, 3, 5 or 7
    #[arg(long, default_value_t = 1)]
    managers: usize,
    /// How many hosts to make at once, in an environment named like the cluster (needs root)
    #[arg(long, default_value_t = 0)]
    hosts: usize,
    /// The cluster's name; two names can run beside each other
    #[arg(long, default_value = "dev")]
    name: String,
    /// The first API port; further managers take the next ones, the peer ports are 100 higher
    #[arg(long, default_value_t = 8443, value_parser = clap::value_parser!(u16).range(1..=PORT_MAX))]
    port: u16,
    /// Where everything is kept [default: /var/lib/skep-dev for root, else in the user's state folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Stop as if interrupted when standard input closes: whoever started this is gone then
    #[arg(long)]
    until_stdin_closes: bool,
    /// Only remove what an earlier run of this name has left behind
    #[arg(long)]
    clean: bool,
    /// Leave everything as it is when stopped, managers and hosts too; the next run removes it
    #[arg(long)]
    keep: bool,
    /// Switch the machine of a host of the running cluster off, as a power cut would
    #[arg(long, value_name = "HOST")]
    switch_off: Option<String>,
    /// Switch it on: its engine and its agent are started, whichever does not run
    #[arg(long, value_name = "HOST")]
    switch_on: Option<String>,
}

/// A cluster that is being run.
struct Lab {
    name: String,
    /// `<dir>/<name>`.
    dir: PathBuf,
    binary: PathBuf,
    drivers: DriverConfig,
    managers: Vec<FoundingManager>,
    /// Held while this run lasts; a second run of the same name is refused.
    _lock: Flock<fs::File>,
}

impl Dev {
    pub(crate) async fn run(self) -> Result<()> {
        if self.switch_off.is_some() || self.switch_on.is_some() {
            return self.switch().await;
        }
        let mut lab = self.prepare()?;
        lab.remove_leftovers()?;
        if self.clean {
            return Ok(());
        }
        let outcome = match self.addresses(&lab) {
            Err(error) => Err(error),
            Ok(managers) => {
                lab.managers = managers;
                tokio::select! {
                    outcome = self.live(&lab, Instant::now()) => outcome,
                    () = stop_signal() => Ok(()),
                    () = stdin_closed(self.until_stdin_closes) => Ok(()),
                }
            }
        };
        eprintln!("\nstopping");
        if self.keep {
            eprintln!("kept as it is: {}", lab.dir.display());
        } else {
            lab.stop_managers();
            lab.remove_leftovers()?;
        }
        outcome
    }

    /// Both one after the other are a restart.
    async fn switch(&self) -> Result<()> {
        let (_, drivers) = self.place()?;
        if let Some(host) = &self.switch_off {
            local::switch_off(&drivers, host)?;
            println!("{host} is off");
        }
        if let Some(host) = &self.switch_on {
            local::switch_on(&drivers, host).await?;
            println!("{host} is on");
        }
        Ok(())
    }

    /// The folder of all clusters, and what the driver is told of this one.
    fn place(&self) -> Result<(PathBuf, DriverConfig)> {
        Name::parse("a cluster", &self.name)?;
        let root = match &self.dir {
            Some(dir) => dir.clone(),
            None if Uid::effective().is_root() => "/var/lib/skep-dev".into(),
            None => state_folder()?,
        };
        fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
        let drivers = DriverConfig {
            cluster: format!("dev-{}", self.name),
            skep_binary: std::env::current_exe().context("finding this program")?,
            root: root.join(&self.name).join("hosts"),
        };
        Ok((root, drivers))
    }

    fn prepare(&self) -> Result<Lab> {
        if self.hosts > HOSTS_MAX {
            bail!("{} hosts are too many for one machine: use at most {HOSTS_MAX}", self.hosts);
        }
        let (root, drivers) = self.place()?;
        let lock = fs::File::create(root.join(format!("{}.lock", self.name))).context("making a lock")?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| {
            anyhow::anyhow!("a cluster named '{0}' is running: stop it, or choose another --name", self.name)
        })?;
        let (binary, dir) = (drivers.skep_binary.clone(), root.join(&self.name));
        if self.hosts > 0 {
            skep_drivers::check(&drivers, "local", &Default::default())?;
        }
        Ok(Lab { name: self.name.clone(), dir, binary, drivers, managers: vec![], _lock: lock })
    }

    /// Hosts cannot reach this machine's loopback, so where there may be hosts the peer ports are on their bridge.
    fn addresses(&self, lab: &Lab) -> Result<Vec<FoundingManager>> {
        let peers = match (lab.drivers_available(), self.hosts) {
            (true, _) => IpAddr::V4(local::ensure_network(&lab.drivers)?.gateway),
            (false, _) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let managers = (0..self.managers as u16).map(|number| FoundingManager {
            name: format!("m{}", number + 1),
            api: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port + number),
            peer: SocketAddr::new(peers, self.port + 100 + number),
            listen_everywhere: false,
        });
        let managers: Vec<_> = managers.collect();
        for address in managers.iter().flat_map(|manager| [manager.api, manager.peer]) {
            TcpListener::bind(address)
                .with_context(|| format!("port {address} cannot be used: choose another with --port"))?;
        }
        Ok(managers)
    }

    async fn live(&self, lab: &Lab, started: Instant) -> Result<()> {
        let founding = Founding {
            drain_delay_secs: 0,
            local_root: lab.drivers.root.clone(),
            // Whoever tries something wants to begin at once.
            admin_token: true,
            ..Founding::of(&lab.drivers.cluster)
        };
        found(&lab.dir, &founding, &lab.managers)?;
        lab.write_settings()?;
        let (deaths, mut died) = mpsc::unbounded_channel();
        // Ends with this: a cluster that is being stopped must not be started again.
        let mut running = JoinSet::new();
        for manager in &lab.managers {
            lab.keep_running(manager.name.clone(), deaths.clone(), &mut running)?;
        }
        lab.wait_until_ready().await?;
        lab.tell(started.elapsed());
        if self.hosts > 0 {
            lab.create_environment(self.hosts).await?;
        }
        println!("\nCtrl-C stops everything and removes it.");
        while let Some((name, status)) = died.recv().await {
            let again = RESTART_AFTER.as_secs();
            println!("{name} has ended ({status}); the others go on, it is started again in {again} s");
        }
        Ok(())
    }
}

impl Lab {
    fn drivers_available(&self) -> bool {
        skep_drivers::check(&self.drivers, "local", &Default::default()).is_ok()
    }

    /// Removes what an earlier run of the same name left behind.
    fn remove_leftovers(&self) -> Result<()> {
        let managers = self.end_marked_managers();
        if self.dir.exists() || managers > 0 {
            if Uid::effective().is_root() {
                let swept = local::sweep(&self.drivers)?;
                tracing::debug!(%swept, managers, "left-overs were removed");
            }
            if self.dir.exists() {
                fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))?;
            }
        }
        Ok(())
    }

    /// Starts a manager, and again whenever it dies, until this process ends.
    fn keep_running(
        &self,
        name: String,
        deaths: mpsc::UnboundedSender<(String, ExitStatus)>,
        running: &mut JoinSet<()>,
    ) -> Result<()> {
        let mut child = self.start_manager(&name)?;
        let again = self.starter(&name);
        running.spawn(async move {
            loop {
                match child.wait().await {
                    Ok(status) => {
                        // The receiver lives as long as the cluster.
                        let _ = deaths.send((name.clone(), status));
                    }
                    Err(error) => return eprintln!("{name}: {error}"),
                }
                tokio::time::sleep(RESTART_AFTER).await;
                child = match again() {
                    Ok(child) => child,
                    Err(error) => return eprintln!("{name} could not be started again: {error:#}"),
                };
            }
        });
        Ok(())
    }

    fn start_manager(&self, name: &str) -> Result<Child> {
        self.starter(name)()
    }

    fn starter(&self, name: &str) -> impl Fn() -> Result<Child> + Send + 'static {
        let (binary, data, mark) = (self.binary.clone(), self.dir.join(name), self.mark());
        move || {
            let log = fs::OpenOptions::new().create(true).append(true).open(data.join("log"));
            let log = log.with_context(|| format!("opening the log in {}", data.display()))?;
            let child = Command::new(&binary)
                .arg("server")
                .arg("--data-dir")
                .arg(&data)
                .env(MARK, &mark)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .process_group(0)
                .spawn()
                .context("starting a manager")?;
            if let Some(pid) = child.id() {
                fs::write(data.join("pid"), pid.to_string()).context("noting a manager's process id")?;
            }
            Ok(child)
        }
    }

    fn mark(&self) -> String {
        self.dir.display().to_string()
    }

    /// Managers of this folder by their mark, whoever started them.
    fn marked_managers(&self) -> Vec<Pid> {
        let wanted = format!("{MARK}={}", self.mark());
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
            })
            .map(Pid::from_raw)
            .filter(|pid| *pid != Pid::this())
            .collect()
    }

    fn end_marked_managers(&self) -> usize {
        let managers = self.marked_managers();
        signal_all(&managers, Signal::SIGKILL);
        wait_until(STOP_MAX, || self.marked_managers().is_empty());
        managers.len()
    }

    fn stop_managers(&self) {
        signal_all(&self.marked_managers(), Signal::SIGTERM);
        wait_until(STOP_MAX, || self.marked_managers().is_empty());
    }

    /// What a client needs, to be sourced by a shell.
    fn write_settings(&self) -> Result<()> {
        let urls: Vec<_> = self.managers.iter().map(|manager| format!("https://{}", manager.api)).collect();
        let first = self.managers.first().map(|manager| manager.name.clone()).unwrap_or_default();
        let text = format!(
            "export SKEP_URL={}\nexport SKEP_CA_FILE={}\nexport SKEP_TOKEN_FILE={}\nexport SKEP_ENV={}\n",
            urls.join(","),
            self.dir.join(first).join("identity/ca.pem").display(),
            self.dir.join(TOKEN_FILE).display(),
            self.name,
        );
        fs::write(self.settings(), text).context("writing the client's settings")
    }

    fn settings(&self) -> PathBuf {
        self.dir.join("env")
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            let asked = self
                .client(&["cluster", "status", "-q"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .output();
            let answer = asked.await.context("asking the managers")?;
            if answer.status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the managers are not ready after {} s: {}see {}/m1/log",
                    READY_MAX.as_secs(),
                    String::from_utf8_lossy(&answer.stderr),
                    self.dir.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn create_environment(&self, hosts: usize) -> Result<()> {
        let template = if hosts < 3 { "single" } else { "default" };
        let hosts = hosts.to_string();
        let create =
            ["env", "create", &self.name, "--template", template, "--hosts", &hosts, "--driver", "local"];
        println!("$ skep {}", create.join(" "));
        let status = self.client(&create).status().await.context("creating the environment")?;
        if !status.success() {
            bail!("the environment was not created; skep op ls tells more");
        }
        Ok(())
    }

    /// This program as a client of this cluster.
    fn client(&self, arguments: &[&str]) -> Command {
        let settings = fs::read_to_string(self.settings()).unwrap_or_default();
        let mut command = Command::new(&self.binary);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        for line in settings.lines() {
            if let Some((name, value)) = line.strip_prefix("export ").and_then(|line| line.split_once('=')) {
                command.env(name, value);
            }
        }
        command
    }

    fn tell(&self, took: Duration) {
        println!("{} managers are ready after {:.1} s:", self.managers.len(), took.as_secs_f64());
        for manager in &self.managers {
            println!(
                "  {}  https://{}  data and log in {}",
                manager.name,
                manager.api,
                self.dir.join(&manager.name).display()
            );
        }
        println!("  administrator's token: {}", self.dir.join(TOKEN_FILE).display());
        println!("  recovery key of its backups: {}", self.dir.join(RECOVERY_KEY_FILE).display());
        println!("\nIn another terminal:\n  source {}", self.settings().display());
        println!("  skep cluster status");
        if self.drivers_available() {
            println!("  skep env ls");
            println!("  skep host create another --driver local");
        } else {
            println!("  skep template ls");
            println!("(hosts of driver 'local' need root: sudo skep dev --managers 3 --hosts 3)");
        }
        println!("  kill -9 $(cat {}/pid)   and watch the others go on\n", self.dir.join("m1").display());
    }
}

/// Never, if nobody asked for it.
async fn stdin_closed(asked: bool) {
    if !asked {
        std::future::pending().await
    }
    let mut ignored = tokio::io::sink();
    // An error means the same as the end.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut ignored).await;
}

fn state_folder() -> Result<PathBuf> {
    let state = match (std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME")) {
        (Some(state), _) => PathBuf::from(state),
        (None, Some(home)) => Path::new(&home).join(".local/state"),
        (None, None) => bail!("neither XDG_STATE_HOME nor HOME is set: say --dir DIR"),
    };
    Ok(state.join("skep-dev"))
}

fn signal_all(processes: &[Pid], signal: Signal) {
    for pid in processes {
        // It may have ended by itself meanwhile.
        let _ = kill(*pid, signal);
    }
}

/// Blocks: used when there is nothing else to do than wait for processes to end.
fn wait_until(most: Duration, so: impl Fn() -> bool) {
    let deadline = Instant::now() + most;
    while !so() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}
