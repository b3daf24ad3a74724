//! Brings a wished-for host to life: a machine is asked for, its agent registers and connects, its engine answers, the network
//! between it and the swarm is checked, it becomes a member of the environment's swarm. A host that has registered itself
//! comes with its machine.
//!
//! Turned around, it gives the machine back. How hosts become one swarm is `form_swarm`'s business; here that is
//! only waited for.

use skep_model::host::Host;
use skep_model::operation::workflow;

use super::check_host::has_members;
use super::parting::{demote, find_out, leave, must_stay};
use crate::{At, Effect, Late, Next, Step, Workflow};

/// From a machine that exists to an agent that reports; a slow cloud image boots in two or three minutes.
const BOOT_MAX_SECS: i64 = 600;

/// Time for people to open a port. The machine is given back after that, because somebody may pay for it; the others know why.
const NETWORK_MAX_SECS: i64 = 3_600;

pub(super) const WORKFLOW: Workflow =
    Workflow { name: workflow::CREATE_HOST, steps: &[MACHINE, AGENT, ENGINE, NETWORK, SWARM] };

pub(super) const MACHINE: Step = Step::new("machine", machine)
    .leaving("the machine stays where its driver made it, and in the cloud ledger")
    .undone_by(give_back, "the machine is given back to its driver");

pub(super) const AGENT: Step = Step::new("agent", agent).within(BOOT_MAX_SECS, Late::Turn);

pub(super) const ENGINE: Step = Step::new("engine", engine).within(BOOT_MAX_SECS, Late::Turn);

pub(super) const NETWORK: Step = Step::new("network", network).within(NETWORK_MAX_SECS, Late::Turn);

pub(super) const SWARM: Step = Step::new("swarm", swarm)
    .leaving("the host stays in the swarm")
    .undone_by(part, "the host leaves the swarm, if it has joined");

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

fn network(at: &At) -> Next {
    with_host(at, |host| match host.is_ready() {
        true => super::check_host::network(at, host),
        false => Next::Wait(format!("{} is {}: {}", host.name, host.state().word, host.state().why)),
    })
}

fn swarm(at: &At) -> Next {
    with_host(at, |host| match &host.membership {
        Some(membership) if membership.ready => Next::Done,
        // Its address has changed since it was checked.
        None if host.is_ready() && has_members(at) && !host.may_join(true) => {
            super::check_host::network(at, host)
        }
        _ if host.join_error.is_empty() => Next::Wait("not a ready node of the swarm yet".into()),
        _ => Next::Wait(format!("not a ready node of the swarm yet: {}", host.join_error)),
    })
}

/// Out of the swarm, without costing it its quorum.
fn part(at: &At) -> Next {
    let goodbye = |at: &At| match must_stay(at) {
        Some(why) => Next::Wait(why),
        None => leave(at),
    };
    let parts: [fn(&At) -> Next; 3] = [find_out, demote, goodbye];
    parts.iter().map(|part| part(at)).find(|next| !matches!(next, Next::Done)).unwrap_or(Next::Done)
}

/// It may have joined just now, in the hands of another operation.
fn give_back(at: &At) -> Next {
    if at.host().is_some_and(|host| host.removal.is_some() && host.keeps_machine) {
        return Next::Turn("its removal lets the machine go".into());
    }
    match part(at) {
        Next::Done => super::release_machine(at),
        other => other,
    }
}

fn with_host(at: &At, ask: impl FnOnce(&Host) -> Next) -> Next {
    match at.host() {
        None => Next::Turn("the host is gone".into()),
        Some(host) if host.removal.is_some() => Next::Turn("its removal was asked for".into()),
        Some(host) => ask(host),
    }
}
