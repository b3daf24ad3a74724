//! Many byte streams over one connection, opened by either side (yamux underneath).
//!
//! Why not yamux streams as they are: there, a lost connection reads like an orderly end, and a stream
//! that was half-closed and then dropped leaves the other side writing into nothing for ever. A cut-off
//! image load must not look complete, so here each direction is a sequence of chunks and an empty chunk
//! is its end:
//!
//! ```text
//!   | length 2 bytes | bytes … | length | bytes … | 0 |        anything after it, or instead of it, is an error
//! ```
//!
//! yamux's own end is never sent. A dropped stream is reset, which the other side sees at once, both
//! when it reads and when it writes; what had arrived before can still be read.
//!
//! Nothing travels when a stream is opened; the other side hears of it with the first bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead as _, AsyncWrite as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;

/// Streams that one side may have open at a time. Every running request, log or shell on a host is one;
/// yamux ends the whole connection when its own, larger bound is reached, so opening waits at ours. Below
/// the 256 streams that yamux lets wait for a first answer.
pub const OPEN_STREAMS_MAX: usize = 200;

/// Streams that yamux may know at a time: those of both sides and as many again that one side has
/// dropped and the other has not yet let go.
const KNOWN_STREAMS_MAX: usize = 4 * OPEN_STREAMS_MAX;

/// Bytes by which busy streams together may grow beyond their first window: enough for one image load
/// over a long line at full speed, small enough for an agent's memory.
const WINDOW_GROWTH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Streams that have arrived and were not yet taken. The other side cannot have more open than this.
const ARRIVED_STREAMS_MAX: usize = OPEN_STREAMS_MAX;

/// Requests to open a stream that wait for the driver. More callers than this wait in line.
const OPENING_STREAMS_MAX: usize = 32;

/// Chunk with its length: what yamux sends as one frame.
const FRAME_BYTES_MAX: usize = 16 * 1024;
const LENGTH_BYTES: usize = 2;
const CHUNK_BYTES_MAX: usize = FRAME_BYTES_MAX - LENGTH_BYTES;

/// A handle to a connection. Clones are cheap. When the last one is dropped, the connection closes and
/// its streams end with an error.
#[derive(Clone, Debug)]
pub struct Mux {
    opening: mpsc::Sender<oneshot::Sender<yamux::Stream>>,
    permits: Arc<Semaphore>,
    closing: CancellationToken,
    ended: CancellationToken,
}

/// Streams that the other side opened, in the order in which they arrived; ends with the connection.
pub type Incoming = mpsc::Receiver<MuxStream>;

impl Mux {
    /// The dialling side of a connection.
    pub fn client<Io>(io: Io) -> (Mux, Incoming)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Mux::start(io, yamux::Mode::Client)
    }

    /// The accepting side of a connection.
    pub fn server<Io>(io: Io) -> (Mux, Incoming)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Mux::start(io, yamux::Mode::Server)
    }

    /// Opens a stream. Waits while [`OPEN_STREAMS_MAX`] of ours are open.
    pub async fn open(&self) -> io::Result<MuxStream> {
        let permit = tokio::select! {
            permit = self.permits.clone().acquire_owned() => permit.map_err(|_| connection_lost())?,
            () = self.ended.cancelled() => return Err(connection_lost()),
        };
        let (reply, opened) = oneshot::channel();
        self.opening.send(reply).await.map_err(|_| connection_lost())?;
        let stream = opened.await.map_err(|_| connection_lost())?;
        Ok(MuxStream::new(stream, Some(permit)))
    }

    /// Closes the connection, whoever else has a handle.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Returns when the connection has ended, for whatever reason.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn start<Io>(io: Io, mode: yamux::Mode) -> (Mux, Incoming)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (opening, requests) = mpsc::channel(OPENING_STREAMS_MAX);
        let (arrived, incoming) = mpsc::channel(ARRIVED_STREAMS_MAX);
        let mux = Mux {
            opening,
            permits: Arc::new(Semaphore::new(OPEN_STREAMS_MAX)),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        let driver = Driver {
            connection: yamux::Connection::new(io.compat(), config(), mode),
            requests,
            request: None,
            arrived,
        };
        tokio::spawn(driver.run(mux.closing.clone(), mux.ended.clone()));
        (mux, incoming)
    }
}

fn config() -> yamux::Config {
    let mut config = yamux::Config::default();
    let first_windows = KNOWN_STREAMS_MAX * yamux::DEFAULT_CREDIT as usize;
    // Streams first: the default number of them is checked against the window.
    config
        .set_max_num_streams(KNOWN_STREAMS_MAX)
        .set_max_connection_receive_window(Some(first_windows + WINDOW_GROWTH_BYTES_MAX))
        .set_split_send_size(FRAME_BYTES_MAX);
    config
}

fn connection_lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the multiplexed connection has ended")
}

/// The only one who touches the connection; yamux makes progress only while it is polled.
struct Driver<Io> {
    connection: yamux::Connection<Compat<Io>>,
    requests: mpsc::Receiver<oneshot::Sender<yamux::Stream>>,
    request: Option<oneshot::Sender<yamux::Stream>>,
    arrived: mpsc::Sender<MuxStream>,
}

impl<Io: AsyncRead + AsyncWrite + Send + Unpin + 'static> Driver<Io> {
    async fn run(mut self, closing: CancellationToken, ended: CancellationToken) {
        // Whatever happens here, nobody may wait for this connection any longer.
        let _ended = ended.drop_guard();
        tokio::select! {
            reason = poll_fn(|cx| self.drive(cx)) => if let Some(error) = reason {
                tracing::debug!(%error, "a multiplexed connection was lost");
            },
            () = closing.cancelled() => {}
        }
        // The connection is dropped, not closed: yamux's closing leaves readers on this side waiting
        // for ever, and what still runs when a connection ends is to be broken off anyway.
    }

    /// Ready when the connection has ended: with the error, or `None` for an orderly end.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Option<yamux::ConnectionError>> {
        loop {
            match self.open_next(cx) {
                Poll::Ready(Ok(true)) => continue,
                Poll::Ready(Ok(false)) => return Poll::Ready(None),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
                Poll::Pending => {}
            }
            match self.connection.poll_next_inbound(cx) {
                // A full queue cannot happen with an honest other side. Waiting here would stop every
                // other stream, so the new one is dropped, which resets it.
                Poll::Ready(Some(Ok(stream))) => drop(self.arrived.try_send(MuxStream::new(stream, None))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(error)),
                Poll::Ready(None) => return Poll::Ready(None),
                // Polling may have cleared dropped streams away, which yamux does not tell a waiting opener.
                Poll::Pending if self.request.is_some() => match ready!(self.open_next(cx)) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Ready(None),
                    Err(error) => return Poll::Ready(Some(error)),
                },
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Ready with whether a stream was opened; `false` when nobody can ask any more.
    fn open_next(&mut self, cx: &mut Context<'_>) -> Poll<yamux::Result<bool>> {
        if self.request.is_none() {
            match ready!(self.requests.poll_recv(cx)) {
                Some(request) => self.request = Some(request),
                None => return Poll::Ready(Ok(false)),
            }
        }
        let stream = ready!(self.connection.poll_new_outbound(cx))?;
        if let Some(request) = self.request.take() {
            // A caller that has gone away drops the stream with the reply.
            let _ = request.send(stream);
        }
        Poll::Ready(Ok(true))
    }
}

/// One stream of a connection. `shutdown` ends our direction and leaves the other one open; dropping
/// the stream breaks off what has not ended.
#[derive(Debug)]
pub struct MuxStream {
    stream: yamux::Stream,
    reading: Reading,
    /// Chunks that were accepted from the writer and not yet by yamux; `written` bytes of it are done.
    outgoing: Vec<u8>,
    written: usize,
    write_ended: bool,
    /// Held while a stream that we opened exists.
    _permit: Option<OwnedSemaphorePermit>,
}

/// Where in the sequence of chunks the reader is.
#[derive(Debug)]
enum Reading {
    Length { read: usize, length: [u8; LENGTH_BYTES] },
    Chunk { left: usize },
    Ended,
}

impl Reading {
    const NEXT: Reading = Reading::Length { read: 0, length: [0; LENGTH_BYTES] };
}

impl MuxStream {
    fn new(stream: yamux::Stream, permit: Option<OwnedSemaphorePermit>) -> MuxStream {
        MuxStream {
            stream,
            reading: Reading::NEXT,
            outgoing: Vec::new(),
            written: 0,
            write_ended: false,
            _permit: permit,
        }
    }

    /// Hands all accepted chunks to yamux.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.outgoing.len() {
            let rest = &self.outgoing[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(broken_off())),
                Ok(count) => self.written += count,
                Err(_) => return Poll::Ready(Err(broken_off())),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn push_chunk(&mut self, chunk: &[u8]) {
        self.outgoing.extend_from_slice(&(chunk.len() as u16).to_be_bytes());
        self.outgoing.extend_from_slice(chunk);
    }
}

fn broken_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the stream was broken off by the other side or with its connection",
    )
}

impl AsyncRead for MuxStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.reading {
                Reading::Ended => return Poll::Ready(Ok(())),
                Reading::Length { read, length } => {
                    let count = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut length[*read..]))?;
                    if count == 0 {
                        return Poll::Ready(Err(broken_off()));
                    }
                    *read += count;
                    if *read == LENGTH_BYTES {
                        this.reading = match u16::from_be_bytes(*length) {
                            0 => Reading::Ended,
                            left => Reading::Chunk { left: left.into() },
                        };
                    }
                }
                Reading::Chunk { left } => {
                    let room = buf.remaining().min(*left);
                    if room == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let space = buf.initialize_unfilled_to(room);
                    let count = ready!(Pin::new(&mut this.stream).poll_read(cx, space))?;
                    if count == 0 {
                        return Poll::Ready(Err(broken_off()));
                    }
                    buf.advance(count);
                    *left -= count;
                    if *left == 0 {
                        this.reading = Reading::NEXT;
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.write_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_drain(cx))?;
        let count = buf.len().min(CHUNK_BYTES_MAX);
        this.push_chunk(&buf[..count]);
        // Off at once if there is room; otherwise the next write or flush sends it.
        match this.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx).map_err(|_| broken_off())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.write_ended {
            this.write_ended = true;
            this.push_chunk(&[]);
        }
        Pin::new(this).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// More than all windows and buffers together hold, so that flow control has to work.
    const PAYLOAD_BYTES: usize = 3 * 1024 * 1024;
    const STREAMS: u8 = 24;
    const DEADLINE: Duration = Duration::from_secs(60);

    fn pair() -> ((Mux, Incoming), (Mux, Incoming)) {
        let (left, right) = tokio::io::duplex(64 * 1024);
        (Mux::client(left), Mux::server(right))
    }

    /// Sends everything back, and ends only after the other side did.
    async fn echo(mut incoming: Incoming) {
        while let Some(stream) = incoming.recv().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(stream);
                tokio::io::copy(&mut reader, &mut writer).await.expect("copied");
                writer.write_all(b"end").await.expect("written after the other side's end");
                writer.shutdown().await.expect("ended");
                // Until the other side has let go, the last chunks may be on their way.
                let _ = reader.read(&mut [0]).await;
            });
        }
    }

    async fn converse(mux: Mux, seed: u8) {
        let stream = mux.open().await.expect("opened");
        let (mut reader, mut writer) = tokio::io::split(stream);
        let payload: Vec<u8> = (0..PAYLOAD_BYTES).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
        let sent = payload.clone();
        let writing = tokio::spawn(async move {
            writer.write_all(&sent).await.expect("sent");
            writer.shutdown().await.expect("half-closed");
            writer
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.expect("an orderly end");
        writing.await.expect("the writer ends");
        assert!(received.ends_with(b"end"));
        assert!(received[..PAYLOAD_BYTES] == payload[..], "stream {seed} came back changed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_streams_in_both_directions_come_back_whole() {
        let ((left, left_incoming), (right, right_incoming)) = pair();
        tokio::spawn(echo(left_incoming));
        tokio::spawn(echo(right_incoming));
        let talks = (0..STREAMS).map(|seed| {
            let mux = if seed % 2 == 0 { left.clone() } else { right.clone() };
            tokio::spawn(converse(mux, seed))
        });
        let all = futures::future::try_join_all(talks);
        tokio::time::timeout(DEADLINE, all).await.expect("all streams end").expect("none fails");
    }

    #[tokio::test]
    async fn a_lost_connection_is_an_error_and_not_an_end() {
        let (left_io, right_io) = tokio::io::duplex(64 * 1024);
        let (left, _left_incoming) = Mux::client(left_io);
        let (right, mut incoming) = Mux::server(right_io);
        let mut ours = left.open().await.expect("opened");
        ours.write_all(b"half").await.expect("written");
        ours.flush().await.expect("flushed");
        let mut theirs = incoming.recv().await.expect("arrived");
        let mut half = [0; 4];
        theirs.read_exact(&mut half).await.expect("what was sent is read");

        right.close();
        left.ended().await;
        ours.read(&mut half).await.expect_err("not an orderly end");
        theirs.read(&mut half).await.expect_err("not an orderly end on the closing side either");
        ours.write_all(b"more").await.expect_err("nobody is there");
        left.open().await.expect_err("no stream without a connection");
        assert!(incoming.recv().await.is_none());
    }

    #[tokio::test]
    async fn dropping_all_handles_closes_the_connection() {
        let ((left, _left_incoming), (right, _right_incoming)) = pair();
        let clone = left.clone();
        drop(left);
        let stream = clone.open().await.expect("one handle is enough");
        drop(clone);
        tokio::time::timeout(DEADLINE, right.ended()).await.expect("the other side ends");
        drop(stream);
    }

    #[tokio::test]
    async fn a_dropped_stream_frees_the_writer_on_the_other_side_even_after_half_close() {
        let ((left, _left_incoming), (_right, mut incoming)) = pair();
        let mut ours = left.open().await.expect("opened");
        ours.write_all(b"go").await.expect("written");
        ours.shutdown().await.expect("half-closed");
        let mut theirs = incoming.recv().await.expect("arrived");
        let mut asked = Vec::new();
        theirs.read_to_end(&mut asked).await.expect("an orderly end");
        let endless = tokio::spawn(async move { while theirs.write_all(&[7; 4096]).await.is_ok() {} });
        ours.read_exact(&mut [0; 4096]).await.expect("the answer has begun");
        drop(ours);
        tokio::time::timeout(DEADLINE, endless).await.expect("the writer is told").expect("no panic");
    }

    #[tokio::test]
    async fn what_was_sent_before_an_end_and_a_drop_arrives() {
        let ((left, _left_incoming), (_right, mut incoming)) = pair();
        let mut ours = left.open().await.expect("opened");
        ours.write_all(&[9; 100_000]).await.expect("written");
        ours.shutdown().await.expect("ended");
        drop(ours);
        let mut theirs = incoming.recv().await.expect("arrived");
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.expect("a reset after the end harms nothing");
        assert_eq!(all.len(), 100_000);
    }

    #[tokio::test]
    async fn opening_waits_at_the_bound_and_goes_on_when_a_stream_is_dropped() {
        let ((left, _left_incoming), (_right, _incoming)) = pair();
        let mut open = Vec::new();
        for _ in 0..OPEN_STREAMS_MAX {
            let mut stream = left.open().await.expect("opened");
            stream.write_all(b"x").await.expect("written");
            open.push(stream);
        }
        let mut waiting = tokio::spawn({
            let left = left.clone();
            async move { left.open().await }
        });
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("one stream too many"),
            () = tokio::task::yield_now() => {}
        }
        open.pop();
        let opened = tokio::time::timeout(DEADLINE, waiting).await.expect("room was made");
        opened.expect("no panic").expect("opened");
    }
}
