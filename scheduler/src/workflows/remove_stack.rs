//! Removes a stack: its services and networks from the swarm, then its record.

use skep_model::operation::workflow;

use crate::{At, Effect, Next, Step, Workflow};

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::REMOVE_STACK,
    steps: &[
        Step::new("withdraw", withdraw).leaving("services and networks that are gone stay gone").for_good(),
        Step::new("forget", forget).leaving("the stack is forgotten").for_good(),
    ],
};

fn withdraw(at: &At) -> Next {
    let Some(stack) = at.stack().filter(|stack| !stack.withdrawn) else {
        return Next::Done;
    };
    let swarm_is_gone = at.environment.as_ref().is_none_or(|environment| environment.swarm.is_none());
    if swarm_is_gone {
        return Next::Done;
    }
    match at.swarm_managers().next() {
        None => Next::Wait("no manager of the environment's swarm can be reached".into()),
        Some(_) => Next::Do(Effect::WithdrawStack {
            environment: stack.environment.clone(),
            stack: stack.name.clone(),
        }),
    }
}

fn forget(at: &At) -> Next {
    match at.stack() {
        None => Next::Done,
        Some(stack) => Next::Do(Effect::ForgetStack(stack.environment.clone(), stack.name.clone())),
    }
}
