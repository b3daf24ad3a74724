//! Probes: one word each, no token, no details.
//!
//! Why `/lbz` has three answers: a load balancer that sees 503 may cut what is open, one that sees 404 only sends
//! nothing new. A manager that drains wants the second, so that watches and shells end by themselves.

use axum::extract::State;
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::cluster::Readiness;

type Word = (StatusCode, &'static str);

const OK: Word = (StatusCode::OK, "ok\n");
const UNUSABLE: Word = (StatusCode::SERVICE_UNAVAILABLE, "unusable\n");

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(alive))
        .routes(routes!(ready))
        .routes(routes!(balance))
        .routes(routes!(leads))
}

/// Is the process alive?
#[utoipa::path(get, path = "/livez", operation_id = "livez", responses(
    (status = 200, description = "It is", body = String, content_type = "text/plain"),
))]
async fn alive() -> Word {
    OK
}

/// Can this manager serve?
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", responses(
    (status = 200, description = "It can", body = String, content_type = "text/plain"),
    (status = 503, description = "It cannot, or is about to stop", body = String, content_type = "text/plain"),
))]
async fn ready(State(api): State<Api>) -> Word {
    match api.parts.cluster.readiness() {
        Readiness::Serving => OK,
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Readiness::Unusable(_) => UNUSABLE,
    }
}

/// Should a load balancer send requests here?
#[utoipa::path(get, path = "/lbz", operation_id = "lbz", responses(
    (status = 200, description = "It should", body = String, content_type = "text/plain"),
    (status = 404, description = "Nothing new; what is open goes on", body = String, content_type = "text/plain"),
    (status = 503, description = "It should not", body = String, content_type = "text/plain"),
))]
async fn balance(State(api): State<Api>) -> Word {
    match api.parts.cluster.readiness() {
        Readiness::Serving => OK,
        Readiness::Draining => (StatusCode::NOT_FOUND, "draining\n"),
        Readiness::Unusable(_) => UNUSABLE,
    }
}

/// Does this manager lead?
#[utoipa::path(get, path = "/leaderz", operation_id = "leaderz", responses(
    (status = 200, description = "It does", body = String, content_type = "text/plain"),
    (status = 503, description = "It does not", body = String, content_type = "text/plain"),
))]
async fn leads(State(api): State<Api>) -> Word {
    if api.parts.cluster.is_leader() { OK } else { (StatusCode::SERVICE_UNAVAILABLE, "not the leader\n") }
}
