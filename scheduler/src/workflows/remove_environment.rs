//! Removes an environment: its stacks go with its swarm, its hosts are removed one by one, its record last.

use skep_model::operation::workflow;

use crate::{At, Effect, Next, Step, Workflow};

/// A large environment takes its time; each host's removal has deadlines of its own.
const HOSTS_MAX_SECS: i64 = 3_600;

/// What one transaction holds easily: each host's record and an operation.
const ASKED_AT_ONCE_MAX: usize = 100;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::REMOVE_ENVIRONMENT,
    steps: &[
        Step::new("hosts", hosts)
            .leaving("the removal of its hosts goes on")
            .for_good()
            .within(HOSTS_MAX_SECS, crate::Late::Turn),
        Step::new("stacks", stacks).leaving("its stacks are forgotten").for_good(),
        Step::new("forget", forget).leaving("the environment is forgotten").for_good(),
    ],
};

fn hosts(at: &At) -> Next {
    let Some(environment) = &at.environment else {
        return Next::Done;
    };
    let unasked = at.hosts.iter().filter(|host| host.removal.is_none()).map(|host| host.id.clone());
    let unasked: Vec<_> = unasked.take(ASKED_AT_ONCE_MAX).collect();
    if !unasked.is_empty() {
        return Next::Do(Effect::RemoveHosts(environment.id.clone(), unasked));
    }
    match at.hosts.len() {
        0 => Next::Done,
        left => Next::Wait(format!("{left} hosts are being removed")),
    }
}

fn stacks(at: &At) -> Next {
    match at.stacks.first() {
        None => Next::Done,
        Some(stack) => Next::Do(Effect::ForgetStack(stack.environment.clone(), stack.name.clone())),
    }
}

fn forget(at: &At) -> Next {
    match &at.environment {
        None => Next::Done,
        Some(environment) => Next::Do(Effect::ForgetEnvironment(environment.id.clone())),
    }
}
