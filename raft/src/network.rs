//! openraft's way to the other managers: gRPC over mutual TLS, opaque bodies.
//!
//! openraft makes one network per target for log entries and another for heartbeats, so that a heartbeat never
//! waits behind a batch. Log entries go out on one long stream, each batch as soon as it is there, and are answered
//! in order; everything else is a request and its answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use skep_wire::channels::{PeerChannels, Purpose};
use skep_wire::proto::peer::raft_client::RaftClient;
use skep_wire::proto::peer::{Payload, Reply};
use tokio::sync::Notify;
use tokio_stream::StreamExt as _;

use crate::epoch::{Epoch, EpochChannel};
use crate::pacing::Pacing;
use crate::state_machine::StateFiles;
use crate::types::{Appended, ManagerNode, TypeConfig, Vote};
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
    pub(crate) pacing: Pacing,
}

impl Network {
    pub(crate) fn new(cluster: String, node: u64, channels: PeerChannels, epoch: Epoch) -> Network {
        Network { cluster, node, channels, epoch, pacing: Pacing::new() }
    }

    pub(crate) fn client(&self, to: u64, purpose: Purpose) -> io::Result<RaftClient<EpochChannel>> {
        let channel = self.channels.get_for(to, purpose).map_err(io::Error::other)?;
        Ok(RaftClient::new(EpochChannel { channel, epoch: self.epoch.clone() })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) fn payload(&self, to: u64, body: impl Into<Bytes>) -> Payload {
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
            Err(_) => Err(silent()),
        }
    }

    /// One stream for as long as openraft has entries and the connection lasts.
    async fn append_stream<'s>(
        &self,
        input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin + Send + 'static,
    ) -> Result<BoxStream<'s, Result<Appended, RPCError<TypeConfig>>>, RPCError<TypeConfig>> {
        let mut client = self.network.client(self.target, self.purpose).map_err(unreachable)?;
        let (network, target) = (self.network.clone(), self.target);
        let unanswered = Arc::new(Unanswered::default());
        let sent = unanswered.clone();
        let paced = self.network.pacing.paced(target, input);
        let payloads = paced.map_while(move |request| match codec::append_to_bytes(&request) {
            Ok(body) => {
                sent.add();
                Some(network.payload(target, body))
            }
            // The stream ends, and openraft begins another one where this one stopped.
            Err(error) => {
                tracing::error!(%error, "entries could not be encoded");
                None
            }
        });
        let opening = tokio::time::timeout(APPEND_MAX, client.append_stream(payloads));
        let replies = match opening.await {
            Ok(Ok(replies)) => replies.into_inner(),
            Ok(Err(status)) => return Err(unreachable(status)),
            Err(_) => return Err(silent()),
        };
        let answers = futures::stream::unfold(Some((replies, unanswered)), |state| async {
            let (mut replies, unanswered) = state?;
            let answer = unanswered.patiently(replies.message()).await;
            let answer = match answer {
                Ok(Ok(Some(reply))) => codec::appended_from_bytes(reply.body).map_err(unreachable),
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => Err(unreachable(status)),
                Err(Silent) => Err(silent()),
            };
            let goes_on = matches!(answer, Ok(Ok(_)));
            unanswered.answered();
            Some((answer, goes_on.then_some((replies, unanswered))))
        });
        Ok(Box::pin(answers))
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

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<Appended, RPCError<TypeConfig>>>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + openraft::OptionalSend + Unpin + 'static,
    {
        match self.purpose {
            Purpose::Raft => Box::pin(self.append_stream(input)),
            Purpose::Heartbeat | Purpose::Bulk => stream_append_sequential(self, input, option),
        }
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

/// How many batches are on their way without an answer. An idle stream may be silent; one that owes an answer may not
/// for long.
#[derive(Default)]
struct Unanswered {
    batches: AtomicUsize,
    changed: Notify,
}

/// An answer was owed for too long.
struct Silent;

impl Unanswered {
    fn add(&self) {
        self.batches.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    fn answered(&self) {
        // An answer that nobody asked for is the peer's mistake, not ours to count.
        let _ = self.batches.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
    }

    async fn patiently<T>(&self, answer: impl Future<Output = T>) -> Result<T, Silent> {
        let owed_for_too_long = async {
            while self.batches.load(Ordering::Acquire) == 0 {
                self.changed.notified().await;
            }
            tokio::time::sleep(APPEND_MAX).await;
        };
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            () = owed_for_too_long => Err(Silent),
        }
    }
}

fn silent() -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string("no answer in time"))
}

/// "Unreachable" makes openraft back off, which is right for a manager that is down or refuses us.
fn unreachable(error: impl std::error::Error + 'static) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&error))
}
