//! openraft's way to the other managers: gRPC over mutual TLS, opaque bodies.
//!
//! openraft makes one network per target for log entries and another for heartbeats, so that a heartbeat never
//! waits behind a batch. Requests are unary and answered in order; openraft itself keeps the next one ready.

use std::io;
use std::time::Duration;

use futures::FutureExt as _;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use skep_wire::channels::{PeerChannels, Purpose};
use skep_wire::proto::peer::raft_client::RaftClient;
use skep_wire::proto::peer::{Payload, Reply};

use crate::epoch::{Epoch, EpochChannel};
use crate::state_machine::StateFiles;
use crate::types::{ManagerNode, TypeConfig, Vote};
use crate::{codec, snapshots};

/// Largest message on the peer link. Above the largest transaction with room for its envelope and for a batch.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a batch of log entries may take to be sent and synced by the other end. Much longer than the heartbeats
/// that openraft would allow: giving up on a large transaction over a slow line and beginning anew never ends.
/// Silence is noticed earlier, by the heartbeats and by the connection's keep-alive.
const APPEND_MAX: Duration = Duration::from_secs(10);

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, StateFiles>;

/// Makes the networks to the other managers.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) cluster: String,
    pub(crate) node: u64,
    pub(crate) channels: PeerChannels,
    pub(crate) epoch: Epoch,
}

impl Network {
    pub(crate) fn new(cluster: String, node: u64, channels: PeerChannels, epoch: Epoch) -> Network {
        Network { cluster, node, channels, epoch }
    }

    pub(crate) fn client(&self, to: u64, purpose: Purpose) -> io::Result<RaftClient<EpochChannel>> {
        let channel = self.channels.get_for(to, purpose).map_err(io::Error::other)?;
        Ok(RaftClient::new(EpochChannel { channel, epoch: self.epoch.clone() })
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
        let sending = snapshots::send(&self.network, self.target, vote, snapshot);
        futures::select! {
            sent = Box::pin(sending).fuse() => {
                sent.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
            }
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
