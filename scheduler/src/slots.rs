//! How many effects of a kind may be in flight at once.
//!
//! Counted by the leader in memory: after a leader change the effects of the old one may still be in flight for a
//! moment, which the bounds are low enough for. Whoever finds no free slot waits without holding anything, so it can
//! be cancelled or paused meanwhile, and looks again when one becomes free.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use skep_model::ids::HostId;
use tokio::sync::Notify;

use crate::Effect;

/// Machines that are being made at once by one driver: clouds answer more with errors about quotas and rates.
pub const MACHINES_IN_FLIGHT_PER_DRIVER_MAX: usize = 8;

/// Machines that are being given back at once to one driver.
pub const RELEASES_IN_FLIGHT_PER_DRIVER_MAX: usize = 8;

/// Conversations with the engines of one environment at once: its few swarm managers have to answer all of them.
pub const EFFECTS_IN_FLIGHT_PER_ENVIRONMENT_MAX: usize = 16;

/// Checks of the network in one environment at once: two would find the agents of the members busy with the other.
const CHECKS_IN_FLIGHT_PER_ENVIRONMENT_MAX: usize = 1;

/// Whatever makes a host a node of its swarm or ends that: whoever takes it out must know whether it is in.
const PARTS_IN_FLIGHT_PER_HOST_MAX: usize = 1;

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Making(String),
    Releasing(String),
    Checking(String),
    Environment(String),
    Member(HostId),
}

impl Kind {
    /// Everything that the effect needs a slot of. Nothing for effects that happen in the ledger alone.
    fn of(effect: &Effect) -> Vec<Kind> {
        let within = effect.environment().map(|environment| Kind::Environment(environment.to_string()));
        match effect {
            Effect::EnsureMachine { driver, .. } => vec![Kind::Making(driver.clone())],
            Effect::ReleaseMachine { driver, host, .. } | Effect::LetMachineGo { driver, host, .. } => {
                vec![Kind::Releasing(driver.clone()), Kind::Member(host.clone())]
            }
            Effect::CheckNetwork { environment, .. } => vec![Kind::Checking(environment.to_string())],
            Effect::InitSwarm { host, .. }
            | Effect::RestoreSwarm { host, .. }
            | Effect::LeaveSwarm { host, .. } => {
                within.into_iter().chain([Kind::Member(host.clone())]).collect()
            }
            Effect::JoinSwarm { joins, .. } => {
                within.into_iter().chain(joins.iter().map(|(host, ..)| Kind::Member(host.clone()))).collect()
            }
            _ => Vec::from_iter(within),
        }
    }

    fn limit(&self) -> usize {
        match self {
            Kind::Making(_) => MACHINES_IN_FLIGHT_PER_DRIVER_MAX,
            Kind::Releasing(_) => RELEASES_IN_FLIGHT_PER_DRIVER_MAX,
            Kind::Checking(_) => CHECKS_IN_FLIGHT_PER_ENVIRONMENT_MAX,
            Kind::Environment(_) => EFFECTS_IN_FLIGHT_PER_ENVIRONMENT_MAX,
            Kind::Member(_) => PARTS_IN_FLIGHT_PER_HOST_MAX,
        }
    }

    fn full(&self) -> String {
        let what = match self {
            Kind::Making(driver) => format!("{} machines are being made by {driver}", self.limit()),
            Kind::Releasing(driver) => format!("{} machines are being given back to {driver}", self.limit()),
            Kind::Checking(_) => "the network of other hosts is being checked".to_owned(),
            Kind::Environment(_) => format!("{} things are being done in the environment", self.limit()),
            Kind::Member(_) => "the host is being taken into the swarm, or out of it".to_owned(),
        };
        format!("waits for a free slot: {what}")
    }
}

/// All slots of one leader.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    taken: Mutex<BTreeMap<Kind, usize>>,
    freed: Notify,
}

/// One effect's places; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    kinds: Vec<Kind>,
}

impl Slots {
    /// A slot for the effect, or why there is none, in words.
    pub(crate) fn take(self: &Arc<Slots>, effect: &Effect) -> Result<Slot, String> {
        let kinds = Kind::of(effect);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |kind: &&Kind| taken.get(kind).is_some_and(|count| *count >= kind.limit());
        if let Some(full) = kinds.iter().find(is_full) {
            return Err(full.full());
        }
        for kind in &kinds {
            *taken.entry(kind.clone()).or_default() += 1;
        }
        drop(taken);
        Ok(Slot { slots: self.clone(), kinds })
    }

    /// Waits until any slot becomes free. What is freed between [`Slots::take`] and this call is not missed if the
    /// future was made before.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in &self.kinds {
            if let Some(count) = taken.get_mut(kind) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(kind);
                }
            }
        }
        drop(taken);
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_model::host::Role;
    use skep_model::ids::EnvironmentId;
    use skep_model::name::Name;
    use uuid::Uuid;

    fn machine(number: u128, driver: &str) -> Effect {
        Effect::EnsureMachine {
            environment: EnvironmentId::new(Uuid::nil()),
            host: HostId::new(Uuid::from_u128(number)),
            name: Name::parse("a host", "web-1").expect("is a name"),
            driver: driver.into(),
        }
    }

    #[test]
    fn each_driver_makes_so_many_machines_at_once_and_the_next_waits_with_a_reason() {
        let slots = Arc::new(Slots::default());
        let mut taken: Vec<_> =
            (0..8).map(|number| slots.take(&machine(number, "local")).expect("there is room")).collect();
        let why = slots.take(&machine(9, "local")).expect_err("it is full");
        assert_eq!(why, "waits for a free slot: 8 machines are being made by local");
        slots.take(&machine(9, "openstack")).expect("another driver has room");
        taken.pop();
        slots.take(&machine(9, "local")).expect("one has become free");
    }

    #[test]
    fn a_host_is_taken_out_of_its_swarm_only_when_nobody_takes_it_in() {
        let (slots, environment) = (Arc::new(Slots::default()), EnvironmentId::new(Uuid::nil()));
        let host = |number| HostId::new(Uuid::from_u128(number));
        let name = Name::parse("a host", "web-1").expect("is a name");
        let joins = [1, 2].map(|number| (host(number), name.clone(), Role::Worker)).into();
        let joining = slots.take(&Effect::JoinSwarm { environment: environment.clone(), joins });
        let leave = |number| Effect::LeaveSwarm {
            environment: environment.clone(),
            host: host(number),
            name: name.clone(),
        };
        let why = slots.take(&leave(2)).expect_err("it joins just now");
        assert_eq!(why, "waits for a free slot: the host is being taken into the swarm, or out of it");
        slots.take(&leave(3)).expect("another host can leave");
        drop(joining);
        slots.take(&leave(2)).expect("it has joined, or has not");
    }

    #[tokio::test]
    async fn a_slot_that_becomes_free_is_told() {
        let slots = Arc::new(Slots::default());
        let slot = slots.take(&machine(1, "local")).expect("there is room");
        let freed = slots.freed();
        drop(slot);
        freed.await;
    }
}
