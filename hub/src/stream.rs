//! Opening a byte stream to a service of a host, wherever its agent is connected.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use skep_wire::mux::MuxStream;
use skep_wire::proto::peer::HostService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tunnel::{self, TunnelStream};
use crate::{Hub, HubError};

/// How long our own session may take before the other managers are asked as well. A link that died
/// without a word is noticed only after a long silence, and its agent may be back elsewhere by then.
const OWN_SESSION_HEAD_START: Duration = Duration::from_secs(1);

/// A raw byte stream to a service of a host. `shutdown` is a half-close; dropping it breaks the stream off; a
/// stream that is lost ends with an error, never with an orderly end.
pub struct HostStream {
    route: Route,
    engine_api: String,
}

/// Where a stream is to lead to.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The host's id.
    pub(crate) host: &'a str,
    pub(crate) service: HostService,
    /// The host refuses if it has obeyed a higher one.
    pub(crate) term: Option<u64>,
}

enum Route {
    Local(Box<MuxStream>),
    Tunnel(Box<TunnelStream>),
}

impl Hub {
    /// Opens a stream to the host's engine. With a term, the host refuses if it has obeyed a higher one.
    pub async fn open(&self, host: &str, term: Option<u64>) -> Result<HostStream, HubError> {
        self.open_anywhere(Target { host, service: HostService::Engine, term }).await
    }

    /// Opens a stream to the host's agent itself, for one request. The term is as for an engine.
    pub async fn agent(&self, host: &str, term: Option<u64>) -> Result<HostStream, HubError> {
        self.open_anywhere(Target { host, service: HostService::Agent, term }).await
    }

    async fn open_anywhere(&self, target: Target<'_>) -> Result<HostStream, HubError> {
        let Some(session) = self.shared.sessions.find(target.host) else {
            return self.open_elsewhere(target).await;
        };
        let mut own = pin!(session.open(target));
        match tokio::time::timeout(OWN_SESSION_HEAD_START, &mut own).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.is_the_hosts_answer() => return Err(error),
            Ok(Err(_)) => return self.open_elsewhere(target).await,
            Err(_) => {}
        }
        let mut elsewhere = pin!(self.open_elsewhere(target));
        tokio::select! {
            opened = &mut own => match opened {
                Err(error) if !error.is_the_hosts_answer() => elsewhere.await,
                answer => answer,
            },
            opened = &mut elsewhere => match opened {
                Err(error) if !error.is_the_hosts_answer() => own.await,
                answer => answer,
            },
        }
    }

    /// Opens a stream over a session of this manager only. Tunnels end here, so a request takes one hop
    /// at most.
    pub(crate) async fn open_here(&self, target: Target<'_>) -> Result<HostStream, HubError> {
        match self.shared.sessions.find(target.host) {
            Some(session) => session.open(target).await,
            None => Err(HubError::NoAgent { host: target.host.to_owned() }),
        }
    }

    /// Asks all other managers at once; the first that has the agent is taken.
    async fn open_elsewhere(&self, target: Target<'_>) -> Result<HostStream, HubError> {
        let nodes = self.shared.channels.nodes().into_iter().filter(|node| *node != self.shared.node);
        let mut asked: FuturesUnordered<_> =
            nodes.map(|node| tunnel::open(&self.shared.channels, node, target)).collect();
        let mut failure = HubError::NoAgent { host: target.host.to_owned() };
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(stream) => return Ok(stream),
                Err(error) if error.is_the_hosts_answer() => return Err(error),
                // A manager that could not be asked says nothing about the host; one that lost the
                // agent's link on the way does.
                Err(error @ HubError::Link { .. }) => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }
}

impl HostStream {
    /// For an engine: the newest Docker API version that it speaks, such as `1.41`.
    pub fn engine_api(&self) -> &str {
        &self.engine_api
    }

    pub(crate) fn local(stream: MuxStream, engine_api: String) -> HostStream {
        HostStream { route: Route::Local(Box::new(stream)), engine_api }
    }

    pub(crate) fn tunnelled(stream: TunnelStream, engine_api: String) -> HostStream {
        HostStream { route: Route::Tunnel(Box::new(stream)), engine_api }
    }
}

impl AsyncRead for HostStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().route {
            Route::Local(stream) => Pin::new(stream).poll_read(cx, buf),
            Route::Tunnel(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for HostStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().route {
            Route::Local(stream) => Pin::new(stream).poll_write(cx, buf),
            Route::Tunnel(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().route {
            Route::Local(stream) => Pin::new(stream).poll_flush(cx),
            Route::Tunnel(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().route {
            Route::Local(stream) => Pin::new(stream).poll_shutdown(cx),
            Route::Tunnel(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
