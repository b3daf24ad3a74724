//! The door of the peer port: one listener, and the protocol that the client offers decides what the
//! connection is for and which certificate it needs.
//!
//! | protocol          | for                  | certificate    |
//! |-------------------|----------------------|----------------|
//! | `h2`              | gRPC between managers | a manager's   |
//! | `skep-agent/1`    | an agent's link       | a host's      |
//! | `skep-register/1` | a host's registration | none          |
//! | `skep-join/1`     | a manager that joins  | none, or its own when it comes back |

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::pki::{ALPN_AGENT, ALPN_GRPC, ALPN_JOIN, ALPN_REGISTER, PeerName, PkiError, Role, peer_identity};

/// A client that has not finished its handshake by then is not one of ours.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// A connection whose purpose and peer are known.
pub enum Accepted {
    /// Another manager: serve gRPC on it.
    Manager(ManagerConnection),
    /// A host's agent.
    Agent {
        /// The link.
        io: TlsStream<TcpStream>,
        /// The host's id, from its certificate.
        host_id: String,
    },
    /// A host that wants to register.
    Registration(TlsStream<TcpStream>),
    /// A manager that wants to join.
    Join {
        /// The connection.
        io: TlsStream<TcpStream>,
        /// Its number, if it was a manager of this cluster before and shows the certificate.
        was: Option<u64>,
    },
}

/// Why a connection was turned away.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The TLS handshake failed, for instance because of a foreign certificate.
    #[error("accepting a TLS connection: {0}")]
    Handshake(#[source] io::Error),
    /// The TLS handshake took too long.
    #[error("accepting a TLS connection: no complete handshake within {} s", HANDSHAKE_MAX.as_secs())]
    TooSlow,
    /// The client offered none of our protocols.
    #[error("accepting a connection: the client speaks none of our protocols")]
    Protocol,
    /// The certificate has no name that we understand.
    #[error(transparent)]
    Name(#[from] PkiError),
    /// The certificate is not one that this protocol needs.
    #[error("accepting a connection: {name} may not speak {protocol}")]
    Role {
        /// The protocol that the client chose.
        protocol: &'static str,
        /// Who the client is.
        name: String,
    },
}

/// Does the handshake and finds out who is there. `cluster` is our own.
pub async fn accept(
    config: Arc<ServerConfig>,
    tcp: TcpStream,
    cluster: &str,
) -> Result<Accepted, AcceptError> {
    // Small messages both ways; waiting to fill a packet would cost more than it saves.
    tcp.set_nodelay(true).map_err(AcceptError::Handshake)?;
    let handshake = TlsAcceptor::from(config).accept(tcp);
    let io = tokio::time::timeout(HANDSHAKE_MAX, handshake)
        .await
        .map_err(|_| AcceptError::TooSlow)?
        .map_err(AcceptError::Handshake)?;
    let (_, session) = io.get_ref();
    let protocol = session.alpn_protocol().unwrap_or_default();
    if protocol == ALPN_REGISTER {
        return Ok(Accepted::Registration(io));
    }
    if protocol == ALPN_JOIN {
        let was = former_number(session.peer_certificates().unwrap_or_default(), cluster)?;
        return Ok(Accepted::Join { io, was });
    }
    let name = peer_identity(session.peer_certificates().unwrap_or_default())?;
    let refused = |protocol, name: PeerName| Err(AcceptError::Role { protocol, name: name.to_string() });
    match (protocol, &name.role) {
        (ALPN_GRPC, Role::Manager(_)) if name.cluster == cluster => {
            Ok(Accepted::Manager(ManagerConnection { io, name }))
        }
        (ALPN_AGENT, Role::Host(host)) if name.cluster == cluster => {
            let host_id = host.clone();
            Ok(Accepted::Agent { io, host_id })
        }
        (ALPN_GRPC, _) => refused("h2", name),
        (ALPN_AGENT, _) => refused("skep-agent/1", name),
        _ => Err(AcceptError::Protocol),
    }
}

/// A joiner without a certificate has a token; one with another certificate is mistaken.
fn former_number(certificates: &[CertificateDer<'_>], cluster: &str) -> Result<Option<u64>, AcceptError> {
    if certificates.is_empty() {
        return Ok(None);
    }
    let name = peer_identity(certificates)?;
    match name.role {
        Role::Manager(node) if name.cluster == cluster => Ok(Some(node)),
        _ => Err(AcceptError::Role { protocol: "skep-join/1", name: name.to_string() }),
    }
}

/// A manager's connection. tonic puts its [`PeerName`] into every request's extensions.
pub struct ManagerConnection {
    io: TlsStream<TcpStream>,
    name: PeerName,
}

impl ManagerConnection {
    /// Who is at the other end.
    pub fn name(&self) -> &PeerName {
        &self.name
    }
}

impl Connected for ManagerConnection {
    type ConnectInfo = PeerName;

    fn connect_info(&self) -> PeerName {
        self.name.clone()
    }
}

impl AsyncRead for ManagerConnection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ManagerConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rustls::ClientConfig;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::pki::{
        Authority, Identity, JoinToken, Joiner, LiveIdentity, certificate_request, client_config,
        generate_key, manager_client_config, manager_server_name, managers_server_name, peer_server_config,
    };

    const CLUSTER: &str = "c1";

    struct Host {
        certificate_pem: String,
        key_pem: String,
    }

    fn host_of(authority: &Authority) -> Host {
        let key_pem = generate_key().expect("a key");
        let csr = certificate_request(&key_pem, "h1").expect("a request");
        Host { certificate_pem: authority.sign_host_csr(&csr, "h1").expect("signed"), key_pem }
    }

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    /// What the door of manager 1 says to a client with this configuration, and what the client saw.
    async fn knock(
        server: &Identity,
        client: Arc<ClientConfig>,
    ) -> (Result<(), AcceptError>, io::Result<()>) {
        let (listener, address) = listen().await;
        let config = peer_server_config(server).expect("a configuration");
        let accepting = async {
            let (tcp, _) = listener.accept().await.expect("accepted");
            let mut io = match accept(config, tcp, CLUSTER).await? {
                Accepted::Manager(connection) => connection.io,
                Accepted::Agent { io, .. } | Accepted::Registration(io) | Accepted::Join { io, .. } => io,
            };
            io.write_all(b"!").await.expect("written");
            io.shutdown().await.expect("ended");
            Ok(())
        };
        let dialling = async {
            let tcp = TcpStream::connect(address).await?;
            let name = managers_server_name(CLUSTER).expect("a name");
            let mut io = TlsConnector::from(client).connect(name, tcp).await?;
            // With TLS 1.3 a client learns only now that its certificate was refused.
            io.read_exact(&mut [0]).await.map(drop)
        };
        tokio::join!(accepting, dialling)
    }

    #[tokio::test]
    async fn a_host_of_the_cluster_is_let_in_and_one_of_another_authority_is_not() {
        let identity = Identity::create(CLUSTER, 1, &[]).expect("created");
        let ours = host_of(&identity.authority().expect("loaded"));
        let theirs = host_of(&Authority::create(CLUSTER).expect("created"));
        let config = |host: &Host| {
            let certified = (host.certificate_pem.as_str(), host.key_pem.as_str());
            client_config(&identity.ca_pem, Some(certified), &[ALPN_AGENT]).expect("a configuration")
        };

        let (accepted, seen) = knock(&identity, config(&ours)).await;
        accepted.expect("let in");
        seen.expect("answered");

        let (accepted, seen) = knock(&identity, config(&theirs)).await;
        assert!(matches!(accepted, Err(AcceptError::Handshake(_))));
        seen.expect_err("turned away");
    }

    #[tokio::test]
    async fn a_certificate_opens_only_its_own_doors() {
        let identity = Identity::create(CLUSTER, 1, &[]).expect("created");
        let host = host_of(&identity.authority().expect("loaded"));
        let host = Some((host.certificate_pem.as_str(), host.key_pem.as_str()));
        let manager = Some((identity.manager_pem.as_str(), identity.manager_key_pem.as_str()));
        for (certified, protocol, let_in) in [
            (host, ALPN_AGENT, true),
            (host, ALPN_GRPC, false),
            (manager, ALPN_GRPC, true),
            (manager, ALPN_AGENT, false),
            (None, ALPN_GRPC, false),
            (None, ALPN_AGENT, false),
            (None, ALPN_REGISTER, true),
            (None, ALPN_JOIN, true),
            (manager, ALPN_JOIN, true),
            (host, ALPN_JOIN, false),
        ] {
            let client = client_config(&identity.ca_pem, certified, &[protocol]).expect("a configuration");
            let (accepted, _) = knock(&identity, client).await;
            assert_eq!(accepted.is_ok(), let_in, "{} with {certified:?}", String::from_utf8_lossy(protocol));
        }
    }

    #[tokio::test]
    async fn a_joiner_trusts_the_authority_of_its_token_and_nobody_else() {
        let identity = Identity::create(CLUSTER, 1, &[]).expect("created");
        let foreign = Identity::create(CLUSTER, 1, &[]).expect("created");
        for (ca_pem, trusted) in [(&identity.ca_pem, true), (&foreign.ca_pem, false)] {
            let token = JoinToken::derive(Joiner::Manager, &identity.registration_key, CLUSTER, "t1", ca_pem)
                .expect("derived");
            let (_, seen) = knock(&identity, token.client_config().expect("a configuration")).await;
            assert_eq!(seen.is_ok(), trusted, "{seen:?}");
        }
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_shown_without_a_new_configuration() {
        let live = LiveIdentity::new(Identity::create(CLUSTER, 1, &[]).expect("created")).expect("loaded");
        let (server, client) = (
            live.peer_server_config().expect("a configuration"),
            live.manager_client_config().expect("a configuration"),
        );
        let before = shown(server.clone(), client.clone()).await;
        live.replace(live.renewed(&[]).expect("renewed")).expect("replaced");
        let after = shown(server, client).await;
        assert_ne!(before, after);
    }

    /// The server's and the client's certificate in one handshake.
    async fn shown(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> (Vec<u8>, Vec<u8>) {
        let (listener, address) = listen().await;
        let accepting = async {
            let (tcp, _) = listener.accept().await.expect("accepted");
            TlsAcceptor::from(server).accept(tcp).await.expect("a handshake")
        };
        let dialling = async {
            let tcp = TcpStream::connect(address).await.expect("connected");
            let name = manager_server_name(CLUSTER, 1).expect("a name");
            TlsConnector::from(client).connect(name, tcp).await.expect("a handshake")
        };
        let (server, client) = tokio::join!(accepting, dialling);
        let first = |certificates: Option<&[CertificateDer<'_>]>| {
            certificates.and_then(|all| all.first()).expect("a certificate").to_vec()
        };
        (first(client.get_ref().1.peer_certificates()), first(server.get_ref().1.peer_certificates()))
    }

    #[tokio::test]
    async fn a_client_does_not_take_another_cluster_or_another_manager_for_the_one_it_dialled() {
        let identity = Identity::create(CLUSTER, 1, &[]).expect("created");
        let foreign = Identity::create(CLUSTER, 1, &[]).expect("created");
        let client = client_config(&foreign.ca_pem, None, &[ALPN_REGISTER]).expect("a configuration");
        let (accepted, seen) = knock(&identity, client).await;
        assert!(accepted.is_err());
        seen.expect_err("the server's authority is unknown");

        let (listener, address) = listen().await;
        let config = peer_server_config(&identity).expect("a configuration");
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.expect("accepted");
            let _ = accept(config, tcp, CLUSTER).await;
        });
        let client =
            manager_client_config(&identity.for_manager(2, &[]).expect("issued")).expect("a configuration");
        let tcp = TcpStream::connect(address).await.expect("connected");
        let name = manager_server_name(CLUSTER, 3).expect("a name");
        let refused = TlsConnector::from(client).connect(name, tcp).await;
        assert!(refused.is_err(), "manager 1 is not manager 3");
    }
}
