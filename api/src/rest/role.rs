//! Roles: sets of permissions with a name.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use skep_ledger::{Revision, Tx};
use skep_model::access::{self, RoleWish};
use skep_model::{CLUSTER, Refusal};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::change::{Asked, Change, Changing, Keyed};
use crate::dress::One;
use crate::extract::{Place, Read, Reading, Reference};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Refused, Reply};
use crate::rest::{List, Metadata};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, set, remove))
}

/// A set of permissions.
#[derive(Debug, Serialize, ToSchema)]
struct Role {
    #[schema(example = "Role")]
    kind: &'static str,
    metadata: Metadata,
    spec: RoleSpec,
    status: RoleStatus,
}

/// What it allows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RoleSpec {
    /// One line for people who choose.
    #[serde(default)]
    description: String,
    /// `VERB:TYPE` each.
    #[schema(example = json!(["view:environment", "view:host", "manage:host"]))]
    permissions: Vec<String>,
}

/// Where it comes from.
#[derive(Debug, Serialize, ToSchema)]
struct RoleStatus {
    /// Comes with Skep, and cannot be changed?
    built_in: bool,
}

/// What a role is to allow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RoleSetting {
    spec: RoleSpec,
}

impl Role {
    fn new(role: &access::Role, revision: Revision) -> Role {
        Role {
            kind: "Role",
            metadata: Metadata {
                // Roles are known by their names only.
                id: role.name.to_string(),
                name: role.name.to_string(),
                env: None,
                revision,
                created_at: role.created_at,
                updated_at: role.created_at,
            },
            spec: RoleSpec {
                description: role.description.clone(),
                permissions: role.permissions.iter().cloned().collect(),
            },
            status: RoleStatus { built_in: role.is_built_in() },
        }
    }
}

/// Lists the roles: the built-in ones first, from the least to the most powerful.
#[utoipa::path(get, path = "/v1/roles", operation_id = "list_roles", params(Reading, Paging),
    responses((status = 200, body = List<Role>, description = "All of them"), Refused))]
async fn list(ReadList(view, listing): ReadList) -> Reply<Page> {
    let items: Vec<_> =
        access::roles(&view)?.iter().map(|(role, revision)| Role::new(role, *revision)).collect();
    listing.page(view.revision(), items, &["name"])
}

/// Shows a role.
#[utoipa::path(get, path = "/v1/roles/{role}", operation_id = "show_role",
    params(Reading, ("role" = String, Path, description = "Its name")),
    responses((status = 200, body = Role, description = "As it is"), Refused))]
async fn show(Place(name): Place<Reference>, Read(view): Read) -> Reply<One<Role>> {
    let (role, revision) = access::find_role(&view, &name)?;
    Ok(One(view.revision(), revision, Role::new(&role, revision)))
}

/// Makes a role, or changes what one allows: whoever has it may that from then on.
///
/// To change one, its `ETag` has to be sent as `If-Match`.
#[utoipa::path(put, path = "/v1/roles/{role}", operation_id = "set_role",
    params(Changing, Keyed, ("role" = String, Path, description = "Its name")), request_body = RoleSetting,
    responses((status = 200, body = Role, description = "As it is now"), Refused))]
async fn set(
    State(api): State<Api>,
    Place(name): Place<Reference>,
    Asked { change, wish }: Asked<RoleSetting>,
) -> Reply<Response> {
    let RoleSpec { description, permissions } = wish.spec;
    let wish = RoleWish { name: name.to_string(), description, permissions };
    let rule = |tx: &mut Tx<'_>| {
        let known = tx.get::<access::Role>(CLUSTER, &wish.name)?.is_some();
        if known && !change.has_precondition() {
            return Err(Refusal::PreconditionRequired { what: "role", name: wish.name.clone() });
        }
        access::set_role(tx, change.caller(), &wish)
    };
    api.done(&change, rule, |role, revision| (StatusCode::OK, Role::new(role, revision))).await
}

/// Removes a role that nobody has any more.
#[utoipa::path(delete, path = "/v1/roles/{role}", operation_id = "remove_role",
    params(Changing, Keyed, ("role" = String, Path, description = "Its name")),
    responses((status = 200, body = Role, description = "Removed; as it was"), Refused))]
async fn remove(State(api): State<Api>, Place(name): Place<Reference>, change: Change) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| access::remove_role(tx, &name);
    api.done(&change, rule, |role, revision| (StatusCode::OK, Role::new(role, revision))).await
}
