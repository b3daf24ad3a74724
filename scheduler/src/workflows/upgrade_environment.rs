//! Gives all hosts of an environment another engine: one `upgrade-host` after the other, in the order of
//! [`skep_model::upgrade::order`].
//!
//! One host at a time: whatever is wrong with an engine is then wrong on one host, and the others can take its tasks. What
//! fails pauses the whole until somebody has looked at it.

use skep_model::operation::workflow;
use skep_model::upgrade::order;

use crate::{At, Effect, Late, Next, Step, Workflow};

/// Each host's upgrade has deadlines of its own; a thousand hosts at ten minutes each take a week. Pauses do not count.
const HOSTS_MAX_SECS: i64 = 7 * 24 * 3_600;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::UPGRADE_ENVIRONMENT,
    steps: &[Step::new("hosts", hosts)
        .leaving("hosts that have the new engine keep it")
        .within(HOSTS_MAX_SECS, Late::Turn)],
};

fn hosts(at: &At) -> Next {
    let Some(environment) = at.environment.as_ref().filter(|_| !at.environment_goes()) else {
        return Next::Turn("the environment is being removed".into());
    };
    let Some(version) = &environment.engine_wish else {
        return Next::Turn("no other engine is wished for it".into());
    };
    let hosts = order(&at.hosts);
    let done = hosts.iter().filter(|host| host.serves_with(version)).count();
    let progress = format!("{done} of {} hosts have engine {version}", hosts.len());
    // Whoever is being worked on comes to its end first, whatever the order says by then.
    if let Some(host) = hosts.iter().find(|host| !at.is_idle(host)) {
        return Next::Wait(format!("{progress}; {} is in the hands of an operation", host.name));
    }
    let go_on = format!("then go on: skep operation resume {}", at.operation.id);
    if let Some((host, failure)) = hosts.iter().find_map(|host| Some((host, at.failure_of(host)?))) {
        let why = &failure.why;
        return Next::Hold(format!(
            "{progress}; {} could not be upgraded: {why}. Mend that, {go_on}",
            host.name
        ));
    }
    match hosts.iter().find(|host| !host.serves_with(version)) {
        None => Next::Done,
        Some(host) if !host.agent.connected => {
            let state = host.state();
            Next::Hold(format!(
                "{progress}; {} is {}: {}. Mend that, {go_on}",
                host.name, state.word, state.why
            ))
        }
        Some(host) => Next::Do(Effect::UpgradeHost {
            environment: environment.id.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
            version: version.clone(),
        }),
    }
}
