//! What people ask of an operation: give it up, try again, pause, go on. Each either does it or says why not.

use skep_ledger::Tx;

use super::{Active, Asked, Direction, Hold, ITSELF, Operation, State, StepRecord, save, start, workflow};
use crate::environment::{self, Environment, Pause};
use crate::host::{self, Host};
use crate::ids::OperationId;
use crate::resource::CloudResource;
use crate::stack::{self, Stack};
use crate::{CLUSTER, Refusal, Ruling, balance};

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

/// Turns an operation around, and with it those that it waits for. One that has not begun is simply over.
pub fn cancel(tx: &mut Tx<'_>, id: &str, by: &str) -> Ruling<Operation> {
    let operation = find(tx, id)?;
    may_be_cancelled(&operation).map_err(|why| wrong_state(&operation, "cancelled", &why))?;
    withdraw_wish(tx, &operation)?;
    give_up_replacement(tx, &operation, by)?;
    for child in open_children(tx, &operation)? {
        // What cannot be taken back any more comes to its end.
        if may_be_cancelled(&child).is_ok() {
            withdraw_wish(tx, &child)?;
            turn_around(tx, child, by)?;
        }
    }
    turn_around(tx, operation, by)
}

fn turn_around(tx: &mut Tx<'_>, mut operation: Operation, by: &str) -> Ruling<Operation> {
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

/// The operations on hosts that it waits for. Only what is about a whole environment has any.
fn open_children(tx: &mut Tx<'_>, operation: &Operation) -> Ruling<Vec<Operation>> {
    let place = operation.environment.as_ref().filter(|_| operation.subject.kind == "environment");
    let Some((environment, _)) = place else {
        return Ok(vec![]);
    };
    let mut children = vec![];
    for host in tx.list::<Host>(environment.as_str())? {
        let Some(active) = tx.get::<Active>(CLUSTER, &host::subject(&host).index())? else {
            continue;
        };
        for id in std::iter::once(&active.operation).chain(&active.queue) {
            let found = tx.get::<Operation>(CLUSTER, id.as_str())?.map(|stored| stored.record);
            children.extend(found.filter(|child| child.parent.as_ref() == Some(&operation.id)));
        }
    }
    Ok(children)
}

/// Lets everything go on that is paused in an environment.
pub fn let_go_all(tx: &mut Tx<'_>, environment: &Environment) -> Ruling<()> {
    let place = environment.id.as_str();
    let mut subjects = vec![environment::subject(environment), environment::swarm(environment)];
    subjects.extend(tx.list::<Host>(place)?.iter().map(|host| host::subject(host)));
    subjects.extend(tx.list::<Stack>(place)?.iter().map(|stack| stack::subject(stack)));
    for subject in subjects {
        if let Some(active) = tx.get::<Active>(CLUSTER, &subject.index())?
            && let Some(mut operation) = tx.get::<Operation>(CLUSTER, active.operation.as_str())?
            && operation.paused().is_some()
        {
            operation.record.let_go(tx.now());
            save(tx, &operation.record)?;
        }
    }
    Ok(())
}

/// Tries at once what waits; begins anew what has failed, as an operation with the id `again`.
pub fn retry(tx: &mut Tx<'_>, id: &str, again: OperationId, by: &str) -> Ruling<Operation> {
    let mut operation = find(tx, id)?;
    may_be_retried(&operation).map_err(|why| wrong_state(&operation, "tried again", &why))?;
    if operation.ended() {
        return begin_again(tx, &operation, again);
    }
    if operation.paused().is_some() {
        return go_on(tx, operation);
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
    let operation = find(tx, id)?;
    if operation.paused().is_none() {
        return Err(wrong_state(&operation, "resumed", "it is not paused"));
    }
    go_on(tx, operation)
}

fn go_on(tx: &mut Tx<'_>, mut operation: Operation) -> Ruling<Operation> {
    let now = tx.now();
    operation.let_go(now);
    operation.resumed_at = Some(now);
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
            Some(asked) if asked.by != ITSELF => {
                Err(format!("{} has paused it; it can be resumed", asked.by))
            }
            _ => Ok(()),
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

/// Whoever gives something up does not wish it any more; otherwise a planner would take it up again.
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
        workflow::PAUSE_ENVIRONMENT => {
            place.record.pause = None;
            tx.put(&place.record);
        }
        workflow::RESUME_ENVIRONMENT => {
            place.record.pause.get_or_insert(Pause { since: tx.now(), running: None });
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
        workflow::REPLACE_HOST if operation.steps.is_empty() => {
            host::renewal::withdraw(tx, &place, &operation.subject.id)?;
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

/// Whoever keeps a host that was to be replaced does not want the replacement, which would ask for its removal again.
fn give_up_replacement(tx: &mut Tx<'_>, removal: &Operation, by: &str) -> Ruling<()> {
    let parent = removal.parent.as_ref().filter(|_| removal.workflow == workflow::REMOVE_HOST);
    let Some(parent) = parent else { return Ok(()) };
    let Some(stored) = tx.get::<Operation>(CLUSTER, parent.as_str())? else { return Ok(()) };
    let mut replacement = stored.record;
    let is_it = replacement.workflow == workflow::REPLACE_HOST
        && replacement.subject.id == removal.subject.id
        && replacement.direction == Direction::Forward;
    if is_it && !replacement.ended() {
        let now = tx.now();
        replacement.turn(&format!("the removal of {} was cancelled by {by}", removal.subject.name), now);
        save(tx, &replacement)?;
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
    if ended.workflow == workflow::RELEASE_MACHINE {
        tx.get::<CloudResource>(CLUSTER, &ended.subject.id)?.ok_or_else(|| gone("machine"))?;
        let operation = start(tx, id, &ended.workflow, ended.subject.clone(), None, None)?;
        return taken_up(tx, operation, ended);
    }
    let place = ended.environment.as_ref().map_or("", |(id, _)| id.as_str());
    let environment = tx.get::<Environment>(CLUSTER, place)?.ok_or_else(|| gone("environment"))?.record;
    wish_again(tx, ended, &environment)?;
    let parent = match &ended.parent {
        Some(parent) => tx.get::<Operation>(CLUSTER, parent.as_str())?.filter(|parent| !parent.ended()),
        None => None,
    };
    let parent = parent.map(|parent| parent.record.id);
    let subject = ended.subject.clone();
    if ended.workflow == workflow::REBALANCE_SWARM {
        balance::begin(tx, &environment.id, &id)?;
    }
    let operation = start(tx, id, &ended.workflow, subject, Some(&environment), parent)?;
    taken_up(tx, operation, ended)
}

fn taken_up(tx: &mut Tx<'_>, mut again: Operation, ended: &Operation) -> Ruling<Operation> {
    again.retry_of = Some(ended.id.clone());
    saved(tx, again)
}

/// What was wished when the operation was first asked for is wished again, unless something else is wished by now.
fn wish_again(tx: &mut Tx<'_>, ended: &Operation, environment: &Environment) -> Ruling<()> {
    let refused = |why: &str| Err(wrong_state(ended, "tried again", why));
    let (scope, now) = (environment.id.as_str(), tx.now());
    if environment.removal.is_some() && !workflow::REMOVALS.contains(&ended.workflow.as_str()) {
        return refused("the environment is being removed");
    }
    if ends_at_rest(&ended.workflow) && environment.pause.is_some() {
        return refused("the environment is paused; resume it first");
    }
    match ended.workflow.as_str() {
        workflow::PAUSE_ENVIRONMENT | workflow::RESUME_ENVIRONMENT => {
            let pauses = ended.workflow == workflow::PAUSE_ENVIRONMENT;
            if pauses != environment.pause.is_some() {
                let mut environment = environment.clone();
                environment.pause = pauses.then_some(Pause { since: now, running: None });
                tx.put(&environment);
            }
        }
        workflow::REMOVE_ENVIRONMENT => {
            let mut environment = environment.clone();
            environment.removal.get_or_insert(now);
            tx.put(&environment);
        }
        workflow::CREATE_HOST
        | workflow::CHECK_HOST
        | workflow::MOVE_HOST
        | workflow::UPDATE_HOST
        | workflow::UPGRADE_HOST
        | workflow::REPROVISION_HOST
        | workflow::REMOVE_HOST => {
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
                    host.forget_machine();
                } else if host.was_ready {
                    // Going back would give a machine away that has been at work since.
                    return refused("the host has been brought to life since");
                }
            }
            tx.put(&host);
        }
        workflow::REPLACE_HOST => {
            if !host::renewal::goes_on(tx, environment, &ended.subject.id)? {
                return refused("the host that was to take its place is gone; ask anew: skep host replace");
            }
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
        workflow::CREATE_ENVIRONMENT
        | workflow::UPDATE_ENVIRONMENT
        | workflow::UPGRADE_ENVIRONMENT
        | workflow::FORM_SWARM
        | workflow::RESCUE_SWARM
        | workflow::RESTORE_SWARM
        | workflow::REBALANCE_SWARM => {}
        _ => return refused("this version does not know the workflow"),
    }
    Ok(())
}

/// Is that something which is not begun in an environment that rests?
fn ends_at_rest(workflow: &str) -> bool {
    [
        workflow::CREATE_HOST,
        workflow::MOVE_HOST,
        workflow::UPDATE_HOST,
        workflow::UPGRADE_HOST,
        workflow::REPROVISION_HOST,
        workflow::REPLACE_HOST,
        workflow::DEPLOY_STACK,
        workflow::UPDATE_ENVIRONMENT,
        workflow::UPGRADE_ENVIRONMENT,
    ]
    .contains(&workflow)
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
