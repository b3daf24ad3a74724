//! What it takes for a node to get another address, besides leaving and joining.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{Node, NodeSpecAvailabilityEnum};
use skep_model::fact::Fact;
use skep_model::host::Host;
use skep_model::host::moving::{Known, Standing};
use skep_model::placement::Availability;

use super::Site;
use super::own_words::{Local, local_state};
use super::swarm;
use crate::world::EffectError;

/// What the swarm knows of the host's node and Skep does not: others can set labels and availability too.
pub(super) async fn remember(site: &Site, host: &Host) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let node = swarm::node(host)?;
    let found = manager.inspect_node(node).await.map_err(manager.failed("looking at the node"))?;
    let spec = found.spec.unwrap_or_default();
    let mut labels: HashMap<String, String> = spec.labels.unwrap_or_default();
    labels.retain(|key, _| !host.placement.written.contains(key));
    let role = host.membership.as_ref().map(|membership| membership.role);
    let known = Known {
        node: node.to_owned(),
        role: role.unwrap_or(skep_model::host::Role::Worker),
        availability: availability(spec.availability),
        labels: labels.into_iter().collect(),
    };
    Ok(vec![Fact::NodeRemembered(host.environment.clone(), host.id.clone(), known)])
}

/// Gives a manager without others another address, if it has not got it, and says whether that was so. There is no other way
/// than to begin the swarm anew; nodes that look for it at the old address have to join anew.
pub(super) async fn advertise(site: &Site, host: &Host) -> Result<bool, EffectError> {
    let docker = site.docker(host);
    if local_state(&docker).await?.address == swarm::address(host)? {
        return Ok(false);
    }
    swarm::must_not_be_locked(site)?;
    swarm::begin_anew(&docker, host).await.map(|()| true)
}

/// Looks at the manager that has got another address.
pub(super) async fn advertised(site: &Site, host: &Host) -> Result<Vec<Fact>, EffectError> {
    let docker = site.docker(host);
    let mut facts = swarm::observe_through(site, &docker).await?;
    let local = local_state(&docker).await?;
    facts.push(Fact::NodeStands(
        host.environment.clone(),
        host.id.clone(),
        standing(&local, &BTreeSet::new(), true),
    ));
    Ok(facts)
}

/// Where the managers of a swarm are. What the swarm itself calls the address of a manager does not follow when that is given
/// another one.
pub(super) fn manager_addresses(hosts: &[Host], nodes: &[Node]) -> BTreeSet<String> {
    let ours = hosts.iter().filter(|host| host.is_swarm_manager()).filter_map(Host::machine_address).cloned();
    let managers = nodes.iter().filter(|node| node.manager_status.is_some());
    let seen = managers.filter_map(|node| node.status.as_ref()?.addr.clone());
    ours.chain(seen).collect()
}

/// How a node stands, by what its engine says of itself and by where the managers are.
pub(super) fn standing(local: &Local, managers: &BTreeSet<String>, ready: bool) -> Standing {
    let is_manager = local.swarm.is_some();
    let known = || local.managers_at.iter().filter_map(|known| known.rsplit_once(':'));
    let knows_one = known().any(|(address, _)| managers.contains(address));
    let cut_off = !ready && !is_manager && !managers.is_empty() && known().next().is_some() && !knows_one;
    Standing { node: local.node.clone(), address: local.address.clone(), cut_off }
}

pub(super) fn availability(spec: Option<NodeSpecAvailabilityEnum>) -> Availability {
    match spec {
        Some(NodeSpecAvailabilityEnum::DRAIN) => Availability::Drain,
        Some(NodeSpecAvailabilityEnum::PAUSE) => Availability::Pause,
        _ => Availability::Active,
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{LocalNodeState, ManagerStatus, NodeStatus};

    use super::*;

    #[test]
    fn a_worker_that_looks_for_all_managers_where_none_is_any_more_is_cut_off() {
        let managers = ["10.0.0.9".to_owned(), "10.0.0.2".to_owned()].into();
        let knows = |addresses: &[&str], ready: bool| {
            let local = Local {
                state: LocalNodeState::ACTIVE,
                node: "n".into(),
                address: "10.0.0.3".into(),
                swarm: None,
                managers: vec![],
                managers_at: addresses.iter().map(|address| format!("{address}:2377")).collect(),
            };
            standing(&local, &managers, ready).cut_off
        };
        assert!(knows(&["10.0.0.1"], false));
        assert!(!knows(&["10.0.0.1"], true), "it has found one");
        assert!(!knows(&["10.0.0.1", "10.0.0.2"], false), "it comes back by itself");
        assert!(!knows(&[], false), "it does not say");
    }

    /// The only manager of a swarm that has got another address, as Docker lists it.
    #[test]
    fn a_manager_is_where_it_speaks_from_and_not_where_the_swarm_says() {
        let manager = Node {
            manager_status: Some(ManagerStatus {
                addr: Some("10.0.0.1:2377".into()),
                ..ManagerStatus::default()
            }),
            status: Some(NodeStatus { addr: Some("10.0.0.9".into()), ..NodeStatus::default() }),
            ..Node::default()
        };
        assert_eq!(manager_addresses(&[], &[manager, Node::default()]), ["10.0.0.9".to_owned()].into());
    }
}
