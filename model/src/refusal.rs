//! The ways in which a rule says no. A refusal is not an error: the question was fine, the answer is no.
//!
//! What each code means stands in the catalogue (`codes/src/catalogue.rs`); here is what varies in it.

mod hint;

use skep_codes::Code;
use skep_ledger::ReadError;

use crate::recipe::RecipeError;

/// Why a rule refuses. Nothing is changed by a refused request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A name that cannot be one.
    #[error(
        "'{name}' cannot be the name of {what}: use 1 to 63 of a-z, 0-9 and '-', not beginning or ending with '-'"
    )]
    InvalidName {
        /// With its article: "a host".
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// A number outside its bounds.
    #[error("{what} cannot be {value}: {allowed}")]
    InvalidValue {
        /// The field.
        what: &'static str,
        /// What was asked for.
        value: String,
        /// What would do.
        allowed: String,
    },
    /// The name is in use.
    #[error("{what} named '{name}' exists already{}", in_scope(.scope))]
    NameTaken {
        /// With its article: "a host".
        what: &'static str,
        /// The name.
        name: String,
        /// The environment, if the noun lives in one.
        scope: Option<String>,
    },
    /// Nothing of that name or id.
    #[error("there is no {what} named '{name}'{}", in_scope(.scope))]
    NotFound {
        /// Without article: "host".
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The environment, if the noun lives in one.
        scope: Option<String>,
    },
    /// It is being removed, and that does not turn around.
    #[error("{what} '{name}' is being removed")]
    BeingRemoved {
        /// Without article: "host".
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Another operation has the thing in its hands.
    #[error("{subject} is in the hands of {operation}")]
    OperationInProgress {
        /// Kind and name of the thing.
        subject: String,
        /// The operation.
        operation: String,
    },
    /// It cannot be done to a thing as it is now.
    #[error("{what} is {state} and cannot be {cannot}: {why}")]
    WrongState {
        /// What it would have been done to.
        what: String,
        /// What would have been done.
        cannot: &'static str,
        /// How the thing is.
        state: String,
        /// Why not, and what can be done instead.
        why: String,
    },
    /// Too many operations wait for the same thing.
    #[error("{limit} operations wait already for {subject}, which is in the hands of {operation}")]
    QueueFull {
        /// Kind and name of the thing.
        subject: String,
        /// How many may wait.
        limit: usize,
        /// The operation that they wait for.
        operation: String,
    },
    /// Nothing is changed in an environment that rests.
    #[error("environment '{environment}' is paused: nothing is changed in it until it is resumed")]
    EnvironmentPaused {
        /// Its name.
        environment: String,
    },
    /// Engines do not read what newer ones have written.
    #[error("host '{host}' has engine {has}, which is newer than {wished}")]
    EngineIsNewer {
        /// The host.
        host: String,
        /// What it has.
        has: String,
        /// What was asked for.
        wished: String,
    },
    /// There is no machine to do it on.
    #[error("environment '{environment}' has no hosts: services have nowhere to run")]
    NoHosts {
        /// Its name.
        environment: String,
    },
    /// The swarm's managers can agree, or soon will.
    #[error(
        "the swarm of environment '{environment}' has not lost its quorum: {reachable} of {managers} managers can be reached"
    )]
    HasQuorum {
        /// The environment.
        environment: String,
        /// Managers whose engines answer.
        reachable: usize,
        /// All that there are.
        managers: usize,
    },
    /// A swarm can be begun anew only by who knows it.
    #[error("host '{host}' cannot rescue the swarm: {why}")]
    CannotRescue {
        /// The host.
        host: String,
        /// What is missing.
        why: String,
        /// Hosts that can.
        candidates: Vec<String>,
    },
    /// Managers of the swarm that is to be restored can be reached.
    #[error("managers of the swarm of environment '{environment}' can be reached: {}", .managers.join(", "))]
    SwarmIsThere {
        /// The environment.
        environment: String,
        /// Their names.
        managers: Vec<String>,
    },
    /// Docker could not begin the swarm anew from its backup.
    #[error("the managers of environment '{environment}' are locked, and Docker restores no locked swarm")]
    SwarmIsLocked {
        /// The environment.
        environment: String,
    },
    /// A swarm can be restored only on a host whose engine answers.
    #[error("the swarm cannot be restored on host '{host}': {why}")]
    CannotRestore {
        /// The host.
        host: String,
        /// What is missing.
        why: String,
    },
    /// Something was wished for a swarm that is still to be formed.
    #[error("environment '{environment}' has no swarm yet: there is nothing to rotate")]
    NoSwarm {
        /// The environment.
        environment: String,
    },
    /// Skep knows no unlock key of the swarm.
    #[error("the managers of environment '{environment}' are not locked with a key that Skep knows")]
    NotAutolocked {
        /// The environment.
        environment: String,
    },
    /// No manager waits for an unlock key.
    #[error("no manager of environment '{environment}' is locked")]
    NothingLocked {
        /// The environment.
        environment: String,
    },
    /// Hosts of an environment that do not go with what is wished for it.
    #[error("environment '{environment}' has hosts that do not go with that: {}", .reasons.join("; "))]
    HostsUnfit {
        /// Its name.
        environment: String,
        /// Each host with its reason.
        reasons: Vec<String>,
    },
    /// A recipe needs the environment's NFS server.
    #[error("volumes of the recipe are on NFS, and environment '{environment}' has no NFS server")]
    NoNfs {
        /// Its name.
        environment: String,
    },
    /// A template that every cluster has.
    #[error("template '{name}' is built in and cannot be {cannot}")]
    BuiltIn {
        /// Its name.
        name: String,
        /// What would have been done.
        cannot: &'static str,
    },
    /// What a change was decided on has changed.
    #[error("{what} has changed since revision {expected}: it is of revision {revision}")]
    Outdated {
        /// Kind and name of the thing.
        what: String,
        /// The revision that the change was decided on.
        expected: u64,
        /// The revision that it is of.
        revision: u64,
    },
    /// A published port that another stack has on every host.
    #[error("port {port} on the hosts of the environment is already published by {by}")]
    HostPortTaken {
        /// The port with its protocol: `8080/tcp`.
        port: String,
        /// `STACK/SERVICE`.
        by: String,
    },
    /// A machine that is somebody's.
    #[error("machine {machine} is no orphan: {why}")]
    NotAnOrphan {
        /// Its tag.
        machine: String,
        /// Whose it is.
        why: String,
    },
    /// A machine that only its owner can make anew.
    #[error("host '{host}' registered itself: no driver can make a machine like its own")]
    NoDriver {
        /// The host.
        host: String,
        /// Its environment.
        environment: String,
    },
    /// A host that its swarm needs as it is.
    #[error("host '{host}' cannot be spared: {why}")]
    CannotBeSpared {
        /// The host.
        host: String,
        /// What would be lost.
        why: String,
    },
    /// A part in the swarm that the host would not get.
    #[error("host '{host}' would not become a swarm manager: {why}")]
    RoleWithoutEffect {
        /// The host.
        host: String,
        /// Who stands in its way.
        why: String,
    },
    /// A machine that works for a swarm, and nobody has said that the swarm is to be taken over.
    #[error("the engine of '{name}' is a node of a swarm already")]
    NodeOfASwarm {
        /// The machine.
        name: String,
    },
    /// A machine without a swarm that could be taken over.
    #[error("'{name}' brings no swarm that could be taken over: {why}")]
    NothingToAdopt {
        /// The machine.
        name: String,
        /// What is missing.
        why: String,
    },
    /// A swarm for which there is no place.
    #[error("environment '{environment}' cannot take over the swarm of '{name}': {why}")]
    AnotherSwarm {
        /// The environment.
        environment: String,
        /// The machine.
        name: String,
        /// What stands in the way.
        why: String,
    },
    /// A bound was reached.
    #[error("there can be at most {limit} {what}")]
    TooMany {
        /// In the plural: "hosts in an environment".
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A join token that is unknown, ended or used up; which of them is not told to who may only be guessing.
    #[error("the join token is not valid: it has ended, was used up or revoked, or never was one")]
    JoinTokenUseless,
    /// A registration token that is unknown, ended or used up.
    #[error("the registration token is not valid: it has ended, was used up or revoked, or never was one")]
    RegistrationTokenUseless,
    /// Two machines of one environment under one address.
    #[error("address {address} is that of host '{host}' of the same environment")]
    AddressTaken {
        /// The address.
        address: String,
        /// Who has it.
        host: String,
    },
    /// A manager that does not belong to the cluster any more.
    #[error("manager {number} was removed from the cluster; its number does not come back")]
    ManagerRemoved {
        /// Its number.
        number: u64,
    },
    /// The compose file is no recipe.
    #[error("the recipe has {} {}", .errors.len(), if .errors.len() == 1 { "error" } else { "errors" })]
    InvalidRecipe {
        /// Each with its place.
        errors: Vec<RecipeError>,
    },
    /// The template document is none.
    #[error("the template is not valid: {detail}")]
    InvalidTemplate {
        /// What and where.
        detail: String,
    },
    /// A role with something in it that whoever gives it must not do.
    #[error("the role '{role}' allows {permission}, which you may not do yourself")]
    BeyondOwn {
        /// The role.
        role: String,
        /// What of it.
        permission: String,
    },
    /// What a change depends on is not so.
    #[error("{what} {}, so nothing was changed", is_of_revision(.revision))]
    PreconditionFailed {
        /// Kind and name of the thing.
        what: String,
        /// The revision that it is of; absent if there is no such thing.
        revision: Option<u64>,
    },
    /// Changing it without having seen it is how one undoes what others did.
    #[error("the {what} '{name}' is there already: say which revision of it you have seen")]
    PreconditionRequired {
        /// Without article: "role".
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something else still needs it.
    #[error("the {what} '{name}' is in use: {by} has it")]
    InUse {
        /// Without article: "role".
        what: &'static str,
        /// Its name.
        name: String,
        /// Who has it.
        by: String,
    },
    /// The first administrator is there already.
    #[error("the cluster has been set up: its code has been used, or it never had one")]
    SetupDone,
    /// Not the code that the managers have printed.
    #[error("the setup code is wrong")]
    SetupCodeWrong,
    /// Nobody has decided yet whether the device may come in.
    #[error("nobody has approved it yet")]
    AuthorizationPending,
    /// A device code that is worth nothing; why is not told to who may only be guessing.
    #[error("the device code is not valid: it has ended, was exchanged, or never was one")]
    DeviceCodeUseless,
    /// Somebody has decided that the device may not come in.
    #[error("signing in was denied")]
    AccessDenied,
    /// Nobody who can come in could do everything any more.
    #[error("nobody would be left who is allowed to do everything and can sign in")]
    LastAdministrator,
    /// The driver cannot work here, or does not know what it was given.
    #[error("{detail}")]
    Driver {
        /// In the driver's words.
        detail: String,
    },
    /// The state could not be read; the replica needs help.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Refusal {
    /// What it is called everywhere.
    pub fn code(&self) -> Code {
        match self {
            Refusal::BeyondOwn { .. } => Code::BeyondOwnPermissions,
            Refusal::SetupDone => Code::SetupDone,
            Refusal::SetupCodeWrong => Code::SetupCodeWrong,
            Refusal::AuthorizationPending => Code::AuthorizationPending,
            Refusal::DeviceCodeUseless => Code::Expired,
            Refusal::AccessDenied => Code::AccessDenied,
            Refusal::InvalidName { .. } => Code::InvalidName,
            Refusal::InvalidValue { .. } => Code::InvalidValue,
            Refusal::NotFound { .. } => Code::NotFound,
            Refusal::NameTaken { .. } => Code::NameTaken,
            Refusal::BeingRemoved { .. } => Code::BeingRemoved,
            Refusal::NoHosts { .. } => Code::NoHosts,
            Refusal::HasQuorum { .. } => Code::SwarmHasQuorum,
            Refusal::CannotRescue { .. } => Code::CannotRescue,
            Refusal::OperationInProgress { .. } => Code::OperationInProgress,
            Refusal::WrongState { .. } => Code::WrongState,
            Refusal::InUse { .. } => Code::InUse,
            Refusal::LastAdministrator => Code::LastAdministrator,
            Refusal::PreconditionFailed { .. } => Code::PreconditionFailed,
            Refusal::PreconditionRequired { .. } => Code::PreconditionRequired,
            Refusal::NotAnOrphan { .. } => Code::NotAnOrphan,
            Refusal::NoDriver { .. } => Code::NoDriver,
            Refusal::CannotBeSpared { .. } => Code::CannotBeSpared,
            Refusal::RoleWithoutEffect { .. } => Code::RoleWithoutEffect,
            Refusal::NodeOfASwarm { .. } => Code::NodeOfASwarm,
            Refusal::NothingToAdopt { .. } => Code::NothingToAdopt,
            Refusal::AnotherSwarm { .. } => Code::AnotherSwarm,
            Refusal::NoSwarm { .. } => Code::NoSwarm,
            Refusal::NotAutolocked { .. } => Code::NotAutolocked,
            Refusal::NothingLocked { .. } => Code::NothingLocked,
            Refusal::SwarmIsThere { .. } => Code::SwarmIsThere,
            Refusal::CannotRestore { .. } => Code::CannotRestore,
            Refusal::SwarmIsLocked { .. } => Code::SwarmIsLocked,
            Refusal::HostsUnfit { .. } => Code::HostsUnfit,
            Refusal::BuiltIn { .. } => Code::BuiltIn,
            Refusal::Outdated { .. } => Code::Outdated,
            Refusal::NoNfs { .. } => Code::NoNfs,
            Refusal::EnvironmentPaused { .. } => Code::EnvironmentPaused,
            Refusal::EngineIsNewer { .. } => Code::EngineIsNewer,
            Refusal::TooMany { .. } => Code::LimitReached,
            Refusal::QueueFull { .. } => Code::QueueFull,
            Refusal::JoinTokenUseless => Code::JoinTokenUseless,
            Refusal::ManagerRemoved { .. } => Code::ManagerRemoved,
            Refusal::RegistrationTokenUseless => Code::RegistrationTokenUseless,
            Refusal::AddressTaken { .. } => Code::AddressTaken,
            Refusal::Driver { .. } => Code::DriverRefused,
            Refusal::InvalidRecipe { .. } => Code::InvalidRecipe,
            Refusal::HostPortTaken { .. } => Code::HostPortTaken,
            Refusal::InvalidTemplate { .. } => Code::InvalidTemplate,
            Refusal::Read(_) => Code::StateUnreadable,
        }
    }
}

fn is_of_revision(revision: &Option<u64>) -> String {
    revision.map_or_else(|| "is not there".to_owned(), |revision| format!("is of revision {revision}"))
}

fn in_scope(scope: &Option<String>) -> String {
    scope.as_ref().map(|scope| format!(" in environment '{scope}'")).unwrap_or_default()
}
