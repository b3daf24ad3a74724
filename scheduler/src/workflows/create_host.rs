//! Brings a wished-for host to life: a machine is asked for, its agent registers and connects, its engine answers,
//! it becomes a member of the environment's swarm. A host that has registered itself comes with its machine.
//!
//! Turned around, it gives the machine back. How hosts become one swarm is `form_swarm`'s business; here that is
//! only waited for.

use skep_model::host::Host;
use skep_model::operation::workflow;

use crate::{At, Effect, Late, Next, Step, Workflow};

/// From a machine that exists to an agent that reports; a slow cloud image boots in two or three minutes.
const BOOT_MAX_SECS: i64 = 600;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::CREATE_HOST,
    steps: &[
        Step::new("machine", machine)
            .leaving("the machine stays where its driver made it, and in the cloud ledger")
            .undone_by(super::release_machine, "the machine is given back to its driver"),
        Step::new("agent", agent).within(BOOT_MAX_SECS, Late::Turn),
        Step::new("engine", engine).within(BOOT_MAX_SECS, Late::Turn),
        Step::new("swarm", swarm),
    ],
};

fn machine(at: &At) -> Next {
    with_host(at, |host| match (&host.machine, &host.driver) {
        (Some(_), _) | (None, None) => Next::Done,
        (None, Some(driver)) => Next::Do(Effect::EnsureMachine {
            environment: host.environment.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
            driver: driver.clone(),
        }),
    })
}

fn agent(at: &At) -> Next {
    with_host(at, |host| {
        if host.agent.connected { Next::Done } else { Next::Wait("the agent has not connected yet".into()) }
    })
}

fn engine(at: &At) -> Next {
    with_host(at, |host| match (host.agent.engine_up, &host.inventory) {
        (true, Some(_)) => Next::Done,
        (true, None) => Next::Wait("the agent has not sent its inventory yet".into()),
        (false, _) => Next::Wait(format!("the engine does not answer yet: {}", host.agent.engine_error)),
    })
}

fn swarm(at: &At) -> Next {
    with_host(at, |host| match &host.membership {
        Some(membership) if membership.ready => Next::Done,
        _ => Next::Wait("not a ready node of the swarm yet".into()),
    })
}

fn with_host(at: &At, ask: impl FnOnce(&Host) -> Next) -> Next {
    match at.host() {
        None => Next::Turn("the host is gone".into()),
        Some(host) if host.removal.is_some() => Next::Turn("its removal was asked for".into()),
        Some(host) => ask(host),
    }
}
