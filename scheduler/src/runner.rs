//! Runs planners and engine while this manager leads: one task per operation, woken by what concerns it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use skep_ledger::{Filter, Key, Ledger, Record as _, Term, Topic, Watch};
use skep_model::CLUSTER;
use skep_model::environment::Environment;
use skep_model::host::Host;
use skep_model::ids::OperationId;
use skep_model::operation::{self, Active, Operation, workflow};
use skep_model::resource::CloudResource;
use skep_model::stack::Stack;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::engine::{Engine, Stop, Turned};
use crate::plan::{self, Ids, Known, Picture};
use crate::world::World;

/// A pass without any change: deadlines pass, and pauses after failures end.
const PASS_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// Whoever does not lead looks as often at what planners see, so that it has little to read when it leads.
const STAND_BY_EVERY: Duration = Duration::from_secs(5);

/// At most so long nothing is planned after a pass; otherwise as long as it took.
const BETWEEN_PASSES_MAX: Duration = Duration::from_millis(100);

/// Before the replicas are asked again after they could not be.
const UNAVAILABLE_PAUSE: Duration = Duration::from_millis(200);

/// The history is looked through after so many operations have ended, so that its bound is exceeded by no more.
const HISTORY_LOOKED_THROUGH_AFTER_ENDED: usize = 50;

/// And as often as this when few end, for those that have grown old.
const HISTORY_LOOKED_THROUGH_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// An operation has up to 200 lines, and a transaction up to 10 000 rows.
const OPERATIONS_FORGOTTEN_AT_ONCE: usize = 40;

/// Works whenever this manager leads, until the sender of `leadership` is gone. `node` is the manager's name.
pub(crate) async fn run(
    ledger: Arc<dyn Ledger>,
    world: Arc<dyn World>,
    node: String,
    mut leadership: watch::Receiver<Option<Term>>,
) {
    let mut known = Known::default();
    loop {
        let term = *leadership.borrow_and_update();
        match term {
            None => {
                stand_by(&*ledger, &mut known);
                let until = tokio::time::timeout(STAND_BY_EVERY, leadership.changed());
                if let Ok(Err(_)) = until.await {
                    return;
                }
            }
            Some(term) => {
                tracing::info!(term, "the scheduler starts");
                let engine = Arc::new(Engine::new(ledger.clone(), world.clone(), &node, term));
                // Dropping the future of `lead` ends all tasks of the term.
                tokio::select! {
                    stop = lead(engine, &mut known) => tracing::info!(term, reason = %stop, "the scheduler stops"),
                    changed = leadership.changed() => {
                        tracing::info!(term, "the scheduler stops: leadership has changed");
                        if changed.is_err() {
                            return;
                        }
                        continue;
                    }
                }
                tokio::time::sleep(UNAVAILABLE_PAUSE).await;
            }
        }
    }
}

/// Reads what the planners of a new leader would read first.
fn stand_by(ledger: &dyn Ledger, known: &mut Known) {
    match Picture::after(known, ledger.view(), ledger.now()) {
        Ok(picture) => *known = picture.into_known(),
        Err(error) => tracing::debug!(%error, "what planners look at could not be read"),
    }
}

async fn lead(engine: Arc<Engine>, known: &mut Known) -> Stop {
    let mut tasks: JoinSet<OperationId> = JoinSet::new();
    let mut driven: BTreeSet<OperationId> = BTreeSet::new();
    let mut history = History::default();
    let mut watch = Wakes::new(&engine, whatever_planners_see());
    loop {
        watch.drain();
        let began = Instant::now();
        match pass(&engine, &mut history, known).await {
            Ok(open) => {
                for id in open {
                    if driven.insert(id.clone()) {
                        tasks.spawn(drive(engine.clone(), id));
                    }
                }
            }
            Err(stop @ (Stop::Deposed(_) | Stop::Read(_))) => return stop,
            Err(stop) => {
                // What runs goes on: each operation asks for itself whether the replicas can be reached.
                tracing::warn!(error = %stop, "the planners could not finish a pass");
                tokio::time::sleep(UNAVAILABLE_PAUSE).await;
                continue;
            }
        }
        let took = began.elapsed();
        let mut ended = tokio::select! {
            Some(done) = tasks.join_next() => Some(done),
            () = watch.changed() => None,
            () = tokio::time::sleep(PASS_AT_LEAST_EVERY) => None,
        };
        // In a large cluster in which something changes all the time operations need the processor too.
        tokio::time::sleep(took.min(BETWEEN_PASSES_MAX)).await;
        while let Some(done) = ended.take().or_else(|| tasks.try_join_next()) {
            match done {
                Ok(id) => driven.remove(&id),
                Err(error) => {
                    return Stop::Unexpected(format!("a task of the scheduler ended badly: {error}"));
                }
            };
            history.ended += 1;
        }
    }
}

/// Starts what the planners decide; answers the operations that have not ended. Reads none that has.
async fn pass(engine: &Engine, history: &mut History, known: &mut Known) -> Result<Vec<OperationId>, Stop> {
    let ledger = engine.ledger();
    let picture = Picture::after(known, ledger.view(), ledger.now())?;
    for decision in plan::decide(&picture)? {
        tracing::info!(%decision, "a planner starts an operation");
        engine.start(&decision, &Ids::mint(Uuid::now_v7)).await?;
    }
    let rested = picture.rested();
    *known = picture.into_known();
    if !rested.is_empty() {
        engine.forget_rests(&rested).await?;
    }
    if history.is_due(ledger.now()) {
        forget(engine).await?;
        *history = History { ended: 0, looked: Some(ledger.now()) };
    }
    // With those that were started just now.
    Ok(known.open_operations(&ledger.view())?)
}

/// When the history was looked through last. That reads every operation, so it is done seldom.
#[derive(Default)]
struct History {
    /// Operations that have ended since.
    ended: usize,
    looked: Option<Timestamp>,
}

impl History {
    fn is_due(&self, now: Timestamp) -> bool {
        let Some(looked) = self.looked else { return true };
        self.ended >= HISTORY_LOOKED_THROUGH_AFTER_ENDED
            || now.duration_since(looked) >= HISTORY_LOOKED_THROUGH_EVERY
    }
}

async fn forget(engine: &Engine) -> Result<(), Stop> {
    let operations = engine.ledger().view().list::<Operation>(CLUSTER)?;
    let all = operations.iter().map(|stored| &stored.record);
    let gone = operation::history::forgotten(all, engine.ledger().now());
    for some in gone.chunks(OPERATIONS_FORGOTTEN_AT_ONCE) {
        engine.forget(some).await?;
    }
    Ok(())
}

/// Turns one operation until it has ended or somebody else must take it over.
async fn drive(engine: Arc<Engine>, id: OperationId) -> OperationId {
    let Ok(concern) = concern(&engine, &id) else { return id };
    let mut watch = Wakes::new(&engine, concern);
    loop {
        let freed = engine.slots().freed();
        watch.drain();
        match engine.turn(&id).await {
            Ok(Turned::Moved) => {}
            Ok(Turned::Ended) => return id,
            Ok(Turned::Waits(most)) => watch.changed_within(most).await,
            Ok(Turned::LooksAgain(most)) => {
                // What it has written itself is no news.
                watch.drain();
                watch.changed_within(most).await;
            }
            Ok(Turned::WaitsForSlot) => tokio::select! {
                () = freed => {}
                () = watch.changed() => {}
                () = tokio::time::sleep(PASS_AT_LEAST_EVERY) => {}
            },
            Err(Stop::Deposed(term)) => {
                tracing::info!(operation.id = %id, term, "somebody else leads");
                return id;
            }
            Err(stop) => {
                tracing::warn!(operation.id = %id, error = %stop, "an operation could not be moved");
                tokio::time::sleep(UNAVAILABLE_PAUSE).await;
            }
        }
    }
}

/// Wake-ups without data: something that somebody follows has changed.
struct Wakes(Watch);

impl Wakes {
    fn new(engine: &Engine, filter: Filter) -> Wakes {
        let ledger = engine.ledger();
        Wakes(ledger.feed().watch_matching(ledger.view().revision(), filter))
    }

    /// What has changed up to now is seen by whoever looks now.
    fn drain(&mut self) {
        while self.0.next().now_or_never().is_some() {}
    }

    async fn changed(&mut self) {
        self.0.next().await;
    }

    /// Comes back after this time also if nothing has changed.
    async fn changed_within(&mut self, most: Duration) {
        // Either is a reason to look.
        let _ = tokio::time::timeout(most, self.changed()).await;
    }
}

/// What planners decide by.
fn whatever_planners_see() -> Filter {
    Filter::of([Environment::TABLE, Host::TABLE, Stack::TABLE, Active::TABLE].map(Topic::table))
}

fn concern(engine: &Engine, id: &OperationId) -> Result<Filter, Stop> {
    let operation = engine.ledger().view().get::<Operation>(CLUSTER, id.as_str())?;
    Ok(operation.map_or_else(Filter::everything, |operation| concerns(&operation)))
}

/// What can change the answer of a step: the operation itself, its environment with everything in it, its machine.
fn concerns(operation: &Operation) -> Filter {
    let place = operation.environment.as_ref().map_or("", |(id, _)| id.as_str());
    let object = |table: &str, id: &str| Topic::object(&Key::new(table, CLUSTER, id));
    let mut topics = vec![
        object(Operation::TABLE, operation.id.as_str()),
        object(Environment::TABLE, place),
        object(CloudResource::TABLE, &operation.subject.id),
        Topic::partition(Host::TABLE, place),
        Topic::partition(Stack::TABLE, place),
    ];
    if ["environment", "replacement"].contains(&operation.subject.kind.as_str())
        || operation.workflow == workflow::UPGRADE_HOST
    {
        // It waits for operations on what is in it, or gives up on hosts that nobody works on any more.
        topics.extend(
            ["host/", "stack/", "swarm/"].map(|kind| Topic::starting_with(Active::TABLE, CLUSTER, kind)),
        );
    }
    Filter::of(topics)
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
