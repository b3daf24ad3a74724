//! Removes an environment: its stacks go with its swarm, its hosts are removed one by one, its record last.
//!
//! It comes to its end whatever hosts and drivers do. Each host's removal is tried for as long as that is given time; a
//! machine that its driver does not take back by then is left behind: the cloud ledger keeps it, `release-machine` goes
//! on trying, and this operation names it at its end.

use skep_model::host::Host;
use skep_model::operation::workflow;

use crate::{At, Effect, Late, Next, Step, Workflow};

/// Each host's removal has deadlines of its own; a thousand machines are given back eight at a time, and may take almost
/// three minutes each. What is not through by then is taken up again.
const HOSTS_MAX_SECS: i64 = 6 * 3_600;

/// What one transaction holds easily: each host's record and an operation.
const ASKED_AT_ONCE_MAX: usize = 100;

/// Hosts that are named while they are waited for; the others are counted.
const NAMED_MAX: usize = 5;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::REMOVE_ENVIRONMENT,
    steps: &[
        Step::new("hosts", hosts)
            .leaving("the removal of its hosts goes on")
            .for_good()
            .within(HOSTS_MAX_SECS, Late::Turn),
        Step::new("stacks", stacks).leaving("its stacks are forgotten").for_good(),
        Step::new("forget", forget).leaving("the environment is forgotten").for_good(),
    ],
};

fn hosts(at: &At) -> Next {
    let Some(environment) = &at.environment else {
        return Next::Done;
    };
    let idle = || at.hosts.iter().filter(|host| at.is_idle(host) || host.removal.is_none());
    let unasked = idle().filter(|host| host.removal.is_none() || at.failure_of(host).is_none());
    let unasked: Vec<_> = unasked.take(ASKED_AT_ONCE_MAX).map(|host| host.id.clone()).collect();
    if !unasked.is_empty() {
        return Next::Do(Effect::RemoveHosts(environment.id.clone(), unasked));
    }
    let stuck = |host: &Host| Some((host.id.clone(), host.name.clone(), at.failure_of(host)?.why.clone()));
    let stuck: Vec<_> = idle().filter_map(stuck).take(ASKED_AT_ONCE_MAX).collect();
    if !stuck.is_empty() {
        return Next::Do(Effect::LeaveBehind(environment.id.clone(), stuck));
    }
    match at.hosts.as_slice() {
        [] => Next::Done,
        left => Next::Wait(progress(environment.hosts_at_removal, left)),
    }
}

/// How many of how many, and who is still there.
fn progress(total: usize, left: &[Host]) -> String {
    // An earlier version has not counted them.
    let total = total.max(left.len());
    let mut names: Vec<_> = left.iter().take(NAMED_MAX).map(|host| host.name.to_string()).collect();
    if left.len() > NAMED_MAX {
        names.push(format!("{} others", left.len() - NAMED_MAX));
    }
    format!("{} of {total} hosts are removed; still there: {}", total - left.len(), names.join(", "))
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
