//! Brings what is wished for a host's node into the swarm: whether it takes tasks, and its labels.
//!
//! A host that is in no swarm yet gets it when it joins: a planner starts this then. An evacuation waits until the last
//! task has moved, so that whoever asked for it may switch the machine off afterwards.

use skep_model::host::Host;
use skep_model::operation::workflow;
use skep_model::placement::Availability;

use crate::{At, Effect, Late, Next, Step, Workflow};

/// Time for tasks to stop gracefully and start elsewhere; services may ask for long goodbyes.
const EVACUATE_MAX_SECS: i64 = 900;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::UPDATE_HOST,
    steps: &[
        Step::new("node", node).leaving("availability and labels stay as wished: a host that was evacuated takes no tasks until it is uncordoned"),
        Step::new("evacuate", evacuate)
            .leaving("the host takes no tasks until it is uncordoned")
            .within(EVACUATE_MAX_SECS, Late::Turn),
    ],
};

fn node(at: &At) -> Next {
    with_member(at, |host| match host.outstanding() {
        false => Next::Done,
        true => apply(host),
    })
}

pub(super) fn apply(host: &Host) -> Next {
    Next::Do(Effect::UpdateNode {
        environment: host.environment.clone(),
        host: host.id.clone(),
        name: host.name.clone(),
        generation: host.placement.generation,
    })
}

fn evacuate(at: &At) -> Next {
    with_member(at, |host| match host.placement.availability == Availability::Drain && !host.evacuated {
        // Whoever waits for an empty host must not be told that it is one.
        false if host.placement.outstanding() => {
            Next::Turn("something else was wished for the host meanwhile".into())
        }
        false => Next::Done,
        true => Next::Do(Effect::ObserveEvacuation {
            environment: host.environment.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
        }),
    })
}

fn with_member(at: &At, ask: impl FnOnce(&Host) -> Next) -> Next {
    match at.host() {
        None => Next::Turn("the host is gone".into()),
        Some(host) if host.removal.is_some() => Next::Turn("its removal was asked for".into()),
        Some(host) if host.membership.is_none() => Next::Done,
        Some(host) if at.swarm_managers().next().is_none() => {
            Next::Wait(format!("no manager of the swarm can be reached to change {}", host.name))
        }
        Some(host) => ask(host),
    }
}
