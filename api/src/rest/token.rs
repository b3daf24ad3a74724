//! API keys: of users, who may with them what they may, and of environments, where a role says it.
//!
//! A key's secret is derived from its id, so that a repeated request shows the same one; what is stored is a hash.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_ledger::Tx;
use skep_model::access::{self, ActsAs, Caller, Permission, Token, TokenKind, TokenOwner, TokenWish};
use skep_model::ids::EnvironmentId;
use skep_model::name::Name;
use skep_model::{Ruling, environment};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::change::{Asked, Change, Changing, Keyed};
use crate::extract::{Place, Reading, Reference, Within};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::List;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
        .routes(routes!(rotate))
        .routes(routes!(list_of_environment, create_for_environment))
        .routes(routes!(revoke_of_environment))
        .routes(routes!(rotate_of_environment))
}

/// An API key, or a session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKey {
    /// The public part of it.
    id: String,
    /// What people call it.
    name: String,
    /// Who speaks with it.
    principal: String,
    /// What it may, for a key of an environment.
    role: Option<String>,
    /// `key` or `session`.
    #[schema(example = "key")]
    kind: &'static str,
    /// When it was made.
    created_at: Timestamp,
    /// When it ends; null: when it is revoked.
    expires_at: Option<Timestamp>,
    /// When it was last used, give or take ten minutes.
    last_used_at: Option<Timestamp>,
    /// The key itself: a secret, only in the answer to whoever made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// A key of whoever asks.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct ApiKeyWish {
    /// What people call it.
    name: String,
    /// How long it is valid; left out: until it is revoked.
    ttl_seconds: Option<u32>,
}

/// A key of an environment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EnvironmentKeyWish {
    /// What people call it.
    #[serde(default)]
    name: String,
    /// What it may in the environment.
    role: String,
    /// How long it is valid; left out: until it is revoked.
    #[serde(default)]
    ttl_seconds: Option<u32>,
}

impl ApiKey {
    pub(crate) fn new(token: &Token, secret: Option<String>) -> ApiKey {
        let role = match &token.acts_as {
            ActsAs::Environment { role, .. } => Some(role.to_string()),
            ActsAs::Cluster | ActsAs::User(_) => None,
        };
        ApiKey {
            id: token.id.clone(),
            name: token.name.clone(),
            principal: token.principal.clone(),
            role,
            kind: match token.kind {
                TokenKind::Key => "key",
                TokenKind::Session => "session",
            },
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            token: secret,
        }
    }
}

impl Api {
    /// The text of a token: known to whoever has it, and to nobody who reads what is stored.
    pub(crate) fn token_text(&self, id: &str, generation: u32) -> String {
        let of = format!("api-token/{id}/{generation}");
        let secret = skep_wire::random::hex(&self.parts.sealing.fingerprint(of.as_bytes())[..24]);
        format!("{}{id}_{secret}", access::TOKEN_PREFIX)
    }

    /// What is stored of it.
    pub(crate) fn token_hash(&self, id: &str, generation: u32) -> Vec<u8> {
        access::parse(&self.token_text(id, generation)).map(|(_, hash)| hash).unwrap_or_default()
    }

    /// A token with an id that nobody has.
    pub(crate) fn new_token(
        &self,
        acts_as: ActsAs,
        kind: TokenKind,
        name: String,
        ttl_seconds: Option<u32>,
    ) -> TokenWish {
        let id = skep_wire::random::name()[..16].to_owned();
        let life = ttl_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
        TokenWish { hash: self.token_hash(&id, 0), id, acts_as, kind, name, life }
    }

    async fn make(
        &self,
        change: &Change,
        wish: impl Fn(&mut Tx<'_>) -> Ruling<TokenWish> + Send + Sync,
    ) -> Reply<Response> {
        let rule = |tx: &mut Tx<'_>| {
            let wish = wish(tx)?;
            access::create_token(tx, change.caller(), &wish)
        };
        let secret =
            |token: &Token| (!change.is_dry_run()).then(|| self.token_text(&token.id, token.generation));
        self.done(change, rule, |token, _| (StatusCode::CREATED, ApiKey::new(token, secret(token)))).await
    }

    async fn turn(
        &self,
        change: &Change,
        id: &str,
        wanted: impl Fn(&Token) -> bool + Send + Sync,
    ) -> Reply<Response> {
        let rule = |tx: &mut Tx<'_>| {
            access::rotate_token(tx, id, |generation| self.token_hash(id, generation), |token| wanted(token))
        };
        let secret =
            |token: &Token| (!change.is_dry_run()).then(|| self.token_text(&token.id, token.generation));
        self.done(change, rule, |token, _| (StatusCode::OK, ApiKey::new(token, secret(token)))).await
    }
}

/// Those of the caller: all of a user or of the cluster's administrator, only itself for a key of an environment.
pub(crate) fn is_own(caller: &Caller) -> impl Fn(&Token) -> bool + use<> {
    let (own, id) = (caller.acts_as.clone(), caller.token.clone());
    let shares = !matches!(own, ActsAs::Environment { .. });
    move |token| token.id == id || (shares && token.acts_as == own)
}

/// Those that the caller may end: their own, and for an administrator those of the founders as well, which belong to nobody who
/// could.
fn may_end(caller: &Caller) -> impl Fn(&Token) -> bool + use<> {
    let is_administrator = Permission::ALL.iter().all(|each| caller.grants.has_everywhere(*each));
    let is_own = is_own(caller);
    move |token| is_own(token) || (is_administrator && token.acts_as == ActsAs::Cluster)
}

fn is_of(environment: &EnvironmentId) -> impl Fn(&Token) -> bool {
    let environment = environment.clone();
    move |token| matches!(&token.acts_as, ActsAs::Environment { id, .. } if *id == environment)
}

fn listed(
    ReadList(view, listing): ReadList,
    owners: &[TokenOwner],
    wanted: impl Fn(&Token) -> bool,
) -> Reply<Page> {
    let mut tokens = vec![];
    for owner in owners {
        tokens.extend(access::tokens(&view, owner)?);
    }
    let items = tokens.iter().filter(|token| wanted(token)).map(|token| ApiKey::new(token, None)).collect();
    listing.page(view.revision(), items, &["created_at", "id"])
}

/// Lists the caller's keys and sessions, and for an administrator those of the founders as well.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "list_tokens", params(Reading, Paging),
    responses((status = 200, body = List<ApiKey>, description = "All of them, without their secrets"), Refused))]
async fn list(Extension(caller): Extension<Caller>, reading: ReadList) -> Reply<Page> {
    let founders = Some(ActsAs::Cluster).filter(|founders| *founders != caller.acts_as);
    let owners = founders.iter().chain([&caller.acts_as]).map(TokenOwner::from).collect::<Vec<_>>();
    listed(reading, &owners, may_end(&caller))
}

/// Makes a key that may what the caller may.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "create_token", params(Changing, Keyed),
    request_body = ApiKeyWish,
    responses(
    (status = 201, body = ApiKey, description = "Made; the key is shown this once"),
    (status = 200, body = ApiKey, description = "Dry run: what would be made, without the key"),
    Refused,
))]
async fn create(State(api): State<Api>, Asked { change, wish }: Asked<ApiKeyWish>) -> Reply<Response> {
    let caller = change.caller();
    if matches!(caller.acts_as, ActsAs::Environment { .. }) {
        return Err(Problem::new(Code::Forbidden, "a key of an environment cannot make keys like itself")
            .hinting(
                "whoever may manage the environment's keys makes them: skep token create -e NAME --role ROLE",
            ));
    }
    let wish = api.new_token(caller.acts_as.clone(), TokenKind::Key, wish.name, wish.ttl_seconds);
    api.make(&change, |_| Ok(wish.clone())).await
}

/// Makes one of the caller's keys or sessions worthless; an administrator may do so with those of the founders.
#[utoipa::path(delete, path = "/v1/tokens/{token}", operation_id = "revoke_token",
    params(Changing, Keyed, ("token" = String, Path, description = "Its id; `current`: the one of this request")),
    responses((status = 200, body = ApiKey, description = "Revoked; as it was"), Refused))]
async fn revoke(State(api): State<Api>, Place(id): Place<Reference>, change: Change) -> Reply<Response> {
    let caller = change.caller();
    let id = if &*id == "current" { caller.token.as_str() } else { &id };
    let rule = |tx: &mut Tx<'_>| access::revoke_token(tx, id, may_end(caller));
    api.done(&change, rule, |token, _| (StatusCode::OK, ApiKey::new(token, None))).await
}

/// Gives one of the caller's keys another secret; the one before is worthless from now on.
#[utoipa::path(post, path = "/v1/tokens/{token}/actions/rotate", operation_id = "rotate_token",
    params(Changing, Keyed, ("token" = String, Path, description = "Its id")),
    responses((status = 200, body = ApiKey, description = "Rotated; the key is shown this once"), Refused))]
async fn rotate(State(api): State<Api>, Place(id): Place<Reference>, change: Change) -> Reply<Response> {
    let wanted = is_own(change.caller());
    api.turn(&change, &id, wanted).await
}

/// Lists the keys of an environment.
#[utoipa::path(get, path = "/v1/environments/{environment}/tokens", operation_id = "list_environment_tokens",
    params(Reading, Paging, Within),
    responses((status = 200, body = List<ApiKey>, description = "All of them, without their secrets"), Refused))]
async fn list_of_environment(Place(reference): Place<Reference>, reading: ReadList) -> Reply<Page> {
    let environment = environment::find(&reading.0, &reference)?;
    listed(reading, &[TokenOwner::from(&environment.id)], |_| true)
}

/// Makes a key of an environment. It stays when whoever made it goes.
#[utoipa::path(post, path = "/v1/environments/{environment}/tokens", operation_id = "create_environment_token",
    params(Changing, Keyed, Within), request_body = EnvironmentKeyWish,
    responses(
    (status = 201, body = ApiKey, description = "Made; the key is shown this once"),
    (status = 200, body = ApiKey, description = "Dry run: what would be made, without the key"),
    Refused,
))]
async fn create_for_environment(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    Asked { change, wish }: Asked<EnvironmentKeyWish>,
) -> Reply<Response> {
    let role = Name::parse("a role", &wish.role)?;
    let minted = api.new_token(ActsAs::Cluster, TokenKind::Key, wish.name, wish.ttl_seconds);
    api.make(&change, |tx| {
        let id = environment::usable(tx, &reference)?.id;
        Ok(TokenWish { acts_as: ActsAs::Environment { id, role: role.clone() }, ..minted.clone() })
    })
    .await
}

/// Makes a key of an environment worthless.
#[utoipa::path(delete, path = "/v1/environments/{environment}/tokens/{token}",
    operation_id = "revoke_environment_token",
    params(Changing, Keyed, Within, ("token" = String, Path, description = "Its id")),
    responses((status = 200, body = ApiKey, description = "Revoked; as it was"), Refused))]
async fn revoke_of_environment(
    State(api): State<Api>,
    Place((reference, id)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| {
        let environment = environment::named(tx, &reference)?;
        access::revoke_token(tx, &id, is_of(&environment.id))
    };
    api.done(&change, rule, |token, _| (StatusCode::OK, ApiKey::new(token, None))).await
}

/// Gives a key of an environment another secret; the one before is worthless from now on.
#[utoipa::path(post, path = "/v1/environments/{environment}/tokens/{token}/actions/rotate",
    operation_id = "rotate_environment_token",
    params(Changing, Keyed, Within, ("token" = String, Path, description = "Its id")),
    responses((status = 200, body = ApiKey, description = "Rotated; the key is shown this once"), Refused))]
async fn rotate_of_environment(
    State(api): State<Api>,
    Place((reference, id)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let environment = environment::find(&api.ledger().fresh_view().await?, &reference)?;
    api.turn(&change, &id, is_of(&environment.id)).await
}
