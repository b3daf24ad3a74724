//! Gives a host another engine: its tasks move away, the engine is changed, the host is seen to serve, tasks come back.
//!
//! Never while the swarm's managers could not agree without it. Turned around, the host takes tasks as before, with the
//! engine that it has by then: an engine does not go back to an older version.

use skep_model::host::Host;
use skep_model::operation::workflow;
use skep_model::placement::Availability;
use skep_model::upgrade::{EngineWish, has_elsewhere, quorum_without};

use super::suspension::{self, with_manager};
use crate::{At, Effect, Late, Next, Step, Workflow};

/// An agent that is away for longer will not do what it is asked for.
const AGENT_MAX_SECS: i64 = 120;

/// One host at a time: two managers that check each other's quorum at once would both find it safe. Whoever waits for others
/// for a day is not waited for.
const TURN_MAX_SECS: i64 = 24 * 3_600;

/// Time for tasks to stop gracefully and start elsewhere; services may ask for long goodbyes.
const EVACUATE_MAX_SECS: i64 = 900;

/// Packages are fetched and installed.
const CHANGE_MAX_SECS: i64 = 1_800;

/// Time for an engine to start, and for the swarm to see its node.
const VERIFY_MAX_SECS: i64 = 300;

/// Time for tasks to start, and for health checks to pass.
const TASKS_MAX_SECS: i64 = 300;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::UPGRADE_HOST,
    steps: &[
        Step::new("agent", agent).within(AGENT_MAX_SECS, Late::Turn),
        Step::new("turn", turn).within(TURN_MAX_SECS, Late::Turn),
        Step::new("quorum", quorum),
        Step::new("drain", drain)
            .leaving("the host takes no tasks until its environment is resumed")
            .undone_by(wake, "the host takes tasks as before"),
        Step::new("evacuate", evacuate).within(EVACUATE_MAX_SECS, Late::Turn),
        Step::new("engine", engine)
            .leaving("the host keeps the engine that it has by then")
            .within(CHANGE_MAX_SECS, Late::Turn),
        Step::new("verify", verify).within(VERIFY_MAX_SECS, Late::Turn),
        Step::new("wake", wake).leaving("the host takes tasks as before"),
        Step::new("tasks", tasks).within(TASKS_MAX_SECS, Late::Turn),
    ],
};

fn agent(at: &At) -> Next {
    with_wish(at, |host, _| match host.agent.connected {
        true => Next::Done,
        false => Next::Wait(format!("{} is {}: {}", host.name, host.state().word, host.state().why)),
    })
}

fn turn(at: &At) -> Next {
    with_wish(at, |host, wish| {
        let holder = at.environment.as_ref().and_then(|place| place.engine_turn.as_ref());
        if host.engine_version() == wish.version || holder == Some(&host.id) {
            return Next::Done;
        }
        match at.hosts.iter().find(|other| Some(&other.id) == holder && !at.is_idle(other)) {
            Some(other) => Next::Wait(format!("{} is at it; one host at a time", other.name)),
            None => {
                Next::Do(Effect::TakeTurn { environment: host.environment.clone(), host: host.id.clone() })
            }
        }
    })
}

fn quorum(at: &At) -> Next {
    with_wish(at, |host, wish| match quorum_without(&at.hosts, host) {
        Err(why) if host.engine_version() != wish.version => Next::Wait(why),
        _ => Next::Done,
    })
}

fn drain(at: &At) -> Next {
    with_wish(at, |host, wish| {
        let takes_tasks =
            host.membership.as_ref().is_some_and(|node| node.availability != Availability::Drain);
        let nothing_to_do = host.engine_version() == wish.version || !has_elsewhere(&at.hosts, host);
        match takes_tasks && !nothing_to_do {
            true => suspension::suspend(at, std::iter::once(host)),
            false => Next::Done,
        }
    })
}

fn evacuate(at: &At) -> Next {
    with_wish(at, |host, _| {
        // The tasks of an engine that does not answer are not told to stop; they have moved already.
        if !host.is_suspended() || host.evacuated || !host.answers() {
            return Next::Done;
        }
        let (environment, id, name) = (host.environment.clone(), host.id.clone(), host.name.clone());
        with_manager(at, Effect::ObserveEvacuation { environment, host: id, name })
    })
}

fn engine(at: &At) -> Next {
    with_wish(at, |host, wish| {
        let (environment, id, name) = (host.environment.clone(), host.id.clone(), host.name.clone());
        let version = wish.version.clone();
        if host.engine_version() == version {
            return Next::Done;
        }
        match (&wish.begun_by, quorum_without(&at.hosts, host)) {
            (Some(operation), _) if *operation == at.operation.id => {
                Next::Do(Effect::ObserveEngine { environment, host: id, name, version })
            }
            (_, Err(why)) => Next::Wait(why),
            (_, Ok(())) => Next::Do(Effect::ChangeEngine { environment, host: id, name, version }),
        }
    })
}

fn verify(at: &At) -> Next {
    with_wish(at, |host, wish| match wish.verified {
        true => Next::Done,
        false => Next::Do(Effect::VerifyEngine {
            environment: host.environment.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
            version: wish.version.clone(),
        }),
    })
}

fn wake(at: &At) -> Next {
    suspension::wake(at, at.host().into_iter())
}

fn tasks(at: &At) -> Next {
    with_wish(at, |_, _| suspension::stacks_run(at))
}

fn with_wish(at: &At, ask: impl FnOnce(&Host, &EngineWish) -> Next) -> Next {
    match at.host() {
        None => Next::Turn("the host is gone".into()),
        Some(host) if host.removal.is_some() => Next::Turn("its removal was asked for".into()),
        Some(host) => match &host.engine_wish {
            Some(wish) => ask(host, wish),
            None => Next::Turn("no other engine is wished for it".into()),
        },
    }
}
