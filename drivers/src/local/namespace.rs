//! A machine's network namespace and the cable from it to the bridge.

use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::address;
use super::files;
use super::layout::{HostLayout, Layout};
use super::machine::Claim;
use super::network::{self, Network};
use super::processes::{self, Owner};
use super::tools;
use crate::DriverError;

/// A manager that was killed leaves its last command running for a moment, and that may make what this one is
/// about to make. The second look then finds it; a third would find no other reason.
const LOOKS: usize = 3;

/// Makes the namespace, the cable and the addresses, or whatever of it is missing.
pub(super) fn ensure(
    layout: &Layout,
    host: &HostLayout,
    network: &Network,
    claim: &Claim,
) -> Result<(), DriverError> {
    for _ in 1..LOOKS {
        match ensure_once(layout, host, network, claim) {
            Err(error @ DriverError::Command { .. }) => {
                tracing::info!(host.id = %claim.host, %error, "looking at the namespace again");
            }
            done => return done,
        }
    }
    ensure_once(layout, host, network, claim)
}

fn ensure_once(
    layout: &Layout,
    host: &HostLayout,
    network: &Network,
    claim: &Claim,
) -> Result<(), DriverError> {
    let name = host.namespace();
    let cable = layout.cable(claim.address);
    if !is_there(host) {
        // Processes of an earlier try may hold a namespace that has lost its name. They cannot move into
        // the new one.
        processes::end(&Owner::host(host), processes::Manner::AtOnce)?;
        remove_named(host)?;
        remove_cable(&cable)?;
        tools::run("making a network namespace", "ip", &["netns", "add", name])?;
    }
    let mtu = claim.mtu();
    let mut commands = Vec::new();
    if !network::exists(&cable) {
        let link = address::link_address(claim.address);
        commands.push(format!(
            "link add {cable} mtu {mtu} type veth peer name eth0 mtu {mtu} address {link} netns {name}"
        ));
    }
    commands.push(format!("link set {cable} master {} up", network.bridge));
    tools::ip_batch("connecting a machine to the bridge", &[], &commands)?;
    let inside = [
        "link set lo up".to_owned(),
        format!("addr replace {}/{} dev eth0", claim.address, network.subnet.length()),
        "link set eth0 up".to_owned(),
        // Answers at once where a missing answer would be waited for: name servers, registries.
        "route replace unreachable default".to_owned(),
    ];
    tools::ip_batch("setting a machine's address", &["-n", name], &inside)
}

/// Removes the cable and the namespace. Its processes must have ended.
pub(super) fn remove(layout: &Layout, host: &HostLayout, claim: Option<&Claim>) -> Result<(), DriverError> {
    if let Some(claim) = claim {
        remove_cable(&layout.cable(claim.address))?;
    }
    remove_named(host)
}

/// Removes whatever of a namespace `ip netns add` left, also when it was interrupted between making the file
/// and putting the namespace there (`ip netns del` refuses that).
pub(super) fn remove_named(host: &HostLayout) -> Result<(), DriverError> {
    remove_file_of(&host.namespace_path())
}

pub(super) fn remove_file_of(path: &std::path::Path) -> Result<(), DriverError> {
    if path.exists() {
        // Not mounted is as good as unmounted.
        let _ = umount2(path, MntFlags::MNT_DETACH);
    }
    files::remove(path)
}

pub(super) fn remove_cable(interface: &str) -> Result<(), DriverError> {
    if !network::exists(interface) {
        return Ok(());
    }
    match tools::run("removing an interface", "ip", &["link", "del", interface]) {
        // It goes by itself with the namespace at its other end.
        Err(_) if !network::exists(interface) => Ok(()),
        other => other.map(drop),
    }
}

/// A file of that name is not enough: only a mounted namespace is one.
pub(super) fn is_there(host: &HostLayout) -> bool {
    statfs(&host.namespace_path()).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}
