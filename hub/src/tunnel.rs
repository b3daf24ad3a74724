//! Byte streams between managers, for hosts whose agent is connected to another one.
//!
//! gRPC cannot tell a caller that has finished from one that has gone away, and a truncated upload must
//! not look complete; so each direction says `end` when it is complete, as the links to agents do.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use futures::Stream as _;
use skep_wire::channels::{PeerChannels, Purpose};
use skep_wire::proto::peer::frame::Part;
use skep_wire::proto::peer::tunnel_client::TunnelClient;
use skep_wire::proto::peer::tunnel_server::Tunnel;
use skep_wire::proto::peer::{
    Empty, Frame, HeldAgentsReply, HostService, TunnelError, TunnelFailure, TunnelReady, TunnelTarget,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;
use tonic::{Request, Response, Status, Streaming};

use crate::stream::Target;
use crate::{HostStream, Hub, HubError};

/// Bytes in one frame: large enough that gRPC's five bytes and the task switches do not matter.
const FRAME_BYTES_MAX: usize = 32 * 1024;

/// Frames between the two ends of one direction inside a process; together with the size above, what a
/// stalled tunnel holds in memory.
const FRAMES_WAITING_MAX: usize = 8;

/// Longer than the holder of the agent waits for it, so that its reason arrives instead of our own.
const OPEN_MAX: Duration = Duration::from_secs(12);

/// A caller says at once which host it means.
const TARGET_MAX: Duration = Duration::from_secs(5);

/// Answers other managers, for agents that are connected here. Only managers get as far as this: the
/// peer port admits nobody else to gRPC.
pub struct TunnelService {
    hub: Hub,
}

impl TunnelService {
    /// The service over this manager's agents.
    pub fn new(hub: Hub) -> TunnelService {
        TunnelService { hub }
    }
}

#[async_trait]
impl Tunnel for TunnelService {
    type OpenStream = ReceiverStream<Result<Frame, Status>>;

    async fn open(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::OpenStream>, Status> {
        let mut frames = request.into_inner();
        let first = timeout(TARGET_MAX, frames.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no target was named in time"))??;
        let Some(Part::Target(target)) = first.and_then(|frame| frame.part) else {
            return Err(Status::invalid_argument("the first frame names no target"));
        };
        let (answers, answered) = mpsc::channel(FRAMES_WAITING_MAX);
        let Ok(service) = HostService::try_from(target.service) else {
            return Err(Status::unimplemented("this manager does not know the service that was asked for"));
        };
        let opened = self.hub.open_here(Target { host: &target.host_id, service, term: target.term }).await;
        let (engine_api, error) = match &opened {
            Ok(stream) => (stream.engine_api().to_owned(), None),
            Err(error) => (String::new(), Some(to_wire(error))),
        };
        let ready = TunnelReady { engine_api, error, service: target.service };
        // The channel is new and empty, so there is room.
        let _ = answers.try_send(Ok(frame(Part::Ready(ready))));
        if let Ok(stream) = opened {
            tokio::spawn(relay(stream, frames, answers));
        }
        Ok(Response::new(ReceiverStream::new(answered)))
    }

    async fn held_agents(&self, _: Request<Empty>) -> Result<Response<HeldAgentsReply>, Status> {
        Ok(Response::new(self.hub.held_here()))
    }
}

/// Copies both ways until both directions have ended, or one has failed or been given up.
async fn relay(host: HostStream, frames: Streaming<Frame>, answers: mpsc::Sender<Result<Frame, Status>>) {
    let (reader, writer) = tokio::io::split(host);
    if let Err(error) = tokio::try_join!(to_host(frames, writer), from_host(reader, &answers)) {
        tracing::debug!(%error, "a tunnel was broken off");
        let _ = answers.try_send(Err(Status::aborted(error.to_string())));
    }
}

async fn to_host(mut frames: Streaming<Frame>, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        match frames.message().await.map_err(io::Error::other)?.and_then(|frame| frame.part) {
            Some(Part::Data(bytes)) => {
                writer.write_all(&bytes).await?;
                writer.flush().await?;
            }
            Some(Part::End(_)) => return writer.shutdown().await,
            Some(Part::Target(_) | Part::Ready(_)) => return Err(out_of_place()),
            None => return Err(broken_off()),
        }
    }
}

async fn from_host(
    mut reader: impl AsyncRead + Unpin,
    answers: &mpsc::Sender<Result<Frame, Status>>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(FRAME_BYTES_MAX);
        let read = tokio::select! {
            read = reader.read_buf(&mut buffer) => read?,
            // A host that says nothing would never let us find out that nobody listens.
            () = answers.closed() => return Err(broken_off()),
        };
        let part = if read == 0 { Part::End(true) } else { Part::Data(buffer.split().freeze()) };
        answers.send(Ok(frame(part))).await.map_err(|_| broken_off())?;
        if read == 0 {
            return Ok(());
        }
    }
}

/// Opens a stream to a service of a host over another manager.
pub(crate) async fn open(
    channels: &PeerChannels,
    node: u64,
    target: Target<'_>,
) -> Result<HostStream, HubError> {
    let host = target.host;
    let no_agent = || HubError::NoAgent { host: host.to_owned() };
    match timeout(OPEN_MAX, ask(channels, node, target)).await {
        Ok(Ok((_, TunnelReady { error: Some(error), .. }))) => Err(from_wire(host, target.term, error)),
        Ok(Ok((_, ready))) if ready.service() != target.service => {
            let reason =
                "its agent is connected to a manager of an earlier version, which does not lead to agents";
            Err(HubError::Link { host: host.to_owned(), reason: reason.to_owned() })
        }
        Ok(Ok((stream, TunnelReady { engine_api, .. }))) => Ok(HostStream::tunnelled(stream, engine_api)),
        Ok(Err(status)) => {
            tracing::debug!(peer.node = node, host.id = host, %status, "a manager could not be asked for a host's agent");
            Err(no_agent())
        }
        Err(_) => {
            tracing::debug!(
                peer.node = node,
                host.id = host,
                "a manager did not say in time whether it has a host's agent"
            );
            Err(no_agent())
        }
    }
}

async fn ask(
    channels: &PeerChannels,
    node: u64,
    target: Target<'_>,
) -> Result<(TunnelStream, TunnelReady), Status> {
    let channel =
        channels.get_for(node, Purpose::Bulk).map_err(|error| Status::unavailable(error.to_string()))?;
    let (requests, requested) = mpsc::channel(FRAMES_WAITING_MAX);
    let Target { host, service, term } = target;
    let target = TunnelTarget { host_id: host.to_owned(), term, service: service.into() };
    // The channel is new and empty, so there is room.
    let _ = requests.try_send(frame(Part::Target(target)));
    let mut answers = TunnelClient::new(channel).open(ReceiverStream::new(requested)).await?.into_inner();
    match answers.message().await?.and_then(|frame| frame.part) {
        Some(Part::Ready(ready)) => Ok((TunnelStream::new(requests, answers), ready)),
        _ => Err(Status::internal("the first frame of the answer does not say `ready`")),
    }
}

/// The caller's end of a tunnel.
pub(crate) struct TunnelStream {
    incoming: Streaming<Frame>,
    chunk: Bytes,
    read_ended: bool,
    outgoing: PollSender<Frame>,
    write_ended: bool,
}

impl TunnelStream {
    fn new(requests: mpsc::Sender<Frame>, incoming: Streaming<Frame>) -> TunnelStream {
        TunnelStream {
            incoming,
            chunk: Bytes::new(),
            read_ended: false,
            outgoing: PollSender::new(requests),
            write_ended: false,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, part: impl FnOnce() -> Part) -> Poll<io::Result<()>> {
        ready!(self.outgoing.poll_reserve(cx)).map_err(|_| broken_off())?;
        Poll::Ready(self.outgoing.send_item(frame(part())).map_err(|_| broken_off()))
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.chunk.is_empty() && !this.read_ended {
            match ready!(Pin::new(&mut this.incoming).poll_next(cx)) {
                Some(Ok(Frame { part: Some(Part::Data(bytes)) })) => this.chunk = bytes,
                Some(Ok(Frame { part: Some(Part::End(_)) })) => this.read_ended = true,
                Some(Ok(_)) => return Poll::Ready(Err(out_of_place())),
                Some(Err(status)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, status)));
                }
                None => return Poll::Ready(Err(broken_off())),
            }
        }
        let count = this.chunk.len().min(buf.remaining());
        buf.put_slice(&this.chunk[..count]);
        this.chunk.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.write_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = buf.len().min(FRAME_BYTES_MAX);
        ready!(this.poll_send(cx, || Part::Data(Bytes::copy_from_slice(&buf[..count]))))?;
        Poll::Ready(Ok(count))
    }

    /// Frames leave by themselves.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.write_ended {
            ready!(this.poll_send(cx, || Part::End(true)))?;
            this.write_ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

fn frame(part: Part) -> Frame {
    Frame { part: Some(part) }
}

fn to_wire(error: &HubError) -> TunnelError {
    let failure = |failure, message: &str| TunnelError {
        failure: TunnelFailure::into(failure),
        message: message.to_owned(),
        obeyed_term: 0,
    };
    match error {
        HubError::NoAgent { .. } => failure(TunnelFailure::NoAgent, &error.to_string()),
        HubError::Engine { message, .. } => failure(TunnelFailure::Engine, message),
        HubError::StaleTerm { obeyed, .. } => {
            TunnelError { obeyed_term: *obeyed, ..failure(TunnelFailure::Term, &error.to_string()) }
        }
        HubError::Link { reason, .. } => failure(TunnelFailure::Link, reason),
    }
}

fn from_wire(host: &str, term: Option<u64>, error: TunnelError) -> HubError {
    let host = host.to_owned();
    match (error.failure(), term) {
        (TunnelFailure::NoAgent, _) => HubError::NoAgent { host },
        (TunnelFailure::Term, Some(term)) => HubError::StaleTerm { host, term, obeyed: error.obeyed_term },
        (TunnelFailure::Engine, _) => HubError::Engine { host, message: error.message },
        _ => HubError::Link { host, reason: error.message },
    }
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the tunnel was broken off")
}

fn out_of_place() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame of the tunnel is out of place")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_the_wire_unchanged() {
        let host = || "h1".to_owned();
        let errors = [
            HubError::NoAgent { host: host() },
            HubError::Engine { host: host(), message: "no socket".into() },
            HubError::StaleTerm { host: host(), term: 3, obeyed: 7 },
            HubError::Link { host: host(), reason: "reset".into() },
        ];
        for error in errors {
            assert_eq!(from_wire("h1", Some(3), to_wire(&error)), error);
        }
    }
}
