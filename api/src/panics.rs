//! A handler that panics costs its own request, not the connection with whatever else is asked over it.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use http::Method;

use crate::problem::{Code, Problem, ProblemOutcome};

/// The answer, whatever happens on the way to it. What handlers share are locks that outlive a panic.
pub(crate) async fn survived(method: &Method, answering: impl Future<Output = Response>) -> Response {
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    answered.unwrap_or_else(|panic| gave_up(method, panic.as_ref()).into_response())
}

/// What a panic says may hold what was asked, so it stays in the log.
fn gave_up(method: &Method, panic: &(dyn Any + Send)) -> Box<Problem> {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    tracing::error!(panic = text, "a request was given up");
    let problem =
        Problem::new(Code::InternalError, "the manager made a mistake of its own while it answered");
    match method.is_safe() {
        true => problem,
        false => problem.with_outcome(ProblemOutcome::Unknown),
    }
}
