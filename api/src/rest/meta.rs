//! The API itself: versions, who is asking, the OpenAPI document.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use serde::Serialize;
use skep_ledger::Revision;
use skep_model::access::{Caller, Permission};
use skep_model::{CLUSTER, environment};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Params, Reading};
use crate::problem::{Refused, Reply};
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

/// Who is asking, and what they may.
#[derive(Debug, Serialize, ToSchema)]
struct Whoami {
    /// A user's name, `ENVIRONMENT/KEY` for a key of an environment, `admin` for the first administrator's token.
    principal: String,
    /// The groups that the user belongs to.
    groups: Vec<String>,
    /// What they may in the whole cluster, as `VERB:TYPE`.
    permissions: Vec<String>,
    /// What they may beyond that, by the environments' names.
    environments: BTreeMap<String, Vec<String>>,
    /// The token that was used.
    token: WhoamiToken,
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct WhoamiToken {
    /// Its public part.
    id: String,
    /// `key` or `session`.
    #[schema(example = "key")]
    kind: &'static str,
    /// When it ends; null: when it is revoked.
    expires_at: Option<Timestamp>,
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

/// Says whose token this is, and what they may.
#[utoipa::path(get, path = "/v1/whoami",
    params(Reading), responses((status = 200, body = Whoami, description = "As it is"), Refused))]
async fn whoami(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    _reading: Params<Reading>,
) -> Reply<Json<Whoami>> {
    let view = api.ledger().view();
    let words =
        |permissions: &BTreeSet<Permission>| permissions.iter().map(|one| one.as_str().to_owned()).collect();
    let mut environments = BTreeMap::new();
    for (id, permissions) in caller.grants.environments() {
        if let Some(environment) = view.get::<environment::Environment>(CLUSTER, id.as_str())? {
            environments.insert(environment.name.to_string(), words(permissions));
        }
    }
    Ok(Json(Whoami {
        permissions: words(caller.grants.everywhere()),
        environments,
        groups: caller.groups.iter().map(ToString::to_string).collect(),
        token: WhoamiToken {
            id: caller.token,
            kind: if caller.has_session { "session" } else { "key" },
            expires_at: caller.expires_at,
        },
        principal: caller.principal,
    }))
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, description = "OpenAPI 3.1")))]
async fn description() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi::document())
}
