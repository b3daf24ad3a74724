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
use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use skep_wire::channels::{PeerChannels, Purpose};
use skep_wire::proto::peer::raft_client::RaftClient;
use skep_wire::proto::peer::{Payload, Reply, Rows, SnapshotChunk, snapshot_chunk::Part};
use tokio::sync::Notify;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

use crate::codec::{self, Digest};
use crate::state_machine::StateFiles;
use crate::types::{Appended, ManagerNode, SnapshotMeta, TypeConfig, Vote};

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
    /// See `digest.rs`.
    pub(crate) digest: Digest,
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
        input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
    ) -> Result<BoxStream<'s, Result<Appended, RPCError<TypeConfig>>>, RPCError<TypeConfig>> {
        let mut client = self.network.client(self.target, self.purpose).map_err(unreachable)?;
        let (network, target) = (self.network.clone(), self.target);
        let unanswered = Arc::new(Unanswered::default());
        let sent = unanswered.clone();
        let payloads = input.map_while(move |request| match codec::append_to_bytes(&request) {
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

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> io::Result<SnapshotResponse<TypeConfig>> {
        let StateFiles::Ours(checkpoint) = snapshot.snapshot else {
            return Err(io::Error::other("a received state is not sent on before it is installed"));
        };
        let digest = codec::position_from_bytes(checkpoint.position())?.digest;
        let header = SnapshotHeader { from: self.network.node, vote, meta: snapshot.meta, digest };
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
