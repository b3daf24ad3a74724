//! Everything that Skep does to the world, as one closed list. What is not on it cannot happen.

use std::fmt;

use skep_ledger::Tx;
use skep_model::host::Role;
use skep_model::ids::{EnvironmentId, HostId};
use skep_model::name::Name;
use skep_model::{Ruling, environment, resource};

/// One thing to be done to the world, or to be looked up in it. Doing it twice is the same as doing it once.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The driver has a machine for the host.
    EnsureMachine {
        /// Whose.
        environment: EnvironmentId,
        /// For which host.
        host: HostId,
        /// Its name.
        name: Name,
        /// From where.
        driver: String,
    },
    /// The driver has nothing left of the host.
    ReleaseMachine {
        /// Whose.
        environment: EnvironmentId,
        /// Of which host.
        host: HostId,
        /// Its name.
        name: String,
        /// From where.
        driver: String,
    },
    /// The environment's swarm is begun on a host.
    InitSwarm {
        /// Of which environment.
        environment: EnvironmentId,
        /// Where.
        host: HostId,
        /// Its name.
        name: Name,
    },
    /// The swarm's managers can agree again, be it that one of them decides alone.
    RescueSwarm {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which manager.
        host: HostId,
        /// Its name.
        name: Name,
    },
    /// Hosts are in the swarm.
    JoinSwarm {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which, as what.
        joins: Vec<(HostId, Name, Role)>,
    },
    /// A node has a role.
    SetRole {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
        /// The role.
        role: Role,
    },
    /// What do the swarm's managers see?
    ObserveSwarm {
        /// Of which environment.
        environment: EnvironmentId,
    },
    /// A node takes no tasks.
    DrainNode {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
    },
    /// A node takes tasks and has labels as wished.
    UpdateNode {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
        /// Which of its wishes.
        generation: u64,
    },
    /// Do tasks still run on a drained node?
    ObserveEvacuation {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
    },
    /// A host is in no swarm, and the swarm does not list it.
    LeaveSwarm {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
    },
    /// The networks of a stack exist.
    EnsureNetworks {
        /// Of which environment.
        environment: EnvironmentId,
        /// Of which stack.
        stack: Name,
        /// Of which of its deployments.
        generation: u64,
    },
    /// The services of a stack exist as wished, and no others of it.
    EnsureServices {
        /// Of which environment.
        environment: EnvironmentId,
        /// Of which stack.
        stack: Name,
        /// Of which of its deployments.
        generation: u64,
    },
    /// How are the services of a stack?
    ObserveStack {
        /// Of which environment.
        environment: EnvironmentId,
        /// Of which stack.
        stack: Name,
        /// Of which of its deployments.
        generation: u64,
        /// What was seen last, for people.
        seen: String,
    },
    /// Nothing of a stack is left in the swarm.
    WithdrawStack {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        stack: Name,
    },
    /// The environment can be used from now on.
    OpenEnvironment(EnvironmentId),
    /// The removal of these hosts is wished.
    RemoveHosts(EnvironmentId, Vec<HostId>),
    /// A stack's record goes.
    ForgetStack(EnvironmentId, Name),
    /// A host's record goes.
    ForgetHost(EnvironmentId, HostId),
    /// An environment's record goes.
    ForgetEnvironment(EnvironmentId),
}

impl Effect {
    /// Does it only look? Looking leaves no attempt behind in the ledger.
    pub fn observes(&self) -> bool {
        matches!(
            self,
            Effect::ObserveSwarm { .. } | Effect::ObserveEvacuation { .. } | Effect::ObserveStack { .. }
        )
    }

    /// The environment in whose swarm it happens; none for those that are decided without asking anybody.
    pub(crate) fn environment(&self) -> Option<&EnvironmentId> {
        match self {
            Effect::EnsureMachine { environment, .. }
            | Effect::ReleaseMachine { environment, .. }
            | Effect::InitSwarm { environment, .. }
            | Effect::JoinSwarm { environment, .. }
            | Effect::SetRole { environment, .. }
            | Effect::ObserveSwarm { environment }
            | Effect::DrainNode { environment, .. }
            | Effect::UpdateNode { environment, .. }
            | Effect::RescueSwarm { environment, .. }
            | Effect::ObserveEvacuation { environment, .. }
            | Effect::LeaveSwarm { environment, .. }
            | Effect::EnsureNetworks { environment, .. }
            | Effect::EnsureServices { environment, .. }
            | Effect::ObserveStack { environment, .. }
            | Effect::WithdrawStack { environment, .. } => Some(environment),
            Effect::OpenEnvironment(_)
            | Effect::RemoveHosts(..)
            | Effect::ForgetStack(..)
            | Effect::ForgetHost(..)
            | Effect::ForgetEnvironment(_) => None,
        }
    }

    /// The hosts that it is about, by name.
    pub(crate) fn hosts(&self) -> Vec<&Name> {
        match self {
            Effect::InitSwarm { name, .. }
            | Effect::SetRole { name, .. }
            | Effect::DrainNode { name, .. }
            | Effect::UpdateNode { name, .. }
            | Effect::RescueSwarm { name, .. }
            | Effect::ObserveEvacuation { name, .. }
            | Effect::LeaveSwarm { name, .. } => vec![name],
            Effect::JoinSwarm { joins, .. } => joins.iter().map(|(_, name, _)| name).collect(),
            _ => vec![],
        }
    }

    /// What must be in the ledger before it is tried, so that the next leader knows where to look.
    pub(crate) fn intend(&self, tx: &mut Tx<'_>) -> Ruling<()> {
        match self {
            Effect::EnsureMachine { environment, host, driver, .. } => {
                resource::intend(tx, host, environment, driver)
            }
            Effect::InitSwarm { environment, host, .. } => environment::plant(tx, environment, host),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::EnsureMachine { name, driver, .. } => write!(f, "ask {driver} for machine {name}"),
            Effect::ReleaseMachine { name, driver, .. } => write!(f, "give machine {name} back to {driver}"),
            Effect::InitSwarm { name, .. } => write!(f, "begin the swarm on {name}"),
            Effect::RescueSwarm { name, .. } => {
                write!(f, "begin the swarm anew on {name} with what it knows")
            }
            Effect::JoinSwarm { joins, .. } => {
                let joins: Vec<_> = joins.iter().map(|(_, name, role)| format!("{name} ({role})")).collect();
                write!(f, "join {} to the swarm", joins.join(", "))
            }
            Effect::SetRole { name, role, .. } => write!(f, "make {name} a {role} of the swarm"),
            Effect::ObserveSwarm { .. } => write!(f, "wait until the swarm sees its nodes ready"),
            Effect::DrainNode { name, .. } => write!(f, "drain {name}"),
            Effect::UpdateNode { name, .. } => {
                write!(f, "bring availability and labels of {name} into the swarm")
            }
            Effect::ObserveEvacuation { name, .. } => write!(f, "wait until no task runs on {name}"),
            Effect::LeaveSwarm { name, .. } => write!(f, "take {name} out of the swarm"),
            Effect::EnsureNetworks { stack, .. } => write!(f, "create the networks of {stack}"),
            Effect::EnsureServices { stack, .. } => write!(f, "create or update the services of {stack}"),
            Effect::ObserveStack { seen, .. } => write!(f, "wait for tasks: {seen}"),
            Effect::WithdrawStack { stack, .. } => write!(f, "remove the services and networks of {stack}"),
            Effect::OpenEnvironment(_) => write!(f, "open the environment"),
            Effect::RemoveHosts(_, hosts) => write!(f, "ask for the removal of {} hosts", hosts.len()),
            Effect::ForgetStack(_, stack) => write!(f, "forget stack {stack}"),
            Effect::ForgetHost(..) => write!(f, "forget the host"),
            Effect::ForgetEnvironment(_) => write!(f, "forget the environment"),
        }
    }
}
