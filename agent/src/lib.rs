//! The agent: runs on a host, dials a manager, reports, and passes byte streams to the host's engine.
//!
//! ```text
//!   join file ──► register once ──► dial any manager ──► report every few seconds
//!                 (key, certificate)       ▲   │          obey streams to the engine, answer requests
//!                                          └───┘ when the link is lost
//! ```
//!
//! It never listens, knows nothing about other hosts, and keeps the host's engine and its work running
//! when no manager is there, by not touching them.

mod backoff;
mod engine;
mod error;
mod facts;
mod features;
mod files;
mod inventory;
mod join;
mod link;
mod probe;
mod register;
mod requests;
mod state;
mod streams;
mod terms;

use std::path::PathBuf;

use skep_wire::pki;
use tokio_util::sync::CancellationToken;

pub use error::AgentError;
pub use join::JoinFile;

use state::{Membership, StateDir};

/// What an agent needs to know from its command line.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where the agent keeps its key, its certificate and what it remembers.
    pub state_dir: PathBuf,
    /// The engine's socket.
    pub docker_socket: PathBuf,
    /// How to join a cluster; needed for the first start, and again if the host was away for longer
    /// than its certificate lasts.
    pub join_file: Option<PathBuf>,
}

/// Runs until `shutdown`, or until something is wrong that only a person can put right. Everything else
/// (no manager, no engine) is waited for.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    tokio::select! {
        ended = live(config) => ended,
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn live(config: AgentConfig) -> Result<(), AgentError> {
    let state = StateDir::open(&config.state_dir)?;
    let join = config.join_file.as_deref().map(JoinFile::load).transpose()?;
    let mut membership = state.membership()?;
    if let (Some(membership), Some(join)) = (&membership, &join) {
        membership.check_same_host(join)?;
    }
    loop {
        let current = match membership.take() {
            Some(membership) if pki::still_valid(&membership.certificate_pem)? => membership,
            expired => join_again(&state, join.as_ref(), expired).await?,
        };
        // Comes back only when the certificate has run out.
        membership = Some(link::keep(&config, &state, current).await?);
    }
}

async fn join_again(
    state: &StateDir,
    join: Option<&JoinFile>,
    expired: Option<Membership>,
) -> Result<Membership, AgentError> {
    match (join, expired) {
        (Some(join), expired) => register::register(state, join, expired).await,
        (None, Some(_)) => Err(AgentError::Expired),
        (None, None) => Err(AgentError::NotJoined),
    }
}
