//! What is refused while an environment rests, and what is remembered of its nodes.

use skep_ledger::{Ledger, Request, transact};
use uuid::Uuid;

use super::*;
use crate::fact::{self, Fact};
use crate::host::{self, HostWish};
use crate::ids::{HostId, StackId};
use crate::operation::State;
use crate::placement::{self, Availability, Change};
use crate::stack::{self, StackWish};
use crate::testing::Swarm;

fn op(number: u128) -> OperationId {
    OperationId::new(Uuid::from_u128(number))
}

/// A swarm whose first operation, that has made it, is over.
async fn quiet(managers: usize) -> Swarm {
    let swarm = Swarm::of(managers, 0).await;
    swarm
        .change(|tx| {
            let subject = subject(&usable(tx, "prod")?);
            let made = operation::open_on(tx, &subject, workflow::CREATE_ENVIRONMENT)?;
            let mut made = made.unwrap_or_else(|| panic!("is being made"));
            made.abandon("is over", tx.now());
            operation::save(tx, &made)
        })
        .await;
    swarm
}

async fn refused<A>(swarm: &Swarm, rule: impl Fn(&mut Tx<'_>) -> Ruling<A> + Send + Sync) -> Refusal {
    let ruled = transact(&*swarm.ledger, Request::new(), |tx| rule(tx).map(drop)).await;
    match ruled.expect_err("is refused") {
        skep_ledger::TransactError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn nothing_is_changed_in_an_environment_that_rests_and_the_refusal_says_what_to_do() {
    let swarm = quiet(3).await;
    swarm.change(|tx| pause(tx, "prod", op(1)).map(drop)).await;
    let recipe = StackWish {
        id: StackId::new(Uuid::from_u128(2)),
        operation: op(2),
        name: "shop".into(),
        document: "services:\n  web:\n    image: busybox\n".into(),
        variables: Default::default(),
    };
    let wish = HostWish {
        id: HostId::new(Uuid::from_u128(3)),
        operation: op(3),
        name: "prod-9".into(),
        driver: "local".into(),
        options: Default::default(),
        skip_preflight: false,
        labels: Default::default(),
    };
    let active = Change::Availability(Availability::Active);
    let refusals = [
        refused(&swarm, |tx| stack::deploy(tx, "prod", &recipe)).await,
        refused(&swarm, |tx| {
            let environment = usable(tx, "prod")?;
            host::wish(tx, &environment, &wish, None)
        })
        .await,
        refused(&swarm, |tx| {
            let environment = usable(tx, "prod")?;
            placement::wish(tx, &environment, "prod-1", &active, op(4))
        })
        .await,
    ];
    for refusal in refusals {
        assert_eq!(refusal.code(), "SKP-1351", "{refusal}");
        assert!(refusal.hint().is_some_and(|hint| hint.ends_with("skep env resume prod")), "{refusal}");
    }
    swarm
        .change(|tx| {
            let environment = usable(tx, "prod")?;
            host::remove(tx, &environment, "prod-3", op(5), None).map(drop)
        })
        .await;
}

#[tokio::test]
async fn asking_twice_is_one_operation_and_asking_for_what_is_so_says_so() {
    let swarm = quiet(1).await;
    let refusal = refused(&swarm, |tx| resume(tx, "prod", op(1))).await;
    assert!(refusal.to_string().contains("it is not paused"), "{refusal}");
    swarm
        .change(|tx| {
            assert_eq!(pause(tx, "prod", op(2))?.id, op(2));
            assert_eq!(pause(tx, "prod", op(3))?.id, op(2));
            Ok(())
        })
        .await;
    swarm
        .change(|tx| {
            let back = resume(tx, "prod", op(4))?;
            assert_eq!((back.id, back.state), (op(4), State::Queued));
            assert_eq!(resume(tx, "prod", op(5))?.id, op(4));
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn an_environment_whose_engines_are_being_upgraded_does_not_rest_until_that_is_over() {
    let swarm = quiet(1).await;
    swarm.change(|tx| crate::upgrade::of_environment(tx, "prod", Some("29.1.2"), op(1)).map(drop)).await;
    let refusal = refused(&swarm, |tx| pause(tx, "prod", op(2))).await;
    assert_eq!(refusal.code(), "SKP-1307");
    assert!(swarm.environment().pause.is_none());
}

#[tokio::test]
async fn what_a_node_took_before_is_kept_once_and_forgotten_with_the_node() {
    let swarm = quiet(1).await;
    let host = swarm.hosts[0].clone();
    let kept = || {
        let found = swarm.ledger.view().get::<Host>(swarm.environment.as_str(), host.as_str());
        found.expect("reads").expect("is there").placement.kept
    };
    swarm.change(|tx| placement::keep(tx, &swarm.environment, &host)).await;
    assert_eq!(kept(), Some(Availability::Active));
    // Somebody had cordoned it meanwhile, which was seen only as it was drained.
    let seen = Fact::NodeSuspended(swarm.environment.clone(), host.clone(), Some(Availability::Pause));
    swarm.change(|tx| fact::record(tx, &seen)).await;
    assert_eq!(kept(), Some(Availability::Pause));
    swarm.seen(|_, node| node.availability = Availability::Drain).await;
    swarm.change(|tx| placement::keep(tx, &swarm.environment, &host)).await;
    let again = Fact::NodeSuspended(swarm.environment.clone(), host.clone(), None);
    swarm.change(|tx| fact::record(tx, &again)).await;
    assert_eq!(kept(), Some(Availability::Pause), "that it is drained now is no news");
    swarm.seen(|_, node| node.node = "another".into()).await;
    assert_eq!(kept(), None);
}
