//! The managers' end of the agents' links, and the way to every host's engine and agent.
//!
//! ```text
//!   api, scheduler ──► Hub ──► session of an agent that is connected here ──► engine, or the agent itself
//!                       │
//!                       └────► the same on another manager (`Tunnel`, at most one hop) ──► the same
//! ```
//!
//! Which manager holds which agent is asked when it matters ([`Hub::roll_call`]), not looked up: agents move faster than
//! a log could follow. What a host reports goes to [`HubEvents`]; what is done about it is not decided here.

mod diagnosis;
mod engine;
mod engine_change;
mod error;
mod events;
mod nfs;
mod probe;
mod request;
mod roll_call;
mod session;
mod statistics;
mod stream;
mod swarm_state;
mod tunnel;

use std::sync::Arc;

use skep_wire::channels::PeerChannels;
use tokio::sync::watch;

pub use diagnosis::{Diagnosed, Patient};
pub use engine::hub_error;
pub use engine_change::EngineChange;
pub use error::HubError;
pub use events::{Admitted, HubEvents, RegisterRefusal};
pub use nfs::{NfsCheck, NfsFound, NfsReach};
pub use probe::{HostFactsAt, HostProbed, ProbeHost, ProbePlan};
pub use request::{AskError, Shown};
pub use roll_call::RollCall;
pub use statistics::{ContainerSeries, HostSeries, Series, Statistics};
pub use stream::HostStream;
pub use swarm_state::{Restoring, SWARM_STATE_BYTES_MAX, SwarmStateError, agree_on_something};
pub use tunnel::TunnelService;

use session::Sessions;

/// The agents connected to this manager, and the way to those connected elsewhere. Clones share them.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    node: u64,
    channels: PeerChannels,
    events: Arc<dyn HubEvents>,
    managers: watch::Receiver<Vec<String>>,
    sessions: Sessions,
}

impl Hub {
    /// A hub without agents. `managers` are the peer addresses (`host:port`) that agents are told to
    /// remember.
    pub fn new(
        node: u64,
        channels: PeerChannels,
        events: Arc<dyn HubEvents>,
        managers: watch::Receiver<Vec<String>>,
    ) -> Hub {
        let shared = Shared { node, channels, events, managers, sessions: Sessions::default() };
        Hub { shared: Arc::new(shared) }
    }

    /// The hosts whose agents are connected to this manager, in order.
    pub fn local_hosts(&self) -> Vec<String> {
        self.shared.sessions.hosts()
    }

    /// Ends all sessions, because this manager has lost the others: the agents dial those first. Says how many there were.
    pub fn disconnect_all(&self) -> usize {
        let hosts = self.local_hosts();
        hosts.iter().for_each(|host| self.disconnect(host));
        hosts.len()
    }

    /// Ends the session of a host, for instance because the host was removed. Its agent will dial again
    /// and must be turned away at the door.
    pub fn disconnect(&self, host: &str) {
        if let Some(session) = self.shared.sessions.find(host) {
            session.mux.close();
        }
    }
}
