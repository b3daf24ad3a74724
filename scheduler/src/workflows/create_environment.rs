//! Brings an environment to life: waits until the hosts it was wished with do their part in its swarm.
//!
//! The hosts are made by operations of their own (`create-host`), the swarm by `form-swarm`. If a host cannot be
//! made, the environment stays, with what there is: its owner decides whether to add another host or remove it.

use skep_model::operation::workflow;

use crate::{At, Effect, Next, Step, Workflow};

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::CREATE_ENVIRONMENT,
    steps: &[Step::new("hosts", hosts).undone_by(open), Step::new("open", open)],
};

fn hosts(at: &At) -> Next {
    if at.environment_goes() {
        return Next::Turn("the environment is being removed".into());
    }
    let mut missing = at.hosts.iter().filter(|host| !host.is_active() && host.removal.is_none()).peekable();
    if missing.peek().is_none() {
        return Next::Done;
    }
    let given_up = |id: &str| !at.busy.contains(&format!("host/{id}"));
    let waiting: Vec<_> = missing
        .map(|host| (host, given_up(host.id.as_str())))
        .map(|(host, given_up)| (host.name.to_string(), host.state().1, given_up))
        .collect();
    match waiting.iter().find(|(_, _, given_up)| *given_up) {
        Some((name, why, _)) => Next::Turn(format!("host {name} did not become active: {why}")),
        None => {
            let all: Vec<_> = waiting.iter().map(|(name, why, _)| format!("{name}: {why}")).collect();
            Next::Wait(all.join("; "))
        }
    }
}

fn open(at: &At) -> Next {
    match &at.environment {
        Some(environment) if !environment.opened => Next::Do(Effect::OpenEnvironment(environment.id.clone())),
        _ => Next::Done,
    }
}
