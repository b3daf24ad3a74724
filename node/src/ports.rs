//! The manager's two ports: binding, TLS, and handing each connection to whom it is for.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use skep_hub::Hub;
use skep_ledger::Ledger;
use skep_wire::accept::{self, Accepted, ManagerConnection};
use skep_wire::pki::LiveIdentity;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig as TlsConfig;

use crate::events;
use crate::members::Members;

/// Connections of managers that wait to be served; there are never more managers than this.
const MANAGER_CONNECTIONS_WAITING_MAX: usize = 16;

/// A client that has not finished its handshake by then is slow on purpose.
const HANDSHAKE_MAX: std::time::Duration = std::time::Duration::from_secs(10);

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

/// Serves managers and agents. Manager connections go to the gRPC server that reads the returned channel.
pub(crate) fn serve_peers(
    listener: TcpListener,
    identity: &LiveIdentity,
    hub: Hub,
    members: Arc<Members>,
    ledger: Arc<dyn Ledger>,
) -> Result<mpsc::Receiver<Result<ManagerConnection>>> {
    let tls = identity.peer_server_config()?;
    let cluster = identity.now().cluster;
    let (managers, receiver) = mpsc::channel(MANAGER_CONNECTIONS_WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let Some(tcp) = accepted(&listener).await else {
                continue;
            };
            let (tls, cluster) = (tls.clone(), cluster.clone());
            let (hub, ledger, managers) = (hub.clone(), ledger.clone(), managers.clone());
            let members = members.clone();
            tokio::spawn(async move {
                match accept::accept(tls, tcp, &cluster).await {
                    Ok(Accepted::Manager(connection)) => {
                        // The receiver is gone only when this process is about to be.
                        let _ = managers.send(Ok(connection)).await;
                    }
                    Ok(Accepted::Registration(io)) => hub.serve_registration(io).await,
                    Ok(Accepted::Join { io, was }) => members.serve_join(io, was).await,
                    Ok(Accepted::Agent { io, host_id }) => match events::is_known(&*ledger, &host_id).await {
                        Ok(true) => hub.serve_agent(io, host_id).await,
                        Ok(false) => {
                            tracing::info!(host.id = host_id, "an agent of a removed host was turned away")
                        }
                        Err(error) => tracing::info!(host.id = host_id, %error, "an agent must try again"),
                    },
                    Err(error) => tracing::debug!(%error, "a connection was turned away"),
                }
            });
        }
    });
    Ok(receiver)
}

/// Serves the API.
pub(crate) fn serve_api(listener: TcpListener, identity: &LiveIdentity, router: Router) -> Result<()> {
    let tls = identity.api_server_config()?;
    tokio::spawn(async move {
        loop {
            let Some(tcp) = accepted(&listener).await else {
                continue;
            };
            tokio::spawn(serve_client(tls.clone(), tcp, router.clone()));
        }
    });
    Ok(())
}

async fn serve_client(tls: Arc<TlsConfig>, tcp: TcpStream, router: Router) {
    let handshake = TlsAcceptor::from(tls).accept(tcp);
    let io = match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(io)) => io,
        Ok(Err(error)) => return tracing::debug!(%error, "a client's handshake failed"),
        Err(_) => return tracing::debug!("a client did not finish its handshake"),
    };
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(router);
    if let Err(error) = server.serve_connection_with_upgrades(TokioIo::new(io), service).await {
        tracing::debug!(error, "a client's connection ended badly");
    }
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
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
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
