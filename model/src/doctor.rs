//! What is wrong with hosts and with the network between them: observations in, findings out.
//!
//! ```text
//!   ways ─► which host is checked with which ─► (agents probe) ─► Seen ─► examine ─► Report
//! ```
//!
//! Nothing of it is stored: it was so at that moment. What each finding means and what helps stands in [`kind`].

mod host_rules;
pub mod kind;
mod network_rules;
#[cfg(test)]
mod tests;
mod ways;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
pub use kind::{Kind, Severity};
pub use network_rules::{PortSeen, WayReport};
pub use ways::{Ways, ways};

use crate::host::{Host, Validity};
use crate::networks::{TooNarrow, link_mtu};

/// A port that a swarm needs between its hosts.
#[derive(Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// How it is used.
    pub protocol: Protocol,
    /// Only swarm managers are reached at it.
    pub managers_only: bool,
    /// What it is when it does not pass.
    pub blocked: &'static Kind,
}

/// How a port is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Every port that a swarm needs, in the order in which people read them.
pub const PORTS: &[Port] = &[
    Port { number: 2377, protocol: Protocol::Tcp, managers_only: true, blocked: &kind::MANAGEMENT_BLOCKED },
    Port { number: 7946, protocol: Protocol::Tcp, managers_only: false, blocked: &kind::GOSSIP_TCP_BLOCKED },
    Port { number: 7946, protocol: Protocol::Udp, managers_only: false, blocked: &kind::GOSSIP_UDP_BLOCKED },
    Port {
        number: OVERLAY_PORT,
        protocol: Protocol::Udp,
        managers_only: false,
        blocked: &kind::OVERLAY_BLOCKED,
    },
];

/// Sizes of packets that are tried, with all headers: what interfaces and tunnels of usual networks carry. Those that an
/// environment needs come besides.
pub const PACKET_BYTES_TRIED: &[u32] =
    &[1280, 1350, 1380, 1400, 1410, 1420, 1430, 1440, 1442, 1450, 1460, 1480, 1492, 1500, 9000];

/// The port of overlay networks, at which large packets are tried.
pub const OVERLAY_PORT: u16 = 4789;

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}/{protocol}", self.number)
    }
}

/// Everything that was observed.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The hosts that were asked.
    pub hosts: Vec<HostSeen>,
    /// The ways between them that were tried; places in `hosts`.
    pub ways: Vec<WaySeen>,
    /// What packets must be able to carry, with all headers.
    pub packet_bytes_needed: u32,
    /// Are overlay networks of the environment encrypted?
    pub encrypted: bool,
    /// When it was observed.
    pub at: Timestamp,
}

/// One host.
#[derive(Debug, Clone)]
pub struct HostSeen {
    /// Its name.
    pub name: String,
    /// Where the others reach it, as it is recorded.
    pub address: String,
    /// Its node in the swarm, as it is recorded; none if the swarm does not list it.
    pub node: Option<NodeSeen>,
    /// What its link is too narrow for, and what the link carries.
    pub too_narrow: Vec<(TooNarrow, u16)>,
    /// What stands in the way of the environment's volumes on NFS, as it was found last.
    pub nfs: Option<String>,
    /// How it is, or why its agent did not say.
    pub facts: Result<Facts, Unsaid>,
    /// Why it could not be observed what arrives there.
    pub deaf: Option<String>,
    /// Why nothing could be sent from there.
    pub mute: Option<String>,
}

/// Why an agent did not say how its host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsaid {
    /// It was not reached, or did not answer.
    Unreached(String),
    /// It answered that it does not say it, for instance because it is of an earlier version.
    Declined(String),
}

/// A host's node in the swarm.
#[derive(Debug, Clone, Copy)]
pub struct NodeSeen {
    /// Is it a manager of the swarm?
    pub manager: bool,
    /// Does the swarm see it ready?
    pub ready: bool,
    /// Its certificate, as it is recorded; none if its agent does not say it.
    pub certificate: Option<Validity>,
}

impl NodeSeen {
    /// The node of a host, as it is recorded.
    pub fn of(host: &Host) -> Option<NodeSeen> {
        let node = host.membership.as_ref()?;
        Some(NodeSeen {
            manager: host.is_swarm_manager(),
            ready: node.ready,
            certificate: host.swarm_certificate(),
        })
    }
}

/// What the link of a host is too narrow for, as it is recorded, and what the link carries.
pub fn too_narrow(host: &Host) -> Vec<(TooNarrow, u16)> {
    let what = |link| host.too_narrow().into_iter().map(|what| (what, link)).collect();
    link_mtu(host).map(what).unwrap_or_default()
}

/// How a host is, as its agent says it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The machine's own name.
    pub hostname: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// How far its clock is ahead of the manager's that asked; negative: behind.
    pub clock_ahead_ms: i64,
    /// By how much that may be wrong.
    pub clock_uncertain_ms: u64,
    /// Space where it is needed.
    pub disks: Vec<Disk>,
    /// Kernel features by name; what is not known is absent.
    pub features: BTreeMap<String, bool>,
    /// The engine's version, or why it does not answer.
    pub engine: Result<String, String>,
}

/// Space on a file system.
#[derive(Debug, Clone)]
pub struct Disk {
    /// What is kept there: "images and containers".
    pub keeps: &'static str,
    /// The folder.
    pub path: String,
    /// How large it is.
    pub total_bytes: u64,
    /// How much can still be written.
    pub free_bytes: u64,
}

/// The way from one host to another.
#[derive(Debug, Clone, Default)]
pub struct WaySeen {
    /// Who sent: a place in the list of hosts.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// Connections that were tried, by port.
    pub connections: BTreeMap<u16, Connection>,
    /// Ports at which the beginning of a connection has arrived, whatever became of it.
    pub connections_arrived: BTreeSet<u16>,
    /// Ports at which datagrams have arrived.
    pub datagrams_arrived: BTreeSet<u16>,
    /// Why datagrams could not be sent at all.
    pub datagrams_failed: Option<String>,
    /// The largest packet that the sender's interface took; 0 if none was tried.
    pub largest_sent: u32,
    /// The largest that arrived.
    pub largest_arrived: u32,
}

/// What became of an attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// Somebody listens.
    Accepted,
    /// Nobody does, or something on the way says so.
    Refused,
    /// No answer.
    Unanswered,
    /// The kernel said at once that it does not work.
    Failed(String),
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: &'static Kind,
    /// The host that it is about; for the network the one at which nothing arrives.
    pub host: String,
    /// For the network: the hosts from which nothing arrives there.
    pub from: Vec<String>,
    /// The other host that it is about, where two have the same of something.
    pub other: Option<String>,
    /// What was seen.
    pub seen: String,
}

/// Something that could not be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchecked {
    /// The host.
    pub host: String,
    /// What of it.
    pub what: &'static str,
    /// Why.
    pub why: String,
}

/// What has come out.
#[derive(Debug, Clone)]
pub struct Report {
    /// Each way that was tried, with what passes.
    pub ways: Vec<WayReport>,
    /// Errors first.
    pub findings: Vec<Finding>,
    /// What could not be found out.
    pub unchecked: Vec<Unchecked>,
}

/// Says what the observations mean.
pub fn examine(seen: &Seen) -> Report {
    let ways = network_rules::judge(seen);
    let mut findings = host_rules::findings(seen);
    findings.extend(network_rules::findings(seen, &ways));
    findings.sort_by(|a, b| a.kind.order().cmp(&b.kind.order()).then_with(|| a.host.cmp(&b.host)));
    Report { ways, findings, unchecked: unchecked(seen) }
}

fn unchecked(seen: &Seen) -> Vec<Unchecked> {
    seen.hosts.iter().flat_map(unchecked_of).collect()
}

fn unchecked_of(host: &HostSeen) -> Vec<Unchecked> {
    let row = |what, why: &String| Unchecked { host: host.name.clone(), what, why: why.clone() };
    let declined = match &host.facts {
        // Nothing else was tried then.
        Err(Unsaid::Unreached(why)) => return vec![row("the host and its network", why)],
        Err(Unsaid::Declined(why)) => Some(row("the host itself", why)),
        Ok(_) => None,
    };
    let deaf = host.deaf.as_ref().map(|why| row("datagrams that arrive there", why));
    let mute = host.mute.as_ref().map(|why| row("the network from there", why));
    [declined, deaf, mute].into_iter().flatten().collect()
}
