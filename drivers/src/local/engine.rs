//! Starts a machine's Docker engine and its agent, so that they outlive the manager that starts them.
//!
//! Each is put into the machine's namespaces by `nsenter` and `unshare`, which become the program itself: the
//! process that is started is the one that goes on. `ip netns exec` would not do: it mounts a new `/sys`
//! without control groups, and dockerd then ends.
//!
//! An engine also gets mounts of its own. What it and its containers mount disappears with its last process,
//! and places that all engines of a computer would share are its alone: `/etc/docker` (older engines keep their
//! identity there, and two engines with one identity look like one machine), `/run/docker`, `/run/containerd`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::files;
use super::layout::{HostLayout, Layout};
use super::machine::Claim;
use super::network::Network;
use super::processes::{MARK, ROLE, Role};
use super::running;
use super::tools;
use crate::DriverError;

/// A program that cannot work at all (wrong option, missing file) says so well within this time.
const DIES_AT_ONCE_WITHIN: Duration = Duration::from_millis(150);
/// dockerd writes its pid file as soon as it has understood its options; on a loaded computer that takes a while.
/// After this time it is taken as started, and its agent will say what it sees.
const ENGINE_SIGN_OF_LIFE_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// How much of a log an error shows: a stack trace's worth.
const LOG_TAIL_LINES: usize = 8;
/// How much of a log is read for that.
const LOG_TAIL_BYTES: usize = 8 * 1024;

/// Shared by all engines of a computer unless each sees its own.
const SETTINGS: &str = "/etc/docker";
const RUNTIME_FOLDERS: [&str; 2] = ["/run/docker", "/run/containerd"];
/// Nothing listens there: whoever is sent to this proxy fails at once, without asking a name server.
const NO_PROXY_THERE: &str = "http://127.0.0.1:1";

/// The engine of this computer.
const OWN_ENGINE: &str = "dockerd";

/// Becomes the program, with the machine's host name. (Host names are a namespace's own.)
const WITH_HOST_NAME: &str = r#"echo "$1" > /proc/sys/kernel/hostname; shift; exec "$@""#;
/// Becomes the engine, with the machine's host name and folders of its own.
const WITH_OWN_FOLDERS: &str = r#"echo "$1" > /proc/sys/kernel/hostname
mount --bind "$2" /etc/docker
mount -t tmpfs -o mode=711 skep-local /run/docker
mount -t tmpfs -o mode=711 skep-local /run/containerd
shift 2; exec "$@""#;

/// Something that was started and must go on running.
struct Started {
    what: &'static str,
    child: Child,
    log: PathBuf,
}

/// Starts what is not running, and fails if it ends at once.
pub(super) fn ensure(
    layout: &Layout,
    host: &HostLayout,
    network: &Network,
    claim: &Claim,
) -> Result<(), DriverError> {
    let begin = Instant::now();
    let mut started = Vec::new();
    let engine_lock = running::to_start(host, Role::Engine)?;
    let engine_needed = engine_lock.is_some();
    if let Some(lock) = engine_lock {
        started.push(start_engine(host, network, claim, lock)?);
    }
    if let Some(lock) = running::to_start(host, Role::Agent)? {
        started.push(start_agent(layout, host, claim, lock)?);
    }
    if started.is_empty() {
        return Ok(());
    }
    loop {
        for one in &mut started {
            still_runs(claim, one)?;
        }
        let long_enough = begin.elapsed() > DIES_AT_ONCE_WITHIN;
        let alive = !engine_needed || host.docker_pid_file().exists();
        if long_enough && (alive || begin.elapsed() > ENGINE_SIGN_OF_LIFE_WITHIN) {
            return Ok(());
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// The engine of this version: one that somebody has put here, or none for the computer's own.
pub(super) fn of_version(layout: &Layout, version: &str) -> Result<Option<PathBuf>, DriverError> {
    let path = layout.engine(version);
    let put_here = path.exists();
    let program = if put_here { path.as_path() } else { Path::new(OWN_ENGINE) };
    let asked = tools::run("asking an engine for its version", &program.to_string_lossy(), &["--version"]);
    let found = asked.unwrap_or_else(|error| error.to_string());
    // `Docker version 20.10.24+dfsg1, build 5d6db84`
    let said = found.split([' ', ',']).any(|word| word == version);
    match said {
        true => Ok(put_here.then_some(path)),
        false => {
            Err(DriverError::NoEngine { version: version.to_owned(), path, found: found.trim().to_owned() })
        }
    }
}

/// A new engine starts like after a power cut: without the processes, sockets and pid files of the one before.
/// (Containerd takes any living process with the number in its old pid file for itself.)
fn start_engine(
    host: &HostLayout,
    network: &Network,
    claim: &Claim,
    lock: File,
) -> Result<Started, DriverError> {
    files::remove(host.exec_root())?;
    files::remove(&host.docker_pid_file())?;
    files::remove(&host.docker_socket())?;
    let settings = host.docker_settings();
    for folder in [settings.as_path(), Path::new(SETTINGS)].into_iter().chain(RUNTIME_FOLDERS.map(Path::new))
    {
        files::make_folder(folder)?;
    }
    let mut command = inside(host, Role::Engine, &["--mount", "--propagation", "slave"], WITH_OWN_FOLDERS);
    command
        .arg(&claim.name)
        .arg(&settings)
        .arg(claim.engine.as_deref().unwrap_or(Path::new(OWN_ENGINE)))
        .arg("--data-root")
        .arg(host.docker_data())
        .arg("--exec-root")
        .arg(host.exec_root())
        .arg("--pidfile")
        .arg(host.docker_pid_file())
        .arg("--host")
        .arg(format!("unix://{}", host.docker_socket().display()))
        // systemd, where it runs, knows one engine; several share a computer only like this.
        .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
        .args(["--cgroup-parent", host.control_group()])
        .args(["--mtu", &claim.mtu().to_string()])
        .env("HTTP_PROXY", NO_PROXY_THERE)
        .env("HTTPS_PROXY", NO_PROXY_THERE)
        // What is on the bridge is reached, a registry for example.
        .env("NO_PROXY", format!("localhost,127.0.0.0/8,{}", network.subnet));
    start("the Docker engine", command, lock, host.docker_log())
}

fn start_agent(
    layout: &Layout,
    host: &HostLayout,
    claim: &Claim,
    lock: File,
) -> Result<Started, DriverError> {
    files::make_folder(&host.agent_state())?;
    let mut command = inside(host, Role::Agent, &[], WITH_HOST_NAME);
    command
        .arg(&claim.name)
        .arg(&layout.skep_binary)
        .arg("agent")
        .arg("--state-dir")
        .arg(host.agent_state())
        .arg("--docker-socket")
        .arg(host.docker_socket())
        .arg("--join")
        .arg(host.join_file())
        .arg("--engine-log")
        .arg(host.docker_log())
        .arg("--agent-log")
        .arg(host.agent_log());
    start("the agent", command, lock, host.agent_log())
}

/// A command line that enters the machine and then becomes what is appended to it.
fn inside(host: &HostLayout, role: Role, unshare: &[&str], script: &str) -> Command {
    let mut command = Command::new("setsid");
    command
        .arg("nsenter")
        .arg(format!("--net={}", host.namespace_path().display()))
        .args(["unshare", "--uts"])
        .args(unshare)
        .args(["sh", "-ec", script, "skep-local"])
        // The manager's own settings are in its environment; an agent would take them for its own.
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| name.starts_with("RUST_")))
        .env("PATH", tools::search_path())
        .env(MARK, host.mark())
        .env(ROLE, role.as_str())
        .current_dir("/");
    command
}

fn start(what: &'static str, mut command: Command, lock: File, log: PathBuf) -> Result<Started, DriverError> {
    let trying = "opening the log";
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(files::io_error(trying, &log))?;
    let err = out.try_clone().map_err(files::io_error(trying, &log))?;
    // Nothing kills it when this process ends, and the runtime collects it if it ends first.
    let child =
        command.stdin(lock).stdout(out).stderr(err).spawn().map_err(|error| DriverError::Command {
            trying: "starting a program of a machine",
            command: what.to_owned(),
            detail: error.to_string(),
        })?;
    Ok(Started { what, child, log })
}

fn still_runs(claim: &Claim, started: &mut Started) -> Result<(), DriverError> {
    let died = |status: String| DriverError::DiedAtOnce {
        what: started.what,
        machine: claim.name.clone(),
        status,
        log: started.log.clone(),
        tail: tail(&started.log),
    };
    match started.child.try_wait() {
        Ok(None) => Ok(()),
        Ok(Some(status)) => Err(died(ExitStatus::to_string(&status))),
        Err(error) => Err(died(error.to_string())),
    }
}

fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
