//! What agents tell this manager, written into the ledger; and who among them is let in.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skep_hub::{HubEvents, RegisterRefusal};
use skep_ledger::{Ledger, Request, TransactError, transact};
use skep_model::host::{self, Inventory, Registered};
use skep_model::{Refusal, Ruling};
use skep_wire::pki::{self, Authority, Identity};
use skep_wire::proto::agent::{RegisterRequest, Report};

/// Before a write that the replicas could not agree on is tried again.
const WRITE_PAUSE: Duration = Duration::from_millis(500);

/// Writes what agents tell into the ledger of this manager.
pub(crate) struct Registrar {
    ledger: Arc<dyn Ledger>,
    authority: Authority,
    identity: Identity,
    /// This manager's name.
    node: String,
}

impl Registrar {
    pub(crate) fn new(
        ledger: Arc<dyn Ledger>,
        identity: Identity,
        node: &str,
    ) -> Result<Registrar, pki::PkiError> {
        Ok(Registrar { ledger, authority: identity.authority()?, identity, node: node.to_owned() })
    }

    /// Writes what was told, as often as it takes: an agent tells a change once, and the replicas may be busy with an
    /// election.
    async fn write(&self, host: &str, mut rule: impl FnMut(&mut skep_ledger::Tx<'_>) -> Ruling<()> + Send) {
        loop {
            match transact(&*self.ledger, Request::new(), &mut rule).await {
                Ok(_) => return,
                Err(TransactError::Refused(refusal)) => {
                    return tracing::error!(host.id = host, %refusal, "what an agent told was refused");
                }
                Err(error) => {
                    tracing::info!(host.id = host, %error, "what an agent told is not written down yet")
                }
            }
            tokio::time::sleep(WRITE_PAUSE).await;
        }
    }

    async fn report(&self, host: &str, session: &str, report: &Report) {
        let inventory = report.inventory.as_ref().map(inventory);
        let engine = || {
            if report.engine_up { Ok(()) } else { Err(report.engine_error.clone()) }
        };
        self.write(host, |tx| host::reported(tx, host, &self.node, session, inventory.clone(), engine()))
            .await;
    }
}

#[async_trait]
impl HubEvents for Registrar {
    async fn register(&self, request: RegisterRequest) -> Result<String, RegisterRefusal> {
        let refuse =
            |code: &str, message: &str| RegisterRefusal { code: code.into(), message: message.into() };
        let RegisterRequest { cluster, host_id, token, csr_pem } = request;
        let known =
            pki::verify_registration_token(&self.identity.registration_key, &cluster, &host_id, &token);
        if cluster != self.identity.cluster || !known {
            return Err(refuse("WRONG_TOKEN", "the token is not this host's"));
        }
        let key_hash =
            pki::request_key_hash(&csr_pem).map_err(|error| refuse("BAD_REQUEST", &error.to_string()))?;
        let ruled =
            transact(&*self.ledger, Request::new(), |tx| host::register(tx, &host_id, &key_hash)).await;
        match ruled {
            Ok(committed) => match committed.answer {
                Registered::Welcome => self
                    .authority
                    .sign_host_csr(&csr_pem, &host_id)
                    .map_err(|error| refuse("BAD_REQUEST", &error.to_string())),
                Registered::TokenUsed => {
                    Err(refuse("TOKEN_USED", "the one-time token was used by another key"))
                }
                Registered::Unknown => {
                    Err(refuse("UNKNOWN_HOST", "there is no such host, or it is being removed"))
                }
            },
            Err(error) => Err(RegisterRefusal::unavailable(error.to_string())),
        }
    }

    async fn renew(&self, host: &str, csr_pem: &str) -> Result<String, RegisterRefusal> {
        self.authority
            .sign_host_csr(csr_pem, host)
            .map_err(|error| RegisterRefusal { code: "BAD_REQUEST".into(), message: error.to_string() })
    }

    async fn connected(&self, host: &str, session: &str, report: &Report) {
        self.report(host, session, report).await;
    }

    async fn reported(&self, host: &str, session: &str, report: &Report) {
        self.report(host, session, report).await;
    }

    async fn disconnected(&self, host: &str, session: &str) {
        self.write(host, |tx| host::disconnected(tx, host, session)).await;
    }
}

/// Does the host that a certificate names still exist? A removed host's certificate outlives it.
pub(crate) async fn is_known(ledger: &dyn Ledger, host: &str) -> Result<bool, TransactError<Refusal>> {
    if host::exists(&ledger.view(), host).map_err(TransactError::Refused)? {
        return Ok(true);
    }
    host::exists(&ledger.fresh_view().await?, host).map_err(TransactError::Refused)
}

fn inventory(told: &skep_wire::proto::agent::Inventory) -> Inventory {
    Inventory {
        cpus: told.cpus,
        memory_bytes: told.memory_bytes,
        kernel: told.kernel.clone(),
        architecture: told.architecture.clone(),
        os: told.os.clone(),
        hostname: told.hostname.clone(),
        mtu: told.mtu,
        engine_version: told.engine_version.clone(),
        engine_api: told.engine_api.clone(),
        features: told.features.clone().into_iter().collect(),
    }
}
