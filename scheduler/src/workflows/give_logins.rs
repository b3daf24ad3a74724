//! Brings another login to a registry to the services of a stack that use it.
//!
//! Started by a planner when somebody has logged in or out. Tasks go on running.

use skep_model::operation::workflow;

use crate::{At, Effect, Next, Step, Workflow};

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::GIVE_LOGINS,
    steps: &[Step::new("services", services).leaving("services keep the logins that they have got")],
};

fn services(at: &At) -> Next {
    match at.stack() {
        None => Next::Turn("the stack is gone".into()),
        Some(stack) if stack.removal.is_some() => Next::Turn("its removal was asked for".into()),
        Some(stack) if at.logins_of(stack) == stack.logins => Next::Done,
        Some(_) if at.swarm_managers().next().is_none() => {
            Next::Wait("no manager of the environment's swarm can be reached".into())
        }
        Some(stack) => {
            Next::Do(Effect::GiveLogins { environment: stack.environment.clone(), stack: stack.name.clone() })
        }
    }
}
