//! What the world answered, to be written in the same transaction as the operation's move.
//!
//! Effects do not write: they return facts, and this is the one place where a fact becomes state. Recording a fact
//! twice, or about something that is gone meanwhile, changes nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use skep_ledger::{Record, Tx};

use crate::environment::{Environment, Swarm};
use crate::host::moving::{Known, Remembered, Standing};
use crate::host::{Host, Machine, Membership};
use crate::ids::{EnvironmentId, HostId, OperationId};
use crate::name::Name;
use crate::networks::{HostNetworks, MadeFor, Networks};
use crate::nfs::NfsSeen;
use crate::operation::{Active, Direction, Operation, workflow};
use crate::options::Pools;
use crate::placement::Availability;
use crate::preflight::{Checked, Preflight};
use crate::resource::CloudResource;
use crate::sealed::Sealed;
use crate::stack::{ServiceSeen, Stack};
use crate::swarm_keys::{Certificates, Noted, SwarmKey, SwarmKeys};
use crate::{CLUSTER, Ruling, balance, environment, host, operation, resource, stack, swarm_state, upgrade};

/// One thing that an effect found or brought about.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The driver has a machine for the host.
    MachineExists(EnvironmentId, HostId, Machine),
    /// The driver has nothing left of the host, or has let its machine go.
    MachineGone(EnvironmentId, HostId),
    /// The host is in the hands of the operation that makes its machine anew, and no other takes it into the swarm.
    HostReserved(EnvironmentId, HostId, OperationId),
    /// What was found about the network between the host and its swarm.
    NetworkChecked(EnvironmentId, HostId, Checked),
    /// The swarm as one of its managers sees it: every node that is a host of ours.
    SwarmSeen(EnvironmentId, String, Vec<(HostId, Membership)>),
    /// The host is in no swarm, and could not be brought into the environment's, for this reason.
    NotJoined(EnvironmentId, HostId, String),
    /// The swarm was begun with these address pools.
    SwarmBegun(EnvironmentId, Pools),
    /// An operation has decided what overlay networks are made like from now on; the ingress network, if there is one, is
    /// like that.
    NetworksSet(EnvironmentId, OperationId, MadeFor, Option<MadeFor>),
    /// The networks that Docker has made by itself on a host.
    HostNetworksSeen(EnvironmentId, HostId, HostNetworks),
    /// What a host can do with an NFS server.
    NfsSeen(EnvironmentId, HostId, NfsSeen),
    /// The volumes of a stack's generation can be mounted on every host.
    StackVolumesChecked(EnvironmentId, Name, u64),
    /// The swarm's managers can agree again, thanks to this operation.
    SwarmRescued(EnvironmentId, OperationId),
    /// The swarm is that of a backup, thanks to this operation; who is in it is told next.
    SwarmRestored(EnvironmentId, OperationId),
    /// The swarm has the settings of this generation, and this unlock key, if it has one.
    SwarmSettingsApplied(EnvironmentId, u64, Option<Sealed>),
    /// What an operation is about to replace in the swarm.
    KeyNoted(EnvironmentId, SwarmKey, Noted),
    /// An operation has replaced it; with the new unlock key, if it is that.
    KeyRotated(EnvironmentId, SwarmKey, OperationId, Option<Sealed>),
    /// Which nodes have certificates of the authority that this operation has brought in.
    CertificatesSeen(EnvironmentId, OperationId, Certificates),
    /// The host's engine takes part in the swarm again, or was not locked.
    EngineUnlocked(EnvironmentId, HostId),
    /// What the swarm knows of the host's node, which leaves to join anew.
    NodeRemembered(EnvironmentId, HostId, Known),
    /// How the host's node stands among the others, as its own engine says.
    NodeStands(EnvironmentId, HostId, Standing),
    /// The host is in no swarm.
    LeftSwarm(EnvironmentId, HostId),
    /// No task runs on the host any more.
    Evacuated(EnvironmentId, HostId),
    /// The host's node is as it was wished in this generation, with these labels written.
    NodeUpdated(EnvironmentId, HostId, u64, Vec<String>),
    /// The host's node takes no tasks for a while; what it took before, if that was seen as it was changed.
    NodeSuspended(EnvironmentId, HostId, Option<Availability>),
    /// The host's node takes what it took before.
    NodeWoken(EnvironmentId, HostId),
    /// So many tasks run on the nodes of an environment that is being paused.
    TasksSeen(EnvironmentId, u64),
    /// The environment does not rest after all.
    PauseLifted(EnvironmentId),
    /// Another engine is wished for a host, with the operation that does it and the one that waits for it.
    HostUpgradeWished(EnvironmentId, HostId, String, OperationId, OperationId),
    /// It is the host's turn to get another engine, unless another host is at it.
    EngineTurnTaken(EnvironmentId, HostId),
    /// This operation has begun to change the host's engine.
    EngineChangeBegun(EnvironmentId, HostId, OperationId),
    /// The host's engine is of this version.
    EngineChanged(EnvironmentId, HostId, String),
    /// The host serves with an engine of this version.
    EngineVerified(EnvironmentId, HostId, String),
    /// `create-environment` is through.
    EnvironmentOpened(EnvironmentId),
    /// Removal is wished for a host, with the operation that does it and the one that waits for it.
    HostRemovalWished(EnvironmentId, HostId, OperationId, OperationId),
    /// The networks of a stack's generation exist.
    StackNetworksMade(EnvironmentId, Name, u64),
    /// The services of a stack's generation exist, and no others of the stack; with the hash of each as it was given
    /// to the swarm, by name.
    StackServicesMade(EnvironmentId, Name, u64, BTreeMap<String, String>),
    /// The logins to registries that the services of a stack have got: when each was made, by the registry's address.
    StackLoginsGiven(EnvironmentId, Name, BTreeMap<String, Timestamp>),
    /// The services of a stack's generation as the swarm shows them.
    StackSeen(EnvironmentId, Name, u64, Vec<ServiceSeen>),
    /// Nothing of the stack is left in the swarm.
    StackWithdrawn(EnvironmentId, Name),
    /// What a look at all tasks of the swarm has come to, for this operation.
    SharesSeen(EnvironmentId, OperationId, balance::Seen),
    /// The tasks of this service are being moved, for this operation.
    TasksMoved(EnvironmentId, OperationId, String),
    /// The stack's record goes.
    StackForgotten(EnvironmentId, Name),
    /// The host's record goes.
    HostForgotten(EnvironmentId, HostId),
    /// The host's record goes without its machine, which could not be given back for this reason; the operation says so at
    /// its end.
    HostLeftBehind(EnvironmentId, HostId, OperationId, String),
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
            with_host(tx, environment, id, |host| match host.renewal.take() {
                Some(_) => host.forget_machine(),
                None => host.machine = None,
            })?;
            environment::uproot(tx, environment, id)
        }
        Fact::HostReserved(environment, id, operation) => {
            with_host(tx, environment, id, |host| host.renewal = Some(operation.clone()))
        }
        Fact::NetworkChecked(environment, id, checked) => {
            let preflight = Preflight { at: tx.now(), checked: checked.clone() };
            with_host(tx, environment, id, |host| host.preflight = Some(preflight))
        }
        Fact::SwarmSeen(environment, swarm, nodes) => swarm_seen(tx, environment, swarm, nodes),
        Fact::NotJoined(environment, id, why) => {
            with_host(tx, environment, id, |host| host.join_error.clone_from(why))?;
            environment::uproot(tx, environment, id)
        }
        Fact::SwarmBegun(id, pools) => {
            with_environment(tx, id, |environment| environment.networks.pools = Some(pools.clone()))
        }
        Fact::NetworksSet(id, operation, made_for, ingress) => with_environment(tx, id, |environment| {
            environment.networks.made_for = Some(*made_for);
            environment.networks.ingress = *ingress;
            environment.networks.set_by = Some(operation.clone());
        }),
        Fact::HostNetworksSeen(environment, id, seen) => {
            with_host(tx, environment, id, |host| host.networks = Some(*seen))
        }
        Fact::NfsSeen(environment, id, seen) => {
            with_host(tx, environment, id, |host| host.nfs = Some(seen.clone()))
        }
        Fact::StackVolumesChecked(environment, name, generation) => {
            with_stack(tx, environment, name, |stack| stack.volumes_checked = *generation)
        }
        Fact::SwarmRescued(id, operation) => {
            with_environment(tx, id, |environment| environment.rescued_by = Some(operation.clone()))
        }
        Fact::SwarmRestored(id, operation) => swarm_state::restored(tx, id, operation),
        Fact::SwarmSettingsApplied(id, ..)
        | Fact::KeyNoted(id, ..)
        | Fact::KeyRotated(id, ..)
        | Fact::CertificatesSeen(id, ..) => with_keys(tx, id, |keys| record_key(keys, fact)),
        Fact::EngineUnlocked(environment, id) => {
            with_host(tx, environment, id, |host| host.swarm_locked = false)
        }
        Fact::NodeRemembered(environment, id, known) => {
            let remembered = Remembered { at: tx.now(), known: known.clone() };
            with_host(tx, environment, id, |host| host.remembered = Some(remembered))
        }
        Fact::NodeStands(environment, id, standing) => {
            let now = tx.now();
            with_host(tx, environment, id, |host| host.stands(standing, now))
        }
        Fact::LeftSwarm(environment, id) => left_swarm(tx, environment, id),
        Fact::Evacuated(environment, id) => with_host(tx, environment, id, |host| host.evacuated = true),
        Fact::NodeUpdated(environment, id, generation, written) => with_host(tx, environment, id, |host| {
            host.placement.applied = *generation;
            host.placement.written = written.clone();
            host.has_brought_back();
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
        Fact::StackLoginsGiven(environment, name, given) => {
            with_stack(tx, environment, name, |stack| stack.logins.clone_from(given))
        }
        Fact::StackSeen(environment, name, generation, seen) => with_stack(tx, environment, name, |stack| {
            stack.observed(*generation, seen);
        }),
        Fact::StackWithdrawn(environment, name) => {
            with_stack(tx, environment, name, |stack| stack.withdrawn = true)
        }
        Fact::SharesSeen(id, operation, seen) => {
            with_environment(tx, id, |environment| environment.tasks_seen(operation, seen))
        }
        Fact::TasksMoved(id, operation, service) => {
            with_environment(tx, id, |environment| environment.tasks_moved(operation, service))
        }
        Fact::StackForgotten(environment, name) => stack::forget(tx, environment, name),
        Fact::HostForgotten(environment, id) => host::forget(tx, environment, id),
        Fact::HostLeftBehind(environment, id, operation, why) => {
            leave_behind(tx, environment, id, operation, why)
        }
        Fact::EnvironmentForgotten(id) => environment::forget(tx, id),
        Fact::NodeSuspended(..)
        | Fact::NodeWoken(..)
        | Fact::TasksSeen(..)
        | Fact::PauseLifted(..)
        | Fact::HostUpgradeWished(..)
        | Fact::EngineTurnTaken(..)
        | Fact::EngineChangeBegun(..)
        | Fact::EngineChanged(..)
        | Fact::EngineVerified(..) => rest_or_upgrade(tx, fact),
    }
}

/// Facts about hosts that take no tasks for a while, and about their engines.
fn rest_or_upgrade(tx: &mut Tx<'_>, fact: &Fact) -> Ruling<()> {
    match fact {
        Fact::NodeSuspended(environment, id, before) => {
            with_host(tx, environment, id, |host| {
                host.placement.kept = before.or(host.placement.kept);
                host.evacuated = false;
            })?;
            environment::look_again(tx, environment)
        }
        Fact::NodeWoken(environment, id) => with_host(tx, environment, id, |host| host.placement.kept = None),
        Fact::TasksSeen(environment, running) => environment::tasks_seen(tx, environment, *running),
        Fact::PauseLifted(environment) => environment::lift(tx, environment),
        Fact::HostUpgradeWished(environment, id, version, operation, parent) => {
            wish_upgrade(tx, environment, id, version, operation, parent)
        }
        Fact::EngineTurnTaken(environment, id) => upgrade::take_turn(tx, environment, id),
        Fact::EngineChangeBegun(environment, id, operation) => with_host(tx, environment, id, |host| {
            host.engine_wish.iter_mut().for_each(|wish| wish.begun_by = Some(operation.clone()));
        }),
        Fact::EngineChanged(environment, id, version) => with_host(tx, environment, id, |host| {
            let told = host.inventory.iter_mut();
            told.for_each(|inventory| inventory.engine_version.clone_from(version));
        }),
        Fact::EngineVerified(environment, id, version) => with_host(tx, environment, id, |host| {
            let wish = host.engine_wish.iter_mut().filter(|wish| wish.version == *version);
            wish.for_each(|wish| wish.verified = true);
        }),
        // Everything else is recorded above.
        _ => Ok(()),
    }
}

/// What became of a swarm's keys; other facts are not about them.
fn record_key(keys: &mut SwarmKeys, fact: &Fact) {
    match fact {
        Fact::SwarmSettingsApplied(_, generation, unlock_key) => {
            keys.applied(*generation, unlock_key.as_ref());
        }
        Fact::KeyNoted(_, key, noted) => keys.rotation_mut(*key).noted = Some(noted.clone()),
        Fact::KeyRotated(_, key, operation, unlock_key) => {
            keys.rotation_mut(*key).done_by = Some(operation.clone());
            if *key == SwarmKey::UnlockKey {
                keys.take_over(unlock_key.as_ref());
            }
        }
        Fact::CertificatesSeen(_, operation, seen) => {
            if seen.missing.is_empty() {
                keys.certified_by = Some(operation.clone());
            }
            keys.certificates = Some(seen.clone());
        }
        _ => {}
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

fn with_keys(tx: &mut Tx<'_>, id: &EnvironmentId, change: impl FnOnce(&mut SwarmKeys)) -> Ruling<()> {
    with_environment(tx, id, |environment| change(&mut environment.keys))
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
    let known = tx.get::<Environment>(CLUSTER, environment.as_str())?.and_then(|known| known.record.swarm);
    let is_another = known.is_none_or(|known| known.id != swarm);
    for stored in tx.list::<Host>(environment.as_str())? {
        let seen = nodes.iter().find(|(id, _)| *id == stored.id).map(|(_, membership)| membership.clone());
        // Operations go on side by side: one may have looked before a host joined, and say so after another has seen that. Who
        // is in the swarm no more is seen by whoever only looks (`crate::health`), with more care.
        if seen.is_some() || is_another {
            with_host(tx, environment, &stored.id, |host| host.seen_in_swarm(seen, now))?;
        }
    }
    let swarm = Swarm::of(swarm, nodes);
    with_environment(tx, environment, |environment| environment.swarm = Some(swarm))
}

fn left_swarm(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &HostId) -> Ruling<()> {
    let now = tx.now();
    let before = tx.get::<Host>(environment.as_str(), id.as_str())?;
    with_host(tx, environment, id, |host| host.left_swarm(now))?;
    match before.is_some_and(|host| host.membership.is_some()) {
        true => count_members(tx, environment),
        false => Ok(()),
    }
}

/// A member less: what is known of the swarm is counted anew. Without members there is none any more.
fn count_members(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Ruling<()> {
    let hosts = tx.list::<Host>(environment.as_str())?;
    let members = hosts.iter().filter_map(|host| Some((host.id.clone(), host.membership.clone()?)));
    let members: Vec<(HostId, Membership)> = members.collect();
    with_environment(tx, environment, |environment| match &mut environment.swarm {
        _ if members.is_empty() => {
            environment.swarm = None;
            environment.seed = None;
            environment.adopted = None;
            environment.networks = Networks::default();
        }
        Some(swarm) => {
            let Swarm { nodes, managers, .. } = Swarm::of(&swarm.id, &members);
            (swarm.nodes, swarm.managers) = (nodes, managers);
        }
        None => {}
    })
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
    let Some(host) = tx.get::<Host>(environment.id.as_str(), id.as_str())? else {
        return Ok(());
    };
    let (subject, operation, parent) = (host::subject(&host), operation.clone(), Some(parent.clone()));
    if host.removal.is_none() {
        host::remove(tx, &environment, id.as_str(), operation, parent)?;
    } else if tx.get::<Active>(CLUSTER, &subject.index())?.is_none() {
        // It was wished before, and has failed.
        operation::start(tx, operation, workflow::REMOVE_HOST, subject, Some(&environment), parent)?;
    }
    Ok(())
}

fn wish_upgrade(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &HostId,
    version: &str,
    operation: &OperationId,
    parent: &OperationId,
) -> Ruling<()> {
    let place = tx.get::<Environment>(CLUSTER, environment.as_str())?;
    let host = tx.get::<Host>(environment.as_str(), id.as_str())?;
    // It may have been cancelled meanwhile.
    let asks = tx.get::<Operation>(CLUSTER, parent.as_str())?;
    let asks = asks.is_some_and(|parent| !parent.ended() && parent.direction == Direction::Forward);
    if let (Some(place), Some(host)) = (place, host.filter(|host| asks && host.removal.is_none())) {
        upgrade::begin(tx, &place, host.record, version, operation.clone(), Some(parent.clone()))?;
    }
    Ok(())
}

/// The cloud ledger keeps the machine, and the operation names it when it ends.
fn leave_behind(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    id: &HostId,
    operation: &OperationId,
    why: &str,
) -> Ruling<()> {
    let place = tx.get::<Environment>(CLUSTER, environment.as_str())?;
    let host = tx.get::<Host>(environment.as_str(), id.as_str())?;
    let (Some(place), Some(host)) = (place, host) else {
        return Ok(());
    };
    if let Some(row) = tx.get::<CloudResource>(CLUSTER, id.as_str())? {
        let (name, driver) = (&host.name, &row.driver);
        let what = format!("machine {name} of driver {driver} could not be given back: {why}");
        resource::leave(tx, id, name.as_str(), place.name.as_str(), why)?;
        with_record::<Operation>(tx, CLUSTER, operation.as_str(), |operation| operation.leaves_behind(what))?;
    }
    host::forget(tx, environment, id)
}
