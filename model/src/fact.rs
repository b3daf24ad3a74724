//! What the world answered, to be written in the same transaction as the operation's move.
//!
//! Effects do not write: they return facts, and this is the one place where a fact becomes state. Recording a fact
//! twice, or about something that is gone meanwhile, changes nothing.

use std::collections::BTreeMap;

use skep_ledger::{Record, Tx};

use crate::environment::{Environment, Swarm};
use crate::host::{Host, Machine, Membership};
use crate::ids::{EnvironmentId, HostId, OperationId};
use crate::name::Name;
use crate::stack::{ServiceSeen, Stack};
use crate::{CLUSTER, Ruling, environment, host, resource};

/// One thing that an effect found or brought about.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The driver has a machine for the host.
    MachineExists(EnvironmentId, HostId, Machine),
    /// The driver has nothing left of the host.
    MachineGone(EnvironmentId, HostId),
    /// The swarm as one of its managers sees it: every node that is a host of ours.
    SwarmSeen(EnvironmentId, String, Vec<(HostId, Membership)>),
    /// The host is in no swarm, and could not be brought into the environment's, for this reason.
    NotJoined(EnvironmentId, HostId, String),
    /// The swarm's managers can agree again, thanks to this operation.
    SwarmRescued(EnvironmentId, OperationId),
    /// The host is in no swarm.
    LeftSwarm(EnvironmentId, HostId),
    /// No task runs on the host any more.
    Evacuated(EnvironmentId, HostId),
    /// The host's node is as it was wished in this generation, with these labels written.
    NodeUpdated(EnvironmentId, HostId, u64, Vec<String>),
    /// `create-environment` is through.
    EnvironmentOpened(EnvironmentId),
    /// Removal is wished for a host, with the operation that does it and the one that waits for it.
    HostRemovalWished(EnvironmentId, HostId, OperationId, OperationId),
    /// The networks of a stack's generation exist.
    StackNetworksMade(EnvironmentId, Name, u64),
    /// The services of a stack's generation exist, and no others of the stack; with the hash of each as it was given
    /// to the swarm, by name.
    StackServicesMade(EnvironmentId, Name, u64, BTreeMap<String, String>),
    /// The services of a stack's generation as the swarm shows them.
    StackSeen(EnvironmentId, Name, u64, Vec<ServiceSeen>),
    /// Nothing of the stack is left in the swarm.
    StackWithdrawn(EnvironmentId, Name),
    /// The stack's record goes.
    StackForgotten(EnvironmentId, Name),
    /// The host's record goes.
    HostForgotten(EnvironmentId, HostId),
    /// The environment's record goes.
    EnvironmentForgotten(EnvironmentId),
}

/// Writes a fact.
pub fn record(tx: &mut Tx<'_>, fact: &Fact) -> Ruling<()> {
    match fact {
        Fact::MachineExists(environment, id, machine) => {
            resource::made(tx, id, &machine.id)?;
            with_host(tx, environment, id, |host| host.machine = Some(machine.clone()))
        }
        Fact::MachineGone(environment, id) => {
            resource::released(tx, id);
            with_host(tx, environment, id, |host| host.machine = None)?;
            environment::uproot(tx, environment, id)
        }
        Fact::SwarmSeen(environment, swarm, nodes) => swarm_seen(tx, environment, swarm, nodes),
        Fact::NotJoined(environment, id, why) => {
            with_host(tx, environment, id, |host| host.join_error.clone_from(why))?;
            environment::uproot(tx, environment, id)
        }
        Fact::SwarmRescued(id, operation) => {
            with_environment(tx, id, |environment| environment.rescued_by = Some(operation.clone()))
        }
        Fact::LeftSwarm(environment, id) => {
            let now = tx.now();
            with_host(tx, environment, id, |host| host.seen_in_swarm(None, now))?;
            swarm_without_members(tx, environment)
        }
        Fact::Evacuated(environment, id) => with_host(tx, environment, id, |host| host.evacuated = true),
        Fact::NodeUpdated(environment, id, generation, written) => with_host(tx, environment, id, |host| {
            host.placement.applied = *generation;
            host.placement.written = written.clone();
        }),
        Fact::EnvironmentOpened(id) => with_environment(tx, id, |environment| environment.opened = true),
        Fact::HostRemovalWished(environment, id, operation, parent) => {
            wish_host_gone(tx, environment, id, operation, parent)
        }
        Fact::StackNetworksMade(environment, name, generation) => {
            with_stack(tx, environment, name, |stack| stack.networks_made = *generation)
        }
        Fact::StackServicesMade(environment, name, generation, hashes) => {
            with_stack(tx, environment, name, |stack| {
                stack.services_made = *generation;
                stack.service_hashes.clone_from(hashes);
                // What was seen before was seen of other services.
                stack.seen.clear();
                stack.seen_generation = 0;
            })
        }
        Fact::StackSeen(environment, name, generation, seen) => with_stack(tx, environment, name, |stack| {
            stack.observed(*generation, seen);
        }),
        Fact::StackWithdrawn(environment, name) => {
            with_stack(tx, environment, name, |stack| stack.withdrawn = true)
        }
        Fact::StackForgotten(environment, name) => {
            tx.delete::<Stack>(environment.as_str(), name.as_str());
            Ok(())
        }
        Fact::HostForgotten(environment, id) => host::forget(tx, environment, id),
        Fact::EnvironmentForgotten(id) => environment::forget(tx, id),
    }
}

fn with_host(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &HostId,
    change: impl FnOnce(&mut Host),
) -> Ruling<()> {
    with_record(tx, environment.as_str(), id.as_str(), change)
}

fn with_environment(
    tx: &mut Tx<'_>,
    id: &EnvironmentId,
    change: impl FnOnce(&mut Environment),
) -> Ruling<()> {
    with_record(tx, CLUSTER, id.as_str(), change)
}

fn with_stack(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    name: &Name,
    change: impl FnOnce(&mut Stack),
) -> Ruling<()> {
    with_record(tx, environment.as_str(), name.as_str(), change)
}

/// Changes a record that is still there, and writes it if it has become another.
fn with_record<R: Record + Clone + PartialEq>(
    tx: &mut Tx<'_>,
    partition: &str,
    id: &str,
    change: impl FnOnce(&mut R),
) -> Ruling<()> {
    if let Some(mut stored) = tx.get::<R>(partition, id)? {
        let before = stored.record.clone();
        change(&mut stored.record);
        if stored.record != before {
            tx.put(&stored.record);
        }
    }
    Ok(())
}

/// A host that the swarm does not list is no member, whatever was believed before.
fn swarm_seen(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    swarm: &str,
    nodes: &[(HostId, Membership)],
) -> Ruling<()> {
    let now = tx.now();
    for stored in tx.list::<Host>(environment.as_str())? {
        let seen = nodes.iter().find(|(id, _)| *id == stored.id).map(|(_, membership)| membership.clone());
        with_host(tx, environment, &stored.id, |host| host.seen_in_swarm(seen, now))?;
    }
    let swarm = Swarm::of(swarm, nodes);
    with_environment(tx, environment, |environment| environment.swarm = Some(swarm))
}

fn swarm_without_members(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Ruling<()> {
    let members = tx.list::<Host>(environment.as_str())?;
    if members.iter().all(|host| host.membership.is_none()) {
        with_environment(tx, environment, |environment| {
            environment.swarm = None;
            environment.seed = None;
        })?;
    }
    Ok(())
}

fn wish_host_gone(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &HostId,
    operation: &OperationId,
    parent: &OperationId,
) -> Ruling<()> {
    let Some(environment) = tx.get::<Environment>(CLUSTER, environment.as_str())? else {
        return Ok(());
    };
    match tx.get::<Host>(environment.id.as_str(), id.as_str())? {
        Some(host) if host.removal.is_none() => {
            host::remove(tx, &environment, id.as_str(), operation.clone(), Some(parent.clone()))?;
            Ok(())
        }
        _ => Ok(()),
    }
}
