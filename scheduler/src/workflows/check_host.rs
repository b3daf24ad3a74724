//! Checks the network between a host and its swarm: because somebody asks, or because the host is held back and may pass by now.
//!
//! A host on its way has this as a step of `create-host`; here is the same step for one that has come to no end there. Who passes
//! is taken in by `form-swarm`.

use skep_model::host::Host;
use skep_model::operation::workflow;

use crate::{At, Effect, Late, Next, Step, Workflow};
use skep_model::preflight::CHECKED_AT_ONCE_MAX;

/// A check takes a few seconds; agents that take part in another one are asked again.
const CHECK_MAX_SECS: i64 = 120;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::CHECK_HOST,
    steps: &[Step::new("network", check_now).within(CHECK_MAX_SECS, Late::Turn)],
};

/// Whoever asks wants to know how it is now.
fn check_now(at: &At) -> Next {
    let Some(host) = at.host() else {
        return Next::Turn("the host is gone".into());
    };
    if host.removal.is_some() {
        return Next::Turn("its removal was asked for".into());
    }
    if !host.is_ready() {
        let state = host.state();
        return Next::Turn(format!("{} is {}: {}", host.name, state.word, state.why));
    }
    let asked = at.operation.created_at;
    let is_new = host.preflight.as_ref().is_some_and(|preflight| preflight.at >= asked);
    match host.held_back().filter(|_| is_new) {
        Some(why) => Next::Turn(why),
        None if is_new || !has_peers(at, host) => Next::Done,
        None => check(at, host, false),
    }
}

/// The host may join the swarm as far as the network between them is concerned. Others that wait for the same are checked
/// together with it. Hosts that come together wait for the first of them to begin the swarm: before that there is nobody to be
/// checked with.
pub(super) fn network(at: &At, host: &Host) -> Next {
    match (&host.membership, has_members(at)) {
        (Some(_), _) => Next::Done,
        (None, false) if host.join_error.is_empty() => Next::Wait("the swarm is not begun yet".into()),
        (None, false) => Next::Wait(format!("the swarm is not begun yet: {}", host.join_error)),
        (None, true) if host.may_join(true) => Next::Done,
        (None, true) => check(at, host, true),
    }
}

pub(super) fn check(at: &At, host: &Host, insist: bool) -> Next {
    let waits = |other: &&Host| {
        other.id != host.id
            && other.is_ready()
            && other.membership.is_none()
            && other.checked_here().is_none()
            && !other.may_join(true)
    };
    let together = at.hosts.iter().filter(waits).take(CHECKED_AT_ONCE_MAX - 1);
    let hosts = std::iter::once(host).chain(together).map(|host| (host.id.clone(), host.name.clone()));
    Next::Do(Effect::CheckNetwork {
        environment: host.environment.clone(),
        hosts: hosts.collect(),
        insist: insist.then(|| host.id.clone()),
    })
}

/// Is there a swarm that a host could join?
pub(super) fn has_members(at: &At) -> bool {
    at.hosts.iter().any(|host| host.membership.is_some())
}

fn has_peers(at: &At, host: &Host) -> bool {
    at.hosts.iter().any(|other| other.id != host.id && other.membership.is_some())
}
