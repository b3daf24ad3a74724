//! Lets a host whose machine has another address leave its swarm and join it anew, so that it is the member that it was.
//!
//! What the swarm knows of the node is remembered, the network at the new address is checked while it is still a member, then it
//! parts as a host that is removed does: a manager becomes a worker first. `form-swarm` takes it in again and keeps a manager's
//! place free for it. The only manager of a swarm cannot leave; it begins the swarm anew with all that it knows, and its workers
//! follow one by one, because they look for it where it was.

use skep_model::host::Host;
use skep_model::operation::workflow;

use super::parting::{self, demote, must_stay};
use super::{check_host, update_host};
use crate::{At, Effect, Late, Next, Step, Workflow};

/// Time for a manager of the swarm to answer.
const REMEMBER_MAX_SECS: i64 = 60;

/// Time for people to open a port at the new address. Until then the node stays where it is.
const NETWORK_MAX_SECS: i64 = 3_600;

/// Time for the swarm to agree on one manager less.
const DEMOTE_MAX_SECS: i64 = 120;

/// Time for both sides to part.
const LEAVE_MAX_SECS: i64 = 120;

/// Time for `form-swarm` to take it in, should others come first.
const JOIN_MAX_SECS: i64 = 600;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::MOVE_HOST,
    steps: &[
        Step::new("remember", remember).within(REMEMBER_MAX_SECS, Late::Turn),
        Step::new("network", network).within(NETWORK_MAX_SECS, Late::Turn),
        Step::new("demote", give_up_role)
            .leaving("the host is a worker of the swarm, until the swarm is formed anew")
            .within(DEMOTE_MAX_SECS, Late::Turn),
        Step::new("leave", leave)
            .leaving("the host is out of the swarm, until the swarm is formed anew")
            .within(LEAVE_MAX_SECS, Late::Turn),
        Step::new("swarm", swarm)
            .leaving("the host joins the swarm once it can")
            .within(JOIN_MAX_SECS, Late::Turn),
        Step::new("node", node).leaving("labels and availability are brought back later"),
    ],
};

fn remember(at: &At) -> Next {
    with_moved(at, |host| match &host.remembered {
        Some(remembered) if remembered.at >= at.operation.created_at => Next::Done,
        _ => Next::Do(Effect::RememberNode {
            environment: host.environment.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
        }),
    })
}

fn network(at: &At) -> Next {
    with_moved(at, |host| {
        let others = at.hosts.iter().any(|other| other.id != host.id && other.is_active());
        if host.passes() || !others { Next::Done } else { check_host::check(at, host, true) }
    })
}

fn give_up_role(at: &At) -> Next {
    with_moved(at, |host| {
        let mut others = at.hosts.iter().filter(|other| other.id != host.id);
        match host.is_swarm_manager() && !others.any(Host::is_swarm_manager) {
            true => Next::Do(Effect::AdvertiseManager {
                environment: host.environment.clone(),
                host: host.id.clone(),
                name: host.name.clone(),
            }),
            false => demote(at),
        }
    })
}

fn leave(at: &At) -> Next {
    with_moved(at, |_| match (must_stay(at), &at.environment) {
        (None, _) => parting::leave(at),
        (Some(why), Some(environment)) => Next::Turn(format!(
            "{why}. If most managers have other addresses now: skep env rescue {} --from HOST",
            environment.name
        )),
        (Some(why), None) => Next::Turn(why),
    })
}

fn swarm(at: &At) -> Next {
    with_host(at, |host| match &host.membership {
        Some(node) if node.ready => Next::Done,
        _ if !host.is_ready() => Next::Wait(format!("{} is {}", host.name, host.state().word)),
        _ if host.join_error.is_empty() => Next::Wait("not a ready node of the swarm yet".into()),
        _ => Next::Wait(format!("not a ready node of the swarm yet: {}", host.join_error)),
    })
}

fn node(at: &At) -> Next {
    with_host(at, |host| if host.outstanding() { update_host::apply(host) } else { Next::Done })
}

/// Asks only as long as its node has to leave: it may have found back to its address, or have left already.
fn with_moved(at: &At, ask: impl FnOnce(&Host) -> Next) -> Next {
    with_host(at, |host| match host.must_rejoin() {
        None => Next::Done,
        Some(_) if !host.is_ready() => Next::Wait(format!("{} is {}", host.name, host.state().word)),
        Some(_) => match host.shares_address_with(&at.hosts) {
            Some(other) => Next::Turn(format!("{} has the same address", other.name)),
            None => ask(host),
        },
    })
}

fn with_host(at: &At, ask: impl FnOnce(&Host) -> Next) -> Next {
    match at.host() {
        None => Next::Turn("the host is gone".into()),
        Some(host) if host.removal.is_some() => Next::Turn("its removal was asked for".into()),
        Some(_) if at.environment_goes() => Next::Turn("the environment is being removed".into()),
        Some(host) => ask(host),
    }
}
