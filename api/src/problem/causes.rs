//! What other parts say went wrong, as problems.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use http::StatusCode;
use serde_json::json;
use skep_ledger::{ReadError, TransactError, Unavailable};
use skep_model::Refusal;

use super::{DoorCode, Problem, ProblemOutcome};
use crate::cluster::MemberRefusal;

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
