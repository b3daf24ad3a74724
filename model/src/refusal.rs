//! The ways in which a rule says no. A refusal is not an error: the question was fine, the answer is no.
//!
//! Codes are stable and never reused; `docs/reference/errors.md` has a paragraph for each (a test compares them).

mod hint;

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
    /// Every code with its reason, for documentation and tests.
    pub const CODES: &[(&str, &str)] = &[
        ("SKP-1103", "BEYOND_OWN_PERMISSIONS"),
        ("SKP-1106", "SETUP_DONE"),
        ("SKP-1107", "SETUP_CODE_WRONG"),
        ("SKP-1108", "AUTHORIZATION_PENDING"),
        ("SKP-1110", "EXPIRED"),
        ("SKP-1111", "ACCESS_DENIED"),
        ("SKP-1201", "INVALID_NAME"),
        ("SKP-1202", "INVALID_VALUE"),
        ("SKP-1203", "NOT_FOUND"),
        ("SKP-1301", "NAME_TAKEN"),
        ("SKP-1302", "BEING_REMOVED"),
        ("SKP-1303", "NO_HOSTS"),
        ("SKP-1305", "SWARM_HAS_QUORUM"),
        ("SKP-1306", "CANNOT_RESCUE"),
        ("SKP-1307", "OPERATION_IN_PROGRESS"),
        ("SKP-1308", "WRONG_STATE"),
        ("SKP-1309", "IN_USE"),
        ("SKP-1310", "LAST_ADMINISTRATOR"),
        ("SKP-1311", "PRECONDITION_FAILED"),
        ("SKP-1312", "PRECONDITION_REQUIRED"),
        ("SKP-1321", "NOT_AN_ORPHAN"),
        ("SKP-1322", "NO_DRIVER"),
        ("SKP-1323", "CANNOT_BE_SPARED"),
        ("SKP-1324", "ROLE_WITHOUT_EFFECT"),
        ("SKP-1325", "NODE_OF_A_SWARM"),
        ("SKP-1326", "NOTHING_TO_ADOPT"),
        ("SKP-1327", "ANOTHER_SWARM"),
        ("SKP-1331", "NO_SWARM"),
        ("SKP-1332", "NOT_AUTOLOCKED"),
        ("SKP-1333", "NOTHING_LOCKED"),
        ("SKP-1334", "SWARM_IS_THERE"),
        ("SKP-1335", "CANNOT_RESTORE"),
        ("SKP-1336", "SWARM_IS_LOCKED"),
        ("SKP-1341", "HOSTS_UNFIT"),
        ("SKP-1342", "BUILT_IN"),
        ("SKP-1343", "OUTDATED"),
        ("SKP-1344", "NO_NFS"),
        ("SKP-1351", "ENVIRONMENT_PAUSED"),
        ("SKP-1352", "ENGINE_IS_NEWER"),
        ("SKP-1401", "LIMIT_REACHED"),
        ("SKP-1406", "QUEUE_FULL"),
        ("SKP-1501", "JOIN_TOKEN_USELESS"),
        ("SKP-1502", "MANAGER_REMOVED"),
        ("SKP-1503", "REGISTRATION_TOKEN_USELESS"),
        ("SKP-1504", "ADDRESS_TAKEN"),
        ("SKP-2001", "DRIVER_REFUSED"),
        ("SKP-2601", "INVALID_RECIPE"),
        ("SKP-2602", "HOST_PORT_TAKEN"),
        ("SKP-2603", "INVALID_TEMPLATE"),
        ("SKP-9001", "STATE_UNREADABLE"),
    ];

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::BeyondOwn { .. } => "SKP-1103",
            Refusal::SetupDone => "SKP-1106",
            Refusal::SetupCodeWrong => "SKP-1107",
            Refusal::AuthorizationPending => "SKP-1108",
            Refusal::DeviceCodeUseless => "SKP-1110",
            Refusal::AccessDenied => "SKP-1111",
            Refusal::InvalidName { .. } => "SKP-1201",
            Refusal::InvalidValue { .. } => "SKP-1202",
            Refusal::NotFound { .. } => "SKP-1203",
            Refusal::NameTaken { .. } => "SKP-1301",
            Refusal::BeingRemoved { .. } => "SKP-1302",
            Refusal::NoHosts { .. } => "SKP-1303",
            Refusal::HasQuorum { .. } => "SKP-1305",
            Refusal::CannotRescue { .. } => "SKP-1306",
            Refusal::OperationInProgress { .. } => "SKP-1307",
            Refusal::WrongState { .. } => "SKP-1308",
            Refusal::InUse { .. } => "SKP-1309",
            Refusal::LastAdministrator => "SKP-1310",
            Refusal::PreconditionFailed { .. } => "SKP-1311",
            Refusal::PreconditionRequired { .. } => "SKP-1312",
            Refusal::NotAnOrphan { .. } => "SKP-1321",
            Refusal::NoDriver { .. } => "SKP-1322",
            Refusal::CannotBeSpared { .. } => "SKP-1323",
            Refusal::RoleWithoutEffect { .. } => "SKP-1324",
            Refusal::NodeOfASwarm { .. } => "SKP-1325",
            Refusal::NothingToAdopt { .. } => "SKP-1326",
            Refusal::AnotherSwarm { .. } => "SKP-1327",
            Refusal::NoSwarm { .. } => "SKP-1331",
            Refusal::NotAutolocked { .. } => "SKP-1332",
            Refusal::NothingLocked { .. } => "SKP-1333",
            Refusal::SwarmIsThere { .. } => "SKP-1334",
            Refusal::CannotRestore { .. } => "SKP-1335",
            Refusal::SwarmIsLocked { .. } => "SKP-1336",
            Refusal::HostsUnfit { .. } => "SKP-1341",
            Refusal::BuiltIn { .. } => "SKP-1342",
            Refusal::Outdated { .. } => "SKP-1343",
            Refusal::NoNfs { .. } => "SKP-1344",
            Refusal::EnvironmentPaused { .. } => "SKP-1351",
            Refusal::EngineIsNewer { .. } => "SKP-1352",
            Refusal::TooMany { .. } => "SKP-1401",
            Refusal::QueueFull { .. } => "SKP-1406",
            Refusal::JoinTokenUseless => "SKP-1501",
            Refusal::ManagerRemoved { .. } => "SKP-1502",
            Refusal::RegistrationTokenUseless => "SKP-1503",
            Refusal::AddressTaken { .. } => "SKP-1504",
            Refusal::Driver { .. } => "SKP-2001",
            Refusal::InvalidRecipe { .. } => "SKP-2601",
            Refusal::HostPortTaken { .. } => "SKP-2602",
            Refusal::InvalidTemplate { .. } => "SKP-2603",
            Refusal::Read(_) => "SKP-9001",
        }
    }

    /// The stable reason, for programs.
    pub fn reason(&self) -> &'static str {
        let code = self.code();
        Self::CODES.iter().find(|(known, _)| *known == code).map_or("UNKNOWN", |(_, reason)| reason)
    }
}

fn is_of_revision(revision: &Option<u64>) -> String {
    revision.map_or_else(|| "is not there".to_owned(), |revision| format!("is of revision {revision}"))
}

fn in_scope(scope: &Option<String>) -> String {
    scope.as_ref().map(|scope| format!(" in environment '{scope}'")).unwrap_or_default()
}
