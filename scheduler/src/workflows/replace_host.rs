//! Lets a new host take the place of another: the new one is made first and does its part, then the old one is removed.
//!
//! Making and removing are operations of their own. If the new host cannot be made, it is removed again and the old one stays
//! as it was. Once the old one is on its way out, the new one stays whatever happens.
//!
//! Begun by itself, because the old one is down, it is given up if that one comes back before it is on its way out.

use skep_model::host::Host;
use skep_model::operation::workflow;

use crate::{At, Effect, Late, Next, Step, Workflow};

/// The creation and the removal have deadlines of their own, after which they are not waited for; quorum may be waited for.
const HOST_MAX_SECS: i64 = 3_600;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::REPLACE_HOST,
    steps: &[
        Step::new("new", new)
            .undone_by(give_up, "the new host is removed, unless the old one is going already")
            .within(HOST_MAX_SECS, Late::Turn),
        Step::new("old", old)
            .leaving("the removal of the old host goes on, if it was begun")
            .within(HOST_MAX_SECS, Late::Turn),
    ],
};

fn new(at: &At) -> Next {
    if at.environment_goes() {
        return Next::Turn("the environment is being removed".into());
    }
    let Some(new) = successor(at) else {
        return Next::Turn("the new host is gone".into());
    };
    if let Some(old) = back(at) {
        return Next::Turn(format!("{} is back", old.name));
    }
    if new.removal.is_some() {
        return Next::Turn(format!("the removal of {} was asked for", new.name));
    }
    // Tasks may be bound to its labels.
    if new.is_active() && !new.placement.outstanding() {
        return Next::Done;
    }
    let state = new.state();
    match new.membership.is_none() && !at.busy.contains(&format!("host/{}", new.id)) {
        true => Next::Turn(format!("{} did not become active: {}", new.name, state.why)),
        false => Next::Wait(format!("{} is {}: {}", new.name, state.word, state.why)),
    }
}

fn old(at: &At) -> Next {
    let (old, new) = match (replaced(at), successor(at)) {
        (None, _) => return Next::Done,
        (Some(old), _) if old.removal.is_some() => {
            return Next::Wait(format!("{} is being removed", old.name));
        }
        (Some(_), None) => return Next::Turn("the new host is gone".into()),
        (Some(old), _) if back(at).is_some() => return Next::Turn(format!("{} is back", old.name)),
        (Some(old), Some(new)) => (old, new),
    };
    match at.environment_goes() || new.removal.is_some() {
        true => Next::Turn(format!("the removal of {} was asked for", new.name)),
        false if new.is_active() => {
            Next::Do(Effect::RemoveHosts(old.environment.clone(), vec![old.id.clone()]))
        }
        false => Next::Wait(format!("{} is {}", new.name, new.state().word)),
    }
}

fn give_up(at: &At) -> Next {
    let old_goes = replaced(at).is_none_or(|old| old.removal.is_some());
    match successor(at) {
        None => Next::Done,
        Some(new) if new.removal.is_some() => Next::Wait(format!("{} is being removed", new.name)),
        Some(_) if old_goes => Next::Turn("it takes the place of the old one".into()),
        Some(new) => Next::Do(Effect::RemoveHosts(new.environment.clone(), vec![new.id.clone()])),
    }
}

/// The host whose place is taken, unless it is gone.
fn replaced(at: &At) -> Option<&Host> {
    at.host()
}

/// The host whose place is taken, if nobody has asked for that and it does its part again.
fn back(at: &At) -> Option<&Host> {
    replaced(at).filter(|old| !at.operation.reason.is_empty() && old.is_active())
}

/// The host that takes its place; of an earlier attempt another may still be on its way out.
fn successor(at: &At) -> Option<&Host> {
    let takes_over =
        |host: &&Host| host.replaces.as_ref().is_some_and(|id| id.as_str() == at.operation.subject.id);
    at.hosts.iter().filter(takes_over).min_by_key(|host| host.removal.is_some())
}
