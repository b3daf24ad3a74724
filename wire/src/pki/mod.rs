//! Who is speaking: the cluster's own certificate authority, the names in its certificates, the folder
//! in which a manager keeps them, and TLS configurations made from them.
//!
//! A name is in a certificate's URI (`skep://<cluster>/manager/<id>`, `skep://<cluster>/host/<id>`),
//! so an address can change without anybody becoming somebody else.

mod authority;
mod identity;
mod join;
mod live;
mod name;
mod tls;
mod token;

pub use authority::{
    Authority, Certified, HOST_CERTIFICATE_LIFE, MANAGER_CERTIFICATE_LIFE, certificate_request, generate_key,
    past_half_life, pinned_key, request_key_hash, still_valid, validity,
};
pub use identity::Identity;
pub use join::{JoinToken, Joiner};
pub use live::{Expiry, LiveIdentity};
pub use name::{PeerName, Role, manager_server_name, managers_server_name, peer_identity};
pub use tls::{
    ALPN_AGENT, ALPN_GRPC, ALPN_HTTP1, ALPN_JOIN, ALPN_REGISTER, api_server_config, client_config,
    manager_client_config, peer_server_config, provider,
};
pub use token::{REGISTRATION_KEY_BYTES, RegistrationKey, registration_token, verify_registration_token};

use std::path::PathBuf;

/// What went wrong with keys, certificates and names.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The cluster's name cannot be part of a DNS name, which certificates need it to be.
    #[error("the cluster id {0:?} is not a DNS label (1 to 63 letters, digits and hyphens)")]
    ClusterId(String),
    /// The host's id cannot be part of a certificate's name.
    #[error("the host id {0:?} is not made of 1 to 128 letters, digits, `_`, `-` and `.`")]
    HostId(String),
    /// A manager's address is neither an IP address nor a DNS name.
    #[error("the address {0:?} is neither an IP address nor a DNS name, with or without a port")]
    Address(String),
    /// Making or signing a key, certificate or request failed.
    #[error("{doing}: {source}")]
    Certificate {
        /// What was being tried.
        doing: &'static str,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// A text is not the PEM that it should be.
    #[error("reading {what}: {reason}")]
    Pem {
        /// What the text should hold.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A key and a certificate that should belong together do not.
    #[error("the authority's key does not belong to its certificate")]
    KeyMismatch,
    /// A certificate without exactly one name of ours.
    #[error("reading the peer's certificate: {0}")]
    Name(String),
    /// TLS refuses the material.
    #[error("{doing}: {reason}")]
    Tls {
        /// What was being tried.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// A file of the identity folder.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was being tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file of the identity folder holds something else.
    #[error("the file {} is not {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
}
