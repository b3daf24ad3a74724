//! The codes of doors, and which status number each code is answered with.

use http::StatusCode;
use skep_model::Refusal;

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
    /// The cursor of a list leads on no more.
    CursorExpired,
    /// No token, or none that is known.
    Unauthenticated,
    /// Whoever asks is known, and may not do this.
    Forbidden,
    /// The name or the password is wrong.
    LoginFailed,
    /// Too many have tried to sign in as somebody.
    TooManyAttempts,
    /// A device asks more often than it was told to.
    SlowDown,
    /// A cookie alone: another page may have made the browser ask.
    Csrf,
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
        DoorCode::CursorExpired,
        DoorCode::Unauthenticated,
        DoorCode::Forbidden,
        DoorCode::LoginFailed,
        DoorCode::TooManyAttempts,
        DoorCode::SlowDown,
        DoorCode::Csrf,
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
            DoorCode::CursorExpired => ("SKP-1013", "CURSOR_EXPIRED", StatusCode::GONE),
            DoorCode::Unauthenticated => ("SKP-1101", "UNAUTHENTICATED", StatusCode::UNAUTHORIZED),
            DoorCode::Forbidden => ("SKP-1102", "FORBIDDEN", StatusCode::FORBIDDEN),
            DoorCode::LoginFailed => ("SKP-1104", "LOGIN_FAILED", StatusCode::UNAUTHORIZED),
            DoorCode::TooManyAttempts => ("SKP-1105", "TOO_MANY_ATTEMPTS", StatusCode::TOO_MANY_REQUESTS),
            // As RFC 8628, 3.5, has it.
            DoorCode::SlowDown => ("SKP-1109", "SLOW_DOWN", StatusCode::BAD_REQUEST),
            DoorCode::Csrf => ("SKP-1112", "CSRF", StatusCode::FORBIDDEN),
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

    pub(super) fn retryable(self) -> bool {
        match self {
            DoorCode::Conflict
            | DoorCode::TooManyAttempts
            | DoorCode::SlowDown
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
            | DoorCode::CursorExpired
            | DoorCode::Unauthenticated
            | DoorCode::Forbidden
            | DoorCode::LoginFailed
            | DoorCode::Csrf
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
pub(super) const REFUSED_WITH: &[(&str, StatusCode)] = &[
    ("SKP-1103", StatusCode::FORBIDDEN),
    ("SKP-1106", StatusCode::CONFLICT),
    ("SKP-1107", StatusCode::UNAUTHORIZED),
    // As RFC 8628, 3.5, has them.
    ("SKP-1108", StatusCode::BAD_REQUEST),
    ("SKP-1110", StatusCode::BAD_REQUEST),
    ("SKP-1111", StatusCode::BAD_REQUEST),
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

pub(super) fn refused_with(code: &str) -> StatusCode {
    let known = REFUSED_WITH.iter().find(|(known, _)| *known == code);
    known.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
}
