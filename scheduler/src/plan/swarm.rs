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
        if let Some(why) = disagreement(environment, &picture.hosts(environment)?) {
            let environment = environment.id.clone();
            decisions.push(Decision { workflow: workflow::FORM_SWARM, subject, environment, why });
        }
    }
    Ok(decisions)
}

fn disagreement(environment: &Environment, hosts: &[Host]) -> Option<String> {
    if let Some(host) = hosts.iter().find(|host| host.is_ready() && host.membership.is_none()) {
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
