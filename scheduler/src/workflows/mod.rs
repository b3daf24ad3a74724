//! The workflows. Each file is one: its steps as a list, then what each step asks.

mod check_host;
mod create_environment;
mod create_host;
mod deploy_stack;
mod form_swarm;
mod give_logins;
mod move_host;
mod parting;
mod pause_environment;
mod rebalance_swarm;
mod release_machine;
mod remove_environment;
mod remove_host;
mod remove_stack;
mod replace_host;
mod reprovision_host;
mod rescue_swarm;
mod restore_swarm;
mod resume_environment;
mod rotate_keys;
mod suspension;
mod unlock_swarm;
mod update_environment;
mod update_host;
mod update_swarm;
mod upgrade_environment;
mod upgrade_host;

use skep_model::environment::Environment;
use skep_model::host::{Host, Role};

use crate::{At, Effect, Next, Workflow};

/// Every workflow there is. The interruption harness walks this list, so a new one cannot go untested.
pub const WORKFLOWS: &[Workflow] = &[
    create_environment::WORKFLOW,
    create_host::WORKFLOW,
    form_swarm::WORKFLOW,
    rescue_swarm::WORKFLOW,
    restore_swarm::WORKFLOW,
    check_host::WORKFLOW,
    move_host::WORKFLOW,
    rebalance_swarm::WORKFLOW,
    update_environment::WORKFLOW,
    update_swarm::WORKFLOW,
    rotate_keys::TOKENS,
    rotate_keys::AUTHORITY,
    rotate_keys::UNLOCK_KEY,
    unlock_swarm::WORKFLOW,
    update_host::WORKFLOW,
    reprovision_host::WORKFLOW,
    replace_host::WORKFLOW,
    deploy_stack::WORKFLOW,
    give_logins::WORKFLOW,
    remove_stack::WORKFLOW,
    remove_host::WORKFLOW,
    upgrade_host::WORKFLOW,
    upgrade_environment::WORKFLOW,
    pause_environment::WORKFLOW,
    resume_environment::WORKFLOW,
    remove_environment::WORKFLOW,
    release_machine::WORKFLOW,
];

/// The workflow of that name.
pub fn named(name: &str) -> Option<&'static Workflow> {
    WORKFLOWS.iter().find(|workflow| workflow.name == name)
}

/// Nothing is left of the machine of the host that the operation is about: a condition that more than one workflow
/// ends with. The cloud ledger says whether there may be one; the host's own record can be gone already.
fn release_machine(at: &At) -> Next {
    match &at.machine {
        None => Next::Done,
        Some(resource) => Next::Do(Effect::ReleaseMachine {
            environment: resource.environment.clone(),
            host: resource.host.clone(),
            name: at.operation.subject.name.clone(),
            driver: resource.driver.clone(),
        }),
    }
}

/// Asks about a swarm that can be changed: one that stays, and of which a manager can be reached.
fn with_swarm(at: &At, ask: impl FnOnce(&Environment) -> Next) -> Next {
    match &at.environment {
        Some(environment) if !at.environment_goes() => match at.swarm_managers().next() {
            Some(_) => ask(environment),
            None => Next::Wait("no manager of the swarm can be reached".into()),
        },
        _ => Next::Turn("the environment is being removed".into()),
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
