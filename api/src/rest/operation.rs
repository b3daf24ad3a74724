//! Operations: list, show, follow.
//!
//! Following is a stream of server-sent events. A wake-up from the feed carries no data: whatever it says, the
//! stream looks at the row and sends what is news to this client. So start, change, reset and reconnection at
//! another manager are one path.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use http::header::ACCEPT;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_ledger::{Filter, Key, Ledger, Record, Revision, Stored, Topic, View, Watch};
use skep_model::ids::OperationId;
use skep_model::{CLUSTER, Refusal, Ruling, operation};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::dress::At;
use crate::extract::{Consistency, Params, Place, Read, Reading, Reference};
use crate::problem::{DoorCode, Problem, Refused, Reply};
use crate::rest::event::{LAST_EVENT_ID, RECONNECT_AFTER, served};
use crate::rest::{self, List, Listed};
use crate::watches::{Kind, Place as WatchPlace};

/// Operations in one answer if the query does not say.
const PAGE_DEFAULT: usize = 100;

/// The most in one answer; whoever asks for more gets this many, and a cursor.
const PAGE_MAX: usize = 1_000;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// One run of a workflow.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Operation {
    #[schema(example = "op_0198f2c1d5a27e0f8d3a6b1c2d3e4f50")]
    id: String,
    /// The workflow's name.
    #[serde(rename = "type")]
    #[schema(example = "create-host")]
    workflow: String,
    /// What it is about: kind and name.
    #[schema(example = "host/web-1")]
    target: String,
    /// The environment's name; null outside of environments.
    env: Option<String>,
    state: OperationState,
    /// In words, what goes on.
    message: String,
    created_at: Timestamp,
    /// When it was taken up.
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// In order; empty until it is taken up.
    steps: Vec<OperationStep>,
    /// The operation that waits for this one.
    parent: Option<String>,
    /// The operations that this one waits for.
    children: Vec<String>,
    /// Which manager tried how often.
    attempts_by_node: BTreeMap<String, u32>,
    /// What it was about, once it has succeeded.
    result: Option<OperationResult>,
    /// Why it failed.
    error: Option<Problem>,
    /// The operation's last change; zero for one that was only rehearsed.
    #[schema(value_type = u64)]
    revision: Revision,
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OperationState {
    /// Another operation on the same target goes first.
    Queued,
    /// Something is being done.
    Running,
    /// Something must happen first; the message says what.
    Waiting,
    /// Every step is done.
    Succeeded,
    /// It could not be brought about; the error says why.
    Failed,
}

/// One step.
#[derive(Debug, Serialize, ToSchema)]
struct OperationStep {
    name: String,
    state: StepState,
    /// How often something was tried.
    attempt: u32,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// What is being done or waited for, or the last error.
    message: String,
    /// The manager that tried last.
    owner: Option<String>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StepState {
    /// Its turn has not come.
    Pending,
    /// It was begun.
    Running,
    /// Its condition holds.
    Done,
    /// It could not be brought about.
    Failed,
    /// What it made was given back.
    Undone,
}

/// What a successful operation was about.
#[derive(Debug, Serialize, ToSchema)]
struct OperationResult {
    /// `environment`, `host`, `stack` or `swarm`.
    kind: String,
    id: String,
    name: String,
}

/// Which operations to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    /// Only those in this state.
    state: Option<OperationState>,
    /// How many at most; 100 if it is left out, and never more than 1000.
    limit: Option<usize>,
    /// Where an earlier answer ended: its `next_cursor`.
    #[param(value_type = Option<String>)]
    cursor: Option<Reference>,
    /// How fresh the answer must be.
    #[serde(default)]
    #[param(inline, required = false)]
    consistency: Consistency,
}

/// The header of a stream that goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header; it is read in `last_seen`")]
struct Resuming {
    /// Streams only: the last event that was seen.
    #[param(rename = "Last-Event-ID", required = false)]
    seen: u64,
}

impl Operation {
    pub(crate) fn new(
        operation: &operation::Operation,
        revision: Revision,
        children: Vec<OperationId>,
    ) -> Operation {
        Operation {
            id: operation.id.to_string(),
            workflow: operation.workflow.clone(),
            target: operation.subject.to_string(),
            env: operation.environment.as_ref().map(|(_, name)| name.clone()),
            state: operation.state.into(),
            message: operation.message.clone(),
            created_at: operation.created_at,
            started_at: operation.started_at,
            ended_at: operation.ended_at,
            steps: operation.steps.iter().map(OperationStep::new).collect(),
            parent: operation.parent.as_ref().map(OperationId::to_string),
            children: children.iter().map(OperationId::to_string).collect(),
            attempts_by_node: operation.attempts_by_node.clone(),
            result: (operation.state == operation::State::Succeeded).then(|| OperationResult {
                kind: operation.subject.kind.clone(),
                id: operation.subject.id.clone(),
                name: operation.subject.name.clone(),
            }),
            error: (operation.state == operation::State::Failed).then(|| failure(operation)),
            revision,
        }
    }

    fn of(view: &View, stored: &Stored<operation::Operation>) -> Ruling<Operation> {
        let all = view.list::<operation::Operation>(CLUSTER)?;
        let children = all.into_iter().filter(|other| other.parent.as_ref() == Some(&stored.id));
        Ok(Operation::new(stored, stored.revision, children.map(|child| child.record.id).collect()))
    }
}

fn failure(operation: &operation::Operation) -> Problem {
    let why = operation.failure.as_deref().unwrap_or(&operation.message);
    *Problem::new(DoorCode::OperationFailed, why)
}

impl OperationStep {
    fn new(step: &operation::StepRecord) -> OperationStep {
        OperationStep {
            name: step.name.clone(),
            state: step.state.into(),
            attempt: step.attempt,
            started_at: step.started_at,
            ended_at: step.ended_at,
            message: step.message.clone(),
            owner: Some(step.owner.clone()).filter(|owner| !owner.is_empty()),
        }
    }
}

impl From<operation::State> for OperationState {
    fn from(state: operation::State) -> OperationState {
        match state {
            operation::State::Queued => OperationState::Queued,
            operation::State::Running => OperationState::Running,
            operation::State::Waiting => OperationState::Waiting,
            operation::State::Succeeded => OperationState::Succeeded,
            operation::State::Failed => OperationState::Failed,
        }
    }
}

impl OperationState {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            OperationState::Queued => "queued",
            OperationState::Running => "running",
            OperationState::Waiting => "waiting",
            OperationState::Succeeded => "succeeded",
            OperationState::Failed => "failed",
        }
    }
}

impl From<operation::StepState> for StepState {
    fn from(state: operation::StepState) -> StepState {
        match state {
            operation::StepState::Pending => StepState::Pending,
            operation::StepState::Running => StepState::Running,
            operation::StepState::Done => StepState::Done,
            operation::StepState::Failed => StepState::Failed,
            operation::StepState::Undone => StepState::Undone,
        }
    }
}

/// The operation under a key, as the API shows it.
pub(crate) fn document(view: &View, key: &Key) -> Ruling<Option<(Revision, Value)>> {
    let Some(stored) = view.get::<operation::Operation>(&key.partition, &key.id)? else { return Ok(None) };
    rest::shown(stored.revision, &Operation::of(view, &stored)?)
}

/// Lists the operations, oldest first, some at a time.
#[utoipa::path(get, path = "/v1/operations", operation_id = "list_operations",
    params(Listing), responses((status = 200, body = List<Operation>, description = "All of them"), Refused))]
async fn list(State(api): State<Api>, Params(listing): Params<Listing>) -> Reply<Listed<Operation>> {
    let view = api.read(listing.consistency).await?;
    let all = view.list::<operation::Operation>(CLUSTER)?;
    let mut children: BTreeMap<&OperationId, Vec<OperationId>> = BTreeMap::new();
    for operation in &all {
        if let Some(parent) = &operation.parent {
            children.entry(parent).or_default().push(operation.id.clone());
        }
    }
    let limit = listing.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    // Ids are ordered by time, and so is the list.
    let wanted = |operation: &&Stored<operation::Operation>| {
        listing.state.is_none_or(|state| state == operation.state.into())
            && listing.cursor.as_ref().is_none_or(|cursor| operation.id.as_str() > &**cursor)
    };
    let shown = |operation: &Stored<operation::Operation>| {
        let children = children.get(&operation.id).cloned().unwrap_or_default();
        Operation::new(operation, operation.revision, children)
    };
    let mut wanted = all.iter().filter(wanted);
    let items: Vec<_> = wanted.by_ref().take(limit).map(shown).collect();
    let next_cursor = wanted.next().and(items.last()).map(|last| last.id.clone());
    Ok(List::page_at(view.revision(), items, next_cursor))
}

/// Shows an operation, or follows it to its end.
///
/// With `Accept: text/event-stream` the answer is a stream of server-sent events: `id` is the operation's revision,
/// `event` is `put` (or `delete`, if its record is gone), `data` is the operation. It ends after the final state.
#[utoipa::path(get, path = "/v1/operations/{operation}", operation_id = "show_operation",
    params(Reading, ("operation" = String, Path, description = "Its id"), Resuming),
    responses(
    (status = 200, description = "As it is, or a stream of what becomes of it",
        content((Operation = "application/json"), (String = "text/event-stream"))),
    Refused,
))]
async fn show(
    State(api): State<Api>,
    Place(id): Place<Reference>,
    Read(view): Read,
    headers: HeaderMap,
) -> Reply<Response> {
    let missing = || Refusal::NotFound { what: "operation", name: id.to_string(), scope: None };
    let stored = view.get::<operation::Operation>(CLUSTER, &id)?.ok_or_else(missing)?;
    if !wants_events(&headers) {
        return Ok(At(view.revision(), Json(Operation::of(&view, &stored)?)).into_response());
    }
    let only_it = Filter::of([Topic::object(&stored.key())]);
    let follower = Follower {
        _place: api.parts.metrics.watches.enter(Kind::Operation)?,
        watch: api.ledger().feed().watch_matching(view.revision(), only_it),
        ledger: api.parts.ledger.clone(),
        id: stored.id.clone(),
        sent: last_seen(&headers, &view),
        over: false,
    };
    Ok(At(view.revision(), served(follower.events())).into_response())
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// A client that has seen more than there is comes from before a restoration: it must start over.
fn last_seen(headers: &HeaderMap, view: &View) -> Revision {
    let seen = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seen.filter(|seen| *seen <= view.revision()).unwrap_or(0)
}

/// One client that follows one operation.
struct Follower {
    ledger: Arc<dyn Ledger>,
    id: OperationId,
    /// Of this operation alone.
    watch: Watch,
    /// The operation's newest revision that the client has seen.
    sent: Revision,
    /// The last event is out.
    over: bool,
    _place: WatchPlace,
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        while !self.over {
            match self.news() {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {
                    // Whatever it says: look again.
                    self.watch.next().await;
                }
                Err(refusal) => {
                    tracing::error!(operation.id = %self.id, error = %refusal, "following an operation broke off");
                    return None;
                }
            }
        }
        None
    }

    /// What the client has not seen yet. The final state is always told, because it ends the stream.
    fn news(&mut self) -> Ruling<Option<Event>> {
        let view = self.ledger.view();
        let Some(stored) = view.get::<operation::Operation>(CLUSTER, self.id.as_str())? else {
            self.over = true;
            let gone = Event::default().id(view.revision().to_string()).event("delete");
            return Ok(Some(gone.data(format!(r#"{{"id":"{}"}}"#, self.id))));
        };
        if stored.revision <= self.sent && !stored.ended() {
            return Ok(None);
        }
        self.sent = stored.revision;
        self.over = stored.ended();
        let document =
            serde_json::to_string(&Operation::of(&view, &stored)?).map_err(skep_ledger::ReadError::new)?;
        let event = Event::default().id(stored.revision.to_string()).event("put").retry(RECONNECT_AFTER);
        Ok(Some(event.data(document)))
    }
}
