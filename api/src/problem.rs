//! Everything a door says no with, and the one place that knows status numbers.
//!
//! A rule's refusal keeps its own code; what only a door can refuse has a [`DoorCode`]. Both become a [`Problem`]
//! (RFC 9457), which `dress` writes into the answer once the request's id is known.

mod code;
mod params;

use std::collections::BTreeMap;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skep_ledger::{ReadError, TransactError, Unavailable};
use skep_model::Refusal;
use skep_model::recipe::RecipeError;
use utoipa::{IntoResponses, ToSchema};

pub use code::{DoorCode, codes};

use crate::cluster::MemberRefusal;
use crate::precondition;

/// How long a client should wait before it asks again when there is no leader: elections take about a second.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// What a handler answers.
pub(crate) type Reply<T> = Result<T, Box<Problem>>;

/// Why a request was not answered as wished (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemPlace {
    /// Which value: `services.web.ports[0]`.
    pub pointer: String,
    /// From 1; null if it belongs to no line.
    pub line: Option<usize>,
    /// What is wrong and what to write instead.
    pub detail: String,
}

/// What is known about a change that was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemOutcome {
    /// Nothing was changed and nothing will be.
    NotStarted,
    /// It may take effect. Repeat it with the same idempotency key.
    Unknown,
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
        let mut problem = Problem::of(code, refusal.reason(), code::refused_with(code), refusal.to_string());
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

impl From<Unavailable> for Box<Problem> {
    fn from(unavailable: Unavailable) -> Box<Problem> {
        let detail = unavailable.to_string();
        match unavailable {
            Unavailable::NotStarted(_) => {
                Problem::new(DoorCode::NoLeader, detail).with_outcome(ProblemOutcome::NotStarted)
            }
            Unavailable::Unknown(_) => Problem::new(DoorCode::OutcomeUnknown, detail)
                .with_outcome(ProblemOutcome::Unknown)
                .hinting("repeat the request with the same Idempotency-Key"),
            Unavailable::TooLarge { bytes, limit_bytes } => Problem::new(DoorCode::ChangeTooLarge, detail)
                .with_params([("bytes", json!(bytes)), ("limit_bytes", json!(limit_bytes))]),
            Unavailable::TooManyRows { rows, limit_rows } => Problem::new(DoorCode::ChangeTooLarge, detail)
                .with_params([("rows", json!(rows)), ("limit_rows", json!(limit_rows))]),
            Unavailable::ObjectTooLarge { object, bytes, limit_bytes } => {
                Problem::new(DoorCode::ObjectTooLarge, detail).with_params([
                    ("object", json!(object)),
                    ("bytes", json!(bytes)),
                    ("limit_bytes", json!(limit_bytes)),
                ])
            }
        }
    }
}

impl From<TransactError<Refusal>> for Box<Problem> {
    fn from(error: TransactError<Refusal>) -> Box<Problem> {
        let detail = error.to_string();
        match error {
            TransactError::Refused(refusal) => refusal.into(),
            TransactError::Unavailable(unavailable) => unavailable.into(),
            TransactError::Read(error) => error.into(),
            TransactError::Conflict { .. } => {
                Problem::new(DoorCode::Conflict, detail).with_outcome(ProblemOutcome::NotStarted)
            }
            // Doors do not fence; a ledger that answers so nevertheless has changed nothing.
            TransactError::Fenced(_) => {
                Problem::new(DoorCode::NoLeader, detail).with_outcome(ProblemOutcome::NotStarted)
            }
        }
    }
}

impl From<MemberRefusal> for Box<Problem> {
    fn from(refusal: MemberRefusal) -> Box<Problem> {
        let detail = refusal.to_string();
        match refusal {
            MemberRefusal::Unknown(name) => Refusal::NotFound { what: "manager", name, scope: None }.into(),
            MemberRefusal::QuorumAtRisk(_) => Problem::new(DoorCode::QuorumAtRisk, detail)
                .hinting("bring the other managers back, or add one first: skep cluster join-command"),
            MemberRefusal::NotReady(_) => Problem::new(DoorCode::ManagerNotReady, detail)
                .hinting("see how they are: skep cluster status"),
            MemberRefusal::Changing(_) => Problem::new(DoorCode::MembershipChanging, detail)
                .with_outcome(ProblemOutcome::NotStarted)
                .hinting("try again in a moment"),
            MemberRefusal::Unreachable(_) => Problem::new(DoorCode::ManagerUnreachable, detail)
                .hinting("see how they are: skep cluster status"),
            MemberRefusal::NoLeader(_) => {
                Problem::new(DoorCode::NoLeader, detail).with_outcome(ProblemOutcome::NotStarted)
            }
            MemberRefusal::OutcomeUnknown(_) => Problem::new(DoorCode::OutcomeUnknown, detail)
                .with_outcome(ProblemOutcome::Unknown)
                .hinting("see what became of it: skep cluster status; asking again is safe"),
        }
    }
}

impl From<ReadError> for Box<Problem> {
    fn from(error: ReadError) -> Box<Problem> {
        Problem::new(DoorCode::StateUnreadable, error.to_string())
    }
}

impl From<PathRejection> for Box<Problem> {
    fn from(rejection: PathRejection) -> Box<Problem> {
        Problem::new(DoorCode::MalformedRequest, rejection.body_text())
    }
}

impl From<QueryRejection> for Box<Problem> {
    fn from(rejection: QueryRejection) -> Box<Problem> {
        Problem::new(DoorCode::MalformedRequest, rejection.body_text())
    }
}

impl From<BytesRejection> for Box<Problem> {
    fn from(rejection: BytesRejection) -> Box<Problem> {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format!("the body is longer than {} bytes", crate::JSON_BYTES_MAX);
                Problem::new(DoorCode::BodyTooLarge, detail)
            }
            _ => Problem::new(DoorCode::MalformedRequest, rejection.body_text()),
        }
    }
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
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
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
    use super::*;

    #[test]
    fn every_refusal_has_a_status() {
        let known: Vec<_> = code::REFUSED_WITH.iter().map(|(code, _)| *code).collect();
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
