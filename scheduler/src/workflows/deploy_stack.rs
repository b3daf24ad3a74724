//! Makes a recipe into running services: networks first, then services, then waits until their tasks run.
//!
//! Nothing is given back when tasks do not come up: the stack stays as deployed, so that its logs can be read, and
//! the operation says which service did not converge and why.

use skep_model::operation::workflow;
use skep_model::stack::Stack;

use crate::{At, Effect, Late, Next, Step, Workflow};

/// From services that exist to tasks that run: time for images to be pulled and health checks to pass.
const CONVERGE_MAX_SECS: i64 = 300;

/// Each host gives reaching, mounting and writing less than half a minute.
const VOLUMES_MAX_SECS: i64 = 120;

const OVERTAKEN: &str = "a newer deployment has taken its place";

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::DEPLOY_STACK,
    steps: &[
        Step::new("swarm", swarm),
        Step::new("volumes", volumes)
            .leaving("folders of the stack's volumes stay on the NFS server")
            .within(VOLUMES_MAX_SECS, Late::Turn),
        Step::new("networks", networks).leaving("the stack's networks stay"),
        Step::new("services", services).leaving("the stack's services stay as they are now"),
        Step::new("converge", converge).within(CONVERGE_MAX_SECS, Late::Turn),
    ],
};

fn swarm(at: &At) -> Next {
    with_stack(at, |_| match at.swarm_managers().next() {
        Some(_) => Next::Done,
        None => Next::Wait("no manager of the environment's swarm can be reached".into()),
    })
}

/// A task whose volume cannot be mounted waits without a word, so hosts try it before there is one.
fn volumes(at: &At) -> Next {
    with_stack(at, |stack| {
        if !stack.recipe.uses_nfs() || stack.volumes_checked == stack.generation {
            return Next::Done;
        }
        Next::Do(Effect::EnsureVolumes {
            environment: stack.environment.clone(),
            stack: stack.name.clone(),
            generation: stack.generation,
        })
    })
}

fn networks(at: &At) -> Next {
    with_stack(at, |stack| {
        if stack.networks_made == stack.generation {
            return Next::Done;
        }
        Next::Do(Effect::EnsureNetworks {
            environment: stack.environment.clone(),
            stack: stack.name.clone(),
            generation: stack.generation,
        })
    })
}

fn services(at: &At) -> Next {
    with_stack(at, |stack| {
        if stack.services_made == stack.generation {
            return Next::Done;
        }
        if stack.networks_made != stack.generation {
            return Next::Turn(OVERTAKEN.into());
        }
        Next::Do(Effect::EnsureServices {
            environment: stack.environment.clone(),
            stack: stack.name.clone(),
            generation: stack.generation,
        })
    })
}

fn converge(at: &At) -> Next {
    with_stack(at, |stack| {
        if stack.services_made != stack.generation {
            return Next::Turn(OVERTAKEN.into());
        }
        // Docker gives an update up by itself; waiting for it would be in vain.
        if let Some(failure) = stack.failure() {
            return Next::Turn(failure);
        }
        if stack.converged() {
            return Next::Done;
        }
        Next::Do(observe(stack))
    })
}

pub(super) fn observe(stack: &Stack) -> Effect {
    Effect::ObserveStack {
        environment: stack.environment.clone(),
        stack: stack.name.clone(),
        generation: stack.generation,
        seen: seen(stack),
    }
}

fn seen(stack: &Stack) -> String {
    let of = |name: &str| stack.seen.iter().find(|service| service.name == name);
    let words: Vec<_> = stack
        .recipe
        .services
        .iter()
        .map(|service| match of(&service.name) {
            Some(seen) if seen.error.is_empty() => format!("{} {}/{}", seen.name, seen.running, seen.desired),
            Some(seen) => format!("{} {}/{} ({})", seen.name, seen.running, seen.desired, seen.error),
            None => format!("{} not seen yet", service.name),
        })
        .collect();
    words.join(", ")
}

fn with_stack(at: &At, ask: impl FnOnce(&Stack) -> Next) -> Next {
    match at.stack() {
        None => Next::Turn("the stack is gone".into()),
        Some(stack) if stack.removal.is_some() => Next::Turn("its removal was asked for".into()),
        Some(stack) => ask(stack),
    }
}
