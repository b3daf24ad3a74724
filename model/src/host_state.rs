//! The one word that people see of a host, why, and since when.
//!
//! Derived from facts, never stored. The first thing that is wrong counts, from the machine upwards: without a machine
//! there is no agent, without an agent nobody knows of the engine, without an engine there is no node.
//!
//! ```text
//!   machine gone, stopped ─► failed       agent silent ─► unreachable      engine silent ─► engine-down
//!   node waits for the unlock key ─► swarm-locked      node down, unreachable for the swarm's managers ─► swarm-down
//!   all of it well ─► active, drained
//! ```

use jiff::Timestamp;

use crate::doctor::Severity;
use crate::host::moving::MOVES_APART;
use crate::host::{Host, Loss, Membership};
use crate::networks::link_mtu;
use crate::placement::Availability;
use crate::preflight::Found;

/// The state of a host, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    /// One word: `creating`, `joining`, `active`, `cordoned`, `drained`, `unreachable`, `engine-down`, `swarm-down`,
    /// `swarm-locked`, `failed`, `reprovisioning` or `removing`.
    pub word: &'static str,
    /// Why, and what helps; empty if there is nothing to say.
    pub why: String,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
}

impl Host {
    /// The one word for people, why, and since when.
    pub fn state(&self) -> HostState {
        let at = |word, why: String, since| HostState { word, why, since };
        if let Some(asked) = self.removal {
            let why = match self.keeps_machine {
                true => "somebody asked for it to be removed; its machine stays",
                false => "somebody asked for it to be removed",
            };
            return at("removing", why.into(), Some(asked));
        }
        if self.renewal.is_some() {
            return at("reprovisioning", "its machine is given back and made anew".into(), None);
        }
        if self.machine.is_none() {
            let why = format!("waiting for a machine from driver {}", self.driver_name());
            return at("creating", why, Some(self.created_at));
        }
        if self.registration.is_none() {
            let why = "waiting for the agent to register".into();
            return at("creating", why, Some(self.created_at));
        }
        if !self.agent.connected {
            return match &self.machine_lost {
                Some(lost) => at("failed", self.lost(lost.how), Some(lost.since)),
                None => at("unreachable", self.unheard(), self.agent.since),
            };
        }
        if !self.agent.engine_up {
            let why = format!(
                "engine down: the agent is connected, but Docker on this host does not answer ({}); \
                 on the host: systemctl status docker",
                self.agent.engine_error
            );
            return at("engine-down", why, self.agent.engine_since);
        }
        self.in_swarm()
    }

    /// What the swarm says of a host whose engine answers.
    fn in_swarm(&self) -> HostState {
        let at = |word, why: String, since| HostState { word, why, since };
        if self.swarm_locked {
            let why = "its engine has started and waits for the unlock key of the swarm, which Skep gives it by itself; if \
                       that lasts: skep op ls";
            return at("swarm-locked", why.into(), self.agent.engine_since);
        }
        let up_since = self.agent.since.max(self.agent.engine_since);
        let waiting = |why: &str| match self.join_error.as_str() {
            "" => at("joining", why.into(), up_since),
            error => at("joining", format!("{why}: {error}"), up_since),
        };
        match &self.membership {
            None if self.held_back().is_some() => at("joining", self.held(), up_since),
            None if self.was_ready => {
                waiting("it was a node of the swarm and is none any more; it joins again")
            }
            None => waiting("waiting to join the swarm"),
            Some(node) if self.must_rejoin().is_some() => {
                let word = if node.ready { "active" } else { "swarm-down" };
                at(word, self.moving(), self.node_since)
            }
            Some(node) if !node.ready && !self.was_ready => waiting("the swarm does not see it ready yet"),
            Some(node) if !node.ready => at("swarm-down", unready(node), self.node_since),
            Some(node) => match node.availability {
                Availability::Active => at("active", self.flaws(), up_since.max(self.node_since)),
                Availability::Pause => {
                    at("cordoned", "keeps its tasks and takes no more".into(), self.node_since)
                }
                Availability::Drain if self.is_suspended() => {
                    let why = "takes no tasks for a while: see its environment's and its own operation";
                    at("drained", why.into(), self.node_since)
                }
                Availability::Drain => at("drained", "takes no tasks".into(), self.node_since),
            },
        }
    }

    /// What works, and loses large packets.
    fn narrowness(&self) -> String {
        let found: Vec<String> = self.too_narrow().iter().map(ToString::to_string).collect();
        match (found.is_empty(), link_mtu(self)) {
            (false, Some(link)) => format!(
                "its link carries packets of {link} bytes, but {}: larger packets are lost. What helps: skep doctor env",
                found.join(", ")
            ),
            _ => String::new(),
        }
    }

    fn unheard(&self) -> String {
        match self.agent.since {
            None => "the agent has not connected yet".into(),
            Some(since) => {
                let driver = match &self.driver {
                    Some(driver) => format!("driver {driver} does not say that the machine is gone"),
                    None => "the machine registered itself, so only you can see it".to_owned(),
                };
                format!(
                    "the agent has not been heard since {since:.0}; {driver}. \
                     If it runs and has network, on the host: systemctl status skep-agent"
                )
            }
        }
    }

    fn moving(&self) -> String {
        format!(
            "{}; it leaves the swarm and joins it again with role, labels and availability as they are, at most every {} \
             minutes",
            self.must_rejoin().unwrap_or_default(),
            MOVES_APART.as_mins()
        )
    }

    fn held(&self) -> String {
        format!(
            "held back before it joins the swarm: {} It is looked at again; at once: skep host check {name}; to let it in all \
             the same: skep host check {name} --skip-preflight",
            self.held_back().unwrap_or_default(),
            name = self.name
        )
    }

    /// What works and loses large packets, and what was found before it joined.
    fn flaws(&self) -> String {
        let flaws = [self.narrowness(), self.found_wrong()];
        flaws.into_iter().filter(|flaw| !flaw.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// What was found before it joined and does not work. What only deserves a look is shown by `skep host inspect`.
    fn found_wrong(&self) -> String {
        let findings = self.checked_here().map(|checked| checked.findings.as_slice()).unwrap_or_default();
        let is_error = |found: &&Found| found.kind().is_some_and(|kind| kind.severity == Severity::Error);
        let seen = |found: &Found| format!("{}: {}", found.code, found.seen);
        let errors: Vec<String> = findings.iter().filter(is_error).map(seen).collect();
        match errors.is_empty() {
            true => String::new(),
            false => format!("{}. Look again: skep host check {}", errors.join("; "), self.name),
        }
    }

    fn driver_name(&self) -> &str {
        self.driver.as_deref().unwrap_or("none")
    }

    fn lost(&self, how: Loss) -> String {
        match how {
            Loss::Gone => format!(
                "machine is gone: driver {} has no such machine any more. Remove the host (skep host rm {}) and \
                 create another{}",
                self.driver_name(),
                self.name,
                match self.is_swarm_manager() {
                    true => "; if the swarm has lost its quorum, rescue it first (skep env rescue)",
                    false => "",
                }
            ),
            Loss::Stopped => format!(
                "machine is stopped: driver {} has it, but it does not run. Start it, or remove the host \
                 (skep host rm {})",
                self.driver_name(),
                self.name
            ),
        }
    }
}

fn unready(node: &Membership) -> String {
    match node.reachable {
        true => {
            "the swarm sees its node down, though its engine answers; do the hosts reach each other on ports \
                 2377, 7946 and 4789?"
                .into()
        }
        false => {
            "the other managers of the swarm do not reach it, though its engine answers; do the hosts reach \
                  each other on port 2377?"
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::host::{Agent, Inventory, Machine, MachineLost, Registration, Role, WishedRole};
    use crate::ids::{EnvironmentId, HostId};
    use crate::name::Name;
    use crate::networks::HostNetworks;
    use crate::placement::Placement;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).expect("a time")
    }

    /// Everything about it is well.
    fn host() -> Host {
        Host {
            id: HostId::new(Uuid::from_u128(1)),
            environment: EnvironmentId::new(Uuid::from_u128(2)),
            name: Name::parse("a host", "web-1").expect("a name"),
            created_at: at(0),
            driver: Some("local".into()),
            options: BTreeMap::new(),
            role: WishedRole::Auto,
            skip_preflight: false,
            removal: None,
            keeps_machine: false,
            renewal: None,
            replaces: None,
            adopted: None,
            machine: Some(Machine { id: "m".into(), address: "10.0.0.1".into() }),
            registration: Some(Registration { key_hash: vec![1], at: at(1) }),
            agent: Agent {
                connected: true,
                manager: "m1".into(),
                session: "s".into(),
                since: Some(at(2)),
                engine_up: true,
                engine_error: String::new(),
                engine_since: Some(at(3)),
            },
            inventory: Some(Inventory::default()),
            preflight: None,
            placement: Placement::default(),
            engine_wish: None,
            membership: Some(Membership {
                node: "n".into(),
                role: Role::Manager,
                leader: false,
                ready: true,
                availability: Availability::Active,
                reachable: true,
            }),
            standing: None,
            remembered: None,
            moved_at: None,
            join_error: String::new(),
            parted: false,
            evacuated: false,
            node_since: Some(at(4)),
            was_ready: true,
            machine_lost: None,
            given_up: None,
            networks: None,
            nfs: None,
            swarm_locked: false,
        }
    }

    fn seen(change: impl FnOnce(&mut Host)) -> (&'static str, String, Option<Timestamp>) {
        let mut host = host();
        change(&mut host);
        let HostState { word, why, since } = host.state();
        (word, why, since)
    }

    fn node(change: impl FnOnce(&mut Membership)) -> (&'static str, String, Option<Timestamp>) {
        seen(|host| {
            change(host.membership.as_mut().expect("a node"));
            host.node_since = Some(at(9));
        })
    }

    #[test]
    fn what_is_well_is_active_since_the_last_part_of_it_became_well() {
        assert_eq!(seen(|_| {}), ("active", String::new(), Some(at(4))));
        assert_eq!(seen(|host| host.agent.since = Some(at(8))).2, Some(at(8)));
    }

    #[test]
    fn an_active_host_whose_link_is_too_narrow_says_for_what() {
        let narrow = |link, environment_mtu| {
            seen(|host| {
                host.inventory = Some(Inventory { mtu: link, ..Inventory::default() });
                let seen = HostNetworks { engine_mtu: Some(1_500), bridge_mtu: Some(1_400), environment_mtu };
                host.networks = Some(seen);
            })
        };
        assert_eq!(narrow(1_500, Some(1_500)).1, "");
        let (word, why, _) = narrow(1_400, Some(1_450));
        assert_eq!(word, "active");
        assert!(
            why.contains("1400 bytes") && why.contains("are made for 1450, docker0 is made for 1500"),
            "{why}"
        );
        assert!(!why.contains("docker_gwbridge"), "{why}");
        assert_eq!(narrow(0, Some(1_500)).1, "", "what was not measured is not judged");
    }

    #[test]
    fn agent_engine_and_machine_down_are_told_apart() {
        let (word, why, since) = seen(|host| {
            host.agent.connected = false;
            host.agent.since = Some(at(7));
        });
        assert_eq!((word, since), ("unreachable", Some(at(7))));
        assert!(why.starts_with("the agent has not been heard since 1970-01-01T00:07:00Z"), "{why}");

        let (word, why, since) = seen(|host| {
            host.agent.engine_up = false;
            host.agent.engine_error = "no socket".into();
            host.agent.engine_since = Some(at(8));
        });
        assert_eq!((word, since), ("engine-down", Some(at(8))));
        assert!(why.starts_with("engine down:") && why.contains("no socket"), "{why}");

        for (how, words) in [(Loss::Gone, "machine is gone"), (Loss::Stopped, "machine is stopped")] {
            let (word, why, since) = seen(|host| {
                host.agent.connected = false;
                host.machine_lost = Some(MachineLost { how, since: at(9) });
            });
            assert_eq!((word, since), ("failed", Some(at(9))));
            assert!(why.starts_with(words) && why.contains("skep host rm web-1"), "{why}");
        }
    }

    /// The first thing that went counts: what is silent now may have been down for an hour.
    #[test]
    fn a_host_is_down_since_the_first_part_of_it_went_and_only_if_it_has_ever_been_up() {
        assert_eq!(host().down_since(), None);
        let mut host = host();
        host.agent.engine_up = false;
        host.agent.engine_since = Some(at(6));
        assert_eq!(host.down_since(), Some(at(6)));
        host.agent.connected = false;
        host.agent.since = Some(at(9));
        assert_eq!(host.down_since(), Some(at(6)));
        host.given_up = Some(at(6));
        assert!(host.is_given_up());
        host.agent.engine_up = true;
        assert_eq!((host.down_since(), host.is_given_up()), (Some(at(9)), false));
        host.was_ready = false;
        assert_eq!(host.down_since(), None);
    }

    #[test]
    fn a_node_that_was_ready_and_is_not_is_down_and_not_joining() {
        let (word, why, since) = node(|node| node.ready = false);
        assert_eq!((word, since), ("swarm-down", Some(at(9))));
        assert!(why.contains("node down"), "{why}");
        let (_, why, _) = node(|node| (node.ready, node.reachable) = (false, false));
        assert!(why.contains("other managers of the swarm do not reach it"), "{why}");
        let (word, ..) = seen(|host| {
            host.was_ready = false;
            host.membership.as_mut().expect("a node").ready = false;
        });
        assert_eq!(word, "joining");
    }
}
