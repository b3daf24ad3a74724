//! The token with which a new manager or a new host joins, and how the joiner recognises the cluster before it has a
//! certificate.
//!
//! ```text
//!   skj_<cluster>.<id>.<secret>.<SHA-256 of the authority's certificate>      for managers
//!   skh_…                                                                     for hosts
//! ```
//! Whoever carries the token from a manager to the new machine carries both directions of trust: the secret shows the
//! joiner to the managers, the fingerprint shows the managers to the joiner. The secret is derived from the key that
//! every manager holds, so it is stored nowhere, and a repeated request for a token gets the same one. What a token is
//! still good for is a row of the replicated state.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::name::check_cluster;
use super::token::unhex;
use super::{ALPN_JOIN, ALPN_REGISTER, PkiError, RegistrationKey, tls};

/// Bytes of SHA-256.
const SHA256_BYTES: usize = 32;

/// What a token makes of who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joiner {
    /// A manager of the cluster.
    Manager,
    /// A host of an environment.
    Host,
}

impl Joiner {
    /// Tells people and secret scanners what they have found.
    fn prefix(self) -> &'static str {
        match self {
            Joiner::Manager => "skj_",
            Joiner::Host => "skh_",
        }
    }

    /// Keeps these apart from each other and from the tokens of single hosts, which come from the same key.
    fn signed_word(self) -> &'static str {
        match self {
            Joiner::Manager => "join",
            Joiner::Host => "join-host",
        }
    }

    fn protocol(self) -> &'static [u8] {
        match self {
            Joiner::Manager => ALPN_JOIN,
            Joiner::Host => ALPN_REGISTER,
        }
    }
}

/// A join token, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Whom it is for.
    pub joiner: Joiner,
    /// The cluster.
    pub cluster: String,
    /// Names the token in the replicated state.
    pub id: String,
    secret: Vec<u8>,
    ca_sha256: [u8; SHA256_BYTES],
}

impl JoinToken {
    /// The token of this id; the same on every manager.
    pub fn derive(
        joiner: Joiner,
        key: &RegistrationKey,
        cluster: &str,
        id: &str,
        ca_pem: &str,
    ) -> Result<JoinToken, PkiError> {
        let secret = hmac::sign(&hmac_key(key), &signed_text(joiner, cluster, id)).as_ref().to_vec();
        Ok(JoinToken {
            joiner,
            cluster: cluster.into(),
            id: id.into(),
            secret,
            ca_sha256: fingerprint(ca_pem)?,
        })
    }

    /// Reads a token's text; `None` if it cannot be one for such a joiner.
    pub fn parse(joiner: Joiner, text: &str) -> Option<JoinToken> {
        let mut parts = text.trim().strip_prefix(joiner.prefix())?.split('.');
        let (cluster, id) = (parts.next()?, parts.next()?);
        let (secret, ca) = (unhex(parts.next()?)?, unhex(parts.next()?)?);
        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if parts.next().is_some() || !plain || secret.is_empty() || check_cluster(cluster).is_err() {
            return None;
        }
        let ca_sha256 = ca.try_into().ok()?;
        Some(JoinToken { joiner, cluster: cluster.into(), id: id.into(), secret, ca_sha256 })
    }

    /// Was it derived from this key? Takes equally long for every wrong secret of the right length.
    pub fn is_derived_from(&self, key: &RegistrationKey) -> bool {
        hmac::verify(&hmac_key(key), &signed_text(self.joiner, &self.cluster, &self.id), &self.secret).is_ok()
    }

    /// Is this the certificate of the authority that the token means?
    pub fn means(&self, ca_pem: &str) -> bool {
        fingerprint(ca_pem).is_ok_and(|found| found == self.ca_sha256)
    }

    /// How the joiner dials a manager: it trusts the authority with the token's fingerprint and nobody else.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, PkiError> {
        let verifier = Arc::new(ByFingerprint { ca_sha256: self.ca_sha256, provider: tls::provider() });
        let mut config = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls::failed("choosing TLS 1.3"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![self.joiner.protocol().to_vec()];
        Ok(Arc::new(config))
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secret, ca) = (crate::random::hex(&self.secret), crate::random::hex(&self.ca_sha256));
        write!(f, "{}{}.{}.{secret}.{ca}", self.joiner.prefix(), self.cluster, self.id)
    }
}

/// Without the secret: this one gets into logs.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}.{}.…", self.joiner.prefix(), self.cluster, self.id)
    }
}

fn hmac_key(key: &RegistrationKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

fn signed_text(joiner: Joiner, cluster: &str, id: &str) -> Vec<u8> {
    [joiner.signed_word(), cluster, id].join("\0").into_bytes()
}

fn fingerprint(ca_pem: &str) -> Result<[u8; SHA256_BYTES], PkiError> {
    let bad = |reason: String| PkiError::Pem { what: "the authority's certificate", reason };
    let der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|error| bad(error.to_string()))?;
    Ok(sha256(&der))
}

fn sha256(bytes: &[u8]) -> [u8; SHA256_BYTES] {
    let mut hash = [0; SHA256_BYTES];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Trusts the authority with this fingerprint, which the server must send along, and then verifies as usual.
#[derive(Debug)]
struct ByFingerprint {
    ca_sha256: [u8; SHA256_BYTES],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let authority = intermediates.iter().find(|certificate| sha256(certificate) == self.ca_sha256);
        let authority = authority.ok_or(TlsError::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| TlsError::General(error.to_string()))?;
        usual.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    const KEY: RegistrationKey = [3; 32];

    #[test]
    fn a_token_is_read_as_it_was_written_and_good_for_its_own_cluster_and_id_only() {
        let ca = Authority::create("c-1_a").expect("created");
        let token = JoinToken::derive(Joiner::Manager, &KEY, "c-1_a", "7f", ca.ca_pem()).expect("derived");
        let read = JoinToken::parse(Joiner::Manager, &token.to_string()).expect("is a token");
        assert_eq!(read, token);
        assert!(read.is_derived_from(&KEY));
        assert!(!read.is_derived_from(&[4; 32]));
        assert!(read.means(ca.ca_pem()));
        assert!(!read.means(Authority::create("c-1_a").expect("created").ca_pem()));
        let forged = JoinToken { id: "80".into(), ..read.clone() };
        assert!(!forged.is_derived_from(&KEY));
        let for_a_host = token.to_string().replacen("skj_", "skh_", 1);
        let forged = JoinToken::parse(Joiner::Host, &for_a_host).expect("looks like one");
        assert_eq!(JoinToken::parse(Joiner::Host, &token.to_string()), None);
        assert!(!forged.is_derived_from(&KEY), "a manager's token lets no host in, and the other way round");
    }

    #[test]
    fn nonsense_is_not_a_token_and_a_secret_does_not_get_into_logs() {
        let ca = Authority::create("c1").expect("created");
        let token = JoinToken::derive(Joiner::Manager, &KEY, "c1", "7f", ca.ca_pem()).expect("derived");
        let text = token.to_string();
        let cut = &text[..text.len() - 2];
        let longer = format!("{text}.00");
        for wrong in ["", "skj_", "skj_c1.7f", "skr_c1.7f.00.00", &text[4..], cut, &longer] {
            assert_eq!(JoinToken::parse(Joiner::Manager, wrong), None, "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "skj_c1.7f.…");
    }
}
