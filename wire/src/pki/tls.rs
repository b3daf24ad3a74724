//! TLS configurations for the ports of a manager and for whoever dials them.
//!
//! The crypto provider is passed explicitly: the process-wide default panics when a dependency brings
//! a second one.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::live::{LiveIdentity, Resolver};
use super::{Identity, PkiError};

/// gRPC between managers; also HTTP/2 on the API port.
pub const ALPN_GRPC: &[u8] = b"h2";
/// HTTP/1.1 on the API port.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// An agent's multiplexed link.
pub const ALPN_AGENT: &[u8] = b"skep-agent/1";
/// Registration of a host that has no certificate yet.
pub const ALPN_REGISTER: &[u8] = b"skep-register/1";
/// A manager that wants to join, or to come back after it has lost its data.
pub const ALPN_JOIN: &[u8] = b"skep-join/1";

/// The one crypto provider of every Skep process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The peer port. A client certificate is verified if there is one and may be missing, because a host
/// that registers has none; who needs one is decided by what the connection is for (see
/// [`crate::accept`]).
pub fn peer_server_config(identity: &Identity) -> Result<Arc<ServerConfig>, PkiError> {
    LiveIdentity::new(identity.clone())?.peer_server_config()
}

/// The API port: no client certificates, tokens come later.
pub fn api_server_config(identity: &Identity) -> Result<Arc<ServerConfig>, PkiError> {
    LiveIdentity::new(identity.clone())?.api_server_config()
}

/// How a manager dials another one.
pub fn manager_client_config(identity: &Identity) -> Result<Arc<ClientConfig>, PkiError> {
    LiveIdentity::new(identity.clone())?.manager_client_config()
}

pub(super) fn peer_server(ca_pem: &str, certificate: Arc<Resolver>) -> Result<Arc<ServerConfig>, PkiError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider())
        .allow_unauthenticated()
        .build()
        .map_err(failed("trusting the cluster's authority"))?;
    // Both ends are ours, so nothing older is needed.
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("choosing TLS 1.3"))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = alpn(&[ALPN_GRPC, ALPN_AGENT, ALPN_REGISTER, ALPN_JOIN]);
    Ok(Arc::new(config))
}

pub(super) fn api_server(certificate: Arc<Resolver>) -> Result<Arc<ServerConfig>, PkiError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed("choosing TLS versions"))?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = alpn(&[ALPN_GRPC, ALPN_HTTP1]);
    Ok(Arc::new(config))
}

pub(super) fn manager_client(
    ca_pem: &str,
    certificate: Arc<Resolver>,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, PkiError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("choosing TLS 1.3"))?
        .with_root_certificates(roots(ca_pem)?)
        .with_client_cert_resolver(certificate);
    config.alpn_protocols = alpn(&[protocol]);
    Ok(Arc::new(config))
}

/// How anybody else dials a manager: trusting this authority, showing this certificate and key if there
/// are any, for one of these protocols.
pub fn client_config(
    ca_pem: &str,
    certified: Option<(&str, &str)>,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, PkiError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("choosing TLS 1.3"))?
        .with_root_certificates(roots(ca_pem)?);
    let mut config = match certified {
        Some((certificate_pem, key_pem)) => builder
            .with_client_auth_cert(certificates(certificate_pem)?, key(key_pem)?)
            .map_err(failed("using the client's certificate"))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn(protocols);
    Ok(Arc::new(config))
}

fn roots(ca_pem: &str) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate).map_err(failed("trusting the cluster's authority"))?;
    }
    Ok(roots)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let bad = |reason: String| PkiError::Pem { what: "certificates", reason };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|error| bad(error.to_string()))?;
    if read.is_empty() { Err(bad("there are none".into())) } else { Ok(read) }
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, PkiError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| PkiError::Pem { what: "a secret key", reason: error.to_string() })
}

fn alpn(protocols: &[&[u8]]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.to_vec()).collect()
}

pub(super) fn failed<E: std::fmt::Display>(doing: &'static str) -> impl Fn(E) -> PkiError {
    move |error| PkiError::Tls { doing, reason: error.to_string() }
}
