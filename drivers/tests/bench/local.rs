//! Machines of the driver `local`, looked at through /proc, /sys and their Docker sockets.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skep_drivers::{DriverConfig, Machine, MachineKey, local};
use tempfile::TempDir;

use super::{Bench, Fault, Stage, soon, until};

/// A folder with machines of its own.
pub(crate) struct LocalBench {
    folder: TempDir,
    config: DriverConfig,
}

impl LocalBench {
    pub(crate) fn new() -> LocalBench {
        let folder = tempfile::tempdir().unwrap();
        // It stands where the agent would: the driver's part is to start it and to end it.
        let agent = folder.path().join("agent.sh");
        fs::write(&agent, "#!/bin/sh\nexec sleep 100000\n").unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        let config = DriverConfig {
            cluster: "contract".to_owned(),
            skep_binary: agent,
            root: folder.path().join("machines"),
        };
        LocalBench { folder, config }
    }

    /// The folder below the root is named by the tag that everything else carries.
    pub(crate) fn tag(&self) -> String {
        let socket = local::docker_socket(&self.config, "x");
        let below = socket.strip_prefix(&self.config.root).unwrap().to_owned();
        below.components().next().unwrap().as_os_str().to_str().unwrap().to_owned()
    }

    /// Processes marked as this host's, with their names.
    fn processes(&self, host: &str) -> Vec<(i32, String)> {
        marked(&format!("SKEP_LOCAL={}/{host}", self.tag()))
    }

    /// Those of this name that were started, not made by another of this host's: a child of an engine has the
    /// engine's name until it becomes another program.
    fn started(&self, host: &str, name: &str) -> Vec<i32> {
        let ours = self.processes(host);
        let is_ours = |pid: i32| ours.iter().any(|(other, _)| *other == pid);
        let named = ours.iter().filter(|(pid, found)| found == name && !parent(*pid).is_some_and(is_ours));
        named.map(|(pid, _)| *pid).collect()
    }

    fn cable(&self, machine: &Machine) -> String {
        let last = machine.address.to_string().rsplit('.').next().unwrap().to_owned();
        format!("sk{}h{last}", self.tag())
    }

    fn path(&self, machine: &Machine, name: &str) -> PathBuf {
        local::machine_folder(&self.config, &machine.key.host).join(name)
    }
}

impl Drop for LocalBench {
    fn drop(&mut self) {
        match local::sweep(&self.config) {
            Ok(swept) => eprintln!("{}: {swept}", self.folder.path().display()),
            Err(error) => eprintln!("{}: NOT swept: {error}", self.folder.path().display()),
        }
    }
}

impl Bench for LocalBench {
    fn config(&self) -> &DriverConfig {
        &self.config
    }

    fn made_once(&self, machine: &Machine) -> Result<(), String> {
        let host = &machine.key.host;
        let count = |name: &str| self.started(host, name).len();
        // The agent's stand-in is called as what it became.
        if (count("dockerd"), count("sleep")) != (1, 1) {
            return Err(format!("processes: {:?}", self.processes(host)));
        }
        let inside = ip(&["-n", &machine.id, "-4", "addr", "show", "dev", "eth0"]);
        if !inside.contains(&format!("{}/24", machine.address)) {
            return Err(format!("the address in its namespace: {inside:?}"));
        }
        let cable = ip(&["link", "show", &self.cable(machine)]);
        if !cable.contains(&format!("master sk{}br", self.tag())) {
            return Err(format!("its cable: {cable:?}"));
        }
        let here = fs::read_link(format!("/proc/{}/ns/net", self.started(host, "dockerd")[0]))
            .map_err(|error| error.to_string())?;
        let named = net_inode(&local::namespace_path(&self.config, host));
        if here.to_str() != Some(&format!("net:[{named}]")) {
            return Err(format!("the engine is in {here:?}, the namespace is {named}"));
        }
        let mode = fs::metadata(self.path(machine, "join.json")).map_err(|error| error.to_string())?;
        if mode.permissions().mode() & 0o777 != 0o600 {
            return Err("others can read the join file".to_owned());
        }
        Ok(())
    }

    fn works(&self, machine: &Machine) -> Result<(), String> {
        let socket = local::docker_socket(&self.config, &machine.key.host);
        soon(|| {
            let answer = get(&socket, "/info").map_err(|error| format!("{}: {error}", socket.display()))?;
            let name = format!("\"Name\":\"{}\"", machine.name);
            if answer.contains(&name) { Ok(()) } else { Err(format!("no {name} in {answer}")) }
        })
    }

    fn use_it(&self, machine: &Machine) {
        let socket = local::docker_socket(&self.config, &machine.key.host);
        run_container(&socket, self.folder.path());
        let group = format!("/skep-{}/", self.tag());
        until("the container runs", || containers(&group) == 1);
    }

    fn nothing_left(&self, key: &MachineKey) -> Result<(), String> {
        let left = self.processes(&key.host);
        if !left.is_empty() {
            return Err(format!("processes {left:?}"));
        }
        let machines = fs::read_dir(self.config.root.join(self.tag()).join("hosts"));
        let others = machines.is_ok_and(|mut names| names.next().is_some());
        if !others && containers(&format!("/skep-{}/", self.tag())) > 0 {
            return Err("processes of containers".to_owned());
        }
        let cables = names("/sys/class/net", &format!("sk{}h", self.tag()));
        if !others && !cables.is_empty() {
            return Err(format!("interfaces {cables:?}"));
        }
        for path in
            [local::namespace_path(&self.config, &key.host), local::machine_folder(&self.config, &key.host)]
        {
            if path.exists() {
                return Err(format!("{}", path.display()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        match mounts.lines().find(|line| line.contains(&key.host)) {
            Some(line) => Err(format!("a mount: {line}")),
            None => Ok(()),
        }
    }

    fn faults(&self) -> Vec<Fault> {
        // A second view of the same names; it sweeps nothing when it goes.
        let view = || View { config: self.config.clone(), tag: self.tag() };
        let (a, b, c, d, e, f, g) = (view(), view(), view(), view(), view(), view(), view());
        vec![
            ("the engine was killed", Box::new(move |machine| a.kill(machine, "dockerd"))),
            ("the agent was killed", Box::new(move |machine| b.kill(machine, "sleep"))),
            (
                "all of the engine was killed, and its pid file names a living process",
                Box::new(move |machine| {
                    c.kill(machine, "dockerd");
                    let folder = local::machine_folder(&c.config, &machine.key.host);
                    fs::write(folder.join("dockerd.pid"), std::process::id().to_string()).unwrap();
                }),
            ),
            (
                "the cable was pulled and is gone",
                Box::new(move |machine| {
                    let last = machine.address.to_string().rsplit('.').next().unwrap().to_owned();
                    ip(&["link", "del", &format!("sk{}h{last}", d.tag)]);
                }),
            ),
            (
                "the namespace has no name, its processes live",
                Box::new(move |machine| {
                    let path = local::namespace_path(&e.config, &machine.key.host);
                    umount2(&path, MntFlags::MNT_DETACH).unwrap();
                    fs::remove_file(path).unwrap();
                }),
            ),
            (
                "the namespace is a file only",
                Box::new(move |machine| {
                    f.kill_all(machine);
                    umount2(&local::namespace_path(&f.config, &machine.key.host), MntFlags::MNT_DETACH)
                        .unwrap();
                }),
            ),
            (
                "the computer was restarted",
                Box::new(move |machine| {
                    g.kill_all(machine);
                    ip(&["netns", "del", &machine.id]);
                    ip(&["link", "del", &format!("sk{}br", g.tag)]);
                }),
            ),
        ]
    }

    fn stages(&self) -> Vec<Stage> {
        let (a, b, c, d) =
            (self.config.clone(), self.config.clone(), self.config.clone(), self.config.clone());
        let file = |config: &DriverConfig, key: &MachineKey, name: &str| {
            local::machine_folder(config, &key.host).join(name).exists()
        };
        vec![
            ("it is claimed", Box::new(move |key| file(&a, key, "machine.json"))),
            ("it has a namespace", Box::new(move |key| local::namespace_path(&b, &key.host).exists())),
            ("its engine is being started", Box::new(move |key| file(&c, key, "dockerd.log"))),
            ("its engine has started", Box::new(move |key| file(&d, key, "dockerd.pid"))),
        ]
    }
}

struct View {
    config: DriverConfig,
    tag: String,
}

impl View {
    fn kill(&self, machine: &Machine, name: &str) {
        let mark = format!("SKEP_LOCAL={}/{}", self.tag, machine.key.host);
        for (pid, found) in marked(&mark) {
            if found == name {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        until("it is dead", || !marked(&mark).iter().any(|(_, found)| found == name));
    }

    fn kill_all(&self, machine: &Machine) {
        let mark = format!("SKEP_LOCAL={}/{}", self.tag, machine.key.host);
        until("all are dead", || {
            let found = marked(&mark);
            for (pid, _) in &found {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            found.is_empty()
        });
    }
}

/// Processes that carry this in their environment and have not ended.
fn marked(entry: &str) -> Vec<(i32, String)> {
    pids()
        .into_iter()
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).split('\0').any(|found| found == entry)
        })
        .filter_map(|pid| {
            Some((pid, fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned()))
        })
        .collect()
}

/// How many processes are in control groups of this name.
pub(crate) fn containers(group: &str) -> usize {
    let inside = |pid: &i32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let alive = fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| !environment.is_empty());
        alive && groups.lines().any(|line| line.splitn(3, ':').nth(2).is_some_and(|at| at.starts_with(group)))
    };
    pids().iter().filter(|pid| inside(pid)).count()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn pids() -> Vec<i32> {
    let names = fs::read_dir("/proc").unwrap().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The names in a folder that begin like this.
pub(crate) fn names(folder: &str, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// What `ip` says; nothing if it fails.
pub(crate) fn ip(arguments: &[&str]) -> String {
    String::from_utf8(Command::new("ip").args(arguments).output().unwrap().stdout).unwrap()
}

fn net_inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map_or(0, |data| data.ino())
}

/// A GET by hand: one socket, one answer.
pub(crate) fn get(socket: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Brings an image without a registry, and runs it: a container that does not listen to SIGTERM.
pub(crate) fn run_container(socket: &Path, scratch: &Path) {
    let files = scratch.join("image/bin");
    fs::create_dir_all(&files).unwrap();
    fs::copy("/bin/busybox", files.join("busybox")).unwrap();
    let host = format!("unix://{}", socket.display());
    let mut tar = Command::new("tar")
        .args(["-C", scratch.join("image").to_str().unwrap(), "-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let imported = Command::new("docker")
        .args(["-H", &host, "import", "-", "lab:1"])
        .stdin(tar.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(imported.success() && tar.wait().unwrap().success());
    let run = ["run", "-d", "--name", "worker", "lab:1", "/bin/busybox", "sleep", "100000"];
    let ran = Command::new("docker").args(["-H", &host]).args(run).stdout(Stdio::null()).status().unwrap();
    assert!(ran.success());
}
