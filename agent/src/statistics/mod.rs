//! How busy the host and its containers were in the last hour, a sample every ten seconds.
//!
//! Kept here in the agent's memory and nowhere else: the death of a manager loses nothing of it, ten thousand hosts cost the
//! managers nothing as long as nobody asks, and any manager can ask. What it costs is that a restarted agent begins anew, and
//! that nothing is known of a host that cannot be asked.
//!
//! ```text
//!   sampler ──► host: /proc, statvfs ──────┐
//!      │                                   ├──► history (one hour) ──► reply, when a manager asks
//!      └──────► container: the engine ─────┘
//! ```
//!
//! Whatever could not be measured is a gap and never a zero: people decide by these numbers.

mod container;
mod counters;
mod history;
mod host;
mod reply;
mod sampler;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_wire::proto::agent::StatisticsRequest;
use skep_wire::proto::agent::agent_reply::Reply;

pub(crate) use sampler::sample;

use history::History;

/// What is kept. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Statistics {
    history: Arc<Mutex<History>>,
}

impl Statistics {
    /// The replies to a request, each small enough for a message.
    pub(crate) fn replies(&self, request: &StatisticsRequest) -> Vec<Reply> {
        reply::replies(&self.history(), request)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // Whoever panicked with it left at worst one incomplete sample.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
