//! Probes: one word each, no token, no details. With `?verbose` also what was checked; how it is, only those are told who may
//! see the cluster.
//!
//! Why `/lbz` has three answers: a load balancer that sees 503 may cut what is open, one that sees 404 only sends
//! nothing new. A manager that drains wants the second, so that watches and shells end by themselves.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::HeaderMap;
use http::StatusCode;
use serde::Deserialize;
use skep_model::access::{Permission, Scope};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::cluster::{Check, Readiness};
use crate::extract::Params;
use crate::problem::Refused;
use crate::{Api, auth};

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

/// How much is told.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Telling {
    /// Also list what was checked: `?verbose`
    verbose: Option<String>,
}

impl Telling {
    /// A word, below what was checked if that is wished.
    fn of(
        &self,
        (status, word): Word,
        api: &Api,
        headers: &HeaderMap,
        checks: &[Check],
    ) -> (StatusCode, String) {
        let mut text = String::new();
        if self.verbose.as_deref().is_some_and(|value| value != "false") {
            let caller = auth::known_here(api, headers);
            let in_detail = caller.is_some_and(|it| it.grants.has(Permission::ViewCluster, &Scope::Cluster));
            for Check { name, ok, detail } in checks {
                let how = if *ok { "ok" } else { "not ok" };
                // Writing to a string cannot fail.
                let _ = match in_detail {
                    true => writeln!(text, "{name}: {how} ({detail})"),
                    false => writeln!(text, "{name}: {how}"),
                };
            }
        }
        (status, text + word)
    }
}

/// Is the process alive?
#[utoipa::path(get, path = "/livez", operation_id = "livez", params(Telling), responses(
    (status = 200, description = "It is", body = String, content_type = "text/plain"),
    Refused,
))]
async fn alive(
    State(api): State<Api>,
    Params(telling): Params<Telling>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let version = format!("version {}", env!("CARGO_PKG_VERSION"));
    telling.of(OK, &api, &headers, &[Check { name: "process", ok: true, detail: version }])
}

/// Can this manager serve?
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", params(Telling), responses(
    (status = 200, description = "It can", body = String, content_type = "text/plain"),
    (status = 503, description = "It cannot, or is about to stop", body = String, content_type = "text/plain"),
    Refused,
))]
async fn ready(
    State(api): State<Api>,
    Params(telling): Params<Telling>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let word = match api.parts.cluster.readiness() {
        Readiness::Serving => OK,
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Readiness::Unusable(_) => UNUSABLE,
    };
    telling.of(word, &api, &headers, &api.parts.cluster.checks())
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
