//! A manager's identity that can be exchanged while it is in use: certificates end, connections must not.
//!
//! TLS configurations made here ask for the certificate at every handshake, on both ports and for outgoing channels.
//! Connections that exist go on with what they were opened with; their peers were verified then.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};

use super::authority::{addresses, still_valid, validity};
use super::{Identity, PkiError, tls};

/// Who this manager is at present. Clones share it.
#[derive(Clone)]
pub struct LiveIdentity(Arc<RwLock<Current>>);

struct Current {
    identity: Identity,
    certified: Arc<CertifiedKey>,
}

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Whose: `authority` or `manager`.
    pub kind: &'static str,
    /// The end of its validity, in seconds since 1970.
    pub at: i64,
}

impl LiveIdentity {
    /// Reads the folder of a manager. A renewal that was interrupted between key and certificate, and a certificate
    /// that ended while the manager was switched off, are made good: every manager has what it takes.
    pub fn open(data: &Path) -> Result<LiveIdentity, PkiError> {
        let identity = Identity::load(data)?;
        if certified(&identity).is_ok() && still_valid(&identity.manager_pem)? {
            return LiveIdentity::new(identity);
        }
        let renewed = identity.for_manager(identity.node()?, &addresses(&identity.manager_pem)?)?;
        renewed.save(data)?;
        LiveIdentity::new(renewed)
    }

    /// Begins with this identity.
    pub fn new(identity: Identity) -> Result<LiveIdentity, PkiError> {
        let certified = certified(&identity)?;
        Ok(LiveIdentity(Arc::new(RwLock::new(Current { identity, certified }))))
    }

    /// The identity at present.
    pub fn now(&self) -> Identity {
        self.read(|current| current.identity.clone())
    }

    /// From now on handshakes show this identity. It must be the same manager of the same cluster.
    pub fn replace(&self, identity: Identity) -> Result<(), PkiError> {
        let (old, new) = (self.now(), &identity);
        if old.cluster != new.cluster || old.node()? != new.node()? {
            return Err(PkiError::Name("it is not the same manager's".into()));
        }
        let certified = certified(&identity)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Current { identity, certified };
        Ok(())
    }

    /// The same manager with a new key and certificate for these addresses. Not in use yet: it should be on disk first.
    pub fn renewed(&self, addresses: &[String]) -> Result<Identity, PkiError> {
        let now = self.now();
        now.for_manager(now.node()?, addresses)
    }

    /// Whether two thirds of the present certificate's life are over: early enough that a manager that is away for a
    /// week does not come back with an invalid one, late enough that it happens rarely.
    pub fn renewal_is_due(&self, now_seconds: i64) -> Result<bool, PkiError> {
        let (from, to) = validity(&self.read(|current| current.identity.manager_pem.clone()))?;
        Ok(now_seconds > from + (to - from) / 3 * 2)
    }

    /// When the certificates that this manager depends on end.
    pub fn certificate_expiries(&self) -> Result<Vec<Expiry>, PkiError> {
        let now = self.now();
        let expiry = |kind, pem: &str| Ok(Expiry { kind, at: validity(pem)?.1 });
        Ok(vec![expiry("authority", &now.ca_pem)?, expiry("manager", &now.manager_pem)?])
    }

    /// The peer port; see [`super::peer_server_config`].
    pub fn peer_server_config(&self) -> Result<Arc<ServerConfig>, PkiError> {
        tls::peer_server(&self.now().ca_pem, self.resolver())
    }

    /// The API port; see [`super::api_server_config`].
    pub fn api_server_config(&self) -> Result<Arc<ServerConfig>, PkiError> {
        tls::api_server(self.resolver())
    }

    /// How this manager dials another one; see [`super::manager_client_config`].
    pub fn manager_client_config(&self) -> Result<Arc<ClientConfig>, PkiError> {
        tls::manager_client(&self.now().ca_pem, self.resolver(), super::ALPN_GRPC)
    }

    /// How a manager that has lost its data asks to be let in again.
    pub fn rejoin_client_config(&self) -> Result<Arc<ClientConfig>, PkiError> {
        tls::manager_client(&self.now().ca_pem, self.resolver(), super::ALPN_JOIN)
    }

    fn resolver(&self) -> Arc<Resolver> {
        Arc::new(Resolver(self.clone()))
    }

    fn read<T>(&self, read: impl FnOnce(&Current) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers TLS's question for the certificate.
pub(super) struct Resolver(LiveIdentity);

impl Resolver {
    fn certified(&self) -> Arc<CertifiedKey> {
        self.0.read(|current| current.certified.clone())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the manager's present certificate")
    }
}

/// The authority's certificate goes along: a joiner knows only its fingerprint.
fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, PkiError> {
    let bad = |what: &'static str| {
        move |error: rustls::pki_types::pem::Error| PkiError::Pem { what, reason: error.to_string() }
    };
    let own = CertificateDer::from_pem_slice(identity.manager_pem.as_bytes());
    let authority = CertificateDer::from_pem_slice(identity.ca_pem.as_bytes());
    let chain = vec![
        own.map_err(bad("the manager's certificate"))?,
        authority.map_err(bad("the authority's certificate"))?,
    ];
    let key = PrivateKeyDer::from_pem_slice(identity.manager_key_pem.as_bytes())
        .map_err(bad("the manager's secret key"))?;
    let certified = CertifiedKey::from_der(chain, key, &tls::provider());
    Ok(Arc::new(certified.map_err(tls::failed("using the manager's certificate"))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::MANAGER_CERTIFICATE_LIFE;

    #[test]
    fn a_renewed_identity_is_the_same_manager_at_the_same_addresses_with_another_key() {
        let identity =
            Identity::create("c1", 3, &["10.90.0.3".into(), "m3.example".into()]).expect("created");
        let live = LiveIdentity::new(identity.clone()).expect("loaded");
        let renewed = live.renewed(&identity.addresses().expect("readable")).expect("renewed");
        assert_ne!(renewed.manager_key_pem, identity.manager_key_pem);
        assert_eq!(renewed.node().expect("a manager"), 3);
        assert_eq!(
            addresses(&renewed.manager_pem).expect("readable"),
            addresses(&identity.manager_pem).expect("readable")
        );
        live.replace(renewed.clone()).expect("replaced");
        assert_eq!(live.now().manager_pem, renewed.manager_pem);
    }

    #[test]
    fn an_interrupted_renewal_is_made_good_at_the_next_start() {
        let data = tempfile::tempdir().expect("a folder");
        let identity = Identity::create("c1", 1, &["10.90.0.1".into()]).expect("created");
        let other = identity.for_manager(1, &[]).expect("issued");
        // The new key is there, the new certificate is not.
        Identity { manager_key_pem: other.manager_key_pem, ..identity.clone() }
            .save(data.path())
            .expect("saved");
        let live = LiveIdentity::open(data.path()).expect("is made good");
        assert_eq!(live.now().node().expect("a manager"), 1);
        let again = LiveIdentity::open(data.path()).expect("is good");
        assert_eq!(again.now().manager_pem, live.now().manager_pem);
        assert_eq!(
            addresses(&live.now().manager_pem).expect("readable"),
            addresses(&identity.manager_pem).expect("readable")
        );
    }

    #[test]
    fn nobody_becomes_somebody_else() {
        let identity = Identity::create("c1", 1, &[]).expect("created");
        let other = identity.for_manager(2, &[]).expect("issued");
        let live = LiveIdentity::new(identity).expect("loaded");
        live.replace(other).expect_err("another manager");
    }

    #[test]
    fn renewal_is_due_after_two_thirds_of_the_life() {
        let identity = Identity::create("c1", 1, &[]).expect("created");
        let live = LiveIdentity::new(identity).expect("loaded");
        let end = live.certificate_expiries().expect("readable")[1].at;
        let life = MANAGER_CERTIFICATE_LIFE.as_secs() as i64;
        assert!(!live.renewal_is_due(end - life / 2).expect("readable"));
        assert!(live.renewal_is_due(end - life / 4).expect("readable"));
    }
}
