//! Takes a host out of its swarm and gives its machine back.
//!
//! Tasks are moved away first, as a courtesy with a time limit: a dead host can be removed too. When the whole
//! environment goes there is nowhere to move them. Nothing is given back on the way: a removal that fails is
//! started again by a planner. It fails, with the reason, while the swarm's managers could not agree without the host.
//!
//! Where the machine is to stay, its driver lets it go instead: it leaves the swarm, its agent ends when the host is
//! forgotten, and everything else on it goes on.

use skep_model::host::Host;
use skep_model::operation::workflow;
use skep_model::placement::Availability;

use super::parting::{self, demote, must_stay};
use crate::{At, Effect, Late, Next, Step, Workflow};

/// Time for tasks to stop gracefully and start elsewhere.
pub(super) const EVACUATE_MAX_SECS: i64 = 120;

/// Time for the swarm to agree on one manager less.
pub(super) const DEMOTE_MAX_SECS: i64 = 60;

/// Time for both sides to part. A node that cannot leave, and would not be missed, goes with its machine.
pub(super) const LEAVE_MAX_SECS: i64 = 60;

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
        Step::new("machine", machine)
            .leaving("the machine may be gone; the cloud ledger says whether it may still be there")
            .for_good(),
        Step::new("forget", forget).leaving("the host is forgotten").for_good(),
    ],
};

pub(super) fn evacuate(at: &At) -> Next {
    match parting::find_out(at) {
        Next::Done => move_tasks_away(at),
        other => other,
    }
}

fn move_tasks_away(at: &At) -> Next {
    let Some(host) = at.host().filter(|host| !at.environment_goes() && !host.evacuated) else {
        return Next::Done;
    };
    let Some(membership) = &host.membership else {
        return Next::Done;
    };
    let other = |other: &Host| other.id != host.id && other.is_ready() && other.membership.is_some();
    if !at.hosts.iter().any(other) {
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
pub(super) fn take_back(at: &At) -> Next {
    let Some(host) = at.host() else {
        return Next::Done;
    };
    if host.removal.is_some() {
        // A removal that only failed is taken up again soon, so the host had better stay empty.
        return Next::Turn("its removal is still wished".into());
    }
    match &host.membership {
        // An environment that rests goes on resting.
        Some(_) if host.is_suspended() => Next::Done,
        Some(membership) if membership.availability != host.placement.availability => {
            super::update_host::apply(host)
        }
        _ => Next::Done,
    }
}

pub(super) fn leave(at: &At) -> Next {
    match must_stay(at) {
        Some(why) => Next::Turn(why),
        None => parting::leave(at),
    }
}

fn machine(at: &At) -> Next {
    let keeps_it = at.host().is_some_and(|host| host.keeps_machine);
    match at.machine.as_ref().filter(|_| keeps_it) {
        None => super::release_machine(at),
        Some(row) => Next::Do(Effect::LetMachineGo {
            environment: row.environment.clone(),
            host: row.host.clone(),
            name: at.operation.subject.name.clone(),
            driver: row.driver.clone(),
            machine: row.machine.clone().unwrap_or_default(),
        }),
    }
}

fn forget(at: &At) -> Next {
    match at.host() {
        None => Next::Done,
        Some(host) => Next::Do(Effect::ForgetHost(host.environment.clone(), host.id.clone())),
    }
}
