//! Hosts that take no tasks for a while, and what runs on them afterwards: conditions that several workflows have.

use skep_model::host::Host;
use skep_model::ids::{EnvironmentId, HostId};
use skep_model::name::Name;
use skep_model::stack::Stack;

use super::deploy_stack;
use crate::{At, Effect, Next};

/// Nodes that are changed in one go: two short conversations with a manager each, well within the time of an effect.
const NODES_AT_ONCE_MAX: usize = 50;

/// Asks the swarm for something, if there is anybody to ask.
pub(super) fn with_manager(at: &At, effect: Effect) -> Next {
    match at.swarm_managers().next() {
        Some(_) => Next::Do(effect),
        None => Next::Wait("no manager of the environment's swarm can be reached".into()),
    }
}

/// These hosts take no tasks.
pub(super) fn suspend<'a>(at: &At, hosts: impl Iterator<Item = &'a Host>) -> Next {
    on_nodes(at, hosts, |environment, hosts| Effect::SuspendNodes { environment, hosts })
}

/// Those of these hosts that were suspended take what they took before; in an environment that goes they need not.
pub(super) fn wake<'a>(at: &At, hosts: impl Iterator<Item = &'a Host>) -> Next {
    let asleep = hosts.filter(|host| host.is_suspended() && host.removal.is_none() && !at.environment_goes());
    on_nodes(at, asleep, |environment, hosts| Effect::WakeNodes { environment, hosts })
}

/// All hosts take what they took before.
pub(super) fn wake_all(at: &At) -> Next {
    wake(at, at.hosts.iter())
}

fn on_nodes<'a>(
    at: &At,
    hosts: impl Iterator<Item = &'a Host>,
    effect: fn(EnvironmentId, Vec<(HostId, Name)>) -> Effect,
) -> Next {
    let hosts: Vec<_> =
        hosts.take(NODES_AT_ONCE_MAX).map(|host| (host.id.clone(), host.name.clone())).collect();
    match &at.environment {
        Some(place) if !hosts.is_empty() => with_manager(at, effect(place.id.clone(), hosts)),
        _ => Next::Done,
    }
}

/// Every stack that has run as wished before runs as wished.
pub(super) fn stacks_run(at: &At) -> Next {
    let ran = |stack: &&Stack| stack.removal.is_none() && stack.settled == stack.generation;
    let missing = |stack: &&Stack| !stack.converged();
    match at.stacks.iter().filter(ran).find(missing) {
        None => Next::Done,
        Some(stack) => match stack.failure() {
            Some(failure) => Next::Turn(format!("stack {}: {failure}", stack.name)),
            None => with_manager(at, deploy_stack::observe(stack)),
        },
    }
}
