//! What engines say of their own part in a swarm.
//!
//! The list of nodes is what one manager believes: it shows a node as ready before its engine has become it, and for a while
//! after its engine has left. So an engine is asked itself before a node counts that did not count before.

use std::collections::BTreeMap;
use std::future::ready;
use std::time::Duration;

use bollard::models::{LocalNodeState, Node};
use futures::stream::{StreamExt as _, iter};
use skep_model::host::{Host, Membership, Role};
use skep_model::ids::HostId;
use tokio::time::timeout;

use super::Site;
use super::reached::Reached;
use super::swarm::members;
use crate::world::EffectError;

/// An engine says what it thinks of its own swarm without asking anybody.
pub(super) const LOCAL_MAX: Duration = Duration::from_secs(5);

/// Engines that are asked about their own swarm at the same time.
pub(super) const ASKED_AT_ONCE_MAX: usize = 8;

/// Engines that are asked about their own swarm for one list; for the others the list is believed.
const ASKED_MAX: usize = 32;

/// What an engine believes of itself.
pub(super) struct Local {
    pub(super) state: LocalNodeState,
    /// Its node's id, empty without one.
    pub(super) node: String,
    /// The address that its node gives to the others, empty without one.
    pub(super) address: String,
    /// Only managers know it.
    pub(super) swarm: Option<String>,
    /// The nodes of the managers that it knows.
    pub(super) managers: Vec<String>,
    /// Where it looks for them: addresses with port.
    pub(super) managers_at: Vec<String>,
}

pub(super) async fn local_state(docker: &Reached) -> Result<Local, EffectError> {
    let info = docker.info().await.map_err(docker.failed("asking the engine about its swarm"))?;
    let swarm = info.swarm.unwrap_or_default();
    let managers = swarm.remote_managers.unwrap_or_default();
    Ok(Local {
        state: swarm.local_node_state.unwrap_or(LocalNodeState::INACTIVE),
        node: swarm.node_id.unwrap_or_default(),
        address: swarm.node_addr.unwrap_or_default(),
        swarm: swarm.cluster.and_then(|cluster| cluster.id).filter(|id| !id.is_empty()),
        managers: managers.iter().filter_map(|manager| manager.node_id.clone()).collect(),
        managers_at: managers.into_iter().filter_map(|manager| manager.addr).collect(),
    })
}

/// The nodes that are hosts of ours, as they are listed and as their engines know of it.
pub(super) async fn members_confirmed(site: &Site, nodes: &[Node]) -> Vec<(HostId, Membership)> {
    members_confirmed_but(site, nodes, |_| false).await
}

/// As [`members_confirmed`], without asking engines that have said it just now.
pub(super) async fn members_confirmed_but(
    site: &Site,
    nodes: &[Node],
    has_said_it: impl Fn(&Host) -> bool,
) -> Vec<(HostId, Membership)> {
    let mut members = members(&site.hosts, nodes);
    let own_words = own_words(site, &members, |host, node| is_news(host, node) && !has_said_it(host)).await;
    correct(&mut members, &own_words);
    members
}

/// What those engines say themselves that answer.
pub(super) async fn own_words(
    site: &Site,
    members: &[(HostId, Membership)],
    in_question: impl Fn(&Host, &Membership) -> bool,
) -> Vec<(HostId, Local)> {
    let members: BTreeMap<_, _> = members.iter().map(|(id, node)| (id, node)).collect();
    let listed = |host: &&Host| members.get(&host.id).is_some_and(|node| in_question(host, node));
    let asked = site.hosts.iter().filter(|host| host.is_ready()).filter(listed).take(ASKED_MAX);
    let asked: Vec<_> = asked
        .map(|host| {
            let docker = site.docker(host);
            async move {
                let local = timeout(LOCAL_MAX, local_state(&docker)).await.ok()?.ok()?;
                Some((host.id.clone(), local))
            }
        })
        .collect();
    iter(asked).buffer_unordered(ASKED_AT_ONCE_MAX).filter_map(ready).collect().await
}

/// Does the list say that the host does its part, as this node and in this role, for the first time?
pub(super) fn is_news(host: &Host, node: &Membership) -> bool {
    let known = host.membership.as_ref().filter(|known| known.ready);
    node.ready && known.is_none_or(|known| known.node != node.node || known.role != node.role)
}

/// Nodes do not count whose engines say that they do not do their part yet.
pub(super) fn correct(members: &mut [(HostId, Membership)], own_words: &[(HostId, Local)]) {
    for (id, local) in own_words {
        for (_, node) in members.iter_mut().filter(|(member, _)| member == id) {
            node.ready &= takes_part(local, node);
        }
    }
}

fn takes_part(local: &Local, node: &Membership) -> bool {
    let manages = node.role == Role::Worker || local.swarm.is_some();
    local.state == LocalNodeState::ACTIVE && local.node == node.node && manages
}

/// Hosts that the swarm lists as down and whose engines say themselves that they are in no swarm, or in another: somebody
/// has taken them out on the host. They are no members; they can be taken in again. So are those whose engines have tried
/// `for_long` to be their nodes.
pub(super) fn is_astray(
    host: &HostId,
    node: &Membership,
    own_words: &[(HostId, Local)],
    for_long: bool,
) -> bool {
    let local = own_words.iter().find(|(id, _)| id == host).map(|(_, local)| local);
    let elsewhere = |local: &Local| match local.state {
        // It does not know before it is unlocked.
        LocalNodeState::LOCKED => false,
        LocalNodeState::INACTIVE => true,
        // It does not know which node it is between two tries.
        _ if local.node.is_empty() => for_long,
        _ => local.node != node.node,
    };
    !node.ready && local.is_some_and(elsewhere)
}

#[cfg(test)]
mod tests {
    use skep_model::placement::Availability;
    use skep_model::testing::Swarm;
    use uuid::Uuid;

    use super::*;

    fn node(role: Role, ready: bool) -> Membership {
        Membership {
            node: "node-1".into(),
            role,
            leader: false,
            ready,
            availability: Availability::Active,
            reachable: true,
        }
    }

    fn local(state: LocalNodeState, own: &str, manages: bool) -> Local {
        Local {
            state,
            node: own.into(),
            address: String::new(),
            swarm: manages.then(|| "swarm-1".into()),
            managers: vec![],
            managers_at: vec![],
        }
    }

    #[test]
    fn an_engine_that_tries_again_by_itself_has_time_for_that_and_one_that_has_left_is_no_member_at_once() {
        let host = HostId::new(Uuid::nil());
        let node = node(Role::Manager, false);
        let astray = |state, own: &str, for_long| {
            is_astray(&host, &node, &[(host.clone(), local(state, own, false))], for_long)
        };
        for between_two_tries in [LocalNodeState::ERROR, LocalNodeState::PENDING] {
            assert!(!astray(between_two_tries, "", false), "{between_two_tries:?}");
            assert!(astray(between_two_tries, "", true), "{between_two_tries:?}");
        }
        assert!(astray(LocalNodeState::INACTIVE, "", false));
        assert!(astray(LocalNodeState::ACTIVE, "node-2", false), "it is another node");
        assert!(!astray(LocalNodeState::ACTIVE, "node-1", true));
        assert!(!astray(LocalNodeState::LOCKED, "", true), "it does not know before it is unlocked");
    }

    /// Docker lists a manager that joins as reachable some tenths of a second before its engine serves the swarm's API.
    #[test]
    fn a_node_counts_when_its_engine_has_become_it() {
        let host = HostId::new(Uuid::nil());
        let counts = |role, said: Local| {
            let mut members = [(host.clone(), node(role, true))];
            correct(&mut members, &[(host.clone(), said)]);
            members[0].1.ready
        };
        assert!(!counts(Role::Manager, local(LocalNodeState::PENDING, "", false)));
        assert!(
            !counts(Role::Manager, local(LocalNodeState::ACTIVE, "node-1", false)),
            "it does not manage yet"
        );
        assert!(counts(Role::Manager, local(LocalNodeState::ACTIVE, "node-1", true)));
        assert!(counts(Role::Worker, local(LocalNodeState::ACTIVE, "node-1", false)));
        assert!(!counts(Role::Worker, local(LocalNodeState::ACTIVE, "node-0", false)), "it is another node");
        let mut silent = [(host.clone(), node(Role::Manager, true))];
        correct(&mut silent, &[]);
        assert!(silent[0].1.ready, "nobody says otherwise");
    }

    #[tokio::test]
    async fn engines_are_asked_when_their_nodes_begin_to_count_and_not_while_nothing_changes() {
        let swarm = Swarm::of(1, 0).await;
        let mut host = swarm.host(1);
        let known = host.membership.clone().expect("is in the swarm");
        assert!(known.ready && !is_news(&host, &known));
        assert!(is_news(&host, &Membership { node: "another".into(), ..known.clone() }));
        let other_role = if known.role == Role::Manager { Role::Worker } else { Role::Manager };
        assert!(is_news(&host, &Membership { role: other_role, ..known.clone() }));
        assert!(!is_news(&host, &Membership { ready: false, ..known.clone() }), "the list says enough");
        host.membership = Some(Membership { ready: false, ..known.clone() });
        assert!(is_news(&host, &known));
        host.membership = None;
        assert!(is_news(&host, &known));
    }
}
