//! Groups: users who have roles together.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use skep_ledger::{Revision, Tx, View};
use skep_model::Ruling;
use skep_model::access::{self, find_group};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::change::{Asked, Change, Changing, Keyed};
use crate::dress::One;
use crate::extract::{Place, Read, Reading, Reference};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Refused, Reply};
use crate::rest::user::User;
use crate::rest::{List, Metadata};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, remove))
        .routes(routes!(add_member, remove_member))
}

/// Users who have roles together.
#[derive(Debug, Serialize, ToSchema)]
struct Group {
    #[schema(example = "Group")]
    kind: &'static str,
    metadata: Metadata,
    spec: GroupSpec,
}

/// What was wished.
#[derive(Debug, Serialize, ToSchema)]
struct GroupSpec {
    /// One line about it.
    description: String,
    /// The users in it.
    members: Vec<String>,
}

/// A new group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct GroupWish {
    /// Unique in the cluster.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    name: String,
    /// One line about it.
    #[serde(default)]
    description: String,
}

impl Group {
    fn new(group: &access::Group, revision: Revision, members: Vec<String>) -> Group {
        Group {
            kind: "Group",
            metadata: Metadata {
                // Groups are known by their names only.
                id: group.name.to_string(),
                name: group.name.to_string(),
                env: None,
                revision,
                created_at: Some(group.created_at),
                updated_at: Some(group.created_at),
            },
            spec: GroupSpec { description: group.description.clone(), members },
        }
    }
}

fn members(view: &View, group: &access::Group) -> Ruling<Vec<String>> {
    let users = access::users(view)?.into_iter().filter(|user| user.groups.contains(&group.name));
    Ok(users.map(|user| user.name.to_string()).collect())
}

/// Lists the groups.
#[utoipa::path(get, path = "/v1/groups", operation_id = "list_groups", params(Reading, Paging),
    responses((status = 200, body = List<Group>, description = "All of them"), Refused))]
async fn list(ReadList(view, listing): ReadList) -> Reply<Page> {
    let users = access::users(&view)?;
    let shown = |group: &skep_ledger::Stored<access::Group>| {
        let members = users.iter().filter(|user| user.groups.contains(&group.name));
        Group::new(group, group.revision, members.map(|user| user.name.to_string()).collect())
    };
    let items: Vec<_> = access::groups(&view)?.iter().map(shown).collect();
    listing.page(view.revision(), items, &["name"])
}

/// Shows a group.
#[utoipa::path(get, path = "/v1/groups/{group}", operation_id = "show_group",
    params(Reading, ("group" = String, Path, description = "Its name")),
    responses((status = 200, body = Group, description = "As it is"), Refused))]
async fn show(Place(name): Place<Reference>, Read(view): Read) -> Reply<One<Group>> {
    let group = find_group(&view, &name)?;
    Ok(One(view.revision(), group.revision, Group::new(&group, group.revision, members(&view, &group)?)))
}

/// Makes a group with nobody in it.
#[utoipa::path(post, path = "/v1/groups", operation_id = "create_group", params(Changing, Keyed),
    request_body = GroupWish,
    responses(
    (status = 201, body = Group, description = "Made"),
    (status = 200, body = Group, description = "Dry run: as it would be"),
    Refused,
))]
async fn create(State(api): State<Api>, Asked { change, wish }: Asked<GroupWish>) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| access::create_group(tx, change.caller(), &wish.name, &wish.description);
    api.done(&change, rule, |group, revision| (StatusCode::CREATED, Group::new(group, revision, vec![])))
        .await
}

/// Removes a group; its members lose what they had through it.
#[utoipa::path(delete, path = "/v1/groups/{group}", operation_id = "remove_group",
    params(Changing, Keyed, ("group" = String, Path, description = "Its name")),
    responses((status = 200, body = Group, description = "Removed; as it was"), Refused))]
async fn remove(State(api): State<Api>, Place(name): Place<Reference>, change: Change) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| access::remove_group(tx, change.caller(), &name);
    api.done(&change, rule, |group, revision| (StatusCode::OK, Group::new(group, revision, vec![]))).await
}

/// Takes a user into a group. Repeating it changes nothing.
#[utoipa::path(put, path = "/v1/groups/{group}/members/{user}", operation_id = "add_group_member",
    params(Changing, Keyed,
        ("group" = String, Path, description = "Its name"), ("user" = String, Path, description = "Who")),
    responses((status = 200, body = User, description = "The user is in the group"), Refused))]
async fn add_member(
    State(api): State<Api>,
    Place((name, user)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| access::add_member(tx, change.caller(), &name, &user);
    api.done(&change, rule, |user, revision| (StatusCode::OK, User::new(user, revision))).await
}

/// Takes a user out of a group.
#[utoipa::path(delete, path = "/v1/groups/{group}/members/{user}", operation_id = "remove_group_member",
    params(Changing, Keyed,
        ("group" = String, Path, description = "Its name"), ("user" = String, Path, description = "Who")),
    responses((status = 200, body = User, description = "The user is not in the group any more"), Refused))]
async fn remove_member(
    State(api): State<Api>,
    Place((name, user)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| access::remove_member(tx, change.caller(), &name, &user);
    api.done(&change, rule, |user, revision| (StatusCode::OK, User::new(user, revision))).await
}
