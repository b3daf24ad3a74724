//! What the hub tells and asks whoever keeps the hosts' records.

use async_trait::async_trait;
use skep_wire::proto::agent::{RegisterRequest, Report};

/// Keeps the hosts' records. Calls for one session come one after another, in the order below, and do
/// not hold up the agent's link.
#[async_trait]
pub trait HubEvents: Send + Sync + 'static {
    /// A host asks for its first certificate, or for another after the last one has run out. Checks the token, or that
    /// the key is known. The same token with the same public key must be answered again, because an answer can be lost.
    async fn register(&self, request: RegisterRequest) -> Result<Admitted, RegisterRefusal>;

    /// A connected host asks for its next certificate; the answer is the certificate.
    async fn renew(&self, host: &str, csr_pem: &str) -> Result<String, RegisterRefusal>;

    /// A host's agent has connected. The report has an inventory.
    async fn connected(&self, host: &str, session: &str, report: &Report);

    /// The inventory or the state of the engine has changed, or a minute has passed. The report is complete. Only
    /// the latest change is told when several happened during an earlier call. Given up when the session ends, like
    /// `connected`.
    async fn reported(&self, host: &str, session: &str, report: &Report);

    /// The session has ended. Told once for every `connected`; a newer session of the same host may
    /// have connected before, here or elsewhere, so compare the session.
    async fn disconnected(&self, host: &str, session: &str);
}

/// A host that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its id.
    pub host_id: String,
    /// Its certificate.
    pub certificate_pem: String,
    /// The certificate of the cluster's authority.
    pub ca_pem: String,
}

/// Why a host does not get a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct RegisterRefusal {
    /// A stable word. [`skep_wire::REGISTER_UNAVAILABLE`] makes the agent ask again, anything else is final.
    pub code: String,
    /// The same for people.
    pub message: String,
}

impl RegisterRefusal {
    /// Nobody can answer now, for instance because there is no leader.
    pub fn unavailable(message: impl Into<String>) -> RegisterRefusal {
        RegisterRefusal { code: skep_wire::REGISTER_UNAVAILABLE.to_owned(), message: message.into() }
    }
}
