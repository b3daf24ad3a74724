//! Which recorded connections of agents nobody holds any more. Pure.
//!
//! The manager that holds a connection writes down when it ends. If that manager dies together with the agent, nobody
//! is left to write it; so the leader compares what is recorded with what the living managers hold.

use std::collections::{BTreeMap, BTreeSet};

use skep_hub::RollCall;
use skep_model::health::Unheld;
use skep_model::host::Host;

/// In so many roll calls one after another nobody must hold an agent, before it counts as gone: time for an agent whose
/// manager has died to dial another, as long as a manager itself waits for a silent agent. Counted rather than timed, so
/// that a clock that jumps takes no host away.
pub(super) const MISSED_CALLS_MAX: u32 = 3;

/// Who was missing, and how often in a row.
#[derive(Debug, Default)]
pub(super) struct Absences {
    missed: BTreeMap<Unheld, u32>,
}

impl Absences {
    /// Compares one roll call with the record; answers the connections that are gone for good.
    pub(super) fn after<'a>(
        &mut self,
        recorded: impl Iterator<Item = &'a Host>,
        call: &RollCall,
    ) -> Vec<Unheld> {
        if call.incomplete {
            self.missed.clear();
            return vec![];
        }
        let absent: BTreeSet<Unheld> = recorded
            .filter(|host| host.agent.connected)
            .map(|host| Unheld { host: host.id.to_string(), session: host.agent.session.clone() })
            .filter(|agent| !call.held.contains(&(agent.host.clone(), agent.session.clone())))
            .collect();
        self.missed.retain(|agent, _| absent.contains(agent));
        for agent in absent {
            *self.missed.entry(agent).or_default() += 1;
        }
        let gone = self.missed.iter().filter(|(_, missed)| **missed >= MISSED_CALLS_MAX);
        gone.map(|(agent, _)| agent.clone()).collect()
    }
}
