//! The cluster's own certificate authority, and the two things a host does without it: making a key
//! and asking for a certificate.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::name::{check_cluster, check_host, is_internal_dns, manager_dns, managers_dns};
use super::{PeerName, PkiError, Role};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The authority outlives every manager; replacing it means telling every host.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A manager renews its certificate by itself after two thirds of it; a manager that is switched off for a month
/// still has a valid one when it comes back.
pub const MANAGER_CERTIFICATE_LIFE: Duration = DAY.saturating_mul(90);

/// Short, because an agent renews it by itself: a stolen one is soon useless.
pub const HOST_CERTIFICATE_LIFE: Duration = DAY.saturating_mul(7);

/// Certificates are valid from a little earlier on: clocks of new machines are often behind.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60 * 60);

/// The cluster's certificate authority: its certificate, and the key that signs.
pub struct Authority {
    cluster: String,
    ca_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate_pem: String,
    /// Its secret key.
    pub key_pem: String,
}

impl Authority {
    /// A new authority for a new cluster.
    pub fn create(cluster: &str) -> Result<Authority, PkiError> {
        check_cluster(cluster)?;
        let key = new_key()?;
        let mut params = params(format!("Skep cluster {cluster}"), AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed("signing the authority's certificate"))?;
        Authority::load(cluster, &certificate.pem(), &key.serialize_pem())
    }

    /// The authority that was created earlier.
    pub fn load(cluster: &str, ca_pem: &str, key_pem: &str) -> Result<Authority, PkiError> {
        check_cluster(cluster)?;
        let key = KeyPair::from_pem(key_pem).map_err(failed("reading the authority's key"))?;
        let public_key = with_certificate(ca_pem, |ca| Ok(ca.public_key().subject_public_key.data.to_vec()))?;
        if public_key != key.public_key_raw() {
            return Err(PkiError::KeyMismatch);
        }
        let issuer =
            Issuer::from_ca_cert_pem(ca_pem, key).map_err(failed("reading the authority's certificate"))?;
        Ok(Authority {
            cluster: cluster.to_owned(),
            ca_pem: ca_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            issuer,
        })
    }

    /// The cluster whose authority this is.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The certificate that everybody in the cluster trusts.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The secret key that signs.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A key and certificate for a manager that is reached at these addresses (IP addresses or DNS
    /// names, with or without a port) besides its names inside the cluster.
    pub fn issue_manager(&self, node: u64, addresses: &[String]) -> Result<Certified, PkiError> {
        let key = new_key()?;
        let params = self.manager_params(node, addresses)?;
        let certificate =
            params.signed_by(&key, &self.issuer).map_err(failed("signing a manager's certificate"))?;
        Ok(Certified { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// A certificate for a manager from its request, for a joiner that keeps its key to itself. As with hosts, only
    /// the public key is taken from the request.
    pub fn sign_manager_csr(
        &self,
        csr_pem: &str,
        node: u64,
        addresses: &[String],
    ) -> Result<String, PkiError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(failed("reading a certificate request"))?;
        let certificate = self
            .manager_params(node, addresses)?
            .signed_by(&request.public_key, &self.issuer)
            .map_err(failed("signing a manager's certificate"))?;
        Ok(certificate.pem())
    }

    fn manager_params(&self, node: u64, addresses: &[String]) -> Result<CertificateParams, PkiError> {
        let mut params = params(format!("Skep manager {node}"), MANAGER_CERTIFICATE_LIFE);
        params.subject_alt_names = vec![
            self.uri(Role::Manager(node))?,
            dns(&managers_dns(&self.cluster))?,
            dns(&manager_dns(&self.cluster, node))?,
        ];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let local = [SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)), dns("localhost")?];
        let advertised =
            addresses.iter().map(|address| parse_address(address)).collect::<Result<Vec<_>, _>>()?;
        for name in local.into_iter().chain(advertised) {
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        Ok(params)
    }

    /// A certificate for a host from its request. Only the public key is taken from the request, and
    /// only if the sender has shown to hold its secret half; all names are ours.
    pub fn sign_host_csr(&self, csr_pem: &str, host_id: &str) -> Result<String, PkiError> {
        check_host(host_id)?;
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(failed("reading a certificate request"))?;
        let mut params = params(format!("Skep host {host_id}"), HOST_CERTIFICATE_LIFE);
        params.subject_alt_names = vec![self.uri(Role::Host(host_id.to_owned()))?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(failed("signing a host's certificate"))?;
        Ok(certificate.pem())
    }

    fn uri(&self, role: Role) -> Result<SanType, PkiError> {
        let name = PeerName { cluster: self.cluster.clone(), role }.to_string();
        Ok(SanType::URI(name.try_into().map_err(failed("naming a certificate"))?))
    }
}

/// SHA-256 of the public key in a certificate request: by it the same asker is known again.
pub fn request_key_hash(csr_pem: &str) -> Result<Vec<u8>, PkiError> {
    let request = CertificateSigningRequestParams::from_pem(csr_pem)
        .map_err(failed("reading a certificate request"))?;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, request.public_key.der_bytes());
    Ok(hash.as_ref().to_vec())
}

/// A new secret key.
pub fn generate_key() -> Result<String, PkiError> {
    Ok(new_key()?.serialize_pem())
}

/// A certificate request for a key. The host's id in it is for people; the authority decides the name.
pub fn certificate_request(key_pem: &str, host_id: &str) -> Result<String, PkiError> {
    let key = KeyPair::from_pem(key_pem).map_err(failed("reading the host's key"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(format!("Skep host {host_id}"));
    let request = params.serialize_request(&key).map_err(failed("making a certificate request"))?;
    request.pem().map_err(failed("making a certificate request"))
}

/// Whether a certificate should be renewed now.
pub fn past_half_life(certificate_pem: &str) -> Result<bool, PkiError> {
    let (not_before, not_after) = validity(certificate_pem)?;
    Ok(seconds_since_1970() > not_before + (not_after - not_before) / 2)
}

/// Whether a certificate can still be used.
pub fn still_valid(certificate_pem: &str) -> Result<bool, PkiError> {
    let (not_before, not_after) = validity(certificate_pem)?;
    Ok((not_before..not_after).contains(&seconds_since_1970()))
}

/// From when to when a certificate is valid, in seconds since 1970.
pub fn validity(certificate_pem: &str) -> Result<(i64, i64), PkiError> {
    with_certificate(certificate_pem, |certificate| {
        let validity = certificate.validity();
        Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
    })
}

/// The public key of a certificate as `curl --pinnedpubkey` takes it: how somebody who does not know the authority yet can
/// recognise the one manager that shows it.
pub fn pinned_key(certificate_pem: &str) -> Result<String, PkiError> {
    with_certificate(certificate_pem, |certificate| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.public_key().raw);
        Ok(format!("sha256//{}", BASE64_STANDARD.encode(hash)))
    })
}

/// The addresses in a manager's certificate, without its names inside the cluster.
pub(super) fn addresses(certificate_pem: &str) -> Result<Vec<String>, PkiError> {
    with_certificate(certificate_pem, |certificate| {
        let names = certificate.subject_alternative_name();
        let names = names.map_err(|error| PkiError::Name(error.to_string()))?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        Ok(names.iter().filter_map(address).collect())
    })
}

fn address(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) if !is_internal_dns(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

fn with_certificate<T>(
    certificate_pem: &str,
    read: impl FnOnce(&X509Certificate<'_>) -> Result<T, PkiError>,
) -> Result<T, PkiError> {
    let bad = |reason: String| PkiError::Pem { what: "a certificate", reason };
    let der =
        CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|error| bad(error.to_string()))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| bad(error.to_string()))?;
    read(&certificate)
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(failed("making a key"))
}

fn params(name: String, life: Duration) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(seconds_since_1970().unsigned_abs());
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.not_before = epoch + now.saturating_sub(CLOCK_SKEW_MAX);
    params.not_after = epoch + now + life;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn common_name(name: String) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn dns(name: &str) -> Result<SanType, PkiError> {
    let name = name.try_into().map_err(|_| PkiError::Address(name.to_owned()))?;
    Ok(SanType::DnsName(name))
}

fn parse_address(address: &str) -> Result<SanType, PkiError> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    if let Ok(socket) = address.parse::<SocketAddr>() {
        return Ok(SanType::IpAddress(socket.ip()));
    }
    let host = match address.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => address,
    };
    let is_name =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_name { dns(host) } else { Err(PkiError::Address(address.to_owned())) }
}

/// A clock before 1970 makes every certificate invalid anyway.
fn seconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn failed(doing: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |source| PkiError::Certificate { doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::peer_identity;

    fn name_in(certificate_pem: &str) -> PeerName {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).expect("a certificate");
        peer_identity(&[der]).expect("a name")
    }

    #[test]
    fn roles_are_read_back_from_certificates() {
        let authority = Authority::create("c1").expect("created");
        let manager =
            authority.issue_manager(3, &["10.90.0.1:8444".into(), "m3.example".into()]).expect("issued");
        assert_eq!(
            name_in(&manager.certificate_pem),
            PeerName { cluster: "c1".into(), role: Role::Manager(3) }
        );

        let key = generate_key().expect("a key");
        let csr = certificate_request(&key, "liar").expect("a request");
        let certificate = authority.sign_host_csr(&csr, "host_1").expect("signed");
        let expected = PeerName { cluster: "c1".into(), role: Role::Host("host_1".into()) };
        assert_eq!(name_in(&certificate), expected, "the name is the authority's, not the request's");
        assert!(still_valid(&certificate).expect("readable"));
        assert!(!past_half_life(&certificate).expect("readable"));
    }

    #[test]
    fn a_loaded_authority_signs_like_the_created_one() {
        let created = Authority::create("c1").expect("created");
        let loaded = Authority::load("c1", created.ca_pem(), created.key_pem()).expect("loaded");
        loaded.issue_manager(1, &[]).expect("issued");

        let other = Authority::create("c1").expect("created");
        let mixed = Authority::load("c1", created.ca_pem(), other.key_pem());
        assert!(matches!(mixed, Err(PkiError::KeyMismatch)));
    }

    #[test]
    fn a_request_signed_with_another_key_is_refused() {
        let authority = Authority::create("c1").expect("created");
        let csr = certificate_request(&generate_key().expect("a key"), "h").expect("a request");
        let broken = flip_last_signature_byte(&csr);
        authority.sign_host_csr(&csr, "host_1").expect("the request itself is good");
        let refused = authority.sign_host_csr(&broken, "host_1");
        assert!(matches!(refused, Err(PkiError::Certificate { .. })), "{refused:?}");
    }

    /// The signature is the last thing in a request; its last byte is in the last base64 group.
    fn flip_last_signature_byte(csr_pem: &str) -> String {
        let end = csr_pem.find("\n-----END").expect("the end line");
        let body_end = csr_pem[..end].trim_end_matches('=').len();
        let at = body_end - 3;
        let other = if csr_pem.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &csr_pem[..at], &csr_pem[at + 1..])
    }

    #[test]
    fn names_that_certificates_cannot_carry_are_refused() {
        for cluster in ["", "a.b", "-a", "a b", &"x".repeat(64)] {
            assert!(matches!(Authority::create(cluster), Err(PkiError::ClusterId(_))), "{cluster:?}");
        }
        let authority = Authority::create("c1").expect("created");
        let csr = certificate_request(&generate_key().expect("a key"), "h").expect("a request");
        assert!(matches!(authority.sign_host_csr(&csr, "a/b"), Err(PkiError::HostId(_))));
        assert!(matches!(authority.issue_manager(1, &["a b".into()]), Err(PkiError::Address(_))));
    }
}
