//! What an environment is told about its networks and volumes, beyond the size of packets. A wish, said by a template or for the
//! environment itself; what became of it stands in [`crate::networks`].

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::host::Host;
use crate::nfs::Nfs;
use crate::subnet::Subnet;
use crate::template::SWARM_MANAGERS_ALLOWED;
use crate::{Refusal, Ruling};

/// The smallest MTU that IPv6 permits and the largest that jumbo frames use.
pub(crate) const MTU_ALLOWED: std::ops::RangeInclusive<u16> = 1280..=9000;

/// Docker's own pools are two; nobody needs more than some pieces of what a site has left.
const ADDRESS_POOLS_MAX: usize = 16;

/// The ranges of networks that Docker takes out of a pool: below /29 there is no address left for a task.
const SUBNET_SIZE_MAX: u8 = 29;

/// What Docker takes for a network out of a pool if nothing is said.
pub const SUBNET_SIZE_USUAL: u8 = 24;

/// What is wished for the networks and volumes of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Traffic between hosts is encrypted on every overlay network that Skep makes and whose recipe says nothing else.
    pub encrypted: bool,
    /// Where the swarm takes addresses of its networks from; empty: Docker's own pools.
    pub address_pools: Vec<Subnet>,
    /// The length of the prefix of each network taken out of a pool; none: Docker's own.
    pub subnet_size: Option<u8>,
    /// Where volumes of driver `nfs` lie.
    pub nfs: Option<Nfs>,
}

/// What the swarm takes addresses from. It is told when it is begun and never again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pools {
    /// The ranges; empty: Docker's own.
    pub ranges: Vec<Subnet>,
    /// The length of each network's prefix; none: Docker's own.
    pub subnet_size: Option<u8>,
}

impl Options {
    /// As the swarm is told it.
    pub fn pools(&self) -> Pools {
        Pools { ranges: self.address_pools.clone(), subnet_size: self.subnet_size }
    }

    /// Do the options fit each other?
    pub(crate) fn check(&self) -> Ruling<()> {
        let refused =
            |what, value: String, allowed: String| Err(Refusal::InvalidValue { what, value, allowed });
        if self.address_pools.len() > ADDRESS_POOLS_MAX {
            return Err(Refusal::TooMany { what: "address pools", limit: ADDRESS_POOLS_MAX });
        }
        self.nfs.as_ref().map_or(Ok(()), Nfs::check)?;
        let pools = || self.address_pools.iter().enumerate();
        for (at, pool) in pools() {
            if let Some((_, other)) = pools().find(|(other, range)| *other > at && range.overlaps(*pool)) {
                return refused("an address pool", pool.to_string(), format!("it overlaps with {other}"));
            }
        }
        let Some(size) = self.subnet_size else {
            return self.wide_enough(SUBNET_SIZE_USUAL);
        };
        if self.address_pools.is_empty() {
            let allowed = "it is the size of networks out of address pools: name a pool as well";
            return refused("the subnet size", size.to_string(), allowed.into());
        }
        if size > SUBNET_SIZE_MAX {
            return refused("the subnet size", size.to_string(), format!("use at most {SUBNET_SIZE_MAX}"));
        }
        self.wide_enough(size)
    }

    fn wide_enough(&self, size: u8) -> Ruling<()> {
        match self.address_pools.iter().find(|pool| pool.length() > size) {
            None => Ok(()),
            Some(pool) => Err(Refusal::InvalidValue {
                what: "an address pool",
                value: pool.to_string(),
                allowed: format!(
                    "networks of /{size} are taken out of it: use a larger range, or another subnet size"
                ),
            }),
        }
    }
}

/// Can a swarm have so many managers?
pub(crate) fn swarm_managers(managers: u8) -> Ruling<()> {
    match SWARM_MANAGERS_ALLOWED.contains(&managers) {
        true => Ok(()),
        false => Err(Refusal::InvalidValue {
            what: "swarm.managers",
            value: managers.to_string(),
            allowed: format!("use one of {SWARM_MANAGERS_ALLOWED:?}"),
        }),
    }
}

/// Can networks be made for packets of that size?
pub(crate) fn mtu(bytes: u16) -> Ruling<()> {
    match MTU_ALLOWED.contains(&bytes) {
        true => Ok(()),
        false => Err(Refusal::InvalidValue {
            what: "network.mtu",
            value: bytes.to_string(),
            allowed: format!("use {} to {}, or auto", MTU_ALLOWED.start(), MTU_ALLOWED.end()),
        }),
    }
}

/// An address pool as people write it.
pub(crate) fn address_pool(text: &str) -> Ruling<Subnet> {
    text.parse().map_err(|allowed| Refusal::InvalidValue {
        what: "an address pool",
        value: format!("'{}'", text.escape_debug()),
        allowed,
    })
}

/// Hosts that are in an environment already and do not go with what is wished for it now.
pub(crate) fn suits(environment: &Environment, hosts: &[Host]) -> Ruling<()> {
    let reasons: Vec<String> = hosts
        .iter()
        .filter(|host| host.removal.is_none())
        .filter_map(|host| Some(format!("{}: {}", host.name, crate::networks::unfit(environment, host)?)))
        .collect();
    match reasons.is_empty() {
        true => Ok(()),
        false => Err(Refusal::HostsUnfit { environment: environment.name.to_string(), reasons }),
    }
}
