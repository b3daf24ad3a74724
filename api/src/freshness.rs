//! How new an answer is: what a client may ask for, and what every answer says about itself.
//!
//! A client that has seen a revision sends it along (`Skep-Min-Revision`), and whichever manager gets the request waits
//! until it has applied that much. So a load balancer may send each request elsewhere and nobody sees time run
//! backwards.

use std::cell::Cell;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use skep_ledger::Revision;
use tokio::time::timeout;

use crate::Api;
use crate::problem::{Code, Problem, Reply};

/// A revision that the client has seen.
const MIN_REVISION: HeaderName = HeaderName::from_static("skep-min-revision");
/// How the answer was read: `consistent` or `stale`.
const CONSISTENCY: HeaderName = HeaderName::from_static("skep-consistency");
/// Milliseconds since the manager has heard of the leader: how old a stale answer may be.
const LAST_CONTACT: HeaderName = HeaderName::from_static("skep-last-contact");
/// Whether the manager knows a leader.
const KNOWN_LEADER: HeaderName = HeaderName::from_static("skep-known-leader");

/// How long a manager that is behind makes a client wait: an election and a little of what came meanwhile.
const REVISION_WAIT_MAX: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// Set by the read that answers the request; the layers around it say so in the answer.
    static CONSISTENT: Cell<bool>;
}

/// The request that is being answered was read linearizably.
pub(crate) fn is_consistent() {
    // Reads for something else than a request of REST have nobody to tell.
    let _ = CONSISTENT.try_with(|consistent| consistent.set(true));
}

/// Waits for the revision that the client has seen; says in the answer how it was read.
pub(crate) async fn require(State(api): State<Api>, request: Request, next: Next) -> Response {
    let reads = request.method().is_safe();
    let answer = async {
        let mut response = match seen(request.headers()) {
            Ok(None) => next.run(request).await,
            Ok(Some(revision)) => match api.reached(revision).await {
                Ok(()) => next.run(request).await,
                Err(problem) => problem.into_response(),
            },
            Err(problem) => problem.into_response(),
        };
        if reads {
            let mode = if CONSISTENT.with(Cell::get) { "consistent" } else { "stale" };
            response.headers_mut().insert(CONSISTENCY, HeaderValue::from_static(mode));
        }
        response
    };
    CONSISTENT.scope(Cell::new(false), answer).await
}

/// Says how the manager stands with the leader.
pub(crate) fn describe(api: &Api, headers: &mut HeaderMap) {
    let contact = api.ledger().contact();
    let milliseconds = u64::try_from(contact.age.as_millis()).unwrap_or(u64::MAX);
    headers.insert(LAST_CONTACT, HeaderValue::from(milliseconds));
    let known = if contact.leader_known { "true" } else { "false" };
    headers.insert(KNOWN_LEADER, HeaderValue::from_static(known));
}

fn seen(headers: &HeaderMap) -> Reply<Option<Revision>> {
    let Some(value) = headers.get(MIN_REVISION) else { return Ok(None) };
    let revision = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let refused = || {
        Problem::new(Code::MalformedRequest, format!("{MIN_REVISION} is no revision: {value:?}"))
            .hinting("send the number from the header Skep-Revision of an earlier answer")
    };
    revision.map(Some).ok_or_else(refused)
}

impl Api {
    /// Waits until this manager has applied a revision, within reason.
    pub(crate) async fn reached(&self, revision: Revision) -> Reply<()> {
        let feed = self.ledger().feed();
        timeout(REVISION_WAIT_MAX, feed.reached(revision)).await.map_err(|_| {
            let at = *feed.latest().borrow();
            let detail = format!(
                "this manager is at revision {at} and has not reached {revision} within {} s",
                REVISION_WAIT_MAX.as_secs()
            );
            Problem::new(Code::RevisionNotReached, detail)
                .hinting("ask another manager; if all say so, compare the epoch in /v1/meta and start over")
        })
    }
}
