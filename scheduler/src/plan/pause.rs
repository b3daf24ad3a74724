//! Keeps environments at rest that are to rest, and wakes those that are not: a host that comes while its environment
//! rests takes no tasks either, and one that could not be woken is woken when it can be.

use skep_ledger::ReadError;
use skep_model::host::Host;
use skep_model::operation::workflow;
use skep_model::placement::Availability;
use skep_model::{environment, host};

use super::{Decision, Picture};

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for environment in picture.environments.iter().filter(|environment| environment.removal.is_none()) {
        let hosts = || picture.hosts(environment).iter().filter(|host| host.removal.is_none());
        let (workflow, why) = match &environment.pause {
            Some(pause) if pause.running != Some(0) => {
                (workflow::PAUSE_ENVIRONMENT, Some("it is to rest, and tasks may still run".to_owned()))
            }
            Some(_) => {
                let at_work = hosts().find(|host| takes_tasks(host));
                let why = at_work.map(|host| format!("{} takes tasks, and its environment rests", host.name));
                (workflow::PAUSE_ENVIRONMENT, why)
            }
            // A host's own operation wakes it when it has done its work.
            None => {
                let asleep =
                    hosts().find(|host| host.is_suspended() && picture.is_free(&host::subject(host)));
                let why = asleep.map(|host| format!("{} is to take tasks again", host.name));
                (workflow::RESUME_ENVIRONMENT, why)
            }
        };
        let subject = environment::subject(environment);
        if let Some(why) = why
            && picture.free_again(&subject)
        {
            let environment = environment.id.clone();
            decisions.push(Decision { workflow, subject, environment, why });
        }
    }
    Ok(decisions)
}

/// Whoever was suspended and takes tasks all the same was changed by somebody else, who knows better.
fn takes_tasks(host: &Host) -> bool {
    let node = host.membership.as_ref().filter(|_| host.is_active() && !host.is_suspended());
    node.is_some_and(|node| node.availability != Availability::Drain)
}
