//! Which address counts, when a node has to leave because of it, and what it brings back.

use super::*;
use crate::fact::{self, Fact};
use crate::health::{self, Finding};
use crate::host;
use crate::host::{Inventory, Membership};
use crate::testing::Swarm;

/// The agent of the host with this number says that its machine has this address.
async fn says(swarm: &Swarm, number: usize, address: &str) {
    let id = swarm.hosts[number - 1].as_str();
    let inventory = Inventory { address: address.into(), ..Inventory::default() };
    swarm.change(|tx| host::reported(tx, id, "m1", "s", Some(inventory.clone()), Ok(()))).await;
}

async fn stands(swarm: &Swarm, number: usize, address: &str, cut_off: bool) {
    let standing = Standing { node: format!("node-{number}"), address: address.into(), cut_off };
    let finding = Finding::Node(swarm.hosts[number - 1].clone(), standing);
    let looked = skep_ledger::Ledger::view(&*swarm.ledger).revision();
    swarm.change(|tx| health::record(tx, &swarm.environment, looked, std::slice::from_ref(&finding))).await;
}

fn address(swarm: &Swarm, number: usize) -> String {
    swarm.host(number).machine.expect("has one").address
}

#[tokio::test]
async fn a_drivers_word_counts_unless_the_agent_has_agreed_with_it_before() {
    let swarm = Swarm::of(1, 1).await;
    says(&swarm, 2, "192.168.7.2").await;
    assert_eq!(address(&swarm, 2), "10.90.0.2", "another side of the same machine");
    says(&swarm, 2, "192.168.7.3").await;
    assert_eq!(address(&swarm, 2), "10.90.0.2");
    says(&swarm, 2, "10.90.0.2").await;
    says(&swarm, 2, "10.90.0.77").await;
    assert_eq!(address(&swarm, 2), "10.90.0.77", "the machine has moved");
    swarm.host_is(1, |host| host.driver = None).await;
    says(&swarm, 1, "10.0.0.99").await;
    assert_eq!(address(&swarm, 1), "10.0.0.99", "only its agent can know");
    says(&swarm, 1, "nonsense").await;
    assert_eq!(address(&swarm, 1), "10.0.0.99");
}

#[tokio::test]
async fn a_node_has_to_leave_when_it_stands_under_another_address_than_its_machine_has() {
    let swarm = Swarm::of(1, 1).await;
    assert_eq!(swarm.host(2).must_rejoin(), None, "nobody knows how it stands");
    assert!(swarm.host(2).stands_unknown());
    stands(&swarm, 2, "10.90.0.2", false).await;
    assert_eq!((swarm.host(2).must_rejoin(), swarm.host(2).stands_unknown()), (None, false));
    swarm.host_is(2, |host| host.machine.as_mut().expect("has one").address = "10.90.0.77".into()).await;
    let why = swarm.host(2).must_rejoin().expect("has to");
    assert_eq!(why, "its address has changed from 10.90.0.2 to 10.90.0.77");
    assert!(swarm.host(2).state().why.starts_with(&why), "{}", swarm.host(2).state().why);
    swarm.host_is(2, |host| host.membership.as_mut().expect("a node").node = "another".into()).await;
    assert_eq!(swarm.host(2).must_rejoin(), None, "what was said of another node does not count");
}

#[tokio::test]
async fn a_node_that_looks_for_its_managers_in_vain_has_to_leave_as_long_as_it_is_down() {
    let swarm = Swarm::of(1, 1).await;
    stands(&swarm, 2, "10.90.0.2", true).await;
    assert_eq!(swarm.host(2).must_rejoin(), None, "it has found one");
    swarm.seen(|number, node| node.ready = number != 2).await;
    assert!(swarm.host(2).must_rejoin().is_some());
    let now = skep_ledger::Ledger::now(&*swarm.ledger);
    swarm.host_is(2, |host| host.moved_at = Some(now)).await;
    assert!(!swarm.host(2).rests(now), "it has nothing to lose");
    stands(&swarm, 2, "10.90.0.9", false).await;
    assert!(swarm.host(2).rests(now));
}

#[tokio::test]
async fn a_manager_that_left_to_join_anew_keeps_its_place_and_brings_back_what_the_swarm_knew() {
    let swarm = Swarm::of(3, 0).await;
    let known = Known {
        node: "node-2".into(),
        role: Role::Manager,
        availability: Availability::Pause,
        labels: [("disk".to_owned(), "ssd".to_owned())].into(),
    };
    let (place, id) = (swarm.environment.clone(), swarm.hosts[1].clone());
    let facts = [
        Fact::NodeRemembered(place.clone(), id.clone(), known.clone()),
        Fact::LeftSwarm(place.clone(), id.clone()),
    ];
    swarm.change(|tx| facts.iter().try_for_each(|fact| fact::record(tx, fact))).await;
    let left = swarm.host(2);
    assert!(left.has_seat() && left.moved_at.is_some() && !left.outstanding());
    swarm.engine_down(2).await;
    assert!(!swarm.host(2).has_seat(), "nobody knows when it will be back");
    swarm
        .host_is(2, |host| {
            let node = Membership {
                node: "node-9".into(),
                role: Role::Worker,
                leader: false,
                ready: true,
                availability: Availability::Active,
                reachable: true,
            };
            host.membership = Some(node);
        })
        .await;
    assert_eq!(swarm.host(2).brings_back(), Some(&known));
    assert!(swarm.host(2).outstanding());
    let updated = Fact::NodeUpdated(place, id, 0, vec![]);
    swarm.change(|tx| fact::record(tx, &updated)).await;
    assert!(!swarm.host(2).outstanding() && swarm.host(2).remembered.is_none());
}

#[tokio::test]
async fn two_hosts_that_are_there_cannot_have_one_address() {
    let swarm = Swarm::of(1, 2).await;
    swarm.host_is(2, |host| host.machine.as_mut().expect("has one").address = "10.90.0.3".into()).await;
    let hosts: Vec<Host> = (1..=3).map(|number| swarm.host(number)).collect();
    assert_eq!(hosts[1].shares_address_with(&hosts).map(|other| other.name.as_str()), Some("prod-3"));
    assert_eq!(hosts[0].shares_address_with(&hosts), None);
    swarm.silent(3).await;
    let hosts: Vec<Host> = (1..=3).map(|number| swarm.host(number)).collect();
    assert_eq!(hosts[1].shares_address_with(&hosts), None, "who is away has no address");
}

#[tokio::test]
async fn a_host_that_has_left_and_joins_anew_is_asked_again_before_it_goes() {
    let swarm = Swarm::of(2, 0).await;
    swarm.host_is(2, |host| (host.membership, host.parted) = (None, true)).await;
    assert!(!swarm.host(2).may_have_joined());
    swarm.change(|tx| joins(tx, &swarm.environment, &swarm.hosts[1])).await;
    assert!(swarm.host(2).may_have_joined(), "its removal must not take it for one that is out");
}
