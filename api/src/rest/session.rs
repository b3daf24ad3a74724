//! Signing in with a name and a password, and who can say whether they are right.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use skep_ledger::{Request, transact};
use skep_model::access::{self, ActsAs, Caller, LOCAL, TokenKind};
use skep_model::name::Name;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::audit::Trail;
use crate::change::Question;
use crate::dress::At;
use crate::extract::{Params, Reading};
use crate::problem::{DoorCode, Problem, Refused, Reply};
use crate::provider::PROVIDERS;
use crate::rest::token::ApiKey;

/// How long a session is valid: a working day.
const SESSION_SECONDS: u32 = 12 * 3_600;

/// What is kept of a name that somebody has tried.
const NAME_SHOWN_MAX: usize = 63;

/// Where a request comes from, as far as the manager can tell.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(providers)).routes(routes!(sign_in))
}

/// Somebody who says that they are somebody.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Credentials {
    /// The user's name.
    user: String,
    /// The user's password.
    password: String,
    /// Who is to say whether they are right.
    #[serde(default = "local")]
    #[schema(example = "local")]
    provider: String,
}

fn local() -> String {
    LOCAL.into()
}

/// Somebody who can say whether a name and a password belong together.
#[derive(Debug, Serialize, ToSchema)]
struct AuthProvider {
    /// Its name.
    name: &'static str,
    /// One sentence about it.
    about: &'static str,
}

/// All who can be signed in with.
#[derive(Debug, Serialize, ToSchema)]
struct AuthProviders {
    /// In the order in which a login page shows them.
    items: Vec<AuthProvider>,
}

/// Lists with whom one can sign in.
#[utoipa::path(get, path = "/v1/auth-providers", operation_id = "list_auth_providers", params(Reading),
    responses((status = 200, body = AuthProviders, description = "All of them"), Refused))]
async fn providers(_reading: Params<Reading>) -> Json<AuthProviders> {
    let shown = |provider: &&dyn crate::provider::Provider| AuthProvider {
        name: provider.name(),
        about: provider.about(),
    };
    Json(AuthProviders { items: PROVIDERS.iter().map(shown).collect() })
}

/// Signs in. The session is a token like an API key; it ends after twelve hours, or when it is revoked.
#[utoipa::path(post, path = "/v1/sessions", operation_id = "sign_in", request_body = Credentials,
    responses((status = 201, body = ApiKey, description = "Signed in; the token is shown this once"), Refused))]
async fn sign_in(
    State(api): State<Api>,
    address: Option<Extension<ClientAddress>>,
    trail: Option<Extension<Arc<Trail>>>,
    Question(credentials): Question<Credentials>,
) -> Reply<Response> {
    let from = address.map(|Extension(ClientAddress(address))| address);
    let Credentials { user, password, provider } = credentials;
    if let Some(Extension(trail)) = &trail {
        trail.is_about(format!(
            "user/{}",
            user.chars().take(NAME_SHOWN_MAX).collect::<String>().escape_debug()
        ));
    }
    let user = api.sign_in(&provider, &user, &password, from).await?;
    let wish =
        api.new_token(ActsAs::User(user.clone()), TokenKind::Session, String::new(), Some(SESSION_SECONDS));
    let by = Caller { acts_as: ActsAs::User(user.clone()), ..Caller::administrator(user.as_str()) };
    let committed = transact(api.ledger(), Request::new(), |tx| access::create_token(tx, &by, &wish)).await?;
    let token = &committed.answer;
    let document = ApiKey::new(token, Some(api.token_text(&token.id, token.generation)));
    Ok(At(committed.revision, (StatusCode::CREATED, Json(document))).into_response())
}

impl Api {
    /// The user who has this name and this password. What of it is wrong is not told.
    pub(crate) async fn sign_in(
        &self,
        provider: &str,
        name: &str,
        password: &str,
        from: Option<IpAddr>,
    ) -> Reply<Name> {
        let known = PROVIDERS.iter().find(|known| known.name() == provider).ok_or_else(|| {
            let names: Vec<_> = PROVIDERS.iter().map(|known| known.name()).collect();
            Problem::new(DoorCode::InvalidBody, format!("there is no provider '{}'", provider.escape_debug()))
                .hinting(format!("the providers are: {}", names.join(", ")))
        })?;
        let now = self.ledger().now();
        self.attempts.may_try(name, from, now)?;
        match known.user(self, name, password).await? {
            Some(user) => Ok(user),
            None => {
                self.attempts.failed(name, from, now);
                Err(Problem::new(DoorCode::LoginFailed, "the name or the password is wrong"))
            }
        }
    }
}
