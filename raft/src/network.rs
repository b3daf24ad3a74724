//! openraft's way to the other managers: gRPC over mutual TLS, opaque bodies.
//!
//! openraft makes one network per target for log entries and another for heartbeats, so that a heartbeat never
//! waits behind a batch. Requests are unary and answered in order; openraft itself keeps the next one ready.

use std::io;
use std::time::Duration;

use futures::FutureExt as _;
use futures::channel::mpsc;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use skep_wire::channels::{PeerChannels, Purpose};
use skep_wire::proto::peer::raft_client::RaftClient;
use skep_wire::proto::peer::{Payload, Reply, Rows, SnapshotChunk, snapshot_chunk::Part};
use tonic::transport::Channel;

use crate::codec;
use crate::state_machine::StateFiles;
use crate::types::{ManagerNode, SnapshotMeta, TypeConfig, Vote};

/// Largest message on the peer link. Above the largest transaction with room for its envelope and for a batch.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a batch of log entries may take to be sent and synced by the other end. Much longer than the heartbeats
/// that openraft would allow: giving up on a large transaction over a slow line and beginning anew never ends.
/// Silence is noticed earlier, by the heartbeats and by the connection's keep-alive.
const APPEND_MAX: Duration = Duration::from_secs(10);

/// Rows per message of a snapshot: large enough to be efficient, small enough to be one of many.
const SNAPSHOT_CHUNK_BYTES: usize = 512 * 1024;

/// Chunks read ahead of the network.
const SNAPSHOT_CHUNKS_AHEAD_MAX: usize = 4;

/// A snapshot that is not through by then is begun anew; the receiver keeps serving meanwhile.
const SNAPSHOT_MAX: Duration = Duration::from_secs(120);

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, StateFiles>;

/// What a snapshot's header says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) from: u64,
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
}

/// Makes the networks to the other managers.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) cluster: String,
    pub(crate) node: u64,
    pub(crate) channels: PeerChannels,
}

impl Network {
    pub(crate) fn client(&self, to: u64, purpose: Purpose) -> io::Result<RaftClient<Channel>> {
        let channel = self.channels.get_for(to, purpose).map_err(io::Error::other)?;
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) fn payload(&self, to: u64, body: Vec<u8>) -> Payload {
        Payload { body: body.into(), cluster: self.cluster.clone(), from: self.node, to }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &ManagerNode) -> Peer {
        self.channels.set(target, node.peer_address.clone());
        Peer { network: self.clone(), target, purpose: Purpose::Raft }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &ManagerNode) -> Peer {
        self.channels.set(target, node.peer_address.clone());
        Peer { network: self.clone(), target, purpose: Purpose::Heartbeat }
    }
}

/// The way to one manager, for one purpose.
pub(crate) struct Peer {
    network: Network,
    target: u64,
    purpose: Purpose,
}

/// The unary calls that carry openraft's messages.
#[derive(Clone, Copy)]
enum Call {
    Append,
    Vote,
    PreVote,
    TransferLeader,
}

impl Peer {
    async fn call(
        &self,
        call: Call,
        body: Vec<u8>,
        option: &RPCOption,
    ) -> Result<Reply, RPCError<TypeConfig>> {
        let mut client = self.network.client(self.target, self.purpose).map_err(unreachable)?;
        let request = tonic::Request::new(self.network.payload(self.target, body));
        let sent = async {
            match call {
                Call::Append => client.append(request).await,
                Call::Vote => client.vote(request).await,
                Call::PreVote => client.pre_vote(request).await,
                Call::TransferLeader => client.transfer_leader(request).await,
            }
        };
        let patience = match call {
            Call::Append => APPEND_MAX,
            Call::Vote | Call::PreVote | Call::TransferLeader => option.hard_ttl(),
        };
        match tokio::time::timeout(patience, sent).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(unreachable(status)),
            Err(_) => Err(RPCError::Network(NetworkError::from_string("no answer in time"))),
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> io::Result<SnapshotResponse<TypeConfig>> {
        let StateFiles::Ours(checkpoint) = snapshot.snapshot else {
            return Err(io::Error::other("a received state is not sent on before it is installed"));
        };
        let header = SnapshotHeader { from: self.network.node, vote, meta: snapshot.meta };
        let header = codec::to_json(&header)?;
        let (mut parts, receiver) = mpsc::channel(SNAPSHOT_CHUNKS_AHEAD_MAX);
        let reading = tokio::task::spawn_blocking(move || -> io::Result<()> {
            let mut total_rows = 0;
            let mut send = |part| {
                let chunk = SnapshotChunk { part: Some(part) };
                futures::executor::block_on(futures::SinkExt::send(&mut parts, chunk))
                    .map_err(io::Error::other)
            };
            send(Part::Header(header))?;
            for rows in checkpoint.chunks(SNAPSHOT_CHUNK_BYTES).map_err(io::Error::other)? {
                let rows = rows.map_err(io::Error::other)?;
                total_rows += rows.len() as u64;
                send(Part::Rows(Rows::sealed(rows)))?;
            }
            send(Part::TotalRows(total_rows))
        });
        let mut client = self.network.client(self.target, Purpose::Bulk)?;
        let reply = client.snapshot(receiver).await.map_err(io::Error::other)?;
        reading.await.map_err(io::Error::other)??;
        codec::from_json(&reply.into_inner().body)
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = StateFiles;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = codec::append_to_bytes(&rpc).map_err(unreachable)?;
        let reply = self.call(Call::Append, body, &option).await?;
        codec::from_json(&reply.body).map_err(unreachable)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = codec::to_json(&rpc).map_err(unreachable)?;
        let reply = self.call(Call::Vote, body, &option).await?;
        codec::from_json(&reply.body).map_err(unreachable)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = codec::to_json(&rpc).map_err(unreachable)?;
        let reply = self.call(Call::PreVote, body, &option).await?;
        codec::from_json(&reply.body).map_err(unreachable)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = tokio::time::timeout(SNAPSHOT_MAX, self.send_snapshot(vote, snapshot));
        futures::select! {
            sent = Box::pin(sending).fuse() => match sent {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
                Err(_) => Err(StreamingError::Network(NetworkError::from_string("the snapshot took too long"))),
            },
            closed = Box::pin(cancel).fuse() => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = codec::to_json(&request).map_err(unreachable)?;
        let reply = self.call(Call::TransferLeader, body, &option).await?;
        codec::from_json(&reply.body).map_err(unreachable)
    }
}

/// "Unreachable" makes openraft back off, which is right for a manager that is down or refuses us.
fn unreachable(error: impl std::error::Error + 'static) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&error))
}
