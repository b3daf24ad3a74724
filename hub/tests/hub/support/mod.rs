//! Managers, an agent and an engine to test with.

mod agent;
mod engine;
mod manager;

use std::time::Duration;

use bytes::Bytes;

pub(crate) use agent::{RunningAgent, silent_agent};
pub(crate) use engine::Engine;
pub(crate) use manager::Manager;

pub(crate) const CLUSTER: &str = "c1";
pub(crate) const HOST: &str = "host_1";

/// Far beyond what anything here takes, so that only a hang reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const CHUNK_BYTES: usize = 1024 * 1024;

/// Bytes that show where they belong.
pub(crate) fn pattern(bytes: usize) -> impl Iterator<Item = Bytes> {
    (0..bytes).step_by(CHUNK_BYTES).map(move |start| {
        let end = bytes.min(start + CHUNK_BYTES);
        (start..end).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
    })
}

/// Depends on every byte and its place.
pub(crate) fn checksum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
