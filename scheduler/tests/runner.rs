//! What runs goes on when the replicas cannot be asked for a moment, and not too much runs at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use skep_ledger::{Feed, Ledger, MemoryLedger, Outcome, Request, Term, Txn, Unavailable, View, transact};
use skep_model::environment::{self, EnvironmentWish};
use skep_model::fact::Fact;
use skep_model::host::{Host, Machine};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::operation::{Operation, StepState};
use skep_model::{CLUSTER, Ruling};
use skep_scheduler::{Effect, EffectError, MACHINES_IN_FLIGHT_PER_DRIVER_MAX, World};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

/// Far beyond what anything here takes, so that only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A ledger that can be out of reach.
struct Shaky {
    inner: Arc<MemoryLedger>,
    away: AtomicBool,
    /// How often it was asked in vain.
    refused: watch::Sender<usize>,
}

#[async_trait]
impl Ledger for Shaky {
    async fn propose(&self, txn: Txn) -> Result<Outcome, Unavailable> {
        if self.away.load(Ordering::SeqCst) {
            self.refused.send_modify(|count| *count += 1);
            return Err(Unavailable::NotStarted("no leader".into()));
        }
        self.inner.propose(txn).await
    }
    async fn fresh_view(&self) -> Result<View, Unavailable> {
        self.inner.fresh_view().await
    }
    fn view(&self) -> View {
        self.inner.view()
    }
    fn feed(&self) -> &Feed {
        self.inner.feed()
    }
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}

/// Makes a machine when it is let.
struct Slow {
    let_through: Semaphore,
    begun: watch::Sender<usize>,
    in_flight: AtomicUsize,
    most: AtomicUsize,
}

impl Slow {
    fn new() -> Arc<Slow> {
        let (in_flight, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Slow { let_through: Semaphore::new(0), begun: watch::Sender::new(0), in_flight, most })
    }
}

#[async_trait]
impl World for Slow {
    async fn perform(
        &self,
        effect: &Effect,
        _: &View,
        _: &Operation,
        _: Term,
    ) -> Result<Vec<Fact>, EffectError> {
        let Effect::EnsureMachine { environment, host, .. } = effect else {
            return Err(EffectError::passing("only machines are made here"));
        };
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.begun.send_modify(|count| *count += 1);
        self.let_through.acquire().await.expect("is never closed").forget();
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        let machine = Machine { id: format!("vm-{host}"), address: "10.90.0.2".into() };
        Ok(vec![Fact::MachineExists(environment.clone(), host.clone(), machine)])
    }
}

async fn environment_with(hosts: usize, ledger: &MemoryLedger) {
    let wish = EnvironmentWish {
        id: EnvironmentId::new(Uuid::from_u128(1)),
        operation: OperationId::new(Uuid::from_u128(2)),
        name: "prod".into(),
        template: "default".into(),
        hosts: (0..hosts).map(|_| (HostId::new(Uuid::now_v7()), OperationId::new(Uuid::now_v7()))).collect(),
        driver: "local".into(),
        options: Default::default(),
        change: Default::default(),
    };
    let wished =
        transact(ledger, Request::new(), |tx| -> Ruling<()> { environment::wish(tx, &wish).map(drop) });
    wished.await.expect("commits");
}

fn operations(ledger: &MemoryLedger, workflow: &str) -> Vec<Operation> {
    let all = ledger.view().list::<Operation>(CLUSTER).expect("reads");
    all.into_iter().map(|stored| stored.record).filter(|known| known.workflow == workflow).collect()
}

/// Waits until something holds in the ledger.
async fn until(ledger: &MemoryLedger, what: &str, holds: impl Fn() -> bool) {
    let mut changes = ledger.feed().latest();
    let waiting = async {
        while !holds() {
            changes.changed().await.expect("the ledger lives");
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: {:#?}", operations(ledger, "create-host")));
}

#[tokio::test]
async fn a_planners_pass_that_fails_does_not_stop_what_runs() {
    let inner = MemoryLedger::new();
    environment_with(1, &inner).await;
    let ledger = Arc::new(Shaky {
        inner: inner.clone(),
        away: AtomicBool::new(false),
        refused: watch::Sender::new(0),
    });
    let world = Slow::new();
    let (_leader, leadership) = watch::channel(Some(inner.term()));
    let scheduler = tokio::spawn(skep_scheduler::run(ledger.clone(), world.clone(), "m1".into(), leadership));
    let mut begun = world.begun.subscribe();
    begun.wait_for(|count| *count == 1).await.expect("is begun");
    // From now on every pass has something to write and cannot.
    ledger.away.store(true, Ordering::SeqCst);
    let unasked = transact(&*inner, Request::new(), |tx| -> Ruling<()> {
        // A host that nobody works on, whose removal is wished: a planner wants to start it.
        let mut host = tx.list_all::<Host>()?.remove(0).record;
        host.id = HostId::new(Uuid::from_u128(77));
        host.removal = Some(tx.now());
        tx.put(&host);
        Ok(())
    });
    unasked.await.expect("commits");
    let mut refused = ledger.refused.subscribe();
    let twice = tokio::time::timeout(DEADLINE, refused.wait_for(|count| *count >= 2)).await;
    twice.expect("the pass is tried again").expect("the ledger lives");
    ledger.away.store(false, Ordering::SeqCst);
    world.let_through.add_permits(1);
    until(&inner, "the machine is written down", || {
        let view = inner.view();
        view.list_all::<Host>().expect("reads").iter().any(|host| host.machine.is_some())
    })
    .await;
    assert_eq!(*world.begun.borrow(), 1, "the effect was not begun a second time");
    scheduler.abort();
}

#[tokio::test]
async fn a_driver_makes_so_many_machines_at_once_and_the_others_say_what_they_wait_for() {
    let ledger = MemoryLedger::new();
    let hosts = MACHINES_IN_FLIGHT_PER_DRIVER_MAX + 3;
    environment_with(hosts, &ledger).await;
    let world = Slow::new();
    let (_leader, leadership) = watch::channel(Some(ledger.term()));
    let scheduler = tokio::spawn(skep_scheduler::run(ledger.clone(), world.clone(), "m1".into(), leadership));
    let waits = |operation: &Operation| {
        operation.message == "waits for a free slot: 8 machines are being made by local"
    };
    until(&ledger, "three wait for a slot", || {
        operations(&ledger, "create-host").iter().filter(|operation| waits(operation)).count() == 3
    })
    .await;
    world.let_through.add_permits(hosts);
    until(&ledger, "all are made", || {
        let made = |operation: &&Operation| {
            operation.steps.first().is_some_and(|step| step.state == StepState::Done)
        };
        operations(&ledger, "create-host").iter().filter(made).count() == hosts
    })
    .await;
    assert_eq!(world.most.load(Ordering::SeqCst), MACHINES_IN_FLIGHT_PER_DRIVER_MAX);
    scheduler.abort();
}
