//! The ways in which a rule says no. A refusal is not an error: the question was fine, the answer is no.
//!
//! Codes are stable and never reused; `docs/reference/errors.md` has a paragraph for each (a test compares them).

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
    /// A published port that another stack has on every host.
    #[error("port {port} on the hosts of the environment is already published by {by}")]
    HostPortTaken {
        /// The port with its protocol: `8080/tcp`.
        port: String,
        /// `STACK/SERVICE`.
        by: String,
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

    /// What to do about it, as far as that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Refusal::NameTaken { .. } => Some("choose another name, or remove the other first".into()),
            Refusal::NotFound { what, .. } => Some(match *what {
                "manager" => "see what there is: skep cluster members".into(),
                "join token" => "see what there is: skep cluster join-tokens".into(),
                "registration token" => "see what there is: skep host registration-tokens".into(),
                what => format!("see what there is: skep {} ls", what.replace("environment", "env")),
            }),
            Refusal::BeingRemoved { .. } => Some("wait until it is gone: skep op ls".into()),
            Refusal::NoHosts { environment } => {
                Some(format!("add one: skep host create host-1 --driver local -e {environment}"))
            }
            Refusal::HostPortTaken { .. } => Some("publish another port, or remove the other stack".into()),
            Refusal::HasQuorum { environment, .. } => {
                Some(format!("see what its hosts lack: skep host ls -e {environment}"))
            }
            Refusal::CannotRescue { candidates, .. } if candidates.is_empty() => {
                Some("start the machine of one of the swarm's managers first".into())
            }
            Refusal::CannotRescue { candidates, .. } => Some(format!("these can: {}", candidates.join(", "))),
            Refusal::OperationInProgress { operation, .. } | Refusal::QueueFull { operation, .. } => Some(
                format!("wait for it: skep op watch {operation}; or give it up: skep op cancel {operation}"),
            ),
            Refusal::JoinTokenUseless => {
                Some("make a new one on a manager of the cluster: skep cluster join-command".into())
            }
            Refusal::RegistrationTokenUseless => {
                Some("make a new one: skep host register -e ENVIRONMENT".into())
            }
            Refusal::AddressTaken { host, .. } => Some(format!(
                "name another address of the machine (--address IP|INTERFACE); if it is the same machine, set up anew, \
                 remove the old host first: skep host rm {host}"
            )),
            Refusal::ManagerRemoved { .. } => {
                Some("it can join again on an empty data folder: skep cluster join-command".into())
            }
            Refusal::InvalidRecipe { .. } => Some("docs/reference/recipe.md lists what is understood".into()),
            Refusal::InvalidTemplate { .. } => {
                Some("examples/template-three-managers.yml shows the format".into())
            }
            _ => None,
        }
    }
}

fn in_scope(scope: &Option<String>) -> String {
    scope.as_ref().map(|scope| format!(" in environment '{scope}'")).unwrap_or_default()
}
