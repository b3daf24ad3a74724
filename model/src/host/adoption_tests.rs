//! Which swarms are taken over, and which are left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use skep_ledger::{Ledger, MemoryLedger, Request, TransactError, transact};
use uuid::Uuid;

use super::*;
use crate::environment::{self, EnvironmentWish};
use crate::fact::{self, Fact};
use crate::host::registration::{self, Offer, TokenWish};
use crate::host::{self, Membership, Role};
use crate::ids::{EnvironmentId, OperationId};
use crate::placement::Availability;

/// An environment without hosts, and a token for many.
async fn environment() -> Arc<MemoryLedger> {
    let ledger = MemoryLedger::new();
    let wish = EnvironmentWish {
        id: EnvironmentId::new(Uuid::from_u128(1)),
        operation: OperationId::new(Uuid::from_u128(2)),
        name: "old".into(),
        template: "default".into(),
        hosts: vec![],
        driver: "local".into(),
        options: BTreeMap::new(),
        change: Default::default(),
    };
    let token = TokenWish {
        id: "t1".into(),
        role: WishedRole::Auto,
        labels: BTreeMap::new(),
        life: SignedDuration::from_hours(1),
        uses: 9,
    };
    let made = transact(&*ledger, Request::new(), |tx| -> Ruling<()> {
        environment::wish(tx, &wish)?;
        let environment = environment::usable(tx, "old")?;
        registration::create_token(tx, &environment, &token).map(drop)
    });
    made.await.expect("commits");
    ledger
}

/// The machine with this number offers itself.
async fn offered(
    ledger: &MemoryLedger,
    number: u8,
    node: Option<Node>,
    adopt: bool,
) -> Result<Host, Refusal> {
    let (name, address) = (format!("m-{number}"), format!("10.90.0.{number}"));
    let offer = Offer {
        token: "t1",
        key_hash: &[number],
        name: &name,
        address: &address,
        node,
        adopt,
        host: HostId::new(Uuid::from_u128(10 + u128::from(number))),
        operation: OperationId::new(Uuid::now_v7()),
    };
    match transact(ledger, Request::new(), |tx| registration::enrol(tx, &offer)).await {
        Ok(_) => Ok(host::find(&ledger.view(), &place(ledger), &name).expect("is there").record),
        Err(TransactError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

fn place(ledger: &MemoryLedger) -> Environment {
    environment::find(&ledger.view(), "old").expect("is there").record
}

fn manager(id: &str, swarm: &str) -> Option<Node> {
    let managers = vec!["n1".to_owned(), "n2".to_owned()];
    Some(Node { id: id.into(), manager: true, swarm: swarm.into(), managers })
}

fn worker(id: &str, managers: &[&str]) -> Option<Node> {
    let managers = managers.iter().map(|id| (*id).to_owned()).collect();
    Some(Node { id: id.into(), manager: false, swarm: String::new(), managers })
}

/// The swarm lists the first machine as a drained manager.
async fn first_is_seen(ledger: &MemoryLedger) {
    let place = place(ledger);
    let id = HostId::new(Uuid::from_u128(11));
    let node = Membership {
        node: "n1".into(),
        role: Role::Manager,
        leader: true,
        ready: true,
        availability: Availability::Drain,
        reachable: true,
    };
    let seen = Fact::SwarmSeen(place.id, "s1".into(), vec![(id, node)]);
    transact(ledger, Request::new(), |tx| fact::record(tx, &seen)).await.expect("commits");
}

#[tokio::test]
async fn a_manager_brings_its_swarm_along_and_other_nodes_of_it_follow_as_they_are() {
    let ledger = environment().await;
    let first = offered(&ledger, 1, manager("n1", "s1"), true).await.expect("is taken");
    assert_eq!((first.role, first.adopted.as_deref()), (WishedRole::Manager, Some("n1")));
    let taken = place(&ledger);
    assert_eq!(
        (taken.adopted.as_deref(), taken.seed.as_ref(), taken.swarm_managers),
        (Some("s1"), Some(&first.id), 1)
    );
    let early = offered(&ledger, 4, worker("n4", &["n1"]), true).await.expect("before anything was seen");
    assert_eq!(early.role, WishedRole::Worker);

    first_is_seen(&ledger).await;
    let drained = host::find(&ledger.view(), &place(&ledger), "m-1").expect("is there");
    assert_eq!(drained.placement.availability, Availability::Drain, "somebody has wished it before");
    assert!(!drained.placement.outstanding());

    offered(&ledger, 2, manager("n2", "s1"), true).await.expect("is one of it");
    assert_eq!(place(&ledger).swarm_managers, 2);
    let third = offered(&ledger, 3, worker("n3", &["n1", "n2"]), true).await.expect("is one of it");
    assert_eq!((third.role, place(&ledger).swarm_managers), (WishedRole::Worker, 2));
    offered(&ledger, 5, None, false).await.expect("a machine without a swarm joins it like any other");
}

#[tokio::test]
async fn a_swarm_is_not_taken_over_unasked_nor_into_another() {
    let ledger = environment().await;
    let refused = |result: Result<Host, Refusal>| result.expect_err("is refused").code();
    assert_eq!(refused(offered(&ledger, 1, manager("n1", "s1"), false).await), "SKP-1325");
    assert_eq!(refused(offered(&ledger, 1, None, true).await), "SKP-1326");
    assert_eq!(refused(offered(&ledger, 1, worker("n3", &["n1"]), true).await), "SKP-1326");
    assert_eq!(place(&ledger).adopted, None);
    offered(&ledger, 1, manager("n1", "s1"), true).await.expect("is taken");
    assert_eq!(refused(offered(&ledger, 2, manager("x", "s2"), true).await), "SKP-1327");
    first_is_seen(&ledger).await;
    assert_eq!(refused(offered(&ledger, 2, manager("x", "s2"), true).await), "SKP-1327");
    assert_eq!(refused(offered(&ledger, 2, worker("x", &["y"]), false).await), "SKP-1325");
    offered(&ledger, 2, worker("n2", &["n1"]), false)
        .await
        .expect("is of our swarm and does not know that it was taken out");
}

#[tokio::test]
async fn a_swarm_that_is_just_being_begun_stays_alone() {
    let ledger = environment().await;
    let first = offered(&ledger, 1, None, false).await.expect("a machine without a swarm");
    let begun = place(&ledger);
    let planted = transact(&*ledger, Request::new(), |tx| environment::plant(tx, &begun.id, &first.id));
    planted.await.expect("commits");
    let refused = offered(&ledger, 2, manager("n1", "s1"), true).await.expect_err("is refused");
    assert_eq!(refused.code(), "SKP-1327");
}
