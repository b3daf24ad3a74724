//! The story: one chapter after the other, each played until nothing is open any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use skep_ledger::{Ledger, MemoryLedger, Request, Tx, transact};
use skep_model::environment::{self, Environment, EnvironmentWish};
use skep_model::health::{self, Finding};
use skep_model::host::moving::Standing;
use skep_model::host::renewal::Successor;
use skep_model::host::{self, Host, HostWish, Inventory};
use skep_model::ids::{EnvironmentId, HostId, OperationId, StackId};
use skep_model::nfs::Nfs;
use skep_model::operation::{self, ITSELF, Operation, State};
use skep_model::placement::{self, Availability, Change};
use skep_model::registry::{self, LoginWish};
use skep_model::resource::CloudResource;
use skep_model::sealed::Sealed;
use skep_model::stack::{self, Stack, StackWish};
use skep_model::swarm_keys::{self, SwarmKey};
use skep_model::{CLUSTER, Refusal, Ruling, upgrade};
use skep_scheduler::plan::{self, Picture};
use skep_scheduler::{Engine, Stop, Turned};
use uuid::Uuid;

use crate::world::{DRIVER_AWAY, Fault, SimulatedWorld, When, hosts};

/// No chapter takes as many rounds; one that does is stuck.
const ROUNDS_MAX: usize = 10_000;

/// Longer than all deadlines of any workflow together.
const DEADLINES_MAX_SECS: i64 = 4_000;

/// When even what was given up for a while is taken up again.
const LONG_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Between two looks when nothing moves and nobody said when to look again.
const LOOK: Duration = Duration::from_secs(5);

/// How long a swarm manager is down before it is replaced, where nothing else is wished.
const PATIENCE_SECS: i64 = 300;

/// How long a host has to be there before tasks are moved to it.
const JOINED_PAUSE_SECS: i64 = 30;

/// What one story is about. All begin with an environment of three hosts and end without it.
///
/// They are several because every one is told anew for each of its effects and faults: what a story costs grows with the
/// square of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tale {
    /// What runs in the swarm, and what its hosts look like to it.
    Services,
    /// Keys, rest and other engines.
    Upkeep,
    /// Managers of the swarm that are lost.
    Managers,
    /// Hosts that go, come anew or are replaced.
    Machines,
}

impl Tale {
    pub(crate) const ALL: [Tale; 4] = [Tale::Services, Tale::Upkeep, Tale::Managers, Tale::Machines];
}

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

/// A service with a volume on the environment's NFS server.
fn recipe_on_nfs(version: u8) -> String {
    let volumes = "volumes:\n  data: {driver: nfs}\n";
    format!("{}    volumes: ['data:/data']\n{volumes}", recipe(version))
}

fn recipe(version: u8) -> String {
    format!("services:\n  web:\n    image: busybox:{version}\n    deploy: {{replicas: 3}}\n")
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

    async fn all_chapters(&mut self) {
        let (wish, last) = self.environment_wish("prod", 3);
        self.chapter("an environment with three hosts", |tx| environment::wish(tx, &wish).map(drop)).await;
        if matches!(self.interruption, Interruption::NoAgents) {
            return;
        }
        match self.tale {
            Tale::Services => self.chapters_about_services().await,
            Tale::Upkeep => self.chapters_about_upkeep().await,
            Tale::Managers => self.chapters_about_managers().await,
            Tale::Machines => self.chapters_about_machines(&last).await,
        }
        let removal = OperationId::new(self.mint());
        self.chapter("the environment removed", |tx| {
            environment::remove(tx, "prod", removal.clone()).map(drop)
        })
        .await;
        if self.is_cancelled() {
            let removal = OperationId::new(self.mint());
            self.chapter("the environment removed after all", |tx| {
                environment::remove(tx, "prod", removal.clone()).map(drop)
            })
            .await;
        }
        if self.tale == Tale::Machines {
            self.a_driver_that_is_away().await;
        }
    }

    async fn chapters_about_services(&mut self) {
        let update = OperationId::new(self.mint());
        self.chapter("the environment changed", |tx| {
            let nfs = Nfs { server: "files".into(), path: "/export".into(), options: String::new() };
            let change = environment::Change {
                mtu: Some(Some(1_400)),
                nfs: Some(Some(nfs)),
                ..environment::Change::default()
            };
            environment::update(tx, "prod", &change, update.clone()).map(drop)
        })
        .await;
        let first = self.stack_wish(recipe_on_nfs(1));
        self.chapter("a stack", |tx| stack::deploy(tx, "prod", &first).map(drop)).await;
        let second = self.stack_wish(recipe_on_nfs(2));
        self.chapter("the stack changed", |tx| stack::deploy(tx, "prod", &second).map(drop)).await;
        let login = LoginWish {
            server: "docker.io".into(),
            user: "ann".into(),
            password: Sealed::new(vec![1]),
            checked: false,
        };
        self.chapter("logged in to a registry", |tx| {
            let environment = environment::usable(tx, "prod")?;
            registry::login(tx, &environment, &login).map(drop)
        })
        .await;
        let (evacuation, labels) = (OperationId::new(self.mint()), OperationId::new(self.mint()));
        self.chapter("a host labelled and evacuated", |tx| {
            let environment = environment::usable(tx, "prod")?;
            let rack = Change::Labels([("rack".to_owned(), Some("b".to_owned()))].into());
            placement::wish(tx, &environment, "prod-1", &rack, labels.clone())?;
            let drain = Change::Availability(Availability::Drain);
            placement::wish(tx, &environment, "prod-1", &drain, evacuation.clone()).map(drop)
        })
        .await;
        let back = OperationId::new(self.mint());
        self.chapter("the host takes tasks again", |tx| {
            let environment = environment::usable(tx, "prod")?;
            let active = Change::Availability(Availability::Active);
            placement::wish(tx, &environment, "prod-1", &active, back.clone()).map(drop)
        })
        .await;
        let check = OperationId::new(self.mint());
        self.chapter("a host checked", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::check(tx, &environment, "prod-1", None, check.clone(), "ann").map(drop)
        })
        .await;
        self.address_changes("prod-1", "10.90.0.77").await;
        self.chapter("a machine has another address", |_| Ok(())).await;
        let removal = OperationId::new(self.mint());
        self.chapter("the stack removed", |tx| stack::remove(tx, "prod", "shop", removal.clone()).map(drop))
            .await;
    }

    async fn chapters_about_upkeep(&mut self) {
        self.chapters_about_keys().await;
        let pause = OperationId::new(self.mint());
        self.chapter("the environment rests", |tx| environment::pause(tx, "prod", pause.clone()).map(drop))
            .await;
        let resume = OperationId::new(self.mint());
        self.chapter("the environment is at work again", |tx| {
            environment::resume(tx, "prod", resume.clone()).map(drop)
        })
        .await;
        let upgrade = OperationId::new(self.mint());
        self.chapter("other engines", |tx| {
            upgrade::of_environment(tx, "prod", Some("29.1.2"), upgrade.clone()).map(drop)
        })
        .await;
    }

    async fn chapters_about_managers(&mut self) {
        let stack = self.stack_wish(recipe(1));
        self.chapter("a stack", |tx| stack::deploy(tx, "prod", &stack).map(drop)).await;
        self.engines(Err("connection refused".into())).await;
        let rescue = OperationId::new(self.mint());
        self.chapter("the swarm rescued", |tx| {
            environment::rescue(tx, "prod", "prod-2", rescue.clone()).map(drop)
        })
        .await;
        self.engines(Ok(())).await;
        self.chapter("the lost managers are back", |_| Ok(())).await;
        self.a_manager_is_lost_for_long().await;
    }

    async fn chapters_about_machines(&mut self, last: &HostId) {
        let renewal = OperationId::new(self.mint());
        self.chapter("a host's machine made anew", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::renewal::reprovision(tx, &environment, "prod-2", renewal.clone()).map(drop)
        })
        .await;
        self.a_spare_host().await;
        let removal = OperationId::new(self.mint());
        self.chapter("a host removed", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::remove(tx, &environment, last.as_str(), removal.clone(), None).map(drop)
        })
        .await;
        let successor = Successor {
            host: HostId::new(self.mint()),
            creation: OperationId::new(self.mint()),
            name: Some("prod-5".into()),
        };
        let replacement = OperationId::new(self.mint());
        self.chapter("a host replaced", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::renewal::replace(tx, &environment, "prod-1", &successor, replacement.clone()).map(drop)
        })
        .await;
        let removal = OperationId::new(self.mint());
        self.chapter("a host removed, its machine stays", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::let_go(tx, &environment, "prod-5", removal.clone()).map(drop)
        })
        .await;
    }

    async fn a_spare_host(&mut self) {
        let spare = self.host_wish("prod-4");
        self.chapter("a spare host", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::wish(tx, &environment, &spare, None).map(drop)
        })
        .await;
    }

    /// An environment goes without its machine, and the machine goes later.
    async fn a_driver_that_is_away(&mut self) {
        let (wish, _) = self.environment_wish("lab", 1);
        self.chapter("another environment", |tx| environment::wish(tx, &wish).map(drop)).await;
        self.world.driver_is_away(true);
        for chapter in ["it is removed while the driver is away", "it is removed all the same"] {
            let removal = OperationId::new(self.mint());
            let wished = |tx: &mut Tx<'_>| match environment::remove(tx, "lab", removal.clone()) {
                Err(Refusal::NotFound { .. }) => Ok(()),
                other => other.map(drop),
            };
            self.chapter(chapter, wished).await;
        }
        self.world.driver_is_away(false);
        self.ledger.set_now(self.ledger.now() + LONG_AFTER);
        self.chapter("the driver is back", |_| Ok(())).await;
    }

    /// Nobody asks for anything: another host takes its place, and it comes back as a worker.
    async fn a_manager_is_lost_for_long(&mut self) {
        let (spread, stay) = (OperationId::new(self.mint()), OperationId::new(self.mint()));
        self.chapter("tasks are to be spread", |tx| {
            let rebalance = environment::Change { rebalance: Some(true), ..Default::default() };
            environment::update(tx, "prod", &rebalance, spread.clone()).map(drop)
        })
        .await;
        self.wait(1);
        self.a_spare_host().await;
        self.wait(JOINED_PAUSE_SECS);
        self.chapter("the spare host gets its share of the tasks", |_| Ok(())).await;
        self.chapter("and tasks stay from then on", |tx| {
            let change = environment::Change { rebalance: Some(false), ..Default::default() };
            environment::update(tx, "prod", &change, stay.clone()).map(drop)
        })
        .await;
        self.engine_of("prod-1", Err("connection refused".into())).await;
        self.wait(PATIENCE_SECS);
        self.chapter("a lost manager is replaced", |_| Ok(())).await;
        self.engine_of("prod-1", Ok(())).await;
        self.chapter("the lost manager is back", |_| Ok(())).await;
    }

    /// Nothing happens for a while.
    fn wait(&self, secs: i64) {
        self.ledger.set_now(self.ledger.now() + SignedDuration::from_secs(secs));
    }

    async fn chapters_about_keys(&mut self) {
        let keys = swarm_keys::Change { autolock: Some(true), ..Default::default() };
        let (change, id) = (environment::Change { keys, ..Default::default() }, self.mint());
        self.chapter("the swarm locked", |tx| {
            environment::update(tx, "prod", &change, OperationId::new(id)).map(drop)
        })
        .await;
        for (chapter, key) in [
            ("the join tokens rotated", SwarmKey::JoinTokens),
            ("the authority rotated", SwarmKey::Authority),
            ("the unlock key rotated", SwarmKey::UnlockKey),
        ] {
            let id = OperationId::new(self.mint());
            self.chapter(chapter, |tx| swarm_keys::rotate(tx, "prod", key, id.clone()).map(drop)).await;
        }
        self.chapter("engines of locked managers start", |tx| {
            let environment = environment::usable(tx, "prod")?;
            for host in tx.list::<Host>(environment.id.as_str())?.into_iter().take(2) {
                tx.put(&Host { swarm_locked: true, ..host.record });
            }
            Ok(())
        })
        .await;
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
            let id = OperationId::new(self.mint());
            match self.engine.start(&decision, id).await {
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
                    Ok(Turned::Waits(most)) => {
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
