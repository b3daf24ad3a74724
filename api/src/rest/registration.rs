//! Registration tokens: with what machines that no driver made become hosts of an environment.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_model::environment;
use skep_model::host::WishedRole;
use skep_model::host::registration::{self, TokenWish};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Change, Changing, Keyed, answered};
use crate::dress::At;
use crate::extract::{Place, Read, Reading, Reference, Within};
use crate::problem::{Refused, Reply};
use crate::rest::{List, Listed};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// With what machines register themselves as hosts.
#[derive(Debug, Serialize, ToSchema)]
struct RegistrationToken {
    /// Names it.
    id: String,
    /// Which part the hosts should play in the swarm.
    role: Role,
    /// The labels that their nodes get.
    labels: BTreeMap<String, String>,
    /// How many more may register with it.
    uses_left: u32,
    /// When it ends.
    expires_at: Timestamp,
    /// How a machine uses it; only in the answer to whoever made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    join: Option<Join>,
}

/// How a machine becomes a host.
#[derive(Debug, Serialize, ToSchema)]
struct Join {
    /// The token itself: a secret.
    token: String,
    /// Peer addresses of the present managers: the agent registers at one of them.
    managers: Vec<String>,
    /// A shell script that installs the agent and starts it, for whoever has the token.
    script_url: String,
    /// The public key of the manager behind that address, as `curl --pinnedpubkey` takes it.
    pinned_key: String,
}

/// Which part a host should play in the swarm.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = HostRole)]
pub(crate) enum Role {
    /// A manager before others, as far as managers are wanted.
    Manager,
    /// Whatever the swarm needs.
    #[default]
    Auto,
    /// A worker; a manager only as long as there is nobody else.
    Worker,
}

/// A registration token to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct RegistrationTokenWish {
    /// Which part the hosts should play in the swarm.
    role: Role,
    /// The labels that their nodes get.
    labels: BTreeMap<String, String>,
    /// How long it is valid; an hour if nothing is said.
    ttl_seconds: Option<u32>,
    /// How many may register with it; one if nothing is said.
    uses: Option<u32>,
}

impl From<WishedRole> for Role {
    fn from(role: WishedRole) -> Role {
        match role {
            WishedRole::Manager => Role::Manager,
            WishedRole::Auto => Role::Auto,
            WishedRole::Worker => Role::Worker,
        }
    }
}

impl From<Role> for WishedRole {
    fn from(role: Role) -> WishedRole {
        match role {
            Role::Manager => WishedRole::Manager,
            Role::Auto => WishedRole::Auto,
            Role::Worker => WishedRole::Worker,
        }
    }
}

impl RegistrationToken {
    fn new(token: &registration::RegistrationToken) -> RegistrationToken {
        RegistrationToken {
            id: token.id.clone(),
            role: token.role.into(),
            labels: token.labels.clone(),
            uses_left: token.uses_left,
            expires_at: token.expires_at,
            join: None,
        }
    }
}

/// Lists the registration tokens of an environment.
#[utoipa::path(get, path = "/v1/environments/{environment}/registration-tokens",
    operation_id = "list_registration_tokens", params(Reading, Within),
    responses((status = 200, body = List<RegistrationToken>, description = "All of them"), Refused))]
async fn list(Place(reference): Place<Reference>, Read(view): Read) -> Reply<Listed<RegistrationToken>> {
    let environment = environment::find(&view, &reference)?;
    let items = registration::tokens(&view, &environment)?.iter().map(RegistrationToken::new).collect();
    Ok(List::at(view.revision(), items))
}

/// Makes a registration token.
#[utoipa::path(post, path = "/v1/environments/{environment}/registration-tokens",
    operation_id = "create_registration_token",
    params(Changing, Keyed, Within), request_body = RegistrationTokenWish,
    responses(
    (status = 201, body = RegistrationToken, description = "Made; the token is shown this once"),
    (status = 200, body = RegistrationToken, description = "Dry run: what would be made, without the token"),
    Refused,
))]
async fn create(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    asked: Asked<RegistrationTokenWish>,
) -> Reply<Response> {
    let life = asked.wish.ttl_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
    let wish = TokenWish {
        id: Uuid::now_v7().simple().to_string(),
        role: asked.wish.role.into(),
        labels: asked.wish.labels,
        life: life.unwrap_or(registration::TOKEN_LIFE),
        uses: asked.wish.uses.unwrap_or(1),
    };
    let rule = |tx: &mut skep_ledger::Tx<'_>| {
        let environment = environment::usable(tx, &reference)?;
        registration::create_token(tx, &environment, &wish)
    };
    if asked.change.is_dry_run() {
        let rehearsed = api.rehearse(&asked.change, rule).await?;
        return Ok(At(rehearsed.revision, Json(RegistrationToken::new(&rehearsed.answer))).into_response());
    }
    let committed = api.commit(&asked.change, rule).await?;
    let mut token = RegistrationToken::new(&committed.answer);
    // The id of the first answer, if this one repeats it: the same id is the same token.
    let invitation = api.parts.cluster.invitation(&token.id);
    token.join = Some(Join {
        script_url: format!("{}/join/{}", invitation.api_url, invitation.token),
        token: invitation.token,
        managers: invitation.managers,
        pinned_key: invitation.pinned_key,
    });
    let location =
        [(header::LOCATION, format!("/v1/environments/{}/registration-tokens/{}", &*reference, token.id))];
    Ok(answered(&committed, (StatusCode::CREATED, location, Json(token))))
}

/// Makes a registration token worthless; hosts that registered with it stay.
#[utoipa::path(delete, path = "/v1/environments/{environment}/registration-tokens/{token}",
    operation_id = "revoke_registration_token",
    params(Changing, Keyed, Within, ("token" = String, Path, description = "Its id")),
    responses((status = 200, body = RegistrationToken, description = "Revoked; as it was"), Refused))]
async fn revoke(
    State(api): State<Api>,
    Place((reference, id)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let rule = |tx: &mut skep_ledger::Tx<'_>| {
        let environment = environment::named(tx, &reference)?;
        registration::revoke_token(tx, &environment, &id)
    };
    if change.is_dry_run() {
        let rehearsed = api.rehearse(&change, rule).await?;
        return Ok(At(rehearsed.revision, Json(RegistrationToken::new(&rehearsed.answer))).into_response());
    }
    let committed = api.commit(&change, rule).await?;
    Ok(answered(&committed, Json(RegistrationToken::new(&committed.answer))))
}
