//! A world that behaves like drivers and engines do, remembers how often it made what, and can be made to fail at one
//! chosen effect.

mod acts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use skep_ledger::{MemoryLedger, Request, Term, TransactError, View, transact};
use skep_model::environment::Environment;
use skep_model::fact::Fact;
use skep_model::host::{Host, Machine, Membership, Role};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::nfs::{self, NfsSeen, Reach};
use skep_model::operation::{self, Direction, Operation, workflow};
use skep_model::options::Pools;
use skep_model::placement::Availability;
use skep_model::stack::Stack;
use skep_model::swarm_keys::SwarmKey;
use skep_model::{CLUSTER, Refusal};
use skep_scheduler::{Effect, EffectError, World};

/// Why the driver takes nothing back in one chapter.
pub(crate) const DRIVER_AWAY: &str = "the driver is away";

/// What happens at the chosen effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails before anything was done.
    ErrorBefore,
    /// It is done, but the answer is lost.
    ReplyLost,
    /// The leader is gone before anything was done.
    LeaderDiesBefore,
    /// It is done, then the leader is gone.
    LeaderDiesAfter,
    /// It is done twice: an old leader and a new one at the same time.
    DoneTwice,
    /// It fails, and another try would fail too.
    Lasting,
    /// Somebody cancels the operation while it is done.
    Cancelled,
}

/// When it happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    Never,
    /// At the effect with this number.
    At(usize, Fault),
    /// At this effect and whenever that kind of effect comes again, until the story's next chapter.
    From(usize),
}

pub(crate) struct SimulatedWorld {
    ledger: Arc<MemoryLedger>,
    when: When,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Every effect that was asked for, as people read it.
    asked: Vec<String>,
    refused_kind: Option<std::mem::Discriminant<Effect>>,
    cancelled: Option<Result<OperationId, String>>,
    /// How often a thing was made, by name.
    made: BTreeMap<String, usize>,
    machines: BTreeSet<HostId>,
    /// The driver takes nothing back.
    driver_away: bool,
    /// Engines that are not as they came.
    engines: BTreeMap<HostId, String>,
    /// Machines that go on, and are nobody's of ours.
    let_go: BTreeSet<HostId>,
    swarms: BTreeMap<EnvironmentId, BTreeMap<HostId, Membership>>,
    /// Who has a vote in a swarm, and whether it can still give it. Only a demotion takes a vote away.
    votes: BTreeMap<EnvironmentId, BTreeMap<HostId, bool>>,
    /// Swarms whose quorum was lost by what was asked for, in words.
    quorums_lost: Vec<String>,
    /// Which of its keys a swarm has, by environment and kind; each is a number.
    keys: BTreeMap<(EnvironmentId, String), u64>,
    /// How many nodes there have been.
    nodes: usize,
    /// Networks and services by `stack/name`, with the generation they are of.
    in_swarm: BTreeMap<String, u64>,
    /// Services whose tasks were moved, with the operation that is written on them.
    moved: BTreeSet<(String, OperationId)>,
}

impl SimulatedWorld {
    pub(crate) fn new(ledger: Arc<MemoryLedger>, when: When) -> Arc<SimulatedWorld> {
        Arc::new(SimulatedWorld { ledger, when, state: Mutex::default() })
    }

    pub(crate) fn machines(&self) -> BTreeSet<HostId> {
        self.lock().machines.clone()
    }

    /// Machines that go on, and are nobody's of ours.
    pub(crate) fn let_go(&self) -> usize {
        self.lock().let_go.len()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    /// From the next chapter on nothing is refused any more.
    pub(crate) fn forgive(&self) {
        self.lock().refused_kind = None;
    }

    /// From now on the driver takes nothing back, or does so again.
    pub(crate) fn driver_is_away(&self, away: bool) {
        self.lock().driver_away = away;
    }

    /// What is to happen at the effect happens, but the driver does nothing.
    async fn without_driver(
        &self,
        fault: Option<Fault>,
        operation: &Operation,
    ) -> Result<Vec<Fact>, EffectError> {
        match fault {
            Some(Fault::Cancelled) => self.cancel(operation).await,
            Some(Fault::LeaderDiesBefore | Fault::LeaderDiesAfter) => drop(self.ledger.next_term()),
            _ => {}
        }
        Err(EffectError::lasting(DRIVER_AWAY))
    }

    /// Whatever was made more than once, in words.
    pub(crate) fn made_too_often(&self) -> Vec<String> {
        let made = &self.lock().made;
        let often = made.iter().filter(|(_, times)| **times > 1);
        often.map(|(what, times)| format!("{what} was made {times} times")).collect()
    }

    /// Every quorum that an effect has cost a swarm that was to stay.
    pub(crate) fn quorums_lost(&self) -> Vec<String> {
        self.lock().quorums_lost.clone()
    }

    async fn cancel(&self, operation: &Operation) {
        let id = operation.id.as_str();
        let cancelled: Result<_, TransactError<Refusal>> =
            transact(&*self.ledger, Request::new(), |tx| operation::cancel(tx, id, "ann")).await;
        let refused = cancelled.err().map(|refusal| refusal.to_string());
        self.lock().cancelled = Some(refused.map_or(Ok(operation.id.clone()), Err));
    }

    /// What came of the cancellation: the operation, or why it was refused.
    pub(crate) fn cancelled(&self) -> Option<Result<OperationId, String>> {
        self.lock().cancelled.clone()
    }

    /// Everything that still exists. A swarm is gone with its last machine.
    pub(crate) fn left_over(&self) -> Vec<String> {
        self.lock().machines.iter().map(|host| format!("machine of {host}")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, effect: &Effect) -> Option<Fault> {
        let mut state = self.lock();
        let number = state.asked.len();
        state.asked.push(effect.to_string());
        let kind = std::mem::discriminant(effect);
        match self.when {
            When::At(at, fault) if at == number => Some(fault),
            When::From(at) if at == number => {
                state.refused_kind = Some(kind);
                Some(Fault::Lasting)
            }
            When::From(_) if state.refused_kind == Some(kind) => Some(Fault::Lasting),
            _ => None,
        }
    }

    fn act(&self, effect: &Effect, view: &View, operation: &Operation) -> Vec<Fact> {
        let mut state = self.lock();
        match effect {
            Effect::EnsureMachine { environment, host, name, .. } => {
                if state.machines.insert(host.clone()) {
                    *state.made.entry(format!("machine {name}")).or_default() += 1;
                }
                let number = host.as_str().get(host.as_str().len() - 2..).expect("ends with its number");
                let address = format!("10.90.0.{}", u8::from_str_radix(number, 16).expect("is a number"));
                let machine = Machine { id: format!("vm-{host}"), address };
                vec![Fact::MachineExists(environment.clone(), host.clone(), machine)]
            }
            Effect::ReleaseMachine { environment, host, name, .. } => {
                if state.machines.remove(host) && may_be_made_again(operation) {
                    state.made.remove(&format!("machine {name}"));
                }
                state.silence(environment, host, effect, view);
                vec![Fact::MachineGone(environment.clone(), host.clone())]
            }
            Effect::LetMachineGo { environment, host, .. } => {
                if state.machines.remove(host) {
                    state.let_go.insert(host.clone());
                }
                state.silence(environment, host, effect, view);
                vec![Fact::MachineGone(environment.clone(), host.clone())]
            }
            Effect::InitSwarm { environment, host, .. } => {
                if !state.swarms.entry(environment.clone()).or_default().contains_key(host) {
                    *state.made.entry(format!("swarm of {environment}")).or_default() += 1;
                    state.enter(environment, host, Role::Manager);
                }
                vec![state.seen(environment), Fact::SwarmBegun(environment.clone(), Pools::default())]
            }
            Effect::AdoptSwarm { environment, host, .. } => {
                state.enter(environment, host, Role::Manager);
                vec![state.seen(environment)]
            }
            Effect::SetNetworks { environment, made_for } => {
                let id = operation.id.clone();
                vec![Fact::NetworksSet(environment.clone(), id, *made_for, Some(*made_for))]
            }
            Effect::ObserveNfs { environment } => nfs_seen(environment, view, operation),
            Effect::RescueSwarm { environment, host, .. } => {
                for (id, node) in state.swarms.entry(environment.clone()).or_default() {
                    node.leader = id == host;
                    node.ready = node.leader || node.role == Role::Worker;
                }
                state.votes.insert(environment.clone(), [(host.clone(), true)].into());
                vec![state.seen(environment), Fact::SwarmRescued(environment.clone(), operation.id.clone())]
            }
            Effect::RestoreSwarm { environment, host, .. } => {
                let nodes = state.swarms.entry(environment.clone()).or_default();
                nodes.remove(host);
                nodes.values_mut().for_each(|node| (node.leader, node.ready) = (false, false));
                state.enter(environment, host, Role::Manager);
                state.change(environment, host, |node| node.leader = true);
                state.votes.insert(environment.clone(), [(host.clone(), true)].into());
                let restored = Fact::SwarmRestored(environment.clone(), operation.id.clone());
                vec![restored, state.seen(environment)]
            }
            Effect::JoinSwarm { environment, joins } => {
                for (host, _, role) in joins {
                    state.enter(environment, host, *role);
                }
                vec![state.seen(environment)]
            }
            other => acts::on_node(&mut state, other, view, operation),
        }
    }
}

/// A second machine may follow the first if that was the wish, or if the first was given back because its host failed.
fn may_be_made_again(operation: &Operation) -> bool {
    operation.workflow == workflow::REPROVISION_HOST || operation.direction != Direction::Forward
}

/// Every host that has not tried the server yet can use it.
fn nfs_seen(id: &EnvironmentId, view: &View, operation: &Operation) -> Vec<Fact> {
    let environment = view.get::<Environment>(CLUSTER, id.as_str()).expect("reads").expect("is there").record;
    let Some(nfs) = environment.options.nfs.clone() else { return vec![] };
    let seen = NfsSeen { nfs, reach: Reach::Works, why: String::new(), tried_by: None };
    let fact = |host: &Host| Fact::NfsSeen(id.clone(), host.id.clone(), seen.clone());
    nfs::unasked(&environment, &hosts(view), &operation.id).map(fact).collect()
}

impl State {
    fn enter(&mut self, environment: &EnvironmentId, host: &HostId, role: Role) {
        let nodes = self.swarms.entry(environment.clone()).or_default();
        let leader = nodes.is_empty();
        if nodes.contains_key(host) {
            return;
        }
        // Who joins again is another node.
        self.nodes += 1;
        let node = format!("node-{}", self.nodes);
        let node = Membership {
            node,
            role,
            leader,
            ready: true,
            availability: Availability::Active,
            reachable: true,
        };
        nodes.insert(host.clone(), node);
        if role == Role::Manager {
            self.votes.entry(environment.clone()).or_default().insert(host.clone(), true);
        }
    }

    /// Whoever leaves, or loses its machine, as a manager still has a vote, and cannot give it any more.
    fn silence(&mut self, environment: &EnvironmentId, host: &HostId, effect: &Effect, view: &View) {
        let votes = self.votes.entry(environment.clone()).or_default();
        let Some(vote) = votes.get_mut(host) else {
            return;
        };
        *vote = false;
        let alive = votes.values().filter(|alive| **alive).count();
        let others =
            self.swarms.get(environment).is_some_and(|nodes| nodes.keys().any(|other| other != host));
        let place = view.get::<Environment>(CLUSTER, environment.as_str()).expect("reads");
        let stays = place.is_some_and(|place| place.removal.is_none());
        if alive <= votes.len() / 2 && others && stays {
            self.quorums_lost
                .push(format!("'{effect}' has cost the swarm its quorum: {alive} of {}", votes.len()));
        }
    }

    fn change(&mut self, environment: &EnvironmentId, host: &HostId, change: impl FnOnce(&mut Membership)) {
        if let Some(node) = self.swarms.entry(environment.clone()).or_default().get_mut(host) {
            change(node);
        }
    }

    /// Changes which tasks a node takes; answers which it took before.
    fn availability(
        &mut self,
        environment: &EnvironmentId,
        host: &HostId,
        change: impl FnOnce(Availability) -> Availability,
    ) -> Option<Availability> {
        let node = self.swarms.entry(environment.clone()).or_default().get_mut(host)?;
        let before = node.availability;
        node.availability = change(before);
        Some(before)
    }

    fn seen(&mut self, environment: &EnvironmentId) -> Fact {
        let nodes = self.swarms.entry(environment.clone()).or_default();
        let nodes = nodes.iter().map(|(host, node)| (host.clone(), node.clone())).collect();
        Fact::SwarmSeen(environment.clone(), "swarm".into(), nodes)
    }

    fn key(&self, environment: &EnvironmentId, key: SwarmKey) -> u64 {
        self.keys.get(&(environment.clone(), key.to_string())).copied().unwrap_or_default()
    }

    fn ensure(&mut self, name: String, generation: u64) {
        if self.in_swarm.insert(name.clone(), generation).is_none() {
            *self.made.entry(name).or_default() += 1;
        }
    }
}

fn stack_of(view: &View, environment: &EnvironmentId, name: &str) -> Stack {
    view.get::<Stack>(environment.as_str(), name).expect("reads").expect("the stack is there").record
}

#[async_trait]
impl World for SimulatedWorld {
    async fn perform(
        &self,
        effect: &Effect,
        view: &View,
        operation: &Operation,
        _term: Term,
    ) -> Result<Vec<Fact>, EffectError> {
        let lost = || Err(EffectError::passing("no answer"));
        addresses_are_known(effect, view)?;
        let fault = self.fault(effect);
        if self.lock().driver_away && matches!(effect, Effect::ReleaseMachine { .. }) {
            return self.without_driver(fault, operation).await;
        }
        match fault {
            None => Ok(self.act(effect, view, operation)),
            Some(Fault::ErrorBefore) => lost(),
            Some(Fault::Lasting) => Err(EffectError::lasting("this cannot be done")),
            Some(Fault::ReplyLost) => {
                self.act(effect, view, operation);
                lost()
            }
            Some(Fault::LeaderDiesBefore) => {
                self.ledger.next_term();
                lost()
            }
            Some(Fault::LeaderDiesAfter) => {
                let facts = self.act(effect, view, operation);
                self.ledger.next_term();
                Ok(facts)
            }
            Some(Fault::Cancelled) => {
                self.cancel(operation).await;
                Ok(self.act(effect, view, operation))
            }
            Some(Fault::DoneTwice) => {
                self.act(effect, view, operation);
                Ok(self.act(effect, view, operation))
            }
        }
    }
}

/// A node says its machine's address when it begins or joins a swarm, so the ledger must know it by then. An agent can
/// be faster than the driver's answer.
fn addresses_are_known(effect: &Effect, view: &View) -> Result<(), EffectError> {
    let needed: Vec<&HostId> = match effect {
        Effect::InitSwarm { host, .. } => vec![host],
        Effect::JoinSwarm { joins, .. } => joins.iter().map(|(host, ..)| host).collect(),
        _ => vec![],
    };
    match hosts(view).iter().find(|host| needed.contains(&&host.id) && host.machine.is_none()) {
        Some(host) => Err(EffectError::lasting(format!("{} has no machine", host.name))),
        None => Ok(()),
    }
}

/// All hosts that the ledger knows, with what people see of them.
pub(crate) fn hosts(view: &View) -> Vec<Host> {
    view.list_all::<Host>().expect("reads").into_iter().map(|stored| stored.record).collect()
}
