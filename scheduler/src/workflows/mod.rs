//! The workflows. Each file is one: its steps as a list, then what each step asks.

mod create_environment;
mod create_host;
mod deploy_stack;
mod form_swarm;
mod parting;
mod remove_environment;
mod remove_host;
mod remove_stack;
mod rescue_swarm;
mod update_host;

use skep_model::host::{Host, Role};

use crate::{At, Effect, Next, Workflow};

/// Every workflow there is. The interruption harness walks this list, so a new one cannot go untested.
pub const WORKFLOWS: &[Workflow] = &[
    create_environment::WORKFLOW,
    create_host::WORKFLOW,
    form_swarm::WORKFLOW,
    rescue_swarm::WORKFLOW,
    update_host::WORKFLOW,
    deploy_stack::WORKFLOW,
    remove_stack::WORKFLOW,
    remove_host::WORKFLOW,
    remove_environment::WORKFLOW,
];

/// The workflow of that name.
pub fn named(name: &str) -> Option<&'static Workflow> {
    WORKFLOWS.iter().find(|workflow| workflow.name == name)
}

/// Nothing is left of the machine of the host that the operation is about: a condition that more than one workflow
/// ends with. The cloud ledger says whether there may be one; the host's own record can be gone already.
fn release_machine(at: &At) -> Next {
    match at.machine() {
        None => Next::Done,
        Some(resource) => Next::Do(Effect::ReleaseMachine {
            environment: resource.environment.clone(),
            host: resource.host.clone(),
            name: at.operation.subject.name.clone(),
            driver: resource.driver.clone(),
        }),
    }
}

fn set_role(host: &Host, role: Role) -> Next {
    Next::Do(Effect::SetRole {
        environment: host.environment.clone(),
        host: host.id.clone(),
        name: host.name.clone(),
        role,
    })
}
