//! What people ask of an operation: give it up, try again, pause, go on. Each either does it or says why not.

use skep_ledger::Tx;

use super::{Active, Asked, Direction, Hold, Operation, State, StepRecord, save, start, workflow};
use crate::environment::Environment;
use crate::host::{Agent, Host};
use crate::ids::OperationId;
use crate::resource::CloudResource;
use crate::stack::Stack;
use crate::{CLUSTER, Refusal, Ruling};

/// What a person can do about an operation as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WayOut {
    /// Give it up.
    Cancel,
    /// Try at once, or again.
    Retry,
    /// Let it go on.
    Resume,
}

/// What becomes of what an operation has made when it is turned around now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turnaround {
    /// Step and words of what is given back, in the order in which it will be.
    pub gives_back: Vec<(String, String)>,
    /// Step and words of what stays.
    pub stays: Vec<(String, String)>,
}

impl Operation {
    /// Everything that a person can do about it now; never empty before its end.
    pub fn ways_out(&self) -> Vec<WayOut> {
        let cancel = may_be_cancelled(self).is_ok().then_some(WayOut::Cancel);
        let retry = may_be_retried(self).is_ok().then_some(WayOut::Retry);
        let resume = self.paused().is_some().then_some(WayOut::Resume);
        [cancel, retry, resume].into_iter().flatten().collect()
    }
}

/// What would be given back, and what would stay.
pub fn turnaround(operation: &Operation) -> Turnaround {
    let mut plan = Turnaround::default();
    // What is given back is whatever is there, even if another operation has made it.
    let concerned = |step: &&StepRecord| {
        step.has_made_something() || (step.undo.is_some() && step.state == super::StepState::Done)
    };
    let ahead = operation.steps.get(..=operation.step).unwrap_or(&operation.steps);
    for step in ahead.iter().rev().filter(concerned) {
        match &step.undo {
            Some(undo) => plan.gives_back.push((step.name.clone(), undo.clone())),
            None => plan.stays.push((step.name.clone(), step.keeps.clone())),
        }
    }
    plan
}

/// Turns an operation around. One that has not begun is simply over.
pub fn cancel(tx: &mut Tx<'_>, id: &str, by: &str) -> Ruling<Operation> {
    let mut operation = find(tx, id)?;
    may_be_cancelled(&operation).map_err(|why| wrong_state(&operation, "cancelled", &why))?;
    withdraw_wish(tx, &operation)?;
    let now = tx.now();
    operation.cancelled = Some(Asked { by: by.to_owned(), at: now });
    let why = format!("cancelled by {by}");
    if operation.state == State::Queued || operation.steps.is_empty() {
        operation.failure = Some(why);
        operation.end(State::Failed, now);
    } else {
        operation.turn(&why, now);
    }
    saved(tx, operation)
}

/// Tries at once what waits; begins anew what has failed, as an operation with the id `again`.
pub fn retry(tx: &mut Tx<'_>, id: &str, again: OperationId, by: &str) -> Ruling<Operation> {
    let mut operation = find(tx, id)?;
    may_be_retried(&operation).map_err(|why| wrong_state(&operation, "tried again", &why))?;
    if operation.ended() {
        return begin_again(tx, &operation, again);
    }
    operation.message = format!("{by} asked for a try at once");
    let step = operation.step;
    if let Some(step) = operation.steps.get_mut(step) {
        step.retry_at = None;
        step.failures = 0;
    }
    saved(tx, operation)
}

/// Lets an operation do nothing new.
pub fn pause(tx: &mut Tx<'_>, id: &str, by: &str) -> Ruling<Operation> {
    let mut operation = find(tx, id)?;
    let why = match (operation.paused(), operation.state) {
        (Some(asked), _) => Some(format!("{} has paused it already", asked.by)),
        (None, State::Queued) => Some("it has not begun; it can be cancelled".into()),
        _ if operation.ended() => Some(ended_in(&operation)),
        _ => None,
    };
    if let Some(why) = why {
        return Err(wrong_state(&operation, "paused", &why));
    }
    let now = tx.now();
    operation.pause(by, now);
    saved(tx, operation)
}

/// Lets a paused operation go on, with as much time as it had left.
pub fn resume(tx: &mut Tx<'_>, id: &str) -> Ruling<Operation> {
    let mut operation = find(tx, id)?;
    if operation.paused().is_none() {
        return Err(wrong_state(&operation, "resumed", "it is not paused"));
    }
    let now = tx.now();
    operation.let_go(now);
    saved(tx, operation)
}

fn saved(tx: &mut Tx<'_>, operation: Operation) -> Ruling<Operation> {
    save(tx, &operation)?;
    let stored = tx.get::<Operation>(CLUSTER, operation.id.as_str())?;
    Ok(stored.map_or(operation, |stored| stored.record))
}

fn may_be_cancelled(operation: &Operation) -> Result<(), String> {
    if operation.ended() {
        return Err(ended_in(operation));
    }
    if operation.direction == Direction::Back {
        let why = operation.failure.as_deref().unwrap_or("it could not go on");
        return Err(format!("it gives back already what it made: {why}"));
    }
    let begun = operation.steps.iter().find(|step| step.for_good && step.attempt > 0);
    match begun {
        Some(step) => {
            let name = &step.name;
            Err(format!("what its step '{name}' has begun cannot be taken back; it can be retried or paused"))
        }
        None => Ok(()),
    }
}

fn may_be_retried(operation: &Operation) -> Result<(), String> {
    match operation.state {
        State::Succeeded => Err(ended_in(operation)),
        State::Failed | State::Cancelled => Ok(()),
        State::Queued => Err("it waits for its turn; there is nothing to try yet".into()),
        State::Running | State::Waiting => match operation.paused() {
            Some(asked) => Err(format!("{} has paused it; it can be resumed", asked.by)),
            None => Ok(()),
        },
    }
}

fn ended_in(operation: &Operation) -> String {
    match operation.state {
        State::Succeeded => "it has succeeded".into(),
        State::Cancelled => "it was cancelled".into(),
        _ => "it has failed".into(),
    }
}

/// Whoever gives up a removal wants the thing to stay; otherwise a planner would take the removal up again.
fn withdraw_wish(tx: &mut Tx<'_>, operation: &Operation) -> Ruling<()> {
    let Some((environment, _)) = &operation.environment else {
        return Ok(());
    };
    let Some(mut place) = tx.get::<Environment>(CLUSTER, environment.as_str())? else {
        return Ok(());
    };
    match operation.workflow.as_str() {
        workflow::REMOVE_ENVIRONMENT => {
            place.record.removal = None;
            tx.put(&place.record);
        }
        workflow::REMOVE_HOST | workflow::REMOVE_STACK if place.removal.is_some() => {
            let why = format!("the environment '{}' is being removed, and everything in it", place.name);
            return Err(wrong_state(operation, "cancelled", &why));
        }
        workflow::REMOVE_HOST => {
            if let Some(mut host) = tx.get::<Host>(environment.as_str(), &operation.subject.id)? {
                host.record.removal = None;
                host.record.evacuated = false;
                tx.put(&host.record);
            }
        }
        workflow::REMOVE_STACK => {
            if let Some(mut stack) = tx.get::<Stack>(environment.as_str(), &operation.subject.name)? {
                stack.record.removal = None;
                tx.put(&stack.record);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The same workflow on the same subject once more, if there still is something that it could be about.
fn begin_again(tx: &mut Tx<'_>, ended: &Operation, id: OperationId) -> Ruling<Operation> {
    if let Some(active) = tx.get::<Active>(CLUSTER, &ended.subject.index())? {
        let operation = active.operation.to_string();
        return Err(Refusal::OperationInProgress { subject: ended.subject.to_string(), operation });
    }
    let gone = |what: &str| wrong_state(ended, "tried again", &format!("the {what} is gone"));
    let place = ended.environment.as_ref().map_or("", |(id, _)| id.as_str());
    let environment = tx.get::<Environment>(CLUSTER, place)?.ok_or_else(|| gone("environment"))?.record;
    wish_again(tx, ended, &environment)?;
    let parent = match &ended.parent {
        Some(parent) => tx.get::<Operation>(CLUSTER, parent.as_str())?.filter(|parent| !parent.ended()),
        None => None,
    };
    let parent = parent.map(|parent| parent.record.id);
    let subject = ended.subject.clone();
    let mut operation = start(tx, id, &ended.workflow, subject, Some(&environment), parent)?;
    operation.retry_of = Some(ended.id.clone());
    saved(tx, operation)
}

/// What was wished when the operation was first asked for is wished again, unless something else is wished by now.
fn wish_again(tx: &mut Tx<'_>, ended: &Operation, environment: &Environment) -> Ruling<()> {
    let refused = |why: &str| Err(wrong_state(ended, "tried again", why));
    let (scope, now) = (environment.id.as_str(), tx.now());
    if environment.removal.is_some() && !workflow::REMOVALS.contains(&ended.workflow.as_str()) {
        return refused("the environment is being removed");
    }
    match ended.workflow.as_str() {
        workflow::REMOVE_ENVIRONMENT => {
            let mut environment = environment.clone();
            environment.removal.get_or_insert(now);
            tx.put(&environment);
        }
        workflow::CREATE_HOST | workflow::UPDATE_HOST | workflow::REMOVE_HOST => {
            let Some(host) = tx.get::<Host>(scope, &ended.subject.id)? else {
                return refused("the host is gone");
            };
            let mut host = host.record;
            if ended.workflow == workflow::REMOVE_HOST {
                host.removal.get_or_insert(now);
            } else if host.removal.is_some() {
                return refused("the host is being removed");
            } else if ended.workflow == workflow::CREATE_HOST {
                let machine = tx.get::<CloudResource>(CLUSTER, host.id.as_str())?;
                if host.driver.is_some() && machine.is_none() {
                    forget_machine(&mut host);
                } else if host.was_ready {
                    // Going back would give a machine away that has been at work since.
                    return refused("the host has been brought to life since");
                }
            }
            tx.put(&host);
        }
        workflow::DEPLOY_STACK | workflow::REMOVE_STACK => {
            let Some(stack) = tx.get::<Stack>(scope, &ended.subject.name)? else {
                return refused("the stack is gone");
            };
            let mut stack = stack.record;
            if ended.workflow == workflow::REMOVE_STACK {
                stack.removal.get_or_insert(now);
            } else if stack.removal.is_some() {
                return refused("the stack is being removed");
            }
            tx.put(&stack);
        }
        workflow::CREATE_ENVIRONMENT | workflow::FORM_SWARM | workflow::RESCUE_SWARM => {}
        _ => return refused("this version does not know the workflow"),
    }
    Ok(())
}

/// The next machine has an agent with a key of its own, which must be able to register.
fn forget_machine(host: &mut Host) {
    host.machine = None;
    host.registration = None;
    host.agent = Agent::default();
    host.inventory = None;
    host.membership = None;
    host.was_ready = false;
    host.evacuated = false;
}

fn find(tx: &mut Tx<'_>, id: &str) -> Ruling<Operation> {
    let missing = || Refusal::NotFound { what: "operation", name: id.to_owned(), scope: None };
    Ok(tx.get::<Operation>(CLUSTER, id)?.ok_or_else(missing)?.record)
}

fn wrong_state(operation: &Operation, cannot: &'static str, why: &str) -> Refusal {
    Refusal::WrongState {
        what: format!("operation {}", operation.id),
        cannot,
        state: operation.shown_state().to_owned(),
        why: why.to_owned(),
    }
}

impl Operation {
    /// Where it stands, in one word for people.
    pub fn shown_state(&self) -> &'static str {
        match (self.state, &self.hold) {
            (State::Succeeded, _) => "succeeded",
            (State::Failed, _) => "failed",
            (State::Cancelled, _) => "cancelled",
            (State::Queued, _) => "queued",
            (_, Some(Hold::Paused(_))) => "paused",
            _ if self.cancelled.is_some() => "cancelling",
            (State::Running, _) => "running",
            (State::Waiting, _) => "waiting",
        }
    }
}
