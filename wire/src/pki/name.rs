//! Names in certificates: how they are written, how they are read from a peer's certificate.

use std::fmt;

use rustls::pki_types::{CertificateDer, ServerName};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::PkiError;

/// Who is at the other end of a connection, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// The cluster.
    pub cluster: String,
    /// What the peer is in it.
    pub role: Role,
}

/// What a peer is in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A manager with its node id.
    Manager(u64),
    /// A host with its id.
    Host(String),
}

/// The name in the first certificate of a peer's chain. The chain itself was verified by TLS.
pub fn peer_identity(certificates: &[CertificateDer<'_>]) -> Result<PeerName, PkiError> {
    let Some(certificate) = certificates.first() else {
        return Err(PkiError::Name("there is none".into()));
    };
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| PkiError::Name(error.to_string()))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| PkiError::Name(error.to_string()))?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let mut ours = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
        _ => None,
    });
    match (ours.next(), ours.next()) {
        (Some(name), None) => {
            PeerName::parse(name).ok_or_else(|| PkiError::Name(format!("{SCHEME}{name} is no name")))
        }
        (None, _) => Err(PkiError::Name("it has no skep:// name".into())),
        (Some(_), Some(_)) => Err(PkiError::Name("it has several skep:// names".into())),
    }
}

/// The DNS name by which a client makes sure that it talks to any manager of the cluster.
pub fn managers_server_name(cluster: &str) -> Result<ServerName<'static>, PkiError> {
    server_name(cluster, managers_dns(cluster))
}

/// The DNS name by which a client makes sure that it talks to this very manager.
pub fn manager_server_name(cluster: &str, node: u64) -> Result<ServerName<'static>, PkiError> {
    server_name(cluster, manager_dns(cluster, node))
}

impl PeerName {
    fn parse(text: &str) -> Option<PeerName> {
        let mut parts = text.split('/');
        let (cluster, kind, id) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || check_cluster(cluster).is_err() {
            return None;
        }
        let role = match kind {
            "manager" => Role::Manager(id.parse().ok()?),
            "host" => {
                check_host(id).ok()?;
                Role::Host(id.to_owned())
            }
            _ => return None,
        };
        Some(PeerName { cluster: cluster.to_owned(), role })
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Role::Manager(node) => write!(f, "{SCHEME}{}/manager/{node}", self.cluster),
            Role::Host(host) => write!(f, "{SCHEME}{}/host/{host}", self.cluster),
        }
    }
}

const SCHEME: &str = "skep://";

/// Names in here exist only in certificates.
const INTERNAL_ZONE: &str = ".skep.internal";

pub(super) fn managers_dns(cluster: &str) -> String {
    format!("managers.{cluster}{INTERNAL_ZONE}")
}

pub(super) fn manager_dns(cluster: &str, node: u64) -> String {
    format!("manager-{node}.{cluster}{INTERNAL_ZONE}")
}

pub(super) fn is_internal_dns(name: &str) -> bool {
    name.ends_with(INTERNAL_ZONE)
}

fn server_name(cluster: &str, name: String) -> Result<ServerName<'static>, PkiError> {
    ServerName::try_from(name).map_err(|_| PkiError::ClusterId(cluster.to_owned()))
}

pub(super) fn check_cluster(cluster: &str) -> Result<(), PkiError> {
    let is_label = (1..=63).contains(&cluster.len())
        && cluster.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !cluster.starts_with('-')
        && !cluster.ends_with('-');
    if is_label { Ok(()) } else { Err(PkiError::ClusterId(cluster.to_owned())) }
}

pub(super) fn check_host(host: &str) -> Result<(), PkiError> {
    let is_id = (1..=128).contains(&host.len())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if is_id { Ok(()) } else { Err(PkiError::HostId(host.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let names = [
            PeerName { cluster: "c1".into(), role: Role::Manager(7) },
            PeerName { cluster: "c1".into(), role: Role::Host("host_0a.b-c".into()) },
        ];
        for name in names {
            let text = name.to_string();
            let rest = text.strip_prefix(SCHEME).expect("our scheme");
            assert_eq!(PeerName::parse(rest), Some(name));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "c1",
            "c1/manager",
            "c1/manager/x",
            "c1/manager/1/2",
            "c1/host/",
            "c1/host/a b",
            "/host/a",
            "c1/user/a",
        ] {
            assert_eq!(PeerName::parse(text), None, "{text:?}");
        }
    }
}
