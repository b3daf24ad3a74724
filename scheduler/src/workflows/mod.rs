//! The workflows. Each file is one: its steps as a list, then what each step asks.

mod create_environment;
mod create_host;
mod deploy_stack;
mod form_swarm;
mod remove_environment;
mod remove_host;
mod remove_stack;

use crate::Workflow;

/// Every workflow there is. The interruption harness walks this list, so a new one cannot go untested.
pub const WORKFLOWS: &[Workflow] = &[
    create_environment::WORKFLOW,
    create_host::WORKFLOW,
    form_swarm::WORKFLOW,
    deploy_stack::WORKFLOW,
    remove_stack::WORKFLOW,
    remove_host::WORKFLOW,
    remove_environment::WORKFLOW,
];

/// The workflow of that name.
pub fn named(name: &str) -> Option<&'static Workflow> {
    WORKFLOWS.iter().find(|workflow| workflow.name == name)
}
