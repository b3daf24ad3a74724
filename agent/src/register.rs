//! Registration: the host's key becomes a certificate.
//!
//! The first time by a token: the one-time token of a host that was wished for, or one with which a machine offers itself
//! as a host. Later by the key itself, when the certificate has run out while the host was away.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use skep_wire::REGISTER_UNAVAILABLE;
use skep_wire::framing::{FramingError, MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::pki::{self, ALPN_REGISTER, JoinToken, Joiner, PkiError};
use skep_wire::proto::agent::{
    Offer, Refused, RegisterReply, RegisterRequest, Registered, SwarmNode, register_reply::Outcome,
};
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use crate::address::{self, AddressChoice, NoAddress};
use crate::backoff::Dialing;
use crate::engine::Engine;
use crate::link::dial;
use crate::state::{Membership, StateDir};
use crate::{AgentError, JoinFile, Offering};

/// Longer than the managers take to decide, which includes a change of their replicated state.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// By what a host asks to be let in.
pub(crate) enum Claim<'a> {
    /// It was wished for, and this is its join file.
    Invited(&'a JoinFile),
    /// The machine offers itself.
    Offering(&'a Offering, JoinToken),
    /// It was let in before.
    Known(&'a Membership),
}

impl<'a> Claim<'a> {
    /// The claim of a machine that offers itself; refused if its token cannot be one.
    pub(crate) fn offering(offering: &'a Offering) -> Result<Claim<'a>, AgentError> {
        let token = JoinToken::parse(Joiner::Host, &offering.token).ok_or(AgentError::NoToken)?;
        Ok(Claim::Offering(offering, token))
    }

    fn cluster(&self) -> &str {
        match self {
            Claim::Invited(join) => &join.cluster,
            Claim::Offering(_, token) => &token.cluster,
            Claim::Known(membership) => &membership.cluster,
        }
    }

    fn managers(&self) -> &[String] {
        match self {
            Claim::Invited(join) => &join.managers,
            Claim::Offering(offering, _) => &offering.managers,
            Claim::Known(membership) => &membership.managers,
        }
    }

    /// How the managers are recognised.
    fn trust(&self) -> Result<Arc<ClientConfig>, PkiError> {
        match self {
            Claim::Invited(join) => pki::client_config(&join.ca_pem, None, &[ALPN_REGISTER]),
            Claim::Offering(_, token) => token.client_config(),
            Claim::Known(membership) => pki::client_config(&membership.ca_pem, None, &[ALPN_REGISTER]),
        }
    }

    fn request(&self, key_pem: &str) -> Result<RegisterRequest, PkiError> {
        let (host_id, token) = match self {
            Claim::Invited(join) => (join.host_id.clone(), join.token.clone()),
            Claim::Offering(offering, _) => (String::new(), offering.token.clone()),
            Claim::Known(membership) => (membership.host_id.clone(), String::new()),
        };
        let csr_pem = pki::certificate_request(key_pem, &host_id)?;
        Ok(RegisterRequest { cluster: self.cluster().to_owned(), host_id, token, csr_pem, offer: None })
    }

    fn offer(&self, address: IpAddr, node: Option<SwarmNode>) -> Option<Offer> {
        match self {
            Claim::Offering(offering, _) => Some(Offer {
                name: offering.name(),
                address: address.to_string(),
                node,
                adopt: offering.adopt,
            }),
            Claim::Invited(_) | Claim::Known(_) => None,
        }
    }

    /// The node that the machine is in a swarm already. Whoever wants its swarm to be taken over needs it; otherwise an engine
    /// that does not answer yet is no reason to wait.
    async fn node(&self, engine: &Engine) -> Result<Option<SwarmNode>, AskError> {
        let Claim::Offering(offering, _) = self else {
            return Ok(None);
        };
        match engine.swarm_node().await {
            Err(why) if offering.adopt => Err(AskError::Engine(why)),
            node => Ok(node.unwrap_or_default()),
        }
    }

    fn membership(&self, registered: Registered) -> Membership {
        let Registered { certificate_pem, managers, host_id, ca_pem } = registered;
        let (host_id, ca_pem, token) = match self {
            Claim::Invited(join) => (join.host_id.clone(), join.ca_pem.clone(), None),
            Claim::Offering(_, token) => (host_id, ca_pem, Some(token.id.clone())),
            Claim::Known(before) => (before.host_id.clone(), before.ca_pem.clone(), before.token.clone()),
        };
        let managers = if managers.is_empty() { self.managers().to_vec() } else { managers };
        let cluster = self.cluster().to_owned();
        // Found out anew with the first link.
        let (address, removed) = (None, false);
        Membership { cluster, host_id, managers, ca_pem, certificate_pem, token, address, removed }
    }
}

/// Asks manager after manager until one accepts or refuses.
pub(crate) async fn register(
    state: &StateDir,
    claim: &Claim<'_>,
    choice: Option<&AddressChoice>,
    engine: &Engine,
) -> Result<Membership, AgentError> {
    let request = claim.request(&state.key_pem()?)?;
    let mut dialing = Dialing::default();
    loop {
        let (manager, wait) = dialing.next(claim.managers()).ok_or(AgentError::NotJoined)?;
        tokio::time::sleep(wait).await;
        match ask(&manager, claim, &request, choice, engine).await {
            Ok(registered) => {
                let membership = claim.membership(registered);
                state.save(&membership)?;
                tracing::info!(host.id = membership.host_id, manager, "this host was registered");
                return Ok(membership);
            }
            Err(AskError::Refused(Refused { code, message })) if code != REGISTER_UNAVAILABLE => {
                return Err(AgentError::Refused { code, message });
            }
            Err(error) => tracing::warn!(manager, %error, "a manager did not register this host"),
        }
        dialing.failed();
    }
}

async fn ask(
    manager: &str,
    claim: &Claim<'_>,
    request: &RegisterRequest,
    choice: Option<&AddressChoice>,
    engine: &Engine,
) -> Result<Registered, AskError> {
    let node = claim.node(engine).await?;
    let mut stream = dial(manager, claim.cluster(), claim.trust()?).await?;
    let address = address::chosen(choice, None, stream.get_ref().0.local_addr()?.ip())?;
    let request = RegisterRequest { offer: claim.offer(address, node), ..request.clone() };
    let exchange = async {
        write_message(&mut stream, &request, MESSAGE_BYTES_MAX).await?;
        read_message::<RegisterReply, _>(&mut stream, MESSAGE_BYTES_MAX).await
    };
    let reply = timeout(ANSWER_MAX, exchange).await.map_err(|_| AskError::Silence)??;
    match reply.outcome {
        Some(Outcome::Registered(registered)) => Ok(registered),
        Some(Outcome::Refused(refused)) => Err(AskError::Refused(refused)),
        None => Err(AskError::Empty),
    }
}

/// Why one manager did not register the host.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("connecting: {0}")]
    Dial(#[from] io::Error),
    #[error("no answer within {} s", ANSWER_MAX.as_secs())]
    Silence,
    #[error("an answer that neither accepts nor refuses")]
    Empty,
    #[error("the engine does not say which swarm it is in: {0}")]
    Engine(String),
    #[error("refused: {} ({})", .0.message, .0.code)]
    Refused(Refused),
    #[error(transparent)]
    Address(#[from] NoAddress),
    #[error(transparent)]
    Framing(#[from] FramingError),
    #[error(transparent)]
    Pki(#[from] PkiError),
}
