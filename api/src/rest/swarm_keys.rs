//! Keys of an environment's swarm: rotated, shown to administrators, given to managers that wait for them.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use skep_model::access::Caller;
use skep_model::ids::OperationId;
use skep_model::sealed::Sealed;
use skep_model::swarm_keys::{self, SwarmKey, unlock_key_words};
use skep_model::{Refusal, environment};
use skep_sealing::Secret;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Begun, Change, Changing, Keyed};
use crate::dress::At;
use crate::extract::{Place, Read, Reading, Reference, Within};
use crate::problem::{Code, Problem, Refused, Reply};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(rotate_tokens))
        .routes(routes!(rotate_authority))
        .routes(routes!(rotate_unlock_key))
        .routes(routes!(unlock))
        .routes(routes!(show_unlock_key))
}

/// The key that managers of a swarm need when their engines start.
#[derive(Serialize, ToSchema)]
struct UnlockKey {
    /// As `docker swarm unlock` takes it: a secret.
    unlock_key: String,
}

/// With which key a swarm is unlocked.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct UnlockWish {
    /// Only where Skep does not know the right one; it is kept sealed and never shown again.
    unlock_key: Option<String>,
}

/// Replaces the tokens with which nodes join the swarm. Nodes that are in it stay.
#[utoipa::path(
    post,
    path = "/v1/environments/{environment}/actions/rotate-tokens",
    operation_id = "rotate_join_tokens",
    params(Changing, Keyed, Within),
    responses(Begun)
)]
async fn rotate_tokens(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    change: Change,
) -> Reply<Response> {
    rotate(&api, &reference, SwarmKey::JoinTokens, &change).await
}

/// Replaces the authority that signs the nodes' certificates; the operation ends when all nodes have new ones.
#[utoipa::path(
    post,
    path = "/v1/environments/{environment}/actions/rotate-ca",
    operation_id = "rotate_swarm_ca",
    params(Changing, Keyed, Within),
    responses(Begun)
)]
async fn rotate_authority(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    change: Change,
) -> Reply<Response> {
    rotate(&api, &reference, SwarmKey::Authority, &change).await
}

/// Replaces the key that managers need when their engines start.
#[utoipa::path(
    post,
    path = "/v1/environments/{environment}/actions/rotate-unlock-key",
    operation_id = "rotate_unlock_key",
    params(Changing, Keyed, Within),
    responses(Begun)
)]
async fn rotate_unlock_key(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    change: Change,
) -> Reply<Response> {
    rotate(&api, &reference, SwarmKey::UnlockKey, &change).await
}

async fn rotate(api: &Api, reference: &Reference, key: SwarmKey, change: &Change) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(change, |tx| Ok(swarm_keys::rotate(tx, reference, key, id.clone())?.into())).await
}

/// Gives managers of the swarm that wait for it the unlock key. Skep does that by itself; this does it now, or with a key
/// that Skep does not know.
#[utoipa::path(post, path = "/v1/environments/{environment}/actions/unlock", operation_id = "unlock_swarm",
    params(Changing, Keyed, Within), request_body = UnlockWish, responses(Begun))]
async fn unlock(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    Asked { change, wish }: Asked<UnlockWish>,
) -> Reply<Response> {
    let change = change.concealed(&api.parts.sealing);
    let sealed = match wish.unlock_key {
        None => None,
        Some(key) => {
            let view = api.ledger().fresh_view().await?;
            let words = unlock_key_words(&environment::find(&view, &reference)?.id);
            Some(sealed(&api, &words, &Secret::new(key))?)
        }
    };
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| Ok(swarm_keys::unlock(tx, &reference, sealed.as_ref(), id.clone())?.into())).await
}

/// Shows the unlock key of the swarm, for managers that cannot be reached through Skep. Who asks is logged.
#[utoipa::path(post, path = "/v1/environments/{environment}/actions/show-unlock-key",
    operation_id = "show_unlock_key", params(Reading, Within),
    responses((status = 200, body = UnlockKey, description = "The key: a secret"), Refused))]
async fn show_unlock_key(
    State(api): State<Api>,
    axum::Extension(caller): axum::Extension<Caller>,
    Place(reference): Place<Reference>,
    Read(view): Read,
) -> Reply<At<Json<UnlockKey>>> {
    let environment = environment::find(&view, &reference)?;
    let kept = environment.keys.unlock_key.as_ref();
    let kept = kept.ok_or_else(|| Refusal::NotAutolocked { environment: environment.name.to_string() })?;
    let key = api.parts.sealing.open(&unlock_key_words(&environment.id), kept.envelope());
    let key =
        key.map_err(|error| Problem::new(Code::SecretUnreadable, format!("opening the key: {error}")))?;
    tracing::warn!(environment.id = %environment.id, caller.principal, "the unlock key of a swarm was shown");
    Ok(At(view.revision(), Json(UnlockKey { unlock_key: key.reveal().to_owned() })))
}

/// A secret as it may be written down.
pub(crate) fn sealed(api: &Api, words: &str, secret: &Secret) -> Reply<Sealed> {
    let sealed = api.parts.sealing.seal(words, secret);
    sealed.map(Sealed::new).map_err(|error| Problem::new(Code::SecretUnreadable, format!("sealing: {error}")))
}
