//! What can go wrong with machines, told by what was being tried.

use std::io;
use std::path::PathBuf;

/// A driver could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Nobody knows this driver.
    #[error("there is no driver named {name:?}; known drivers: {known}")]
    UnknownDriver {
        /// What was asked for.
        name: String,
        /// What could have been.
        known: String,
    },
    /// The driver has no such option.
    #[error("driver {driver} has no option {option:?}; its options: {known}")]
    UnknownOption {
        /// The driver.
        driver: &'static str,
        /// What was written.
        option: String,
        /// What could have been.
        known: String,
    },
    /// The option exists, the value cannot work.
    #[error("option {option} of driver {driver} cannot be {value:?}: {expected}")]
    InvalidOption {
        /// The driver.
        driver: &'static str,
        /// The option.
        option: &'static str,
        /// What was written.
        value: String,
        /// What would work.
        expected: &'static str,
    },
    /// The driver needs rights this process lacks.
    #[error(
        "driver {driver} makes network namespaces and starts Docker engines on this computer, which needs root: \
         run the managers as root (sudo skep …), or choose another driver"
    )]
    NeedsRoot {
        /// The driver.
        driver: &'static str,
    },
    /// A program the driver uses is not installed.
    #[error(
        "driver {driver} needs the program {tool}, which is not installed here (Debian: apt-get install {package})"
    )]
    MissingTool {
        /// The driver.
        driver: &'static str,
        /// The program.
        tool: &'static str,
        /// Where it comes from.
        package: &'static str,
    },
    /// Unix sockets below this folder would have names longer than Linux allows.
    #[error(
        "{path} would be {bytes} bytes long, a Unix socket may have {bytes_max}: choose a shorter folder for local machines"
    )]
    PathTooLong {
        /// The path that would be used.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The most there may be.
        bytes_max: usize,
    },
    /// The key cannot be one of this driver's.
    #[error("{host:?} of cluster {cluster:?} cannot be a machine here: {reason}")]
    InvalidKey {
        /// The cluster in the key.
        cluster: String,
        /// The host in the key.
        host: String,
        /// Why not.
        reason: &'static str,
    },
    /// None, or more than one machine of this name.
    #[error(
        "{count} machines on this computer are named {name:?}: use the id of its host (skep host ls -o wide)"
    )]
    WhichMachine {
        /// What was asked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// Every network is in use.
    #[error(
        "choosing a network for the machines: every /24 of 10.90.0.0/16 to 10.99.0.0/16 overlaps with a route of this computer"
    )]
    NoFreeSubnet,
    /// The network chosen earlier now leads elsewhere.
    #[error(
        "making the bridge again: its network {subnet} is now used by the route {route}; remove that route, or sweep this cluster's local machines"
    )]
    SubnetTaken {
        /// The network of the cluster.
        subnet: String,
        /// What overlaps.
        route: String,
    },
    /// Every address of the network is in use.
    #[error("choosing an address: all {count} addresses of {subnet} belong to machines")]
    NoFreeAddress {
        /// The network.
        subnet: String,
        /// How many there are.
        count: usize,
    },
    /// A program ended with a failure.
    #[error("{trying}: `{command}` failed: {detail}")]
    Command {
        /// What was being tried.
        trying: &'static str,
        /// The command line.
        command: String,
        /// What it said.
        detail: String,
    },
    /// The file system or the kernel refused.
    #[error("{trying} {path}: {source}", path = .path.display())]
    Io {
        /// What was being tried.
        trying: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of the driver cannot be understood.
    #[error("reading {path}: {source}", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// Something that must go on running ended as soon as it was started.
    #[error("starting {what} of {machine}: it ended at once ({status}); the end of {log}:\n{tail}", log = .log.display())]
    DiedAtOnce {
        /// What was started.
        what: &'static str,
        /// Where.
        machine: String,
        /// How it ended.
        status: String,
        /// Where it wrote.
        log: PathBuf,
        /// What it wrote last.
        tail: String,
    },
    /// Processes outlived the signal that nothing outlives; mostly they hang in the kernel.
    #[error("ending the processes of {owner}: {pids:?} are still there {seconds} s after SIGKILL")]
    StillRunning {
        /// Whose they are.
        owner: String,
        /// Which.
        pids: Vec<i32>,
        /// How long was waited.
        seconds: u64,
    },
    /// There is no such engine here.
    #[error(
        "looking for engine {version}: neither {path} nor the dockerd of this computer is of this version ({found})",
        path = .path.display()
    )]
    NoEngine {
        /// The version.
        version: String,
        /// Where it would be.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// Another engine did not start; the one before runs again.
    #[error("changing the engine to {version}: {why}. The engine from before was started again")]
    EngineNotChanged {
        /// The version.
        version: String,
        /// What went wrong.
        why: String,
    },
    /// The work itself broke.
    #[error("{trying}: the work was cut short: {detail}")]
    CutShort {
        /// What was being tried.
        trying: &'static str,
        /// What is known.
        detail: String,
    },
}

impl DriverError {
    /// Whether the same call may succeed later without anyone changing the wish or this computer's set-up.
    pub fn retryable(&self) -> bool {
        match self {
            DriverError::UnknownDriver { .. }
            | DriverError::UnknownOption { .. }
            | DriverError::InvalidOption { .. }
            | DriverError::NeedsRoot { .. }
            | DriverError::MissingTool { .. }
            | DriverError::PathTooLong { .. }
            | DriverError::InvalidKey { .. }
            | DriverError::WhichMachine { .. }
            | DriverError::NoEngine { .. }
            | DriverError::EngineNotChanged { .. }
            | DriverError::Corrupt { .. } => false,
            DriverError::NoFreeSubnet
            | DriverError::SubnetTaken { .. }
            | DriverError::NoFreeAddress { .. }
            | DriverError::Command { .. }
            | DriverError::Io { .. }
            | DriverError::DiedAtOnce { .. }
            | DriverError::StillRunning { .. }
            | DriverError::CutShort { .. } => true,
        }
    }
}
