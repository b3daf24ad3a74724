//! Moves operations: asks the current step, lets the world do the effect, writes what came of it.
//!
//! ```text
//!   ask step ─► Do(effect) ─► write attempt and intent ─► world ─► write facts + move   (one transaction each)
//!       ▲                                                               │
//!       └───────────────────────────── asked again ◄────────────────────┘
//! ```
//! A leader may die between any two arrows. Whoever leads next asks the same step again; the effect looks before it
//! acts, so nothing is done twice. The engine keeps nothing in memory that matters.
//!
//! An operation is moved in time whatever happens ([`Operation::deadline`]): a step that takes too long is turned
//! around, an undoing that takes too long leaves behind what it could not give back, and whoever waits for others for
//! too long is given up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_ledger::{Ledger, ReadError, Request, Term, TransactError, Tx, Unavailable, View, transact};
use skep_model::fact::{self, Fact};
use skep_model::ids::OperationId;
use skep_model::operation::{self, Direction, Operation, Rest, State};
use skep_model::{CLUSTER, Refusal, Ruling};

use crate::around::Around;
use crate::plan::{self, Decision, Ids};
use crate::slots::Slots;
use crate::workflow::{At, Late, Next, Step, Workflow};
use crate::world::{EffectError, World};
use crate::{Effect, workflows};

/// An effect that takes longer is given up and looked at again: its deadline is counted by the step.
const EFFECT_MAX: Duration = Duration::from_secs(120);

/// After a failed try, doubled with each further one.
const BACK_OFF_FIRST_MS: i64 = 250;
/// As long as a person is willing to wait for the next try.
const BACK_OFF_MAX_MS: i64 = 15_000;

/// Between two looks at something that is not so yet: quick at first, because most things take about a second.
const LOOK_AGAIN_FIRST_MS: u64 = 100;
/// Later looks are rarer, so that a slow thing costs little.
const LOOK_AGAIN_MAX_MS: u64 = 2_000;

/// A new leader gives every step at least so much time of its own before it calls it late: nobody could do anything while
/// nobody led, agents have to find their way back, and the clocks of two leaders may differ.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Moves operations during one term of one leader.
pub struct Engine {
    ledger: Arc<dyn Ledger>,
    world: Arc<dyn World>,
    /// This manager's name, for the record.
    node: String,
    term: Term,
    /// When it began, by the clock of this manager.
    since: Timestamp,
    /// How often in a row an operation's effect changed nothing; only spaces out the looking.
    looks: Mutex<BTreeMap<OperationId, u32>>,
    slots: Arc<Slots>,
    /// Only spares reading.
    around: Mutex<Around>,
}

/// What came of one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// It moved: turn again.
    Moved,
    /// Turn again when something has changed, or at the latest after this time.
    Waits(Duration),
    /// An effect came about and more is wanted: turn again when something has changed after that, or at the latest after this time.
    LooksAgain(Duration),
    /// Turn again when an effect of another operation is over, or something has changed.
    WaitsForSlot,
    /// It has come to its end.
    Ended,
}

/// Why the engine must stop turning.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Another term has begun: somebody else leads.
    #[error("term {0} has begun")]
    Deposed(Term),
    /// The state cannot be read; nothing can be decided.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The replicas could not be asked; what has become of the last write is looked up next time.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Others kept changing what was read, or a rule refused what it should not.
    #[error("writing the move of an operation: {0}")]
    Unexpected(String),
}

impl Engine {
    /// An engine for one term.
    pub fn new(ledger: Arc<dyn Ledger>, world: Arc<dyn World>, node: &str, term: Term) -> Engine {
        let (looks, slots, around) = Default::default();
        let since = ledger.now();
        Engine { ledger, world, node: node.to_owned(), term, since, looks, slots, around }
    }

    /// How many effects of a kind are in flight.
    pub(crate) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// The term it works in.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The ledger it works on.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// Moves one operation as far as one question to its current step goes.
    pub async fn turn(&self, id: &OperationId) -> Result<Turned, Stop> {
        let view = self.ledger.view();
        let Some(operation) = view.get::<Operation>(CLUSTER, id.as_str())? else {
            return Ok(Turned::Ended);
        };
        let operation = operation.record;
        if operation.ended() {
            return Ok(Turned::Ended);
        }
        let now = self.ledger.now();
        let deadline = self.deadline(&operation);
        let late = now >= deadline;
        let waits = Ok(Turned::Waits(between(now, deadline)));
        if let Some(asked) = operation.paused() {
            let why = format!("paused by {} for so long that it was forgotten", asked.by);
            return if late { self.abandon(&operation, &why).await } else { waits };
        }
        if operation.state == State::Queued {
            let why = "its turn has not come for a day";
            return if late { self.abandon(&operation, why).await } else { waits };
        }
        let unknown = match workflows::named(&operation.workflow) {
            None => "this version does not know the workflow",
            Some(workflow) if operation.steps.is_empty() => return self.prepare(&operation, workflow).await,
            Some(workflow) => match workflow.steps.get(operation.step) {
                Some(step) => return self.ask(step, self.look(&view, operation)?, late).await,
                None => "this version does not know the step",
            },
        };
        match late {
            true => self.abandon(&operation, unknown).await,
            false => self.wait(&operation, unknown).await.and(waits),
        }
    }

    fn look(&self, view: &View, operation: Operation) -> Result<At, ReadError> {
        self.around.lock().unwrap_or_else(PoisonError::into_inner).at(view, operation)
    }

    fn deadline(&self, operation: &Operation) -> Timestamp {
        let earliest = self.since + GRACE;
        operation.deadline().map_or(earliest, |deadline| deadline.max(earliest))
    }

    async fn prepare(&self, operation: &Operation, workflow: &Workflow) -> Result<Turned, Stop> {
        let steps = || workflow.steps.iter().map(Step::planned);
        self.change(operation, |operation, _| operation.prepare(steps())).await
    }

    async fn abandon(&self, operation: &Operation, why: &str) -> Result<Turned, Stop> {
        self.change(operation, |operation, now| operation.abandon(why, now)).await
    }

    async fn ask(&self, step: &Step, at: At, late: bool) -> Result<Turned, Stop> {
        let now = self.ledger.now();
        let record = &at.operation.steps[at.operation.step];
        if let Some(retry_at) = record.retry_at.filter(|retry_at| *retry_at > now && !late) {
            return Ok(Turned::Waits(between(now, retry_at)));
        }
        let operation = &at.operation;
        let forward = operation.direction == Direction::Forward;
        match asked(step, &at) {
            None => self.change(operation, |operation, now| operation.keep(now)).await,
            Some(Next::Done) => self.change(operation, |operation, now| operation.advance(now)).await,
            Some(Next::Turn(why)) if forward => {
                self.change(operation, |operation, now| operation.turn(&why, now)).await
            }
            Some(Next::Hold(why)) if forward => {
                self.change(operation, |operation, now| operation.hold_for(&why, now)).await
            }
            Some(Next::Turn(_) | Next::Hold(_)) => {
                self.change(operation, |operation, now| operation.keep(now)).await
            }
            Some(_) if late => self.late(step, operation).await,
            Some(Next::Do(effect)) => self.perform(step, &at, effect).await,
            Some(Next::Wait(why)) => {
                let deadline = self.deadline(operation);
                self.wait(operation, &why).await.map(|()| Turned::Waits(between(now, deadline)))
            }
        }
    }

    /// The step has had its time.
    async fn late(&self, step: &Step, operation: &Operation) -> Result<Turned, Stop> {
        let record = &operation.steps[operation.step];
        let why = match &operation.hold {
            Some(_) => format!("no free slot within a day: {}", record.message),
            None => format!("not done within {} s: {}", step.deadline_secs, record.message),
        };
        self.change(operation, |operation, now| {
            match (operation.direction, step.late) {
                (Direction::Forward, Late::GoOn) => operation.go_on(&why, now),
                (Direction::Forward, Late::Turn) => operation.turn(&why, now),
                // What could not be given back stays in the cloud ledger too, where it is seen.
                (Direction::Back, _) => operation.leave(&why, now),
            }
        })
        .await
    }

    async fn perform(&self, step: &Step, at: &At, effect: Effect) -> Result<Turned, Stop> {
        let operation = &at.operation;
        let doing = effect.to_string();
        let slot = match self.slots.take(&effect) {
            Ok(slot) => slot,
            Err(why) => return self.wait_for_slot(operation, &why).await,
        };
        if effect.observes() {
            self.wait(operation, &doing).await?;
        } else if !self.begin(operation, &effect, &doing).await? {
            // Cancelled, paused or moved meanwhile: nothing new is done.
            return Ok(Turned::Moved);
        }
        let turned = self.bring_about(step, operation, &effect).await;
        // Whoever waits for the slot has to see what has come of it.
        drop(slot);
        turned
    }

    /// Writes down what is about to be tried. `false` if the operation is not as it was when this was decided.
    async fn begin(&self, operation: &Operation, effect: &Effect, doing: &str) -> Result<bool, Stop> {
        self.write(|tx| {
            let begun =
                self.record(tx, operation, |operation, now| operation.begin(doing, &self.node, now))?;
            if begun {
                effect.intend(tx)?;
            }
            Ok(begun)
        })
        .await
    }

    async fn bring_about(&self, step: &Step, operation: &Operation, effect: &Effect) -> Result<Turned, Stop> {
        let doing = effect.to_string();
        let view = self.ledger.view();
        let performed = self.world.perform(effect, &view, operation, self.term);
        let outcome = tokio::time::timeout(EFFECT_MAX, performed).await;
        match outcome {
            Ok(Ok(facts)) => self.performed(step, operation, effect, &facts).await,
            Ok(Err(error)) => self.not_performed(step, operation, &doing, &error).await,
            Err(_) => {
                let error = format!("no result after {} s", EFFECT_MAX.as_secs());
                self.not_performed(step, operation, &doing, &EffectError::passing(error)).await
            }
        }
    }

    /// Facts and move are one transaction: if somebody has moved the operation meanwhile, the facts may be older than what
    /// it does now, and the effect is looked up by whoever needs it. If the step still wants the same, it is looked at
    /// again a little later.
    async fn performed(
        &self,
        step: &Step,
        operation: &Operation,
        effect: &Effect,
        facts: &[Fact],
    ) -> Result<Turned, Stop> {
        self.write(|tx| {
            if self.still_at(tx, operation)? {
                facts.iter().try_for_each(|fact| fact::record(tx, fact))?;
            }
            self.record(tx, operation, |operation, _| operation.succeeded())
        })
        .await?;
        let view = self.ledger.view();
        let Some(now) = view.get::<Operation>(CLUSTER, operation.id.as_str())? else {
            return Ok(Turned::Ended);
        };
        let at = self.look(&view, now.record)?;
        let next = asked(step, &at);
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        match next {
            Some(Next::Do(again)) if std::mem::discriminant(&again) == std::mem::discriminant(effect) => {
                let count = looks.entry(operation.id.clone()).or_default();
                *count += 1;
                let pause = (LOOK_AGAIN_FIRST_MS << (*count / 4).min(8)).min(LOOK_AGAIN_MAX_MS);
                Ok(Turned::LooksAgain(Duration::from_millis(pause)))
            }
            _ => {
                looks.remove(&operation.id);
                Ok(Turned::Moved)
            }
        }
    }

    async fn not_performed(
        &self,
        step: &Step,
        operation: &Operation,
        doing: &str,
        error: &EffectError,
    ) -> Result<Turned, Stop> {
        tracing::info!(operation.id = %operation.id, effect = doing, %error, "an effect did not come about");
        let failures = operation.steps[operation.step].failures.min(16);
        let pause = (BACK_OFF_FIRST_MS << failures).min(BACK_OFF_MAX_MS);
        let forward = operation.direction == Direction::Forward;
        let why = format!("could not {doing}: {error}");
        self.write(|tx| {
            if self.still_at(tx, operation)? {
                error.facts.iter().try_for_each(|fact| fact::record(tx, fact))?;
            }
            let moved = self.record(tx, operation, |operation, now| {
                if error.retryable || !forward {
                    operation.failed(&error.message, now + SignedDuration::from_millis(pause));
                } else if step.late == Late::GoOn {
                    operation.go_on(&why, now);
                } else {
                    operation.turn(&why, now);
                }
            });
            moved.map(drop)
        })
        .await?;
        Ok(Turned::Moved)
    }

    async fn wait(&self, operation: &Operation, why: &str) -> Result<(), Stop> {
        let said = operation.state == State::Waiting && operation.message == why;
        if !said && operation.steps.is_empty() {
            tracing::warn!(operation.id = %operation.id, why, "an operation waits for a newer version");
        } else if !said {
            self.change(operation, |operation, now| operation.wait(why, now)).await?;
        }
        Ok(())
    }

    async fn wait_for_slot(&self, operation: &Operation, why: &str) -> Result<Turned, Stop> {
        if operation.hold.is_none() {
            self.change(operation, |operation, now| operation.wait_for_slot(why, now)).await?;
        }
        Ok(Turned::WaitsForSlot)
    }

    async fn change(
        &self,
        operation: &Operation,
        change: impl Fn(&mut Operation, Timestamp) + Send + Sync,
    ) -> Result<Turned, Stop> {
        self.write(|tx| self.record(tx, operation, &change).map(drop)).await?;
        Ok(Turned::Moved)
    }

    /// Is it at the step where the effect was begun? What came of the effect is worth knowing as well if the operation was
    /// turned or paused meanwhile; once it has gone on, newer facts may have been written.
    fn still_at(&self, tx: &mut Tx<'_>, known: &Operation) -> Ruling<bool> {
        let stored = tx.get::<Operation>(CLUSTER, known.id.as_str())?;
        Ok(stored.is_some_and(|operation| operation.step == known.step))
    }

    /// Changes the operation in a transaction, unless somebody else has moved, turned or paused it since it was looked
    /// at: then the next turn looks again. Says whether it was changed.
    fn record(
        &self,
        tx: &mut Tx<'_>,
        known: &Operation,
        change: impl Fn(&mut Operation, Timestamp),
    ) -> Ruling<bool> {
        let Some(stored) = tx.get::<Operation>(CLUSTER, known.id.as_str())? else {
            return Ok(false);
        };
        let mut operation = stored.record;
        let place =
            |operation: &Operation| (operation.step, operation.direction, operation.paused().cloned());
        if operation.ended() || place(&operation) != place(known) {
            return Ok(false);
        }
        let before = operation.clone();
        change(&mut operation, tx.now());
        if operation != before {
            operation::save(tx, &operation)?;
        }
        Ok(true)
    }

    async fn write<A>(&self, rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send) -> Result<A, Stop>
    where
        A: Serialize + DeserializeOwned + Send,
    {
        match transact(&*self.ledger, Request::fenced(self.term), rule).await {
            Ok(committed) => Ok(committed.answer),
            Err(TransactError::Fenced(term)) => Err(Stop::Deposed(term)),
            Err(TransactError::Unavailable(error)) => Err(Stop::Unavailable(error)),
            Err(TransactError::Read(error) | TransactError::Refused(Refusal::Read(error))) => {
                Err(Stop::Read(error))
            }
            Err(error) => Err(Stop::Unexpected(error.to_string())),
        }
    }

    /// Starts what a planner has decided, unless its subject is in other hands by now.
    pub async fn start(&self, decision: &Decision, ids: &Ids) -> Result<(), Stop> {
        self.write(|tx| plan::begin(tx, decision, ids)).await
    }

    /// Lets the records of operations go that have ended.
    pub(crate) async fn forget(&self, ids: &[OperationId]) -> Result<(), Stop> {
        self.write(|tx| operation::history::forget(tx, ids)).await
    }

    /// Lets it be forgotten how often something has failed on these subjects.
    pub(crate) async fn forget_rests(&self, rested: &[String]) -> Result<(), Stop> {
        self.write(|tx| {
            rested.iter().for_each(|subject| tx.delete::<Rest>(CLUSTER, subject));
            Ok(())
        })
        .await
    }
}

/// What the step answers in the operation's direction; `None` if it has no way back.
fn asked(step: &Step, at: &At) -> Option<Next> {
    match at.operation.direction {
        Direction::Forward => Some((step.next)(at)),
        Direction::Back => step.undo.map(|undo| undo(at)),
    }
}

fn between(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}
