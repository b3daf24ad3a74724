//! Brings what is wished for a swarm's keys and certificates into it: whether its managers are locked, and how long the
//! certificates of its nodes are valid.
//!
//! A swarm that is still to be formed gets it when it is there: a planner starts this then.

use skep_model::operation::workflow;

use super::with_swarm;
use crate::{At, Effect, Next, Step, Workflow};

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::UPDATE_SWARM,
    steps: &[Step::new("settings", settings)
        .leaving("what is wished for the swarm stays wished, and is tried again")],
};

fn settings(at: &At) -> Next {
    if at.environment.as_ref().is_some_and(|environment| environment.swarm.is_none()) {
        return Next::Done;
    }
    with_swarm(at, |environment| match environment.keys.outstanding() {
        false => Next::Done,
        true => Next::Do(Effect::ApplySwarmSettings {
            environment: environment.id.clone(),
            generation: environment.keys.generation,
        }),
    })
}
