//! `/metrics`: what this manager counts, for Prometheus. With a token, as everything here; a manager can be told to serve
//! them to its own computer without one (`metrics_listen`).

use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::problem::Refused;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// What this manager counts.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", responses(
    (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"),
    Refused,
))]
async fn metrics(State(api): State<Api>) -> Response {
    api.parts.metrics.answer()
}
