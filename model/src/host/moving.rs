//! Machines whose address changes, and nodes that cannot find their swarm any more.
//!
//! ```text
//!   address changed ─► remembered ─► (a manager becomes a worker) ─► left ─► joins anew ─► role, labels, availability as before
//! ```
//! A node keeps the address with which it has joined for as long as it is that node, and tells it to all others. A worker under a
//! new address still looks ready, and no container on another host reaches its containers. So it leaves and joins anew; what the
//! swarm knew of the node is remembered meanwhile.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_ledger::Tx;

use super::{Host, Role};
use crate::Ruling;
use crate::ids::{EnvironmentId, HostId};
use crate::placement::Availability;

/// Between two times that one node leaves its swarm for another address: every time costs its tasks, and an address that comes and
/// goes must not keep them from running.
pub const MOVES_APART: SignedDuration = SignedDuration::from_mins(5);

/// How a node stands among the others, as its own engine says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The node of which that was said. Another node of the same host stands anew.
    pub node: String,
    /// The address that it gives to the others.
    pub address: String,
    /// None of the managers that it knows is where it looks for them: it cannot come back by itself.
    pub cut_off: bool,
}

/// What the swarm knew of a node that leaves to join anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// When it was looked up.
    pub at: Timestamp,
    /// What was known.
    pub known: Known,
}

/// What a swarm knows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The node.
    pub node: String,
    /// Its role.
    pub role: Role,
    /// Which tasks it takes.
    pub availability: Availability,
    /// Its labels, those excepted that Skep has written.
    pub labels: BTreeMap<String, String>,
}

/// The agent says that the machine has another address. Where a driver has made the machine, its word counts, unless it and the
/// agent have agreed before: then the agent only knows it earlier.
pub(super) fn followed(host: &mut Host, before: Option<&str>) {
    let Some(inventory) = &host.inventory else { return };
    if let Some(machine) = &mut host.machine
        && inventory.address.parse::<IpAddr>().is_ok()
        && (host.driver.is_none() || before == Some(machine.address.as_str()))
    {
        machine.address.clone_from(&inventory.address);
    }
}

impl Host {
    /// How its node stands, if that is known of the node that it has now.
    pub fn node_stands(&self) -> Option<&Standing> {
        let node = &self.membership.as_ref()?.node;
        self.standing.as_ref().filter(|standing| standing.node == *node)
    }

    /// Is it worth asking its engine how its node stands?
    pub fn stands_unknown(&self) -> bool {
        let well =
            |standing: &Standing| self.machine_address() == Some(&standing.address) && !standing.cut_off;
        self.membership.as_ref().is_some_and(|node| !node.ready) || !self.node_stands().is_some_and(well)
    }

    /// Why its node must leave the swarm and join anew; `None` if it need not.
    pub fn must_rejoin(&self) -> Option<String> {
        let (node, standing) = (self.membership.as_ref()?, self.node_stands()?);
        let address = self.machine_address()?;
        let differ = |a: &str, b: &str| match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
            (Ok(a), Ok(b)) => a != b,
            _ => false,
        };
        if differ(&standing.address, address) {
            return Some(format!("its address has changed from {} to {address}", standing.address));
        }
        let is_lost = standing.cut_off && !node.ready;
        is_lost.then(|| "it knows no manager of the swarm at the address that the manager has now".to_owned())
    }

    /// Must it wait before it may move again? A node that has lost its swarm has nothing to lose by joining anew.
    pub fn rests(&self, now: Timestamp) -> bool {
        let is_down = self.membership.as_ref().is_some_and(|node| !node.ready);
        let is_lost = is_down && self.node_stands().is_some_and(|standing| standing.cut_off);
        !is_lost && self.moved_at.is_some_and(|moved_at| moved_at + MOVES_APART > now)
    }

    /// Another host that is there and has the same address, so that neither can be told where it is.
    pub fn shares_address_with<'a>(&self, others: &'a [Host]) -> Option<&'a Host> {
        let same = |other: &&Host| {
            let theirs = other.machine_address();
            theirs.is_some() && theirs == self.machine_address()
        };
        others.iter().filter(|other| other.id != self.id && other.agent.connected).find(same)
    }

    /// Is its node about to leave? Such a node is given no other role any more.
    pub fn leaves(&self) -> bool {
        let is_remembered =
            |was: &Remembered| self.membership.as_ref().is_some_and(|node| node.node == was.known.node);
        self.remembered.as_ref().is_some_and(is_remembered) && self.must_rejoin().is_some()
    }

    /// Was it a manager, and is its place kept until it has joined anew?
    pub fn has_seat(&self) -> bool {
        let was_manager = self.remembered.as_ref().is_some_and(|was| was.known.role == Role::Manager);
        let is_on_its_way = match &self.membership {
            None => self.join_error.is_empty() && self.may_join(true),
            Some(node) => node.role == Role::Worker && self.leaves(),
        };
        was_manager && is_on_its_way && self.is_ready()
    }

    /// What its new node does not have yet of what the one before it had.
    pub fn brings_back(&self) -> Option<&Known> {
        let known = &self.remembered.as_ref()?.known;
        self.membership.as_ref().filter(|node| node.node != known.node).map(|_| known)
    }

    /// Is there anything that its node does not have yet?
    pub fn outstanding(&self) -> bool {
        self.placement.outstanding() || self.brings_back().is_some()
    }

    /// Where its machine is.
    pub fn machine_address(&self) -> Option<&String> {
        self.machine.as_ref().map(|machine| &machine.address)
    }

    /// It is in no swarm any more.
    pub(crate) fn left_swarm(&mut self, now: Timestamp) {
        if self.remembered.is_some() && self.membership.is_some() {
            self.moved_at = Some(now);
        }
        self.seen_in_swarm(None, now);
        self.parted = true;
    }

    /// Nothing has to be brought back any more.
    pub(crate) fn has_brought_back(&mut self) {
        if self.brings_back().is_some() {
            self.remembered = None;
        }
    }

    /// Its engine says how its node stands.
    pub(crate) fn stands(&mut self, standing: &Standing, now: Timestamp) {
        let moved = self.must_rejoin().is_some();
        self.standing = Some(standing.clone());
        // A swarm's only manager stays the node that it was.
        if moved && self.must_rejoin().is_none() {
            self.moved_at = Some(now);
            self.remembered = None;
        }
    }
}

/// It is about to join. One that has left before may be in the swarm from now on, whether or not anybody lives to see that.
pub fn joins(tx: &mut Tx<'_>, environment: &EnvironmentId, host: &HostId) -> Ruling<()> {
    let stored = tx.get::<Host>(environment.as_str(), host.as_str())?;
    if let Some(stored) = stored.filter(|host| host.parted) {
        tx.put(&Host { parted: false, ..stored.record });
    }
    Ok(())
}

#[cfg(test)]
#[path = "moving_tests.rs"]
mod tests;
