//! What other managers may ask of this one: the server side of the peer link's `Raft` service.
//!
//! The TLS handshake has shown that the caller is a manager of this cluster; every body is checked once more
//! against the cluster and node that it was meant for.

use bytes::Bytes;
use futures::stream::BoxStream;
use skep_ledger::{Txn, Unavailable};
use skep_wire::proto::peer::raft_server::{Raft as RaftRpc, RaftServer};
use skep_wire::proto::peer::{
    ConfirmReply, ConfirmRequest, Empty, Payload, ReadIndexReply, ReadIndexRequest, Reply, SnapshotChunk,
};
use tokio_stream::StreamExt as _;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

use crate::codec;
use crate::epoch::EpochGuard;
use crate::network::MESSAGE_BYTES_MAX;
use crate::proposing::TRY_MAX;
use crate::replica::Replica;
use crate::state_machine::StateFiles;

/// The service of one replica.
#[derive(Clone)]
pub struct RaftService(Replica);

impl RaftService {
    /// The service, ready to be added to the peer port's server.
    pub fn server(replica: Replica) -> InterceptedService<RaftServer<RaftService>, EpochGuard> {
        let guard = EpochGuard(replica.network().epoch.clone());
        let server = RaftServer::new(RaftService(replica))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        InterceptedService::new(server, guard)
    }

    fn body(&self, payload: Payload) -> Result<Bytes, Status> {
        let me = self.0.identity();
        if payload.cluster != me.0 || payload.to != me.1 {
            return Err(Status::failed_precondition(format!(
                "meant for manager {} of cluster {}, but this is manager {} of cluster {}",
                payload.to, payload.cluster, me.1, me.0
            )));
        }
        Ok(payload.body)
    }

    /// The body of a message by which this replica would take part in decisions.
    fn raft_body(&self, request: Request<Payload>) -> Result<Bytes, Status> {
        self.must_take_part()?;
        self.body(request.into_inner())
    }

    fn must_take_part(&self) -> Result<(), Status> {
        match self.0.takes_part() {
            true => Ok(()),
            false => Err(Status::failed_precondition("this manager has no data and does not take part yet")),
        }
    }
}

#[tonic::async_trait]
impl RaftRpc for RaftService {
    async fn append(&self, request: Request<Payload>) -> Result<Response<Reply>, Status> {
        let rpc = codec::append_from_bytes(self.raft_body(request)?).map_err(internal)?;
        self.0.heard().now();
        reply(&self.0.raft().append_entries(rpc).await.map_err(internal)?)
    }

    type AppendStreamStream = BoxStream<'static, Result<Reply, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<Payload>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        self.must_take_part()?;
        let service = self.clone();
        let requests = request.into_inner().map_while(move |payload| {
            service.0.heard().now();
            let entries = payload.and_then(|payload| service.body(payload));
            let entries = entries
                .and_then(|body| codec::append_from_bytes(body).map_err(internal))
                .inspect_err(|error| {
                    tracing::debug!(%error, "a stream of entries has ended");
                });
            entries.ok()
        });
        let answers = self.0.raft().stream_append(requests).map(|appended| match appended {
            Ok(appended) => Ok(Reply { body: codec::appended_to_bytes(&appended).into() }),
            Err(stopped) => Err(internal(stopped)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(&self, request: Request<Payload>) -> Result<Response<Reply>, Status> {
        let rpc = codec::from_json(&self.raft_body(request)?).map_err(internal)?;
        reply(&self.0.raft().vote(rpc).await.map_err(internal)?)
    }

    async fn pre_vote(&self, request: Request<Payload>) -> Result<Response<Reply>, Status> {
        let rpc = codec::from_json(&self.raft_body(request)?).map_err(internal)?;
        reply(&self.0.raft().pre_vote(rpc).await.map_err(internal)?)
    }

    async fn transfer_leader(&self, request: Request<Payload>) -> Result<Response<Reply>, Status> {
        let rpc = codec::from_json(&self.raft_body(request)?).map_err(internal)?;
        reply(&self.0.raft().handle_transfer_leader(rpc).await.map_err(internal)?)
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<Reply>, Status> {
        self.must_take_part()?;
        let mut chunks = request.into_inner();
        let (header, staging) = self.0.arrivals().receive(self.0.store(), &mut chunks).await?;
        tracing::info!(from = header.from, "a whole state was received and is being installed");
        let snapshot = openraft::alias::SnapshotOf::<crate::types::TypeConfig, StateFiles> {
            meta: header.meta,
            snapshot: StateFiles::Received { rows: staging, digest: header.digest },
        };
        reply(&self.0.raft().install_full_snapshot(header.vote, snapshot).await.map_err(internal)?)
    }

    async fn snapshot_progress(&self, request: Request<Payload>) -> Result<Response<Reply>, Status> {
        let id = String::from_utf8(self.raft_body(request)?.into()).map_err(internal)?;
        Ok(Response::new(Reply { body: self.0.arrivals().progress(&id).map_err(internal)?.into() }))
    }

    async fn digests(&self, request: Request<Payload>) -> Result<Response<Reply>, Status> {
        let answer = self.0.answer_digest(&self.raft_body(request)?).await.map_err(internal)?;
        Ok(Response::new(Reply { body: answer.into() }))
    }

    async fn propose(&self, request: Request<Payload>) -> Result<Response<Reply>, Status> {
        let payload = request.into_inner();
        let from = payload.from;
        let bytes = self.body(payload)?;
        // What is in the log must be applied by everybody, so what cannot be applied must not get there.
        Txn::decode(&bytes).map_err(|error| Status::failed_precondition(error.to_string()))?;
        match self.0.propose_here(bytes, TRY_MAX).await {
            Ok(outcome) => {
                // Its writer waits there to read what was written, or what has come between.
                self.0.network().pacing.wanted_at(from, *self.0.changes().latest().borrow());
                Ok(Response::new(Reply { body: outcome.encode().into() }))
            }
            // Not "unavailable": the transport says that too, when nobody knows what became of a request.
            Err(Unavailable::NotStarted(why)) => Err(Status::failed_precondition(why)),
            Err(error) => Err(Status::unknown(error.to_string())),
        }
    }

    type ReadIndexStream = BoxStream<'static, Result<ReadIndexReply, Status>>;

    async fn read_index(
        &self,
        questions: Request<Streaming<ReadIndexRequest>>,
    ) -> Result<Response<Self::ReadIndexStream>, Status> {
        let replica = self.0.clone();
        let answers = questions.into_inner().then(move |question| {
            let replica = replica.clone();
            async move {
                let question = question?;
                let node = question.node;
                let index = replica.read_index_for(question).await.map_err(Status::unavailable)?;
                replica.network().pacing.wanted_at(node, index);
                Ok(ReadIndexReply { index })
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type ConfirmStream = BoxStream<'static, Result<ConfirmReply, Status>>;

    async fn confirm(
        &self,
        questions: Request<Streaming<ConfirmRequest>>,
    ) -> Result<Response<Self::ConfirmStream>, Status> {
        let service = self.clone();
        let answers = questions.into_inner().map(move |question| {
            service.must_take_part()?;
            Ok(ConfirmReply { follows: service.0.confirms(question?) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn status(&self, _: Request<Empty>) -> Result<Response<Reply>, Status> {
        reply(&self.0.own_status())
    }
}

fn reply<T: serde::Serialize>(value: &T) -> Result<Response<Reply>, Status> {
    Ok(Response::new(Reply { body: codec::to_json(value).map_err(internal)?.into() }))
}

fn internal(error: impl std::error::Error) -> Status {
    Status::internal(error.to_string())
}
