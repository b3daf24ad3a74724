//! Gives a host's machine back and makes it anew. The host stays: its name, its role, its labels.
//!
//! The first half is a removal, the second a creation. In between the host belongs to this operation alone, so that nobody
//! takes it into the swarm again that it is just leaving. Until its machine is given back, a failure leaves everything as
//! it was; after that it can only go on, be tried again, or be removed.

use skep_model::host::Host;
use skep_model::operation::workflow;

use super::{create_host, parting, remove_host};
use crate::{At, Effect, Late, Next, Step, Workflow};

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::REPROVISION_HOST,
    steps: &[
        Step::new("reserve", reserve),
        Step::new("evacuate", |at| with_host(at, |_| remove_host::evacuate(at)))
            .leaving("the host takes no tasks")
            .undone_by(remove_host::take_back, "the host takes tasks again")
            .within(remove_host::EVACUATE_MAX_SECS, Late::GoOn),
        Step::new("demote", |at| with_host(at, |_| parting::demote(at)))
            .leaving("the roles in the swarm stay as they are now, until the swarm is formed anew")
            .within(remove_host::DEMOTE_MAX_SECS, Late::GoOn),
        Step::new("leave", |at| with_host(at, |_| remove_host::leave(at)))
            .leaving("the host is out of the swarm, until the swarm is formed anew")
            .within(remove_host::LEAVE_MAX_SECS, Late::GoOn),
        Step::new("release", release).leaving("the old machine may be gone").for_good(),
        create_host::MACHINE,
        create_host::AGENT,
        create_host::ENGINE,
        create_host::NETWORK,
        create_host::SWARM,
    ],
};

fn reserve(at: &At) -> Next {
    with_host(at, |host| match &host.renewal {
        Some(holder) if *holder == at.operation.id => Next::Done,
        _ => Next::Do(Effect::ReserveHost(host.environment.clone(), host.id.clone())),
    })
}

/// The host is reserved for as long as it has its old machine.
fn release(at: &At) -> Next {
    with_host(at, |host| match (&host.renewal, &host.driver) {
        (Some(holder), Some(driver)) if *holder == at.operation.id => Next::Do(Effect::ReleaseMachine {
            environment: host.environment.clone(),
            host: host.id.clone(),
            name: host.name.to_string(),
            driver: driver.clone(),
        }),
        _ => Next::Done,
    })
}

fn with_host(at: &At, ask: impl FnOnce(&Host) -> Next) -> Next {
    match at.host() {
        None => Next::Turn("the host is gone".into()),
        Some(host) if host.removal.is_some() => Next::Turn("its removal was asked for".into()),
        Some(host) => ask(host),
    }
}
