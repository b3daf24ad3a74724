//! A client that knows the services by their description, and speaks JSON with the tests.

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use http::uri::PathAndQuery;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use skep_wire::proto::API_DESCRIPTORS;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Status};
use tonic_types::{ErrorInfo, StatusExt as _};

use crate::support::{Door, TOKEN};

pub static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(API_DESCRIPTORS).unwrap());

/// Far beyond what anything here takes, so that only a hang reaches it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Somebody at the door.
#[derive(Clone)]
pub struct Client {
    router: Router,
    metadata: Vec<(&'static str, String)>,
}

/// What was answered.
#[derive(Debug)]
pub struct Told {
    pub message: Value,
    pub metadata: MetadataMap,
}

impl Client {
    /// Whoever founded the cluster.
    pub fn new(door: &Door) -> Client {
        Client { router: door.router.clone(), metadata: vec![] }
            .with("authorization", &format!("Bearer {TOKEN}"))
    }

    pub fn with(&self, name: &'static str, value: &str) -> Client {
        let mut client = self.clone();
        client.metadata.retain(|(known, _)| *known != name);
        client.metadata.push((name, value.into()));
        client
    }

    pub fn without_token(&self) -> Client {
        let mut client = self.clone();
        client.metadata.retain(|(name, _)| *name != "authorization");
        client
    }

    /// `EnvironmentService/GetEnvironment` with a request in the JSON form of protobuf.
    pub async fn call(&self, procedure: &str, request: Value) -> Result<Told, Status> {
        let method = method(procedure);
        let message = message(&method.input(), request);
        self.send(&method, message).await
    }

    /// A message as it is, even one that the procedure does not know.
    pub async fn send(&self, method: &MethodDescriptor, message: DynamicMessage) -> Result<Told, Status> {
        let mut grpc = Grpc::new(self.router.clone());
        grpc.ready().await.unwrap();
        let answer = grpc.unary(self.request(message), path(method), Messages(method.output())).await?;
        let (metadata, message, _) = answer.into_parts();
        Ok(Told { message: json(&message), metadata })
    }

    pub async fn follow(&self, procedure: &str, request: Value) -> Result<Events, Status> {
        let method = method(procedure);
        let message = message(&method.input(), request);
        let mut grpc = Grpc::new(self.router.clone());
        grpc.ready().await.unwrap();
        let answer =
            grpc.server_streaming(self.request(message), path(&method), Messages(method.output())).await?;
        Ok(Events(answer.into_inner()))
    }

    /// For clients that were generated.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.metadata {
            request.metadata_mut().insert(*name, MetadataValue::try_from(value).unwrap());
        }
        request
    }

    pub fn router(&self) -> Router {
        self.router.clone()
    }
}

impl Told {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.metadata.get(name).unwrap_or_else(|| panic!("{name}: {self:?}")).to_str().unwrap()
    }
}

/// A stream that is being read.
pub struct Events(Streaming<DynamicMessage>);

impl Events {
    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        let message = tokio::time::timeout(DEADLINE, self.0.message()).await.expect("the next event comes");
        message.unwrap().map(|message| json(&message))
    }
}

/// What a refusal says beside its code.
#[track_caller]
pub fn info(status: &Status) -> ErrorInfo {
    let details = status.get_error_details();
    details.error_info().cloned().unwrap_or_else(|| panic!("no details: {status:?}"))
}

pub fn method(procedure: &str) -> MethodDescriptor {
    let (service, name) = procedure.split_once('/').unwrap();
    let service = POOL.get_service_by_name(&format!("skep.v1.{service}")).unwrap();
    service.methods().find(|method| method.name() == name).unwrap_or_else(|| panic!("no {procedure}"))
}

pub fn message(kind: &MessageDescriptor, document: Value) -> DynamicMessage {
    DynamicMessage::deserialize(kind.clone(), document).unwrap()
}

/// A message as people read it.
pub fn json(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

fn path(method: &MethodDescriptor) -> PathAndQuery {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    path.parse().unwrap()
}

/// Writes any message, reads those of one kind.
struct Messages(MessageDescriptor);

struct Writes;

impl Codec for Messages {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Writes;
    type Decoder = Messages;

    fn encoder(&mut self) -> Writes {
        Writes
    }

    fn decoder(&mut self) -> Messages {
        Messages(self.0.clone())
    }
}

impl Encoder for Writes {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, bytes: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(bytes).unwrap();
        Ok(())
    }
}

impl Decoder for Messages {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        Ok(Some(DynamicMessage::decode(self.0.clone(), bytes).unwrap()))
    }
}
