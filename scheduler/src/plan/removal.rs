//! Takes removals up again that came to an end without an end: whoever wished something gone sees it go.

use skep_ledger::ReadError;
use skep_model::operation::workflow;
use skep_model::{environment, host, stack};

use super::{Decision, Picture};

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    let why = || "its removal is wished and nobody works on it".to_owned();
    for environment in picture.environments.iter() {
        let subject = environment::subject(environment);
        if environment.removal.is_some() && picture.free_again(&subject) {
            let environment = environment.id.clone();
            let workflow = workflow::REMOVE_ENVIRONMENT;
            decisions.push(Decision { workflow, subject, environment, why: why() });
        }
        // Hosts and stacks of an environment that goes are its removal's business.
        for host in picture.hosts(environment) {
            let subject = host::subject(host);
            if host.removal.is_some() && environment.removal.is_none() && picture.free_again(&subject) {
                let environment = environment.id.clone();
                decisions.push(Decision {
                    workflow: workflow::REMOVE_HOST,
                    subject,
                    environment,
                    why: why(),
                });
            }
        }
        for stack in picture.stacks(environment) {
            let subject = stack::subject(stack);
            if stack.removal.is_some() && environment.removal.is_none() && picture.free_again(&subject) {
                let environment = environment.id.clone();
                decisions.push(Decision {
                    workflow: workflow::REMOVE_STACK,
                    subject,
                    environment,
                    why: why(),
                });
            }
        }
    }
    Ok(decisions)
}
