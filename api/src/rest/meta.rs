//! The API itself: versions, who is asking, the OpenAPI document.

use axum::extract::State;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use skep_ledger::Revision;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Principal;
use crate::extract::{Params, Reading};
use crate::problem::Refused;
use crate::{Api, openapi};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(meta)).routes(routes!(whoami)).routes(routes!(description))
}

/// The answering manager.
#[derive(Debug, Serialize, ToSchema)]
struct Meta {
    /// The manager's program version.
    version: &'static str,
    /// The cluster's id.
    cluster: String,
    /// The manager's name.
    node: String,
    /// Revisions are comparable within one epoch; a new one begins when a cluster is recovered or restored.
    epoch: u64,
    /// The newest revision that the manager has applied.
    #[schema(value_type = u64)]
    revision: Revision,
}

/// Who is asking.
#[derive(Debug, Serialize, ToSchema)]
struct Whoami {
    /// Whoever the token belongs to.
    principal: String,
}

/// Says which manager of which cluster answers. Works without a leader.
#[utoipa::path(get, path = "/v1/meta",
    params(Reading), responses((status = 200, body = Meta, description = "As it is"), Refused))]
async fn meta(State(api): State<Api>, _reading: Params<Reading>) -> Json<Meta> {
    Json(Meta {
        version: env!("CARGO_PKG_VERSION"),
        cluster: api.parts.cluster.cluster_id().to_owned(),
        node: api.parts.cluster.node_name().to_owned(),
        epoch: api.parts.cluster.epoch(),
        revision: api.ledger().view().revision(),
    })
}

/// Says whose token this is.
#[utoipa::path(get, path = "/v1/whoami",
    params(Reading), responses((status = 200, body = Whoami, description = "As it is"), Refused))]
async fn whoami(Extension(principal): Extension<Principal>, _reading: Params<Reading>) -> Json<Whoami> {
    Json(Whoami { principal: principal.0 })
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, description = "OpenAPI 3.1")))]
async fn description() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi::document())
}
