//! The story: one chapter after the other, each played until nothing is open any more.

mod tales;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use skep_ledger::{Ledger, MemoryLedger, Request, Tx, transact};
use skep_model::environment::{Environment, EnvironmentWish};
use skep_model::health::{self, Finding};
use skep_model::host::moving::Standing;
use skep_model::host::{self, HostWish, Inventory};
use skep_model::ids::{EnvironmentId, HostId, OperationId, StackId};
use skep_model::operation::{self, ITSELF, Operation, State};
use skep_model::resource::CloudResource;
use skep_model::stack::{Stack, StackWish};
use skep_model::{CLUSTER, Ruling};
use skep_scheduler::plan::{self, Ids, Picture};
use skep_scheduler::{Engine, Stop, Turned};
use uuid::Uuid;

pub(crate) use self::tales::Tale;

use crate::world::{DRIVER_AWAY, Fault, SimulatedWorld, When, hosts};

/// No chapter takes as many rounds; one that does is stuck.
const ROUNDS_MAX: usize = 10_000;

/// Longer than all deadlines of any workflow together.
const DEADLINES_MAX_SECS: i64 = 4_000;

/// Between two looks when nothing moves and nobody said when to look again.
const LOOK: Duration = Duration::from_secs(5);

/// What disturbs the story.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interruption {
    Never,
    At(usize, Fault),
    LastingFrom(usize),
    NewLeaderEveryTurn,
    /// Machines are made, but no agent ever connects.
    NoAgents,
    /// The first operation of that workflow that comes to that step is cancelled there, before the step is asked.
    CancelStep(&'static str, usize),
}

/// A story that was told to its end.
pub(crate) struct Told {
    /// Each chapter's end: its name, and the state of ledger and world as people would see it.
    pub(crate) chapters: Vec<(&'static str, Vec<String>)>,
    /// Every effect, in order.
    pub(crate) effects: Vec<String>,
    /// With how many effects its first chapter is told, which is the same in all tales.
    pub(crate) in_first_chapter: usize,
    /// Workflows of operations that have succeeded.
    pub(crate) succeeded: Vec<String>,
    /// Operations that have failed, with the reason.
    pub(crate) failed: Vec<String>,
    /// Machines that exist without a row in the cloud ledger, after any chapter.
    pub(crate) unaccounted: Vec<String>,
    /// Why it does not end, if it does not.
    pub(crate) stuck: Option<String>,
    /// Where what was cancelled stands at the end, and why.
    pub(crate) cancelled: Option<Result<Operation, String>>,
    /// Tables that have rows at the end.
    pub(crate) tables: BTreeSet<String>,
    /// All that happened, for people.
    pub(crate) transcript: Vec<String>,
    pub(crate) world: Arc<SimulatedWorld>,
}

pub(crate) struct Story {
    tale: Tale,
    ledger: Arc<MemoryLedger>,
    world: Arc<SimulatedWorld>,
    engine: Engine,
    interruption: Interruption,
    minted: u128,
    told: Vec<(&'static str, Vec<String>)>,
    /// At which effect each chapter began.
    begun: Vec<(&'static str, usize)>,
    unaccounted: Vec<String>,
    stuck: Option<String>,
    cancelled: Option<Result<OperationId, String>>,
}

impl Story {
    pub(crate) async fn tell(tale: Tale, interruption: Interruption) -> Told {
        let ledger = MemoryLedger::new();
        let when = match interruption {
            Interruption::At(number, fault) => When::At(number, fault),
            Interruption::LastingFrom(number) => When::From(number),
            Interruption::Never
            | Interruption::NewLeaderEveryTurn
            | Interruption::NoAgents
            | Interruption::CancelStep(..) => When::Never,
        };
        let world = SimulatedWorld::new(ledger.clone(), when);
        let engine = Engine::new(ledger.clone(), world.clone(), "m1", ledger.term());
        let mut story = Story {
            tale,
            ledger,
            world,
            engine,
            interruption,
            minted: 0,
            told: vec![],
            begun: vec![],
            unaccounted: vec![],
            stuck: None,
            cancelled: None,
        };
        story.all_chapters().await;
        story.end()
    }

    fn is_cancelled(&self) -> bool {
        let fault = matches!(self.interruption, Interruption::At(_, Fault::Cancelled));
        fault || matches!(self.interruption, Interruption::CancelStep(..))
    }

    /// Cancels the operation if it is the one, at the step where it is to be cancelled.
    async fn cancel_at_its_step(&mut self, id: &OperationId) {
        let Interruption::CancelStep(workflow, step) = self.interruption else { return };
        let operation = self.operations().into_iter().find(|operation| operation.id == *id);
        let is_there = |operation: &Operation| operation.workflow == workflow && operation.step == step;
        let prepared = |operation: &Operation| step == 0 || !operation.steps.is_empty();
        let here = operation.is_some_and(|operation| is_there(&operation) && prepared(&operation));
        if !here || self.cancelled.is_some() {
            return;
        }
        let cancelled =
            transact(&*self.ledger, Request::new(), |tx| operation::cancel(tx, id.as_str(), "ann"));
        self.cancelled = Some(cancelled.await.map(|_| id.clone()).map_err(|refusal| refusal.to_string()));
    }

    /// A host's agent says that its machine has another address, and its engine that its node has the one before, unless it is no
    /// node because of an earlier interruption.
    async fn address_changes(&mut self, name: &str, address: &str) {
        let known = hosts(&self.ledger.view()).into_iter().find(|host| host.name.as_str() == name);
        let Some(host) = known.filter(|host| host.agent.connected) else { return };
        let Some((node, before)) = host.membership.zip(host.machine.map(|machine| machine.address)) else {
            return;
        };
        let standing = Standing { node: node.node, address: before.clone(), cut_off: false };
        let finding = [Finding::Node(host.id.clone(), standing)];
        let looked = self.ledger.view().revision();
        let told = transact(&*self.ledger, Request::new(), |tx| -> Ruling<()> {
            health::record(tx, &host.environment, looked, &finding)?;
            for address in [before.as_str(), address] {
                let inventory = Inventory { address: address.into(), ..Inventory::default() };
                host::reported(tx, host.id.as_str(), "m1", "s1", Some(inventory), Ok(()))?;
            }
            Ok(())
        });
        told.await.expect("agents are heard");
    }

    /// The engines of two of the three swarm managers die, or are there again.
    async fn engines(&mut self, state: Result<(), String>) {
        for name in ["prod-1", "prod-3"] {
            self.engine_of(name, state.clone()).await;
        }
    }

    /// The engine of a host dies, or is there again, if its agent is there to tell.
    async fn engine_of(&mut self, name: &str, state: Result<(), String>) {
        let concerned = hosts(&self.ledger.view()).into_iter().filter(|host| host.name.as_str() == name);
        for host in concerned.filter(|host| host.agent.connected) {
            let told = transact(&*self.ledger, Request::new(), |tx| {
                host::reported(tx, host.id.as_str(), "m1", "s1", None, state.clone())
            });
            told.await.expect("agents are heard");
        }
    }

    fn end(self) -> Told {
        let operations: Vec<Operation> = self.operations();
        let cancelled = self.cancelled.or(self.world.cancelled());
        let find = |id: OperationId| operations.iter().find(|operation| operation.id == id).cloned();
        let of = |state: State| operations.iter().filter(move |operation| operation.state == state);
        let failed = of(State::Failed).filter(|operation| !operation.message.contains(DRIVER_AWAY));
        let tables = self.ledger.keys().into_iter().map(|key| key.table).collect();
        Told {
            chapters: self.told,
            effects: self.world.asked(),
            in_first_chapter: self.begun.get(1).map_or(0, |(_, effects)| *effects),
            succeeded: of(State::Succeeded).map(|operation| operation.workflow.clone()).collect(),
            failed: failed
                .map(|operation| {
                    format!("{} {}: {}", operation.workflow, operation.subject, operation.message)
                })
                .collect(),
            unaccounted: self.unaccounted,
            stuck: self.stuck,
            cancelled: cancelled.map(|cancelled| cancelled.map(|id| find(id).expect("is remembered"))),
            tables,
            transcript: transcript(&self.begun, &self.world.asked()),
            world: self.world,
        }
    }

    /// Somebody wishes; then everything runs until nothing is open.
    async fn chapter(&mut self, name: &'static str, wish: impl Fn(&mut Tx<'_>) -> Ruling<()> + Send + Sync) {
        // After a lasting error an earlier chapter may have failed; then a wish can be refused, which is an answer.
        if self.stuck.is_some() {
            return;
        }
        self.begun.push((name, self.world.asked().len()));
        let wished = transact(&*self.ledger, Request::new(), |tx| wish(tx)).await;
        let disturbed = matches!(self.interruption, Interruption::LastingFrom(_)) || self.is_cancelled();
        assert!(wished.is_ok() || disturbed, "{name}: {:?}", wished.err());
        self.settle(name).await;
        self.world.forgive();
        self.told.push((name, self.state()));
        let view = self.ledger.view();
        let known = view.list::<CloudResource>(CLUSTER).expect("reads");
        for machine in self.world.machines() {
            if !known.iter().any(|resource| resource.host == machine) {
                self.unaccounted.push(format!("{name}: {machine}"));
            }
        }
    }

    async fn settle(&mut self, chapter: &str) {
        let patience = self.ledger.now() + SignedDuration::from_secs(2 * DEADLINES_MAX_SECS);
        for _ in 0..ROUNDS_MAX {
            self.nature().await;
            let (moved, next) = self.round().await;
            let open = self.operations().iter().any(|operation| !operation.ended());
            if !open && !moved {
                return;
            }
            let moved = moved || self.somebody_looks().await;
            if !moved {
                let now = self.ledger.now();
                self.ledger.set_now(now + SignedDuration::try_from(next).expect("is short"));
            }
            if matches!(self.interruption, Interruption::LastingFrom(_)) && self.ledger.now() > patience {
                return self.assert_every_operation_ends(chapter);
            }
        }
        let stuck: Vec<_> = self
            .operations()
            .into_iter()
            .filter(|operation| !operation.ended())
            .map(|operation| {
                let step = operation.current().map(|step| step.name.clone()).unwrap_or_default();
                format!("{} {} at {step}: {}", operation.workflow, operation.subject, operation.message)
            })
            .collect();
        self.stuck = Some(format!("chapter '{chapter}' does not end: {stuck:#?}"));
    }

    /// What has paused by itself is let go on by a person, or given up if it can never be done.
    async fn somebody_looks(&self) -> bool {
        let by_itself = |operation: &Operation| operation.paused().is_some_and(|asked| asked.by == ITSELF);
        let Some(held) = self.operations().into_iter().find(by_itself) else {
            return false;
        };
        let in_vain = matches!(self.interruption, Interruption::LastingFrom(_));
        let acted = transact(&*self.ledger, Request::new(), |tx| match in_vain {
            true => operation::cancel(tx, held.id.as_str(), "ann"),
            false => operation::retry(tx, held.id.as_str(), OperationId::new(Uuid::nil()), "ann"),
        });
        acted.await.expect("both are ways out");
        true
    }

    /// What can never be done is tried again by planners, each time as a new operation that comes to an end.
    fn assert_every_operation_ends(&self, chapter: &str) {
        let longest = SignedDuration::from_secs(DEADLINES_MAX_SECS);
        for operation in self.operations().iter().filter(|operation| !operation.ended()) {
            let age = self.ledger.now().duration_since(operation.created_at);
            assert!(age < longest, "{chapter}: {} {} is still open", operation.workflow, operation.subject);
        }
    }

    /// Planners, then every open operation until it has nothing to do. Says whether anything moved, and how long
    /// to wait otherwise.
    async fn round(&mut self) -> (bool, Duration) {
        let mut moved = false;
        let mut next = LOOK;
        let picture = Picture::of(self.ledger.view(), self.ledger.now()).expect("reads");
        for decision in plan::decide(&picture).expect("decides") {
            let ids = Ids::mint(|| self.mint());
            match self.engine.start(&decision, &ids).await {
                Ok(()) => moved = true,
                Err(stop) => self.new_leader(&stop),
            }
        }
        for operation in self.operations().into_iter().filter(|operation| !operation.ended()) {
            loop {
                if matches!(self.interruption, Interruption::NewLeaderEveryTurn) {
                    self.ledger.next_term();
                    self.engine = self.engine_of_now();
                }
                self.cancel_at_its_step(&operation.id).await;
                match self.engine.turn(&operation.id).await {
                    Ok(Turned::Moved) => moved = true,
                    Ok(Turned::Ended) => break,
                    Ok(Turned::WaitsForSlot) => unreachable!("nothing is done at the same time here"),
                    Ok(Turned::Waits(most) | Turned::LooksAgain(most)) => {
                        next = next.min(most).max(Duration::from_millis(1));
                        break;
                    }
                    Err(stop) => {
                        self.new_leader(&stop);
                        moved = true;
                        break;
                    }
                }
            }
        }
        (moved, next)
    }

    /// A dead leader's writes are fenced; another takes over.
    fn new_leader(&mut self, stop: &Stop) {
        assert!(matches!(stop, Stop::Deposed(_)), "the engine stopped: {stop}");
        self.engine = self.engine_of_now();
    }

    fn engine_of_now(&self) -> Engine {
        Engine::new(self.ledger.clone(), self.world.clone(), "m2", self.ledger.term())
    }

    /// What happens by itself: agents of machines that exist register and report, those of others go silent.
    async fn nature(&mut self) {
        if matches!(self.interruption, Interruption::NoAgents) {
            return;
        }
        let machines = self.world.machines();
        for host in hosts(&self.ledger.view()) {
            let (id, exists) = (host.id.as_str().to_owned(), machines.contains(&host.id));
            if exists == host.agent.connected {
                continue;
            }
            let changed = transact(&*self.ledger, Request::new(), |tx| -> Ruling<()> {
                if !exists {
                    return host::disconnected(tx, &id, "s1");
                }
                host::registration::register(tx, &id, b"key", true)?;
                host::reported(tx, &id, "m1", "s1", Some(Inventory::default()), Ok(()))
            });
            changed.await.expect("agents are heard");
        }
    }

    fn operations(&self) -> Vec<Operation> {
        let stored = self.ledger.view().list::<Operation>(CLUSTER).expect("reads");
        stored.into_iter().map(|stored| stored.record).collect()
    }

    /// What people would see, without times and ids.
    fn state(&self) -> Vec<String> {
        let view = self.ledger.view();
        let hosts = hosts(&view);
        let environments = view.list::<Environment>(CLUSTER).expect("reads");
        let stacks = view.list_all::<Stack>().expect("reads");
        let mut lines = vec![];
        for environment in &environments {
            let swarm = environment.swarm.as_ref().map(|swarm| (swarm.nodes, swarm.managers));
            let state = environment.state(&hosts.iter().collect::<Vec<_>>()).0;
            let made_for = environment.networks.made_for;
            lines.push(format!("environment {} {state} {swarm:?} {made_for:?}", environment.name));
            let keys = &environment.keys;
            lines.push(format!("keys applied {} unlock key {:?}", keys.applied, keys.unlock_key));
        }
        for host in &hosts {
            let role = host.membership.as_ref().map(|membership| membership.role);
            lines.push(format!(
                "host {} {} {role:?} {:?} {:?} {:?} engine '{}' locked: {}",
                host.name,
                host.state().word,
                host.machine.is_some(),
                host.placement.written,
                host.placement.kept,
                host.engine_version(),
                host.swarm_locked
            ));
        }
        for stack in stacks {
            let logins: Vec<_> = stack.logins.keys().collect();
            lines.push(format!(
                "stack {} {} generation {} {logins:?}",
                stack.name,
                stack.state().0,
                stack.generation
            ));
        }
        for row in view.list::<CloudResource>(CLUSTER).expect("reads") {
            let left = row.left.as_ref().map(|left| (&left.environment, &left.name, &left.why));
            lines.push(format!("machine in the cloud ledger {left:?}"));
        }
        lines.push(format!("{} machines, {} let go", self.world.machines().len(), self.world.let_go()));
        lines
    }

    fn environment_wish(&mut self, name: &str, count: usize) -> (EnvironmentWish, HostId) {
        let hosts: Vec<_> =
            (0..count).map(|_| (HostId::new(self.mint()), OperationId::new(self.mint()))).collect();
        let last = hosts[count - 1].0.clone();
        let wish = EnvironmentWish {
            id: EnvironmentId::new(self.mint()),
            operation: OperationId::new(self.mint()),
            name: name.into(),
            template: "default".into(),
            hosts,
            driver: "local".into(),
            options: Default::default(),
            change: Default::default(),
        };
        (wish, last)
    }

    fn host_wish(&mut self, name: &str) -> HostWish {
        HostWish {
            id: HostId::new(self.mint()),
            operation: OperationId::new(self.mint()),
            name: name.into(),
            driver: "local".into(),
            options: Default::default(),
            skip_preflight: false,
            labels: Default::default(),
        }
    }

    fn stack_wish(&mut self, document: String) -> StackWish {
        StackWish {
            id: StackId::new(self.mint()),
            operation: OperationId::new(self.mint()),
            name: "shop".into(),
            document,
            variables: Default::default(),
        }
    }

    fn mint(&mut self) -> Uuid {
        self.minted += 1;
        Uuid::from_u128(self.minted)
    }
}

/// The story as somebody would tell it: chapters, and what was done to the world in each.
fn transcript(begun: &[(&'static str, usize)], effects: &[String]) -> Vec<String> {
    let mut lines = vec![];
    for (index, (chapter, from)) in begun.iter().enumerate() {
        let to = begun.get(index + 1).map_or(effects.len(), |(_, next)| *next);
        lines.push(format!("chapter '{chapter}'"));
        lines.extend((*from..to).map(|number| format!("  {number}: {}", effects[number])));
    }
    lines
}
