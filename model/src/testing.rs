//! An environment with a swarm, for tests of rules, planners and steps: everything is well until the test says otherwise.

use std::sync::Arc;

use skep_ledger::{Ledger, MemoryLedger, Request, Tx, transact};
use uuid::Uuid;

use crate::environment::{self, Environment, EnvironmentWish};
use crate::fact::{self, Fact};
use crate::host::{self, Host, Inventory, Machine, Membership, Role};
use crate::ids::{EnvironmentId, HostId, OperationId};
use crate::operation::Operation;
use crate::placement::Availability;
use crate::{CLUSTER, Ruling, resource};

/// The environment `prod` with hosts `prod-1`, `prod-2`, …: first the swarm's managers, of which the first leads, then
/// workers. Manager m1 holds their agents in session `s`.
pub struct Swarm {
    /// Where it all stands.
    pub ledger: Arc<MemoryLedger>,
    /// The environment.
    pub environment: EnvironmentId,
    /// The hosts, in the order of their numbers.
    pub hosts: Vec<HostId>,
}

impl Swarm {
    /// With so many managers and workers.
    pub async fn of(managers: usize, workers: usize) -> Swarm {
        let id = |number: usize| Uuid::from_u128(number as u128);
        let hosts: Vec<_> = (1..=managers + workers).map(|number| HostId::new(id(number))).collect();
        let swarm = Swarm { ledger: MemoryLedger::new(), environment: EnvironmentId::new(id(100)), hosts };
        let wish = EnvironmentWish {
            id: swarm.environment.clone(),
            operation: OperationId::new(id(101)),
            name: "prod".into(),
            template: "default".into(),
            hosts: swarm.hosts.iter().map(|id| (id.clone(), OperationId::new(Uuid::now_v7()))).collect(),
            driver: "local".into(),
            options: Default::default(),
            change: Default::default(),
        };
        let members = swarm.members(managers);
        swarm
            .change(|tx| {
                environment::wish(tx, &wish)?;
                for (number, id) in swarm.hosts.iter().enumerate() {
                    resource::intend(tx, id, &swarm.environment, "local")?;
                    let machine = Machine { id: id.to_string(), address: format!("10.90.0.{}", number + 1) };
                    fact::record(tx, &Fact::MachineExists(swarm.environment.clone(), id.clone(), machine))?;
                    host::registration::register(tx, id.as_str(), b"key", true)?;
                    host::reported(tx, id.as_str(), "m1", "s", Some(Inventory::default()), Ok(()))?;
                }
                fact::record(
                    tx,
                    &Fact::SwarmSeen(swarm.environment.clone(), "swarm".into(), members.clone()),
                )?;
                fact::record(tx, &Fact::EnvironmentOpened(swarm.environment.clone()))
            })
            .await;
        swarm
    }

    /// Its nodes as a swarm of so many managers lists them when all is well.
    pub fn members(&self, managers: usize) -> Vec<(HostId, Membership)> {
        let member = |(number, id): (usize, &HostId)| {
            let role = if number < managers { Role::Manager } else { Role::Worker };
            let node = Membership {
                node: format!("node-{}", number + 1),
                role,
                leader: number == 0,
                ready: true,
                availability: Availability::Active,
                reachable: true,
            };
            (id.clone(), node)
        };
        self.hosts.iter().enumerate().map(member).collect()
    }

    /// Commits what a rule writes.
    ///
    /// # Panics
    /// If the rule refuses.
    pub async fn change(&self, mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<()> + Send) {
        if let Err(error) = transact(&*self.ledger, Request::new(), |tx| rule(tx)).await {
            panic!("the test's own set-up is refused: {error}");
        }
    }

    /// The swarm lists its nodes like this from now on; by the hosts' numbers, from 1.
    pub async fn seen(&self, change: impl Fn(usize, &mut Membership)) {
        let hosts = self.ledger.view().list::<Host>(self.environment.as_str());
        let hosts = hosts.unwrap_or_else(|error| panic!("{error}"));
        let number = |id: &HostId| self.hosts.iter().position(|host| host == id).map_or(0, |at| at + 1);
        let nodes = hosts.iter().filter_map(|host| {
            let mut node = host.membership.clone()?;
            change(number(&host.id), &mut node);
            Some((host.id.clone(), node))
        });
        let seen = Fact::SwarmSeen(self.environment.clone(), "swarm".into(), nodes.collect());
        self.change(|tx| fact::record(tx, &seen)).await;
    }

    /// The agent of the host with this number is silent.
    pub async fn silent(&self, number: usize) {
        self.change(|tx| host::disconnected(tx, self.hosts[number - 1].as_str(), "s")).await;
    }

    /// The engine of the host with this number does not answer.
    pub async fn engine_down(&self, number: usize) {
        let id = self.hosts[number - 1].as_str();
        self.change(|tx| host::reported(tx, id, "m1", "s", None, Err("no socket".into()))).await;
    }

    /// Something is different about the host with this number.
    pub async fn host_is(&self, number: usize, change: impl Fn(&mut Host) + Send + Sync) {
        let (place, id) = (self.environment.as_str(), self.hosts[number - 1].as_str());
        self.change(|tx| {
            let mut host = tx.get::<Host>(place, id)?.map(|stored| stored.record);
            if let Some(host) = &mut host {
                change(host);
                tx.put(host);
            }
            Ok(())
        })
        .await;
    }

    /// The record of the host with this number.
    ///
    /// # Panics
    /// If it is gone.
    pub fn host(&self, number: usize) -> Host {
        let found =
            self.ledger.view().get::<Host>(self.environment.as_str(), self.hosts[number - 1].as_str());
        found.ok().flatten().map(|stored| stored.record).unwrap_or_else(|| panic!("no host {number}"))
    }

    /// The environment's record.
    ///
    /// # Panics
    /// If it is gone.
    pub fn environment(&self) -> Environment {
        let found = self.ledger.view().get::<Environment>(CLUSTER, self.environment.as_str());
        found.ok().flatten().map(|stored| stored.record).unwrap_or_else(|| panic!("no environment"))
    }

    /// The operation that the host with this number is in the hands of, or was last.
    ///
    /// # Panics
    /// If there is none of this workflow.
    pub fn operation(&self, workflow: &str, number: usize) -> Operation {
        let subject = self.hosts[number - 1].as_str();
        let operations = self.ledger.view().list::<Operation>(CLUSTER).unwrap_or_default();
        let mut found = operations.into_iter().map(|stored| stored.record);
        let is_it = |operation: &Operation| operation.workflow == workflow && operation.subject.id == subject;
        found.find(is_it).unwrap_or_else(|| panic!("no {workflow} of host {number}"))
    }
}
