//! Everything a door says no with, and the one place that knows status numbers.
//!
//! A rule's refusal keeps its own code; what only a door can refuse has a [`DoorCode`]. Both become a [`Problem`]
//! (RFC 9457), which `dress` writes into the answer once the request's id is known.

mod causes;
mod params;

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use skep_model::Refusal;
use skep_model::recipe::RecipeError;
use utoipa::{IntoResponses, ToSchema};

use crate::precondition;

/// How long a client should wait before it asks again where nothing better is known: elections take about a second.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Where a problem says how long to wait, if it knows better.
const RETRY_AFTER: &str = "retry_after_seconds";

/// What a handler answers.
pub(crate) type Reply<T> = Result<T, Box<Problem>>;

/// Why a request was not answered as wished (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:skep:error:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// The status number.
    pub status: u16,
    /// What happened, in one sentence.
    pub detail: String,
    /// Stable and never reused.
    #[schema(example = "SKP-1301")]
    pub code: String,
    /// The same for programs.
    #[schema(example = "NAME_TAKEN")]
    pub reason: String,
    /// What varies in `detail`.
    pub params: BTreeMap<String, Value>,
    /// Each place that is wrong, where there are several.
    pub errors: Vec<ProblemPlace>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// What became of the change, where that is not obvious: null for refusals, which change nothing.
    pub outcome: Option<ProblemOutcome>,
    /// Finds this request in the manager's log.
    pub request_id: Option<String>,
}

/// What any request may be answered with instead, for the description of the API.
#[derive(IntoResponses)]
#[response(status = "default", description = "Refused", content_type = "application/problem+json")]
#[expect(dead_code, reason = "describes an answer; problems are written in `dress`")]
pub(crate) struct Refused(Problem);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ProblemPlace {
    /// Which value: `services.web.ports[0]`.
    pub pointer: String,
    /// From 1; null if it belongs to no line.
    pub line: Option<usize>,
    /// What is wrong and what to write instead.
    pub detail: String,
}

/// What is known about a change that was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemOutcome {
    /// Nothing was changed and nothing will be.
    NotStarted,
    /// It may take effect. Repeat it with the same idempotency key.
    Unknown,
}

/// What only a door refuses; rules have codes of their own ([`Refusal::CODES`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorCode {
    /// Not HTTP, JSON or a query that can be read.
    MalformedRequest,
    /// No such path.
    UnknownRoute,
    /// The path exists, not with this method.
    MethodNotAllowed,
    /// The body is longer than is read.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body is not said to be JSON.
    UnsupportedMediaType,
    /// JSON, but not of the form that is expected here.
    InvalidBody,
    /// The key belongs to another request.
    IdempotencyKeyReused,
    /// No token, or none that is known.
    Unauthenticated,
    /// Whoever asks is known, and may not do this.
    Forbidden,
    /// The name or the password is wrong.
    LoginFailed,
    /// Too many have tried to sign in as somebody.
    TooManyAttempts,
    /// Others kept changing the same thing.
    Conflict,
    /// More than one transaction may carry.
    ChangeTooLarge,
    /// One object would be larger than an object may be.
    ObjectTooLarge,
    /// This manager serves as many watches as it can.
    TooManyWatches,
    /// This manager has as many connections as it can.
    TooManyConnections,
    /// Whoever asks has asked too often.
    RateLimited,
    /// Whoever asks has too many of something open.
    TooManyAtOnce,
    /// An address has too many connections to this manager.
    TooManyFromAddress,
    /// The path with its query is longer than is read.
    UriTooLong,
    /// No engine that was needed has answered.
    EngineUnreachable,
    /// In an operation: it came to a bad end.
    OperationFailed,
    /// The environment has no host that could do it.
    NoActiveHost,
    /// The environment is being checked already.
    DiagnosisRunning,
    /// A driver could not do what a request needs.
    DriverFailed,
    /// Hosts cannot use an NFS server.
    NfsUnusable,
    /// The managers have no leader.
    NoLeader,
    /// The change was proposed, its answer lost.
    OutcomeUnknown,
    /// This manager has not applied the revision that the client has seen.
    RevisionNotReached,
    /// The change would leave too few managers that can agree.
    QuorumAtRisk,
    /// The manager is not far enough, or not what it should be, for this.
    ManagerNotReady,
    /// Another change of the managers is under way.
    MembershipChanging,
    /// The manager that would have to do it does not answer.
    ManagerUnreachable,
    /// An archive could not be kept for its way to the hosts.
    SpoolFailed,
    /// The answer is a stream of frames, and the client has not offered to speak them.
    UpgradeRequired,
    /// The host has been asked, and does not do it.
    NotStarted,
    /// This manager cannot read its own program.
    ProgramUnreadable,
    /// A backup could not be made or read.
    SnapshotFailed,
    /// Nobody could read a backup.
    NoRecoveryKey,
    /// Another manager keeps the backup.
    SnapshotElsewhere,
    /// A registry does not let the user in.
    LoginRefused,
    /// A registry could not be asked.
    RegistryUnreachable,
    /// What is sealed cannot be opened, or not be sealed.
    SecretUnreadable,
    /// The replicated state cannot be read; the same as the rules' code.
    StateUnreadable,
}

impl DoorCode {
    /// Every code that doors add to those of the rules.
    pub const ALL: &[DoorCode] = &[
        DoorCode::MalformedRequest,
        DoorCode::UnknownRoute,
        DoorCode::MethodNotAllowed,
        DoorCode::BodyTooLarge,
        DoorCode::BodyTooSlow,
        DoorCode::UnsupportedMediaType,
        DoorCode::InvalidBody,
        DoorCode::IdempotencyKeyReused,
        DoorCode::Unauthenticated,
        DoorCode::Forbidden,
        DoorCode::LoginFailed,
        DoorCode::TooManyAttempts,
        DoorCode::Conflict,
        DoorCode::ChangeTooLarge,
        DoorCode::ObjectTooLarge,
        DoorCode::TooManyWatches,
        DoorCode::TooManyConnections,
        DoorCode::RateLimited,
        DoorCode::TooManyAtOnce,
        DoorCode::TooManyFromAddress,
        DoorCode::UriTooLong,
        DoorCode::EngineUnreachable,
        DoorCode::OperationFailed,
        DoorCode::NoActiveHost,
        DoorCode::DiagnosisRunning,
        DoorCode::DriverFailed,
        DoorCode::NfsUnusable,
        DoorCode::NoLeader,
        DoorCode::OutcomeUnknown,
        DoorCode::RevisionNotReached,
        DoorCode::QuorumAtRisk,
        DoorCode::ManagerNotReady,
        DoorCode::MembershipChanging,
        DoorCode::ManagerUnreachable,
        DoorCode::SpoolFailed,
        DoorCode::UpgradeRequired,
        DoorCode::NotStarted,
        DoorCode::ProgramUnreadable,
        DoorCode::SnapshotFailed,
        DoorCode::NoRecoveryKey,
        DoorCode::SnapshotElsewhere,
        DoorCode::LoginRefused,
        DoorCode::RegistryUnreachable,
        DoorCode::SecretUnreadable,
        DoorCode::StateUnreadable,
    ];

    /// Code, reason and status.
    pub fn entry(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            DoorCode::MalformedRequest => ("SKP-1001", "MALFORMED_REQUEST", StatusCode::BAD_REQUEST),
            DoorCode::UnknownRoute => ("SKP-1002", "UNKNOWN_ROUTE", StatusCode::NOT_FOUND),
            DoorCode::MethodNotAllowed => ("SKP-1003", "METHOD_NOT_ALLOWED", StatusCode::METHOD_NOT_ALLOWED),
            DoorCode::BodyTooLarge => ("SKP-1004", "BODY_TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE),
            DoorCode::UnsupportedMediaType => {
                ("SKP-1005", "UNSUPPORTED_MEDIA_TYPE", StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            DoorCode::InvalidBody => ("SKP-1006", "INVALID_BODY", StatusCode::UNPROCESSABLE_ENTITY),
            DoorCode::IdempotencyKeyReused => {
                ("SKP-1007", "IDEMPOTENCY_KEY_REUSED", StatusCode::UNPROCESSABLE_ENTITY)
            }
            DoorCode::Unauthenticated => ("SKP-1101", "UNAUTHENTICATED", StatusCode::UNAUTHORIZED),
            DoorCode::Forbidden => ("SKP-1102", "FORBIDDEN", StatusCode::FORBIDDEN),
            DoorCode::LoginFailed => ("SKP-1104", "LOGIN_FAILED", StatusCode::UNAUTHORIZED),
            DoorCode::TooManyAttempts => ("SKP-1105", "TOO_MANY_ATTEMPTS", StatusCode::TOO_MANY_REQUESTS),
            DoorCode::Conflict => ("SKP-1304", "CONFLICT", StatusCode::CONFLICT),
            DoorCode::ChangeTooLarge => ("SKP-1402", "CHANGE_TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE),
            DoorCode::ObjectTooLarge => ("SKP-1403", "OBJECT_TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE),
            DoorCode::TooManyWatches => ("SKP-1404", "TOO_MANY_WATCHES", StatusCode::TOO_MANY_REQUESTS),
            DoorCode::TooManyConnections => {
                ("SKP-1405", "TOO_MANY_CONNECTIONS", StatusCode::SERVICE_UNAVAILABLE)
            }
            DoorCode::RateLimited => ("SKP-1407", "RATE_LIMITED", StatusCode::TOO_MANY_REQUESTS),
            DoorCode::TooManyAtOnce => ("SKP-1408", "TOO_MANY_AT_ONCE", StatusCode::TOO_MANY_REQUESTS),
            DoorCode::TooManyFromAddress => {
                ("SKP-1409", "TOO_MANY_FROM_ADDRESS", StatusCode::TOO_MANY_REQUESTS)
            }
            DoorCode::UriTooLong => ("SKP-1410", "URI_TOO_LONG", StatusCode::URI_TOO_LONG),
            DoorCode::BodyTooSlow => ("SKP-1009", "BODY_TOO_SLOW", StatusCode::REQUEST_TIMEOUT),
            DoorCode::EngineUnreachable => ("SKP-2401", "ENGINE_UNREACHABLE", StatusCode::BAD_GATEWAY),
            DoorCode::OperationFailed => ("SKP-2402", "OPERATION_FAILED", StatusCode::INTERNAL_SERVER_ERROR),
            DoorCode::NoActiveHost => ("SKP-2403", "NO_ACTIVE_HOST", StatusCode::CONFLICT),
            DoorCode::DiagnosisRunning => ("SKP-2404", "DIAGNOSIS_RUNNING", StatusCode::CONFLICT),
            DoorCode::DriverFailed => ("SKP-2421", "DRIVER_FAILED", StatusCode::BAD_GATEWAY),
            DoorCode::NfsUnusable => ("SKP-2441", "NFS_UNUSABLE", StatusCode::CONFLICT),
            DoorCode::NoLeader => ("SKP-3001", "NO_LEADER", StatusCode::SERVICE_UNAVAILABLE),
            DoorCode::OutcomeUnknown => ("SKP-3002", "OUTCOME_UNKNOWN", StatusCode::SERVICE_UNAVAILABLE),
            DoorCode::RevisionNotReached => {
                ("SKP-3010", "REVISION_NOT_REACHED", StatusCode::SERVICE_UNAVAILABLE)
            }
            DoorCode::QuorumAtRisk => ("SKP-3101", "QUORUM_AT_RISK", StatusCode::CONFLICT),
            DoorCode::ManagerNotReady => ("SKP-3102", "MANAGER_NOT_READY", StatusCode::CONFLICT),
            DoorCode::MembershipChanging => ("SKP-3103", "MEMBERSHIP_CHANGING", StatusCode::CONFLICT),
            DoorCode::ManagerUnreachable => ("SKP-3104", "MANAGER_UNREACHABLE", StatusCode::BAD_GATEWAY),
            DoorCode::SpoolFailed => ("SKP-3201", "SPOOL_FAILED", StatusCode::INTERNAL_SERVER_ERROR),
            DoorCode::UpgradeRequired => ("SKP-1008", "UPGRADE_REQUIRED", StatusCode::UPGRADE_REQUIRED),
            DoorCode::NotStarted => ("SKP-2405", "NOT_STARTED_ON_HOST", StatusCode::CONFLICT),
            DoorCode::ProgramUnreadable => {
                ("SKP-3202", "PROGRAM_UNREADABLE", StatusCode::INTERNAL_SERVER_ERROR)
            }
            DoorCode::SnapshotFailed => ("SKP-3411", "SNAPSHOT_FAILED", StatusCode::INTERNAL_SERVER_ERROR),
            DoorCode::NoRecoveryKey => ("SKP-3412", "NO_RECOVERY_KEY", StatusCode::CONFLICT),
            DoorCode::SnapshotElsewhere => ("SKP-3413", "SNAPSHOT_ELSEWHERE", StatusCode::CONFLICT),
            DoorCode::LoginRefused => ("SKP-2432", "LOGIN_REFUSED", StatusCode::UNPROCESSABLE_ENTITY),
            DoorCode::RegistryUnreachable => ("SKP-2433", "REGISTRY_UNREACHABLE", StatusCode::BAD_GATEWAY),
            DoorCode::SecretUnreadable => {
                ("SKP-2431", "SECRET_UNREADABLE", StatusCode::INTERNAL_SERVER_ERROR)
            }
            DoorCode::StateUnreadable => ("SKP-9001", "STATE_UNREADABLE", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn retryable(self) -> bool {
        match self {
            DoorCode::Conflict
            | DoorCode::TooManyAttempts
            | DoorCode::EngineUnreachable
            | DoorCode::NoActiveHost
            | DoorCode::DiagnosisRunning
            | DoorCode::DriverFailed
            | DoorCode::NfsUnusable
            | DoorCode::NoLeader
            | DoorCode::OutcomeUnknown
            | DoorCode::RevisionNotReached
            | DoorCode::TooManyConnections
            | DoorCode::TooManyWatches
            | DoorCode::RateLimited
            | DoorCode::TooManyAtOnce
            | DoorCode::TooManyFromAddress
            | DoorCode::BodyTooSlow
            | DoorCode::QuorumAtRisk
            | DoorCode::ManagerNotReady
            | DoorCode::MembershipChanging
            | DoorCode::ManagerUnreachable
            | DoorCode::SpoolFailed
            | DoorCode::ProgramUnreadable
            | DoorCode::RegistryUnreachable
            | DoorCode::SnapshotFailed => true,
            DoorCode::UpgradeRequired
            | DoorCode::NotStarted
            | DoorCode::MalformedRequest
            | DoorCode::UnknownRoute
            | DoorCode::MethodNotAllowed
            | DoorCode::BodyTooLarge
            | DoorCode::UriTooLong
            | DoorCode::UnsupportedMediaType
            | DoorCode::InvalidBody
            | DoorCode::IdempotencyKeyReused
            | DoorCode::Unauthenticated
            | DoorCode::Forbidden
            | DoorCode::LoginFailed
            | DoorCode::ChangeTooLarge
            | DoorCode::ObjectTooLarge
            | DoorCode::OperationFailed
            | DoorCode::NoRecoveryKey
            | DoorCode::SnapshotElsewhere
            | DoorCode::LoginRefused
            | DoorCode::SecretUnreadable
            | DoorCode::StateUnreadable => false,
        }
    }
}

/// With which status each refusal of a rule is answered. A test compares it with [`Refusal::CODES`].
const REFUSED_WITH: &[(&str, StatusCode)] = &[
    ("SKP-1103", StatusCode::FORBIDDEN),
    ("SKP-1201", StatusCode::UNPROCESSABLE_ENTITY),
    ("SKP-1202", StatusCode::UNPROCESSABLE_ENTITY),
    ("SKP-1203", StatusCode::NOT_FOUND),
    ("SKP-1301", StatusCode::CONFLICT),
    ("SKP-1302", StatusCode::CONFLICT),
    ("SKP-1303", StatusCode::CONFLICT),
    ("SKP-1305", StatusCode::CONFLICT),
    ("SKP-1306", StatusCode::CONFLICT),
    ("SKP-1307", StatusCode::CONFLICT),
    ("SKP-1308", StatusCode::CONFLICT),
    ("SKP-1309", StatusCode::CONFLICT),
    ("SKP-1310", StatusCode::CONFLICT),
    ("SKP-1311", StatusCode::PRECONDITION_FAILED),
    ("SKP-1312", StatusCode::PRECONDITION_REQUIRED),
    ("SKP-1321", StatusCode::CONFLICT),
    ("SKP-1322", StatusCode::CONFLICT),
    ("SKP-1323", StatusCode::CONFLICT),
    ("SKP-1324", StatusCode::CONFLICT),
    ("SKP-1325", StatusCode::CONFLICT),
    ("SKP-1326", StatusCode::CONFLICT),
    ("SKP-1327", StatusCode::CONFLICT),
    ("SKP-1331", StatusCode::CONFLICT),
    ("SKP-1332", StatusCode::CONFLICT),
    ("SKP-1333", StatusCode::CONFLICT),
    ("SKP-1334", StatusCode::CONFLICT),
    ("SKP-1335", StatusCode::CONFLICT),
    ("SKP-1336", StatusCode::CONFLICT),
    ("SKP-1341", StatusCode::CONFLICT),
    ("SKP-1342", StatusCode::CONFLICT),
    ("SKP-1343", StatusCode::CONFLICT),
    ("SKP-1344", StatusCode::CONFLICT),
    ("SKP-1351", StatusCode::CONFLICT),
    ("SKP-1352", StatusCode::CONFLICT),
    ("SKP-1401", StatusCode::CONFLICT),
    ("SKP-1406", StatusCode::CONFLICT),
    ("SKP-1501", StatusCode::FORBIDDEN),
    ("SKP-1502", StatusCode::FORBIDDEN),
    ("SKP-1503", StatusCode::FORBIDDEN),
    ("SKP-1504", StatusCode::CONFLICT),
    ("SKP-2001", StatusCode::UNPROCESSABLE_ENTITY),
    ("SKP-2601", StatusCode::UNPROCESSABLE_ENTITY),
    ("SKP-2602", StatusCode::CONFLICT),
    ("SKP-2603", StatusCode::UNPROCESSABLE_ENTITY),
    ("SKP-9001", StatusCode::INTERNAL_SERVER_ERROR),
];

/// Every code that the API answers with, its reason and its status; sorted.
pub fn codes() -> Vec<(&'static str, &'static str, u16)> {
    let of_rules = Refusal::CODES.iter().map(|(code, reason)| (*code, *reason, refused_with(code).as_u16()));
    let of_doors = DoorCode::ALL
        .iter()
        .map(|code| code.entry())
        .map(|(code, reason, status)| (code, reason, status.as_u16()));
    let mut codes: Vec<_> = of_rules.chain(of_doors).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn refused_with(code: &str) -> StatusCode {
    let known = REFUSED_WITH.iter().find(|(known, _)| *known == code);
    known.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
}

impl Problem {
    /// A problem that only a door knows.
    pub(crate) fn new(code: DoorCode, detail: impl Into<String>) -> Box<Problem> {
        let (text, reason, status) = code.entry();
        let mut problem = Problem::of(text, reason, status, detail.into());
        problem.retryable = code.retryable();
        problem
    }

    /// Says what to do about it.
    pub(crate) fn hinting(mut self: Box<Problem>, hint: impl Into<String>) -> Box<Problem> {
        self.hint = Some(hint.into());
        self
    }

    /// Says when it may be asked again.
    pub(crate) fn retry_after(self: Box<Problem>, seconds: u64) -> Box<Problem> {
        self.with_params([(RETRY_AFTER, json!(seconds))])
    }

    /// Names a line of the request that is wrong.
    pub(crate) fn at_line(mut self: Box<Problem>, line: usize, detail: impl Into<String>) -> Box<Problem> {
        self.errors.push(ProblemPlace { pointer: String::new(), line: Some(line), detail: detail.into() });
        self
    }

    /// No token, a wrong one, one that was never made: the same words, so that nobody learns which.
    pub(crate) fn unauthenticated() -> Box<Problem> {
        Problem::new(DoorCode::Unauthenticated, "a valid API token is required")
    }

    fn of(code: &str, reason: &str, status: StatusCode, detail: String) -> Box<Problem> {
        Box::new(Problem {
            kind: format!("urn:skep:error:{code}"),
            title: title(reason),
            status: status.as_u16(),
            detail,
            code: code.to_owned(),
            reason: reason.to_owned(),
            params: BTreeMap::new(),
            errors: vec![],
            hint: None,
            retryable: false,
            outcome: None,
            request_id: None,
        })
    }

    fn with_outcome(mut self: Box<Problem>, outcome: ProblemOutcome) -> Box<Problem> {
        self.outcome = Some(outcome);
        self
    }

    fn with_params(
        mut self: Box<Problem>,
        params: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Box<Problem> {
        self.params = params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self
    }
}

/// `NAME_TAKEN` as people write it: "Name taken".
fn title(reason: &str) -> String {
    let words = reason.replace('_', " ");
    let (first, rest) = words.split_at(1);
    format!("{first}{}", rest.to_lowercase())
}

impl From<Refusal> for Box<Problem> {
    fn from(refusal: Refusal) -> Box<Problem> {
        let code = refusal.code();
        let mut problem = Problem::of(code, refusal.reason(), refused_with(code), refusal.to_string());
        problem.hint = refusal.hint();
        problem.retryable = matches!(refusal, Refusal::BeingRemoved { .. } | Refusal::NoHosts { .. });
        if let Refusal::InvalidRecipe { errors } = &refusal {
            problem.errors = errors.iter().map(place).collect();
        }
        problem.with_params(params::params(&refusal))
    }
}

fn place(error: &RecipeError) -> ProblemPlace {
    let detail = match &error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message.clone(),
    };
    ProblemPlace { pointer: error.pointer.clone(), line: error.line, detail }
}

/// Without a body: the request's id belongs into it, which only `dress` knows.
impl IntoResponse for Box<Problem> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        match status {
            StatusCode::UNAUTHORIZED => {
                let scheme = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let known = self.params.get(RETRY_AFTER).and_then(Value::as_u64);
                let seconds = HeaderValue::from(known.unwrap_or(RETRY_AFTER_SECONDS));
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
            StatusCode::PRECONDITION_FAILED => {
                let revision = self.params.get("revision").and_then(Value::as_u64);
                response
                    .headers_mut()
                    .extend(revision.map(|revision| (header::ETAG, precondition::tag(revision))));
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use skep_ledger::{TransactError, Unavailable};

    use super::*;

    #[test]
    fn every_refusal_has_a_status() {
        let known: Vec<_> = REFUSED_WITH.iter().map(|(code, _)| *code).collect();
        let codes: Vec<_> = Refusal::CODES.iter().map(|(code, _)| *code).collect();
        assert_eq!(known, codes);
    }

    #[test]
    fn a_code_means_one_thing() {
        let codes = codes();
        for pair in codes.windows(2) {
            assert_ne!(pair[0].0, pair[1].0, "{pair:?}");
        }
    }

    #[test]
    fn titles_are_read_by_people() {
        assert_eq!(title("NAME_TAKEN"), "Name taken");
    }

    #[test]
    fn what_is_said_about_a_change_is_what_is_known() {
        let outcome = |unavailable: Unavailable| Box::<Problem>::from(unavailable).outcome;
        assert_eq!(outcome(Unavailable::NotStarted("x".into())), Some(ProblemOutcome::NotStarted));
        assert_eq!(outcome(Unavailable::Unknown("x".into())), Some(ProblemOutcome::Unknown));
        let conflict = TransactError::<Refusal>::Conflict { what: "x".into() };
        assert_eq!(Box::<Problem>::from(conflict).outcome, Some(ProblemOutcome::NotStarted));
    }
}
