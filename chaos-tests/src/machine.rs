//! Somebody's own machine behind NAT: it reaches the managers, and nothing reaches it.
//!
//! ```text
//!   managers (this computer) ── 10.213.N.0/30 ── router (masquerades, forwards answers only) ── 10.214.N.0/24 ── machine
//! ```
//! Router and machine are network namespaces. The machine runs a Docker engine and nothing else; what is installed on it
//! goes into copies of `/etc` and `/usr/local` of its own. Everything in it ends with its first process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

use crate::lab::{Ran, ran};
use crate::process::{self, Process};

/// Numbers of networks; others may use some of them.
const NETWORKS: u32 = 200;

/// Makes copies of the folders that installing writes into, names the machine, and becomes what follows.
const ON_THE_MACHINE: &str = r#"
for folder in etc usr/local; do
    mkdir -p "$1/copies/$folder/new" "$1/copies/$folder/work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$1/copies/$folder/new,workdir=$1/copies/$folder/work" "/$folder"
done
echo "$2" > /proc/sys/kernel/hostname
shift 2
exec "$@""#;

/// Gives an engine folders that all engines of a computer would share, and becomes it.
const ENGINE: &str = r#"
mkdir -p /run/docker /run/containerd /etc/docker
mount -t tmpfs -o mode=711 skep-machine /run/docker
mount -t tmpfs -o mode=711 skep-machine /run/containerd
rm -rf /etc/docker/*
exec dockerd --data-root "$1/docker" --exec-root "$1/run" --pidfile "$1/docker.pid" --host "unix://$1/docker.sock" \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$2""#;

/// A machine that is up. Dropping it removes everything of it.
pub struct Machine {
    /// First, so that they have ended when their folder goes.
    agent: Option<Process>,
    engine: Option<Process>,
    network: Network,
    dir: tempfile::TempDir,
}

/// The namespaces, which go when this does.
struct Network {
    number: u32,
    tag: String,
}

impl Network {
    fn make() -> Result<Network> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() + 97 * MADE.fetch_add(1, Ordering::Relaxed)) % NETWORKS;
        let tag = format!("skm{number}");
        // What a test that was killed has left.
        remove(&tag);
        let network = Network { number, tag };
        let (router, machine) = (format!("{}r", network.tag), format!("{}m", network.tag));
        let (outer, outside) = (network.manager_address(), format!("10.213.{number}.2"));
        let (inside, inner) = (format!("10.214.{number}.1"), network.machine_address());
        let tag = &network.tag;
        for line in [
            format!("ip netns add {router}"),
            format!("ip netns add {machine}"),
            format!("ip link add {tag}o type veth peer name outside netns {router}"),
            format!("ip addr add {outer}/30 dev {tag}o"),
            format!("ip link set {tag}o up"),
            // Whoever knows the way is stopped by the router.
            format!("ip route add 10.214.{number}.0/24 via {outside}"),
            format!("ip -n {router} link add inside type veth peer name eth0 netns {machine}"),
            format!("ip -n {router} addr add {outside}/30 dev outside"),
            format!("ip -n {router} addr add {inside}/24 dev inside"),
            format!("ip -n {router} link set outside up"),
            format!("ip -n {router} link set inside up"),
            format!("ip -n {machine} addr add {inner}/24 dev eth0"),
            format!("ip -n {machine} link set lo up"),
            format!("ip -n {machine} link set eth0 up"),
            format!("ip -n {machine} route add default via {inside}"),
            format!("ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1"),
            format!("ip netns exec {router} iptables -w -P FORWARD DROP"),
            format!("ip netns exec {router} iptables -w -A FORWARD -i inside -j ACCEPT"),
            format!(
                "ip netns exec {router} iptables -w -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT"
            ),
            format!("ip netns exec {router} iptables -w -t nat -A POSTROUTING -o outside -j MASQUERADE"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            run(words[0], &words[1..])?;
        }
        Ok(network)
    }

    fn manager_address(&self) -> String {
        format!("10.213.{}.1", self.number)
    }

    fn machine_address(&self) -> String {
        format!("10.214.{}.2", self.number)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.tag);
    }
}

impl Machine {
    /// A machine with an engine that answers.
    pub fn start(name: &str) -> Result<Machine> {
        let network = Network::make()?;
        let dir = tempfile::tempdir()?;
        let mut machine = Machine { agent: None, engine: None, network, dir };
        let (folder, tag) = (machine.folder(), machine.network.tag.clone());
        let command = machine.inside("engine", name, &["sh", "-ec", ENGINE, "engine", &folder, &tag])?;
        machine.engine = Some(Process::start(command, &machine.log("engine"))?);
        process::wait_for(
            "the machine's engine",
            || Ok((machine.docker(&["version"])?.code == 0).then_some(())),
            || process::tails([&*machine.log("engine")]),
        )?;
        Ok(machine)
    }

    /// Where managers must listen so that the machine reaches them.
    pub fn manager_address(&self) -> String {
        self.network.manager_address()
    }

    /// The machine's only address.
    pub fn address(&self) -> String {
        self.network.machine_address()
    }

    /// Runs a line of shell as root, as somebody who has logged in would; then the agent that it has installed, as a
    /// supervisor would.
    pub fn install(&mut self, name: &str, line: &str) -> Result<()> {
        // An earlier agent's folder stays: that is where it remembers who it is.
        self.agent = None;
        let agent = format!(
            "{line}\nset -a; . /etc/skep/agent.env; set +a\nexport SKEP_AGENT_STATE_DIR={0}/agent \
             SKEP_AGENT_DOCKER_SOCKET={0}/docker.sock\nexec /usr/local/bin/skep agent",
            self.folder()
        );
        let command = self.inside("agent", name, &["sh", "-ec", &agent])?;
        self.agent = Some(Process::start(command, &self.log("agent"))?);
        Ok(())
    }

    /// Waits until the agent has ended by itself; its exit code.
    pub fn agent_ended(&mut self) -> Result<Option<i32>> {
        let log = self.log("agent");
        let agent = self.agent.as_mut().ok_or_else(|| anyhow::anyhow!("no agent was started"))?;
        let status = process::wait_for("the agent to end", || agent.ended(), || process::tails([&*log]))?;
        Ok(status.code())
    }

    /// What the installation and the agent have said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log("agent")).unwrap_or_default()
    }

    /// Where they say it.
    pub fn log(&self, what: &str) -> PathBuf {
        self.dir.path().join(format!("{what}.log"))
    }

    /// Runs the `docker` program on the machine's engine.
    pub fn docker(&self, arguments: &[&str]) -> Result<Ran> {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}/docker.sock", self.folder())).args(arguments);
        ran(command)
    }

    /// Where its engine's socket and everything else of it is, on this computer.
    pub fn folder(&self) -> String {
        self.dir.path().display().to_string()
    }

    /// A command in the machine's namespaces; what it starts ends with it.
    fn inside(&self, part: &str, name: &str, command: &[&str]) -> Result<Command> {
        let folder = self.dir.path().join(part);
        fs::create_dir_all(&folder)?;
        let mut inside = Command::new("nsenter");
        inside
            .arg(format!("--net=/run/netns/{}m", self.network.tag))
            .args(["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-ec", ON_THE_MACHINE, "machine"])
            .arg(folder)
            .arg(name)
            .args(command);
        Ok(inside)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.agent = None;
        self.engine = None;
        let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else {
            return;
        };
        let groups = hierarchies.flatten().map(|entry| entry.path().join(&self.network.tag));
        groups
            .chain([Path::new("/sys/fs/cgroup").join(&self.network.tag)])
            .for_each(|group| remove_group(&group));
    }
}

/// Its processes have ended, so only empty groups are left.
fn remove_group(group: &Path) {
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&inner.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn remove(tag: &str) {
    for arguments in [
        ["netns", "del", &format!("{tag}m")],
        ["netns", "del", &format!("{tag}r")],
        ["link", "del", &format!("{tag}o")],
    ] {
        // Mostly there is none.
        let _ = Command::new("ip").args(arguments).stderr(std::process::Stdio::null()).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments);
    let ran = ran(command)?;
    if ran.code != 0 {
        bail!("{program} {} ended with {}: {}", arguments.join(" "), ran.code, ran.stderr);
    }
    Ok(())
}
