//! Problems as gRPC tells them; the one place that knows its codes.
//!
//! | of HTTP                | becomes               | except                                          |
//! |------------------------|-----------------------|-------------------------------------------------|
//! | 400, 413, 422          | `INVALID_ARGUMENT`    |                                                 |
//! | 401                    | `UNAUTHENTICATED`     |                                                 |
//! | 403                    | `PERMISSION_DENIED`   |                                                 |
//! | 404                    | `NOT_FOUND`           |                                                 |
//! | 409                    | `FAILED_PRECONDITION` | `ALREADY_EXISTS` for names; `ABORTED` if retryable |
//! | 410                    | `OUT_OF_RANGE`        |                                                 |
//! | 412, 428               | `FAILED_PRECONDITION` |                                                 |
//! | 429                    | `RESOURCE_EXHAUSTED`  |                                                 |
//! | 501                    | `UNIMPLEMENTED`       |                                                 |
//! | 502, 503               | `UNAVAILABLE`         | `UNKNOWN` if what became of the change is unknown |
//! | 504                    | `DEADLINE_EXCEEDED`   |                                                 |
//! | everything else        | `INTERNAL`            |                                                 |

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;
use skep_codes::Code as Ours;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::problem::{Problem, ProblemOutcome};

/// Who speaks, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "skep";

/// The same as `Retry-After` says.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Details are sent as a header, and clients take 8 KiB of those: wrong places and parameters beyond that are left out.
const DETAILS_BYTES_MAX: usize = 3 * 1024;

/// A problem in the words of gRPC.
pub(super) fn refused(problem: &Problem, metadata: MetadataMap) -> Status {
    let mut room = DETAILS_BYTES_MAX;
    let mut fits = |bytes: usize| {
        let left = room.checked_sub(bytes);
        room = left.unwrap_or(room);
        left.is_some()
    };
    let mut details = ErrorDetails::new();
    let mut info = HashMap::from([("code".to_owned(), problem.code.clone())]);
    info.extend(problem.outcome.map(|outcome| ("outcome".to_owned(), word(outcome).to_owned())));
    info.extend(problem.hint.clone().map(|hint| ("hint".to_owned(), hint)));
    for (name, value) in &problem.params {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if fits(name.len() + text.len()) {
            info.entry(name.clone()).or_insert(text);
        }
    }
    details.set_error_info(&problem.reason, DOMAIN, info);
    for place in &problem.errors {
        let line = place.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let text = format!("{line}{}", place.detail);
        if fits(place.pointer.len() + text.len()) {
            details.add_bad_request_violation(&place.pointer, text);
        }
    }
    if problem.retryable {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    if let Some(id) = &problem.request_id {
        details.set_request_info(id, "");
    }
    Status::with_error_details_and_metadata(code(problem), &problem.detail, details, metadata)
}

/// What a route has answered that did not do what was asked.
pub(super) fn of_answer(status: StatusCode, body: &[u8], metadata: MetadataMap) -> Status {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => refused(&problem, metadata),
        Err(_) => Status::with_metadata(Code::Internal, format!("the answer was {status}"), metadata),
    }
}

/// It has been done, and its answer is not what its message says: a mistake of ours.
pub(super) fn unfit(why: &str) -> Status {
    tracing::error!(why, "an answer does not fit its message");
    Status::internal(format!("it was done, and the answer cannot be told: {why}"))
}

fn code(problem: &Problem) -> Code {
    match problem.status {
        400 | 413 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 if problem.code == Ours::NameTaken.number() => Code::AlreadyExists,
        409 if problem.retryable => Code::Aborted,
        409 | 412 | 428 => Code::FailedPrecondition,
        410 => Code::OutOfRange,
        429 => Code::ResourceExhausted,
        501 => Code::Unimplemented,
        502 | 503 if problem.outcome == Some(ProblemOutcome::Unknown) => Code::Unknown,
        502 | 503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

fn word(outcome: ProblemOutcome) -> &'static str {
    match outcome {
        ProblemOutcome::NotStarted => "not_started",
        ProblemOutcome::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use skep_ledger::Unavailable;
    use skep_model::Refusal;

    use super::*;

    fn told(problem: impl Into<Box<Problem>>) -> Status {
        refused(&problem.into(), MetadataMap::new())
    }

    #[test]
    fn each_kind_of_problem_has_the_code_that_says_what_to_do() {
        let taken = Refusal::NameTaken { what: "host", name: "web".into(), scope: None };
        let paused = Refusal::EnvironmentPaused { environment: "prod".into() };
        for (status, expected) in [
            (told(taken), Code::AlreadyExists),
            (told(paused), Code::FailedPrecondition),
            (told(Problem::new(Ours::Conflict, "x")), Code::Aborted),
            (told(Problem::new(Ours::InvalidBody, "x")), Code::InvalidArgument),
            (told(Problem::new(Ours::TooManyWatches, "x")), Code::ResourceExhausted),
            (told(Problem::new(Ours::EngineUnreachable, "x")), Code::Unavailable),
            (told(Unavailable::NotStarted("x".into())), Code::Unavailable),
            (told(Unavailable::Unknown("x".into())), Code::Unknown),
            (told(Unavailable::TooLarge { bytes: 2, limit_bytes: 1 }), Code::InvalidArgument),
        ] {
            assert_eq!(status.code(), expected, "{status:?}");
        }
    }

    #[test]
    fn no_status_is_told_as_a_success() {
        for code in Ours::ALL {
            assert_ne!(told(Problem::new(*code, "x")).code(), Code::Ok, "{code}");
        }
    }

    #[test]
    fn a_refusal_carries_everything_that_its_problem_says() {
        let mut problem = Problem::new(Ours::Conflict, "others kept changing it")
            .hinting("ask again")
            .at_line(7, "not like this");
        problem.params.insert("what".into(), Value::from("host"));
        problem.params.insert("limit".into(), Value::from(3));
        problem.request_id = Some("r1".into());
        let status = refused(&problem, MetadataMap::new());
        let details = status.get_error_details();
        let info = details.error_info().expect("is there");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("CONFLICT", "skep"));
        for (name, value) in
            [("code", problem.code.as_str()), ("hint", "ask again"), ("what", "host"), ("limit", "3")]
        {
            assert_eq!(info.metadata.get(name).map(String::as_str), Some(value), "{name}");
        }
        let places = &details.bad_request().expect("is there").field_violations;
        assert_eq!(places[0].description, "line 7: not like this");
        assert_eq!(details.retry_info().expect("is there").retry_delay, Some(RETRY_AFTER));
        assert_eq!(details.request_info().expect("is there").request_id, "r1");
    }

    #[test]
    fn a_thousand_wrong_places_fit_into_a_header() {
        let problem = (0..1_000).fold(Problem::new(Ours::InvalidBody, "x"), |problem, line| {
            problem.at_line(line, "there is something wrong here")
        });
        let status = refused(&problem, MetadataMap::new());
        assert!(status.details().len() < 8 * 1024, "{} bytes", status.details().len());
        assert!(!status.get_error_details().bad_request().expect("is there").field_violations.is_empty());
    }
}
