//! Moves operations: asks the current step, lets the world do the effect, writes what came of it.
//!
//! ```text
//!   ask step ─► Do(effect) ─► write attempt and intent ─► world ─► write facts + move   (one transaction each)
//!       ▲                                                               │
//!       └───────────────────────────── asked again ◄────────────────────┘
//! ```
//! A leader may die between any two arrows. Whoever leads next asks the same step again; the effect looks before it
//! acts, so nothing is done twice. The engine keeps nothing in memory that matters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use skep_ledger::{Ledger, ReadError, Request, Term, TransactError, Tx, Unavailable, transact};
use skep_model::fact::{self, Fact};
use skep_model::ids::OperationId;
use skep_model::operation::{self, Direction, Operation, State};
use skep_model::{CLUSTER, Refusal, Ruling};

use crate::workflow::{At, Late, Next, Step};
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

/// Moves operations during one term of one leader.
pub struct Engine {
    ledger: Arc<dyn Ledger>,
    world: Arc<dyn World>,
    /// This manager's name, for the record.
    node: String,
    term: Term,
    /// How often in a row an operation's effect changed nothing; only spaces out the looking.
    looks: Mutex<BTreeMap<OperationId, u32>>,
}

/// What came of one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// It moved: turn again.
    Moved,
    /// Turn again when something has changed, or at the latest after this time.
    Waits(Option<Duration>),
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
        Engine { ledger, world, node: node.to_owned(), term, looks: Mutex::default() }
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
        if operation.state == State::Queued {
            self.write(|tx| operation::activate(tx, id)).await?;
            let now = self.ledger.view().get::<Operation>(CLUSTER, id.as_str())?;
            let queued = now.is_some_and(|operation| operation.state == State::Queued);
            return Ok(if queued { Turned::Waits(None) } else { Turned::Moved });
        }
        let Some(workflow) = workflows::named(&operation.workflow) else {
            return self.wait(&operation, "this version does not know the workflow").await;
        };
        if operation.steps.is_empty() {
            let names = || workflow.steps.iter().map(|step| step.name);
            return self.change(&operation, |operation, _| operation.prepare(names())).await;
        }
        let Some(step) = workflow.steps.get(operation.step) else {
            return self.wait(&operation, "this version does not know the step").await;
        };
        let at = At::look(&view, operation)?;
        self.ask(step, at).await
    }

    async fn ask(&self, step: &Step, at: At) -> Result<Turned, Stop> {
        let now = self.ledger.now();
        let record = &at.operation.steps[at.operation.step];
        if let Some(retry_at) = record.retry_at.filter(|retry_at| *retry_at > now) {
            return Ok(Turned::Waits(Some(between(now, retry_at))));
        }
        let back = at.operation.direction == Direction::Back;
        let next = match (back, step.undo) {
            (false, _) => (step.next)(&at),
            (true, Some(undo)) => undo(&at),
            (true, None) => Next::Done,
        };
        let since = at.operation.trying_since().unwrap_or(now);
        let deadline = since + SignedDuration::from_secs(step.deadline_secs);
        let late = now >= deadline;
        match next {
            Next::Done => self.change(&at.operation, |operation, now| operation.advance(now)).await,
            _ if late => self.late(step, &at.operation).await,
            Next::Do(effect) => self.perform(step, &at, effect).await,
            Next::Turn(why) if !back => {
                self.change(&at.operation, |operation, now| operation.turn(&why, now)).await
            }
            Next::Turn(why) | Next::Wait(why) => {
                self.wait(&at.operation, &why).await.map(|_| Turned::Waits(Some(between(now, deadline))))
            }
        }
    }

    /// The step has had its time.
    async fn late(&self, step: &Step, operation: &Operation) -> Result<Turned, Stop> {
        let record = &operation.steps[operation.step];
        let why = format!("not done within {} s: {}", step.deadline_secs, record.message);
        self.change(operation, |operation, now| {
            match (operation.direction, step.late) {
                (Direction::Forward, Late::GoOn) => operation.advance(now),
                (Direction::Forward, Late::Turn) => operation.turn(&why, now),
                // What could not be given back stays in the cloud ledger, where it is seen.
                (Direction::Back, _) => operation.abandon(&why, now),
            }
        })
        .await
    }

    async fn perform(&self, step: &Step, at: &At, effect: Effect) -> Result<Turned, Stop> {
        let operation = &at.operation;
        let doing = effect.to_string();
        if effect.observes() {
            self.wait(operation, &doing).await?;
        } else {
            let begun = self.write(|tx| {
                effect.intend(tx)?;
                self.record(tx, operation, |operation, now| operation.begin(&doing, &self.node, now))
                    .map(drop)
            });
            begun.await?;
        }
        let view = self.ledger.view();
        let performed = self.world.perform(&effect, &view, operation, self.term);
        match tokio::time::timeout(EFFECT_MAX, performed).await {
            Ok(Ok(facts)) => self.performed(step, operation, &effect, &facts).await,
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
            if self.record(tx, operation, |operation, _| operation.succeeded())? {
                facts.iter().try_for_each(|fact| fact::record(tx, fact))?;
            }
            Ok(())
        })
        .await?;
        let view = self.ledger.view();
        let Some(now) = view.get::<Operation>(CLUSTER, operation.id.as_str())? else {
            return Ok(Turned::Ended);
        };
        let at = At::look(&view, now.record)?;
        let next = match at.operation.direction {
            Direction::Forward => (step.next)(&at),
            Direction::Back => step.undo.map_or(Next::Done, |undo| undo(&at)),
        };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        match next {
            Next::Do(again) if std::mem::discriminant(&again) == std::mem::discriminant(effect) => {
                let count = looks.entry(operation.id.clone()).or_default();
                *count += 1;
                let pause = (LOOK_AGAIN_FIRST_MS << (*count / 4).min(8)).min(LOOK_AGAIN_MAX_MS);
                Ok(Turned::Waits(Some(Duration::from_millis(pause))))
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
        self.change(operation, |operation, now| {
            if error.retryable || !forward {
                operation.failed(&error.message, now + SignedDuration::from_millis(pause));
            } else if step.late == Late::GoOn {
                operation.advance(now);
            } else {
                operation.turn(&format!("could not {doing}: {error}"), now);
            }
        })
        .await
    }

    async fn wait(&self, operation: &Operation, why: &str) -> Result<Turned, Stop> {
        let said = operation.state == State::Waiting && operation.message == why;
        if !said && operation.steps.is_empty() {
            tracing::warn!(operation.id = %operation.id, why, "an operation waits for a newer version");
        } else if !said {
            self.change(operation, |operation, now| operation.wait(why, now)).await?;
        }
        Ok(Turned::Waits(None))
    }

    async fn change(
        &self,
        operation: &Operation,
        change: impl Fn(&mut Operation, Timestamp) + Send + Sync,
    ) -> Result<Turned, Stop> {
        self.write(|tx| self.record(tx, operation, &change).map(drop)).await?;
        Ok(Turned::Moved)
    }

    /// Changes the operation in a transaction, unless somebody else has moved it since it was looked at. Says whether it
    /// was where it was known to be.
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
        if operation.ended() || (operation.step, operation.direction) != (known.step, known.direction) {
            return Ok(false);
        }
        let before = operation.clone();
        change(&mut operation, tx.now());
        if operation != before {
            operation::save(tx, &operation)?;
        }
        Ok(true)
    }

    async fn write(&self, rule: impl FnMut(&mut Tx<'_>) -> Ruling<()> + Send) -> Result<(), Stop> {
        match transact(&*self.ledger, Request::fenced(self.term), rule).await {
            Ok(_) => Ok(()),
            Err(TransactError::Fenced(term)) => Err(Stop::Deposed(term)),
            Err(TransactError::Unavailable(error)) => Err(Stop::Unavailable(error)),
            Err(TransactError::Read(error) | TransactError::Refused(Refusal::Read(error))) => {
                Err(Stop::Read(error))
            }
            Err(error) => Err(Stop::Unexpected(error.to_string())),
        }
    }

    /// Starts what a planner has decided, unless its subject is in other hands by now.
    pub async fn start(&self, decision: &crate::plan::Decision, id: OperationId) -> Result<(), Stop> {
        self.write(|tx| crate::plan::begin(tx, decision, &id)).await
    }

    /// Lets the records of operations go that have ended.
    pub(crate) async fn forget<'a>(&self, ids: impl Iterator<Item = &'a OperationId>) -> Result<(), Stop> {
        let ids: Vec<_> = ids.collect();
        self.write(|tx| {
            ids.iter().for_each(|id| tx.delete::<Operation>(CLUSTER, id.as_str()));
            Ok(())
        })
        .await
    }
}

fn between(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}
