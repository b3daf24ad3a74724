//! The first administrator of a new cluster, let in by the code that its managers print.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use skep_ledger::Tx;
use skep_model::Refusal;
use skep_model::access::{self, Caller, SETUP, SetupState, UserWish};
use skep_model::ids::UserId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::attempts::Door;
use crate::change::{Changing, Keyed, Knocked};
use crate::problem::{Problem, Refused, Reply};
use crate::provider::password_hash;
use crate::rest::session::about_user;
use crate::rest::user::User;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(set_up))
}

/// The first administrator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FirstAdministrator {
    /// The code that the managers print. Case, dashes and spaces do not matter.
    #[schema(example = "7Q3KD-0R5TX-9M2WB-HCV4E")]
    code: String,
    /// The name to sign in with.
    user: String,
    /// At least ten characters.
    password: String,
}

/// Makes the first administrator and spends the setup code. It works once; `GET /v1/auth-providers` tells whether it still does.
#[utoipa::path(post, path = "/v1/setup", operation_id = "set_up", params(Changing, Keyed),
    request_body = FirstAdministrator,
    responses(
    (status = 201, body = User, description = "Made: sign in with it"),
    (status = 200, body = User, description = "Dry run: as it would be"),
    Refused,
))]
async fn set_up(
    State(api): State<Api>,
    Knocked { change, wish }: Knocked<FirstAdministrator>,
) -> Reply<Response> {
    if let Some(trail) = change.trail() {
        trail.is_about(about_user(&wish.user));
    }
    let hash = access::setup_code_hash(&wish.code);
    let shown = |user: &access::User, revision| (StatusCode::CREATED, User::new(user, revision));
    let view = api.ledger().fresh_view().await?;
    match access::setup_state(&view)? {
        SetupState::Unfounded => return Err(Problem::unfounded()),
        // Unless this is the request that has done it, once more.
        SetupState::Done => {
            let done = |_: &mut Tx<'_>| Err::<access::User, _>(Refusal::SetupDone);
            return api.done(&change, done, shown).await;
        }
        SetupState::Open => {}
    }
    // Too many wrong codes keep a right one waiting as well: else they would not be slowed down.
    api.attempts.may_try(&Door::Setup, change.from(), api.ledger().now())?;
    if let Err(refusal) = access::ensure_setup_code(&view, hash.as_deref()) {
        api.attempts.failed(&Door::Setup, change.from(), api.ledger().now());
        return Err(refusal.into());
    }
    if let Some(trail) = change.trail() {
        trail.is_of(&Caller::administrator(SETUP));
    }
    let minted = UserWish {
        id: UserId::new(Uuid::now_v7()),
        password: password_hash(&wish.password).await?,
        name: wish.user,
        admin: true,
    };
    let rule = |tx: &mut Tx<'_>| access::set_up(tx, hash.as_deref(), &minted);
    let made = api.done(&change, rule, shown).await?;
    if !change.is_dry_run() {
        tracing::info!(
            user = minted.name,
            "the cluster has its first administrator: the setup code is spent"
        );
    }
    Ok(made)
}
