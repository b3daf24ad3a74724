//! Writes down who has done what, and who was not allowed to.
//!
//! | a call …                                  | is written                                                     |
//! |-------------------------------------------|----------------------------------------------------------------|
//! | that changes the replicated state         | in the same transaction as the change                          |
//! | that does something else (runs a command) | before it is answered                                          |
//! | that reads what must stay secret          | before it is answered                                          |
//! | that is refused, denied, or fails         | within a second, together with others; those alike are counted |
//!
//! The last ones are collected because whoever is denied could otherwise make the managers write as often as they like.

mod seals;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use skep_ledger::{ReadError, Request as LedgerRequest, Tx, transact};
use skep_model::Ruling;
use skep_model::access::Caller;
use skep_model::audit::{self, Entry, Outcome};
use tokio::time::{interval, timeout};
use uuid::Uuid;

use crate::Api;
use crate::dress::{RequestId, shown_path};
use crate::panics::survived;
use crate::problem::Problem;
use crate::rest::session::ClientAddress;

/// How long what came to nothing waits for company.
const COLLECTED_FOR: Duration = Duration::from_secs(1);

/// What cannot be written down in time, because there is no leader, is collected.
const WRITING_MAX: Duration = Duration::from_secs(5);

/// Kinds of calls that are collected at once; of more than that only the number is kept.
const COLLECTED_MAX: usize = 1_000;

/// Routes that are only read, and whose answer opens something.
const SECRETS: &[&str] = &["/v1/environments/{environment}/swarm-state", "/v1/snapshots/{snapshot}/content"];

/// Routes that are asked with a method of changes, and change nothing.
const HARMLESS: &[&str] = &["/v1/environments/{environment}/actions/diagnose"];

/// What is known about a call while it is answered.
#[derive(Debug)]
pub(crate) struct Trail {
    method: Method,
    route: String,
    path: String,
    request: String,
    address: Option<IpAddr>,
    caller: OnceLock<(String, String)>,
    /// What it is about, as soon as somebody knows.
    about: OnceLock<String>,
    written: AtomicBool,
}

impl Trail {
    /// Who asks.
    pub(crate) fn is_of(&self, caller: &Caller) {
        // Only the first one counts; there is one.
        let _ = self.caller.set((caller.principal.clone(), caller.token.clone()));
    }

    /// What it is about, where the path does not say it.
    pub(crate) fn is_about(&self, what: String) {
        let _ = self.about.set(what);
    }

    /// It is written with the change; nothing more is to be written.
    pub(crate) fn is_written(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    /// It has come to nothing that anybody would look for: a device that waits asks every few seconds.
    pub(crate) fn is_no_news(&self) {
        self.is_written();
    }

    /// Does it have to be written down even if it succeeds without a change?
    fn matters(&self) -> bool {
        let secret = SECRETS.contains(&self.route.as_str());
        secret || (!self.method.is_safe() && !HARMLESS.contains(&self.route.as_str()))
    }

    /// The entry of a call that has made `answer`: what that is called, or which operation it has started and about what.
    pub(crate) fn entry_about(&self, node: &str, now: Timestamp, answer: &impl Serialize) -> Ruling<Entry> {
        let answer = serde_json::to_value(answer).map_err(ReadError::new)?;
        let at = |pointer| answer.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let subject = at("/operation/subject/kind").zip(at("/operation/subject/name"));
        let about = match subject {
            Some((kind, name)) => format!("{kind}/{name}"),
            None => at("/name").or(at("/template/name")).or(at("/id")).unwrap_or_default().to_owned(),
        };
        let operation = at("/operation/id").unwrap_or_default().to_owned();
        Ok(Entry { about, operation, ..self.entry(node, now) })
    }

    /// The entry of a call that has done what was asked.
    pub(crate) fn entry(&self, node: &str, now: Timestamp) -> Entry {
        let (principal, token) = self.caller.get().cloned().unwrap_or_default();
        Entry {
            id: audit::entry_id(now, &Uuid::now_v7().simple().to_string()),
            at: now,
            principal,
            token,
            address: self.address.map(|address| address.to_string()).unwrap_or_default(),
            call: format!("{} {}", self.method, self.path),
            route: self.route.clone(),
            about: self.about.get().cloned().unwrap_or_default(),
            operation: String::new(),
            request: self.request.clone(),
            node: node.to_owned(),
            outcome: Outcome::Done,
            code: String::new(),
            count: 1,
        }
    }
}

/// Calls that came to nothing, by what they have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collected(Arc<Mutex<BTreeMap<[String; 5], Entry>>>);

impl Collected {
    fn add(&self, entry: Entry) {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = format!("{:?}", entry.outcome);
        let mut alike =
            [entry.principal.clone(), entry.address.clone(), entry.call.clone(), outcome, entry.code.clone()];
        let mut entry = entry;
        if !collected.contains_key(&alike) && collected.len() >= COLLECTED_MAX {
            alike = <[String; 5]>::default();
            for text in [&mut entry.principal, &mut entry.address, &mut entry.route, &mut entry.code] {
                text.clear();
            }
            "others".clone_into(&mut entry.call);
        }
        let count = collected.get(&alike).map_or(0, |before| before.count).saturating_add(entry.count);
        collected.insert(alike, Entry { count, ..entry });
    }

    fn taken(&self) -> Vec<Entry> {
        let collected = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        collected.into_values().collect()
    }
}

/// Follows a call from its beginning to its answer, and writes down what has to be.
pub(crate) async fn follow(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let trail = Arc::new(Trail {
        method: request.method().clone(),
        route: extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default(),
        path: shown_path(&request),
        request: extensions.get::<RequestId>().map(|RequestId(id)| id.clone()).unwrap_or_default(),
        address: extensions.get::<ClientAddress>().map(|ClientAddress(address)| *address),
        caller: OnceLock::new(),
        about: OnceLock::new(),
        written: AtomicBool::new(false),
    });
    let rehearsed =
        request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "dry_run=true"));
    request.extensions_mut().insert(trail.clone());
    let response = survived(&trail.method, next.run(request)).await;
    let problem = response.extensions().get::<Box<Problem>>();
    let denied = problem.is_some_and(|problem| matches!(problem.status, 401 | 403));
    if trail.written.load(Ordering::Relaxed) || !(denied || (trail.matters() && !rehearsed)) {
        return response;
    }
    let mut entry = trail.entry(api.parts.cluster.node_name(), api.ledger().now());
    if let Some(problem) = problem {
        entry.code.clone_from(&problem.code);
        entry.outcome = match problem.status {
            401 | 403 => Outcome::Denied,
            500.. => Outcome::Failed,
            _ => Outcome::Refused,
        };
        api.collected.add(entry);
    } else if response.status().is_success() || response.status().is_informational() {
        let writing = api.write_down(std::slice::from_ref(&entry));
        if !matches!(timeout(WRITING_MAX, writing).await, Ok(Ok(()))) {
            api.collected.add(entry);
        }
    }
    response
}

impl Api {
    async fn write_down(&self, entries: &[Entry]) -> Result<(), Box<Problem>> {
        let rule = |tx: &mut Tx<'_>| {
            entries.iter().for_each(|entry| audit::record(tx, entry));
            Ok(())
        };
        transact(self.ledger(), LedgerRequest::new(), rule).await.map(drop).map_err(Box::<Problem>::from)
    }

    /// Writes down what was collected; for ever.
    pub(crate) async fn keep_audit(self) {
        let mut due = interval(COLLECTED_FOR);
        loop {
            due.tick().await;
            self.write_collected().await;
        }
    }

    /// Writes down what came to nothing; what cannot be written waits for the next time.
    pub async fn write_collected(&self) {
        let entries = self.collected.taken();
        if entries.is_empty() || matches!(timeout(WRITING_MAX, self.write_down(&entries)).await, Ok(Ok(()))) {
            return;
        }
        entries.into_iter().for_each(|entry| self.collected.add(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn entry(principal: &str) -> Entry {
        let now = Timestamp::UNIX_EPOCH;
        Entry {
            id: audit::entry_id(now, principal),
            at: now,
            principal: principal.into(),
            token: String::new(),
            address: String::new(),
            call: "GET /v1/users".into(),
            route: "/v1/users".into(),
            about: String::new(),
            operation: String::new(),
            request: String::new(),
            node: "m1".into(),
            outcome: Outcome::Denied,
            code: crate::problem::Code::Forbidden.number().into(),
            count: 1,
        }
    }

    #[test]
    fn calls_that_are_alike_are_counted_and_there_is_an_end_to_how_many_differ() {
        let collected = Collected::default();
        for number in 0..COLLECTED_MAX {
            collected.add(entry(&format!("p{number}")));
        }
        collected.add(entry("p0"));
        collected.add(entry("one more"));
        collected.add(entry("and another"));
        let taken = collected.taken();
        assert_eq!(taken.len(), COLLECTED_MAX + 1);
        let count = |principal: &str| {
            taken.iter().find(|entry| entry.principal == principal).map(|entry| entry.count)
        };
        assert_eq!((count("p0"), count("p1"), count("")), (Some(2), Some(1), Some(2)));
        assert!(collected.taken().is_empty());
    }
}
