//! One HTTP connection per client, as bare as the libraries allow: no pool, no queue, no reconnecting.
//!
//! Both systems are driven through the same code; only the encryption differs. Whoever drives a cluster that is being
//! broken must know whether a request that failed had been sent, so that is part of the error.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::body::Body;

/// Loopback answers at once or is not there.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A process that was killed closes its connections; a frozen one is noticed by this.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// A gRPC connection; clones share it.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: http2::SendRequest<Body>,
}

/// Why a request had no answer.
#[derive(Debug)]
pub(crate) struct SendError {
    /// Nothing of it was sent, so nothing has happened.
    pub(crate) not_sent: bool,
    source: hyper::Error,
}

impl Http2 {
    /// Connects; with encryption if there is a configuration for it.
    pub(crate) async fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Http2> {
        match tls {
            Some(tls) => Http2::over(encrypted(address, tls).await?).await,
            None => Http2::over(plain(address).await?).await,
        }
    }

    async fn over(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Http2> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .handshake(TokioIo::new(io))
            .await
            .context("beginning HTTP/2")?;
        // Its end is seen by whoever sends the next request.
        tokio::spawn(connection);
        Ok(Http2 { sender })
    }
}

impl tower::Service<Request<Body>> for Http2 {
    type Response = Response<Incoming>;
    type Error = SendError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, SendError>> + Send>>;

    /// Whether the connection is still there is told by the request itself: tonic drops the reason given here.
    fn poll_ready(&mut self, _task: &mut TaskContext<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.sender.send_request(request);
        Box::pin(async move {
            // "Cancelled" is what hyper says of a request that never left its queue.
            answer.await.map_err(|source| SendError { not_sent: source.is_canceled(), source })
        })
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = if self.not_sent { "not sent" } else { "sent" };
        write!(text, "{sent}: {}", self.source)?;
        match std::error::Error::source(&self.source) {
            Some(cause) => write!(text, ": {cause}"),
            None => Ok(()),
        }
    }
}

// The cause is in the text; as a source it would make tonic take it for its own.
impl std::error::Error for SendError {}

/// A connection for REST.
pub(crate) struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Http1 {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Http1> {
        let io = encrypted(address, tls).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.context("beginning HTTP/1.1")?;
        tokio::spawn(connection);
        Ok(Http1 { sender })
    }

    /// Sends a request; the answer is still to be read.
    pub(crate) async fn begin(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        self.sender.ready().await.context("waiting for the connection")?;
        self.sender.send_request(request).await.context("sending a request")
    }

    /// Sends a request and reads all of the answer.
    pub(crate) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
        let (head, body) = self.begin(request).await?.into_parts();
        let body = body.collect().await.context("reading an answer")?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

async fn plain(address: SocketAddr) -> Result<TcpStream> {
    let Ok(connected) = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await else {
        bail!("connecting to {address}: no answer within {} s", CONNECT_MAX.as_secs());
    };
    let tcp = connected.with_context(|| format!("connecting to {address}"))?;
    tcp.set_nodelay(true).context("sending without delay")?;
    Ok(tcp)
}

async fn encrypted(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    let tcp = plain(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    let handshake = TlsConnector::from(tls.clone()).connect(name, tcp);
    match tokio::time::timeout(CONNECT_MAX, handshake).await {
        Ok(io) => io.with_context(|| format!("encrypting the connection to {address}")),
        Err(_) => {
            bail!("encrypting the connection to {address}: not done within {} s", CONNECT_MAX.as_secs())
        }
    }
}
