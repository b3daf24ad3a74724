//! Brings an environment to life: waits until the hosts it was wished with do their part in its swarm.
//!
//! The hosts are made by operations of their own (`create-host`), the swarm by `form-swarm`. If a host cannot be
//! made, the environment stays, with what there is: its owner decides whether to add another host or remove it.
//! Whoever cancels it cancels the creation of the hosts that are not there yet.

use skep_model::host::Host;
use skep_model::operation::workflow;

use crate::{At, Effect, Late, Next, Step, Workflow};

/// Each host's creation has deadlines of its own, after which it is not waited for; a large environment takes its time.
const HOSTS_MAX_SECS: i64 = 3_600;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::CREATE_ENVIRONMENT,
    steps: &[
        Step::new("hosts", hosts)
            .undone_by(
                open,
                "the environment is opened with the hosts that it has by then; those that are still being created are given up, and \
                 their machines given back",
            )
            .within(HOSTS_MAX_SECS, Late::Turn),
        Step::new("open", open).leaving("the environment is open"),
    ],
};

fn hosts(at: &At) -> Next {
    if at.environment_goes() {
        return Next::Turn("the environment is being removed".into());
    }
    let mut missing = at.hosts.iter().filter(|host| !host.is_active() && host.removal.is_none()).peekable();
    if missing.peek().is_none() {
        return Next::Done;
    }
    let missing: Vec<&Host> = missing.collect();
    // A member of the swarm that is not active is away for a moment; one that nobody works on will not come.
    let given_up =
        |host: &&&Host| host.membership.is_none() && !at.busy.contains(&format!("host/{}", host.id));
    match missing.iter().find(given_up) {
        Some(host) => Next::Turn(format!("host {} did not become active: {}", host.name, host.state().why)),
        None => {
            let all: Vec<_> =
                missing.iter().map(|host| format!("{}: {}", host.name, host.state().why)).collect();
            Next::Wait(all.join("; "))
        }
    }
}

fn open(at: &At) -> Next {
    match &at.environment {
        Some(environment) if !environment.opened => Next::Do(Effect::OpenEnvironment(environment.id.clone())),
        _ => Next::Done,
    }
}
