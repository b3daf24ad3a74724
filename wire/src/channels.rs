//! The way to the other managers: one lazily connected gRPC channel per manager and purpose.
//!
//! Why several per manager: HTTP/2 shares one connection's window and order among its requests, so a
//! heartbeat behind a snapshot would look like a dead leader. Each purpose has a connection of its own.
//!
//! A manager is recognised by the name in its certificate, not by its address.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};

use crate::pki::{PkiError, manager_server_name};

/// A manager that has not answered by then counts as unreachable: elections wait for it.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// A silent connection is asked for a sign of life after this long …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// … and given up after this long, so that a manager that came back is dialled anew soon.
const KEEPALIVE_MAX: Duration = Duration::from_secs(4);
/// Bulk connections carry work that is expensive to begin again, so they are given more time.
const BULK_KEEPALIVE_MAX: Duration = Duration::from_secs(15);

/// Bytes of one stream that may be on their way: keeps one image load or snapshot at full speed.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of all streams of a connection that may be on their way. Much more than one stream's, because
/// a stream that nobody reads (a followed log) holds its share for ever.
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024 * 1024;

/// What a channel is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Log entries, proposals, votes.
    Raft,
    /// Heartbeats, read indexes and roll calls.
    Heartbeat,
    /// Snapshots and tunnels.
    Bulk,
}

/// Channels to the other managers, by node id. Clones share them.
#[derive(Clone)]
pub struct PeerChannels {
    shared: Arc<Shared>,
}

/// A manager cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Nobody has said where this manager is.
    #[error("calling manager {node}: its address is not known")]
    UnknownPeer {
        /// The manager's node id.
        node: u64,
    },
    /// The manager is this one.
    #[error("calling manager {node}: that is this manager itself")]
    Own {
        /// The node id.
        node: u64,
    },
    /// The cluster's id cannot be part of a server name.
    #[error(transparent)]
    Name(#[from] PkiError),
}

struct Shared {
    tls: Arc<ClientConfig>,
    cluster: String,
    node: u64,
    peers: Mutex<HashMap<u64, Peer>>,
}

struct Peer {
    address: String,
    channels: HashMap<Purpose, Channel>,
}

impl PeerChannels {
    /// No peers yet. `tls` shows this manager's certificate (see [`crate::pki::manager_client_config`]).
    pub fn new(tls: Arc<ClientConfig>, cluster: impl Into<String>, node: u64) -> PeerChannels {
        let shared = Shared { tls, cluster: cluster.into(), node, peers: Mutex::default() };
        PeerChannels { shared: Arc::new(shared) }
    }

    /// The cluster that the peers belong to.
    pub fn cluster(&self) -> &str {
        &self.shared.cluster
    }

    /// This manager's own node id.
    pub fn node(&self) -> u64 {
        self.shared.node
    }

    /// Says where a manager is (`host:port` of its peer port). Channels to another address are forgotten;
    /// requests that run on them come to their own end.
    pub fn set(&self, node: u64, address: impl Into<String>) {
        let address = address.into();
        let mut peers = self.peers();
        if peers.get(&node).is_none_or(|peer| peer.address != address) {
            peers.insert(node, Peer { address, channels: HashMap::new() });
        }
    }

    /// Forgets a manager.
    pub fn remove(&self, node: u64) {
        self.peers().remove(&node);
    }

    /// The other managers whose address is known, in order.
    pub fn nodes(&self) -> Vec<u64> {
        let mut nodes: Vec<u64> =
            self.peers().keys().copied().filter(|node| *node != self.shared.node).collect();
        nodes.sort_unstable();
        nodes
    }

    /// The channel for [`Purpose::Raft`].
    pub fn get(&self, node: u64) -> Result<Channel, ChannelError> {
        self.get_for(node, Purpose::Raft)
    }

    /// The channel for a purpose. It connects with the first request and again after every failure;
    /// requests fail while there is no connection.
    pub fn get_for(&self, node: u64, purpose: Purpose) -> Result<Channel, ChannelError> {
        if node == self.shared.node {
            return Err(ChannelError::Own { node });
        }
        let mut peers = self.peers();
        let peer = peers.get_mut(&node).ok_or(ChannelError::UnknownPeer { node })?;
        if let Some(channel) = peer.channels.get(&purpose) {
            return Ok(channel.clone());
        }
        let name = manager_server_name(&self.shared.cluster, node)?;
        let channel = connect_lazily(self.shared.tls.clone(), name, peer.address.clone(), purpose);
        peer.channels.insert(purpose, channel.clone());
        Ok(channel)
    }

    /// Nobody can leave the map half-changed, so a panic elsewhere does not spoil it.
    fn peers(&self) -> MutexGuard<'_, HashMap<u64, Peer>> {
        self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A gRPC server with the same bounds as the channels, for connections from [`crate::accept`].
pub fn peer_server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(BULK_KEEPALIVE_MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
}

fn connect_lazily(
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    address: String,
    purpose: Purpose,
) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let (tls, name, address) = (tls.clone(), name.clone(), address.clone());
        async move { connect(tls, name, address).await.map(TokioIo::new) }
    });
    let patience = match purpose {
        Purpose::Raft | Purpose::Heartbeat => KEEPALIVE_MAX,
        Purpose::Bulk => BULK_KEEPALIVE_MAX,
    };
    // The address is the connector's business; here it only fills the requests' `:authority`.
    Endpoint::from_static("http://manager.skep.internal")
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(patience)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect_with_connector_lazy(connector)
}

async fn connect(
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    address: String,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(tls).connect(name, tcp).await
}
