//! What Skep does for an environment's hosts without being asked, and within which bounds. Each part can be turned off.

use serde::{Deserialize, Serialize};

use crate::{Refusal, Ruling};

/// A machine that restarts is back in a minute or two; a swarm of three that has lost one manager should not wait much
/// longer for its spare.
const MANAGER_PATIENCE_DEFAULT_SECS: u32 = 300;

/// An election of the swarm takes up to 15 s and looks come every few seconds; below this a hiccup would move managers.
pub const PATIENCE_MIN_SECS: u32 = 10;

/// Whoever waits longer than a week waits for ever, and says so with zero.
pub const PATIENCE_MAX_SECS: u32 = 7 * 24 * 3_600;

/// The wishes of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// How long a swarm manager may be down before another host takes its place; zero: for ever.
    #[serde(default = "manager_patience")]
    pub manager_patience_secs: u32,
    /// How long a host that has a driver may be down before a new machine takes its place; zero: for ever. Machines cost
    /// money, so nobody gets one unasked.
    #[serde(default)]
    pub host_patience_secs: u32,
    /// Are tasks moved to hosts that have joined?
    #[serde(default)]
    pub rebalance: bool,
}

fn manager_patience() -> u32 {
    MANAGER_PATIENCE_DEFAULT_SECS
}

impl Default for Upkeep {
    fn default() -> Upkeep {
        Upkeep { manager_patience_secs: manager_patience(), host_patience_secs: 0, rebalance: false }
    }
}

/// Refuses a patience that is too short to tell anything, or too long to be meant; zero is for ever.
pub(crate) fn patience(what: &'static str, secs: u32) -> Ruling<u32> {
    if secs > 0 {
        within(what, secs, PATIENCE_MAX_SECS)?;
    }
    Ok(secs)
}

/// Refuses a time that is too short to tell anything, or longer than `max_secs`.
pub(crate) fn within(what: &'static str, secs: u32, max_secs: u32) -> Ruling<()> {
    match (PATIENCE_MIN_SECS..=max_secs).contains(&secs) {
        true => Ok(()),
        false => Err(Refusal::InvalidValue {
            what,
            value: format!("{secs} s"),
            allowed: format!("use {PATIENCE_MIN_SECS} s to {max_secs} s, or 0 for never"),
        }),
    }
}
