//! Who has which role: in an environment its members, in the cluster its role bindings.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::Tx;
use skep_model::access::{self, Binding, Scope, Subject};
use skep_model::{Ruling, environment};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::change::{Asked, Change, Changing, Keyed};
use crate::extract::{Place, Reading, Reference, Within};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Refused, Reply};
use crate::rest::List;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(set, remove))
        .routes(routes!(list_in_cluster))
        .routes(routes!(set_in_cluster, remove_in_cluster))
}

/// A role that somebody has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RoleBinding)]
struct Member {
    /// `user/NAME` or `group/NAME`.
    #[schema(example = "user/ann")]
    member: String,
    /// The role's name.
    #[schema(example = "member")]
    role: String,
    /// Who said so.
    created_by: String,
    /// When.
    created_at: Timestamp,
}

/// Which role somebody is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberWish {
    /// The role's name.
    #[schema(value_type = String)]
    role: Reference,
}

/// Where in a path somebody stands.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes parts of the path; they are read as a `Place`")]
struct Who {
    /// `user` or `group`
    #[param(pattern = "^(user|group)$")]
    kind: String,
    /// The name
    member: String,
}

impl From<&Binding> for Member {
    fn from(binding: &Binding) -> Member {
        Member {
            member: binding.subject.to_string(),
            role: binding.role.to_string(),
            created_by: binding.created_by.clone(),
            created_at: binding.created_at,
        }
    }
}

fn listed(ReadList(view, listing): ReadList, scope: &Scope) -> Reply<Page> {
    let members = access::members(&view, scope)?;
    let items = members.iter().map(|binding| Member::from(&binding.record)).collect();
    listing.page(view.revision(), items, &["member"])
}

fn within(tx: &mut Tx<'_>, reference: &str) -> Ruling<Scope> {
    Ok(Scope::from(&environment::named(tx, reference)?))
}

/// Lists who has which role in an environment. Administrators may do everything and are not listed.
#[utoipa::path(get, path = "/v1/environments/{environment}/members", operation_id = "list_environment_members",
    params(Reading, Paging, Within),
    responses((status = 200, body = List<Member>, description = "All of them"), Refused))]
async fn list(Place(reference): Place<Reference>, reading: ReadList) -> Reply<Page> {
    let environment = environment::find(&reading.0, &reference)?;
    listed(reading, &Scope::from(&environment.record))
}

/// Gives somebody a role in an environment, in place of the one that they have had.
///
/// Nobody gives or takes a role that allows more than they may do themselves.
#[utoipa::path(put, path = "/v1/environments/{environment}/members/{kind}/{member}", operation_id = "set_environment_member",
    params(Changing, Keyed, Within, Who), request_body = MemberWish,
    responses((status = 200, body = Member, description = "As it is now"), Refused))]
async fn set(
    State(api): State<Api>,
    Place((reference, kind, name)): Place<(Reference, Reference, Reference)>,
    Asked { change, wish }: Asked<MemberWish>,
) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| {
        let scope = within(tx, &reference)?;
        access::bind(tx, change.caller(), &scope, &Subject::parse(&kind, &name)?, &wish.role)
    };
    api.done(&change, rule, |binding, _| (StatusCode::OK, Member::from(binding))).await
}

/// Takes somebody's role in an environment away.
#[utoipa::path(delete, path = "/v1/environments/{environment}/members/{kind}/{member}",
    operation_id = "remove_environment_member", params(Changing, Keyed, Within, Who),
    responses((status = 200, body = Member, description = "Taken away; as it was"), Refused))]
async fn remove(
    State(api): State<Api>,
    Place((reference, kind, name)): Place<(Reference, Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| {
        let scope = within(tx, &reference)?;
        access::unbind(tx, change.caller(), &scope, &Subject::parse(&kind, &name)?)
    };
    api.done(&change, rule, |binding, _| (StatusCode::OK, Member::from(binding))).await
}

/// Lists who has which role in the whole cluster.
#[utoipa::path(get, path = "/v1/role-bindings", operation_id = "list_role_bindings",
    params(Reading, Paging),
    responses((status = 200, body = List<Member>, description = "All of them"), Refused))]
async fn list_in_cluster(reading: ReadList) -> Reply<Page> {
    listed(reading, &Scope::Cluster)
}

/// Gives somebody a role in the whole cluster: it counts in every environment, also in those that will be.
#[utoipa::path(put, path = "/v1/role-bindings/{kind}/{member}", operation_id = "set_role_binding",
    params(Changing, Keyed, Who), request_body = MemberWish,
    responses((status = 200, body = Member, description = "As it is now"), Refused))]
async fn set_in_cluster(
    State(api): State<Api>,
    Place((kind, name)): Place<(Reference, Reference)>,
    Asked { change, wish }: Asked<MemberWish>,
) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| {
        access::bind(tx, change.caller(), &Scope::Cluster, &Subject::parse(&kind, &name)?, &wish.role)
    };
    api.done(&change, rule, |binding, _| (StatusCode::OK, Member::from(binding))).await
}

/// Takes somebody's role in the whole cluster away.
#[utoipa::path(delete, path = "/v1/role-bindings/{kind}/{member}", operation_id = "remove_role_binding",
    params(Changing, Keyed, Who),
    responses((status = 200, body = Member, description = "Taken away; as it was"), Refused))]
async fn remove_in_cluster(
    State(api): State<Api>,
    Place((kind, name)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let rule = |tx: &mut Tx<'_>| {
        access::unbind(tx, change.caller(), &Scope::Cluster, &Subject::parse(&kind, &name)?)
    };
    api.done(&change, rule, |binding, _| (StatusCode::OK, Member::from(binding))).await
}
