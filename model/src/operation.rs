//! One run of a workflow, as the ledger remembers it: which step, which attempt, whose, and why it waits.
//!
//! The moves are plain functions on the record, so that the engine's transaction is "get, move, put". An operation
//! goes forward through its steps; turned around, it goes back through those that were begun, undoing each:
//!
//! ```text
//!   queued ─► running ⇄ waiting ─► succeeded
//!                 └──turn──► running (back) ─► failed, or cancelled if somebody asked for it
//! ```
//!
//! One operation at a time is active for a subject; others queue behind it (`queue`). What people may ask of an
//! operation stands in `ask`, what it says about itself in `log`, how long it is remembered in `history`. Every state
//! but the last ones has a deadline ([`Operation::deadline`]) and a way out ([`Operation::ways_out`]).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_ledger::Record;

use crate::CLUSTER;
use crate::ids::{EnvironmentId, OperationId};

mod ask;
pub mod history;
mod log;
mod queue;

pub use ask::{Turnaround, WayOut, cancel, let_go_all, pause, resume, retry, turnaround};
pub use log::{LINES_PER_OPERATION_MAX, Line, log, save};
pub use queue::{
    Active, QUEUED_PER_SUBJECT_MAX, Rest, active, active_in, children, forget_rest, open_on, start,
    start_because,
};

/// A step that does not say how long it may take may take this long.
const STEP_DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// In the queue, waiting for a free slot, or unknown to the managers that lead: a day later nobody wants it any more.
pub const WAITING_FOR_OTHERS_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Paused for longer, it was forgotten; its subject would be in its hands for ever.
pub const PAUSED_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Who has paused an operation that paused by itself.
pub const ITSELF: &str = "skep";

/// The workflows by name; `scheduler` holds what they do, and a test there compares the two lists.
pub mod workflow {
    /// Makes an environment with its first hosts.
    pub const CREATE_ENVIRONMENT: &str = "create-environment";
    /// Makes a machine and brings it into the environment's swarm.
    pub const CREATE_HOST: &str = "create-host";
    /// Gives a host's machine back and makes it anew.
    pub const REPROVISION_HOST: &str = "reprovision-host";
    /// Lets a new host take the place of another.
    pub const REPLACE_HOST: &str = "replace-host";
    /// Checks the network between a host and its swarm.
    pub const CHECK_HOST: &str = "check-host";
    /// Lets a host whose address has changed leave its swarm and join it anew.
    pub const MOVE_HOST: &str = "move-host";
    /// Brings what is wished for a host's node into the swarm.
    pub const UPDATE_HOST: &str = "update-host";
    /// Brings what is wished anew for an environment into its swarm.
    pub const UPDATE_ENVIRONMENT: &str = "update-environment";
    /// Makes the ready hosts of an environment into one swarm.
    pub const FORM_SWARM: &str = "form-swarm";
    /// Begins a swarm that has lost its quorum anew on one of its managers.
    pub const RESCUE_SWARM: &str = "rescue-swarm";
    /// Begins a swarm anew from a backup of its state.
    pub const RESTORE_SWARM: &str = "restore-swarm";
    /// Moves tasks to hosts that have joined.
    pub const REBALANCE_SWARM: &str = "rebalance-swarm";
    /// Brings what is wished for a swarm's keys and certificates into it.
    pub const UPDATE_SWARM: &str = "update-swarm";
    /// Replaces the tokens with which nodes join.
    pub const ROTATE_TOKENS: &str = "rotate-tokens";
    /// Replaces the authority that signs the nodes' certificates.
    pub const ROTATE_AUTHORITY: &str = "rotate-ca";
    /// Replaces the key that managers need when their engines start.
    pub const ROTATE_UNLOCK_KEY: &str = "rotate-unlock-key";
    /// Gives locked managers the unlock key.
    pub const UNLOCK_SWARM: &str = "unlock-swarm";
    /// Makes a recipe into running services.
    pub const DEPLOY_STACK: &str = "deploy-stack";
    /// Brings another login to a registry to the services of a stack.
    pub const GIVE_LOGINS: &str = "give-logins";
    /// Removes a stack's services and networks.
    pub const REMOVE_STACK: &str = "remove-stack";
    /// Takes a host out of the swarm and gives its machine back.
    pub const REMOVE_HOST: &str = "remove-host";
    /// Removes an environment with everything in it.
    pub const REMOVE_ENVIRONMENT: &str = "remove-environment";
    /// Lets an environment rest.
    pub const PAUSE_ENVIRONMENT: &str = "pause-environment";
    /// Lets an environment that rests be at work again.
    pub const RESUME_ENVIRONMENT: &str = "resume-environment";
    /// Gives a host another engine.
    pub const UPGRADE_HOST: &str = "upgrade-host";
    /// Gives all hosts of an environment another engine, one after the other.
    pub const UPGRADE_ENVIRONMENT: &str = "upgrade-environment";
    /// Gives a machine back whose host is gone already.
    pub const RELEASE_MACHINE: &str = "release-machine";
    /// Those that check the network between a host and its swarm.
    pub const CHECKS: &[&str] = &[CREATE_HOST, CHECK_HOST, MOVE_HOST, REPROVISION_HOST];
    /// Those that take something away that somebody wished gone.
    pub const REMOVALS: &[&str] = &[REMOVE_STACK, REMOVE_HOST, REMOVE_ENVIRONMENT];
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// `environment`, `host`, `machine`, `replacement`, `stack`, `swarm` or `tasks`.
    pub kind: String,
    /// Its id (a swarm's, and that of its tasks, is its environment's; a replacement's that of the host that is replaced).
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
    /// Somebody asked for it to be given up, and everything that can be given back was given back.
    Cancelled,
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
    /// What it made stays: there is no way to give it back.
    Kept,
}

/// A step that lies ahead, as its workflow describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The step's name.
    pub name: String,
    /// What happens to what it makes when the operation is turned around; `None` if nothing does.
    pub undo: Option<String>,
    /// What stays of it otherwise; empty if it makes nothing.
    pub keeps: String,
    /// Once begun, it cannot be taken back.
    pub for_good: bool,
    /// How long it may take.
    pub deadline_secs: i64,
}

impl From<&str> for Planned {
    fn from(name: &str) -> Planned {
        let deadline_secs = STEP_DEADLINE.as_secs();
        Planned { name: name.into(), undo: None, keeps: String::new(), for_good: false, deadline_secs }
    }
}

/// Who asked for something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The principal.
    pub by: String,
    /// The time.
    pub at: Timestamp,
}

/// Why an operation's clock stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Somebody paused it.
    Paused(Asked),
    /// As many effects of its kind are in flight as may be; since when it waits.
    Slot(Timestamp),
}

impl Hold {
    /// Since when.
    pub fn since(&self) -> Timestamp {
        match self {
            Hold::Paused(asked) => asked.at,
            Hold::Slot(since) => *since,
        }
    }
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
    /// What happens to what it made when the operation is turned around; `None` if nothing does.
    #[serde(default)]
    pub undo: Option<String>,
    /// What stays of it otherwise; empty if it makes nothing.
    #[serde(default)]
    pub keeps: String,
    /// Once begun, it cannot be taken back.
    #[serde(default)]
    pub for_good: bool,
    /// How long it may take, in either direction.
    #[serde(default)]
    pub deadline_secs: i64,
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
    /// Since when its current step has been tried in its current direction, without the time that it was held.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Why its clock stands still.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// When it was last let go on after a pause: what has failed before was looked at by somebody.
    #[serde(default)]
    pub resumed_at: Option<Timestamp>,
    /// Who asked for it to be given up.
    #[serde(default)]
    pub cancelled: Option<Asked>,
    /// What could not be given back, and where it is.
    #[serde(default)]
    pub left: Vec<String>,
    /// The failed operation that this one takes up again.
    #[serde(default)]
    pub retry_of: Option<OperationId>,
    /// How many lines its log has had.
    #[serde(default)]
    pub lines: u64,
    /// Why it was begun although nobody asked for it; empty if somebody did.
    #[serde(default)]
    pub reason: String,
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

impl Operation {
    /// Has it come to its end?
    pub fn ended(&self) -> bool {
        matches!(self.state, State::Succeeded | State::Failed | State::Cancelled)
    }

    /// The step it is at, unless it has ended.
    pub fn current(&self) -> Option<&StepRecord> {
        if self.ended() { None } else { self.steps.get(self.step) }
    }

    /// Who has paused it, and since when.
    pub fn paused(&self) -> Option<&Asked> {
        match &self.hold {
            Some(Hold::Paused(asked)) if !self.ended() => Some(asked),
            _ => None,
        }
    }

    /// When it must have moved; it is moved then whatever happens. `None` once it has ended.
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.ended() {
            return None;
        }
        let since = self.since.or(self.started_at).unwrap_or(self.created_at);
        Some(match (&self.hold, self.state, self.steps.get(self.step)) {
            (Some(Hold::Paused(asked)), ..) => asked.at + PAUSED_MAX,
            (Some(Hold::Slot(since)), ..) => *since + WAITING_FOR_OTHERS_MAX,
            (None, State::Queued, _) => self.created_at + WAITING_FOR_OTHERS_MAX,
            (None, _, None) => since + WAITING_FOR_OTHERS_MAX,
            (None, _, Some(step)) => since + step.limit(),
        })
    }

    /// Writes down the steps that lie ahead.
    pub fn prepare<P: Into<Planned>>(&mut self, steps: impl Iterator<Item = P>) {
        self.steps = steps.map(|step| StepRecord::ahead(step.into())).collect();
    }

    /// Something is about to be tried for the current step.
    pub fn begin(&mut self, doing: &str, owner: &str, now: Timestamp) {
        self.let_go(now);
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
        self.let_go(now);
        self.state = State::Waiting;
        self.message = why.to_owned();
        let step = &mut self.steps[self.step];
        step.state = StepState::Running;
        step.started_at.get_or_insert(now);
        step.message = why.to_owned();
    }

    /// Something could be done, but as much of its kind is being done as may be. The step's clock stands still.
    pub fn wait_for_slot(&mut self, why: &str, now: Timestamp) {
        self.wait(why, now);
        self.hold = Some(Hold::Slot(now));
    }

    /// Nothing new is done until it is resumed. The step's clock stands still.
    pub fn pause(&mut self, by: &str, now: Timestamp) {
        self.let_go(now);
        self.hold = Some(Hold::Paused(Asked { by: by.to_owned(), at: now }));
    }

    /// It cannot go on before somebody has looked, so it pauses by itself.
    pub fn hold_for(&mut self, why: &str, now: Timestamp) {
        self.wait(why, now);
        self.pause(ITSELF, now);
    }

    /// Its clock goes on, from where it stood.
    pub fn let_go(&mut self, now: Timestamp) {
        if let Some(hold) = self.hold.take() {
            let since = self.since.or(self.started_at).unwrap_or(self.created_at);
            self.since = Some(since + now.duration_since(hold.since().max(since)));
        }
    }

    /// The current step's condition holds (going back: nothing of it is left).
    pub fn advance(&mut self, now: Timestamp) {
        self.leave_step(if self.goes_back() { StepState::Undone } else { StepState::Done }, "", now);
    }

    /// The next step begins although the current one has not done all of its work, for a reason that it keeps.
    pub fn go_on(&mut self, why: &str, now: Timestamp) {
        self.leave_step(StepState::Done, why, now);
    }

    /// Going back: what the current step made stays. One that has made nothing keeps the reason why it did not.
    pub fn keep(&mut self, now: Timestamp) {
        let step = &self.steps[self.step];
        let (state, message) = match step.has_made_something() {
            true => (StepState::Kept, step.keeps.clone()),
            false => (step.state, step.message.clone()),
        };
        self.leave_step(state, &message, now);
    }

    /// Going back: what the current step made could not be given back; others are, the end tells.
    pub fn leave(&mut self, why: &str, now: Timestamp) {
        let step = &self.steps[self.step];
        let kept = if step.keeps.is_empty() { &step.name } else { &step.keeps };
        self.left.push(format!("{}: {kept} ({why})", step.name));
        self.leave_step(StepState::Failed, why, now);
    }

    fn leave_step(&mut self, state: StepState, message: &str, now: Timestamp) {
        self.let_go(now);
        self.since = Some(now);
        let back = self.goes_back();
        let step = &mut self.steps[self.step];
        step.started_at.get_or_insert(now);
        step.ended_at = Some(now);
        step.retry_at = None;
        step.failures = 0;
        step.message = message.to_owned();
        step.state = state;
        self.state = State::Running;
        match (back, self.step) {
            (false, at) if at + 1 < self.steps.len() => self.step += 1,
            (false, _) => return self.end(State::Succeeded, now),
            (true, 0) => return self.end(State::Failed, now),
            (true, _) => self.step -= 1,
        }
        let next = &self.steps[self.step].name;
        self.message = if back { format!("giving back: {next}") } else { format!("next: {next}") };
    }

    fn goes_back(&self) -> bool {
        self.direction == Direction::Back
    }

    /// It cannot be brought about: what was made is given back, from the current step backwards.
    pub fn turn(&mut self, why: &str, now: Timestamp) {
        self.let_go(now);
        self.since = Some(now);
        self.direction = Direction::Back;
        self.turned_at = Some(now);
        self.failure = Some(why.to_owned());
        self.state = State::Running;
        self.message = format!("giving up: {why}");
        let step = &mut self.steps[self.step];
        step.message = why.to_owned();
        step.ended_at = Some(now);
        step.state = StepState::Failed;
        step.failures = 0;
        step.retry_at = None;
    }

    /// Something stays that should have gone; the end tells.
    pub fn leaves_behind(&mut self, what: String) {
        if !self.left.contains(&what) {
            self.left.push(what);
        }
    }

    /// Was every step brought about, whatever stays behind?
    pub(crate) fn came_through(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.state == StepState::Done)
    }

    /// It ends here, unfinished; nothing more is given back, and it says what is left.
    pub fn abandon(&mut self, why: &str, now: Timestamp) {
        self.failure.get_or_insert_with(|| why.to_owned());
        let left =
            self.steps.iter().filter(|step| step.has_made_something() && step.state != StepState::Undone);
        self.left.extend(left.map(|step| format!("{}: {}", step.name, step.keeps)));
        if let Some(step) = self.steps.get_mut(self.step) {
            step.state = StepState::Failed;
            step.ended_at = Some(now);
            step.message = why.to_owned();
        }
        self.end(State::Failed, now);
    }

    fn end(&mut self, state: State, now: Timestamp) {
        self.state = match state {
            State::Failed if self.cancelled.is_some() && self.left.is_empty() => State::Cancelled,
            // Whoever reads "succeeded" looks no further, and a machine may still cost money.
            State::Succeeded if !self.left.is_empty() => State::Failed,
            state => state,
        };
        self.hold = None;
        self.ended_at = Some(now);
        if !self.left.is_empty() {
            let failure = self.failure.take().unwrap_or_else(|| "everything else is done".into());
            self.failure = Some(format!("{failure}; left behind: {}", self.left.join("; ")));
        }
        self.message = match (&self.failure, self.state) {
            (Some(failure), State::Failed | State::Cancelled) => failure.clone(),
            _ => "done".into(),
        };
    }
}

impl StepRecord {
    fn ahead(planned: Planned) -> StepRecord {
        StepRecord {
            name: planned.name,
            state: StepState::Pending,
            attempt: 0,
            failures: 0,
            started_at: None,
            ended_at: None,
            retry_at: None,
            message: String::new(),
            owner: String::new(),
            undo: planned.undo,
            keeps: planned.keeps,
            for_good: planned.for_good,
            deadline_secs: planned.deadline_secs,
        }
    }

    /// Was anything done for it? A step that only looks or waits, or finds everything as it should be, makes nothing.
    pub fn has_made_something(&self) -> bool {
        self.attempt > 0 && !self.keeps.is_empty()
    }

    fn limit(&self) -> SignedDuration {
        match self.deadline_secs {
            ..=0 => STEP_DEADLINE,
            secs => SignedDuration::from_secs(secs),
        }
    }
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
