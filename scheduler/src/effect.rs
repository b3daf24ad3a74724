//! Everything that Skep does to the world, as one closed list. What is not on it cannot happen.

use std::fmt;

use skep_ledger::Tx;
use skep_model::host::{Role, moving};
use skep_model::ids::{EnvironmentId, HostId};
use skep_model::name::Name;
use skep_model::networks::MadeFor;
use skep_model::swarm_keys::SwarmKey;
use skep_model::{Ruling, environment, placement, resource};

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
    /// The driver knows nothing of the host's machine any more, which goes on.
    LetMachineGo {
        /// Whose.
        environment: EnvironmentId,
        /// Of which host.
        host: HostId,
        /// Its name.
        name: String,
        /// From where.
        driver: String,
        /// The driver's name for it; empty if none is known.
        machine: String,
    },
    /// What passes between hosts that are on their way into the swarm and some of its members?
    CheckNetwork {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which hosts.
        hosts: Vec<(HostId, Name)>,
        /// It has not come about as long as this one is held back.
        insist: Option<HostId>,
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
    /// The swarm that a host brought along is the environment's.
    AdoptSwarm {
        /// Of which environment.
        environment: EnvironmentId,
        /// Who brought it.
        host: HostId,
        /// Its name.
        name: Name,
    },
    /// Overlay networks are made like this from now on, and so is the ingress network, as long as no service needs it.
    SetNetworks {
        /// Of which environment.
        environment: EnvironmentId,
        /// Like what.
        made_for: MadeFor,
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
    /// The environment's swarm is that of the backup that was brought to a host, which is its only manager that can decide.
    RestoreSwarm {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which host.
        host: HostId,
        /// Its name.
        name: Name,
    },
    /// What does the swarm know of a node that is about to leave and join anew?
    RememberNode {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
    },
    /// The swarm's only manager gives the others the address that its machine has.
    AdvertiseManager {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
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
    /// Nodes take no tasks until they are woken; what they take now is remembered.
    SuspendNodes {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        hosts: Vec<(HostId, Name)>,
    },
    /// Nodes take what they took before they were suspended, unless somebody else has changed that meanwhile.
    WakeNodes {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        hosts: Vec<(HostId, Name)>,
    },
    /// A change of a host's engine to this version is begun.
    ChangeEngine {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
        /// To which version.
        version: String,
    },
    /// How far is the change of a host's engine?
    ObserveEngine {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
        /// To which version.
        version: String,
    },
    /// Does a host serve with an engine of this version?
    VerifyEngine {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
        /// Which version.
        version: String,
    },
    /// It is a host's turn to get another engine.
    TakeTurn {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
    },
    /// Another engine is wished for a host.
    UpgradeHost {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        host: HostId,
        /// Its name.
        name: Name,
        /// Which version.
        version: String,
    },
    /// How many tasks still run in a drained environment?
    ObserveTasks {
        /// Of which environment.
        environment: EnvironmentId,
        /// How many were seen last.
        seen: Option<u64>,
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
    /// The swarm has the settings of its keys and certificates as wished.
    ApplySwarmSettings {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which of its wishes.
        generation: u64,
    },
    /// What is there of a key that is about to be replaced?
    NoteKey {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        key: SwarmKey,
    },
    /// A key is another one than was noted.
    RotateKey {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        key: SwarmKey,
    },
    /// Which nodes have certificates of the new authority?
    ObserveCertificates {
        /// Of which environment.
        environment: EnvironmentId,
        /// What was seen last, for people.
        seen: String,
    },
    /// Engines have been given the unlock key.
    UnlockEngines {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which.
        hosts: Vec<(HostId, Name)>,
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
    /// What can hosts do with the environment's NFS server?
    ObserveNfs {
        /// Of which environment.
        environment: EnvironmentId,
    },
    /// The volumes of a stack that lie on NFS can be mounted on every host.
    EnsureVolumes {
        /// Of which environment.
        environment: EnvironmentId,
        /// Of which stack.
        stack: Name,
        /// Of which of its deployments.
        generation: u64,
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
    /// The services of a stack have the logins to registries that they should have.
    GiveLogins {
        /// Of which environment.
        environment: EnvironmentId,
        /// Of which stack.
        stack: Name,
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
    /// Which service's tasks should move, so that every node has its share?
    ObserveShares {
        /// Of which environment.
        environment: EnvironmentId,
        /// How many services have been moved in this pass, for people.
        moved: usize,
    },
    /// Docker places the tasks of a service anew, as its own update says.
    MoveTasks {
        /// Of which environment.
        environment: EnvironmentId,
        /// Its name in the swarm.
        service: String,
    },
    /// The environment can be used from now on.
    OpenEnvironment(EnvironmentId),
    /// The environment does not rest after all.
    LiftPause(EnvironmentId),
    /// The host is in the hands of the operation that makes its machine anew.
    ReserveHost(EnvironmentId, HostId),
    /// The removal of these hosts is wished.
    RemoveHosts(EnvironmentId, Vec<HostId>),
    /// These hosts' records go without their machines, which could not be given back for these reasons.
    LeaveBehind(EnvironmentId, Vec<(HostId, Name, String)>),
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
            Effect::CheckNetwork { .. }
                | Effect::RememberNode { .. }
                | Effect::ObserveSwarm { .. }
                | Effect::ObserveTasks { .. }
                | Effect::ObserveShares { .. }
                | Effect::ObserveEngine { .. }
                | Effect::VerifyEngine { .. }
                | Effect::ObserveNfs { .. }
                | Effect::ObserveEvacuation { .. }
                | Effect::ObserveCertificates { .. }
                | Effect::ObserveStack { .. }
        )
    }

    /// The environment in whose swarm it happens; none for those that are decided without asking anybody.
    pub(crate) fn environment(&self) -> Option<&EnvironmentId> {
        match self {
            Effect::EnsureMachine { environment, .. }
            | Effect::ReleaseMachine { environment, .. }
            | Effect::LetMachineGo { environment, .. }
            | Effect::CheckNetwork { environment, .. }
            | Effect::InitSwarm { environment, .. }
            | Effect::AdoptSwarm { environment, .. }
            | Effect::SetNetworks { environment, .. }
            | Effect::RememberNode { environment, .. }
            | Effect::AdvertiseManager { environment, .. }
            | Effect::JoinSwarm { environment, .. }
            | Effect::SetRole { environment, .. }
            | Effect::ObserveSwarm { environment }
            | Effect::DrainNode { environment, .. }
            | Effect::UpdateNode { environment, .. }
            | Effect::SuspendNodes { environment, .. }
            | Effect::WakeNodes { environment, .. }
            | Effect::ObserveTasks { environment, .. }
            | Effect::ChangeEngine { environment, .. }
            | Effect::ObserveEngine { environment, .. }
            | Effect::VerifyEngine { environment, .. }
            | Effect::RescueSwarm { environment, .. }
            | Effect::RestoreSwarm { environment, .. }
            | Effect::ObserveEvacuation { environment, .. }
            | Effect::ApplySwarmSettings { environment, .. }
            | Effect::NoteKey { environment, .. }
            | Effect::RotateKey { environment, .. }
            | Effect::ObserveCertificates { environment, .. }
            | Effect::UnlockEngines { environment, .. }
            | Effect::LeaveSwarm { environment, .. }
            | Effect::ObserveNfs { environment }
            | Effect::EnsureVolumes { environment, .. }
            | Effect::EnsureNetworks { environment, .. }
            | Effect::EnsureServices { environment, .. }
            | Effect::GiveLogins { environment, .. }
            | Effect::ObserveStack { environment, .. }
            | Effect::WithdrawStack { environment, .. }
            | Effect::ObserveShares { environment, .. }
            | Effect::MoveTasks { environment, .. } => Some(environment),
            Effect::OpenEnvironment(_)
            | Effect::TakeTurn { .. }
            | Effect::UpgradeHost { .. }
            | Effect::LiftPause(_)
            | Effect::ReserveHost(..)
            | Effect::RemoveHosts(..)
            | Effect::LeaveBehind(..)
            | Effect::ForgetStack(..)
            | Effect::ForgetHost(..)
            | Effect::ForgetEnvironment(_) => None,
        }
    }

    /// The hosts that it is about, by name.
    pub(crate) fn hosts(&self) -> Vec<&Name> {
        match self {
            Effect::InitSwarm { name, .. }
            | Effect::AdoptSwarm { name, .. }
            | Effect::SetRole { name, .. }
            | Effect::DrainNode { name, .. }
            | Effect::UpdateNode { name, .. }
            | Effect::ChangeEngine { name, .. }
            | Effect::ObserveEngine { name, .. }
            | Effect::VerifyEngine { name, .. }
            | Effect::RescueSwarm { name, .. }
            | Effect::RestoreSwarm { name, .. }
            | Effect::RememberNode { name, .. }
            | Effect::AdvertiseManager { name, .. }
            | Effect::ObserveEvacuation { name, .. }
            | Effect::LeaveSwarm { name, .. } => vec![name],
            Effect::JoinSwarm { joins, .. } => joins.iter().map(|(_, name, _)| name).collect(),
            Effect::SuspendNodes { hosts, .. } | Effect::WakeNodes { hosts, .. } => {
                hosts.iter().map(|(_, name)| name).collect()
            }
            Effect::UnlockEngines { hosts, .. } => hosts.iter().map(|(_, name)| name).collect(),
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
            Effect::JoinSwarm { environment, joins } => {
                joins.iter().try_for_each(|(host, ..)| moving::joins(tx, environment, host))
            }
            Effect::SuspendNodes { environment, hosts } => {
                hosts.iter().try_for_each(|(host, _)| placement::keep(tx, environment, host))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::EnsureMachine { name, driver, .. } => write!(f, "ask {driver} for machine {name}"),
            Effect::ReleaseMachine { name, driver, .. } => write!(f, "give machine {name} back to {driver}"),
            Effect::LetMachineGo { name, driver, machine, .. } => {
                write!(f, "let machine {name} go: {driver} leaves {machine} as it is and knows it no more")
            }
            Effect::CheckNetwork { hosts, .. } => {
                let names: Vec<_> = hosts.iter().map(|(_, name)| name.as_str()).collect();
                write!(f, "check the network between {} and the swarm", names.join(", "))
            }
            Effect::InitSwarm { name, .. } => write!(f, "begin the swarm on {name}"),
            Effect::AdoptSwarm { name, .. } => write!(f, "take over the swarm of {name} as it is"),
            Effect::SetNetworks { made_for, .. } => write!(f, "make the swarm's networks for {made_for}"),
            Effect::RescueSwarm { name, .. } => write!(f, "begin the swarm anew on {name} as it knows it"),
            Effect::RestoreSwarm { name, .. } => write!(f, "begin the swarm anew on {name} from the backup"),
            Effect::RememberNode { name, .. } => {
                write!(f, "look up role, labels and availability of {name}")
            }
            Effect::AdvertiseManager { name, .. } => {
                write!(f, "begin the swarm anew on {name} with all that it knows, at its new address")
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
            Effect::SuspendNodes { hosts, .. } => write!(f, "let {} take no tasks for a while", names(hosts)),
            Effect::WakeNodes { hosts, .. } => write!(f, "let {} take tasks as before", names(hosts)),
            Effect::ObserveTasks { seen: Some(tasks), .. } => {
                write!(f, "wait until no task runs: {tasks} are left")
            }
            Effect::ObserveTasks { seen: None, .. } => write!(f, "wait until no task runs"),
            Effect::ChangeEngine { name, version, .. } => {
                write!(f, "change the engine of {name} to {version}")
            }
            Effect::ObserveEngine { name, version, .. } => {
                write!(f, "wait until the engine of {name} is {version}")
            }
            Effect::VerifyEngine { name, version, .. } => {
                write!(f, "wait until {name} serves with engine {version}")
            }
            Effect::TakeTurn { .. } => write!(f, "take its turn: one host at a time gets another engine"),
            Effect::UpgradeHost { name, version, .. } => write!(f, "upgrade {name} to engine {version}"),
            Effect::LiftPause(_) => write!(f, "let the environment be at work"),
            Effect::ObserveEvacuation { name, .. } => write!(f, "wait until no task runs on {name}"),
            Effect::ApplySwarmSettings { .. } => {
                write!(f, "bring autolock and the life of certificates into the swarm")
            }
            Effect::NoteKey { key, .. } => {
                write!(f, "note what is there before the {key} of the swarm is rotated")
            }
            Effect::RotateKey { key, .. } => write!(f, "rotate the {key} of the swarm"),
            Effect::ObserveCertificates { seen, .. } => {
                write!(f, "wait until all nodes have new certificates{seen}")
            }
            Effect::UnlockEngines { hosts, .. } => {
                let names: Vec<_> = hosts.iter().map(|(_, name)| name.as_str()).collect();
                write!(f, "give {} the unlock key of the swarm", names.join(", "))
            }
            Effect::LeaveSwarm { name, .. } => write!(f, "take {name} out of the swarm"),
            Effect::ObserveNfs { .. } => write!(f, "have hosts mount the NFS server"),
            Effect::EnsureVolumes { stack, .. } => write!(f, "have hosts mount the volumes of {stack}"),
            Effect::EnsureNetworks { stack, .. } => write!(f, "create the networks of {stack}"),
            Effect::GiveLogins { stack, .. } => {
                write!(f, "bring the logins to registries to the services of {stack}")
            }
            Effect::EnsureServices { stack, .. } => write!(f, "create or update the services of {stack}"),
            Effect::ObserveStack { seen, .. } => write!(f, "wait for tasks: {seen}"),
            Effect::WithdrawStack { stack, .. } => write!(f, "remove the services and networks of {stack}"),
            Effect::ObserveShares { moved, .. } => {
                write!(f, "see whether every host has its share of the tasks ({moved} services moved)")
            }
            Effect::MoveTasks { service, .. } => write!(f, "let the tasks of {service} be placed anew"),
            Effect::OpenEnvironment(_) => write!(f, "open the environment"),
            Effect::ReserveHost(..) => write!(f, "reserve the host for its new machine"),
            Effect::RemoveHosts(_, hosts) if hosts.len() == 1 => write!(f, "ask for the removal of a host"),
            Effect::RemoveHosts(_, hosts) => write!(f, "ask for the removal of {} hosts", hosts.len()),
            Effect::LeaveBehind(_, hosts) => {
                let names: Vec<_> = hosts.iter().map(|(_, name, _)| name.as_str()).collect();
                write!(f, "go on without {}, whose machines could not be given back", names.join(", "))
            }
            Effect::ForgetStack(_, stack) => write!(f, "forget stack {stack}"),
            Effect::ForgetHost(..) => write!(f, "forget the host"),
            Effect::ForgetEnvironment(_) => write!(f, "forget the environment"),
        }
    }
}

fn names(hosts: &[(HostId, Name)]) -> String {
    hosts.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
}
