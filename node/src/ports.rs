//! The manager's two ports: binding, TLS, and handing each connection to whom it is for.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use skep_api::{ClientAddress, Seat, Seats, TooBusy};
use skep_hub::Hub;
use skep_ledger::Ledger;
use skep_wire::accept::{self, Accepted, ManagerConnection};
use skep_wire::pki::LiveIdentity;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig as TlsConfig;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::busy::Busy;
use crate::gathered::Gathered;
use crate::members::Members;
use crate::proxies::Proxies;
use crate::{events, opening, unread};

/// Connections of managers that wait to be served; there are never more managers than this.
const MANAGER_CONNECTIONS_WAITING_MAX: usize = 16;

/// A client that has not finished its handshake by then is slow on purpose.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Connections to the API port: every watch with one of its own, as browsers and simple clients have them, and as many
/// again. Each takes about 50 KiB.
const API_CONNECTIONS_MAX: usize = 8_192;

/// Beyond them, so many are told why they are turned away; others are closed without a word.
const API_REFUSALS_MAX: usize = 64;

/// Connections to the peer port: the agents of the largest cluster may all be at one manager, which then meets them
/// again while their old links are still open.
const PEER_CONNECTIONS_MAX: usize = 20_000;

/// A client that has not sent the headers of its next request by then is closed; one that uses its connection for nothing,
/// within twice that time. Longer than clients and load balancers keep a connection that they do not use, so that it is
/// they who close it.
const HEADERS_MAX: Duration = Duration::from_secs(100);

/// The line and the headers of a request; a token has a hundred bytes, a browser's cookies have a few thousand.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Headers of a request over HTTP/1; over HTTP/2 their size bounds their number.
const HEADER_COUNT_MAX: usize = 100;

/// So long, the rest of a request that is answered already is waited for: a client that works sends it within that time.
const UNREAD_MAX: Duration = Duration::from_secs(1);

/// A client of HTTP/2 that does not answer for this long is gone; asked as often.
const SILENT_MAX: Duration = Duration::from_secs(20);

/// Requests at one time on one connection of HTTP/2.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;

/// What clients have asked for may take so long to be finished when the manager stops. Changes are answered sooner;
/// watches go on at another manager.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// How long somebody who is turned away may take to hear it.
const REFUSAL_MAX: Duration = Duration::from_secs(5);

/// Takes a port, or says who to ask about it.
pub(crate) async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "the {what} port {address} cannot be used: see who has it with 'ss -ltnp sport = :{}', \
             or choose another",
            address.port()
        )
    })
}

/// Takes a port that not everybody has.
pub(crate) async fn bind_if_wanted(what: &str, address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    match address {
        Some(address) => bind(what, address).await.map(Some),
        None => Ok(None),
    }
}

/// Serves managers and agents. Manager connections go to the gRPC server that reads the returned channel; connections
/// are accepted where that one runs, because they wake the thread on which they were accepted.
pub(crate) fn serve_peers(
    listener: TcpListener,
    identity: &LiveIdentity,
    hub: Hub,
    members: Arc<Members>,
    ledger: Arc<dyn Ledger>,
    agreement: &Handle,
) -> Result<mpsc::Receiver<Result<ManagerConnection>>> {
    let tls = identity.peer_server_config()?;
    let cluster = identity.now().cluster;
    let (managers, receiver) = mpsc::channel(MANAGER_CONNECTIONS_WAITING_MAX);
    let places = Arc::new(Semaphore::new(PEER_CONNECTIONS_MAX));
    let doors = Handle::current();
    let listener = listener.into_std().context("moving the peer port to its thread")?;
    let listening = {
        let _inside = agreement.enter();
        TcpListener::from_std(listener).context("moving the peer port to its thread")?
    };
    agreement.spawn(async move {
        loop {
            let Some(tcp) = accepted(&listening).await else {
                continue;
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                // Agents try another manager, and this one again later.
                tracing::warn!(
                    limit = PEER_CONNECTIONS_MAX,
                    "too many connections to the peer port: one was closed"
                );
                continue;
            };
            let (tls, cluster) = (tls.clone(), cluster.clone());
            let (hub, ledger, managers) = (hub.clone(), ledger.clone(), managers.clone());
            let members = members.clone();
            doors.spawn(async move {
                let _place = place;
                match accept::accept(tls, tcp, &cluster).await {
                    Ok(Accepted::Manager(connection)) => {
                        // The receiver is gone only when this process is about to be.
                        let _ = managers.send(Ok(connection)).await;
                    }
                    Ok(Accepted::Registration(io)) => hub.serve_registration(io).await,
                    Ok(Accepted::Join { io, was }) => members.serve_join(io, was).await,
                    Ok(Accepted::Agent { io, host_id }) => match events::is_known(&*ledger, &host_id).await {
                        Ok(true) => hub.serve_agent(io, host_id).await,
                        Ok(false) => hub.turn_away(io, &host_id).await,
                        Err(error) => tracing::info!(host.id = host_id, %error, "an agent must try again"),
                    },
                    Err(error) => tracing::debug!(%error, "a connection was turned away"),
                }
            });
        }
    });
    Ok(receiver)
}

/// The API port while it is open.
pub(crate) struct ApiPort {
    closing: watch::Sender<bool>,
    connections: TaskTracker,
}

impl ApiPort {
    /// Tells clients to use another manager, and waits until their open requests are answered.
    pub(crate) async fn close(self) {
        self.closing.send_replace(true);
        self.connections.close();
        if timeout(CLOSE_MAX, self.connections.wait()).await.is_err() {
            tracing::info!(
                connections = self.connections.len(),
                "some clients were still busy; they are cut off"
            );
        }
    }
}

/// How the API port receives clients.
pub(crate) struct Receiving {
    /// Whose word counts about where a client is.
    pub(crate) proxies: Proxies,
    /// Connections of one address; 0: as many as there are.
    pub(crate) connections_per_address: u32,
    /// What one connection may send, and how long it may take.
    pub(crate) bounds: Bounds,
}

/// What one connection may send, and how long it may take. Tests have smaller ones than [`BOUNDS`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) handshake_max: Duration,
    pub(crate) headers_max: Duration,
    pub(crate) header_bytes_max: usize,
    pub(crate) header_count_max: usize,
    pub(crate) unread_max: Duration,
}

/// What clients of a manager are bound to.
pub(crate) const BOUNDS: Bounds = Bounds {
    handshake_max: HANDSHAKE_MAX,
    headers_max: HEADERS_MAX,
    header_bytes_max: HEADER_BYTES_MAX,
    header_count_max: HEADER_COUNT_MAX,
    unread_max: UNREAD_MAX,
};

/// Serves the API.
pub(crate) fn serve_api(
    listener: TcpListener,
    identity: &LiveIdentity,
    router: Router,
    receiving: Receiving,
) -> Result<ApiPort> {
    let (closing, closed) = watch::channel(false);
    let connections = TaskTracker::new();
    let port = ApiPort { closing, connections: connections.clone() };
    let door = Arc::new(Door {
        tls: identity.api_server_config()?,
        router,
        full: TooBusy::router(API_CONNECTIONS_MAX),
        crowded: TooBusy::of_address(receiving.connections_per_address),
        seats: Seats::new(receiving.connections_per_address),
        refusals: Semaphore::new(API_REFUSALS_MAX),
        receiving,
        closed,
    });
    let places = Arc::new(Semaphore::new(API_CONNECTIONS_MAX));
    tokio::spawn(async move {
        let mut closed = door.closed.clone();
        loop {
            let tcp = tokio::select! {
                tcp = accepted(&listener) => tcp,
                () = until(&mut closed) => return,
            };
            let Some(tcp) = tcp else { continue };
            let door = door.clone();
            if let Ok(place) = places.clone().try_acquire_owned() {
                connections.spawn(async move { door.receive(tcp, place).await });
                continue;
            }
            tracing::warn!(
                limit = API_CONNECTIONS_MAX,
                "too many connections to the API port: one is turned away"
            );
            tokio::spawn(async move { door.turn_away(tcp, &door.full).await });
        }
    });
    Ok(port)
}

/// What every connection to the API port meets.
struct Door {
    tls: Arc<TlsConfig>,
    router: Router,
    full: Router,
    crowded: Router,
    seats: Seats<IpAddr>,
    refusals: Semaphore,
    receiving: Receiving,
    closed: watch::Receiver<bool>,
}

impl Door {
    /// Finds out for whom a connection is, and serves whoever it is.
    async fn receive(&self, mut tcp: TcpStream, place: OwnedSemaphorePermit) {
        let Ok(from) = tcp.peer_addr().map(|peer| peer.ip().to_canonical()) else { return };
        // Whoever comes by itself is counted before it has said a word.
        let Some(_seat) = self.seat(from) else {
            drop(place);
            return self.turn_away(tcp, &self.crowded).await;
        };
        let Receiving { proxies, bounds, .. } = &self.receiving;
        let client = match timeout(bounds.handshake_max, opening::client_of(&mut tcp, from, proxies)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return tracing::debug!(%from, %error, "a connection was closed"),
            Err(_) => return tracing::debug!(%from, "a client did not begin its handshake"),
        };
        let _seat_of_client = match client == from {
            true => Seat::default(),
            false => match self.seat(client) {
                Some(seat) => seat,
                None => {
                    drop(place);
                    return self.turn_away(tcp, &self.crowded).await;
                }
            },
        };
        self.serve(tcp, client, &self.router).await;
    }

    /// A trusted proxy has everybody's connections.
    fn seat(&self, address: IpAddr) -> Option<Seat<IpAddr>> {
        match self.receiving.proxies.trusts(address) {
            true => Some(Seat::default()),
            false => self.seats.take(&skep_api::network(address)),
        }
    }

    /// Tells somebody why, if there are not too many who want to hear it.
    async fn turn_away(&self, tcp: TcpStream, why: &Router) {
        let (Ok(_place), Ok(from)) = (self.refusals.try_acquire(), tcp.peer_addr()) else { return };
        let _ = timeout(REFUSAL_MAX, self.serve(tcp, from.ip().to_canonical(), why)).await;
    }

    async fn serve(&self, tcp: TcpStream, client: IpAddr, router: &Router) {
        let Receiving { proxies, bounds, .. } = &self.receiving;
        let handshake = TlsAcceptor::from(self.tls.clone()).accept(tcp);
        let io = match timeout(bounds.handshake_max, handshake).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return tracing::debug!(%error, "a client's handshake failed"),
            Err(_) => return tracing::debug!("a client did not finish its handshake"),
        };
        // What was agreed on in the handshake; looking for it in the first bytes would wait for them without end.
        let server = match io.get_ref().1.alpn_protocol() {
            Some(b"h2") => http(bounds).http2_only(),
            _ => http(bounds).http1_only(),
        };
        let (busy, unread_max) = (Busy::default(), bounds.unread_max);
        let service = service_fn(|request: Request<Incoming>| {
            let open = busy.begin();
            let (mut request, unread) = unread::lend(request);
            let client = ClientAddress(proxies.client(client, request.headers()));
            request.extensions_mut().insert(client);
            let answered = router.clone().oneshot(request);
            async move {
                let answer = answered.await;
                unread.discard(unread_max).await;
                answer.map(|answer| open.until_given(answer))
            }
        });
        let mut connection =
            pin!(server.serve_connection_with_upgrades(TokioIo::new(Gathered::new(io)), service));
        let mut closing = self.closed.clone();
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = until(&mut closing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            // Nobody waits for anything, so nobody is told; a request that is on its way is repeated elsewhere.
            () = busy.idle(bounds.headers_max) => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(CLOSE_MAX, connection).await;
                return tracing::debug!(%client, "a client has asked nothing");
            }
        };
        if let Err(error) = served {
            tracing::debug!(error, "a client's connection ended badly");
        }
    }
}

/// Serves metrics to whoever reaches the address, without TLS and without a token.
pub(crate) fn serve_metrics(listener: TcpListener, router: Router) {
    let refusals = Arc::new(Semaphore::new(API_REFUSALS_MAX));
    tokio::spawn(async move {
        loop {
            let Some(tcp) = accepted(&listener).await else {
                continue;
            };
            // A collector has one connection, or two.
            let Ok(place) = refusals.clone().try_acquire_owned() else {
                continue;
            };
            let router = router.clone();
            tokio::spawn(async move {
                let io = TokioIo::new(tcp);
                let served =
                    http(&BOUNDS).http1_only().serve_connection(io, TowerToHyperService::new(router)).await;
                if let Err(error) = served {
                    tracing::debug!(error, "a connection for metrics ended badly");
                }
                drop(place);
            });
        }
    });
}

/// Waits until it is so. The value is not kept: it would be a lock.
async fn until(so: &mut watch::Receiver<bool>) {
    let _ = so.wait_for(|so| *so).await;
}

fn http(bounds: &Bounds) -> hyper_util::server::conn::auto::Builder<TokioExecutor> {
    let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.headers_max)
        .max_buf_size(bounds.header_bytes_max)
        .max_headers(bounds.header_count_max);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(bounds.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(SILENT_MAX)
        .keep_alive_timeout(SILENT_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
    server
}

async fn accepted(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((tcp, _)) => {
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(%error, "a connection ended at once");
                return None;
            }
            Some(tcp)
        }
        Err(error) => {
            // Out of file descriptors, for instance: others may close some.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// Resolves at the first SIGTERM or SIGINT.
pub(crate) async fn stop_signal() {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
