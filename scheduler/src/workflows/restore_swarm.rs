//! Begins a swarm anew from a backup of its state, on a host to which that was brought, and takes the others in again.
//!
//! For when no manager is left that could rescue it. Hosts that were nodes of it look for managers that are gone: they leave
//! and join anew, so their tasks begin anew as well. Those that find the new manager at an old one's address stay.

use skep_model::operation::workflow;

use super::rescue_swarm::{JOIN, PART_MAX_SECS, ROLES, VERIFY, part_with_lost, rescuer};
use crate::{At, Effect, Late, Next, Step, Workflow};

/// Starting the engine twice, and once on a slow machine.
const RESTORE_MAX_SECS: i64 = 600;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::RESTORE_SWARM,
    steps: &[
        Step::new("restore", restore)
            .leaving("the swarm may have been begun anew from the backup")
            .within(RESTORE_MAX_SECS, Late::Turn),
        Step::new("part", |at| part_with_lost(at, |_| true))
            .leaving("hosts that were taken out join again once the swarm is formed anew")
            .within(PART_MAX_SECS, Late::GoOn),
        JOIN,
        ROLES,
        VERIFY,
    ],
};

fn restore(at: &At) -> Next {
    let Some(environment) = at.environment.as_ref().filter(|_| !at.environment_goes()) else {
        return Next::Turn("the environment is being removed".into());
    };
    if environment.rescued_by.as_ref() == Some(&at.operation.id) {
        return Next::Done;
    }
    match rescuer(at) {
        // Its engine may be on its way: it starts with what it is restored from.
        Some(host) if host.agent.connected && host.removal.is_none() => Next::Do(Effect::RestoreSwarm {
            environment: environment.id.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
        }),
        Some(host) => Next::Wait(format!("{} is {}", host.name, host.state().word)),
        None => Next::Turn("the host on which the swarm was to be restored is gone".into()),
    }
}
