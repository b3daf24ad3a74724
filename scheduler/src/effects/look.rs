//! Looking at an environment from outside of any operation: its swarm, all its stacks, its silent machines.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{LocalNodeState, Node, Service, Task};
use bollard::query_parameters::{EventsOptions, ListServicesOptions, ListTasksOptions};
use futures::StreamExt as _;
use futures::stream::{FuturesUnordered, iter};
use jiff::{SignedDuration, Timestamp};
use skep_drivers::MachineState;
use skep_hub::RollCall;
use skep_ledger::{Term, View};
use skep_model::health::Finding;
use skep_model::host::{Host, Loss, Membership};
use skep_model::ids::{EnvironmentId, HostId};
use skep_model::stack::Stack;
use tokio::time::timeout;

use super::own_words::{
    ASKED_AT_ONCE_MAX, LOCAL_MAX, Local, correct, is_astray, is_news, local_state, own_words,
};
use super::reached::{Reached, has_no_leader};
use super::spec::OWNER_LABEL;
use super::{RealWorld, Site, rejoin, seen, swarm};
use crate::health::{Look, Lookout};
use crate::world::EffectError;

/// Asking one manager of a swarm for everything. Longer than the 20 s after which Docker itself gives a request to a
/// swarm without a leader up, so that its reason arrives.
const ASK_MAX: Duration = Duration::from_secs(25);

/// Swarm managers that are asked; the first that can list is believed.
const MANAGERS_ASKED_MAX: usize = 3;

/// One that does not answer for so long is not waited for: the next is asked as well.
const NEXT_ASKED_AFTER: Duration = Duration::from_secs(2);

/// A driver that does not know by then what has become of a machine is asked with the next look.
const DRIVER_MAX: Duration = Duration::from_secs(10);

/// An engine that could not become its node tries again by itself: after 0.2 s, 0.4 s and so on. One that was made a manager
/// may first turn to one that goes just now, and find another.
const TRIES_BY_ITSELF_MAX: SignedDuration = SignedDuration::from_secs(5);

/// Silent machines that a driver is asked about at the same time.
const MACHINES_AT_ONCE_MAX: usize = 4;

/// What one manager of a swarm lists.
struct Listed {
    swarm: String,
    nodes: Vec<Node>,
    services: Vec<Service>,
    tasks: Vec<Task>,
}

#[async_trait]
impl Lookout for RealWorld {
    async fn roll_call(&self) -> RollCall {
        self.hub.roll_call().await
    }

    async fn look(&self, view: &View, environment: &EnvironmentId, term: Term) -> Look {
        let Ok(site) = Site::of(view, environment, self.hub.clone(), term) else {
            return Look::default();
        };
        let (asked, machines) = tokio::join!(ask(&site), self.silent_machines(&site));
        let mut look = Look { findings: machines, leaderless: false };
        look.findings.extend(locked(&site, asked.is_ok()).await.map(Finding::Locked));
        match asked {
            Ok(listed) => {
                let own_words = asked_themselves(&site, &listed).await;
                look.findings.extend(found(&site, view, &listed, &own_words));
            }
            Err(leaderless) => look.leaderless = leaderless,
        }
        look
    }

    async fn stirred(&self, view: &View, environment: &EnvironmentId, term: Term) {
        let site = Site::of(view, environment, self.hub.clone(), term);
        if let Ok(manager) = site.and_then(|site| site.manager(None)) {
            let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let filters = HashMap::from([
                ("scope".to_owned(), words(&["swarm"])),
                ("type".to_owned(), words(&["node", "service"])),
            ]);
            let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
            if let Some(Ok(_)) = manager.events(Some(options)).boxed().next().await {
                return;
            }
        }
        // A stream that cannot be had, or has broken, is no event; the next look opens another.
        std::future::pending().await
    }
}

impl RealWorld {
    async fn silent_machines(&self, site: &Site) -> Vec<Finding> {
        let mut asked = vec![];
        for host in site.hosts.iter().filter(|host| host.is_silent()) {
            asked.push(async move { (host, timeout(DRIVER_MAX, self.machine_state(host)).await) });
        }
        let asked: Vec<_> = iter(asked).buffer_unordered(MACHINES_AT_ONCE_MAX).collect().await;
        let finding = |(host, state): (&Host, _)| match state {
            Ok(Some(state)) => Some(Finding::Machine(host.id.clone(), loss(state))),
            Ok(None) | Err(_) => None,
        };
        asked.into_iter().filter_map(finding).collect()
    }

    /// What the driver says; nothing, if it cannot say or there is none.
    async fn machine_state(&self, host: &Host) -> Option<MachineState> {
        let driver = self.driver(host.driver.as_deref()?).ok()?;
        match driver.state(&self.key(&host.id)).await {
            Ok(state) => Some(state),
            Err(error) => {
                tracing::info!(host.id = %host.id, %error, "the driver does not say what has become of a machine");
                None
            }
        }
    }
}

fn loss(state: MachineState) -> Option<Loss> {
    match state {
        MachineState::Gone => Some(Loss::Gone),
        MachineState::Stopped => Some(Loss::Stopped),
        MachineState::Running | MachineState::Unknown => None,
    }
}

/// Everything that one manager of the swarm lists; otherwise whether the swarm has no leader.
async fn ask(site: &Site) -> Result<Listed, bool> {
    let mut leaderless = false;
    let managers = site.managers(None).into_iter().take(MANAGERS_ASKED_MAX).zip(0..);
    let asked = managers.map(async |(host, number)| {
        tokio::time::sleep(NEXT_ASKED_AFTER * number).await;
        (host, timeout(ASK_MAX, list(&site.docker(host))).await)
    });
    let mut asked: FuturesUnordered<_> = asked.collect();
    while let Some((host, answer)) = asked.next().await {
        match answer {
            Ok(Ok(listed)) => return Ok(listed),
            Ok(Err(error)) => {
                leaderless |= has_no_leader(&error.message);
                tracing::debug!(host.id = %host.id, %error, "a manager of a swarm could not be asked");
            }
            Err(_) => tracing::debug!(host.id = %host.id, "a manager of a swarm did not answer in time"),
        }
    }
    Err(leaderless)
}

async fn list(manager: &Reached) -> Result<Listed, EffectError> {
    let (swarm, nodes) = swarm::listed(manager).await?;
    let ours = || Some(HashMap::from([("label".to_owned(), vec![OWNER_LABEL.to_owned()])]));
    let options = ListServicesOptions { filters: ours(), status: None };
    let services = manager.list_services(Some(options)).await.map_err(manager.failed("listing services"))?;
    let options = ListTasksOptions { filters: ours() };
    let tasks = manager.list_tasks(Some(options)).await.map_err(manager.failed("listing tasks"))?;
    Ok(Listed { swarm, nodes, services, tasks })
}

/// What engines say themselves, where the list is news, where it is not known how their nodes stand, or where that may have
/// changed.
async fn asked_themselves(site: &Site, listed: &Listed) -> Vec<(HostId, Local)> {
    let members = swarm::members(&site.hosts, &listed.nodes);
    let in_question = |host: &Host, node: &Membership| {
        is_news(host, node) || (host.was_ready && (!node.ready || host.stands_unknown()))
    };
    own_words(site, &members, in_question).await
}

/// Managers whose engines wait for the unlock key. Every one is asked if the swarm is known to be locked or nobody has
/// answered for it, otherwise those that it lists as down.
async fn locked(site: &Site, listed: bool) -> Option<Vec<HostId>> {
    let suspected = !listed || site.environment.keys.unlock_keys().next().is_some();
    let in_question = |host: &&Host| {
        let down = host.swarm_locked || host.membership.as_ref().is_some_and(|node| !node.ready);
        host.is_swarm_manager() && host.answers() && (suspected || down)
    };
    let mut asked = vec![];
    for host in site.hosts.iter().filter(in_question) {
        let docker = site.docker(host);
        asked.push(async move {
            let local = timeout(LOCAL_MAX, local_state(&docker)).await;
            matches!(local, Ok(Ok(local)) if local.state == LocalNodeState::LOCKED).then(|| host.id.clone())
        });
    }
    if asked.is_empty() {
        return None;
    }
    Some(iter(asked).buffer_unordered(ASKED_AT_ONCE_MAX).filter_map(std::future::ready).collect().await)
}

/// How the nodes stand whose engines were asked.
fn standings(
    members: &[(HostId, Membership)],
    managers: &BTreeSet<String>,
    own_words: &[(HostId, Local)],
) -> Vec<Finding> {
    let stands = |(id, node): &(HostId, Membership)| {
        let (_, local) = own_words.iter().find(|(host, local)| host == id && local.node == node.node)?;
        let standing = rejoin::standing(local, managers, node.ready);
        (!standing.address.is_empty()).then(|| Finding::Node(id.clone(), standing))
    };
    members.iter().filter_map(stands).collect()
}

fn found(site: &Site, view: &View, listed: &Listed, own_words: &[(HostId, Local)]) -> Vec<Finding> {
    let Listed { swarm, nodes, services, tasks } = listed;
    if site.environment.swarm.as_ref().is_none_or(|known| known.id != *swarm) {
        tracing::warn!(environment.id = %site.environment.id, "a host is a manager of another swarm");
        return vec![];
    }
    let mut members = swarm::members(&site.hosts, nodes);
    let now = Timestamp::now();
    let for_long = |host: &&Host| host.node_since.is_some_and(|since| since + TRIES_BY_ITSELF_MAX <= now);
    let waited: BTreeSet<_> = site.hosts.iter().filter(for_long).map(|host| &host.id).collect();
    members.retain(|(host, node)| !is_astray(host, node, own_words, waited.contains(host)));
    correct(&mut members, own_words);
    let managers = rejoin::manager_addresses(&site.hosts, nodes);
    let standings = standings(&members, &managers, own_words);
    let mut findings = vec![Finding::Swarm(swarm.clone(), members)];
    findings.extend(standings);
    // What cannot be read here cannot be read by the engine either, which says so.
    let stacks = view.list::<Stack>(site.environment.id.as_str()).unwrap_or_default();
    for stack in stacks.iter().filter(|stack| stack.services_made == stack.generation) {
        let seen = seen::of_stack(stack, services, tasks, nodes);
        findings.push(Finding::Stack(stack.name.clone(), stack.generation, seen));
    }
    findings
}
