//! Machines on this computer, for trying, teaching and testing: real Docker engines, no cloud.
//!
//! One machine is a network namespace with an address on the cluster's bridge, a host name of its own, a
//! Docker engine of its own and the agent:
//!
//! ```text
//!   bridge sk<tag>br  10.9x.y.1/24      managers listen here
//!     │ sk<tag>h11     │ sk<tag>h12
//!   ┌─┴──────────────┐ ┌┴───────────────┐
//!   │ eth0 10.9x.y.11│ │ eth0 10.9x.y.12│   skep-<tag>-<part of the host id>
//!   │ dockerd, agent │ │ dockerd, agent │
//!   └────────────────┘ └────────────────┘
//! ```
//!
//! The machines reach each other and the bridge, nothing else: an attempt to pull an image fails at once
//! instead of waiting for name servers, and a lab never depends on the outside. Images are brought to them.
//!
//! A machine's engine is the computer's own `dockerd`. Others lie at `<root>/engines/<version>/dockerd`, where somebody has put
//! them, and a machine gets one of them when its engine is upgraded.
//!
//! Everything a cluster has lies below `<root>/<tag>/`. What is outside of it (interfaces, namespaces,
//! processes, control groups) carries the tag in its name or environment, so [`sweep`] finds it without the
//! folder too, and touches nothing else.

mod address;
mod control_group;
mod engine;
mod files;
mod firewall;
mod layout;
mod machine;
mod namespace;
mod network;
mod processes;
mod running;
mod sweep;
mod tools;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Driver, DriverConfig, DriverError, DriverKind, DriverOption, Machine, MachineKey, MachineState,
    MachineWish,
};
use layout::Layout;

pub use network::Network;
pub use sweep::Sweep;

/// The driver `local`.
pub const KIND: DriverKind = DriverKind {
    name: NAME,
    description: "Machines on this computer: a network namespace with a Docker engine each (needs root)",
    options: &[DriverOption {
        name: MTU_OPTION,
        help: "Largest packet, in bytes, that the machine's network carries",
        default: "1500",
        check: check_mtu,
    }],
    available,
    build: |config| Arc::new(Local { config: config.clone() }),
};

const NAME: &str = "local";
const MTU_OPTION: &str = "mtu";

/// The MTU of plain Ethernet, which everything expects that says nothing else.
const MTU_DEFAULT: u16 = 1500;
/// IPv4 lets every link carry 576 bytes; below that engines and TLS misbehave in ways nobody needs to see.
const MTU_MIN: u16 = 576;
/// Jumbo frames; more exists on no network that a lab would imitate.
const MTU_MAX: u16 = 9000;

/// Makes the cluster's bridge with its gateway address, so that managers can listen there before the first
/// machine exists. Blocks for some milliseconds. Making it again is fine.
pub fn ensure_network(config: &DriverConfig) -> Result<Network, DriverError> {
    available(config)?;
    let layout = Layout::of(config);
    let network = network::ensure(&layout)?;
    firewall::allow(&layout)?;
    Ok(network)
}

/// Removes every trace of this cluster's machines: processes, mounts, namespaces, interfaces, rules, files.
///
/// For the end of a lab, after the managers have ended (a manager that is just making a machine would go on).
/// Works after everything was killed, after a reboot, and when there is nothing. Blocks until it is done.
pub fn sweep(config: &DriverConfig) -> Result<Sweep, DriverError> {
    needs_root()?;
    sweep::sweep(&Layout::of(config))
}

/// Switches a machine off as a power cut would, named by its host's id or name; says how many processes have ended.
/// Blocks until none is left.
pub fn switch_off(config: &DriverConfig, reference: &str) -> Result<usize, DriverError> {
    needs_root()?;
    machine::switch_off(&Layout::of(config), reference)
}

/// Switches a machine on: starts its engine and its agent, whichever does not run.
pub async fn switch_on(config: &DriverConfig, reference: &str) -> Result<(), DriverError> {
    available(config)?;
    let reference = reference.to_owned();
    let local = Local { config: config.clone() };
    local.blocking("switching a machine on", move |layout| machine::switch_on(layout, &reference)).await
}

/// Where the Docker engine of this host listens.
pub fn docker_socket(config: &DriverConfig, host: &str) -> PathBuf {
    Layout::of(config).host(host).docker_socket()
}

/// The network namespace of this host, for `nsenter --net=`.
pub fn namespace_path(config: &DriverConfig, host: &str) -> PathBuf {
    Layout::of(config).host(host).namespace_path()
}

/// The folder of this host: its logs, its data, its join file.
pub fn machine_folder(config: &DriverConfig, host: &str) -> PathBuf {
    Layout::of(config).host(host).folder().to_owned()
}

struct Local {
    config: DriverConfig,
}

impl Local {
    /// Runs the work where it may block. It is finished even if the caller stops waiting, so a cancelled
    /// call leaves no more behind than an uncancelled one.
    async fn blocking<T: Send + 'static>(
        &self,
        trying: &'static str,
        work: impl FnOnce(&Layout) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let layout = Layout::of(&self.config);
        tokio::task::spawn_blocking(move || work(&layout))
            .await
            .unwrap_or_else(|error| Err(DriverError::CutShort { trying, detail: error.to_string() }))
    }
}

#[async_trait]
impl Driver for Local {
    async fn find(&self, key: &MachineKey) -> Result<Option<Machine>, DriverError> {
        let key = key.clone();
        self.blocking("looking for a machine", move |layout| machine::find(layout, &key)).await
    }

    async fn state(&self, key: &MachineKey) -> Result<MachineState, DriverError> {
        let key = key.clone();
        self.blocking("looking at a machine", move |layout| machine::state(layout, &key)).await
    }

    async fn ensure(&self, wish: &MachineWish) -> Result<Machine, DriverError> {
        available(&self.config)?;
        let wish = wish.clone();
        self.blocking("making a machine", move |layout| machine::ensure(layout, &wish)).await
    }

    async fn release(&self, key: &MachineKey) -> Result<(), DriverError> {
        needs_root()?;
        let key = key.clone();
        self.blocking("giving a machine back", move |layout| machine::release(layout, &key)).await
    }

    async fn change_engine(&self, key: &MachineKey, version: &str) -> Result<bool, DriverError> {
        needs_root()?;
        let (key, version) = (key.clone(), version.to_owned());
        let change = move |layout: &Layout| machine::change_engine(layout, &key, &version);
        self.blocking("changing an engine", change).await.map(|()| true)
    }

    async fn restart_engine(&self, key: &MachineKey) -> Result<bool, DriverError> {
        needs_root()?;
        let key = key.clone();
        let restart = move |layout: &Layout| machine::restart_engine(layout, &key);
        self.blocking("starting an engine anew", restart).await.map(|()| true)
    }

    async fn forget(&self, key: &MachineKey) -> Result<(), DriverError> {
        needs_root()?;
        let key = key.clone();
        self.blocking("letting a machine go", move |layout| machine::forget(layout, &key)).await
    }

    async fn list(&self) -> Result<Vec<Machine>, DriverError> {
        self.blocking("listing machines", machine::list).await
    }
}

fn available(config: &DriverConfig) -> Result<(), DriverError> {
    needs_root()?;
    for (tool, package) in tools::NEEDED {
        tools::find(tool).ok_or(DriverError::MissingTool { driver: NAME, tool, package })?;
    }
    Layout::of(config).check_length()
}

fn needs_root() -> Result<(), DriverError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(DriverError::NeedsRoot { driver: NAME }) }
}

fn check_mtu(value: &str) -> Result<(), &'static str> {
    match value.parse::<u16>() {
        Ok(mtu) if (MTU_MIN..=MTU_MAX).contains(&mtu) => Ok(()),
        _ => Err("it is a number from 576 to 9000, usually 1500"),
    }
}
