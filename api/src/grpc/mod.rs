//! gRPC on the API port: one file per service.
//!
//! Requests do not pass the layers of REST, whose answers are HTTP problems. What those do is done here in gRPC's
//! own words: nothing is answered without a token.

mod kv;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use skep_wire::proto::v1::kv_server::KvServer;
use tonic::Status;
use tonic::service::Routes;

use crate::limits::Class;
use crate::{Api, auth};
use skep_model::access::{Permission, Scope};

/// What calls are named that change nothing.
const READS: &str = "/Get";

/// All services, each under its own name.
pub(crate) fn routes(api: Api) -> Router {
    Routes::new(KvServer::new(kv::KvDoor::new(api.clone())).max_decoding_message_size(kv::MESSAGE_BYTES_MAX))
        .into_axum_router()
        .reset_fallback()
        .layer(from_fn_with_state(api, require))
}

async fn require(State(api): State<Api>, request: Request, next: Next) -> Response {
    let class = if request.uri().path().ends_with(READS) { Class::Reads } else { Class::Writes };
    let caller = match auth::caller(&api, request.headers()).await {
        Ok(caller) => api.spend(&caller, class).1.map(|()| caller),
        Err(problem) => Err(problem),
    };
    match caller {
        Ok(caller) if caller.grants.has(Permission::UseStore, &Scope::Cluster) => next.run(request).await,
        Ok(caller) => {
            let why = format!("{} is not allowed to {}", caller.principal, Permission::UseStore.as_str());
            Status::permission_denied(why).into_http::<axum::body::Body>().into_response()
        }
        Err(problem) => {
            let status = match problem.status {
                401 => Status::unauthenticated(problem.detail),
                429 => Status::resource_exhausted(problem.detail),
                _ => Status::unavailable(problem.detail),
            };
            status.into_http::<axum::body::Body>().into_response()
        }
    }
}
