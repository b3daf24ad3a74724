//! Names: what every file, interface, namespace, process mark and control group of a cluster is called.
//!
//! Pure, and the only place that makes such a name, so that what is made can be recognised when it is removed.
//! The tag stands for root folder *and* cluster: two labs with one cluster name in two folders do not meet.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::processes::Role;
use crate::{DriverConfig, DriverError, MachineKey};

/// `sun_path` holds 108 bytes with the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Longest host id that is accepted: a prefix and a UUID with dashes, with room to spare.
const HOST_ID_BYTES_MAX: usize = 48;
/// Host ids end in their random part; this much of it tells the machines of one cluster apart (48 bits).
const HOST_PART_CHARS: usize = 12;
/// Where `ip netns` keeps named namespaces.
pub(super) const NAMESPACES: &str = "/run/netns";

/// The names of one cluster.
#[derive(Clone)]
pub(super) struct Layout {
    pub(super) cluster: String,
    pub(super) tag: String,
    pub(super) root: PathBuf,
    pub(super) skep_binary: PathBuf,
}

/// The names of one host.
pub(super) struct HostLayout {
    folder: PathBuf,
    exec_root: PathBuf,
    lock: PathBuf,
    namespace: String,
    mark: String,
    control_group: String,
}

impl Layout {
    pub(super) fn of(config: &DriverConfig) -> Layout {
        // Not `canonicalize`: the names must be the same before the folder exists and after it is gone.
        let root = std::path::absolute(&config.root).unwrap_or_else(|_| config.root.clone());
        let skep_binary =
            std::path::absolute(&config.skep_binary).unwrap_or_else(|_| config.skep_binary.clone());
        Layout { cluster: config.cluster.clone(), tag: tag(&root, &config.cluster), root, skep_binary }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.root.join(&self.tag)
    }

    /// Where an engine of this version is, if somebody has put one there.
    pub(super) fn engine(&self, version: &str) -> PathBuf {
        self.root.join("engines").join(version).join("dockerd")
    }

    pub(super) fn network_file(&self) -> PathBuf {
        self.folder().join("network.json")
    }

    /// Held while networks and addresses are handed out.
    pub(super) fn lock(&self) -> PathBuf {
        self.folder().join("lock")
    }

    pub(super) fn hosts(&self) -> PathBuf {
        self.folder().join("hosts")
    }

    pub(super) fn bridge(&self) -> String {
        format!("{}br", self.interface_prefix())
    }

    /// The end of a machine's cable that is on the bridge.
    pub(super) fn cable(&self, address: Ipv4Addr) -> String {
        format!("{}h{}", self.interface_prefix(), address.octets()[3])
    }

    pub(super) fn interface_prefix(&self) -> String {
        format!("sk{}", self.tag)
    }

    pub(super) fn namespace_prefix(&self) -> String {
        format!("skep-{}-", self.tag)
    }

    /// The mark that all processes of the cluster begin with.
    pub(super) fn mark(&self) -> String {
        format!("{}/", self.tag)
    }

    pub(super) fn control_group(&self) -> String {
        format!("/skep-{}", self.tag)
    }

    pub(super) fn host(&self, id: &str) -> HostLayout {
        let part = host_part(id);
        HostLayout {
            folder: self.hosts().join(id),
            exec_root: self.folder().join("run").join(&part),
            lock: self.folder().join("locks").join(id),
            namespace: format!("{}{part}", self.namespace_prefix()),
            mark: format!("{}{id}", self.mark()),
            control_group: format!("{}/{part}", self.control_group()),
        }
    }

    /// The names of the host this key means, if it can be one of ours. Ids become file names, so what could
    /// lead out of the folder is refused here, once.
    pub(super) fn host_of(&self, key: &MachineKey) -> Result<HostLayout, DriverError> {
        let refuse =
            |reason| DriverError::InvalidKey { cluster: key.cluster.clone(), host: key.host.clone(), reason };
        if key.cluster != self.cluster {
            return Err(refuse("this driver works for another cluster"));
        }
        if key.host.is_empty() || key.host.len() > HOST_ID_BYTES_MAX {
            return Err(refuse("an id has 1 to 48 characters"));
        }
        if !key.host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
            return Err(refuse("an id has letters, digits, '-' and '_' only"));
        }
        let host = self.host(&key.host);
        host.check_length()?;
        Ok(host)
    }

    /// Whether the paths of a host with an ordinary id fit.
    pub(super) fn check_length(&self) -> Result<(), DriverError> {
        self.host("host_00000000000000000000000000000000").check_length()
    }
}

impl HostLayout {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn machine_file(&self) -> PathBuf {
        self.folder.join("machine.json")
    }

    /// What `machine.json` becomes when the machine is let go: it keeps its address, and is found by nobody but a sweep.
    pub(super) fn let_go_file(&self) -> PathBuf {
        self.folder.join("let-go.json")
    }

    pub(super) fn join_file(&self) -> PathBuf {
        self.folder.join("join.json")
    }

    pub(super) fn docker_socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    pub(super) fn docker_log(&self) -> PathBuf {
        self.folder.join("dockerd.log")
    }

    pub(super) fn docker_pid_file(&self) -> PathBuf {
        self.folder.join("dockerd.pid")
    }

    pub(super) fn docker_data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the engine sees as `/etc/docker`.
    pub(super) fn docker_settings(&self) -> PathBuf {
        self.folder.join("etc-docker")
    }

    pub(super) fn agent_log(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    /// Held by the running program of this role; see `running.rs`.
    pub(super) fn run_lock(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{}.lock", role.as_str()))
    }

    pub(super) fn agent_state(&self) -> PathBuf {
        self.folder.join("agent")
    }

    /// Not below the host's own folder: the engine puts sockets deep below it, and their paths are limited.
    pub(super) fn exec_root(&self) -> &Path {
        &self.exec_root
    }

    /// Held while the machine is made or removed.
    pub(super) fn lock(&self) -> &Path {
        &self.lock
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn namespace_path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.namespace)
    }

    /// What this host's processes carry in their environment.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Where this host's containers are put.
    pub(super) fn control_group(&self) -> &str {
        &self.control_group
    }

    fn check_length(&self) -> Result<(), DriverError> {
        let deepest = self.exec_root.join("containerd/containerd-debug.sock");
        for path in [self.docker_socket(), deepest] {
            let bytes = path.as_os_str().len();
            if bytes > SOCKET_PATH_BYTES_MAX {
                return Err(DriverError::PathTooLong { path, bytes, bytes_max: SOCKET_PATH_BYTES_MAX });
            }
        }
        Ok(())
    }
}

/// Eight hexadecimal digits. With them an interface name stays below the kernel's 15 bytes
/// (`sk` + tag + `h` + three digits = 14).
fn tag(root: &Path, cluster: &str) -> String {
    // FNV-1a, because the tag must be the same in every version of this program; std's hashers promise less.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let separator: &[u8] = &[0];
    let parts: [&OsStr; 2] = [root.as_os_str(), OsStr::new(cluster)];
    for byte in [parts[0].as_bytes(), separator, parts[1].as_bytes()].concat() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{:08x}", (hash >> 32) as u32 ^ hash as u32)
}

fn host_part(id: &str) -> String {
    let letters: Vec<char> = id.chars().filter(char::is_ascii_alphanumeric).collect();
    letters[letters.len().saturating_sub(HOST_PART_CHARS)..].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(root: &str, cluster: &str) -> Layout {
        Layout::of(&DriverConfig {
            cluster: cluster.into(),
            skep_binary: "/bin/skep".into(),
            root: root.into(),
        })
    }

    fn key(host: &str) -> MachineKey {
        MachineKey { cluster: "demo".into(), host: host.into() }
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        let layout = layout("/var/lib/skep-local", "demo");
        for name in [layout.bridge(), layout.cable(Ipv4Addr::new(10, 99, 255, 250))] {
            assert!(name.len() <= 15, "{name}");
            assert!(name.starts_with(&layout.interface_prefix()));
        }
    }

    #[test]
    fn the_tag_tells_clusters_and_folders_apart_and_never_changes() {
        let tag = layout("/var/lib/skep-local", "demo").tag;
        assert_eq!(tag, "6b45b099", "machines made by an earlier version would not be found again");
        assert_ne!(tag, layout("/var/lib/skep-local", "demo2").tag);
        assert_ne!(tag, layout("/var/lib/skep-local2", "demo").tag);
    }

    #[test]
    fn ids_that_could_lead_out_of_the_folder_are_refused() {
        let layout = layout("/var/lib/skep-local", "demo");
        assert!(layout.host_of(&key("host_0198c0ffee")).is_ok());
        for id in ["", "..", "a/b", "a b", &"x".repeat(49)] {
            assert!(matches!(layout.host_of(&key(id)), Err(DriverError::InvalidKey { .. })), "{id:?}");
        }
        let other = MachineKey { cluster: "other".into(), host: "host_1".into() };
        assert!(matches!(layout.host_of(&other), Err(DriverError::InvalidKey { .. })));
    }

    #[test]
    fn a_folder_too_deep_for_sockets_is_refused() {
        assert!(layout("/var/lib/skep-local", "demo").check_length().is_ok());
        let deep = layout(&format!("/{}", "deep/".repeat(12)), "demo");
        assert!(matches!(deep.check_length(), Err(DriverError::PathTooLong { .. })));
    }

    #[test]
    fn a_host_is_told_apart_by_the_end_of_its_id() {
        assert_eq!(host_part("host_0198c0ff-1111-7222-8333-444455556666"), "444455556666");
        assert_eq!(host_part("h-1"), "h1");
    }
}
