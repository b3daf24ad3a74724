//! What the nodes that a swarm lists mean for our hosts.

use serde_json::json;
use skep_ledger::Ledger as _;
use skep_model::testing::Swarm;

use super::*;

/// The first host of an environment: its machine is at 10.90.0.1.
async fn host() -> Host {
    let swarm = Swarm::of(1, 0).await;
    let hosts = swarm.ledger.view().list::<Host>(swarm.environment.as_str()).expect("reads");
    hosts[0].record.clone()
}

fn nodes(rows: &[(&str, &str, &str, &str)]) -> Vec<Node> {
    let node = |(id, role, state, address): &(&str, &str, &str, &str)| {
        let manages = *role == "manager";
        json!({
            "ID": id,
            "Spec": {"Role": role, "Availability": "active"},
            "Status": {"State": state, "Addr": address},
            "ManagerStatus": manages.then(|| json!({"Reachability": "unreachable", "Addr": format!("{address}:2377")})),
        })
    };
    serde_json::from_value(rows.iter().map(node).collect()).expect("nodes as an engine tells them")
}

fn local(state: LocalNodeState, node: &str) -> Local {
    Local {
        state,
        node: node.into(),
        address: String::new(),
        swarm: None,
        managers: vec![],
        managers_at: vec![],
    }
}

/// A manager that left and joins anew would count for ever in the quorum as the node that it was before.
#[tokio::test]
async fn a_host_that_joins_anew_leaves_no_ghost_of_a_manager_behind() {
    let listed = nodes(&[
        ("old", "manager", "down", "10.90.0.1"),
        ("older", "worker", "down", "10.90.0.1"),
        ("up", "manager", "ready", "10.90.0.1"),
        ("other", "manager", "down", "10.90.0.2"),
    ]);
    let host = host().await;
    assert_eq!(ghosts(&host, &[], &local(LocalNodeState::INACTIVE, ""), &listed), ["old", "older"]);
    // An engine that is about to be asked to leave is still that node.
    assert_eq!(ghosts(&host, &[], &local(LocalNodeState::ACTIVE, "old"), &listed), ["older"]);
    assert_eq!(ghosts(&host, &[], &local(LocalNodeState::PENDING, "old"), &listed), ["old", "older"]);
}

/// Whatever is not taken out before its engine leaves stays listed beside the node that the host is afterwards.
#[tokio::test]
async fn the_node_of_an_engine_that_has_given_up_is_a_ghost_although_the_swarm_takes_it_for_alive() {
    let listed = nodes(&[("up", "worker", "ready", "10.90.0.1"), ("other", "worker", "ready", "10.90.0.2")]);
    assert_eq!(ghosts(&host().await, &[], &local(LocalNodeState::ERROR, ""), &listed), ["up"]);
}

/// Of two nodes at one address the one that is up is the host.
#[tokio::test]
async fn a_ghost_is_not_taken_for_the_host() {
    let mut host = host().await;
    host.membership = None;
    let listed = nodes(&[("old", "manager", "down", "10.90.0.1"), ("new", "worker", "ready", "10.90.0.1")]);
    let seen = members(std::slice::from_ref(&host), &listed);
    assert_eq!((seen.len(), seen[0].1.node.as_str(), seen[0].1.role), (1, "new", Role::Worker));
}

#[test]
fn an_engine_that_has_given_up_leaves_before_it_joins_whatever_is_still_known_of_it() {
    let node = |state| Local {
        state,
        node: "n1".into(),
        address: String::new(),
        swarm: None,
        managers: vec![],
        managers_at: vec![],
    };
    let (listed, unlisted) = (["n1".to_owned()], ["n2".to_owned()]);
    for (state, was_ours, members, expected) in [
        (LocalNodeState::ACTIVE, true, &listed, Stands::In),
        (LocalNodeState::ACTIVE, false, &unlisted, Stands::Elsewhere),
        (LocalNodeState::ACTIVE, true, &unlisted, Stands::Forgotten),
        (LocalNodeState::ERROR, false, &unlisted, Stands::Forgotten),
        (LocalNodeState::ERROR, true, &listed, Stands::Forgotten),
        (LocalNodeState::PENDING, false, &unlisted, Stands::StillJoining),
        (LocalNodeState::INACTIVE, false, &unlisted, Stands::Outside),
    ] {
        assert_eq!(stands(&node(state), was_ours, members), expected, "{state:?} {was_ours}");
    }
}
