//! The life of a swarm, spoken to through the engines of its hosts.
//!
//! What is so is always asked of the swarm itself. A node is recognized by the address of its machine, because all
//! that a swarm tells of a node is what the node said of itself when it joined.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::models::{
    LocalNodeState, Node, NodeSpecAvailabilityEnum, NodeSpecRoleEnum, NodeState, Reachability,
    SwarmInitRequest, SwarmJoinRequest, Task, TaskState,
};
use bollard::query_parameters::{DeleteNodeOptions, LeaveSwarmOptions, ListTasksOptions, UpdateNodeOptions};
use futures::future::join_all;
use skep_hub::agree_on_something;
use skep_model::fact::Fact;
use skep_model::host::{Host, Membership, Role};
use skep_model::ids::HostId;
use skep_model::name::Name;
use skep_model::networks::unfit;
use skep_model::operation::Operation;
use skep_model::placement::Availability;
use tokio::time::{Instant, sleep};

use super::own_words::{Local, local_state, members_confirmed, members_confirmed_but};
use super::reached::{Reached, has_no_leader};
use super::rejoin::{availability, manager_addresses, standing};
use super::{Site, networks, not_found};
use crate::world::EffectError;

/// Docker's own port for the swarm's managers.
pub(super) const SWARM_PORT: u16 = 2377;

/// How long removing a node that was demoted is tried. Managers agree on it within a second or two; busy ones have needed more
/// than ten.
const FORGET_MAX: Duration = Duration::from_secs(30);

/// Between two tries.
const FORGET_PAUSE: Duration = Duration::from_millis(200);

/// Begins the swarm on a host, or finds that the host is in one.
pub(super) async fn init(site: &Site, host: &Host) -> Result<Vec<Fact>, EffectError> {
    let docker = site.docker(host);
    let pools = site.environment.options.pools();
    if local_state(&docker).await?.state != LocalNodeState::ACTIVE {
        if let Some(why) = unfit(&site.environment, host) {
            return Err(not_joined(host, EffectError::lasting(why)));
        }
        networks::prepare(site, &docker, host).await?;
        let ranges = pools.ranges.iter().map(ToString::to_string).collect::<Vec<_>>();
        let request = SwarmInitRequest {
            listen_addr: Some(format!("0.0.0.0:{SWARM_PORT}")),
            advertise_addr: Some(address(host)?.to_owned()),
            default_addr_pool: (!ranges.is_empty()).then_some(ranges),
            subnet_size: pools.subnet_size.map(u32::from),
            ..SwarmInitRequest::default()
        };
        if let Err(error) = docker.init_swarm(request).await {
            let error = docker.failed("beginning the swarm")(error);
            // Only if the engine itself says that nothing was begun, another host may be chosen.
            return Err(match local_state(&docker).await {
                Ok(local) if local.state == LocalNodeState::INACTIVE => not_joined(host, error),
                _ => error,
            });
        }
    }
    let mut facts = observe_through(site, &docker).await?;
    facts.push(Fact::SwarmBegun(site.environment.id.clone(), pools));
    Ok(facts)
}

/// Finds the swarm that a host brought along to be the one that it was, and begins none.
pub(super) async fn adopt(site: &Site, host: &Host) -> Result<Vec<Fact>, EffectError> {
    let docker = site.docker(host);
    let local = local_state(&docker).await?;
    if local.swarm.is_none() || local.swarm != site.environment.adopted {
        let why = format!("{} is no manager any more of the swarm that was to be taken over", host.name);
        return Err(not_joined(host, EffectError::lasting(why)));
    }
    observe_through(site, &docker).await
}

/// Lets one manager decide alone, if the swarm's managers cannot agree, and says whether that was so. Nodes, services,
/// secrets and networks stay as it knows them.
pub(super) async fn rescue(site: &Site, host: &Host) -> Result<bool, EffectError> {
    let docker = site.docker(host);
    match agree_on_something(&docker).await {
        Ok(()) => Ok(false),
        Err(DockerError::DockerResponseServerError { message, .. }) if has_no_leader(&message) => {
            must_not_be_locked(site)?;
            begin_anew(&docker, host).await.map(|()| true)
        }
        Err(error) => Err(docker.failed("asking the swarm's managers to agree on something")(error)),
    }
}

/// Docker does not begin a locked swarm anew: it asks for the unlock key then, takes none, and the engine is in no swarm until
/// it is started again.
pub(super) fn must_not_be_locked(site: &Site) -> Result<(), EffectError> {
    match &site.environment.keys.unlock_key {
        None => Ok(()),
        Some(_) => Err(EffectError::lasting(format!(
            "the managers of the swarm are locked, and Docker begins no locked swarm anew. While they can agree, unlock them: \
             skep env update {} --autolock off. Otherwise bring most of them back, or go back to a backup: skep env restore",
            site.environment.name
        ))),
    }
}

/// Looks at the swarm that was rescued.
pub(super) async fn rescued(
    site: &Site,
    host: &Host,
    operation: &Operation,
) -> Result<Vec<Fact>, EffectError> {
    let mut facts = observe_through(site, &site.docker(host)).await?;
    facts.push(Fact::SwarmRescued(site.environment.id.clone(), operation.id.clone()));
    Ok(facts)
}

/// Makes a manager the only one, at the host's address and with what it knows (`docker swarm init --force-new-cluster`). It
/// stays the node that it was; see also `anew`.
pub(super) async fn begin_anew(docker: &Reached, host: &Host) -> Result<(), EffectError> {
    let request = SwarmInitRequest {
        listen_addr: Some(format!("0.0.0.0:{SWARM_PORT}")),
        advertise_addr: Some(address(host)?.to_owned()),
        force_new_cluster: Some(true),
        ..SwarmInitRequest::default()
    };
    docker.init_swarm(request).await.map_err(docker.failed("beginning the swarm anew")).map(drop)
}

/// Joins hosts, all at once; those that are in it already are left alone.
pub(super) async fn join(site: &Site, joins: &[(HostId, Name, Role)]) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let swarm = manager.inspect_swarm().await.map_err(manager.failed("reading the join tokens"))?;
    let tokens = swarm.join_tokens.unwrap_or_default();
    let remote_addrs: Vec<_> =
        site.managers(None).into_iter().filter_map(|host| address_with_port(host).ok()).collect();
    let nodes = manager.list_nodes(None).await.map_err(manager.failed("listing the nodes"))?;
    forget_ghosts(site, &manager, joins, &nodes).await;
    let joined = joins.iter().map(|(id, _, role)| {
        let token = match role {
            Role::Manager => tokens.manager.clone(),
            Role::Worker => tokens.worker.clone(),
        };
        join_one(site, id, token, remote_addrs.clone(), swarm.id.as_deref(), &nodes)
    });
    let joined = join_all(joined).await;
    let (swarm, nodes) = listed(&manager).await?;
    // Docker's answer to a join is that the engine is the node.
    let has_joined =
        |host: &Host| joins.iter().zip(&joined).any(|((id, ..), joined)| *id == host.id && joined.is_ok());
    let members = members_confirmed_but(site, &nodes, has_joined).await;
    let is_in = |id: &HostId| members.iter().any(|(member, _)| member == id);
    let mut failed: Vec<EffectError> = joins
        .iter()
        .zip(joined)
        .filter(|((id, ..), _)| !is_in(id))
        .filter_map(|((id, ..), joined)| Some(not_joined(site.host(id).ok()?, joined.err()?)))
        .collect();
    let mut facts: Vec<Fact> = failed.iter_mut().flat_map(|error| error.facts.drain(..)).collect();
    let some_joined = joins.iter().any(|(id, ..)| is_in(id));
    let joined: Vec<&Host> =
        joins.iter().filter(|(id, ..)| is_in(id)).filter_map(|(id, ..)| site.host(id).ok()).collect();
    facts.extend(networks::look(site, &joined).await);
    facts.push(Fact::SwarmSeen(site.environment.id.clone(), swarm, members));
    // Whoever has joined is recorded even if another could not; the next try is for the others only.
    match failed.into_iter().next() {
        Some(error) if !some_joined => Err(error.knowing(facts)),
        _ => Ok(facts),
    }
}

/// The reason stands with the host, where people look for it.
fn not_joined(host: &Host, error: EffectError) -> EffectError {
    let fact = Fact::NotJoined(host.environment.clone(), host.id.clone(), error.message.clone());
    error.knowing(vec![fact])
}

/// A host that joins anew has no use for the node that it was before; as a manager it would count for ever. A courtesy: what
/// cannot be removed now is seen in `docker node ls`.
async fn forget_ghosts(site: &Site, manager: &Reached, joins: &[(HostId, Name, Role)], nodes: &[Node]) {
    // Whatever a swarm that was taken over has is left alone.
    let ours = joins.iter().filter_map(|(id, ..)| site.host(id).ok()).filter(|host| host.adopted.is_none());
    for host in ours.filter(|host| own_nodes(host, &site.hosts, nodes).next().is_some()) {
        let Ok(local) = local_state(&site.docker(host)).await else {
            continue;
        };
        for ghost in ghosts(host, &site.hosts, &local, nodes) {
            try_to_forget(manager, host, ghost).await;
        }
    }
}

pub(super) async fn try_to_forget(manager: &Reached, host: &Host, ghost: &str) {
    if let Err(error) = forget(manager, ghost).await {
        tracing::info!(host.id = %host.id, ghost, %error, "a node that is gone could not be removed yet");
    }
}

/// Takes a node of no use out of the swarm, whatever the swarm still thinks of it. A manager is one for a moment longer after
/// it was demoted, and cannot be removed for as long. One that was to be a manager and never became one cannot be demoted
/// ("can't find manager in raft memberlist"), and needs not be.
async fn forget(manager: &Reached, node: &str) -> Result<(), EffectError> {
    let worker = |spec: &mut bollard::models::NodeSpec| {
        spec.role.replace(NodeSpecRoleEnum::WORKER) != Some(NodeSpecRoleEnum::WORKER)
    };
    let demoted = update(manager, node, worker).await;
    let deadline = Instant::now() + FORGET_MAX;
    loop {
        match manager.delete_node(node, Some(DeleteNodeOptions { force: true })).await {
            Err(error) if not_found(&error) => return Ok(()),
            Err(_) if demoted.is_ok() && Instant::now() < deadline => sleep(FORGET_PAUSE).await,
            removed => return removed.map_err(manager.failed("removing a node that is gone")),
        }
    }
}

/// Nodes that the host was before: they have its address, are no other host's, and its engine does not take itself for one of
/// them. They are down, unless the engine has given up: for a while the swarm takes its node for alive, and the engine does not
/// say any more which one it was.
fn ghosts<'a>(host: &Host, hosts: &[Host], local: &Local, nodes: &'a [Node]) -> Vec<&'a str> {
    let has_given_up = local.state == LocalNodeState::ERROR;
    let is_it = |id: &str| id == local.node && local.state == LocalNodeState::ACTIVE;
    let own = own_nodes(host, hosts, nodes).filter(|node| has_given_up || !is_up(node));
    own.filter_map(|node| node.id.as_deref()).filter(|id| !is_it(id)).collect()
}

pub(super) fn own_nodes<'a>(
    host: &Host,
    hosts: &[Host],
    nodes: &'a [Node],
) -> impl Iterator<Item = &'a Node> {
    nodes.iter().filter(|node| has_address_of(node, host) && !is_anothers(node, host, hosts))
}

async fn join_one(
    site: &Site,
    id: &HostId,
    join_token: Option<String>,
    remote_addrs: Vec<String>,
    swarm: Option<&str>,
    nodes: &[Node],
) -> Result<(), EffectError> {
    let host = site.host(id)?;
    if let Some(why) = unfit(&site.environment, host) {
        return Err(EffectError::lasting(why));
    }
    if host.removal.is_some() {
        return Err(EffectError::passing(format!("the removal of {} was asked for", host.name)));
    }
    let docker = site.docker(host);
    let local = local_state(&docker).await?;
    let members: Vec<_> = nodes.iter().filter_map(|node| node.id.clone()).collect();
    match stands(&local, was_ours(host, &local, swarm, &members), &members) {
        // Nobody takes it for a member, and it will not find the managers: it is the node that it was before a restore.
        Stands::In if standing(&local, &manager_addresses(&site.hosts, nodes), false).cut_off => {
            leave_here(&docker).await?;
        }
        Stands::In => return Ok(()),
        // What is not known to be ours is not left in anybody's name.
        Stands::Elsewhere => {
            return Err(EffectError::lasting(format!(
                "{} is a node of another swarm. Take it out there first (on the host: docker swarm leave), or remove the \
                 host (skep host rm {})",
                host.name, host.name
            )));
        }
        Stands::StillJoining => {
            return Err(EffectError::passing(format!(
                "{} is still trying to join: does it reach the swarm's managers on port {SWARM_PORT}?",
                host.name
            )));
        }
        Stands::Forgotten => leave_here(&docker).await?,
        Stands::Outside => {}
    }
    networks::prepare(site, &docker, host).await?;
    let request = SwarmJoinRequest {
        listen_addr: Some(format!("0.0.0.0:{SWARM_PORT}")),
        advertise_addr: Some(address(host)?.to_owned()),
        remote_addrs: Some(remote_addrs),
        join_token,
        ..SwarmJoinRequest::default()
    };
    docker.join_swarm(request).await.map_err(docker.failed(&format!("joining {}", host.name)))
}

/// Where an engine stands that is to join a swarm.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// It is a node of it.
    In,
    /// It is a node of another one.
    Elsewhere,
    /// An earlier join is still under way in the engine.
    StillJoining,
    /// It has been a node and is of no use as one: it was taken out while it could not be reached and does not know, or its
    /// engine has given up. A worker that is promoted does so if it first turns to managers that are gone, as after a
    /// rescue. Docker lets it join only after it has left.
    Forgotten,
    /// It is in no swarm.
    Outside,
}

pub(super) fn stands(local: &Local, was_ours: bool, members: &[String]) -> Stands {
    match local.state {
        LocalNodeState::ACTIVE if members.contains(&local.node) => Stands::In,
        LocalNodeState::ACTIVE if !was_ours => Stands::Elsewhere,
        LocalNodeState::ACTIVE | LocalNodeState::ERROR => Stands::Forgotten,
        LocalNodeState::PENDING => Stands::StillJoining,
        _ => Stands::Outside,
    }
}

/// Is an engine that is an active node, though not one that is listed, one of this swarm all the same?
pub(super) fn was_ours(host: &Host, local: &Local, swarm: Option<&str>, members: &[String]) -> bool {
    match &local.swarm {
        Some(found) => Some(found.as_str()) == swarm,
        None => host.was_ready || local.managers.iter().any(|manager| members.contains(manager)),
    }
}

/// What the swarm's managers see.
pub(super) async fn observe(site: &Site) -> Result<Vec<Fact>, EffectError> {
    observe_through(site, &site.manager(None)?).await
}

/// Makes a node a manager or a worker.
pub(super) async fn set_role(site: &Site, host: &Host, role: Role) -> Result<Vec<Fact>, EffectError> {
    let wanted = match role {
        Role::Manager => NodeSpecRoleEnum::MANAGER,
        Role::Worker => NodeSpecRoleEnum::WORKER,
    };
    let but = (role == Role::Worker).then_some(host);
    let manager = site.manager(but)?;
    update(&manager, node(host)?, |spec| spec.role.replace(wanted) != Some(wanted)).await?;
    observe_through(site, &manager).await
}

/// Lets a node take no tasks.
pub(super) async fn drain(site: &Site, host: &Host) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let drain = NodeSpecAvailabilityEnum::DRAIN;
    update(&manager, node(host)?, |spec| spec.availability.replace(drain) != Some(drain)).await?;
    observe_through(site, &manager).await
}

/// Brings what is wished for a node into the swarm. Labels that others have set stay.
pub(super) async fn update_node(site: &Site, host: &Host) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let wished = &host.placement;
    let before = host.brings_back();
    // What others have set counts where nobody has wished anything else of Skep.
    let availability = match before.filter(|_| wished.generation == 0) {
        Some(known) => known.availability,
        None => wished.availability,
    };
    let availability = match availability {
        Availability::Active => NodeSpecAvailabilityEnum::ACTIVE,
        Availability::Pause => NodeSpecAvailabilityEnum::PAUSE,
        Availability::Drain => NodeSpecAvailabilityEnum::DRAIN,
    };
    let before_labels = before.map(|known| known.labels.clone()).unwrap_or_default();
    update(&manager, node(host)?, |spec| {
        let before = spec.clone();
        spec.availability = Some(availability);
        let labels = spec.labels.get_or_insert_default();
        labels.retain(|key, _| !wished.written.contains(key));
        labels.extend(before_labels.clone());
        labels.extend(wished.labels.clone());
        *spec != before
    })
    .await?;
    let written = wished.labels.keys().cloned().collect();
    let mut facts = observe_through(site, &manager).await?;
    facts.push(Fact::NodeUpdated(host.environment.clone(), host.id.clone(), wished.generation, written));
    Ok(facts)
}

/// Says when no task runs on a node any more.
pub(super) async fn observe_evacuation(site: &Site, host: &Host) -> Result<Vec<Fact>, EffectError> {
    let filters = [("node".to_owned(), vec![node(host)?.to_owned()])];
    let options = ListTasksOptions { filters: Some(filters.into()) };
    let manager = site.manager(None)?;
    let tasks = manager.list_tasks(Some(options)).await.map_err(manager.failed("listing tasks"))?;
    let running = tasks.iter().filter(|task| runs(task)).count();
    match running {
        0 => Ok(vec![Fact::Evacuated(host.environment.clone(), host.id.clone())]),
        _ => Ok(vec![]),
    }
}

/// Is there a process of it, or will there be one in a moment?
pub(super) fn runs(task: &Task) -> bool {
    let state = task.status.as_ref().and_then(|status| status.state);
    matches!(state, Some(TaskState::RUNNING | TaskState::STARTING | TaskState::PREPARING))
}

pub(super) async fn leave_here(docker: &Reached) -> Result<(), EffectError> {
    let options = LeaveSwarmOptions { force: true };
    docker.leave_swarm(Some(options)).await.map_err(docker.failed("leaving the swarm"))?;
    // An engine that was about to give its node another part may begin it again.
    match local_state(docker).await?.state {
        LocalNodeState::INACTIVE => Ok(()),
        state => {
            Err(EffectError::passing(format!("the engine has left the swarm and is {state} in it again")))
        }
    }
}

pub(super) async fn observe_through(site: &Site, manager: &Reached) -> Result<Vec<Fact>, EffectError> {
    let (swarm, nodes) = listed(manager).await?;
    Ok(vec![Fact::SwarmSeen(site.environment.id.clone(), swarm, members_confirmed(site, &nodes).await)])
}

/// The swarm's id and its nodes as a manager lists them.
pub(super) async fn listed(manager: &Reached) -> Result<(String, Vec<Node>), EffectError> {
    let swarm = manager.inspect_swarm().await.map_err(manager.failed("looking at the swarm"))?;
    let nodes = manager.list_nodes(None).await.map_err(manager.failed("listing the nodes"))?;
    Ok((swarm.id.unwrap_or_default(), nodes))
}

/// The nodes that are hosts of ours, as they are listed; see also `own_words`.
pub(super) fn members(hosts: &[Host], nodes: &[Node]) -> Vec<(HostId, Membership)> {
    hosts.iter().filter_map(|host| Some((host.id.clone(), membership(host, hosts, nodes)?))).collect()
}

/// By its address it is found only among nodes that are nobody's: when hosts change their addresses, one may have the address
/// with which another's node has joined.
fn membership(host: &Host, hosts: &[Host], nodes: &[Node]) -> Option<Membership> {
    let known = host.membership.as_ref();
    let is_known = |node: &Node| {
        let ids = [known.map(|known| &known.node), host.adopted.as_ref()];
        ids.into_iter().flatten().any(|id| node.id.as_ref() == Some(id))
    };
    let is_own =
        |node: &Node| is_known(node) || (has_address_of(node, host) && !is_anothers(node, host, hosts));
    let mut own: Vec<&Node> = nodes.iter().filter(|node| is_own(node)).collect();
    // A host that left and came back is listed twice for a while; the node that is ready is the host.
    own.sort_by_key(|node| (!ready(node, is_known(node) && host.was_ready), !is_known(node)));
    let node = own.first()?;
    let spec = node.spec.as_ref();
    // Who is to be a worker still counts as long as the managers have not let it go.
    let manages =
        spec.and_then(|spec| spec.role) == Some(NodeSpecRoleEnum::MANAGER) || node.manager_status.is_some();
    Some(Membership {
        node: node.id.clone()?,
        role: if manages { Role::Manager } else { Role::Worker },
        leader: node.manager_status.as_ref().and_then(|status| status.leader).unwrap_or(false),
        ready: ready(node, is_known(node) && host.was_ready),
        availability: availability(spec.and_then(|spec| spec.availability)),
        reachable: reachable(node),
    })
}

/// `before`: was it ready as this node already? After the swarm has elected a leader, it does not know of any node until
/// that has reported again, and nothing is wrong with it.
fn ready(node: &Node, before: bool) -> bool {
    let state = node.status.as_ref().and_then(|status| status.state);
    let up = state == Some(NodeState::READY) || (before && state == Some(NodeState::UNKNOWN));
    let wanted = node.spec.as_ref().and_then(|spec| spec.role) == Some(NodeSpecRoleEnum::MANAGER);
    // A node that is to be a manager counts when the managers have taken it in.
    up && (!wanted || node.manager_status.is_some()) && reachable(node)
}

/// Not said of workers. A manager of which nothing is known yet is given the benefit of the doubt.
fn reachable(node: &Node) -> bool {
    let status = node.manager_status.as_ref();
    status.and_then(|status| status.reachability) != Some(Reachability::UNREACHABLE)
}

/// A leader that listens on every address may tell `0.0.0.0` as its own; its manager address is right then.
fn addresses(node: &Node) -> impl Iterator<Item = &str> {
    let own = node.status.as_ref().and_then(|status| status.addr.as_deref());
    let as_manager = node.manager_status.as_ref().and_then(|status| status.addr.as_deref());
    let as_manager = as_manager.and_then(|address| address.rsplit_once(':')).map(|(address, _)| address);
    [own, as_manager].into_iter().flatten()
}

/// Is it known as the node of another host?
fn is_anothers(node: &Node, host: &Host, hosts: &[Host]) -> bool {
    let is_node_of = |other: &Host| {
        let membership = other.membership.as_ref().map(|membership| &membership.node);
        [membership, other.adopted.as_ref()].into_iter().flatten().any(|id| node.id.as_ref() == Some(id))
    };
    hosts.iter().any(|other| other.id != host.id && is_node_of(other))
}

fn is_up(node: &Node) -> bool {
    node.status.as_ref().and_then(|status| status.state) == Some(NodeState::READY)
}

fn has_address_of(node: &Node, host: &Host) -> bool {
    host.machine.as_ref().is_some_and(|machine| addresses(node).any(|found| found == machine.address))
}

/// Changes a node's spec, unless `change` says that it was so already.
pub(super) async fn update(
    manager: &Reached,
    node: &str,
    change: impl FnOnce(&mut bollard::models::NodeSpec) -> bool,
) -> Result<(), EffectError> {
    let found = manager.inspect_node(node).await.map_err(manager.failed("looking at the node"))?;
    let mut spec = found.spec.unwrap_or_default();
    if !change(&mut spec) {
        return Ok(());
    }
    let version = found.version.and_then(|version| version.index).unwrap_or_default();
    let version = i64::try_from(version).map_err(EffectError::lasting)?;
    let options = UpdateNodeOptions { version };
    manager.update_node(node, spec, options).await.map_err(manager.failed("changing the node"))
}

pub(super) fn node(host: &Host) -> Result<&str, EffectError> {
    let node = host.membership.as_ref().map(|membership| membership.node.as_str());
    node.ok_or_else(|| EffectError::lasting(format!("{} is no node of the swarm", host.name)))
}

pub(super) fn address(host: &Host) -> Result<&str, EffectError> {
    let address = host.machine.as_ref().map(|machine| machine.address.as_str());
    address.ok_or_else(|| EffectError::lasting(format!("{} has no machine", host.name)))
}

/// Where a manager on the host is looked for, as Docker writes it.
pub(super) fn address_with_port(host: &Host) -> Result<String, EffectError> {
    let address = address(host)?;
    let ip = address.parse::<IpAddr>();
    Ok(ip
        .map_or_else(|_| format!("{address}:{SWARM_PORT}"), |ip| SocketAddr::new(ip, SWARM_PORT).to_string()))
}

#[cfg(test)]
#[path = "swarm_tests.rs"]
mod tests;
