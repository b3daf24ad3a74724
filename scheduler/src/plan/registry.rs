//! Starts `give-logins` for stacks whose services have another login to a registry than they should.

use skep_ledger::ReadError;
use skep_model::operation::workflow;
use skep_model::registry::{RegistryLogin, logins_of};
use skep_model::stack;

use super::{Decision, Picture};

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for environment in picture.at_work() {
        let stacks = picture.stacks(environment);
        if stacks.is_empty() {
            continue;
        }
        let logins = picture.view.list::<RegistryLogin>(environment.id.as_str())?;
        for stack in stacks {
            let subject = stack::subject(stack);
            // A deployment that is under way gives them along.
            let settled = stack.services_made == stack.generation && stack.removal.is_none();
            if settled && stack.logins != logins_of(stack, &logins) && picture.free_again(&subject) {
                decisions.push(Decision {
                    workflow: workflow::GIVE_LOGINS,
                    subject,
                    environment: environment.id.clone(),
                    why: "a login to a registry that its services use was changed".to_owned(),
                });
            }
        }
    }
    Ok(decisions)
}
