//! Users: people with an account.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Revision, Tx};
use skep_model::access::{self, LOCAL, Permission, Scope, UserWish};
use skep_model::ids::UserId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Change, Changing, Keyed};
use crate::dress::One;
use crate::extract::{Place, Read, Reading, Reference};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::provider::password_hash;
use crate::rest::{List, Metadata};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, remove))
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(set_password))
}

/// A person with an account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    #[schema(example = "User")]
    kind: &'static str,
    metadata: Metadata,
    spec: UserSpec,
    status: UserStatus,
}

/// What was wished.
#[derive(Debug, Serialize, ToSchema)]
struct UserSpec {
    /// The groups that it belongs to.
    groups: Vec<String>,
}

/// Where it stands.
#[derive(Debug, Serialize, ToSchema)]
struct UserStatus {
    /// `active` or `disabled`.
    state: &'static str,
    /// Who says that it is them.
    #[schema(example = "local")]
    provider: String,
    /// Since when it may not come in.
    disabled_at: Option<Timestamp>,
    /// Who has made it.
    created_by: String,
}

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserCreation {
    /// Unique in the cluster.
    name: String,
    /// At least ten characters.
    password: String,
    /// May it do everything, everywhere?
    #[serde(default)]
    admin: bool,
}

/// Another password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordWish {
    /// The one to have from now on: at least ten characters.
    password: String,
    /// The one of before; needed by whoever changes their own.
    #[serde(default)]
    current: Option<String>,
}

impl User {
    pub(crate) fn new(user: &access::User, revision: Revision) -> User {
        User {
            kind: "User",
            metadata: Metadata {
                id: user.id.to_string(),
                name: user.name.to_string(),
                env: None,
                revision,
                created_at: Some(user.created_at),
                updated_at: Some(user.disabled_at.unwrap_or(user.created_at)),
            },
            spec: UserSpec { groups: user.groups.iter().map(ToString::to_string).collect() },
            status: UserStatus {
                state: if user.disabled_at.is_some() { "disabled" } else { "active" },
                provider: user.provider.clone(),
                disabled_at: user.disabled_at,
                created_by: user.created_by.clone(),
            },
        }
    }
}

/// Lists the users.
#[utoipa::path(get, path = "/v1/users", operation_id = "list_users", params(Reading, Paging),
    responses((status = 200, body = List<User>, description = "All of them"), Refused))]
async fn list(ReadList(view, listing): ReadList) -> Reply<Page> {
    let users = access::users(&view)?;
    let items: Vec<_> = users.iter().map(|user| User::new(user, user.revision)).collect();
    listing.page(view.revision(), items, &["name"])
}

/// Shows a user.
#[utoipa::path(get, path = "/v1/users/{user}", operation_id = "show_user",
    params(Reading, ("user" = String, Path, description = "Its name")),
    responses((status = 200, body = User, description = "As it is"), Refused))]
async fn show(Place(name): Place<Reference>, Read(view): Read) -> Reply<One<User>> {
    let user = access::find_user(&view, &name)?;
    Ok(One(view.revision(), user.revision, User::new(&user, user.revision)))
}

/// Makes a user, who may make environments, and nothing else until somebody gives it a role.
#[utoipa::path(post, path = "/v1/users", operation_id = "create_user", params(Changing, Keyed),
    request_body = UserCreation,
    responses(
    (status = 201, body = User, description = "Made"),
    (status = 200, body = User, description = "Dry run: as it would be"),
    Refused,
))]
async fn create(State(api): State<Api>, Asked { change, wish }: Asked<UserCreation>) -> Reply<Response> {
    let change = change.concealed(&api.parts.sealing);
    let minted = UserWish {
        id: UserId::new(Uuid::now_v7()),
        password: password_hash(&wish.password).await?,
        name: wish.name,
        admin: wish.admin,
    };
    let rule = |tx: &mut Tx<'_>| access::create_user(tx, change.caller(), &minted);
    api.done(&change, rule, |user, revision| (StatusCode::CREATED, User::new(user, revision))).await
}

/// Removes a user, with its keys and roles. What it has made stays.
#[utoipa::path(delete, path = "/v1/users/{user}", operation_id = "remove_user",
    params(Changing, Keyed, ("user" = String, Path, description = "Its name")),
    responses((status = 200, body = User, description = "Removed; as it was"), Refused))]
async fn remove(State(api): State<Api>, Place(name): Place<Reference>, change: Change) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| access::remove_user(tx, change.caller(), &name);
    api.done(&change, rule, |user, revision| (StatusCode::OK, User::new(user, revision))).await
}

/// Keeps a user out, with its keys, until it is enabled again.
#[utoipa::path(post, path = "/v1/users/{user}/actions/disable", operation_id = "disable_user",
    params(Changing, Keyed, ("user" = String, Path, description = "Its name")),
    responses((status = 200, body = User, description = "Disabled"), Refused))]
async fn disable(State(api): State<Api>, Place(name): Place<Reference>, change: Change) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| access::disable_user(tx, change.caller(), &name);
    api.done(&change, rule, |user, revision| (StatusCode::OK, User::new(user, revision))).await
}

/// Lets a user come in again.
#[utoipa::path(post, path = "/v1/users/{user}/actions/enable", operation_id = "enable_user",
    params(Changing, Keyed, ("user" = String, Path, description = "Its name")),
    responses((status = 200, body = User, description = "Enabled"), Refused))]
async fn enable(State(api): State<Api>, Place(name): Place<Reference>, change: Change) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| access::enable_user(tx, change.caller(), &name);
    api.done(&change, rule, |user, revision| (StatusCode::OK, User::new(user, revision))).await
}

/// Gives a user another password. Sessions with the one before end; keys stay.
///
/// Users change their own with the one of before; whoever may manage users changes that of others.
#[utoipa::path(put, path = "/v1/users/{user}/password", operation_id = "set_password",
    params(Changing, Keyed, ("user" = String, Path, description = "Its name")), request_body = PasswordWish,
    responses((status = 200, body = User, description = "Changed"), Refused))]
async fn set_password(
    State(api): State<Api>,
    Place(name): Place<Reference>,
    Asked { change, wish }: Asked<PasswordWish>,
) -> Reply<Response> {
    let change = change.concealed(&api.parts.sealing);
    let caller = change.caller();
    if caller.user().is_some_and(|own| own.as_str() == &*name) {
        let current = wish.current.as_deref().unwrap_or_default();
        api.sign_in(LOCAL, &name, current, change.from()).await?;
    } else if !caller.grants.has(Permission::ManageUser, &Scope::Cluster) {
        let detail = format!("{} is not allowed to {}", caller.principal, Permission::ManageUser.as_str());
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let hash = password_hash(&wish.password).await?;
    let rule = |tx: &mut Tx<'_>| access::set_password(tx, change.caller(), &name, &hash);
    api.done(&change, rule, |user, revision| (StatusCode::OK, User::new(user, revision))).await
}
