//! The real world: drivers make machines, Docker engines are reached through their agents.
//!
//! One function per effect, each in the same three movements: look, act if it is not so, say what is so.

mod anew;
mod balance;
mod engine;
mod look;
mod machine;
mod network;
mod networks;
mod nfs;
mod own_words;
mod parting;
mod placement;
mod reached;
mod registry;
mod rejoin;
mod rest;
mod restore;
mod seen;
mod spec;
mod stack;
mod swarm;
mod swarm_keys;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error as DockerError;
use skep_drivers::{DRIVERS, Driver, DriverConfig, JoinFile};
use skep_hub::Hub;
use skep_ledger::{Term, View};
use skep_model::CLUSTER;
use skep_model::environment::Environment;
use skep_model::fact::Fact;
use skep_model::host::Host;
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::name::Name;
use skep_model::operation::Operation;
use skep_model::stack::Stack;
use skep_sealing::SealingKey;
use uuid::Uuid;

use crate::Effect;
use crate::health::Lookout;
use crate::world::{EffectError, World};
use reached::Reached;

/// Engines that have not done what an effect wants of them by then are named and asked again. Shorter than the engine of
/// operations waits, which does not know who was spoken to.
const ENGINES_MAX: Duration = Duration::from_secs(100);

/// What an agent on a new machine needs to find its way to us: made anew for each host, holds its one-time token.
pub type Invitation = Arc<dyn Fn(&HostId) -> JoinFile + Send + Sync>;

/// Drivers, engines, and how hosts are invited.
pub struct RealWorld {
    cluster: String,
    drivers: BTreeMap<&'static str, Arc<dyn Driver>>,
    hub: Hub,
    invite: Invitation,
    sealing: Arc<SealingKey>,
}

impl RealWorld {
    /// The world of this manager.
    pub fn new(drivers: &DriverConfig, hub: Hub, invite: Invitation, sealing: Arc<SealingKey>) -> RealWorld {
        RealWorld {
            cluster: drivers.cluster.clone(),
            drivers: DRIVERS.iter().map(|kind| (kind.name, (kind.build)(drivers))).collect(),
            hub,
            invite,
            sealing,
        }
    }

    fn driver(&self, name: &str) -> Result<&Arc<dyn Driver>, EffectError> {
        self.drivers.get(name).ok_or_else(|| EffectError::lasting(format!("there is no driver '{name}'")))
    }
}

#[async_trait]
impl World for RealWorld {
    async fn perform(
        &self,
        effect: &Effect,
        view: &View,
        operation: &Operation,
        term: Term,
    ) -> Result<Vec<Fact>, EffectError> {
        // These speak to drivers and agents, and have bounds of their own.
        let is_bounded = matches!(
            effect,
            Effect::EnsureMachine { .. }
                | Effect::ReleaseMachine { .. }
                | Effect::LetMachineGo { .. }
                | Effect::CheckNetwork { .. }
        );
        if is_bounded {
            return self.act(effect, view, operation, term).await;
        }
        let acted = tokio::time::timeout(ENGINES_MAX, self.act(effect, view, operation, term)).await;
        acted.unwrap_or_else(|_| Err(EffectError::passing(self.unanswered(effect, view, term))))
    }

    fn lookout(self: Arc<Self>) -> Option<Arc<dyn Lookout>> {
        Some(self)
    }
}

impl RealWorld {
    async fn act(
        &self,
        effect: &Effect,
        view: &View,
        operation: &Operation,
        term: Term,
    ) -> Result<Vec<Fact>, EffectError> {
        let site = |environment: &EnvironmentId| Site::of(view, environment, self.hub.clone(), term);
        match effect {
            Effect::EnsureMachine { environment, host, driver, .. } => {
                self.ensure_machine(site(environment)?.host(host)?, driver).await
            }
            Effect::ReleaseMachine { environment, host, driver, .. } => {
                self.release_machine(environment, host, driver).await
            }
            Effect::LetMachineGo { environment, host, driver, .. } => {
                self.let_machine_go(environment, host, driver).await
            }
            Effect::CheckNetwork { environment, hosts, insist } => {
                network::check(&site(environment)?, hosts, insist.as_ref()).await
            }
            Effect::InitSwarm { environment, host, .. } => {
                let site = site(environment)?;
                swarm::init(&site, site.host(host)?).await
            }
            Effect::AdoptSwarm { environment, host, .. } => {
                let site = site(environment)?;
                swarm::adopt(&site, site.host(host)?).await
            }
            Effect::SetNetworks { environment, made_for } => {
                networks::set(&site(environment)?, &operation.id, *made_for).await
            }
            Effect::RememberNode { environment, host, .. } => {
                let site = site(environment)?;
                rejoin::remember(&site, site.host(host)?).await
            }
            Effect::RescueSwarm { environment, host, .. }
            | Effect::RestoreSwarm { environment, host, .. }
            | Effect::AdvertiseManager { environment, host, .. } => {
                let site = site(environment)?;
                self.begin_swarm_anew(effect, &site, site.host(host)?, operation).await
            }
            Effect::JoinSwarm { environment, joins } => swarm::join(&site(environment)?, joins).await,
            Effect::SetRole { environment, host, role, .. } => {
                let site = site(environment)?;
                swarm::set_role(&site, site.host(host)?, *role).await
            }
            Effect::ObserveSwarm { environment } => swarm::observe(&site(environment)?).await,
            Effect::DrainNode { environment, host, .. } => {
                let site = site(environment)?;
                swarm::drain(&site, site.host(host)?).await
            }
            Effect::UpdateNode { environment, host, .. } => {
                let site = site(environment)?;
                swarm::update_node(&site, site.host(host)?).await
            }
            Effect::SuspendNodes { environment, hosts } => rest::suspend(&site(environment)?, hosts).await,
            Effect::WakeNodes { environment, hosts } => rest::wake(&site(environment)?, hosts).await,
            Effect::ChangeEngine { environment, host, version, .. } => {
                let site = site(environment)?;
                self.change_engine(&site, site.host(host)?, version, operation).await
            }
            Effect::ObserveEngine { environment, host, version, .. } => {
                let site = site(environment)?;
                self.observe_engine(&site, site.host(host)?, version, operation).await
            }
            Effect::VerifyEngine { environment, host, version, .. } => {
                let site = site(environment)?;
                engine::verify(&site, site.host(host)?, version).await
            }
            Effect::ObserveTasks { environment, .. } => rest::observe(&site(environment)?).await,
            Effect::ObserveEvacuation { environment, host, .. } => {
                let site = site(environment)?;
                swarm::observe_evacuation(&site, site.host(host)?).await
            }
            Effect::ApplySwarmSettings { environment, .. }
            | Effect::NoteKey { environment, .. }
            | Effect::RotateKey { environment, .. }
            | Effect::ObserveCertificates { environment, .. }
            | Effect::UnlockEngines { environment, .. } => {
                self.act_on_keys(effect, &site(environment)?, operation).await
            }
            Effect::LeaveSwarm { environment, host, .. } => {
                let site = site(environment)?;
                parting::leave(&site, site.host(host)?).await
            }
            Effect::ObserveNfs { environment } => Ok(nfs::observe(&site(environment)?, &operation.id).await),
            Effect::EnsureVolumes { environment, stack, generation } => {
                let site = site(environment)?;
                nfs::prepare(&site, &site.stack(view, stack)?, *generation, &operation.id).await
            }
            Effect::EnsureNetworks { environment, stack, generation } => {
                let site = site(environment)?;
                stack::ensure_networks(&site, &site.stack(view, stack)?, *generation).await
            }
            Effect::EnsureServices { environment, stack, generation } => {
                let site = site(environment)?;
                let stack = site.stack(view, stack)?;
                let logins = registry::Logins::of(view, &stack, &self.sealing)?;
                stack::ensure_services(&site, &stack, *generation, &logins).await
            }
            Effect::GiveLogins { environment, stack } => {
                let site = site(environment)?;
                registry::give(&site, view, &site.stack(view, stack)?, &self.sealing).await
            }
            Effect::ObserveStack { environment, stack, generation, .. } => {
                let site = site(environment)?;
                stack::observe(&site, &site.stack(view, stack)?, *generation).await
            }
            Effect::WithdrawStack { environment, stack } => {
                let site = site(environment)?;
                stack::withdraw(&site, &site.stack(view, stack)?).await
            }
            Effect::ObserveShares { environment, .. } => {
                balance::observe(&site(environment)?, &operation.id).await
            }
            Effect::MoveTasks { environment, service } => {
                balance::move_tasks(&site(environment)?, service, &operation.id).await
            }
            decision => Ok(decided(decision, operation)),
        }
    }

    async fn act_on_keys(
        &self,
        effect: &Effect,
        site: &Site,
        operation: &Operation,
    ) -> Result<Vec<Fact>, EffectError> {
        match effect {
            Effect::ApplySwarmSettings { generation, .. } => {
                swarm_keys::apply(site, *generation, &self.sealing).await
            }
            Effect::NoteKey { key, .. } => swarm_keys::note(site, *key, &operation.id, &self.sealing).await,
            Effect::RotateKey { key, .. } => swarm_keys::rotate(site, *key, operation, &self.sealing).await,
            Effect::ObserveCertificates { .. } => swarm_keys::observe_certificates(site, operation).await,
            Effect::UnlockEngines { hosts, .. } => swarm_keys::unlock(site, hosts, &self.sealing).await,
            decision => Ok(decided(decision, operation)),
        }
    }

    /// On one manager, with what it knows or is given.
    async fn begin_swarm_anew(
        &self,
        effect: &Effect,
        site: &Site,
        host: &Host,
        operation: &Operation,
    ) -> Result<Vec<Fact>, EffectError> {
        match effect {
            Effect::RestoreSwarm { .. } => self.restore_swarm(site, host, operation).await,
            Effect::RescueSwarm { .. } => self.rescue_swarm(site, host, operation).await,
            _ => self.advertise_manager(site, host, operation).await,
        }
    }

    /// Which engines have not answered, for people.
    fn unanswered(&self, effect: &Effect, view: &View, term: Term) -> String {
        let site = effect.environment().and_then(|id| Site::of(view, id, self.hub.clone(), term).ok());
        let names = site.map(|site| site.spoken_to(effect).join(" or ")).filter(|names| !names.is_empty());
        format!(
            "the engine of {} has not answered within {} s. See: skep host ls; if it lasts, on that host: systemctl \
             restart docker",
            names.as_deref().unwrap_or("one of the hosts"),
            ENGINES_MAX.as_secs()
        )
    }
}

/// Effects whose whole effect is a fact.
pub fn decided(effect: &Effect, operation: &Operation) -> Vec<Fact> {
    match effect {
        Effect::OpenEnvironment(environment) => vec![Fact::EnvironmentOpened(environment.clone())],
        Effect::ReserveHost(environment, host) => {
            vec![Fact::HostReserved(environment.clone(), host.clone(), operation.id.clone())]
        }
        Effect::RemoveHosts(environment, hosts) => hosts
            .iter()
            .map(|host| {
                let id = OperationId::new(Uuid::now_v7());
                Fact::HostRemovalWished(environment.clone(), host.clone(), id, operation.id.clone())
            })
            .collect(),
        Effect::TakeTurn { environment, host } => {
            vec![Fact::EngineTurnTaken(environment.clone(), host.clone())]
        }
        Effect::UpgradeHost { environment, host, version, .. } => {
            let id = OperationId::new(Uuid::now_v7());
            let (environment, host, version) = (environment.clone(), host.clone(), version.clone());
            vec![Fact::HostUpgradeWished(environment, host, version, id, operation.id.clone())]
        }
        Effect::LiftPause(environment) => vec![Fact::PauseLifted(environment.clone())],
        Effect::LeaveBehind(environment, hosts) => hosts
            .iter()
            .map(|(host, _, why)| {
                Fact::HostLeftBehind(environment.clone(), host.clone(), operation.id.clone(), why.clone())
            })
            .collect(),
        Effect::ForgetStack(environment, stack) => {
            vec![Fact::StackForgotten(environment.clone(), stack.clone())]
        }
        Effect::ForgetHost(environment, host) => vec![Fact::HostForgotten(environment.clone(), host.clone())],
        Effect::ForgetEnvironment(environment) => vec![Fact::EnvironmentForgotten(environment.clone())],
        _ => vec![],
    }
}

/// An environment as an effect sees it: what the ledger knows of it, and the way to its engines.
struct Site {
    environment: Environment,
    hosts: Vec<Host>,
    hub: Hub,
    term: Term,
}

impl Site {
    fn of(view: &View, id: &EnvironmentId, hub: Hub, term: Term) -> Result<Site, EffectError> {
        let environment = view.get::<Environment>(CLUSTER, id.as_str()).map_err(EffectError::passing)?;
        let hosts = view.list::<Host>(id.as_str()).map_err(EffectError::passing)?;
        Ok(Site {
            environment: environment.ok_or_else(|| EffectError::lasting("the environment is gone"))?.record,
            hosts: hosts.into_iter().map(|stored| stored.record).collect(),
            hub,
            term,
        })
    }

    fn host(&self, id: &HostId) -> Result<&Host, EffectError> {
        self.hosts.iter().find(|host| host.id == *id).ok_or_else(|| EffectError::lasting("the host is gone"))
    }

    fn stack(&self, view: &View, name: &Name) -> Result<Stack, EffectError> {
        let stack = view.get::<Stack>(self.environment.id.as_str(), name.as_str());
        match stack.map_err(EffectError::passing)? {
            Some(stack) => Ok(stack.record),
            None => Err(EffectError::lasting("the stack is gone")),
        }
    }

    fn docker(&self, host: &Host) -> Reached {
        Reached::new(&self.hub, host, self.term)
    }

    /// Swarm managers whose engines can be spoken to, the swarm's leader first; `but` is left out.
    fn managers(&self, but: Option<&Host>) -> Vec<&Host> {
        let mut managers: Vec<_> = self
            .hosts
            .iter()
            .filter(|host| host.is_swarm_manager() && host.answers() && !host.swarm_locked)
            .filter(|host| but.is_none_or(|but| but.id != host.id))
            .collect();
        managers.sort_by_key(|host| !host.membership.as_ref().is_some_and(|membership| membership.leader));
        managers
    }

    /// A swarm manager to speak to.
    fn manager(&self, but: Option<&Host>) -> Result<Reached, EffectError> {
        match self.managers(but).first() {
            Some(host) => Ok(self.docker(host)),
            None => Err(EffectError::passing(self.no_manager(but))),
        }
    }

    /// The hosts whose engines an effect needs: its own, and the swarm manager that is asked.
    fn spoken_to(&self, effect: &Effect) -> Vec<String> {
        let mut names: Vec<String> = effect.hosts().iter().map(|name| name.to_string()).collect();
        names.extend(self.managers(None).first().map(|host| host.name.to_string()));
        names.dedup();
        names
    }

    /// Why there is no swarm manager to speak to, by name.
    fn no_manager(&self, but: Option<&Host>) -> String {
        let members = self.hosts.iter().filter(|host| host.is_swarm_manager());
        let others = members.filter(|host| but.is_none_or(|but| but.id != host.id));
        let reasons: Vec<_> = others.map(|host| format!("{} is {}", host.name, host.state().word)).collect();
        match reasons.is_empty() {
            true => "the swarm has no other manager".into(),
            false => {
                format!("no manager of the swarm can be reached: {}. See: skep host ls", reasons.join(", "))
            }
        }
    }
}

/// Is that the engine's way of saying "there is no such thing"?
fn not_found(error: &DockerError) -> bool {
    matches!(error, DockerError::DockerResponseServerError { status_code: 404, .. })
}
