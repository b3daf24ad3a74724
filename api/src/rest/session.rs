//! Signing in with a name and a password, who can say whether they are right, and the sessions that come of it.
//!
//! Programs get the session's token and send it in a header. Browsers get it in a cookie that no script can read; see
//! [`cookie`](crate::cookie).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use skep_ledger::{Request, Tx, transact};
use skep_model::Refusal;
use skep_model::access::{self, ActsAs, Caller, LOCAL, SetupState, Token, TokenKind, TokenOwner};
use skep_model::name::Name;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::attempts::Door;
use crate::audit::Trail;
use crate::change::{Change, Changing, Keyed, Question};
use crate::dress::At;
use crate::extract::{Params, Place, Read, Reading, Reference};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::provider::PROVIDERS;
use crate::rest::List;
use crate::rest::token::{ApiKey, is_own};
use crate::{Api, cookie};

/// How long a session is valid: a working day.
pub(crate) const SESSION_SECONDS: u32 = 12 * 3_600;

/// What is kept of a name that somebody has tried.
const NAME_SHOWN_MAX: usize = 63;

/// Where a request comes from, as far as the manager can tell.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(providers))
        .routes(routes!(sign_in, list))
        .routes(routes!(show, sign_out))
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
    /// Keep the session in a cookie instead of showing its token: for browsers.
    #[serde(default)]
    cookie: bool,
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
    /// Nobody can sign in yet: the cluster waits for its first administrator, who comes in with the setup code.
    setup: bool,
}

/// Somebody who has signed in.
#[derive(Debug, Serialize, ToSchema)]
struct Session {
    #[serde(flatten)]
    key: ApiKey,
    /// What a browser sends as `X-Skep-CSRF` with every request that changes something; only of the session that asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf: Option<String>,
}

/// Lists with whom one can sign in, and says whether the first administrator is still to come.
#[utoipa::path(get, path = "/v1/auth-providers", operation_id = "list_auth_providers", params(Reading),
    responses((status = 200, body = AuthProviders, description = "All of them"), Refused))]
async fn providers(State(api): State<Api>, _reading: Params<Reading>) -> Reply<Json<AuthProviders>> {
    let shown = |provider: &&dyn crate::provider::Provider| AuthProvider {
        name: provider.name(),
        about: provider.about(),
    };
    let mut state = access::setup_state(&api.ledger().view())?;
    // It may have been done elsewhere a moment ago; what is done here stays so.
    if state != SetupState::Done
        && let Ok(fresh) = api.ledger().fresh_view().await
    {
        state = access::setup_state(&fresh)?;
    }
    let items = PROVIDERS.iter().map(shown).collect();
    Ok(Json(AuthProviders { items, setup: state != SetupState::Done }))
}

/// Signs in. The session is a token like an API key; it ends after twelve hours, or when it is revoked.
///
/// With `cookie` the token is kept in the cookie `__Host-skep` and not shown.
#[utoipa::path(post, path = "/v1/sessions", operation_id = "sign_in", request_body = Credentials,
    responses((status = 201, body = Session, description = "Signed in; the token is shown this once"), Refused))]
async fn sign_in(
    State(api): State<Api>,
    address: Option<Extension<ClientAddress>>,
    trail: Option<Extension<Arc<Trail>>>,
    Question(credentials): Question<Credentials>,
) -> Reply<Response> {
    let from = address.map(|Extension(ClientAddress(address))| address);
    let Credentials { user, password, provider, cookie } = credentials;
    if let Some(Extension(trail)) = &trail {
        trail.is_about(about_user(&user));
    }
    let user = api.sign_in(&provider, &user, &password, from).await?;
    let name = from.map(|from| format!("from {from}")).unwrap_or_default();
    let wish = api.new_token(ActsAs::User(user.clone()), TokenKind::Session, name, Some(SESSION_SECONDS));
    let by = Caller { acts_as: ActsAs::User(user.clone()), ..Caller::administrator(user.as_str()) };
    let committed = transact(api.ledger(), Request::new(), |tx| access::create_token(tx, &by, &wish)).await?;
    let token = &committed.answer;
    let text = api.token_text(&token.id, token.generation);
    let kept = cookie.then(|| cookie::set(&text, SESSION_SECONDS)).flatten();
    let document = match kept {
        Some(_) => Session { key: ApiKey::new(token, None), csrf: Some(cookie::csrf(&text)) },
        None => Session { key: ApiKey::new(token, Some(text)), csrf: None },
    };
    let mut response = At(committed.revision, (StatusCode::CREATED, Json(document))).into_response();
    response.headers_mut().extend(kept.map(|kept| (header::SET_COOKIE, kept)));
    Ok(response)
}

/// Lists the caller's sessions.
#[utoipa::path(get, path = "/v1/sessions", operation_id = "list_sessions", params(Reading, Paging),
    responses((status = 200, body = List<ApiKey>, description = "All of them, without their secrets"), Refused))]
async fn list(Extension(caller): Extension<Caller>, ReadList(view, listing): ReadList) -> Reply<Page> {
    let (tokens, wanted) =
        (access::tokens(&view, &TokenOwner::from(&caller.acts_as))?, is_own_session(&caller));
    let items = tokens.iter().filter(|token| wanted(token)).map(|token| ApiKey::new(token, None)).collect();
    listing.page(view.revision(), items, &["created_at", "id"])
}

/// Shows one of the caller's sessions; the one that asks with what a browser needs to change anything.
#[utoipa::path(get, path = "/v1/sessions/{session}", operation_id = "show_session",
    params(Reading, ("session" = String, Path, description = "Its id; `current`: the one of this request")),
    responses((status = 200, body = Session, description = "As it is"), Refused))]
async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Place(id): Place<Reference>,
    Read(view): Read,
) -> Reply<At<Json<Session>>> {
    let session = access::find_token(&view, named(&id, &caller), is_own_session(&caller));
    let session = session.map_err(|refusal| no_session(refusal, &id))?;
    let csrf = || cookie::csrf(&api.token_text(&session.id, session.generation));
    let csrf = (session.id == caller.token).then(csrf);
    Ok(At(view.revision(), Json(Session { key: ApiKey::new(&session, None), csrf })))
}

/// Ends one of the caller's sessions; `current` signs out, and lets a browser forget its cookie.
#[utoipa::path(delete, path = "/v1/sessions/{session}", operation_id = "sign_out",
    params(Changing, Keyed, ("session" = String, Path, description = "Its id; `current`: the one of this request")),
    responses((status = 200, body = ApiKey, description = "Ended; as it was"), Refused))]
async fn sign_out(State(api): State<Api>, Place(id): Place<Reference>, change: Change) -> Reply<Response> {
    let caller = change.caller();
    let session = named(&id, caller);
    let rule = |tx: &mut Tx<'_>| {
        access::revoke_token(tx, session, is_own_session(caller)).map_err(|refusal| no_session(refusal, &id))
    };
    let mut response = api.done(&change, rule, |token, _| (StatusCode::OK, ApiKey::new(token, None))).await?;
    if session == caller.token && !change.is_dry_run() {
        response.headers_mut().extend(cookie::set("", 0).map(|gone| (header::SET_COOKIE, gone)));
    }
    Ok(response)
}

/// A user as the audit names one, whether or not there is one.
pub(crate) fn about_user(name: &str) -> String {
    format!("user/{}", name.chars().take(NAME_SHOWN_MAX).collect::<String>().escape_debug())
}

fn named<'a>(id: &'a str, caller: &'a Caller) -> &'a str {
    if id == "current" { &caller.token } else { id }
}

fn is_own_session(caller: &Caller) -> impl Fn(&Token) -> bool + use<> {
    let is_own = is_own(caller);
    move |token| token.kind == TokenKind::Session && is_own(token)
}

/// The same as for a key, with the right word.
fn no_session(refusal: Refusal, id: &str) -> Refusal {
    match refusal {
        Refusal::NotFound { .. } => Refusal::NotFound { what: "session", name: id.to_owned(), scope: None },
        refusal => refusal,
    }
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
            Problem::new(Code::InvalidBody, format!("there is no provider '{}'", provider.escape_debug()))
                .hinting(format!("the providers are: {}", names.join(", ")))
        })?;
        let (door, now) = (Door::Account(name.to_owned()), self.ledger().now());
        self.attempts.may_try(&door, from, now)?;
        match known.user(self, name, password).await? {
            Some(user) => Ok(user),
            None => {
                self.attempts.failed(&door, from, now);
                Err(Problem::new(Code::LoginFailed, "the name or the password is wrong"))
            }
        }
    }
}
