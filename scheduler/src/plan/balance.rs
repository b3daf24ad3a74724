//! Starts `rebalance-swarm` once after a host has begun to take tasks, where that is wished and everything is well.

use jiff::SignedDuration;
use skep_ledger::ReadError;
use skep_model::balance;
use skep_model::environment::Environment;
use skep_model::host::{self, Host};
use skep_model::operation::workflow;
use skep_model::placement::Availability;
use skep_model::stack::{self, Stack};

use super::{Decision, Picture};

/// After a host has joined, Docker itself places what it owes it: global services, and tasks that had no room before.
const JOINED_PAUSE_SECS: i64 = 30;

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    let wished = |environment: &&Environment| environment.removal.is_none() && environment.upkeep.rebalance;
    for environment in picture.environments.iter().filter(wished) {
        let subject = balance::subject(environment);
        let Some(newcomer) = newcomer(environment, picture.hosts(environment), picture) else { continue };
        let stacks = picture.stacks(environment);
        if picture.free(&subject) && all_is_calm(picture, environment, stacks) {
            decisions.push(Decision {
                workflow: workflow::REBALANCE_SWARM,
                subject,
                environment: environment.id.clone(),
                why: format!("host {} has joined since tasks were last spread", newcomer.name),
            });
        }
    }
    Ok(decisions)
}

/// A host that takes tasks since the newest pass was decided, if the last of them has had its pause.
fn newcomer<'a>(environment: &Environment, hosts: &'a [Host], picture: &Picture) -> Option<&'a Host> {
    let begun = environment.balance.as_ref()?.begun;
    let takes_tasks = |host: &&Host| {
        let node = host.membership.as_ref().filter(|_| host.is_active());
        node.is_some_and(|node| node.availability == Availability::Active)
    };
    let joined = hosts.iter().filter(takes_tasks).filter_map(|host| Some((host, host.node_since?)));
    let (newest, since) = joined.filter(|(_, since)| *since > begun).max_by_key(|(_, since)| *since)?;
    (since + SignedDuration::from_secs(JOINED_PAUSE_SECS) <= picture.now).then_some(newest)
}

/// Every host does its part, every stack runs as wished, and nobody works on any of them.
fn all_is_calm(picture: &Picture, environment: &Environment, stacks: &[Stack]) -> bool {
    let hosts = picture.hosts(environment);
    !stacks.is_empty()
        && stacks.iter().all(|stack| {
            stack.removal.is_none() && stack.converged() && picture.is_free(&stack::subject(stack))
        })
        && hosts.iter().all(|host| host.is_active() && picture.is_free(&host::subject(host)))
        && picture.is_free(&skep_model::environment::swarm(environment))
}
