//! What effects do to the simulated world, and what it answers.

use std::collections::BTreeMap;

use skep_ledger::View;
use skep_model::CLUSTER;
use skep_model::balance::{End, Seen};
use skep_model::environment::Environment;
use skep_model::fact::Fact;
use skep_model::host::moving::{Known, Standing};
use skep_model::host::{Host, Role};
use skep_model::ids::EnvironmentId;
use skep_model::name::Name;
use skep_model::operation::Operation;
use skep_model::placement::Availability;
use skep_model::preflight::Checked;
use skep_model::registry::{self, RegistryLogin};
use skep_model::sealed::Sealed;
use skep_model::stack::ServiceSeen;
use skep_model::swarm_keys::{Certificates, Noted, SwarmKey};
use skep_scheduler::{Effect, effects};

use super::{State, hosts, stack_of};

/// What is done to the nodes of a swarm.
pub(super) fn on_node(state: &mut State, effect: &Effect, view: &View, operation: &Operation) -> Vec<Fact> {
    match effect {
        Effect::SetRole { environment, host, role, .. } => {
            state.change(environment, host, |node| node.role = *role);
            let votes = state.votes.entry(environment.clone()).or_default();
            match role {
                Role::Manager => votes.insert(host.clone(), true),
                Role::Worker => votes.remove(host),
            };
            vec![state.seen(environment)]
        }
        Effect::ObserveSwarm { environment } => vec![state.seen(environment)],
        Effect::DrainNode { environment, host, .. } => {
            state.change(environment, host, |node| node.availability = Availability::Drain);
            vec![state.seen(environment)]
        }
        Effect::UpdateNode { environment, host, generation, .. } => {
            let wished = hosts(view).into_iter().find(|known| known.id == *host).expect("is there").placement;
            state.change(environment, host, |node| node.availability = wished.availability);
            let written = wished.labels.keys().cloned().collect();
            let updated = Fact::NodeUpdated(environment.clone(), host.clone(), *generation, written);
            vec![state.seen(environment), updated]
        }
        Effect::ObserveEvacuation { environment, host, .. } => {
            vec![Fact::Evacuated(environment.clone(), host.clone())]
        }
        Effect::LeaveSwarm { environment, host, .. } => {
            let nodes = state.swarms.entry(environment.clone()).or_default();
            nodes.remove(host);
            if nodes.is_empty() {
                // It has gone with its last node; another one may be begun.
                state.made.remove(&format!("swarm of {environment}"));
            }
            state.silence(environment, host, effect, view);
            vec![Fact::LeftSwarm(environment.clone(), host.clone())]
        }
        other => act_on_keys(state, other, view, operation)
            .unwrap_or_else(|| act_on_network(state, other, view, operation)),
    }
}

/// What is found and changed about the addresses of hosts.
fn act_on_network(state: &mut State, effect: &Effect, view: &View, operation: &Operation) -> Vec<Fact> {
    match effect {
        Effect::CheckNetwork { environment, hosts: checked, .. } => {
            let known = hosts(view).into_iter().filter(|host| checked.iter().any(|(id, _)| *id == host.id));
            let passes = |host: Host| {
                let address = host.machine.map(|machine| machine.address).unwrap_or_default();
                let passes = Checked { address, ..Checked::default() };
                Fact::NetworkChecked(environment.clone(), host.id, passes)
            };
            known.map(passes).collect()
        }
        Effect::RememberNode { environment, host, .. } => {
            let node = state.swarms.entry(environment.clone()).or_default().get(host).expect("is a node");
            let known = Known {
                node: node.node.clone(),
                role: node.role,
                availability: node.availability,
                labels: BTreeMap::new(),
            };
            vec![Fact::NodeRemembered(environment.clone(), host.clone(), known)]
        }
        Effect::AdvertiseManager { environment, host, .. } => {
            let known = hosts(view).into_iter().find(|known| known.id == *host).expect("is there");
            let node = state.swarms.entry(environment.clone()).or_default().get(host).expect("is a node");
            let address = known.machine.expect("has one").address;
            let standing = Standing { node: node.node.clone(), address, cut_off: false };
            vec![state.seen(environment), Fact::NodeStands(environment.clone(), host.clone(), standing)]
        }
        other => act_on_rest(state, other, view, operation),
    }
}

/// Nodes that take no tasks for a while, and their engines.
fn act_on_rest(state: &mut State, effect: &Effect, view: &View, operation: &Operation) -> Vec<Fact> {
    match effect {
        Effect::SuspendNodes { environment, hosts } => {
            let mut facts = vec![];
            for (host, _) in hosts {
                let before = state.availability(environment, host, |_| Availability::Drain);
                let before = before.filter(|before| *before != Availability::Drain);
                facts.push(Fact::NodeSuspended(environment.clone(), host.clone(), before));
            }
            [vec![state.seen(environment)], facts].concat()
        }
        Effect::WakeNodes { environment, hosts: woken } => {
            let known = hosts(view);
            let mut facts = vec![];
            for (host, _) in woken {
                let kept =
                    known.iter().find(|known| known.id == *host).and_then(|known| known.placement.kept);
                state.availability(environment, host, |now| match now {
                    Availability::Drain => kept.unwrap_or(now),
                    _ => now,
                });
                facts.push(Fact::NodeWoken(environment.clone(), host.clone()));
            }
            [vec![state.seen(environment)], facts].concat()
        }
        Effect::ChangeEngine { environment, host, version, .. } => {
            if state.engines.insert(host.clone(), version.clone()).as_ref() != Some(version) {
                *state.made.entry(format!("engine {version} of {host}")).or_default() += 1;
            }
            vec![Fact::EngineChangeBegun(environment.clone(), host.clone(), operation.id.clone())]
        }
        Effect::ObserveEngine { environment, host, version, .. } => {
            assert_eq!(state.engines.get(host), Some(version), "nobody has begun to change it");
            vec![Fact::EngineChanged(environment.clone(), host.clone(), version.clone())]
        }
        Effect::VerifyEngine { environment, host, version, .. } => {
            let verified = Fact::EngineVerified(environment.clone(), host.clone(), version.clone());
            vec![state.seen(environment), verified]
        }
        Effect::ObserveTasks { environment, .. } => vec![Fact::TasksSeen(environment.clone(), 0)],
        other => act_on_stack(state, other, view, operation),
    }
}

fn act_on_keys(state: &mut State, effect: &Effect, view: &View, operation: &Operation) -> Option<Vec<Fact>> {
    let sealed = |number: u64| Sealed::new(vec![number as u8]);
    Some(match effect {
        Effect::ApplySwarmSettings { environment, generation } => {
            let number = state.key(environment, SwarmKey::UnlockKey);
            vec![Fact::SwarmSettingsApplied(environment.clone(), *generation, Some(sealed(number)))]
        }
        Effect::NoteKey { environment, key } => {
            let fingerprint = state.key(environment, *key).to_string();
            let noted = Noted { by: operation.id.clone(), fingerprint };
            vec![Fact::KeyNoted(environment.clone(), *key, noted)]
        }
        Effect::RotateKey { environment, key } => {
            let found = view.get::<Environment>(CLUSTER, environment.as_str()).expect("reads");
            let keys = found.expect("is there").record.keys;
            let rotation = keys.rotation(*key);
            let noted = rotation.noted_by(&operation.id).map(str::to_owned);
            if !rotation.is_done_by(operation) && Some(state.key(environment, *key).to_string()) == noted {
                *state.keys.entry((environment.clone(), key.to_string())).or_default() += 1;
                *state.made.entry(format!("{key} for {}", operation.id)).or_default() += 1;
            }
            let unlock_key =
                (*key == SwarmKey::UnlockKey).then(|| sealed(state.key(environment, SwarmKey::UnlockKey)));
            vec![Fact::KeyRotated(environment.clone(), *key, operation.id.clone(), unlock_key)]
        }
        Effect::ObserveCertificates { environment, .. } => {
            let seen = Certificates { renewed: 3, missing: vec![] };
            vec![Fact::CertificatesSeen(environment.clone(), operation.id.clone(), seen)]
        }
        Effect::UnlockEngines { environment, hosts } => {
            hosts.iter().map(|(host, _)| Fact::EngineUnlocked(environment.clone(), host.clone())).collect()
        }
        _ => return None,
    })
}

fn act_on_stack(state: &mut State, effect: &Effect, view: &View, operation: &Operation) -> Vec<Fact> {
    match effect {
        Effect::EnsureVolumes { environment, stack, generation } => {
            vec![Fact::StackVolumesChecked(environment.clone(), stack.clone(), *generation)]
        }
        Effect::EnsureNetworks { environment, stack, generation } => {
            state.ensure(format!("{stack}/network"), *generation);
            vec![Fact::StackNetworksMade(environment.clone(), stack.clone(), *generation)]
        }
        Effect::EnsureServices { environment, stack, generation } => {
            for service in &stack_of(view, environment, stack.as_str()).recipe.services {
                state.ensure(format!("{stack}/{}", service.name), *generation);
            }
            let made =
                Fact::StackServicesMade(environment.clone(), stack.clone(), *generation, BTreeMap::new());
            vec![made, logins_given(view, environment, stack)]
        }
        Effect::GiveLogins { environment, stack } => {
            vec![logins_given(view, environment, stack)]
        }
        Effect::ObserveStack { environment, stack, generation, .. } => {
            let recipe = stack_of(view, environment, stack.as_str()).recipe;
            let running = |name: &str| ServiceSeen {
                name: name.into(),
                running: 3,
                desired: 3,
                updating: false,
                error: String::new(),
                failed: String::new(),
            };
            let seen = recipe.services.iter().map(|service| running(&service.name)).collect();
            vec![Fact::StackSeen(environment.clone(), stack.clone(), *generation, seen)]
        }
        Effect::ObserveShares { environment, .. } => {
            let place =
                view.get::<Environment>(CLUSTER, environment.as_str()).expect("reads").expect("is there");
            let moved = place.balance_of(&operation.id).is_none_or(|balance| !balance.moved.is_empty());
            let seen = if moved { Seen::Ends(End::Even) } else { Seen::Move("shop_web".into()) };
            vec![Fact::SharesSeen(environment.clone(), operation.id.clone(), seen)]
        }
        Effect::MoveTasks { environment, service } => {
            if state.moved.insert((service.clone(), operation.id.clone())) {
                *state.made.entry(format!("a move of {service}")).or_default() += 1;
            }
            vec![Fact::TasksMoved(environment.clone(), operation.id.clone(), service.clone())]
        }
        Effect::WithdrawStack { environment, stack } => {
            state.in_swarm.retain(|name, _| !name.starts_with(&format!("{stack}/")));
            vec![Fact::StackWithdrawn(environment.clone(), stack.clone())]
        }
        decision => effects::decided(decision, operation),
    }
}

fn logins_given(view: &View, environment: &EnvironmentId, name: &Name) -> Fact {
    let logins = view.list::<RegistryLogin>(environment.as_str()).expect("reads");
    let stack = stack_of(view, environment, name.as_str());
    Fact::StackLoginsGiven(environment.clone(), name.clone(), registry::logins_of(&stack, &logins))
}
