//! One run of a workflow, as the ledger remembers it: which step, which attempt, whose, and why it waits.
//!
//! The moves are plain functions on the record, so that the engine's transaction is "get, move, put". An operation
//! goes forward through its steps; turned around, it goes back through those that were begun, undoing each:
//!
//! ```text
//!   queued ─► running ⇄ waiting ─► succeeded
//!                 └──turn──► running (back) ─► failed
//! ```
//!
//! One operation at a time is active for a subject; others queue behind it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use crate::environment::Environment;
use crate::ids::{EnvironmentId, OperationId};
use crate::{CLUSTER, Ruling};

/// The workflows by name; `scheduler` holds what they do, and a test there compares the two lists.
pub mod workflow {
    /// Makes an environment with its first hosts.
    pub const CREATE_ENVIRONMENT: &str = "create-environment";
    /// Makes a machine and brings it into the environment's swarm.
    pub const CREATE_HOST: &str = "create-host";
    /// Brings what is wished for a host's node into the swarm.
    pub const UPDATE_HOST: &str = "update-host";
    /// Makes the ready hosts of an environment into one swarm.
    pub const FORM_SWARM: &str = "form-swarm";
    /// Begins a swarm that has lost its quorum anew on one of its managers.
    pub const RESCUE_SWARM: &str = "rescue-swarm";
    /// Makes a recipe into running services.
    pub const DEPLOY_STACK: &str = "deploy-stack";
    /// Removes a stack's services and networks.
    pub const REMOVE_STACK: &str = "remove-stack";
    /// Takes a host out of the swarm and gives its machine back.
    pub const REMOVE_HOST: &str = "remove-host";
    /// Removes an environment with everything in it.
    pub const REMOVE_ENVIRONMENT: &str = "remove-environment";
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// `environment`, `host`, `stack` or `swarm`.
    pub kind: String,
    /// Its id (a swarm's is its environment's).
    pub id: String,
    /// Its name, for people.
    pub name: String,
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Another operation on the same subject goes first.
    Queued,
    /// Something is being done.
    Running,
    /// Something must happen first; the message says what.
    Waiting,
    /// Every step is done.
    Succeeded,
    /// It was turned around, or could not go on; the failure says why.
    Failed,
}

/// Which way it goes through its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Bringing it about.
    Forward,
    /// Giving back what was made.
    Back,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its turn has not come.
    Pending,
    /// It was begun.
    Running,
    /// Its condition holds.
    Done,
    /// It could not be brought about.
    Failed,
    /// What it made was given back.
    Undone,
}

/// One step of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's name in its workflow.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// How often something was tried.
    pub attempt: u32,
    /// How often in a row that failed.
    pub failures: u32,
    /// When it was begun.
    pub started_at: Option<Timestamp>,
    /// When it was done, undone or given up.
    pub ended_at: Option<Timestamp>,
    /// Not to be tried again before; survives a leader change.
    pub retry_at: Option<Timestamp>,
    /// What is being done or waited for, or the last error.
    pub message: String,
    /// The manager that tried last.
    pub owner: String,
}

/// One run of a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// The workflow's name.
    pub workflow: String,
    /// What it is about.
    pub subject: Subject,
    /// The environment it happens in: id and name.
    pub environment: Option<(EnvironmentId, String)>,
    /// The operation that waits for this one.
    pub parent: Option<OperationId>,
    /// Where it stands.
    pub state: State,
    /// Which way it goes.
    pub direction: Direction,
    /// Index of the current step.
    pub step: usize,
    /// All steps, in order; empty until the engine has taken it up.
    pub steps: Vec<StepRecord>,
    /// In words, what goes on.
    pub message: String,
    /// Why it was turned around.
    pub failure: Option<String>,
    /// When it was turned around: giving back has time limits of its own.
    #[serde(default)]
    pub turned_at: Option<Timestamp>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was taken up.
    pub started_at: Option<Timestamp>,
    /// When it came to its end.
    pub ended_at: Option<Timestamp>,
    /// Which manager tried how often.
    pub attempts_by_node: BTreeMap<String, u32>,
}

impl Record for Operation {
    const TABLE: &'static str = "operation";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.id.to_string()
    }
}

/// The operation that a subject is in the hands of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// `kind/id` of the subject.
    pub subject: String,
    /// The operation.
    pub operation: OperationId,
}

impl Record for Active {
    const TABLE: &'static str = "active-operation";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.subject.clone()
    }
}

impl Subject {
    /// A subject of the given kind.
    pub fn new(kind: &str, id: impl ToString, name: impl ToString) -> Subject {
        Subject { kind: kind.into(), id: id.to_string(), name: name.to_string() }
    }

    /// What the index of active operations calls it.
    pub fn index(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// Starts an operation, or queues it behind the one its subject is in the hands of.
pub fn start(
    tx: &mut Tx<'_>,
    id: OperationId,
    workflow: &str,
    subject: Subject,
    environment: Option<&Environment>,
    parent: Option<OperationId>,
) -> Ruling<Operation> {
    let busy = tx.get::<Active>(CLUSTER, &subject.index())?.is_some();
    let now = tx.now();
    let operation = Operation {
        id,
        workflow: workflow.to_owned(),
        environment: environment.map(|environment| (environment.id.clone(), environment.name.to_string())),
        parent,
        state: if busy { State::Queued } else { State::Running },
        direction: Direction::Forward,
        step: 0,
        steps: vec![],
        message: if busy { "another operation on it goes first".into() } else { String::new() },
        failure: None,
        turned_at: None,
        created_at: now,
        started_at: (!busy).then_some(now),
        ended_at: None,
        attempts_by_node: BTreeMap::new(),
        subject,
    };
    if !busy {
        tx.put(&Active { subject: operation.subject.index(), operation: operation.id.clone() });
    }
    tx.put(&operation);
    Ok(operation)
}

/// Takes a queued operation up if its subject is free by now.
pub fn activate(tx: &mut Tx<'_>, id: &OperationId) -> Ruling<()> {
    let Some(mut operation) = tx.get::<Operation>(CLUSTER, id.as_str())? else {
        return Ok(());
    };
    let free = tx.get::<Active>(CLUSTER, &operation.subject.index())?.is_none();
    if operation.state == State::Queued && free {
        operation.record.state = State::Running;
        operation.record.message = String::new();
        operation.record.started_at = Some(tx.now());
        tx.put(&Active { subject: operation.subject.index(), operation: id.clone() });
        tx.put(&operation.record);
    }
    Ok(())
}

/// Stores a moved operation; one that has come to its end lets go of its subject.
pub fn save(tx: &mut Tx<'_>, operation: &Operation) -> Ruling<()> {
    if operation.ended() {
        tx.delete::<Active>(CLUSTER, &operation.subject.index());
    }
    tx.put(operation);
    Ok(())
}

/// The operation that a subject is in the hands of.
pub fn active(view: &View, kind: &str, id: &str) -> Ruling<Option<OperationId>> {
    Ok(view.get::<Active>(CLUSTER, &format!("{kind}/{id}"))?.map(|active| active.record.operation))
}

impl Operation {
    /// Has it come to its end?
    pub fn ended(&self) -> bool {
        matches!(self.state, State::Succeeded | State::Failed)
    }

    /// The step it is at, unless it has ended.
    pub fn current(&self) -> Option<&StepRecord> {
        if self.ended() { None } else { self.steps.get(self.step) }
    }

    /// Since when the current step has been tried in the current direction, if it has been.
    pub fn trying_since(&self) -> Option<Timestamp> {
        match self.direction {
            Direction::Forward => self.current()?.started_at,
            Direction::Back => self.turned_at,
        }
    }

    /// Writes down the steps that lie ahead.
    pub fn prepare<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.steps = names
            .map(|name| StepRecord {
                name: name.to_owned(),
                state: StepState::Pending,
                attempt: 0,
                failures: 0,
                started_at: None,
                ended_at: None,
                retry_at: None,
                message: String::new(),
                owner: String::new(),
            })
            .collect();
    }

    /// Something is about to be tried for the current step.
    pub fn begin(&mut self, doing: &str, owner: &str, now: Timestamp) {
        self.state = State::Running;
        self.message = doing.to_owned();
        *self.attempts_by_node.entry(owner.to_owned()).or_default() += 1;
        let step = &mut self.steps[self.step];
        step.state = StepState::Running;
        step.attempt += 1;
        step.started_at.get_or_insert(now);
        step.retry_at = None;
        step.message = doing.to_owned();
        step.owner = owner.to_owned();
    }

    /// The try went well; whether the step's condition holds now is asked again.
    pub fn succeeded(&mut self) {
        self.steps[self.step].failures = 0;
    }

    /// The try failed, or its outcome is unknown; it is tried again, not before `retry_at`.
    pub fn failed(&mut self, error: &str, retry_at: Timestamp) {
        let step = &mut self.steps[self.step];
        step.failures += 1;
        step.retry_at = Some(retry_at);
        step.message = error.to_owned();
        self.state = State::Waiting;
        self.message = format!("{}: {error}", step.name);
    }

    /// The step's condition does not hold yet, and nothing of ours would change that.
    pub fn wait(&mut self, why: &str, now: Timestamp) {
        self.state = State::Waiting;
        self.message = why.to_owned();
        let step = &mut self.steps[self.step];
        step.state = StepState::Running;
        step.started_at.get_or_insert(now);
        step.message = why.to_owned();
    }

    /// The current step's condition holds (going back: nothing of it is left).
    pub fn advance(&mut self, now: Timestamp) {
        let back = self.direction == Direction::Back;
        let step = &mut self.steps[self.step];
        step.started_at.get_or_insert(now);
        step.ended_at = Some(now);
        step.retry_at = None;
        step.message = String::new();
        step.state = if back { StepState::Undone } else { StepState::Done };
        self.state = State::Running;
        match (back, self.step) {
            (false, at) if at + 1 < self.steps.len() => self.step += 1,
            (false, _) => self.end(State::Succeeded, now),
            (true, 0) => self.end(State::Failed, now),
            (true, _) => self.step -= 1,
        }
    }

    /// It cannot be brought about: what was made is given back, from the current step backwards.
    pub fn turn(&mut self, why: &str, now: Timestamp) {
        self.direction = Direction::Back;
        self.turned_at = Some(now);
        self.failure = Some(why.to_owned());
        self.message = format!("giving up: {why}");
        let step = &mut self.steps[self.step];
        step.message = why.to_owned();
        step.ended_at = Some(now);
        step.state = StepState::Failed;
        step.failures = 0;
        step.retry_at = None;
    }

    /// It ends here, unfinished; nothing more is given back.
    pub fn abandon(&mut self, why: &str, now: Timestamp) {
        self.failure.get_or_insert_with(|| why.to_owned());
        let step = &mut self.steps[self.step];
        step.state = StepState::Failed;
        step.ended_at = Some(now);
        step.message = why.to_owned();
        self.end(State::Failed, now);
    }

    fn end(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.ended_at = Some(now);
        self.message = match (&self.failure, state) {
            (Some(failure), State::Failed) => failure.clone(),
            _ => "done".into(),
        };
    }
}

#[cfg(test)]
mod tests {
    use skep_ledger::{Ledger, MemoryLedger, Request, transact};
    use uuid::Uuid;

    use super::*;
    use crate::Refusal;

    fn operation(steps: &[&str]) -> Operation {
        let view = MemoryLedger::new().view();
        let mut tx = Tx::new(&view, Timestamp::UNIX_EPOCH);
        let id = OperationId::new(Uuid::nil());
        let subject = Subject::new("host", "host_1", "web-1");
        let mut operation = start(&mut tx, id, "w", subject, None, None).expect("starts");
        operation.prepare(steps.iter().copied());
        operation
    }

    #[test]
    fn it_goes_forward_to_success() {
        let mut operation = operation(&["a", "b"]);
        operation.advance(Timestamp::UNIX_EPOCH);
        assert_eq!(operation.current().expect("goes on").name, "b");
        operation.advance(Timestamp::UNIX_EPOCH);
        assert_eq!((operation.state, operation.message.as_str()), (State::Succeeded, "done"));
    }

    #[test]
    fn turned_around_it_undoes_from_the_current_step_and_fails_with_the_reason() {
        let mut operation = operation(&["a", "b", "c"]);
        operation.advance(Timestamp::UNIX_EPOCH);
        operation.turn("no quota", Timestamp::UNIX_EPOCH);
        operation.advance(Timestamp::UNIX_EPOCH);
        operation.advance(Timestamp::UNIX_EPOCH);
        let states: Vec<_> = operation.steps.iter().map(|step| step.state).collect();
        assert_eq!(states, [StepState::Undone, StepState::Undone, StepState::Pending]);
        assert_eq!((operation.state, operation.message.as_str()), (State::Failed, "no quota"));
    }

    #[tokio::test]
    async fn a_second_operation_on_a_subject_queues_until_the_first_has_ended() {
        let ledger = MemoryLedger::new();
        let subject = || Subject::new("host", "host_1", "web-1");
        let ids = [OperationId::new(Uuid::from_u128(1)), OperationId::new(Uuid::from_u128(2))];
        let mut states = vec![];
        for id in &ids {
            let started =
                transact(&*ledger, Request::new(), |tx| start(tx, id.clone(), "w", subject(), None, None));
            states.push(started.await.expect("starts").answer.state);
        }
        assert_eq!(states, [State::Running, State::Queued]);
        transact(&*ledger, Request::new(), |tx| {
            let mut first = tx.get::<Operation>(CLUSTER, ids[0].as_str())?.expect("exists").record;
            first.prepare(["only"].into_iter());
            first.advance(tx.now());
            save(tx, &first)?;
            activate(tx, &ids[1])
        })
        .await
        .map_err(|error: skep_ledger::TransactError<Refusal>| error.to_string())
        .expect("commits");
        let second = ledger.view().get::<Operation>(CLUSTER, ids[1].as_str()).expect("reads");
        assert_eq!(second.expect("exists").state, State::Running);
    }
}
