//! The host's part in a check of the network: it hears what arrives, and sends what others hear.
//!
//! ```text
//!   manager ──► listen ──► every host:  "listening"
//!           ──► send   ──► every host:  connections, datagrams ══► the other hosts
//!           ──► end    ──► every host:  "heard"
//! ```
//! A quick probe waits for nothing that may be late or lost; the manager makes another one if anything is missing.
//!
//! Nothing is opened: packets are seen as they leave the host's own filter, on ports that belong to the engine or to the
//! kernel. So the real ports are checked, while they are in use, and whoever listens there is not disturbed.

mod listen;
mod packet;
mod send;

#[cfg(test)]
mod network_tests;

use std::sync::Arc;

use skep_wire::proto::agent::{AgentFailureKind, ListenRequest, SendRequest, Sent};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(crate) use listen::Ears;

/// Peers of one request: as many hosts as an environment can have.
const PEERS_MAX: usize = 1_000;

/// Ports in one list of a request; a probe needs two.
const PORTS_MAX: usize = 16;

/// Sizes of packets between two hosts; a probe needs about a dozen.
const SIZES_MAX: usize = 32;

/// Why a probe was not made.
#[derive(Debug)]
pub(crate) struct NotProbed {
    pub(crate) kind: AgentFailureKind,
    pub(crate) message: String,
}

/// Lets one probe at a time through: two would only make each other's packets late. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Probes {
    listening: Arc<Mutex<()>>,
    sending: Arc<Mutex<()>>,
}

impl Probes {
    /// Opens this host's ears; they close when they are dropped.
    pub(crate) fn listen(&self, request: &ListenRequest) -> Result<(Ears, OwnedMutexGuard<()>), NotProbed> {
        let alone = take(&self.listening)?;
        Ok((Ears::open(request)?, alone))
    }

    /// Sends to every peer and tells what became of it.
    pub(crate) async fn send(&self, request: &SendRequest) -> Result<Sent, NotProbed> {
        let _alone = take(&self.sending)?;
        send::to_all(request).await
    }
}

fn take(lock: &Arc<Mutex<()>>) -> Result<OwnedMutexGuard<()>, NotProbed> {
    lock.clone().try_lock_owned().map_err(|_| NotProbed {
        kind: AgentFailureKind::Busy,
        message: "the host takes part in another check just now".into(),
    })
}

fn invalid(message: impl Into<String>) -> NotProbed {
    NotProbed { kind: AgentFailureKind::Invalid, message: message.into() }
}

fn ports(ports: &[u32]) -> Result<Vec<u16>, NotProbed> {
    if ports.len() > PORTS_MAX {
        return Err(invalid(format!("{} ports are more than {PORTS_MAX}", ports.len())));
    }
    let port = |port: &u32| u16::try_from(*port).ok().filter(|port| *port > 0);
    ports.iter().map(port).collect::<Option<_>>().ok_or_else(|| invalid("a port is none"))
}

fn run_id(run: &[u8]) -> Result<[u8; packet::RUN_BYTES], NotProbed> {
    run.try_into().map_err(|_| invalid(format!("a probe is named by {} bytes", packet::RUN_BYTES)))
}
