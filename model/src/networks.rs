//! The networks of an environment's swarm as they are, and what they should be made for.
//!
//! ```text
//!   link of each host ─► measured by its agent ─┐
//!                                   wished MTU ─┴─► the environment's ─► ingress, overlay networks
//!                                                    └─► docker_gwbridge of a host: no more than its own link carries
//! ```
//! Every number is the size of packets on the links between hosts. Docker takes what its tunnel needs off that by
//! itself: 50 bytes, and more if the tunnel is encrypted.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::host::Host;
use crate::ids::OperationId;
use crate::options::Pools;
use crate::subnet::Subnet;

/// What Docker makes networks for that is told nothing. Nothing larger is chosen by itself either: that interfaces
/// carry jumbo frames says nothing of the way between them, and nobody has asked for it.
pub const MTU_USUAL: u16 = 1_500;

/// The kernel feature that encrypted networks need.
const ENCRYPTION: &str = "xfrm";

/// The networks of an environment's swarm. Decided and seen by the scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Networks {
    /// What the swarm takes addresses from; none if nobody has begun it yet, or not in this form.
    pub pools: Option<Pools>,
    /// What overlay networks are made like from now on.
    pub made_for: Option<MadeFor>,
    /// What the ingress network was made like when it was last seen.
    pub ingress: Option<MadeFor>,
    /// The operation that has decided it last and looked at all of them.
    pub set_by: Option<OperationId>,
}

/// What an overlay network is made like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeFor {
    /// The size of packets on the links.
    pub mtu: u16,
    /// Is what goes from host to host encrypted?
    pub encrypted: bool,
}

/// The networks that Docker has made by itself on a host, as they were seen last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostNetworks {
    /// What `docker0` was made for.
    pub engine_mtu: Option<u16>,
    /// What `docker_gwbridge` was made for, through which tasks reach the world.
    pub bridge_mtu: Option<u16>,
    /// What the environment's overlay networks were made for at that time.
    pub environment_mtu: Option<u16>,
}

/// Something that a host's link is too narrow for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooNarrow {
    /// Overlay networks of the environment, which carry this much.
    Environment(u16),
    /// `docker_gwbridge`.
    Bridge(u16),
    /// `docker0`.
    Engine(u16),
}

impl std::fmt::Display for MadeFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "packets of {} bytes{}", self.mtu, if self.encrypted { ", encrypted" } else { "" })
    }
}

impl std::fmt::Display for TooNarrow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TooNarrow::Environment(mtu) => write!(f, "the environment's networks are made for {mtu}"),
            TooNarrow::Bridge(mtu) => write!(f, "docker_gwbridge is made for {mtu}"),
            TooNarrow::Engine(mtu) => write!(f, "docker0 is made for {mtu}"),
        }
    }
}

/// What the environment's overlay networks should be made like, as far as its hosts are known.
pub fn wanted(environment: &Environment, hosts: &[Host]) -> MadeFor {
    let measured = hosts.iter().filter(|host| host.removal.is_none()).filter_map(link_mtu).min();
    let mtu = environment.mtu.unwrap_or_else(|| measured.unwrap_or(MTU_USUAL).min(MTU_USUAL));
    MadeFor { mtu, encrypted: environment.options.encrypted }
}

/// What the environment's overlay networks are made like, or will be.
pub fn made_for(environment: &Environment, hosts: &[Host]) -> MadeFor {
    environment.networks.made_for.unwrap_or_else(|| wanted(environment, hosts))
}

/// What the link that carries a host's address was measured to carry; none if its agent has not said.
pub fn link_mtu(host: &Host) -> Option<u16> {
    let measured = host.inventory.as_ref()?.mtu;
    u16::try_from(measured).ok().filter(|mtu| *mtu > 0)
}

/// What `docker_gwbridge` of a host should be made for: tasks reach the world over the host's own link.
pub fn bridge_mtu(environment: &Environment, hosts: &[Host], host: &Host) -> u16 {
    let made_for = made_for(environment, hosts);
    link_mtu(host).map_or(made_for.mtu, |link| link.min(made_for.mtu))
}

/// Why a host cannot be a node of the environment's swarm without harm; none if it can.
pub fn unfit(environment: &Environment, host: &Host) -> Option<String> {
    if environment.options.encrypted && host.has_feature(ENCRYPTION) == Some(false) {
        return Some(format!(
            "networks of the environment are encrypted, and the kernel cannot do that ({ENCRYPTION}: ESP with AES-GCM): \
             install the distribution's complete kernel, or: skep env update {} --encrypted off",
            environment.name
        ));
    }
    let pools = match &environment.networks.pools {
        Some(begun_with) => &begun_with.ranges,
        None => &environment.options.address_pools,
    };
    let address = host.machine.as_ref().and_then(|machine| machine.address.parse::<Ipv4Addr>().ok());
    let routes: Vec<Subnet> = host.inventory.iter().flat_map(|inventory| inventory.routes.clone()).collect();
    for pool in pools {
        if let Some(address) = address.filter(|address| pool.contains(*address)) {
            return Some(format!(
                "the address pool {pool} contains the host's own address {address}: choose another pool"
            ));
        }
        if let Some(route) = routes.iter().find(|route| route.overlaps(*pool)) {
            return Some(format!(
                "the address pool {pool} overlaps with {route}, which the host reaches over a network of its own: choose \
                 another pool"
            ));
        }
    }
    None
}

impl Host {
    /// What its link is too narrow for, the worst first: large packets of it vanish without a word.
    pub fn too_narrow(&self) -> Vec<TooNarrow> {
        let (Some(link), Some(seen)) = (link_mtu(self), self.networks) else { return vec![] };
        let wider = |mtu: Option<u16>| mtu.filter(|mtu| *mtu > link);
        let found = [
            wider(seen.environment_mtu).map(TooNarrow::Environment),
            wider(seen.bridge_mtu).map(TooNarrow::Bridge),
            wider(seen.engine_mtu).map(TooNarrow::Engine),
        ];
        found.into_iter().flatten().collect()
    }
}
