//! The managers, as they say themselves. Answers without a leader: that is when people look here.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::cluster::{ClusterStatus, MemberStatus};
use crate::dress::At;
use crate::extract::{Params, Reading};
use crate::listing::{Listing, Page, Paging};
use crate::problem::{Refused, Reply};
use crate::rest::List;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(members))
}

/// Shows leader, quorum and every manager.
#[utoipa::path(get, path = "/v1/cluster", operation_id = "show_cluster",
    params(Reading), responses((status = 200, body = ClusterStatus, description = "As it is"), Refused))]
async fn show(State(api): State<Api>, _reading: Params<Reading>) -> At<Json<ClusterStatus>> {
    let status = api.parts.cluster.status().await;
    At(status.revision, Json(status))
}

/// Lists the managers.
#[utoipa::path(get, path = "/v1/cluster/members", operation_id = "list_members",
    params(Reading, Paging),
    responses((status = 200, body = List<MemberStatus>, description = "All of them"), Refused))]
async fn members(State(api): State<Api>, listing: Listing) -> Reply<Page> {
    let status = api.parts.cluster.status().await;
    listing.page(status.revision, status.members, &["name"])
}
