//! How everything that can go wrong behind a door becomes a problem.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use http::StatusCode;
use serde_json::json;
use skep_ledger::{ReadError, TransactError, Unavailable};
use skep_model::Refusal;
use skep_model::recipe::RecipeError;

use super::{Code, Problem, ProblemOutcome, ProblemPlace, params};
use crate::cluster::MemberRefusal;

impl From<Refusal> for Box<Problem> {
    fn from(refusal: Refusal) -> Box<Problem> {
        let mut problem = Problem::new(refusal.code(), refusal.to_string());
        problem.hint = refusal.hint();
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
                Problem::new(Code::NoLeader, detail).with_outcome(ProblemOutcome::NotStarted)
            }
            Unavailable::Unknown(_) => Problem::new(Code::OutcomeUnknown, detail)
                .with_outcome(ProblemOutcome::Unknown)
                .hinting("repeat the request with the same Idempotency-Key"),
            Unavailable::TooLarge { bytes, limit_bytes } => Problem::new(Code::ChangeTooLarge, detail)
                .with_params([("bytes", json!(bytes)), ("limit_bytes", json!(limit_bytes))]),
            Unavailable::TooManyRows { rows, limit_rows } => Problem::new(Code::ChangeTooLarge, detail)
                .with_params([("rows", json!(rows)), ("limit_rows", json!(limit_rows))]),
            Unavailable::ObjectTooLarge { object, bytes, limit_bytes } => {
                Problem::new(Code::ObjectTooLarge, detail).with_params([
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
                Problem::new(Code::Conflict, detail).with_outcome(ProblemOutcome::NotStarted)
            }
            // Doors do not fence; a ledger that answers so nevertheless has changed nothing.
            TransactError::Fenced(_) => {
                Problem::new(Code::NoLeader, detail).with_outcome(ProblemOutcome::NotStarted)
            }
        }
    }
}

impl From<MemberRefusal> for Box<Problem> {
    fn from(refusal: MemberRefusal) -> Box<Problem> {
        let detail = refusal.to_string();
        match refusal {
            MemberRefusal::Unknown(name) => Refusal::NotFound { what: "manager", name, scope: None }.into(),
            MemberRefusal::QuorumAtRisk(_) => Problem::new(Code::QuorumAtRisk, detail)
                .hinting("bring the other managers back, or add one first: skep cluster join-command"),
            MemberRefusal::NotReady(_) => {
                Problem::new(Code::ManagerNotReady, detail).hinting("see how they are: skep cluster status")
            }
            MemberRefusal::Changing(_) => Problem::new(Code::MembershipChanging, detail)
                .with_outcome(ProblemOutcome::NotStarted)
                .hinting("try again in a moment"),
            MemberRefusal::Unreachable(_) => Problem::new(Code::ManagerUnreachable, detail)
                .hinting("see how they are: skep cluster status"),
            MemberRefusal::NoLeader(_) => {
                Problem::new(Code::NoLeader, detail).with_outcome(ProblemOutcome::NotStarted)
            }
            MemberRefusal::OutcomeUnknown(_) => Problem::new(Code::OutcomeUnknown, detail)
                .with_outcome(ProblemOutcome::Unknown)
                .hinting("see what became of it: skep cluster status; asking again is safe"),
        }
    }
}

impl From<ReadError> for Box<Problem> {
    fn from(error: ReadError) -> Box<Problem> {
        Problem::new(Code::StateUnreadable, error.to_string())
    }
}

impl From<PathRejection> for Box<Problem> {
    fn from(rejection: PathRejection) -> Box<Problem> {
        Problem::new(Code::MalformedRequest, rejection.body_text())
    }
}

impl From<QueryRejection> for Box<Problem> {
    fn from(rejection: QueryRejection) -> Box<Problem> {
        Problem::new(Code::MalformedRequest, rejection.body_text())
    }
}

impl From<BytesRejection> for Box<Problem> {
    fn from(rejection: BytesRejection) -> Box<Problem> {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format!("the body is longer than {} bytes", crate::JSON_BYTES_MAX);
                Problem::new(Code::BodyTooLarge, detail)
            }
            _ => Problem::new(Code::MalformedRequest, rejection.body_text()),
        }
    }
}
