//! The API port as clients meet it, over TCP: what it takes, what it refuses, and whom it believes to be where.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use skep_api::ClientAddress;
use skep_wire::pki::{self, ALPN_GRPC, ALPN_HTTP1, Identity, LiveIdentity};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};

use super::{ApiPort, BOUNDS, Bounds, Receiving, serve_api};
use crate::proxies::{ForwardedHeader, Proxies, ProxyProtocol};
use crate::proxy_protocol::tests as proxied;

/// Far beyond what anything here takes, so that only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is waited for here, that nobody who is in a hurry would wait for.
const SOON: Duration = Duration::from_millis(200);

const WHO: &[u8] = b"GET / HTTP/1.1\r\nHost: skep\r\nConnection: close\r\n\r\n";

/// A port whose every answer is the client's address.
struct Port {
    address: SocketAddr,
    identity: Identity,
    _port: ApiPort,
}

impl Port {
    async fn open(receiving: Receiving) -> Port {
        let who =
            |Extension(ClientAddress(address)): Extension<ClientAddress>| async move { address.to_string() };
        Port::serving(Router::new().fallback(who), receiving).await
    }

    async fn serving(router: Router, receiving: Receiving) -> Port {
        let identity = Identity::create("c1", 1, &["127.0.0.1".into()]).expect("is made");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("has one");
        let live = LiveIdentity::new(identity.clone()).expect("is one");
        let port = serve_api(listener, &live, router, receiving).expect("serves");
        Port { address, identity, _port: port }
    }

    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connects")
    }

    async fn secured(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.secured_with(tcp, &TLS13, ALPN_HTTP1).await
    }

    async fn secured_with(
        &self,
        tcp: TcpStream,
        version: &'static SupportedProtocolVersion,
        protocol: &[u8],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.identity.ca_pem.as_bytes()).expect("is one");
        roots.add(authority).expect("is an authority");
        let mut config = ClientConfig::builder_with_provider(pki::provider())
            .with_protocol_versions(&[version])
            .expect("is known")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("127.0.0.1").expect("is a name");
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        timeout(DEADLINE, connecting).await.expect("is answered or closed")
    }

    /// What a client gets that sends `first` before its handshake; `None` if it is closed.
    async fn asked_after(&self, first: &[u8], request: &[u8]) -> Option<String> {
        let mut tcp = self.plain().await;
        tcp.write_all(first).await.expect("is sent");
        let mut tls = self.secured(tcp).await.ok()?;
        Some(answer(&mut tls, request).await).filter(|answer| !answer.is_empty())
    }

    async fn asked(&self, request: &[u8]) -> Option<String> {
        self.asked_after(&[], request).await
    }
}

/// What comes until the connection is closed.
async fn answer(io: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &[u8]) -> String {
    let mut answer = vec![];
    // Whoever is closed while writing has the answer all the same.
    let _ = io.write_all(request).await;
    let _ = timeout(DEADLINE, io.read_to_end(&mut answer)).await.expect("is answered or closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// What comes until the end of an answer's headers.
async fn head(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let next = timeout(DEADLINE, io.read_u8()).await.expect("is answered or closed");
        head.push(next.expect("is answered"));
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn receiving() -> Receiving {
    Receiving { proxies: Proxies::default(), connections_per_address: 0, bounds: BOUNDS }
}

fn behind(protocol: ProxyProtocol, trusted: &str) -> Receiving {
    let trusted = vec![trusted.parse().expect("is a network")];
    let proxies = Proxies { trusted, protocol, header: ForwardedHeader::XForwardedFor };
    Receiving { proxies, ..receiving() }
}

fn forwarded(address: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: skep\r\nX-Forwarded-For: {address}\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

#[track_caller]
fn says(answer: &Option<String>, status: &str, end: &str) {
    let answer = answer.as_deref().expect("is answered");
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(end), "{answer}");
}

#[tokio::test]
async fn tls_is_spoken_since_1_2_and_nothing_older() {
    let port = Port::open(receiving()).await;
    for (version, named) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut tls = port.secured_with(port.plain().await, version, ALPN_HTTP1).await.expect("is spoken");
        assert_eq!(tls.get_ref().1.protocol_version(), Some(named));
        says(&Some(answer(&mut tls, WHO).await), "200", "127.0.0.1");
    }
    for (what, minor) in [("1.0", 1), ("1.1", 2)] {
        // A hello with a random number of 32 bytes, one cipher, and one kind of signature.
        let mut hello = vec![1, 0, 0, 51, 3, minor];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0, 0x2f, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 1]);
        let record = [&[22, 3, 1, 0, u8::try_from(hello.len()).expect("is short")], &hello[..]].concat();
        let mut tcp = port.plain().await;
        let mut told = vec![];
        tcp.write_all(&record).await.expect("is sent");
        let _ = timeout(DEADLINE, tcp.read_to_end(&mut told)).await.expect("is closed");
        // A fatal alert: protocol_version (RFC 8446, 6.2).
        assert_eq!((told.first(), told.get(5..)), (Some(&21), Some(&[2, 70][..])), "TLS {what}: {told:?}");
    }
}

#[tokio::test]
async fn whoever_forgets_tls_is_told_so_and_other_protocols_are_closed() {
    let port = Port::open(receiving()).await;
    for request in [WHO, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST / HTTP/1.0\r\n\r\n"] {
        let told = answer(&mut port.plain().await, request).await;
        says(&Some(told), "400 Bad Request", "this port speaks TLS: write https:// instead of http://\n");
    }
    for other in [&b"\0\0\0\0"[..], b"\x80\x2e\x01", b"ssh-2.0"] {
        assert_eq!(answer(&mut port.plain().await, other).await, "");
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_where_the_client_is_and_its_own_checks_need_not() {
    let client: IpAddr = "192.0.2.7".parse().expect("is one");
    let line = b"PROXY TCP4 192.0.2.8 127.0.0.1 40000 8443\r\n";
    for protocol in [ProxyProtocol::Optional, ProxyProtocol::Required] {
        let port = Port::open(behind(protocol, "127.0.0.0/8")).await;
        says(&port.asked_after(&proxied::header(client), WHO).await, "200", "192.0.2.7");
        says(&port.asked_after(line, WHO).await, "200", "192.0.2.8");
        says(&port.asked_after(&proxied::local(), WHO).await, "200", "127.0.0.1");
        let six: IpAddr = "2001:db8::7".parse().expect("is one");
        says(&port.asked_after(&proxied::header(six), WHO).await, "200", "2001:db8::7");
        assert_eq!(port.asked(WHO).await.is_some(), protocol == ProxyProtocol::Optional);
        assert_eq!(port.asked_after(b"\r\n\r\n\0\r\nQUIT\nnonsense", WHO).await, None);
        assert_eq!(port.asked_after(b"PROXY TCP4 nonsense\r\n", WHO).await, None);
        let told = answer(&mut port.plain().await, &[&proxied::header(client)[..], WHO].concat()).await;
        says(&Some(told), "400", "instead of http://\n");
    }
}

#[tokio::test]
async fn nobody_else_is_believed_to_be_somewhere_else() {
    let client: IpAddr = "192.0.2.7".parse().expect("is one");
    for protocol in [ProxyProtocol::Off, ProxyProtocol::Optional, ProxyProtocol::Required] {
        let port = Port::open(behind(protocol, "10.0.0.5")).await;
        assert_eq!(port.asked_after(&proxied::header(client), WHO).await, None, "{protocol:?}");
        says(&port.asked(WHO).await, "200", "127.0.0.1");
        says(&port.asked(&forwarded("192.0.2.7")).await, "200", "127.0.0.1");
    }
    let port = Port::open(behind(ProxyProtocol::Off, "127.0.0.1")).await;
    assert_eq!(port.asked_after(&proxied::header(client), WHO).await, None, "nobody may speak it");
}

#[tokio::test]
async fn a_trusted_proxy_that_ends_tls_names_the_client_in_a_header_and_a_client_in_front_of_it_cannot() {
    let port = Port::open(behind(ProxyProtocol::Optional, "127.0.0.1")).await;
    says(&port.asked(&forwarded("192.0.2.7")).await, "200", "192.0.2.7");
    says(&port.asked(&forwarded("203.0.113.1, 192.0.2.7")).await, "200", "192.0.2.7");
    let header = proxied::header("192.0.2.9".parse().expect("is one"));
    let connected = port.asked_after(&header, &forwarded("203.0.113.1")).await;
    says(&connected, "200", "192.0.2.9");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let bounds = Bounds { header_bytes_max: 8 * 1024, header_count_max: 10, ..BOUNDS };
    let port = Port::open(Receiving { bounds, ..receiving() }).await;
    let with = |headers: String| {
        format!("GET / HTTP/1.1\r\nHost: skep\r\nConnection: close\r\n{headers}\r\n").into_bytes()
    };
    says(&port.asked(&with(format!("X: {}\r\n", "x".repeat(7_000)))).await, "200", "127.0.0.1");
    says(&port.asked(&with(format!("X: {}\r\n", "x".repeat(9_000)))).await, "431", "");
    says(&port.asked(&with("X: x\r\n".repeat(20))).await, "431", "");

    let tls = port.secured_with(port.plain().await, &TLS13, ALPN_GRPC).await.expect("is spoken");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
            .await
            .expect("is spoken");
    tokio::spawn(connection);
    for (bytes, status) in [(7_000, 200), (9_000, 431)] {
        let request = hyper::Request::get("https://skep/").header("x", "x".repeat(bytes));
        let sent = sender.send_request(request.body(axum::body::Body::empty()).expect("is one"));
        let answer = timeout(DEADLINE, sent).await.expect("is answered").expect("is answered");
        assert_eq!(answer.status().as_u16(), status, "{bytes} bytes over HTTP/2");
    }
}

#[tokio::test]
async fn who_still_sends_when_the_answer_is_known_gets_it_and_goes_on_with_the_connection() {
    let refused = Arc::new(Notify::new());
    let refusing = refused.clone();
    let refuse = async move || {
        refusing.notify_one();
        StatusCode::UNAUTHORIZED
    };
    let port = Port::serving(Router::new().fallback(refuse), receiving()).await;
    let mut tls = port.secured(port.plain().await).await.expect("is spoken");
    for _ in 0..3 {
        let begun = b"POST / HTTP/1.1\r\nHost: skep\r\nContent-Length: 200000\r\n\r\n{";
        tls.write_all(begun).await.expect("is sent");
        tls.flush().await.expect("is sent");
        timeout(DEADLINE, refused.notified()).await.expect("is refused");
        tls.write_all(&[b' '; 199_999]).await.expect("is still taken");
        let head = head(&mut tls).await;
        assert!(head.starts_with("HTTP/1.1 401") && head.contains("content-length: 0\r\n"), "{head}");
    }
}

#[tokio::test]
async fn whoever_is_slow_on_purpose_is_closed() {
    let bounds = Bounds { handshake_max: SOON, headers_max: SOON, ..BOUNDS };
    let port = Port::open(Receiving { bounds, ..behind(ProxyProtocol::Optional, "127.0.0.1") }).await;
    for first in [&b""[..], b"\x16", b"\x16\x03\x01\x02", b"\r\n\r\n\0", b"PROXY TCP4 "] {
        assert_eq!(answer(&mut port.plain().await, first).await, "", "after {first:?}");
    }
    for request in ["", "GET", "GET / HTTP/1.1\r\nHost: skep\r\nX: "] {
        let mut tls = port.secured(port.plain().await).await.expect("is spoken");
        assert_eq!(answer(&mut tls, request.as_bytes()).await, "", "after {request:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_not_used_any_more_is_closed() {
    let bounds = Bounds { headers_max: SOON, ..BOUNDS };
    let port = Port::open(Receiving { bounds, ..receiving() }).await;
    let mut tls = port.secured(port.plain().await).await.expect("is spoken");
    says(&Some(answer(&mut tls, b"GET / HTTP/1.1\r\nHost: skep\r\n\r\n").await), "200", "127.0.0.1");

    let tls = port.secured_with(port.plain().await, &TLS13, ALPN_GRPC).await.expect("is spoken");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
            .await
            .expect("is spoken");
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("https://skep/").body(axum::body::Body::empty()).expect("is one");
    let answer =
        timeout(DEADLINE, sender.send_request(request)).await.expect("in time").expect("is answered");
    assert_eq!(answer.status().as_u16(), 200);
    timeout(DEADLINE, connection).await.expect("is closed").expect("ends").expect("is told before");
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_those_behind_a_proxy_are_told_apart() {
    let receiving =
        |trusted: &str| Receiving { connections_per_address: 2, ..behind(ProxyProtocol::Optional, trusted) };
    let port = Port::open(receiving("10.0.0.5")).await;
    let mut first = port.secured(port.plain().await).await.expect("is spoken");
    let second = port.secured(port.plain().await).await.expect("is spoken");
    let refused = port.asked(WHO).await.expect("is told why");
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("SKP-1409"), "{refused}");
    drop(second);
    let again = async {
        while !port.asked(WHO).await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, again).await.expect("when one has gone there is room");
    says(&Some(answer(&mut first, WHO).await), "200", "127.0.0.1");

    let port = Port::open(receiving("127.0.0.1")).await;
    let header = |last: u8| proxied::header(IpAddr::from([192, 0, 2, last]));
    let mut open = vec![];
    for last in [1, 1, 2, 2] {
        let mut tcp = port.plain().await;
        tcp.write_all(&header(last)).await.expect("is sent");
        open.push(port.secured(tcp).await.expect("is spoken"));
    }
    says(&port.asked_after(&header(3), WHO).await, "200", "192.0.2.3");
    let refused = port.asked_after(&header(1), WHO).await.expect("is told why");
    assert!(refused.contains("SKP-1409"), "{refused}");
    says(&port.asked(WHO).await, "200", "127.0.0.1");
}
