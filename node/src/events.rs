//! What agents tell this manager, written into the ledger; and who among them is let in.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use skep_hub::{Admitted, HubEvents, RegisterRefusal};
use skep_ledger::{Ledger, Request, TransactError, Tx, transact};
use skep_model::host::adoption::Node;
use skep_model::host::registration::{self, Registered};
use skep_model::host::{self, Inventory, Validity};
use skep_model::ids::{HostId, OperationId};
use skep_model::{Refusal, Ruling};
use skep_wire::pki::{self, Authority, Identity, JoinToken, Joiner};
use skep_wire::proto::agent::{Offer, RegisterRequest, Report};
use uuid::Uuid;

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
    async fn write(&self, host: &str, mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<()> + Send) {
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

    /// A host that exists: its one-time token, or the key that it has registered before.
    async fn let_in(&self, host: &str, token: &str, key_hash: &[u8]) -> Result<(), RegisterRefusal> {
        let Identity { registration_key, cluster, .. } = &self.identity;
        let invited = !token.is_empty();
        if invited && !pki::verify_registration_token(registration_key, cluster, host, token) {
            return Err(refuse("WRONG_TOKEN", "the token is not this host's"));
        }
        let rule = |tx: &mut Tx<'_>| registration::register(tx, host, key_hash, invited);
        let ruled = transact(&*self.ledger, Request::new(), rule).await;
        match ruled.map_err(|error| RegisterRefusal::unavailable(error.to_string()))?.answer {
            Registered::Welcome => Ok(()),
            Registered::TokenUsed => {
                Err(refuse("TOKEN_USED", "the host was registered with another key before"))
            }
            Registered::TokenMissing => Err(refuse("WRONG_TOKEN", "the host has not registered yet")),
            Registered::Unknown => {
                Err(refuse("UNKNOWN_HOST", "there is no such host, or it is being removed"))
            }
        }
    }

    /// A machine that offers itself becomes a host.
    async fn enrol(&self, token: &str, offer: &Offer, key_hash: &[u8]) -> Result<String, RegisterRefusal> {
        let derived = |token: &JoinToken| token.is_derived_from(&self.identity.registration_key);
        let token = JoinToken::parse(Joiner::Host, token).filter(derived);
        let token = token.ok_or_else(|| refused(&Refusal::RegistrationTokenUseless))?;
        let (host, operation) = (HostId::new(Uuid::now_v7()), OperationId::new(Uuid::now_v7()));
        let offer = registration::Offer {
            token: &token.id,
            key_hash,
            name: &offer.name,
            address: &offer.address,
            node: offer.node.clone().map(|node| Node {
                id: node.id,
                manager: node.manager,
                swarm: node.swarm,
                managers: node.managers,
            }),
            adopt: offer.adopt,
            host,
            operation,
        };
        match transact(&*self.ledger, Request::new(), |tx| registration::enrol(tx, &offer)).await {
            Ok(committed) => Ok(committed.answer.to_string()),
            Err(TransactError::Refused(refusal)) => Err(refused(&refusal)),
            Err(error) => Err(RegisterRefusal::unavailable(error.to_string())),
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
    async fn register(&self, request: RegisterRequest) -> Result<Admitted, RegisterRefusal> {
        let RegisterRequest { cluster, host_id, token, csr_pem, offer } = request;
        let key_hash =
            pki::request_key_hash(&csr_pem).map_err(|error| refuse("BAD_REQUEST", &error.to_string()))?;
        if cluster != self.identity.cluster {
            return Err(refuse("WRONG_CLUSTER", &format!("this is cluster {}", self.identity.cluster)));
        }
        let host_id = match offer {
            Some(offer) => self.enrol(&token, &offer, &key_hash).await?,
            None => {
                self.let_in(&host_id, &token, &key_hash).await?;
                host_id
            }
        };
        let certificate_pem = self
            .authority
            .sign_host_csr(&csr_pem, &host_id)
            .map_err(|error| refuse("BAD_REQUEST", &error.to_string()))?;
        Ok(Admitted { host_id, certificate_pem, ca_pem: self.identity.ca_pem.clone() })
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

fn refuse(code: &str, message: &str) -> RegisterRefusal {
    RegisterRefusal { code: code.into(), message: message.into() }
}

/// In the words and with the code that the API has for it.
fn refused(refusal: &Refusal) -> RegisterRefusal {
    let hint = refusal.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    refuse(refusal.code().number(), &format!("{refusal}{hint}"))
}

/// Does the host that a certificate names still exist? A removed host's certificate outlives it.
pub(crate) async fn is_known(ledger: &dyn Ledger, host: &str) -> Result<bool, TransactError<Refusal>> {
    if host::exists(&ledger.view(), host).map_err(TransactError::Refused)? {
        return Ok(true);
    }
    host::exists(&ledger.fresh_view().await?, host).map_err(TransactError::Refused)
}

/// Nothing, if the agent does not know it or is older than the question.
fn validity(from: i64, to: i64) -> Option<Validity> {
    let at = |seconds| Timestamp::from_second(seconds).ok();
    (to != 0).then_some(Validity { from: at(from)?, to: at(to)? })
}

fn inventory(told: &skep_wire::proto::agent::Inventory) -> Inventory {
    Inventory {
        cpus: told.cpus,
        memory_bytes: told.memory_bytes,
        kernel: told.kernel.clone(),
        architecture: told.architecture.clone(),
        os: told.os.clone(),
        hostname: told.hostname.clone(),
        address: told.address.clone(),
        mtu: told.mtu,
        engine_version: told.engine_version.clone(),
        engine_api: told.engine_api.clone(),
        features: told.features.clone().into_iter().collect(),
        // What is no range was told by an agent that knows more than this manager.
        routes: told.routes.iter().filter_map(|route| route.parse().ok()).collect(),
        swarm_certificate: validity(told.swarm_certificate_from, told.swarm_certificate_to),
    }
}
