//! An environment that rests: its hosts take no tasks, and nobody changes anything in it, until it is resumed.
//!
//! Its nodes are drained, and its services are left alone: what was wished for them, by whomever and also meanwhile, is
//! what runs again afterwards. What each node took before is kept with its host ([`crate::placement::Placement::kept`])
//! from before it is drained until it takes that again. So nothing is lost when leaders change, and a node that somebody
//! else has changed meanwhile is left as it is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::Tx;

use super::{Environment, subject, usable};
use crate::host::Host;
use crate::ids::{EnvironmentId, OperationId};
use crate::operation::{self, Operation, workflow};
use crate::stack::Stack;
use crate::{CLUSTER, Refusal, Ruling};

/// That an environment rests, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since somebody wished it.
    pub since: Timestamp,
    /// Tasks that ran when it was last looked, after its hosts were drained; none if nobody has looked yet.
    pub running: Option<u64>,
}

/// Asks for an environment to rest. Asking again while it is on its way there gives the same operation.
pub fn pause(tx: &mut Tx<'_>, environment: &str, id: OperationId) -> Ruling<Operation> {
    let mut environment = usable(tx, environment)?;
    let subject = subject(&environment);
    if environment.pause.is_some() {
        let running = operation::open_on(tx, &subject, workflow::PAUSE_ENVIRONMENT)?;
        let why = format!("it rests already; skep env resume {}", environment.name);
        return running.ok_or_else(|| wrong_state(&environment, "paused", why));
    }
    // It can take days, and meanwhile nothing could be changed.
    if let Some(upgrade) = operation::open_on(tx, &subject, workflow::UPGRADE_ENVIRONMENT)? {
        let operation = upgrade.id.to_string();
        return Err(Refusal::OperationInProgress { subject: subject.to_string(), operation });
    }
    environment.pause = Some(Pause { since: tx.now(), running: None });
    tx.put(&environment);
    operation::start(tx, id, workflow::PAUSE_ENVIRONMENT, subject, Some(&environment), None)
}

/// Asks for an environment to be at work again. Asking again while it is on its way there gives the same operation.
pub fn resume(tx: &mut Tx<'_>, environment: &str, id: OperationId) -> Ruling<Operation> {
    let mut environment = usable(tx, environment)?;
    let subject = subject(&environment);
    if environment.pause.is_none() {
        let running = operation::open_on(tx, &subject, workflow::RESUME_ENVIRONMENT)?;
        return running.ok_or_else(|| wrong_state(&environment, "resumed", "it is not paused".into()));
    }
    environment.pause = None;
    tx.put(&environment);
    operation::start(tx, id, workflow::RESUME_ENVIRONMENT, subject, Some(&environment), None)
}

/// The environment of that name or id in which things can be changed: it stays, and does not rest.
pub fn awake(tx: &mut Tx<'_>, reference: &str) -> Ruling<Environment> {
    let environment = usable(tx, reference)?;
    environment.check_awake()?;
    Ok(environment)
}

/// The environment does not rest after all.
pub(crate) fn lift(tx: &mut Tx<'_>, id: &EnvironmentId) -> Ruling<()> {
    change(tx, id, |environment| environment.pause = None)
}

/// So many tasks still ran when it was looked. Once there are none, what was seen of its stacks before is out of date.
pub(crate) fn tasks_seen(tx: &mut Tx<'_>, id: &EnvironmentId, running: u64) -> Ruling<()> {
    let note = |environment: &mut Environment| {
        environment.pause.iter_mut().for_each(|pause| pause.running = Some(running));
    };
    change(tx, id, note)?;
    if running > 0 {
        return Ok(());
    }
    for mut stack in tx.list::<Stack>(id.as_str())? {
        if !stack.seen.is_empty() {
            stack.record.seen.clear();
            stack.record.seen_generation = 0;
            tx.put(&stack.record);
        }
    }
    Ok(())
}

/// A host was drained: whether tasks still run has to be looked at again.
pub(crate) fn look_again(tx: &mut Tx<'_>, id: &EnvironmentId) -> Ruling<()> {
    change(tx, id, |environment| environment.pause.iter_mut().for_each(|pause| pause.running = None))
}

fn change(tx: &mut Tx<'_>, id: &EnvironmentId, change: impl FnOnce(&mut Environment)) -> Ruling<()> {
    let Some(stored) = tx.get::<Environment>(CLUSTER, id.as_str())? else {
        return Ok(());
    };
    let mut environment = stored.record.clone();
    change(&mut environment);
    if environment != stored.record {
        tx.put(&environment);
    }
    Ok(())
}

fn wrong_state(environment: &Environment, cannot: &'static str, why: String) -> Refusal {
    let state = if environment.pause.is_some() { "paused" } else { "at work" };
    Refusal::WrongState {
        what: format!("environment {}", environment.name),
        cannot,
        state: state.to_owned(),
        why,
    }
}

impl Environment {
    /// Refuses to change anything in an environment that rests.
    pub(crate) fn check_awake(&self) -> Ruling<()> {
        match self.pause {
            None => Ok(()),
            Some(_) => Err(Refusal::EnvironmentPaused { environment: self.name.to_string() }),
        }
    }

    /// The word for people while it rests, or is on its way there or back, and why.
    pub(super) fn resting(&self, hosts: &[&Host]) -> Option<(&'static str, String)> {
        let resume = format!("skep env resume {}", self.name);
        match &self.pause {
            Some(Pause { since, running: Some(0) }) => {
                Some(("paused", format!("its services rest since {since:.0}; to let them run: {resume}")))
            }
            Some(Pause { running: Some(tasks), .. }) => Some((
                "draining",
                format!("is being paused: {tasks} tasks still run; to turn back: {resume}"),
            )),
            Some(Pause { running: None, .. }) => {
                Some(("draining", format!("is being paused; to turn back: {resume}")))
            }
            None => {
                let asleep = hosts.iter().filter(|host| host.is_suspended()).count();
                let why = format!("is being resumed: {asleep} of {} hosts take no tasks yet", hosts.len());
                (asleep > 0).then_some(("degraded", why))
            }
        }
    }
}

#[cfg(test)]
#[path = "pause_tests.rs"]
mod tests;
