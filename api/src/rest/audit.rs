//! The audit: who has done what, and what vouches for it.

use axum::extract::State;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_ledger::{Key, Revision, View};
use skep_model::Ruling;
use skep_model::audit;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::extract::{Consistency, Params, Reference};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::{self, List, Listed};

/// Entries of one answer, if nothing is said, and at most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Entries that are looked at for one answer: who asks for few among many goes on where an answer ends.
const LOOKED_AT_MAX: usize = 10_000;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(seals))
}

/// One call, or several that were alike and came to nothing.
#[derive(Debug, Serialize, ToSchema)]
struct AuditEntry {
    /// Its id, in the order of time.
    #[schema(example = "2026-11-28.01a22417c08270bdb8b9aa331d0a4235")]
    id: String,
    /// When; of several, the last one.
    at: Timestamp,
    /// Who asked; empty if nobody known.
    principal: String,
    /// The id of the token that they came with.
    token: String,
    /// From where; empty if that is not known.
    address: String,
    /// What was asked: method and path, without the query.
    #[schema(example = "DELETE /v1/environments/prod")]
    call: String,
    /// The path with placeholders.
    #[schema(example = "/v1/environments/{environment}")]
    route: String,
    /// What it was about, where the path does not say it.
    about: String,
    /// The operation that was started; empty if none was.
    operation: String,
    /// The id of the request; finds it in the log of the manager.
    request: String,
    /// The manager.
    node: String,
    /// How it ended.
    outcome: AuditOutcome,
    /// The code of the problem; empty if there was none.
    code: String,
    /// How many calls it tells of.
    count: u32,
    /// The seal that covers it; left out until there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    seal: Option<u64>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AuditOutcome {
    /// It has done what was asked.
    Done,
    /// Whoever asked was not allowed to, or nobody known.
    Denied,
    /// The answer was no, and nothing has changed.
    Refused,
    /// It could not be done, or nobody knows whether it was.
    Failed,
}

/// What vouches for some entries and for all before them.
#[derive(Debug, Serialize, ToSchema)]
struct AuditSeal {
    /// Counted from 1.
    number: u64,
    /// When it was made.
    at: Timestamp,
    /// How many entries it covers.
    entries: u32,
    /// The hash of the seal before.
    previous: String,
    /// SHA-256 over the hash before and the entries in the order of their ids, each line by line: as JSON with sorted members
    /// and without `seal`.
    hash: String,
}

/// Which entries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Searching {
    /// Only those of this day or later (UTC).
    #[param(example = "2026-11-01", format = Date)]
    since: Option<String>,
    /// Only those of this day or earlier (UTC).
    #[param(example = "2026-11-30", format = Date)]
    until: Option<String>,
    /// Only what this one has asked.
    principal: Option<String>,
    /// Only what ended so.
    #[param(inline)]
    outcome: Option<AuditOutcome>,
    /// How many at most: 100 if nothing is said, never more than 1000.
    #[param(minimum = 0, maximum = 4_294_967_295u32)]
    limit: Option<u32>,
    /// Where an earlier answer said that more begins.
    #[param(value_type = Option<String>, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    cursor: Option<Reference>,
    /// How fresh the answer must be.
    #[serde(default)]
    #[param(inline, required = false)]
    consistency: Consistency,
}

impl From<audit::Outcome> for AuditOutcome {
    fn from(outcome: audit::Outcome) -> AuditOutcome {
        match outcome {
            audit::Outcome::Done => AuditOutcome::Done,
            audit::Outcome::Denied => AuditOutcome::Denied,
            audit::Outcome::Refused => AuditOutcome::Refused,
            audit::Outcome::Failed => AuditOutcome::Failed,
        }
    }
}

impl AuditEntry {
    fn new(entry: audit::Entry, seal: Option<u64>) -> AuditEntry {
        AuditEntry {
            id: entry.id,
            at: entry.at,
            principal: entry.principal,
            token: entry.token,
            address: entry.address,
            call: entry.call,
            route: entry.route,
            about: entry.about,
            operation: entry.operation,
            request: entry.request,
            node: entry.node,
            outcome: entry.outcome.into(),
            code: entry.code,
            count: entry.count,
            seal,
        }
    }
}

/// The entry under a key, as the API shows it.
pub(crate) fn document(view: &View, key: &Key) -> Ruling<Option<(Revision, Value)>> {
    let Some(stored) = view.get::<audit::Entry>(&key.partition, &key.id)? else { return Ok(None) };
    let seal = audit::seal_of(view, stored.revision)?.map(|seal| seal.number);
    rest::shown(stored.revision, &AuditEntry::new(stored.record, seal))
}

/// Lists who has done what, oldest first, some at a time. Entries are kept for 90 days.
#[utoipa::path(get, path = "/v1/audit", operation_id = "list_audit",
    params(Searching), responses((status = 200, description = "Some of them",
        content((List<AuditEntry> = "application/json"), (String = "text/event-stream"))), Refused))]
async fn list(State(api): State<Api>, Params(searching): Params<Searching>) -> Reply<Listed<AuditEntry>> {
    for (what, day) in [("since", &searching.since), ("until", &searching.until)] {
        insist_on_a_day(what, day.as_deref())?;
    }
    let view = api.read(searching.consistency).await?;
    let limit = searching.limit.map_or(PAGE_DEFAULT, |limit| limit as usize).clamp(1, PAGE_MAX);
    let wanted = |entry: &audit::Entry| {
        searching.principal.as_ref().is_none_or(|principal| entry.principal == *principal)
            && searching.outcome.is_none_or(|outcome| AuditOutcome::from(entry.outcome) == outcome)
    };
    let after = searching.cursor.as_deref().unwrap_or_default();
    let (since, until) = (searching.since.as_deref(), searching.until.as_deref());
    let (mut items, mut next_cursor, mut last) = (vec![], None, after.to_owned());
    let mut seals = Seals::default();
    for (looked_at, entry) in audit::entries(&view, since, until, after)?.enumerate() {
        let entry = entry?;
        let is_wanted = wanted(&entry);
        if looked_at == LOOKED_AT_MAX || (is_wanted && items.len() == limit) {
            next_cursor = Some(last);
            break;
        }
        last.clone_from(&entry.id);
        if is_wanted {
            let seal = seals.number_of(&view, entry.revision)?;
            items.push(AuditEntry::new(entry.record, seal));
        }
    }
    Ok(List::page_at(view.revision(), items, next_cursor))
}

/// The seal that was found last: neighbours mostly have the same.
#[derive(Default)]
struct Seals(Option<audit::Seal>);

impl Seals {
    fn number_of(&mut self, view: &View, revision: Revision) -> Ruling<Option<u64>> {
        if !self.0.as_ref().is_some_and(|seal| seal.after < revision && revision <= seal.upto) {
            self.0 = audit::seal_of(view, revision)?;
        }
        Ok(self.0.as_ref().map(|seal| seal.number))
    }
}

/// Days are compared as they are written, so anything else would find nothing, and not say why.
fn insist_on_a_day(what: &str, day: Option<&str>) -> Reply<()> {
    match day.filter(|day| day.parse::<Date>().map_or(true, |date| date.to_string() != *day)) {
        None => Ok(()),
        Some(wrong) => {
            Err(Problem::new(Code::MalformedRequest, format!("{what} is no day: '{}'", wrong.escape_debug()))
                .hinting("write it as 2026-11-28"))
        }
    }
}

/// Lists the seals that vouch for the entries, oldest first.
#[utoipa::path(get, path = "/v1/audit/seals", operation_id = "list_audit_seals",
    params(Paging), responses((status = 200, body = List<AuditSeal>, description = "Some of them"), Refused))]
async fn seals(State(api): State<Api>, Params(paging): Params<Paging>) -> Reply<Listed<AuditSeal>> {
    let after = u64::try_from(paging.cursor.unwrap_or_default())
        .map_err(|_| Problem::new(Code::MalformedRequest, "a cursor of this list is not below zero"))?;
    let view = api.read(paging.consistency).await?;
    let mut seals = audit::seals(&view, after, PAGE_MAX + 1)?;
    let more = seals.len() > PAGE_MAX;
    seals.truncate(PAGE_MAX);
    let next_cursor = seals.last().filter(|_| more).map(|last| last.upto.to_string());
    let items = seals.into_iter().map(AuditSeal::from).collect();
    Ok(List::page_at(view.revision(), items, next_cursor))
}

/// Which seals.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Where an earlier answer said that more begins.
    #[param(minimum = 0)]
    cursor: Option<i64>,
    /// How fresh the answer must be.
    #[serde(default)]
    #[param(inline, required = false)]
    consistency: Consistency,
}

impl From<audit::Seal> for AuditSeal {
    fn from(seal: audit::Seal) -> AuditSeal {
        let audit::Seal { number, at, entries, previous, hash, .. } = seal;
        AuditSeal { number, at, entries, previous, hash }
    }
}
