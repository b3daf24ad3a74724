//! Gives managers of a locked swarm the unlock key, all at once: alone, none of them could begin.
//!
//! About the lock and not about the swarm: another operation can have the swarm in its hands and wait for these managers.

use skep_model::operation::workflow;

use crate::{At, Effect, Next, Step, Workflow};

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::UNLOCK_SWARM,
    steps: &[Step::new("unlock", unlock).leaving("managers that were unlocked stay so")],
};

fn unlock(at: &At) -> Next {
    let Some(environment) = at.environment.as_ref().filter(|_| !at.environment_goes()) else {
        return Next::Turn("the environment is being removed".into());
    };
    let locked = at.hosts.iter().filter(|host| host.swarm_locked && host.is_ready());
    let hosts: Vec<_> = locked.map(|host| (host.id.clone(), host.name.clone())).collect();
    match hosts.is_empty() {
        true => Next::Done,
        false if environment.keys.unlock_keys().next().is_none() => Next::Turn(format!(
            "the managers were locked by other means: skep env unlock {} --key-file FILE",
            environment.name
        )),
        false => Next::Do(Effect::UnlockEngines { environment: environment.id.clone(), hosts }),
    }
}
