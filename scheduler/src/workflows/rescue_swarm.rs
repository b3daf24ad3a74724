//! Begins a swarm that has lost its quorum anew on one of its managers, and takes the others in again.
//!
//! The lost managers are taken out first, on both sides as far as they can be reached: an engine that still believes in
//! the old quorum cannot join. Those that come back later are taken in by `form-swarm`.

use skep_model::host::Host;
use skep_model::operation::workflow;

use super::form_swarm;
use crate::{At, Effect, Late, Next, Step, Workflow};

/// Time to part with one lost manager after the other; one that cannot be parted with is left to `form-swarm`.
pub(super) const PART_MAX_SECS: i64 = 300;

/// Time for machines that are on their way back.
const REJOIN_MAX_SECS: i64 = 300;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::RESCUE_SWARM,
    steps: &[
        Step::new("rescue", rescue).leaving("the swarm may have been begun anew"),
        Step::new("part", part)
            .leaving("managers that were taken out join again once the swarm is formed anew")
            .within(PART_MAX_SECS, Late::GoOn),
        JOIN,
        ROLES,
        VERIFY,
    ],
};

pub(super) const JOIN: Step = Step::new("join", form_swarm::join)
    .leaving("hosts that have joined stay in the swarm")
    .within(REJOIN_MAX_SECS, Late::GoOn);

pub(super) const ROLES: Step = Step::new("roles", form_swarm::roles)
    .leaving("hosts keep the roles that they have got")
    .within(REJOIN_MAX_SECS, Late::GoOn);

pub(super) const VERIFY: Step = Step::new("verify", form_swarm::verify).within(REJOIN_MAX_SECS, Late::GoOn);

fn rescue(at: &At) -> Next {
    let Some(environment) = at.environment.as_ref().filter(|_| !at.environment_goes()) else {
        return Next::Turn("the environment is being removed".into());
    };
    if environment.rescued_by.as_ref() == Some(&at.operation.id) {
        return Next::Done;
    }
    // It may have waited for its turn.
    if environment.managers_agree(&at.hosts) {
        return Next::Turn("the swarm's managers can agree again".into());
    }
    match rescuer(at) {
        Some(host) if host.is_ready() => Next::Do(Effect::RescueSwarm {
            environment: environment.id.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
        }),
        Some(host) => Next::Wait(format!("{} is {}", host.name, host.state().word)),
        None => Next::Turn("the host that was to rescue the swarm is gone".into()),
    }
}

fn part(at: &At) -> Next {
    part_with_lost(at, Host::is_swarm_manager)
}

/// The swarm is rid of the nodes that are not ready, one after the other, of those hosts that are asked for.
pub(super) fn part_with_lost(at: &At, is_meant: impl Fn(&Host) -> bool) -> Next {
    let lost = |host: &&Host| {
        let is_rescuer = rescuer(at).is_some_and(|rescuer| rescuer.id == host.id);
        !is_rescuer && is_meant(host) && host.membership.as_ref().is_some_and(|node| !node.ready)
    };
    match at.hosts.iter().find(lost) {
        None => Next::Done,
        Some(host) => Next::Do(Effect::LeaveSwarm {
            environment: host.environment.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
        }),
    }
}

/// The host on which the swarm is begun anew.
pub(super) fn rescuer(at: &At) -> Option<&Host> {
    let seed = at.environment.as_ref()?.seed.as_ref()?;
    at.hosts.iter().find(|host| host.id == *seed)
}
