//! Takes a host out of its swarm and gives its machine back.
//!
//! Tasks are moved away first, as a courtesy with a time limit: a dead host can be removed too. When the whole
//! environment goes there is nowhere to move them. Nothing is given back on the way: a removal that fails is
//! started again by a planner.

use skep_model::host::{Host, Role};
use skep_model::operation::workflow;
use skep_model::placement::Availability;

use crate::{At, Effect, Late, Next, Step, Workflow};

/// Time for tasks to stop gracefully and start elsewhere.
const EVACUATE_MAX_SECS: i64 = 120;

/// Time for the swarm to agree on one manager less.
const DEMOTE_MAX_SECS: i64 = 60;

/// Time for both sides to part. A node that cannot leave goes with its machine.
const LEAVE_MAX_SECS: i64 = 60;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::REMOVE_HOST,
    steps: &[
        Step::new("evacuate", evacuate)
            .leaving("the host takes no tasks")
            .undone_by(take_back, "the host takes tasks again")
            .within(EVACUATE_MAX_SECS, Late::GoOn),
        Step::new("demote", demote)
            .leaving("the roles in the swarm stay as they are now, until the swarm is formed anew")
            .within(DEMOTE_MAX_SECS, Late::GoOn),
        Step::new("leave", leave)
            .leaving("the host is out of the swarm, until the swarm is formed anew")
            .within(LEAVE_MAX_SECS, Late::GoOn),
        Step::new("machine", super::release_machine)
            .leaving("the machine may be gone; the cloud ledger says whether it may still be there")
            .for_good(),
        Step::new("forget", forget).leaving("the host is forgotten").for_good(),
    ],
};

fn evacuate(at: &At) -> Next {
    let Some(host) = at.host().filter(|host| !at.environment_goes() && !host.evacuated) else {
        return Next::Done;
    };
    let Some(membership) = &host.membership else {
        return Next::Done;
    };
    if others(at, host).next().is_none() {
        return Next::Done;
    }
    let (environment, id, name) = (host.environment.clone(), host.id.clone(), host.name.clone());
    if membership.availability == Availability::Drain {
        Next::Do(Effect::ObserveEvacuation { environment, host: id, name })
    } else {
        Next::Do(Effect::DrainNode { environment, host: id, name })
    }
}

/// Somebody wants the host to stay after all; the removal is not wished any more. What its tasks were stays where it is.
fn take_back(at: &At) -> Next {
    let Some(host) = at.host() else {
        return Next::Done;
    };
    if host.removal.is_some() {
        // A removal that only failed is taken up again soon, so the host had better stay empty.
        return Next::Turn("its removal is still wished".into());
    }
    match &host.membership {
        Some(membership) if membership.availability != host.placement.availability => {
            super::update_host::apply(host)
        }
        _ => Next::Done,
    }
}

fn demote(at: &At) -> Next {
    let Some(host) = at.host().filter(|host| host.is_swarm_manager() && !at.environment_goes()) else {
        return Next::Done;
    };
    // The swarm outlives its only manager if another member takes over first.
    let Some(heir) = others(at, host).find(|other| other.is_swarm_manager()).or(others(at, host).next())
    else {
        return Next::Done;
    };
    match others(at, host).any(|other| other.is_swarm_manager() && other.is_active()) {
        true => super::set_role(host, Role::Worker),
        false if heir.is_swarm_manager() => {
            Next::Do(Effect::ObserveSwarm { environment: host.environment.clone() })
        }
        false => super::set_role(heir, Role::Manager),
    }
}

fn leave(at: &At) -> Next {
    // A swarm that goes as a whole needs no goodbyes, and its last managers could not agree on them.
    match at.host().filter(|host| host.membership.is_some() && !at.environment_goes()) {
        None => Next::Done,
        Some(host) => Next::Do(Effect::LeaveSwarm {
            environment: host.environment.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
        }),
    }
}

fn forget(at: &At) -> Next {
    match at.host() {
        None => Next::Done,
        Some(host) => Next::Do(Effect::ForgetHost(host.environment.clone(), host.id.clone())),
    }
}

fn others<'a>(at: &'a At, host: &'a Host) -> impl Iterator<Item = &'a Host> {
    // Right after a leader of the swarm was lost its members are not seen ready for a moment; they are members.
    at.hosts.iter().filter(|other| other.id != host.id && other.is_ready() && other.membership.is_some())
}
