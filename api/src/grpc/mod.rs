//! gRPC on the API port.
//!
//! ```text
//!   a procedure of a noun ─► rpc (to which route) ─► call ─► all layers and the route of REST ─► call ─► its answer
//!   one that streams      ─► rpc                  ─► call ─► all layers and the route of REST ─► event ─► its answers
//!   Kv, health, reflection ─► access ─► their own handlers
//! ```
//!
//! Nothing is decided here: a procedure is another spelling of a route, and which one stands with it in the files under
//! `wire/proto/skep/v1`. So who may do what, what is written down, and what a change means stands in one place. Only the
//! key-value space has no routes, because it is there for its speed.

mod call;
mod codec;
mod deadline;
mod event;
mod health;
mod kv;
mod rpc;
mod status;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use prost_reflect::DynamicMessage;
use skep_wire::proto::API_DESCRIPTORS;
use skep_wire::proto::v1::kv_server::KvServer;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::service::Routes;
use tonic::{Request as Call, Response as Answer, Status};
use tonic_health::pb::health_server::HealthServer;
use tower::ServiceExt as _;

use crate::limits::Class;
use crate::rest::session::ClientAddress;
use crate::{Api, JSON_BYTES_MAX, access};
use codec::MessageCodec;
use rpc::Rpc;

/// How the one procedure without a route ends that changes something.
const CHANGES: &str = "/Commit";

/// All services, each under its own name. `rest` answers what has a route.
pub(crate) fn routes(api: Api, rest: &Router) -> Router {
    let kv = KvServer::new(kv::KvDoor::new(api.clone())).max_decoding_message_size(kv::MESSAGE_BYTES_MAX);
    let mut own = Routes::new(kv).add_service(HealthServer::new(health::HealthDoor::new(api.clone())));
    let description = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(API_DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    match description.build_v1() {
        Ok(reflection) => own = own.add_service(reflection),
        Err(error) => tracing::error!(%error, "the services of gRPC are served without their description"),
    }
    let own = own.into_axum_router().reset_fallback().layer(from_fn_with_state(api, require));
    let all = rpc::all().iter().fold(own, |router, rpc| {
        let door = Door { rest: rest.clone(), rpc };
        router.route(&rpc.path, post(move |request: Request| door.clone().serve(request)))
    });
    all.layer(from_fn(deadline::keep))
}

/// Lets a call of a service without routes pass, or says why not.
async fn require(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (path, changes) = (request.uri().path(), request.uri().path().ends_with(CHANGES));
    let service = path.split('/').nth(1).unwrap_or_default();
    let class = if changes { Class::Writes } else { Class::Reads };
    match access::admit_to_service(&api, service, class, request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(problem) => status::refused(&problem, MetadataMap::new()).into_http::<Body>().into_response(),
    }
}

/// One procedure that leads to a route.
#[derive(Clone)]
struct Door {
    rest: Router,
    rpc: &'static Rpc,
}

impl Door {
    async fn serve(self, request: Request) -> Response {
        let codec = MessageCodec::new(self.rpc.input.clone());
        let mut grpc = Grpc::new(codec).max_decoding_message_size(JSON_BYTES_MAX);
        let response = match self.rpc.streams {
            true => grpc.server_streaming(self, request).await,
            false => grpc.unary(self, request).await,
        };
        response.into_response()
    }

    /// What the route answers, if that is no refusal.
    async fn ask(&self, call: Call<DynamicMessage>) -> Result<Response, Status> {
        let (metadata, extensions, message) = call.into_parts();
        let mut request = call::request(self.rpc, &metadata.into_headers(), &message)
            .map_err(|problem| status::refused(&problem, MetadataMap::new()))?;
        if let Some(address) = extensions.get::<ClientAddress>() {
            request.extensions_mut().insert(*address);
        }
        let response = match self.rest.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.map_err(broken)?;
        Err(status::of_answer(parts.status, &body, call::told(&parts.headers)))
    }

    async fn unary(self, call: Call<DynamicMessage>) -> Result<Answer<DynamicMessage>, Status> {
        let (parts, body) = self.ask(call).await?.into_parts();
        let body = to_bytes(body, usize::MAX).await.map_err(broken)?;
        let message = call::answer(self.rpc, parts.status, &body)?;
        Ok(Answer::from_parts(call::told(&parts.headers), message, tonic::Extensions::default()))
    }

    async fn stream(self, call: Call<DynamicMessage>) -> Result<Answer<Messages>, Status> {
        let (parts, body) = self.ask(call).await?.into_parts();
        let messages: Messages = Box::pin(event::messages(self.rpc, body));
        Ok(Answer::from_parts(call::told(&parts.headers), messages, tonic::Extensions::default()))
    }
}

type Messages = BoxStream<'static, Result<DynamicMessage, Status>>;

impl UnaryService<DynamicMessage> for Door {
    type Response = DynamicMessage;
    type Future = BoxFuture<'static, Result<Answer<DynamicMessage>, Status>>;

    fn call(&mut self, call: Call<DynamicMessage>) -> Self::Future {
        Box::pin(self.clone().unary(call))
    }
}

impl ServerStreamingService<DynamicMessage> for Door {
    type Response = DynamicMessage;
    type ResponseStream = Messages;
    type Future = BoxFuture<'static, Result<Answer<Messages>, Status>>;

    fn call(&mut self, call: Call<DynamicMessage>) -> Self::Future {
        Box::pin(self.clone().stream(call))
    }
}

fn broken(error: axum::Error) -> Status {
    Status::unavailable(format!("the answer broke off: {error}"))
}
