//! Starts `form-swarm` wherever ready hosts and swarm disagree.

use skep_ledger::ReadError;
use skep_model::environment::{self, Environment};
use skep_model::host::{Host, Role};
use skep_model::operation::workflow;

use super::{Decision, Picture};
use crate::swarm_roles::next_change;

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for environment in picture.environments.iter().filter(|environment| environment.removal.is_none()) {
        let subject = environment::swarm(environment);
        if !picture.free(&subject) {
            continue;
        }
        let hosts = picture.hosts(environment);
        let why = match disagreement(environment, hosts) {
            None if picture.free_again(&subject) => refused(hosts),
            why => why,
        };
        if let Some(why) = why {
            let environment = environment.id.clone();
            decisions.push(Decision { workflow: workflow::FORM_SWARM, subject, environment, why });
        }
    }
    Ok(decisions)
}

fn disagreement(environment: &Environment, hosts: &[Host]) -> Option<String> {
    let mut outside = hosts.iter().filter(|host| host.is_ready() && host.membership.is_none());
    if let Some(host) = outside.find(|host| host.join_error.is_empty()) {
        return Some(format!("host {} is ready and in no swarm", host.name));
    }
    // One that was ready before is down, not on its way: nothing that `form-swarm` does brings it back, and when it comes
    // back by itself that is seen (see `health`).
    if let Some(host) = hosts.iter().find(|host| host.is_ready() && !host.is_active() && !host.was_ready) {
        return Some(format!("the swarm does not see host {} ready", host.name));
    }
    next_change(hosts, usize::from(environment.swarm_managers)).map(|(host, role)| match role {
        Role::Manager => format!("host {} should be a manager of the swarm", host.name),
        Role::Worker => format!("host {} should be no manager of the swarm any more", host.name),
    })
}

/// A host that could not join before. Nothing is new about it, so it is tried more and more seldom.
fn refused(hosts: &[Host]) -> Option<String> {
    let host = hosts.iter().find(|host| host.is_ready() && host.membership.is_none())?;
    Some(format!("host {} could not join the swarm: {}", host.name, host.join_error))
}
