//! Lets an environment rest: whatever is going on in it comes to its end, its hosts are drained, its tasks stop.
//!
//! Services are not touched, so whatever is wished for them runs again when the hosts take tasks again. Turned around,
//! the hosts take what they took before.

use skep_model::environment::Environment;
use skep_model::operation::workflow;
use skep_model::placement::Availability;
use skep_model::{environment, host, stack};

use super::suspension;
use crate::{At, Effect, Late, Next, Step, Workflow};

/// Time for deployments and changes of hosts that were begun before; new ones are refused.
const QUIET_MAX_SECS: i64 = 900;

/// Time for tasks to stop; services may ask for long goodbyes.
const STOP_MAX_SECS: i64 = 900;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::PAUSE_ENVIRONMENT,
    steps: &[
        Step::new("quiet", quiet)
            .undone_by(lift, "the environment is at work again")
            .within(QUIET_MAX_SECS, Late::Turn),
        Step::new("drain", drain)
            .leaving("hosts that were drained take no tasks until the environment is resumed")
            .undone_by(suspension::wake_all, "its hosts take tasks as before"),
        Step::new("stop", stop).within(STOP_MAX_SECS, Late::Turn),
    ],
};

fn quiet(at: &At) -> Next {
    with_pause(at, |place| {
        let mut subjects = vec![environment::swarm(place)];
        subjects.extend(at.hosts.iter().map(host::subject));
        subjects.extend(at.stacks.iter().map(stack::subject));
        let busy = subjects.iter().filter(|subject| at.busy.contains(&subject.index()));
        let busy: Vec<_> = busy.map(|subject| subject.to_string()).collect();
        match busy.is_empty() {
            true => Next::Done,
            false => Next::Wait(format!("waits for what is going on with {}", busy.join(", "))),
        }
    })
}

fn drain(at: &At) -> Next {
    let takes_tasks = |host: &&host::Host| {
        host.membership.as_ref().is_some_and(|node| node.availability != Availability::Drain)
    };
    with_pause(at, |_| suspension::suspend(at, at.hosts.iter().filter(takes_tasks)))
}

fn stop(at: &At) -> Next {
    with_pause(at, |place| match place.pause.as_ref().and_then(|pause| pause.running) {
        Some(0) => Next::Done,
        seen => {
            let observe = Effect::ObserveTasks { environment: place.id.clone(), seen };
            // Where there is no swarm, nobody has to be asked.
            if place.swarm.is_none() { Next::Do(observe) } else { suspension::with_manager(at, observe) }
        }
    })
}

fn lift(at: &At) -> Next {
    match &at.environment {
        Some(place) if place.pause.is_some() => Next::Do(Effect::LiftPause(place.id.clone())),
        _ => Next::Done,
    }
}

fn with_pause(at: &At, ask: impl FnOnce(&Environment) -> Next) -> Next {
    match &at.environment {
        Some(place) if place.removal.is_none() && place.pause.is_some() => ask(place),
        Some(place) if place.removal.is_none() => Next::Turn("it was asked to be at work again".into()),
        _ => Next::Turn("the environment is being removed".into()),
    }
}
