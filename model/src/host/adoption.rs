//! Adoption: a machine that is a node of a swarm already brings that swarm along, as it is.
//!
//! ```text
//!   environment without a swarm  + a manager of a swarm ─► that swarm becomes the environment's
//!   environment that has taken a swarm over + another of its nodes ─► one more host
//!   anything else ─► refused, and nothing is touched
//! ```
//! Nothing is begun, left, promoted, drained or deployed on the way: roles are wished as they are, and the environment keeps
//! as many swarm managers as have come.

use skep_ledger::Tx;

use super::{Host, WishedRole};
use crate::environment::Environment;
use crate::ids::HostId;
use crate::{Refusal, Ruling};

/// What an engine knows of the swarm that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Docker's id of the node.
    pub id: String,
    /// Is it a manager of the swarm?
    pub manager: bool,
    /// The swarm's id; empty if it does not know, which is so for workers.
    pub swarm: String,
    /// The node ids of the swarm's managers, as far as it knows them.
    pub managers: Vec<String>,
}

/// Decides about the node that a machine is when it offers itself. `Some` if its swarm is to be taken over with it.
pub(super) fn admit<'n>(
    tx: &mut Tx<'_>,
    environment: &Environment,
    name: &str,
    node: Option<&'n Node>,
    adopt: bool,
) -> Ruling<Option<&'n Node>> {
    let nothing = |why: &str| Err(Refusal::NothingToAdopt { name: name.to_owned(), why: why.to_owned() });
    let another = |why: &str| {
        let (environment, name) = (environment.name.to_string(), name.to_owned());
        Err(Refusal::AnotherSwarm { environment, name, why: why.to_owned() })
    };
    let Some(node) = node else {
        return if adopt { nothing("its engine is in no swarm") } else { Ok(None) };
    };
    let ours = is_ours(tx, environment, node)?;
    if !adopt {
        // Of our own swarm, it was taken out while it was away and does not know.
        return if ours == Some(true) {
            Ok(None)
        } else {
            Err(Refusal::NodeOfASwarm { name: name.to_owned() })
        };
    }
    match ours {
        Some(true) => Ok(Some(node)),
        Some(false) => another("it has a swarm of its own"),
        // A worker may know managers only that have not come yet; whether it is one of the swarm is seen when it is joined.
        None if environment.swarm.is_some() || environment.adopted.is_some() => Ok(Some(node)),
        None if environment.seed.is_some() => another("its own swarm is just being begun"),
        None if !node.manager => nothing("only a manager of a swarm can tell which swarm it is"),
        None => Ok(Some(node)),
    }
}

/// Is it a node of the environment's swarm? `None` if there is none yet, or the node cannot tell.
fn is_ours(tx: &mut Tx<'_>, environment: &Environment, node: &Node) -> Ruling<Option<bool>> {
    let swarm = environment.swarm.as_ref().map(|swarm| &swarm.id).or(environment.adopted.as_ref());
    let Some(swarm) = swarm else {
        return Ok(None);
    };
    if !node.swarm.is_empty() {
        return Ok(Some(node.swarm == *swarm));
    }
    let hosts = tx.list::<Host>(environment.id.as_str())?;
    let known = |host: &Host| {
        let nodes = [host.adopted.as_ref(), host.membership.as_ref().map(|membership| &membership.node)];
        host.is_swarm_manager() && nodes.into_iter().flatten().any(|id| node.managers.contains(id))
    };
    Ok(hosts.iter().any(|host| known(host)).then_some(true))
}

/// Takes the node's swarm over: the environment's from now on, with one manager more if it is one.
pub(super) fn take_over(tx: &mut Tx<'_>, environment: &Environment, host: &HostId, node: &Node) {
    let mut environment = environment.clone();
    if environment.swarm.is_none() && environment.adopted.is_none() {
        environment.adopted = Some(node.swarm.clone());
        environment.seed = Some(host.clone());
        environment.swarm_managers = 0;
    }
    if node.manager && environment.adopted.is_some() {
        environment.swarm_managers = environment.swarm_managers.saturating_add(1);
    }
    tx.put(&environment);
}

/// As it is, unless somebody wishes something else.
pub(super) fn role(wished: WishedRole, node: &Node) -> WishedRole {
    match (wished, node.manager) {
        (WishedRole::Auto, true) => WishedRole::Manager,
        (WishedRole::Auto, false) => WishedRole::Worker,
        (wished, _) => wished,
    }
}

#[cfg(test)]
#[path = "adoption_tests.rs"]
mod tests;
