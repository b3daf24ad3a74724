//! Lets an environment that rests be at work again: its hosts take what they took before, its services run.
//!
//! Only stacks that have run as wished before are waited for: what was broken when the environment was paused is so still.

use skep_model::operation::workflow;

use super::suspension;
use crate::{At, Late, Next, Step, Workflow};

/// Time for tasks to start, and for health checks to pass.
const RUNNING_MAX_SECS: i64 = 300;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::RESUME_ENVIRONMENT,
    steps: &[
        Step::new("wake", wake).leaving("hosts that take tasks again go on doing so").for_good(),
        Step::new("running", running).within(RUNNING_MAX_SECS, Late::Turn),
    ],
};

fn wake(at: &At) -> Next {
    with_environment(at, suspension::wake_all)
}

fn running(at: &At) -> Next {
    with_environment(at, suspension::stacks_run)
}

fn with_environment(at: &At, ask: fn(&At) -> Next) -> Next {
    match &at.environment {
        Some(place) if place.removal.is_none() && place.pause.is_none() => ask(at),
        Some(place) if place.removal.is_none() => Next::Turn("it was asked to rest again".into()),
        _ => Next::Turn("the environment is being removed".into()),
    }
}
