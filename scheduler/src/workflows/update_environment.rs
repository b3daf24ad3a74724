//! Brings about what was wished anew for an environment: what its networks are made for, how many swarm managers it keeps,
//! hosts that could not join before and can now.
//!
//! What exists and is in use is not torn down: the ingress network keeps its form while services publish through it, and
//! so does every network of a stack. What could not be changed stands in the environment's plan.

use skep_model::networks::wanted;
use skep_model::operation::workflow;

use super::form_swarm::{NFS_MAX_SECS, init, join, nfs, roles, verify};
use crate::{At, Effect, Late, Next, Step, Workflow};

/// Time to make the ingress network anew; every node gives its part of the old one back first.
const NETWORKS_MAX_SECS: i64 = 120;

/// Time for hosts to join that could not before. One that still cannot does not keep the others from their roles.
const JOIN_MAX_SECS: i64 = 120;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::UPDATE_ENVIRONMENT,
    steps: &[
        Step::new("init", begin).leaving("the swarm that was begun stays"),
        Step::new("networks", networks)
            .leaving("the swarm's networks stay as they are by then")
            .within(NETWORKS_MAX_SECS, Late::Turn),
        Step::new("join", join)
            .leaving("hosts that have joined stay in the swarm")
            .within(JOIN_MAX_SECS, Late::GoOn),
        Step::new("nfs", nfs).within(NFS_MAX_SECS, Late::GoOn),
        Step::new("roles", roles).leaving("hosts keep the roles that they have got"),
        Step::new("verify", verify),
    ],
};

/// An environment without hosts has everything that it can have.
fn begin(at: &At) -> Next {
    let has_any = at.hosts.iter().any(|host| host.is_ready() || host.membership.is_some());
    if has_any || at.environment_goes() { init(at) } else { Next::Done }
}

/// Once for each operation, whatever came of it: a network that is in use stays as it is.
fn networks(at: &At) -> Next {
    match &at.environment {
        Some(environment) if at.hosts.iter().any(|host| host.membership.is_some()) => {
            match environment.networks.set_by.as_ref() == Some(&at.operation.id) {
                true => Next::Done,
                false => Next::Do(Effect::SetNetworks {
                    environment: environment.id.clone(),
                    made_for: wanted(environment, &at.hosts),
                }),
            }
        }
        _ => Next::Done,
    }
}
