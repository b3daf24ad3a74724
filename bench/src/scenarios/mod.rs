//! What is measured. Each scenario drives both systems through the same code and says what came of its targets.

pub(crate) mod agents;
pub(crate) mod doors;
pub(crate) mod footprint;
pub(crate) mod handover;
pub(crate) mod kills;
pub(crate) mod objects;
pub(crate) mod planners;
pub(crate) mod slow_disk;
pub(crate) mod syncs;
pub(crate) mod throughput;
mod writers;

use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Rounds of each system per workload.
    pub(crate) rounds: usize,
    /// One of them.
    pub(crate) round: Duration,
    /// Leaders that are killed.
    pub(crate) kills: usize,
    /// Leaders that are told to leave.
    pub(crate) handovers: usize,
    /// Keys for restart and catching up.
    pub(crate) objects: u64,
    /// How long an idle cluster is looked at.
    pub(crate) idle: Duration,
    /// How long each disk is slow.
    pub(crate) slow: Duration,
    /// How often a start is timed.
    pub(crate) starts: usize,
    /// Agents that are simulated.
    pub(crate) agents: usize,
    /// How long their heartbeats are looked at.
    pub(crate) heartbeats: Duration,
    /// Also workloads that have no target of their own.
    pub(crate) every_workload: bool,
}

/// What figures are quoted from.
pub(crate) const FULL: Effort = Effort {
    rounds: 5,
    round: Duration::from_secs(3),
    kills: 10,
    handovers: 5,
    objects: 100_000,
    idle: Duration::from_secs(10),
    slow: Duration::from_secs(6),
    starts: 10,
    agents: 10_000,
    heartbeats: Duration::from_secs(60),
    every_workload: true,
};

/// Every scenario, within three minutes.
pub(crate) const QUICK: Effort = Effort {
    rounds: 3,
    round: Duration::from_millis(700),
    kills: 3,
    handovers: 2,
    objects: 100_000,
    idle: Duration::from_secs(3),
    slow: Duration::from_secs(3),
    starts: 5,
    agents: 1_000,
    heartbeats: Duration::from_secs(10),
    every_workload: false,
};

/// The first requests of a connection are unlike all others.
pub(crate) const WARM_UP: Duration = Duration::from_millis(200);

/// Members of every cluster.
pub(crate) const MEMBERS: usize = 3;
