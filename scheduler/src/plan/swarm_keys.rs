//! Starts what keys of swarms need and nobody asks for: settings in a swarm that did not have them when they were wished,
//! and the unlock key for engines that have started. The latter also where an environment rests: its swarm goes on.

use skep_ledger::ReadError;
use skep_model::operation::{Subject, workflow};
use skep_model::{environment, swarm_keys};

use super::{Decision, Picture};

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for environment in picture.environments.iter().filter(|environment| environment.removal.is_none()) {
        let hosts = picture.hosts(environment);
        let mut decide = |workflow, subject: Subject, why: String| {
            if picture.free_again(&subject) {
                decisions.push(Decision { workflow, subject, environment: environment.id.clone(), why });
            }
        };
        let locked = hosts.iter().find(|host| host.swarm_locked && host.is_ready());
        if let Some(host) = locked.filter(|_| environment.keys.unlock_keys().next().is_some()) {
            let why = format!("the engine of {} has started and waits for the unlock key", host.name);
            decide(workflow::UNLOCK_SWARM, swarm_keys::lock(environment), why);
        }
        let at_work = environment.pause.is_none();
        let can_be_changed = at_work && environment.swarm.is_some() && environment.managers_agree(hosts);
        if environment.keys.outstanding() && can_be_changed {
            let why = "the swarm does not have what is wished for its keys".to_owned();
            decide(workflow::UPDATE_SWARM, environment::swarm(environment), why);
        }
    }
    Ok(decisions)
}
