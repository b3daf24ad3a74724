//! One machine from wish to end.
//!
//! ```text
//!   claim      machine.json: the wish and the address, before anything is made
//!   namespace  the machine's network
//!   join.json  what its agent needs
//!   processes  engine and agent
//! ```
//!
//! Each step asks first whether it is done. Whatever interrupts it, the claim is found again, and the machine
//! is completed by the next `ensure` or removed by `release`. A machine that is let go keeps its claim under another
//! name: its address stays taken and a sweep finds it, everything else passes it by.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layout::{HostLayout, Layout};
use super::processes::{self, Manner, Owner, Role};
use super::{MTU_DEFAULT, MTU_OPTION, address, control_group, engine, files, namespace, network, running};
use crate::{DriverError, Machine, MachineKey, MachineState, MachineWish};

/// What is kept in `machine.json`: all that is needed to complete or remove the machine.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) host: String,
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    options: BTreeMap<String, String>,
    /// Another engine than the computer's own.
    #[serde(default)]
    pub(super) engine: Option<PathBuf>,
}

impl Claim {
    pub(super) fn mtu(&self) -> u16 {
        self.options.get(MTU_OPTION).and_then(|value| value.parse().ok()).unwrap_or(MTU_DEFAULT)
    }
}

pub(super) fn find(layout: &Layout, key: &MachineKey) -> Result<Option<Machine>, DriverError> {
    let host = layout.host_of(key)?;
    let claim = files::read::<Claim>(&host.machine_file())?;
    Ok(claim.map(|claim| machine(layout, claim)))
}

/// A machine whose engine and agent have both ended does not run. Machines are on the computer of one manager; another
/// computer, where this cluster has nothing at all, knows nothing of them.
pub(super) fn state(layout: &Layout, key: &MachineKey) -> Result<MachineState, DriverError> {
    let host = layout.host_of(key)?;
    if !layout.network_file().exists() {
        return Ok(MachineState::Unknown);
    }
    if files::read::<Claim>(&host.machine_file())?.is_none() {
        return Ok(MachineState::Gone);
    }
    match host.namespace_path().exists() && processes::any(&Owner::host(&host)) {
        true => Ok(MachineState::Running),
        false => Ok(MachineState::Stopped),
    }
}

pub(super) fn list(layout: &Layout) -> Result<Vec<Machine>, DriverError> {
    Ok(claims(layout)?.into_iter().map(|claim| machine(layout, claim)).collect())
}

pub(super) fn ensure(layout: &Layout, wish: &MachineWish) -> Result<Machine, DriverError> {
    crate::check_options(&super::KIND, &wish.options)?;
    let host = layout.host_of(&wish.key)?;
    let network = network::ensure(layout)?;
    let _held = files::lock(host.lock())?;
    if host.let_go_file().exists() {
        let MachineKey { cluster, host } = wish.key.clone();
        return Err(DriverError::InvalidKey { cluster, host, reason: "its machine was let go" });
    }
    let claim = match files::read(&host.machine_file())? {
        Some(claim) => claim,
        None => make_claim(layout, &host, wish)?,
    };
    namespace::ensure(layout, &host, &network, &claim)?;
    files::write(&host.join_file(), &wish.join)?;
    engine::ensure(layout, &host, &network, &claim)?;
    Ok(machine(layout, claim))
}

/// Ends everything that runs on the machine, as a power cut would. What is on its disk stays.
pub(super) fn switch_off(layout: &Layout, reference: &str) -> Result<usize, DriverError> {
    let (host, _) = claimed(layout, reference)?;
    let _held = files::lock(host.lock())?;
    running::end(&host, Manner::AtOnce)
}

/// Starts whatever does not run on the machine. Its agent has registered before, and needs no new invitation.
pub(super) fn switch_on(layout: &Layout, reference: &str) -> Result<(), DriverError> {
    let (host, claim) = claimed(layout, reference)?;
    let network = network::ensure(layout)?;
    let _held = files::lock(host.lock())?;
    namespace::ensure(layout, &host, &network, &claim)?;
    engine::ensure(layout, &host, &network, &claim)
}

/// The machine with this host id, or the only one with this name.
fn claimed(layout: &Layout, reference: &str) -> Result<(HostLayout, Claim), DriverError> {
    let mut found: Vec<Claim> = claims(layout)?;
    found.retain(|claim| claim.host == reference || claim.name == reference);
    let (count, name) = (found.len(), reference.to_owned());
    match found.pop() {
        Some(claim) if count == 1 => Ok((layout.host(&claim.host), claim)),
        _ => Err(DriverError::WhichMachine { name, count }),
    }
}

/// Ends the machine's engine and starts another, with what the one before has kept. If that does not start, the one before
/// is started again, so that the machine is not without an engine.
pub(super) fn change_engine(layout: &Layout, key: &MachineKey, version: &str) -> Result<(), DriverError> {
    let host = layout.host_of(key)?;
    let wanted = engine::of_version(layout, version)?;
    let network = network::ensure(layout)?;
    let _held = files::lock(host.lock())?;
    let before = claim_of(&host)?;
    let changed = Claim { engine: wanted, ..before.clone() };
    if changed.engine != before.engine {
        processes::end(&Owner::part(&host, Role::Engine), Manner::Asked)?;
        files::write(&host.machine_file(), &changed)?;
    }
    let Err(error) = engine::ensure(layout, &host, &network, &changed) else {
        return Ok(());
    };
    processes::end(&Owner::part(&host, Role::Engine), Manner::AtOnce)?;
    files::write(&host.machine_file(), &before)?;
    engine::ensure(layout, &host, &network, &before)?;
    Err(DriverError::EngineNotChanged { version: version.to_owned(), why: error.to_string() })
}

/// Ends the machine's engine and starts it again.
pub(super) fn restart_engine(layout: &Layout, key: &MachineKey) -> Result<(), DriverError> {
    let host = layout.host_of(key)?;
    let network = network::ensure(layout)?;
    let _held = files::lock(host.lock())?;
    let claim = claim_of(&host)?;
    processes::end(&Owner::part(&host, Role::Engine), Manner::Asked)?;
    engine::ensure(layout, &host, &network, &claim)
}

/// The claim of a machine that is there.
fn claim_of(host: &HostLayout) -> Result<Claim, DriverError> {
    files::read::<Claim>(&host.machine_file())?.ok_or_else(|| DriverError::Io {
        trying: "reading",
        path: host.machine_file(),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

pub(super) fn release(layout: &Layout, key: &MachineKey) -> Result<(), DriverError> {
    let host = layout.host_of(key)?;
    if is_gone(&host)? {
        return Ok(());
    }
    let _held = files::lock(host.lock())?;
    if host.let_go_file().exists() {
        return Ok(());
    }
    running::end(&host, Manner::Asked)?;
    let claim = files::read::<Claim>(&host.machine_file())?;
    namespace::remove(layout, &host, claim.as_ref())?;
    control_group::remove(host.control_group());
    files::remove(host.exec_root())?;
    // The claim goes last: until then an interrupted release is found and done again.
    for name in files::names(host.folder())? {
        let path = host.folder().join(name);
        if path != host.machine_file() {
            files::remove(&path)?;
        }
    }
    files::remove(host.folder())?;
    files::remove(host.lock())?;
    tracing::info!(host.id = %key.host, "local machine removed");
    Ok(())
}

pub(super) fn forget(layout: &Layout, key: &MachineKey) -> Result<(), DriverError> {
    let host = layout.host_of(key)?;
    if !host.folder().exists() {
        return Ok(());
    }
    let _held = files::lock(host.lock())?;
    // Its agent has read it, and it holds a secret of ours.
    files::remove(&host.join_file())?;
    let claim = host.machine_file();
    match fs::rename(&claim, host.let_go_file()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(files::io_error("renaming", &claim)(error));
        }
        _ => tracing::info!(host.id = %key.host, "local machine let go"),
    }
    Ok(())
}

/// Nothing on disk, no namespace, no process: also what was lost without its folder is given back.
fn is_gone(host: &HostLayout) -> Result<bool, DriverError> {
    Ok(!host.folder().exists() && !host.namespace_path().exists() && !processes::any(&Owner::host(host)))
}

/// Chooses the address and writes it down in one go, so that no two machines choose the same.
fn make_claim(layout: &Layout, host: &HostLayout, wish: &MachineWish) -> Result<Claim, DriverError> {
    let _held = network::hold(layout)?;
    let file = layout.network_file();
    let Some(mut record) = network::record(layout)? else {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(DriverError::Io { trying: "reading", path: file, source });
    };
    let others = claims(layout)?.into_iter().chain(claims_in(layout, HostLayout::let_go_file)?);
    let taken: BTreeSet<Ipv4Addr> = others.map(|claim| claim.address).collect();
    let address = address::choose_host(&record.subnet, record.last_host, &taken).ok_or_else(|| {
        DriverError::NoFreeAddress { subnet: record.subnet.to_string(), count: address::HOSTS_MAX }
    })?;
    let claim = Claim {
        host: wish.key.host.clone(),
        name: wish.name.clone(),
        address,
        options: wish.options.clone(),
        engine: None,
    };
    files::write(&host.machine_file(), &claim)?;
    record.last_host = Some(address.octets()[3]);
    files::write(&file, &record)?;
    tracing::info!(host.id = %claim.host, address = %address, "local machine claimed");
    Ok(claim)
}

fn claims(layout: &Layout) -> Result<Vec<Claim>, DriverError> {
    claims_in(layout, HostLayout::machine_file)
}

fn claims_in(layout: &Layout, file: fn(&HostLayout) -> PathBuf) -> Result<Vec<Claim>, DriverError> {
    let mut claims = Vec::new();
    for id in files::names(&layout.hosts())? {
        claims.extend(files::read::<Claim>(&file(&layout.host(&id)))?);
    }
    Ok(claims)
}

fn machine(layout: &Layout, claim: Claim) -> Machine {
    Machine {
        id: layout.host(&claim.host).namespace().to_owned(),
        key: MachineKey { cluster: layout.cluster.clone(), host: claim.host },
        name: claim.name,
        address: claim.address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DriverConfig;

    /// Nothing here runs: what a reboot leaves, what somebody deleted, and what never was on this computer.
    #[test]
    fn a_machine_that_is_stopped_gone_or_elsewhere_is_told_apart() {
        let root = tempfile::tempdir().expect("a folder");
        let layout = Layout::of(&DriverConfig {
            cluster: "states".into(),
            skep_binary: "/bin/true".into(),
            root: root.path().to_owned(),
        });
        let key = MachineKey { cluster: "states".into(), host: "host_1".into() };
        assert_eq!(state(&layout, &key).expect("looks"), MachineState::Unknown);
        files::write(&layout.network_file(), &serde_json::json!({})).expect("writes");
        assert_eq!(state(&layout, &key).expect("looks"), MachineState::Gone);
        let claim = Claim {
            host: key.host.clone(),
            name: "web-1".into(),
            address: Ipv4Addr::new(10, 90, 0, 11),
            options: BTreeMap::new(),
            engine: None,
        };
        let host = layout.host_of(&key).expect("a host");
        files::write(&host.machine_file(), &claim).expect("writes");
        assert_eq!(state(&layout, &key).expect("looks"), MachineState::Stopped);
    }
}
