//! Registration: the host's key becomes a certificate, once, with the token from the join file.

use std::io;
use std::time::Duration;

use skep_wire::REGISTER_UNAVAILABLE;
use skep_wire::framing::{FramingError, MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::pki::{self, ALPN_REGISTER, PkiError};
use skep_wire::proto::agent::{Refused, RegisterReply, RegisterRequest, Registered, register_reply::Outcome};
use tokio::time::timeout;

use crate::backoff::Dialing;
use crate::link::dial;
use crate::state::{Membership, StateDir};
use crate::{AgentError, JoinFile};

/// Longer than the managers take to decide, which includes a change of their replicated state.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Asks manager after manager until one accepts or refuses. Managers that were learnt earlier are asked
/// as well: the join file may be older than they are.
pub(crate) async fn register(
    state: &StateDir,
    join: &JoinFile,
    earlier: Option<Membership>,
) -> Result<Membership, AgentError> {
    let request = RegisterRequest {
        cluster: join.cluster.clone(),
        host_id: join.host_id.clone(),
        token: join.token.clone(),
        csr_pem: pki::certificate_request(&state.key_pem()?, &join.host_id)?,
    };
    let mut managers = join.managers.clone();
    managers.extend(earlier.into_iter().flat_map(|membership| membership.managers));
    managers.sort_unstable();
    managers.dedup();
    let mut dialing = Dialing::default();
    loop {
        // A join file names at least one manager.
        let (manager, wait) = dialing.next(&managers).ok_or(AgentError::NotJoined)?;
        tokio::time::sleep(wait).await;
        match ask(&manager, join, &request).await {
            Ok(Registered { certificate_pem, managers }) => {
                let membership = Membership {
                    cluster: join.cluster.clone(),
                    host_id: join.host_id.clone(),
                    managers: if managers.is_empty() { join.managers.clone() } else { managers },
                    ca_pem: join.ca_pem.clone(),
                    certificate_pem,
                };
                state.save(&membership)?;
                tracing::info!(host.id = join.host_id, manager, "this host was registered");
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

async fn ask(manager: &str, join: &JoinFile, request: &RegisterRequest) -> Result<Registered, AskError> {
    let tls = pki::client_config(&join.ca_pem, None, &[ALPN_REGISTER])?;
    let mut stream = dial(manager, &join.cluster, tls).await?;
    let exchange = async {
        write_message(&mut stream, request, MESSAGE_BYTES_MAX).await?;
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
    #[error("refused: {} ({})", .0.message, .0.code)]
    Refused(Refused),
    #[error(transparent)]
    Framing(#[from] FramingError),
    #[error(transparent)]
    Pki(#[from] PkiError),
}
