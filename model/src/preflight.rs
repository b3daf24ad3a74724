//! The network between a host and its swarm, checked before the host joins.
//!
//! A host that a swarm cannot reach would be a node that is down, or worse: a manager whose vote is missing. So it is checked
//! with some members first. It is held back for what makes joining pointless; everything else is told and holds nobody.
//!
//! ```text
//!   engine answers ─► checked with members ─► nothing that holds ─────────────────► joins
//!                       ▲       └─► held back ─► a person lets it in all the same ─┘
//!                       └───────────────┘ looked at again
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::doctor::kind::{self, Kind};
use crate::doctor::{self, Finding, Report, Seen};
use crate::host::Host;

/// Members of the swarm that a host is checked with: its managers, of which Docker advises at most seven, and a few others. More
/// would find nothing else, and a check of hundreds of hosts at once must stay short.
pub const PEERS_MAX: usize = 10;

/// Hosts that are checked together; more wait for the next check.
pub const CHECKED_AT_ONCE_MAX: usize = 20;

/// Findings of one check that are kept with a host: with a few kinds and peers there are hardly more, and a record stays small.
const FINDINGS_MAX: usize = 20;

/// What keeps a host out of the swarm if it is so with more than half of the managers, or of all members, that it was checked
/// with. If it is so with fewer, they are what has to be mended, and must not keep every new host out.
const HOLDING_IF_USUAL: &[&Kind] =
    &[&kind::NOTHING_PASSES, &kind::MANAGEMENT_BLOCKED, &kind::GOSSIP_TCP_BLOCKED, &kind::GOSSIP_UDP_BLOCKED];

/// What keeps a host out of the swarm with whichever member it is so.
const HOLDING: &[&Kind] = &[&kind::ADDRESS_DUPLICATE];

/// A check that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// When it was written down.
    pub at: Timestamp,
    /// What it has found.
    pub checked: Checked,
}

/// What a check has found about one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The address that the host had then. With another it is another network.
    pub address: String,
    /// The members that it was checked with, by name.
    pub peers: Vec<String>,
    /// What is wrong, the worst first.
    pub findings: Vec<Found>,
    /// What could not be found out. It holds nobody.
    pub unchecked: Vec<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its kind, by code.
    pub code: String,
    /// The host that it is about; for the network the one at which nothing arrives.
    pub host: String,
    /// For the network: the hosts from which nothing arrives there.
    pub from: Vec<String>,
    /// What was seen.
    pub seen: String,
    /// The host must not join because of it.
    pub holds: bool,
}

impl Found {
    /// What is known of its kind; nothing, if a later version has found it.
    pub fn kind(&self) -> Option<&'static Kind> {
        kind::KINDS.iter().copied().find(|kind| kind.code == self.code)
    }
}

impl Checked {
    /// Why the host must not join, with what helps.
    pub fn reason_to_hold(&self) -> Option<String> {
        let found = self.findings.iter().find(|found| found.holds)?;
        let (cause, fix) = found.kind().map_or(("", ""), |kind| (kind.cause, kind.fix));
        Some(format!("{}: {}. {cause} {fix}", found.code, found.seen))
    }
}

/// The members with which new hosts are checked: managers first, then those that have been there for longest.
pub fn peers(hosts: &[Host]) -> Vec<&Host> {
    let mut peers: Vec<&Host> =
        hosts.iter().filter(|host| host.is_active() && host.has_ip_address()).collect();
    peers.sort_by_key(|host| (!host.is_swarm_manager(), host.created_at));
    peers.truncate(PEERS_MAX);
    peers
}

/// What a diagnosis says about the host at this place. It was made of this host and others on their way in, each with the same
/// members; what it says about those among themselves is nobody's business here.
pub fn about(seen: &Seen, report: &Report, at: usize) -> Checked {
    let own = &seen.hosts[at];
    let concerned: Vec<&Finding> =
        report.findings.iter().filter(|finding| concerns(finding, &own.name)).collect();
    let usual = is_usual(seen, &concerned, at);
    let found = |finding: &&Finding| Found {
        code: finding.kind.code.to_owned(),
        host: finding.host.clone(),
        from: finding.from.clone(),
        seen: finding.seen.clone(),
        holds: HOLDING.contains(&finding.kind) || (usual && HOLDING_IF_USUAL.contains(&finding.kind)),
    };
    let mut findings: Vec<Found> = concerned.iter().map(found).collect();
    findings.sort_by_key(|found| !found.holds);
    findings.truncate(FINDINGS_MAX);
    let gaps = report.unchecked.iter().filter(|gap| gap.host == own.name);
    let mut unchecked: Vec<String> = gaps.map(|gap| format!("{}: {}", gap.what, gap.why)).collect();
    let peers: Vec<String> = tried_with(seen, at).map(|peer| seen.hosts[peer].name.clone()).collect();
    if peers.is_empty() && unchecked.is_empty() {
        unchecked.push("the network: no member of the swarm took part in the check".into());
    }
    Checked { address: own.address.clone(), peers, findings, unchecked }
}

/// That it is no node of the swarm, or is still listed as the one that it was at another address, is why it is checked, and no
/// finding.
fn concerns(finding: &Finding, host: &str) -> bool {
    let is_named = |other: &String| other == host;
    ![&kind::NOT_IN_SWARM, &kind::NODE_DOWN].contains(&finding.kind)
        && (finding.host == host || finding.from.iter().chain(&finding.other).any(is_named))
}

/// Is what holds so with more than half of the managers that were tried, or of all members?
fn is_usual(seen: &Seen, concerned: &[&Finding], at: usize) -> bool {
    let own = &seen.hosts[at].name;
    let holding = || concerned.iter().filter(|finding| HOLDING_IF_USUAL.contains(&finding.kind));
    let is_bad = |peer: &doctor::HostSeen| {
        holding().any(|finding| match finding.host == *own {
            true => finding.from.contains(&peer.name),
            false => finding.host == peer.name,
        })
    };
    let most =
        |peers: Vec<&doctor::HostSeen>| peers.iter().filter(|peer| is_bad(peer)).count() * 2 > peers.len();
    let peers = || tried_with(seen, at).map(|peer| &seen.hosts[peer]);
    let managers = peers().filter(|peer| peer.node.is_some_and(|node| node.manager));
    most(managers.collect()) || most(peers().collect())
}

/// Those with which something was tried, in either direction.
fn tried_with(seen: &Seen, at: usize) -> impl Iterator<Item = usize> {
    let tried = move |peer: usize| {
        let ends = [(at, peer), (peer, at)];
        seen.ways.iter().any(|way| ends.contains(&(way.from, way.to)))
    };
    (0..seen.hosts.len()).filter(move |peer| tried(*peer))
}

impl Host {
    /// Was its network, as it is now, found good enough to join, or did somebody say that it may join whatever is found?
    pub fn passes(&self) -> bool {
        self.skip_preflight || self.checked_here().is_some_and(|checked| checked.reason_to_hold().is_none())
    }

    /// May it be taken into the swarm? The first has nobody to be checked with; who has been there is let in again, and who has
    /// brought its swarm along is a node already.
    pub fn may_join(&self, swarm_has_members: bool) -> bool {
        let was_there = self.was_ready && self.preflight.is_none();
        !swarm_has_members || self.passes() || was_there || self.is_node_unseen()
    }

    /// Was it a node of the swarm before it became a host, and is only to be found there?
    fn is_node_unseen(&self) -> bool {
        self.adopted.is_some() && !self.was_ready
    }

    /// Why it is held back, with what helps.
    pub fn held_back(&self) -> Option<String> {
        if self.skip_preflight || self.is_node_unseen() {
            None
        } else {
            self.checked_here()?.reason_to_hold()
        }
    }

    /// What the last check has found, if it was made at the address that the host has now.
    pub fn checked_here(&self) -> Option<&Checked> {
        let address = &self.machine.as_ref()?.address;
        self.preflight
            .as_ref()
            .map(|preflight| &preflight.checked)
            .filter(|checked| checked.address == *address)
    }

    /// Can it be told from others by its address?
    pub fn has_ip_address(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.address.parse::<std::net::IpAddr>().is_ok())
    }
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
