//! Takes a host out of its swarm, from both sides.

use bollard::models::LocalNodeState;
use bollard::query_parameters::DeleteNodeOptions;
use skep_model::fact::Fact;
use skep_model::host::Host;

use super::own_words::local_state;
use super::swarm::{Stands, leave_here, listed, members, node, own_nodes, stands, try_to_forget, was_ours};
use super::{Site, not_found};
use crate::world::EffectError;

/// Takes a host out of the swarm from both sides, as far as they can be reached. If the swarm goes as a whole, its managers
/// have nothing to agree on any more.
pub(super) async fn leave(site: &Site, host: &Host) -> Result<Vec<Fact>, EffectError> {
    if host.membership.is_none() {
        return leave_unseen(site, host).await;
    }
    if host.agent.connected && host.agent.engine_up {
        let docker = site.docker(host);
        if local_state(&docker).await?.state != LocalNodeState::INACTIVE {
            leave_here(&docker).await?;
        }
    }
    let other_manages = site.hosts.iter().any(|other| other.id != host.id && other.is_swarm_manager());
    if site.environment.removal.is_none() && other_manages {
        let manager = site.manager(Some(host))?;
        match manager.delete_node(node(host)?, Some(DeleteNodeOptions { force: true })).await {
            // Passing, also where the engine calls it a bad request: a manager that is down goes once it is demoted.
            Err(error) if !not_found(&error) => {
                return Err(EffectError { retryable: true, ..manager.failed("removing the node")(error) });
            }
            _ => {}
        }
    }
    Ok(vec![Fact::LeftSwarm(host.environment.clone(), host.id.clone())])
}

/// As [`leave`] for a host that nobody has seen in the swarm. If it is in it all the same, that is what is found out: there is
/// more to do then than to leave. Whatever else its engine is part of is not ours to end.
async fn leave_unseen(site: &Site, host: &Host) -> Result<Vec<Fact>, EffectError> {
    let docker = site.docker(host);
    let local = local_state(&docker).await?;
    let manager = site.manager(Some(host)).ok().filter(|_| site.environment.removal.is_none());
    let (swarm, nodes) = match &manager {
        Some(manager) => listed(manager).await?,
        None => Default::default(),
    };
    let ids: Vec<_> = nodes.iter().filter_map(|node| node.id.clone()).collect();
    let is_ours = was_ours(host, &local, manager.as_ref().map(|_| swarm.as_str()), &ids);
    match stands(&local, is_ours, &ids) {
        Stands::In => {
            let members = members(&site.hosts, &nodes);
            if members.iter().any(|(id, _)| *id == host.id) {
                return Ok(vec![Fact::SwarmSeen(site.environment.id.clone(), swarm, members)]);
            }
            leave_here(&docker).await?;
        }
        Stands::Forgotten | Stands::StillJoining => leave_here(&docker).await?,
        Stands::Elsewhere | Stands::Outside => {}
    }
    if let Some(manager) = manager.filter(|_| host.adopted.is_none()) {
        for ghost in own_nodes(host, &site.hosts, &nodes).filter_map(|node| node.id.as_deref()) {
            try_to_forget(&manager, host, ghost).await;
        }
    }
    Ok(vec![Fact::LeftSwarm(host.environment.clone(), host.id.clone())])
}
