//! How a host parts with its swarm: for `remove-host`, and for a `create-host` that goes back.
//!
//! A manager that simply leaves still counts: the others would need its vote for ever. So one that is alive is made a worker
//! first, and stays if the others could not agree without it.

use skep_model::host::{Host, Role};

use crate::{At, Effect, Next};

/// The host is no manager of the swarm, or the only one there is.
pub(super) fn demote(at: &At) -> Next {
    let Some(host) = at.host().filter(|host| host.is_swarm_manager() && !at.environment_goes()) else {
        return Next::Done;
    };
    // The swarm outlives its only manager if another member takes over first.
    let stays = |other: &&Host| other.removal.is_none();
    let Some(heir) = others(at, host).find(|other| other.is_swarm_manager()).or(others(at, host).find(stays))
    else {
        return Next::Done;
    };
    match others(at, host).any(|other| other.is_swarm_manager() && other.is_seen_ready()) {
        true => super::set_role(host, Role::Worker),
        false if heir.is_swarm_manager() => {
            Next::Do(Effect::ObserveSwarm { environment: host.environment.clone() })
        }
        false => super::set_role(heir, Role::Manager),
    }
}

/// It is known whether the host is in the swarm. Nobody need have seen it join: another operation, or another leader, may have
/// asked its engine to a moment ago.
pub(super) fn find_out(at: &At) -> Next {
    match at.host().filter(|host| host.may_have_joined() && is_told(at, host)) {
        Some(host) => tell_to_leave(host),
        None => Next::Done,
    }
}

/// The host is in no swarm any more.
pub(super) fn leave(at: &At) -> Next {
    match at.host().filter(|host| host.membership.is_some() && is_told(at, host)) {
        Some(host) => tell_to_leave(host),
        None => Next::Done,
    }
}

/// A swarm that goes as a whole needs no goodbyes, and its last managers could not agree on them. Only a machine that stays is
/// told, so that it can be a node elsewhere.
fn is_told(at: &At, host: &Host) -> bool {
    !at.environment_goes() || host.keeps_machine || (host.driver.is_none() && host.answers())
}

fn tell_to_leave(host: &Host) -> Next {
    Next::Do(Effect::LeaveSwarm {
        environment: host.environment.clone(),
        host: host.id.clone(),
        name: host.name.clone(),
    })
}

/// Why the host must not leave its swarm as it is now; `None` if it may.
pub(super) fn must_stay(at: &At) -> Option<String> {
    let environment = at.environment.as_ref().filter(|environment| environment.removal.is_none())?;
    let host = at.host().filter(|host| host.is_swarm_manager())?;
    let quorum_lost = environment.swarm.as_ref().is_some_and(|swarm| swarm.quorum_lost.is_some());
    let alive = host.answers() || (host.is_seen_ready() && !quorum_lost);
    let others = || at.hosts.iter().filter(|other| other.id != host.id);
    let missed = others().any(|other| other.is_swarm_manager() || other.is_active());
    if !alive || !missed {
        return None;
    }
    let away =
        others().filter(|other| other.is_swarm_manager() && !(other.answers() && other.is_seen_ready()));
    let away: Vec<_> = away.map(|other| other.name.as_str()).collect();
    Some(match away.is_empty() {
        true => format!("{} is still a manager of the swarm", host.name),
        false => format!(
            "{} is a manager of the swarm, and the others might not agree without it: {} cannot be reached. Bring them \
             back, or remove them first",
            host.name,
            away.join(", ")
        ),
    })
}

/// Members whose engines can be spoken to, those that are to be removed as well.
fn others<'a>(at: &'a At, host: &'a Host) -> impl Iterator<Item = &'a Host> {
    // Right after a leader of the swarm was lost its members are not seen ready for a moment; they are members.
    at.hosts.iter().filter(|other| other.id != host.id && other.answers() && other.membership.is_some())
}
