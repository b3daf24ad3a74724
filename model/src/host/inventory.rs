//! What agents find on machines.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::subnet::Subnet;

/// What the agent found on the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Processors.
    pub cpus: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// `x86_64`, `aarch64`, ….
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// The machine's own host name.
    pub hostname: String,
    /// The machine's address as its agent sees it: the one that was chosen, or from which it reaches the managers.
    #[serde(default)]
    pub address: String,
    /// MTU of the interface that carries the address.
    pub mtu: u32,
    /// Docker Engine's version.
    pub engine_version: String,
    /// The newest API that the engine speaks.
    pub engine_api: String,
    /// Kernel features by name: there or not.
    pub features: BTreeMap<String, bool>,
    /// Networks that it reaches otherwise than by its default route, without Docker's own.
    #[serde(default)]
    pub routes: Vec<Subnet>,
    /// The certificate with which it is a node of a swarm, where the agent can read it.
    #[serde(default)]
    pub swarm_certificate: Option<Validity>,
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// The beginning.
    pub from: Timestamp,
    /// The end.
    pub to: Timestamp,
}

impl Validity {
    /// Docker renews a node's certificate when half to four fifths of its life are over. After nine tenths something keeps
    /// the node from it.
    pub fn renewal_is_late(&self, now: Timestamp) -> bool {
        let life = self.to.duration_since(self.from);
        now > self.from + life / 10 * 9
    }
}
