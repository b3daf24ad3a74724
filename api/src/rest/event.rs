//! Changes as they happen: a stream of server-sent events, or a request that waits for the next one.
//!
//! The cursor is the revision, which is the same at every manager: a client that was cut off goes on anywhere. A change
//! that was overtaken by a newer one of the same object before it could be told is told as the newer one; so whoever
//! reads slowly is spared the intermediate states, and what an event shows is never older than its revision.
//!
//! ```text
//!   topics ─► Filter ─► Watch ─► rows that changed ─► what they are in one view ─► events
//!                         └────► Reset ─► "list again, go on from here"
//! ```

mod list;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use axum::{Extension, Json};
use futures::stream::{self, Stream};
use http::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skep_ledger::{Change, ChangedRow, Filter, Key, Record as _, Revision, Topic, View, Watch, WatchEvent};
use skep_model::access::Permission::{self, *};
use skep_model::access::{Caller, Scope};
use skep_model::ids::EnvironmentId;
use skep_model::{CLUSTER, Ruling, audit, environment, host, operation, stack, template};
use tokio::time::{Instant, Interval, interval_at, timeout};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::access::{self, sees_operation};
use crate::auth;
use crate::cluster::Readiness;
use crate::dress::At;
use crate::extract::Params;
use crate::limits::Seat;
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest;
use crate::watches::{self, Place};

/// Load balancers close connections that are silent for a minute; a quarter of that survives a lost heartbeat or two.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long browsers wait before they reconnect.
pub(crate) const RECONNECT_AFTER: Duration = Duration::from_secs(2);

/// Moves an idle client's cursor forward, well before the history could leave it behind.
const BOOKMARK_EVERY: Duration = Duration::from_secs(10);

/// Topics of one watch: a person's screen shows fewer things, a program wants them by the table.
const TOPICS_PER_WATCH_MAX: usize = 64;

/// How long a request waits for a change if it does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(60);

/// The longest that a request may wait; longer ones are cut to this. Proxies give up by then.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(300);

/// The last event that a reconnecting client has seen.
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks proxies not to hold events back.
pub(crate) const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(crate) use list::follow_lists;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(follow))
}

type Document = fn(&View, &Key) -> Ruling<Option<(Revision, Value)>>;

/// Something that can be followed.
struct Kind {
    /// In topics.
    word: &'static str,
    /// In events.
    name: &'static str,
    table: &'static str,
    /// What is behind the colon: `ENVIRONMENT/…`, or an object's name at once.
    in_environments: bool,
    /// The id of the object that a name or an id means.
    find: fn(&View, Option<&environment::Environment>, &str) -> Ruling<String>,
    /// The object as the API shows it.
    document: Document,
    /// May the caller see the object?
    sees: fn(&View, &Caller, &Key) -> Ruling<bool>,
}

fn sees_within(caller: &Caller, permission: Permission, environment: &str) -> bool {
    let id = EnvironmentId::parse(environment);
    id.is_some_and(|id| caller.grants.has(permission, &Scope::Environment(id)))
}

/// Everything that can be followed. Tokens are not: they are nobody's business but their owner's.
const KINDS: &[Kind] = &[
    Kind {
        word: "environment",
        name: "Environment",
        table: environment::Environment::TABLE,
        in_environments: false,
        find: |view, _, name| Ok(environment::find(view, name)?.id.to_string()),
        document: rest::environment::document,
        sees: |_, caller, key| Ok(sees_within(caller, ViewEnvironment, &key.id)),
    },
    Kind {
        word: "host",
        name: "Host",
        table: host::Host::TABLE,
        in_environments: true,
        find: |view, environment, name| match environment {
            Some(environment) => Ok(host::find(view, environment, name)?.id.to_string()),
            None => Ok(name.to_owned()),
        },
        document: rest::host::document,
        sees: |_, caller, key| Ok(sees_within(caller, ViewHost, &key.partition)),
    },
    Kind {
        word: "stack",
        name: "Stack",
        table: stack::Stack::TABLE,
        in_environments: true,
        find: |view, environment, name| match environment {
            Some(environment) => Ok(stack::find(view, environment, name)?.id.to_string()),
            None => Ok(name.to_owned()),
        },
        document: rest::stack::document,
        sees: |_, caller, key| Ok(sees_within(caller, ViewStack, &key.partition)),
    },
    Kind {
        word: "template",
        name: "Template",
        table: template::Template::TABLE,
        in_environments: false,
        find: |_, _, name| Ok(name.to_owned()),
        document: rest::template::document,
        sees: |_, caller, _| Ok(caller.grants.has_everywhere(ViewTemplate)),
    },
    Kind {
        word: "audit",
        name: "AuditEntry",
        table: audit::Entry::TABLE,
        in_environments: false,
        find: |_, _, name| Ok(name.to_owned()),
        document: rest::audit::document,
        sees: |_, caller, _| Ok(caller.grants.has_everywhere(ViewAudit)),
    },
    Kind {
        word: "operation",
        name: "Operation",
        table: operation::Operation::TABLE,
        in_environments: false,
        find: |_, _, name| Ok(name.to_owned()),
        document: rest::operation::document,
        sees: |view, caller, key| {
            let stored = view.get::<operation::Operation>(&key.partition, &key.id)?;
            // Of one that is gone nobody knows any more what it was about.
            Ok(stored.map_or(caller.grants.has_everywhere(ViewEnvironment), |stored| {
                sees_operation(caller, &stored)
            }))
        },
    },
];

/// What to follow, and from where on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Following {
    /// What to follow, separated by commas: `host`, `host:prod/*`, `host:prod/web-1`, `environment:prod`,
    /// `operation:*`, `audit:*`. Left out: everything but the audit.
    #[param(example = "host:prod/*,operation:*")]
    topics: Option<String>,
    /// Tell what has changed after this revision. Left out: what changes from now on.
    since: Option<u64>,
    /// The epoch that the revision is from; if there is a newer one, the answer is a reset.
    epoch: Option<u64>,
    /// Answer once, as soon as something has changed after this revision, instead of a stream.
    index: Option<u64>,
    /// With `index`: how long to wait at most, `45s` or `2m`.
    #[param(example = "60s")]
    wait: Option<String>,
}

/// The header of a stream that goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header; it is read in `last_seen`")]
struct Resuming {
    /// Streams only: the last event that was seen; goes before `since`.
    #[param(rename = "Last-Event-ID", required = false)]
    seen: u64,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Event)]
struct Happening {
    /// `put` or `delete`.
    #[schema(example = "put")]
    event: &'static str,
    /// `Environment`, `Host`, `Stack`, `Template`, `Operation` or `AuditEntry`.
    #[schema(example = "Host")]
    kind: &'static str,
    /// The object's id.
    id: String,
    /// When it happened.
    #[schema(value_type = u64)]
    revision: Revision,
    /// Revisions are comparable within one epoch.
    epoch: u64,
    /// As it is since then, in the form in which the API shows it; null if it is gone.
    object: Value,
}

/// What has changed.
#[derive(Debug, Serialize, ToSchema)]
struct Changes {
    /// In order; empty if nothing has changed in time.
    events: Vec<Happening>,
    /// Something may be missing: list again, and go on from `revision`.
    reset: bool,
    /// Where to go on: the next `index`.
    #[schema(value_type = u64)]
    revision: Revision,
    /// Revisions are comparable within one epoch.
    epoch: u64,
}

/// Follows what changes.
///
/// A stream of server-sent events: `put` and `delete` with `kind`, `id`, `revision`, `epoch` and `object`; `bookmark`, at
/// least every ten seconds, with a `revision` to go on from; `reset`, if something may be missing: list again and go on
/// from its `revision`; `reconnect`, if the manager is about to stop: go on elsewhere after its `revision`. With `index` the answer is JSON, once. A stream that was cut off goes on at any manager after
/// `Last-Event-ID`.
#[utoipa::path(get, path = "/v1/events", operation_id = "follow_events",
    params(Following, Resuming),
    responses(
    (status = 200, description = "A stream of what changes, or what has changed",
        content((String = "text/event-stream"), (Changes = "application/json"))),
    Refused,
))]
async fn follow(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Params(following): Params<Following>,
    headers: HeaderMap,
) -> Reply<Response> {
    let since = last_seen(&headers)?.or(following.since).or(following.index);
    if let Some(revision) = since.filter(|_| following.is_of(api.parts.cluster.epoch())) {
        api.reached(revision).await?;
    }
    // What a topic names must be known here; it may have been made elsewhere a moment ago.
    let filter = match filter(&api.ledger().view(), &caller, following.topics.as_deref()) {
        Ok(filter) => filter,
        Err(problem) if problem.status == 404 => {
            let fresh = api.ledger().fresh_view().await?;
            filter(&fresh, &auth::again(&api, &fresh, &caller)?, following.topics.as_deref())?
        }
        Err(problem) => return Err(problem),
    };
    match following.index.is_some() || following.wait.is_some() {
        true => poll(api, caller, &following, filter, since).await,
        false => stream(api, caller, &following, filter, since),
    }
}

impl Following {
    fn is_of(&self, epoch: u64) -> bool {
        self.epoch.is_none_or(|of| of == epoch)
    }
}

fn last_seen(headers: &HeaderMap) -> Reply<Option<Revision>> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(None) };
    let seen = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let refused = || Problem::new(Code::MalformedRequest, format!("Last-Event-ID is no revision: {value:?}"));
    seen.map(Some).ok_or_else(refused)
}

// ---- topics ----

fn filter(view: &View, caller: &Caller, topics: Option<&str>) -> Reply<Filter> {
    let Some(topics) = topics else {
        let all = KINDS.iter().filter(|kind| kind.table != audit::Entry::TABLE);
        return Ok(Filter::of(all.map(|kind| Topic::table(kind.table))));
    };
    let topics: Vec<&str> = topics.split(',').map(str::trim).filter(|topic| !topic.is_empty()).collect();
    if topics.is_empty() || topics.len() > TOPICS_PER_WATCH_MAX {
        let detail =
            format!("{} topics are named; 1 to {TOPICS_PER_WATCH_MAX} can be followed", topics.len());
        return Err(Problem::new(Code::MalformedRequest, detail)
            .hinting("name whole kinds, as in topics=host:prod/*, instead of many objects"));
    }
    let topics = topics.into_iter().map(|topic| read(view, caller, topic)).collect::<Reply<Vec<_>>>()?;
    Ok(Filter::of(topics))
}

/// `KIND`, `KIND:*`, `KIND:NAME`, `KIND:PREFIX*`, and for what belongs to an environment `KIND:ENV/…`.
fn read(view: &View, caller: &Caller, topic: &str) -> Reply<Topic> {
    let (word, which) = topic.split_once(':').unwrap_or((topic, "*"));
    let Some(kind) = KINDS.iter().find(|kind| kind.word == word) else {
        let known: Vec<_> = KINDS.iter().map(|kind| kind.word).collect();
        let detail = format!("'{topic}' is no topic: there is no kind '{word}'");
        return Err(Problem::new(Code::MalformedRequest, detail)
            .hinting(format!("the kinds are {}; for example host:prod/*", known.join(", "))));
    };
    if which.is_empty() || which.chars().any(char::is_control) {
        return Err(Problem::new(Code::MalformedRequest, format!("'{topic}' names nothing")));
    }
    if which == "*" {
        return Ok(Topic::table(kind.table));
    }
    let (environment, name) = match (kind.in_environments, which.split_once('/')) {
        (true, Some((reference, name))) => {
            let environment = environment::find(view, reference)?;
            if !sees_within(caller, ViewEnvironment, environment.id.as_str()) {
                return Err(access::hidden("environment", reference));
            }
            (Some(environment), name)
        }
        (true, None) => {
            let detail = format!("'{topic}' names no environment: a {word} belongs to one");
            return Err(Problem::new(Code::MalformedRequest, detail)
                .hinting(format!("write {word}:ENVIRONMENT/{which}, or {word}:* for all")));
        }
        (false, _) => (None, which),
    };
    let partition = environment.as_ref().map_or(CLUSTER, |environment| environment.id.as_str());
    Ok(match name.strip_suffix('*') {
        Some("") => Topic::partition(kind.table, partition),
        Some(prefix) => Topic::starting_with(kind.table, partition, prefix),
        None => {
            let id = (kind.find)(view, environment.as_deref(), name)?;
            Topic::object(&Key::new(kind.table, partition, &id))
        }
    })
}

// ---- what is told ----

/// One change in the words of the API, as far as the caller may see it; nothing, if something newer will tell it.
fn happenings(
    view: &View,
    caller: &Caller,
    filter: &Filter,
    change: &Change,
    epoch: u64,
) -> Ruling<Vec<Happening>> {
    let mut happenings = vec![];
    for row in change.rows.iter().filter(|row| filter.matches(&row.key)) {
        let Some(kind) = KINDS.iter().find(|kind| kind.table == row.key.table) else { continue };
        if !(kind.sees)(view, caller, &row.key)? {
            continue;
        }
        let Some((event, object)) = shown(view, kind, row, change.revision)? else { continue };
        let (id, revision) = (row.key.id.clone(), change.revision);
        happenings.push(Happening { event, kind: kind.name, id, revision, epoch, object });
    }
    Ok(happenings)
}

fn shown(view: &View, kind: &Kind, row: &ChangedRow, at: Revision) -> Ruling<Option<(&'static str, Value)>> {
    if row.deleted {
        return Ok(Some(("delete", Value::Null)));
    }
    let found = (kind.document)(view, &row.key)?;
    Ok(found.filter(|(revision, _)| *revision == at).map(|(_, document)| ("put", document)))
}

// ---- waiting once ----

async fn poll(
    api: Api,
    mut caller: Caller,
    following: &Following,
    filter: Filter,
    since: Option<Revision>,
) -> Reply<Response> {
    let _place = api.watch_place(&caller, watches::Kind::Poll)?;
    let epoch = api.parts.cluster.epoch();
    let wait = with_jitter(following.wait.as_deref().map_or(Ok(WAIT_DEFAULT), duration)?.min(WAIT_MAX));
    let now = *api.ledger().feed().latest().borrow();
    let mut changes = Changes { events: vec![], reset: !following.is_of(epoch), revision: now, epoch };
    // Whoever does not know where they are is told so at once.
    if let Some(since) = since.filter(|_| !changes.reset) {
        let mut watch = api.ledger().feed().watch_matching(since, filter);
        let deadline = Instant::now() + wait;
        while changes.events.is_empty() && !changes.reset {
            match timeout(deadline - Instant::now(), watch.next()).await {
                Ok(WatchEvent::Changes(told)) => {
                    let view = api.ledger().view();
                    caller = auth::again(&api, &view, &caller)?;
                    for change in &told {
                        changes.events.extend(happenings(&view, &caller, watch.filter(), change, epoch)?);
                    }
                }
                Ok(WatchEvent::Reset(_)) => changes.reset = true,
                Err(_) => break,
            }
        }
        changes.revision = watch.position();
    }
    Ok(At(changes.revision, Json(changes)).into_response())
}

/// `45s`, `2m`, or seconds.
fn duration(text: &str) -> Reply<Duration> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    let refused = || {
        Problem::new(Code::MalformedRequest, format!("wait is no time: '{text}'")).hinting("write 45s or 2m")
    };
    seconds.map(|seconds| Duration::from_secs(seconds.into())).ok_or_else(refused)
}

/// Up to a sixteenth more, so that those who began together do not all come back together.
fn with_jitter(wait: Duration) -> Duration {
    let spread_ms = u64::try_from(wait.as_millis() / 16).unwrap_or(0) + 1;
    // The last bits of a fresh id are random.
    let random = Uuid::now_v7().as_u128() as u64;
    wait + Duration::from_millis(random % spread_ms)
}

// ---- streaming ----

fn stream(
    api: Api,
    caller: Caller,
    following: &Following,
    filter: Filter,
    since: Option<Revision>,
) -> Reply<Response> {
    let place = api.watch_place(&caller, watches::Kind::Event)?;
    let feed = api.ledger().feed();
    let now = *feed.latest().borrow();
    let epoch = api.parts.cluster.epoch();
    let first = match since {
        _ if !following.is_of(epoch) => Some("reset"),
        None => Some("bookmark"),
        Some(_) => None,
    };
    let from = since.filter(|_| first.is_none()).unwrap_or(now);
    let mut bookmark = interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
    bookmark.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let watch = feed.watch_matching(from, filter);
    let queue = first.map(|event| mark(event, from, epoch).retry(RECONNECT_AFTER)).into_iter().collect();
    let follower = Follower { api, caller, watch, epoch, queue, bookmark, ended: false, _place: place };
    Ok(At(from, served(follower.events())).into_response())
}

/// Server-sent events with what keeps them alive on their way.
pub(crate) fn served(events: impl Stream<Item = Result<Frame, Infallible>> + Send + 'static) -> Response {
    let heartbeat = KeepAlive::new().interval(HEARTBEAT).text("heartbeat");
    let stream = Sse::new(events).keep_alive(heartbeat);
    ([(BUFFERING, HeaderValue::from_static("no"))], stream).into_response()
}

/// One client that follows changes.
struct Follower {
    api: Api,
    /// What it may is looked up again and again: somebody may take it away.
    caller: Caller,
    watch: Watch,
    epoch: u64,
    /// Made and not sent yet. Never more than what one look at the watch has brought.
    queue: VecDeque<Frame>,
    bookmark: Interval,
    /// The client is told to go elsewhere, and nothing more.
    ended: bool,
    _place: (Place, Seat<String>),
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Frame, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                event = self.watch.next() => match self.told(event) {
                    Ok(frames) => self.queue = frames,
                    Err(problem) => {
                        tracing::info!(detail = problem.detail, "following changes broke off");
                        return None;
                    }
                },
                _ = self.bookmark.tick() => {
                    // Whoever comes back is sent to another manager.
                    if self.api.parts.cluster.readiness() == Readiness::Draining {
                        self.ended = true;
                        return Some(mark("reconnect", self.watch.position(), self.epoch));
                    }
                    // So is whoever may not follow any more.
                    self.caller = auth::again(&self.api, &self.api.ledger().view(), &self.caller).ok()?;
                    return Some(mark("bookmark", self.watch.position(), self.epoch));
                }
            }
        }
    }

    fn told(&mut self, event: WatchEvent) -> Reply<VecDeque<Frame>> {
        let changes = match event {
            WatchEvent::Reset(revision) => return Ok([mark("reset", revision, self.epoch)].into()),
            WatchEvent::Changes(changes) => changes,
        };
        let view = self.api.ledger().view();
        // Whoever sees everything has nothing to gain from a change.
        if !self.caller.grants.has_everywhere(ViewEnvironment) {
            self.caller = auth::again(&self.api, &view, &self.caller)?;
        }
        let mut frames = VecDeque::new();
        for change in &changes {
            let happenings = happenings(&view, &self.caller, self.watch.filter(), change, self.epoch)?;
            let last = happenings.len().saturating_sub(1);
            for (number, happening) in happenings.iter().enumerate() {
                let frame = Frame::default().event(happening.event).data(text(happening)?);
                // Whoever is cut off within a change is told all of it again.
                frames.push_back(match number == last {
                    true => frame.id(change.revision.to_string()),
                    false => frame,
                });
            }
        }
        Ok(frames)
    }
}

fn text(happening: &Happening) -> Ruling<String> {
    Ok(serde_json::to_string(happening).map_err(skep_ledger::ReadError::new)?)
}

/// An event about the stream itself.
fn mark(event: &str, revision: Revision, epoch: u64) -> Frame {
    let data = json!({"revision": revision, "epoch": epoch}).to_string();
    Frame::default().id(revision.to_string()).event(event).data(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_are_read() {
        for (text, seconds) in [("45", 45), ("45s", 45), ("2m", 120), ("0s", 0)] {
            assert_eq!(duration(text).expect("is a time"), Duration::from_secs(seconds), "{text}");
        }
        for wrong in ["", "s", "-1s", "1h", "1.5s", "99999999999m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn jitter_never_shortens_and_adds_at_most_a_sixteenth() {
        for _ in 0..100 {
            let wait = with_jitter(Duration::from_secs(16));
            assert!((Duration::from_secs(16)..=Duration::from_secs(17)).contains(&wait), "{wait:?}");
        }
    }
}
