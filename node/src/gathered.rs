//! Small writes of an answer as one.
//!
//! Where several buffers can be written at once, h2 leaves a frame of 256 bytes or more where it is
//! ([`CHAIN_THRESHOLD`](https://github.com/hyperium/h2/blob/master/src/codec/framed_write.rs)) and writes before it goes on:
//! an answer of gRPC with such a message takes two system calls and two records of TLS, the second for its trailers. TLS
//! copies what it encrypts in any case, so this says that it takes one buffer at a time, which has h2 copy frames of up to
//! 1 KiB; and what comes in several small pieces before a flush it writes as one. Over HTTP/1 hyper then puts head and body
//! together in the same way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than the pieces that h2 makes of the head of a frame; what is larger is worth a write of its own.
const GATHERED_BYTES_MAX: usize = 4 * 1024;

/// A connection whose small writes wait for the next flush.
pub(crate) struct Gathered<Io> {
    io: Io,
    waiting: Vec<u8>,
}

impl<Io: AsyncWrite + Unpin> Gathered<Io> {
    pub(crate) fn new(io: Io) -> Gathered<Io> {
        Gathered { io, waiting: Vec::new() }
    }

    /// Writes what waits, and as much of `more` as is taken with it: how much.
    fn poll_write_with(&mut self, cx: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while !self.waiting.is_empty() {
            let both = [IoSlice::new(&self.waiting), IoSlice::new(more)];
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &both))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let waited = written.min(self.waiting.len());
            self.waiting.drain(..waited);
            if written > waited {
                return Poll::Ready(Ok(written - waited));
            }
        }
        match more {
            [] => Poll::Ready(Ok(0)),
            more => Pin::new(&mut self.io).poll_write(cx, more),
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Gathered<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.waiting.len() + bytes.len() > GATHERED_BYTES_MAX {
            return this.poll_write_with(cx, bytes);
        }
        this.waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_with(cx, &[]))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_with(cx, &[]))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Gathered<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::{Body, Bytes};
    use axum::http::{HeaderMap, Request, Response};
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::Frame;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_stream::iter;

    use super::*;

    /// Counts writes, and takes any number of buffers at once, as TLS does.
    struct Counting {
        io: DuplexStream,
        writes: Arc<AtomicUsize>,
    }

    impl Counting {
        /// Holds `bytes` until they are read.
        fn pair(bytes: usize) -> (Counting, DuplexStream, Arc<AtomicUsize>) {
            let (io, other) = duplex(bytes);
            let writes = Arc::new(AtomicUsize::new(0));
            (Counting { io, writes: writes.clone() }, other, writes)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.io).poll_write(cx, bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_shutdown(cx)
        }
    }

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_read(cx, buffer)
        }
    }

    #[tokio::test]
    async fn whatever_the_pieces_all_arrives_in_order() {
        let (io, mut other, _) = Counting::pair(700);
        let pieces: Vec<Vec<u8>> =
            [9, 1024, 5_000, 1, 4_096, 40_000, 0, 3].iter().map(|len| vec![*len as u8; *len]).collect();
        let sent = pieces.concat();
        let writing = async move {
            let mut gathered = Gathered::new(io);
            for piece in pieces {
                gathered.write_all(&piece).await.expect("written");
            }
            gathered.shutdown().await.expect("ended");
        };
        let mut arrived = vec![];
        let (_, read) = tokio::join!(writing, other.read_to_end(&mut arrived));
        read.expect("read");
        assert_eq!(arrived, sent);
    }

    #[tokio::test]
    async fn small_pieces_wait_for_the_flush_and_go_with_a_large_one() {
        let (io, _other, writes) = Counting::pair(1024 * 1024);
        let mut gathered = Gathered::new(io);
        for _ in 0..3 {
            gathered.write_all(b"piece").await.expect("written");
        }
        assert_eq!(writes.load(Ordering::Relaxed), 0);
        gathered.flush().await.expect("flushed");
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        gathered.write_all(b"piece").await.expect("written");
        gathered.write_all(&[7; 100_000]).await.expect("written");
        assert_eq!(writes.load(Ordering::Relaxed), 2);
    }

    /// A message of `bytes` and trailers, as gRPC answers.
    async fn answer(bytes: usize) -> Result<Response<Body>, Infallible> {
        let message = Ok::<_, Infallible>(Frame::data(Bytes::from(vec![7; bytes])));
        let trailers = Ok(Frame::trailers(HeaderMap::new()));
        Ok(Response::new(Body::new(StreamBody::new(iter([message, trailers])))))
    }

    #[tokio::test]
    async fn an_answer_with_trailers_is_one_write() {
        for (bytes, expected) in [(100, 1), (300, 1), (1_000, 1), (5_000, 2)] {
            let (io, other, writes) = Counting::pair(1024 * 1024);
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(Gathered::new(io)), service_fn(move |_| answer(bytes)));
            tokio::spawn(server);
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(other))
                    .await
                    .expect("a handshake");
            tokio::spawn(connection);
            for first in [true, false] {
                let before = writes.load(Ordering::Relaxed);
                let request = Request::get("http://m1/").body(Body::empty()).expect("a request");
                let response = client.send_request(request).await.expect("answered");
                assert_eq!(response.into_body().collect().await.expect("read").to_bytes().len(), bytes);
                let writes = writes.load(Ordering::Relaxed) - before;
                // The first comes with the settings of both sides.
                assert!(first || writes == expected, "{bytes} bytes in {writes} writes");
            }
        }
    }
}
