//! A world that behaves like drivers and engines do, remembers how often it made what, and can be made to fail at one
//! chosen effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use skep_ledger::{MemoryLedger, Request, Term, TransactError, View, transact};
use skep_model::environment::Environment;
use skep_model::fact::Fact;
use skep_model::host::{Host, Machine, Membership, Role};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::operation::{self, Operation};
use skep_model::placement::Availability;
use skep_model::stack::{ServiceSeen, Stack};
use skep_model::{CLUSTER, Refusal};
use skep_scheduler::{Effect, EffectError, World, effects};

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
    swarms: BTreeMap<EnvironmentId, BTreeMap<HostId, Membership>>,
    /// Who has a vote in a swarm, and whether it can still give it. Only a demotion takes a vote away.
    votes: BTreeMap<EnvironmentId, BTreeMap<HostId, bool>>,
    /// Swarms whose quorum was lost by what was asked for, in words.
    quorums_lost: Vec<String>,
    /// Networks and services by `stack/name`, with the generation they are of.
    in_swarm: BTreeMap<String, u64>,
}

impl SimulatedWorld {
    pub(crate) fn new(ledger: Arc<MemoryLedger>, when: When) -> Arc<SimulatedWorld> {
        Arc::new(SimulatedWorld { ledger, when, state: Mutex::default() })
    }

    pub(crate) fn machines(&self) -> BTreeSet<HostId> {
        self.lock().machines.clone()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    /// From the next chapter on nothing is refused any more.
    pub(crate) fn forgive(&self) {
        self.lock().refused_kind = None;
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
                let machine = Machine { id: format!("vm-{host}"), address: "10.90.0.9".into() };
                vec![Fact::MachineExists(environment.clone(), host.clone(), machine)]
            }
            Effect::ReleaseMachine { environment, host, .. } => {
                state.machines.remove(host);
                state.silence(environment, host, effect, view);
                vec![Fact::MachineGone(environment.clone(), host.clone())]
            }
            Effect::InitSwarm { environment, host, .. } => {
                if !state.swarms.entry(environment.clone()).or_default().contains_key(host) {
                    *state.made.entry(format!("swarm of {environment}")).or_default() += 1;
                    state.enter(environment, host, Role::Manager);
                }
                vec![state.seen(environment)]
            }
            Effect::RescueSwarm { environment, host, .. } => {
                for (id, node) in state.swarms.entry(environment.clone()).or_default() {
                    node.leader = id == host;
                    node.ready = node.leader || node.role == Role::Worker;
                }
                state.votes.insert(environment.clone(), [(host.clone(), true)].into());
                vec![state.seen(environment), Fact::SwarmRescued(environment.clone(), operation.id.clone())]
            }
            Effect::JoinSwarm { environment, joins } => {
                for (host, _, role) in joins {
                    state.enter(environment, host, *role);
                }
                vec![state.seen(environment)]
            }
            Effect::SetRole { environment, host, role, .. } => {
                state.change(environment, host, |node| node.role = *role);
                let votes = state.votes.entry(environment.clone()).or_default();
                match role {
                    Role::Manager => votes.insert(host.clone(), true),
                    Role::Worker => votes.remove(host),
                };
                vec![state.seen(environment)]
            }
            Effect::ObserveSwarm { environment } => vec![state.seen(environment)],
            Effect::DrainNode { environment, host, .. } => {
                state.change(environment, host, |node| node.availability = Availability::Drain);
                vec![state.seen(environment)]
            }
            Effect::UpdateNode { environment, host, generation, .. } => {
                let wished =
                    hosts(view).into_iter().find(|known| known.id == *host).expect("is there").placement;
                state.change(environment, host, |node| node.availability = wished.availability);
                let written = wished.labels.keys().cloned().collect();
                let updated = Fact::NodeUpdated(environment.clone(), host.clone(), *generation, written);
                vec![state.seen(environment), updated]
            }
            Effect::ObserveEvacuation { environment, host, .. } => {
                vec![Fact::Evacuated(environment.clone(), host.clone())]
            }
            Effect::LeaveSwarm { environment, host, .. } => {
                state.swarms.entry(environment.clone()).or_default().remove(host);
                state.silence(environment, host, effect, view);
                vec![Fact::LeftSwarm(environment.clone(), host.clone())]
            }
            other => act_on_stack(&mut state, other, view, operation),
        }
    }
}

fn act_on_stack(state: &mut State, effect: &Effect, view: &View, operation: &Operation) -> Vec<Fact> {
    match effect {
        Effect::EnsureNetworks { environment, stack, generation } => {
            state.ensure(format!("{stack}/network"), *generation);
            vec![Fact::StackNetworksMade(environment.clone(), stack.clone(), *generation)]
        }
        Effect::EnsureServices { environment, stack, generation } => {
            for service in &stack_of(view, environment, stack.as_str()).recipe.services {
                state.ensure(format!("{stack}/{}", service.name), *generation);
            }
            vec![Fact::StackServicesMade(environment.clone(), stack.clone(), *generation, BTreeMap::new())]
        }
        Effect::ObserveStack { environment, stack, generation, .. } => {
            let recipe = stack_of(view, environment, stack.as_str()).recipe;
            let running = |name: &str| ServiceSeen {
                name: name.into(),
                running: 3,
                desired: 3,
                updating: false,
                error: String::new(),
                failed: String::new(),
            };
            let seen = recipe.services.iter().map(|service| running(&service.name)).collect();
            vec![Fact::StackSeen(environment.clone(), stack.clone(), *generation, seen)]
        }
        Effect::WithdrawStack { environment, stack } => {
            state.in_swarm.retain(|name, _| !name.starts_with(&format!("{stack}/")));
            vec![Fact::StackWithdrawn(environment.clone(), stack.clone())]
        }
        decision => effects::decided(decision, operation),
    }
}

impl State {
    fn enter(&mut self, environment: &EnvironmentId, host: &HostId, role: Role) {
        let nodes = self.swarms.entry(environment.clone()).or_default();
        let leader = nodes.is_empty();
        let node = format!("node-{host}");
        let node = Membership {
            node,
            role,
            leader,
            ready: true,
            availability: Availability::Active,
            reachable: true,
        };
        nodes.entry(host.clone()).or_insert(node);
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

    fn seen(&mut self, environment: &EnvironmentId) -> Fact {
        let nodes = self.swarms.entry(environment.clone()).or_default();
        let nodes = nodes.iter().map(|(host, node)| (host.clone(), node.clone())).collect();
        Fact::SwarmSeen(environment.clone(), "swarm".into(), nodes)
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
        match self.fault(effect) {
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
