//! The agent: runs on a host, dials a manager, reports, and passes byte streams to the host's engine.
//!
//! ```text
//!   join file,  ──► register once ──► dial any manager ──► report every few seconds
//!   or token        (key, certificate)       ▲   │          obey streams to the engine, answer requests
//!                                            └───┘ when the link is lost
//! ```
//!
//! It never listens, knows nothing about other hosts, and keeps the host's engine and its work running
//! when no manager is there, by not touching them.

mod address;
mod backoff;
mod checkup;
mod engine;
mod engine_change;
mod entrance;
mod error;
mod facts;
mod features;
mod files;
mod inventory;
mod join;
mod link;
mod nfs;
mod probe;
mod register;
mod requests;
mod routes;
mod run;
mod state;
mod statistics;
mod streams;
mod terms;

use std::path::PathBuf;

use skep_wire::pki;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use address::AddressChoice;
pub use backoff::Dialing;
pub use checkup::{Checked, Verdict, check_up};
pub use entrance::Entrance;
pub use error::AgentError;
pub use join::{JoinFile, Offering};
pub use link::dial;
pub use run::LogFiles;

use engine::Engine;
use register::Claim;
use state::{Membership, StateDir};
use statistics::Statistics;

/// What an agent needs to know from its command line.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where the agent keeps its key, its certificate and what it remembers.
    pub state_dir: PathBuf,
    /// The engine's socket.
    pub docker_socket: PathBuf,
    /// How to join a cluster that has made this host; needed for the first start.
    pub join_file: Option<PathBuf>,
    /// How to join a cluster that has not asked for this machine; needed for the first start.
    pub offering: Option<Offering>,
    /// Where the other hosts reach this one; from where it reaches the managers, if nothing is said.
    pub address: Option<AddressChoice>,
    /// How it gets to the host's files and programs.
    pub entrance: Entrance,
    /// Where logs are that are not in the journal.
    pub logs: LogFiles,
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
    let statistics = Statistics::default();
    let engine = Engine::new(config.docker_socket.clone(), config.entrance);
    let _sampling =
        AbortOnDropHandle::new(tokio::spawn(statistics::sample(statistics.clone(), engine.clone())));
    let state = StateDir::open(&config.state_dir)?;
    let join = config.join_file.as_deref().map(JoinFile::load).transpose()?;
    let mut membership = state.membership()?;
    if let (Some(membership), Some(join)) = (&membership, &join) {
        membership.check_same_host(join)?;
    }
    loop {
        let current = match membership.take() {
            Some(before) if before.removed => add_again(&config, &state, &before, &engine).await?,
            Some(membership) if pki::still_valid(&membership.certificate_pem)? => membership,
            Some(expired) => register::register(&state, &Claim::Known(&expired), None, &engine).await?,
            None => join_first(&config, &state, join.as_ref(), &engine).await?,
        };
        // Comes back only when the certificate has run out.
        membership = Some(link::keep(&config, &state, current, &engine, &statistics).await?);
    }
}

async fn join_first(
    config: &AgentConfig,
    state: &StateDir,
    join: Option<&JoinFile>,
    engine: &Engine,
) -> Result<Membership, AgentError> {
    let claim = match (join, &config.offering) {
        (Some(join), _) => Claim::Invited(join),
        (None, Some(offering)) => Claim::offering(offering)?,
        (None, None) => return Err(AgentError::NotJoined),
    };
    register::register(state, &claim, config.address.as_ref(), engine).await
}

/// A host that was removed comes back only if somebody has given it another token since: the old one may be good for
/// many machines, and nobody meant this one.
async fn add_again(
    config: &AgentConfig,
    state: &StateDir,
    before: &Membership,
    engine: &Engine,
) -> Result<Membership, AgentError> {
    let offering = config.offering.as_ref().ok_or(AgentError::Removed)?;
    match Claim::offering(offering)? {
        Claim::Offering(_, token) if before.token.as_ref() == Some(&token.id) => Err(AgentError::Removed),
        claim => register::register(state, &claim, config.address.as_ref(), engine).await,
    }
}
