//! Everything a door says no with, and the one place that makes an answer of HTTP of it.
//!
//! What a rule refuses and what only a door can refuse have their [`Code`] from one catalogue, which knows the status of
//! each. Both become a [`Problem`] (RFC 9457), which `dress` writes into the answer once the request's id is known.

mod from;
mod params;

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoResponses, ToSchema};

pub(crate) use skep_codes::Code;

use crate::precondition;

/// How long a client should wait before it asks again where nothing better is known: elections take about a second.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Where a problem says how long to wait, if it knows better.
const RETRY_AFTER: &str = "retry_after_seconds";

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
    /// A problem of that kind.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Box<Problem> {
        // What is found in files has no status, and no door says it.
        let status = code.status().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR.as_u16());
        Box::new(Problem {
            kind: format!("urn:skep:error:{code}"),
            title: title(code.reason()),
            status,
            detail: detail.into(),
            code: code.number().to_owned(),
            reason: code.reason().to_owned(),
            params: BTreeMap::new(),
            errors: vec![],
            hint: None,
            retryable: code.is_retryable(),
            outcome: None,
            request_id: None,
        })
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
        Problem::new(Code::Unauthenticated, "a valid API token is required")
    }

    /// The managers are there, and have not agreed on their beginnings yet: that takes a moment.
    pub(crate) fn unfounded() -> Box<Problem> {
        Problem::new(Code::NoLeader, "the managers have not founded their cluster yet")
            .with_outcome(ProblemOutcome::NotStarted)
            .hinting("try again in a moment; all managers that were named in skep init must run")
    }

    /// Says what became of the change.
    pub(crate) fn with_outcome(mut self: Box<Problem>, outcome: ProblemOutcome) -> Box<Problem> {
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

    use skep_model::Refusal;

    use super::*;

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
