//! What can be asked of an operation: cancel, retry, pause, resume.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use skep_ledger::Tx;
use skep_model::ids::OperationId;
use skep_model::{CLUSTER, Ruling, operation};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::Operation;
use crate::Api;
use crate::change::{Begun, Change, Changing, Keyed, Started};
use crate::dress::At;
use crate::extract::{Place, Reference};
use crate::problem::{Refused, Reply};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(pause))
        .routes(routes!(resume))
}

/// What a cancellation would do.
#[derive(Debug, Serialize, ToSchema)]
struct OperationTurnaround {
    /// As it would be right after it.
    operation: Operation,
    /// What would be given back, in this order.
    gives_back: Vec<StepFate>,
    /// What would stay.
    stays: Vec<StepFate>,
}

/// What becomes of what a step has made.
#[derive(Debug, Serialize, ToSchema)]
struct StepFate {
    /// The step's name.
    #[schema(example = "machine")]
    step: String,
    /// In words.
    #[schema(example = "the machine is given back to its driver")]
    what: String,
}

/// Gives an operation up: what it made is given back, as far as there is a way.
///
/// A dry run lists what will be given back and what will stay. Refused for operations that have ended, that give back
/// already, or whose current work cannot be taken back; one that waits for its turn is simply over.
#[utoipa::path(post, path = "/v1/operations/{operation}/actions/cancel", operation_id = "cancel_operation",
    params(Changing, Keyed, ("operation" = String, Path, description = "Its id")),
    responses(
    (status = 202, body = Operation, description = "Accepted: follow the operation"),
    (status = 200, body = OperationTurnaround, description = "Dry run: what would be given back, and what would stay"),
    Refused,
))]
async fn cancel(State(api): State<Api>, Place(id): Place<Reference>, change: Change) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| operation::cancel(tx, &id, change.by());
    if !change.is_dry_run() {
        return act(&api, &change, &id, rule).await;
    }
    let rehearsed = api
        .rehearse(&change, |tx| {
            let before = tx.get::<operation::Operation>(CLUSTER, &id)?;
            let plan = before.map(|before| operation::turnaround(&before)).unwrap_or_default();
            Ok((plan, rule(tx)?))
        })
        .await?;
    let (plan, operation) = &rehearsed.answer;
    let fates = |fates: &[(String, String)]| {
        fates.iter().map(|(step, what)| StepFate { step: step.clone(), what: what.clone() }).collect()
    };
    let children = operation::children(&api.ledger().view(), &operation.id)?;
    let document = OperationTurnaround {
        operation: Operation::new(operation, 0, children),
        gives_back: fates(&plan.gives_back),
        stays: fates(&plan.stays),
    };
    Ok(At(rehearsed.revision, Json(document)).into_response())
}

/// Tries again: at once, if the operation waits for its next try; as a new operation, if it has failed.
///
/// Refused with the reason if there is nothing that it could be about any more, or another operation is at it.
#[utoipa::path(post, path = "/v1/operations/{operation}/actions/retry", operation_id = "retry_operation",
    params(Changing, Keyed, ("operation" = String, Path, description = "Its id")), responses(Begun))]
async fn retry(State(api): State<Api>, Place(id): Place<Reference>, change: Change) -> Reply<Response> {
    let again = OperationId::new(Uuid::now_v7());
    act(&api, &change, &id, |tx| operation::retry(tx, &id, again.clone(), change.by())).await
}

/// Lets an operation do nothing new until it is resumed; the time of its step stands still.
///
/// An effect that is in flight comes to its end. After 7 days a paused operation is given up, and what it made stays.
#[utoipa::path(post, path = "/v1/operations/{operation}/actions/pause", operation_id = "pause_operation",
    params(Changing, Keyed, ("operation" = String, Path, description = "Its id")), responses(Begun))]
async fn pause(State(api): State<Api>, Place(id): Place<Reference>, change: Change) -> Reply<Response> {
    act(&api, &change, &id, |tx| operation::pause(tx, &id, change.by())).await
}

/// Lets a paused operation go on.
#[utoipa::path(post, path = "/v1/operations/{operation}/actions/resume", operation_id = "resume_operation",
    params(Changing, Keyed, ("operation" = String, Path, description = "Its id")), responses(Begun))]
async fn resume(State(api): State<Api>, Place(id): Place<Reference>, change: Change) -> Reply<Response> {
    act(&api, &change, &id, |tx| operation::resume(tx, &id)).await
}

async fn act(
    api: &Api,
    change: &Change,
    id: &str,
    mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<operation::Operation> + Send,
) -> Reply<Response> {
    let known =
        OperationId::parse(id).map(|id| operation::children(&api.ledger().view(), &id)).transpose()?;
    let children = known.unwrap_or_default();
    api.start(change, |tx| {
        let operation = rule(tx)?;
        let own = operation.id.as_str() == id;
        // One that is begun anew has none yet.
        Ok(Started::with_children(operation, if own { children.clone() } else { vec![] }))
    })
    .await
}
