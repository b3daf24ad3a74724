//! Nodes that take no tasks for a while, for an environment that rests or a host that is worked on.

use bollard::models::{NodeSpecAvailabilityEnum, NodeState};
use skep_model::fact::Fact;
use skep_model::host::Host;
use skep_model::ids::HostId;
use skep_model::name::Name;
use skep_model::placement::Availability;

use super::Site;
use super::reached::Reached;
use super::swarm::{node, observe_through, runs, update};
use crate::world::EffectError;

/// Drains nodes, and says what they took until then, of those that took anything.
pub(super) async fn suspend(site: &Site, hosts: &[(HostId, Name)]) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let mut facts = vec![];
    for (id, _) in hosts {
        match suspend_one(&manager, site.host(id)?).await {
            Ok(fact) => facts.push(fact),
            Err(error) => return Err(error.knowing(facts)),
        }
    }
    seen(site, &manager, facts).await
}

async fn suspend_one(manager: &Reached, host: &Host) -> Result<Fact, EffectError> {
    let mut before = None;
    update(manager, node(host)?, |spec| {
        before = spec.availability.replace(NodeSpecAvailabilityEnum::DRAIN).and_then(taking);
        before.is_some()
    })
    .await?;
    Ok(Fact::NodeSuspended(host.environment.clone(), host.id.clone(), before))
}

/// Lets nodes take what was kept. One that is not drained any more was changed by somebody else, who knows better.
pub(super) async fn wake(site: &Site, hosts: &[(HostId, Name)]) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let mut facts = vec![];
    for (id, _) in hosts {
        match wake_one(&manager, site.host(id)?).await {
            Ok(fact) => facts.push(fact),
            Err(error) => return Err(error.knowing(facts)),
        }
    }
    seen(site, &manager, facts).await
}

async fn wake_one(manager: &Reached, host: &Host) -> Result<Fact, EffectError> {
    if let Some(kept) = host.placement.kept {
        let kept = match kept {
            Availability::Active => NodeSpecAvailabilityEnum::ACTIVE,
            Availability::Pause => NodeSpecAvailabilityEnum::PAUSE,
            Availability::Drain => NodeSpecAvailabilityEnum::DRAIN,
        };
        update(manager, node(host)?, |spec| {
            let drained = spec.availability == Some(NodeSpecAvailabilityEnum::DRAIN);
            drained && spec.availability.replace(kept) != Some(kept)
        })
        .await?;
    }
    Ok(Fact::NodeWoken(host.environment.clone(), host.id.clone()))
}

/// What the swarm says afterwards goes with it; what was done is known also if it says nothing.
async fn seen(site: &Site, manager: &Reached, mut facts: Vec<Fact>) -> Result<Vec<Fact>, EffectError> {
    match observe_through(site, manager).await {
        Ok(seen) => {
            facts.splice(0..0, seen);
            Ok(facts)
        }
        Err(error) => Err(error.knowing(facts)),
    }
}

/// Counts the tasks that run on nodes that are there. What runs on a node that is lost ends when it comes back.
pub(super) async fn observe(site: &Site) -> Result<Vec<Fact>, EffectError> {
    if site.environment.swarm.is_none() {
        return Ok(vec![Fact::TasksSeen(site.environment.id.clone(), 0)]);
    }
    let manager = site.manager(None)?;
    let nodes = manager.list_nodes(None).await.map_err(manager.failed("listing the nodes"))?;
    let is_ready = |id: &Option<String>| {
        let found = nodes.iter().find(|node| node.id == *id);
        found.and_then(|node| node.status.as_ref()?.state) == Some(NodeState::READY)
    };
    let tasks = manager.list_tasks(None).await.map_err(manager.failed("listing tasks"))?;
    let running = tasks.iter().filter(|task| runs(task) && is_ready(&task.node_id)).count();
    Ok(vec![Fact::TasksSeen(site.environment.id.clone(), running as u64)])
}

fn taking(availability: NodeSpecAvailabilityEnum) -> Option<Availability> {
    match availability {
        NodeSpecAvailabilityEnum::ACTIVE => Some(Availability::Active),
        NodeSpecAvailabilityEnum::PAUSE => Some(Availability::Pause),
        _ => None,
    }
}
