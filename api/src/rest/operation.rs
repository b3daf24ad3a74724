//! Operations: list, show, follow (`follow`), and what can be asked of them (`action`).

use std::collections::BTreeMap;

mod action;
pub(crate) mod follow;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_ledger::{Key, Revision, Stored, View};
use skep_model::access::Caller;
use skep_model::ids::OperationId;
use skep_model::{CLUSTER, Refusal, Ruling, operation};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::access::sees_operation;
use crate::dress::{At, One};
use crate::extract::{Consistency, Params, Place, Read, Reading, Reference};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::{self, List};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(logs))
        .merge(action::routes())
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
    /// Why it began although nobody asked for it; null if somebody did.
    reason: Option<String>,
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
    /// Why it failed, or was cancelled.
    error: Option<Problem>,
    /// When it is moved on at the latest, whatever happens; null once it has ended.
    deadline: Option<Timestamp>,
    /// Who has paused it, and since when.
    paused: Option<OperationAsked>,
    /// Who has cancelled it, and when.
    cancelled: Option<OperationAsked>,
    /// What could not be given back, and where it is.
    left: Vec<String>,
    /// Can it be cancelled now?
    cancellable: bool,
    /// Can it be tried again now: at once if it waits, as a new operation if it has failed?
    retryable: bool,
    /// The operation that this one takes up again.
    retry_of: Option<String>,
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
    /// Somebody has paused it: nothing new is done.
    Paused,
    /// Somebody has cancelled it: what was made is being given back.
    Cancelling,
    /// It was cancelled, and what can be given back was given back.
    Cancelled,
}

/// Who asked for something, and when.
#[derive(Debug, Serialize, ToSchema)]
struct OperationAsked {
    /// Who.
    by: String,
    /// When.
    at: Timestamp,
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
    /// Not tried again before.
    retry_at: Option<Timestamp>,
    /// What happens to what it made when the operation is cancelled; null if it stays.
    undo: Option<String>,
    /// What stays of it otherwise; null if it makes nothing.
    keeps: Option<String>,
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
    /// What it made stays: there is no way to give it back.
    Kept,
}

/// What a successful operation was about.
#[derive(Debug, Serialize, ToSchema)]
struct OperationResult {
    /// `environment`, `host`, `stack` or `swarm`.
    kind: String,
    id: String,
    name: String,
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
            state: OperationState::of(operation),
            message: operation.message.clone(),
            reason: Some(operation.reason.clone()).filter(|reason| !reason.is_empty()),
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
            error: matches!(operation.state, operation::State::Failed | operation::State::Cancelled)
                .then(|| failure(operation)),
            deadline: operation.deadline(),
            paused: operation.paused().map(OperationAsked::new),
            cancelled: operation.cancelled.as_ref().map(OperationAsked::new),
            left: operation.left.clone(),
            cancellable: operation.ways_out().contains(&operation::WayOut::Cancel),
            retryable: operation.ways_out().contains(&operation::WayOut::Retry),
            retry_of: operation.retry_of.as_ref().map(OperationId::to_string),
            revision,
        }
    }

    fn of(view: &View, stored: &Stored<operation::Operation>) -> Ruling<Operation> {
        Ok(Operation::new(stored, stored.revision, operation::children(view, &stored.id)?))
    }
}

impl OperationAsked {
    fn new(asked: &operation::Asked) -> OperationAsked {
        OperationAsked { by: asked.by.clone(), at: asked.at }
    }
}

fn failure(operation: &operation::Operation) -> Problem {
    let why = operation.failure.as_deref().unwrap_or(&operation.message);
    *Problem::new(Code::OperationFailed, why)
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
            retry_at: step.retry_at,
            undo: step.undo.clone(),
            keeps: Some(step.keeps.clone()).filter(|keeps| !keeps.is_empty()),
        }
    }
}

impl OperationState {
    /// Every state, with how it is written.
    const ALL: &[(OperationState, &str)] = &[
        (OperationState::Queued, "queued"),
        (OperationState::Running, "running"),
        (OperationState::Waiting, "waiting"),
        (OperationState::Succeeded, "succeeded"),
        (OperationState::Failed, "failed"),
        (OperationState::Paused, "paused"),
        (OperationState::Cancelling, "cancelling"),
        (OperationState::Cancelled, "cancelled"),
    ];

    /// Where an operation stands.
    pub(crate) fn of(operation: &operation::Operation) -> OperationState {
        let shown = operation.shown_state();
        let known = Self::ALL.iter().find(|(_, name)| *name == shown);
        known.map_or(OperationState::Running, |(state, _)| *state)
    }

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
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
            operation::StepState::Kept => StepState::Kept,
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
    params(Reading, Paging), responses((status = 200, description = "All that the caller may see",
        content((List<Operation> = "application/json"), (String = "text/event-stream"))), Refused))]
async fn list(Extension(caller): Extension<Caller>, ReadList(view, listing): ReadList) -> Reply<Page> {
    listing.check_values::<OperationState>("state")?;
    let all = view.list::<operation::Operation>(CLUSTER)?;
    let mut children: BTreeMap<&OperationId, Vec<OperationId>> = BTreeMap::new();
    for operation in &all {
        if let Some(parent) = &operation.parent {
            children.entry(parent).or_default().push(operation.id.clone());
        }
    }
    let shown = |operation: &Stored<operation::Operation>| {
        let children = children.get(&operation.id).cloned().unwrap_or_default();
        Operation::new(operation, operation.revision, children)
    };
    let items = all.iter().filter(|operation| sees_operation(&caller, operation)).map(shown).collect();
    // Ids are ordered by time.
    listing.page(view.revision(), items, &["id"])
}

/// How to show one operation.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Showing {
    /// Streams only: also tell the lines of its log, as events `line`.
    #[serde(default)]
    #[param(required = false)]
    logs: bool,
    /// How fresh the answer must be.
    #[serde(default)]
    #[param(inline, required = false)]
    consistency: Consistency,
}

/// Shows an operation, or follows it to its end.
///
/// With `Accept: text/event-stream` the answer is a stream of server-sent events: `id` is the operation's revision,
/// `event` is `put` (or `delete`, if its record is gone), `data` is the operation. It ends after the final state. With
/// `?logs=true` the lines of its log come before the change that they belong to, as events `line` without an id.
#[utoipa::path(get, path = "/v1/operations/{operation}", operation_id = "show_operation",
    params(Showing, ("operation" = String, Path, description = "Its id"), Resuming),
    responses(
    (status = 200, description = "As it is, or a stream of what becomes of it",
        content((Operation = "application/json"), (String = "text/event-stream"))),
    Refused,
))]
async fn show(
    State(api): State<Api>,
    Place(id): Place<Reference>,
    Extension(caller): Extension<Caller>,
    Params(Showing { logs, consistency }): Params<Showing>,
    headers: HeaderMap,
) -> Reply<Response> {
    let view = api.read(consistency).await?;
    let stored = find(&view, &id)?;
    if !follow::wants_events(&headers) {
        return Ok(One(view.revision(), stored.revision, Operation::of(&view, &stored)?).into_response());
    }
    let stream = follow::stream(&api, &caller, &view, &stored.id, logs, &headers)?;
    Ok(At(view.revision(), stream).into_response())
}

/// Tells what happened in an operation, line by line; the newest 200 lines are kept.
///
/// With `Accept: text/event-stream` it goes on with what happens, as `GET /v1/operations/{operation}?logs=true` does.
#[utoipa::path(get, path = "/v1/operations/{operation}/logs", operation_id = "show_operation_logs",
    params(Reading, ("operation" = String, Path, description = "Its id"), Resuming),
    responses(
    (status = 200, description = "The lines, oldest first, or a stream of them",
        content((List<follow::OperationLine> = "application/json"), (String = "text/event-stream"))),
    Refused,
))]
async fn logs(
    Place(id): Place<Reference>,
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Read(view): Read,
    headers: HeaderMap,
) -> Reply<Response> {
    let stored = find(&view, &id)?;
    if follow::wants_events(&headers) {
        let stream = follow::stream(&api, &caller, &view, &stored.id, true, &headers)?;
        return Ok(At(view.revision(), stream).into_response());
    }
    let lines = operation::log(&view, &stored)?;
    let items = lines.iter().map(|line| follow::OperationLine::new(line)).collect();
    Ok(List::at(view.revision(), items).into_response())
}

fn find(view: &View, id: &str) -> Ruling<Stored<operation::Operation>> {
    let missing = || Refusal::NotFound { what: "operation", name: id.to_owned(), scope: None };
    view.get::<operation::Operation>(CLUSTER, id)?.ok_or_else(missing)
}
