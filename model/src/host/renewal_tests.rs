//! Who may get a new machine, what is carried over, and that nobody stays in the hands of an operation that has ended.

use skep_ledger::{Ledger, Request, TransactError, transact};
use uuid::Uuid;

use super::*;
use crate::environment::EnvironmentWish;
use crate::fact::{self, Fact};
use crate::host::{self, WishedRole};
use crate::placement::{self, Change};
use crate::testing::Swarm;

/// With its code.
fn told(error: TransactError<Refusal>) -> String {
    match error {
        TransactError::Refused(refusal) => format!("{}: {refusal}", refusal.code()),
        other => other.to_string(),
    }
}

fn op(number: u128) -> OperationId {
    OperationId::new(Uuid::from_u128(number))
}

fn successor(name: Option<&str>) -> Successor {
    Successor { host: HostId::new(Uuid::now_v7()), creation: op(300), name: name.map(str::to_owned) }
}

fn host(swarm: &Swarm, name: &str) -> Host {
    host::find(&swarm.ledger.view(), &swarm.environment(), name).expect("is there").record
}

async fn reprovisioned(swarm: &Swarm, name: &str) -> Result<Operation, String> {
    let place = swarm.environment();
    let ruled = transact(&*swarm.ledger, Request::new(), |tx| reprovision(tx, &place, name, op(200)));
    ruled.await.map(|committed| committed.answer).map_err(told)
}

async fn replaced(swarm: &Swarm, name: &str, successor: &Successor) -> Result<Operation, String> {
    let place = swarm.environment();
    let ruled = transact(&*swarm.ledger, Request::new(), |tx| replace(tx, &place, name, successor, op(200)));
    ruled.await.map(|committed| committed.answer).map_err(told)
}

#[tokio::test]
async fn nobody_loses_a_swarm_or_its_quorum_to_a_new_machine() {
    let alone = Swarm::of(1, 0).await;
    let refused = reprovisioned(&alone, "prod-1").await.expect_err("is the only one");
    assert!(refused.starts_with("SKP-1323") && refused.contains("the only node of its swarm"), "{refused}");

    let swarm = Swarm::of(3, 0).await;
    swarm.silent(2).await;
    let refused = reprovisioned(&swarm, "prod-1").await.expect_err("the others could not agree");
    assert!(refused.contains("prod-2"), "{refused}");
    reprovisioned(&swarm, "prod-2").await.expect("that one is silent anyway");
}

#[tokio::test]
async fn a_machine_that_nobody_made_is_not_made_anew() {
    let swarm = Swarm::of(2, 0).await;
    swarm.host_is(2, |host| host.driver = None).await;
    let refused = reprovisioned(&swarm, "prod-2").await.expect_err("registered itself");
    assert!(refused.starts_with("SKP-1322") && refused.contains("registered itself"), "{refused}");
    let refused = replaced(&swarm, "prod-2", &successor(None)).await.expect_err("registered itself");
    assert!(refused.starts_with("SKP-1322") && refused.contains("registered itself"), "{refused}");
}

#[tokio::test]
async fn a_host_whose_machine_is_gone_lets_go_of_it_and_keeps_its_wishes() {
    let swarm = Swarm::of(3, 0).await;
    swarm.host_is(2, |host| host.role = WishedRole::Manager).await;
    reprovisioned(&swarm, "prod-2").await.expect("is begun");
    let (place, id) = (swarm.environment.clone(), swarm.hosts[1].clone());
    let reserved = Fact::HostReserved(place.clone(), id.clone(), op(200));
    swarm.change(|tx| fact::record(tx, &reserved)).await;
    let between = host(&swarm, "prod-2");
    assert!(!between.is_ready() && between.state().word == "reprovisioning", "{between:?}");
    let gone = Fact::MachineGone(place, id);
    swarm.change(|tx| fact::record(tx, &gone)).await;
    let after = host(&swarm, "prod-2");
    assert_eq!(
        (after.renewal, after.machine, after.registration, after.membership),
        (None, None, None, None)
    );
    assert_eq!((after.role, after.agent.connected, after.was_ready), (WishedRole::Manager, false, false));
}

#[tokio::test]
async fn whoever_ends_lets_go_of_the_host() {
    let swarm = Swarm::of(3, 0).await;
    reprovisioned(&swarm, "prod-2").await.expect("is begun");
    let reserved = Fact::HostReserved(swarm.environment.clone(), swarm.hosts[1].clone(), op(200));
    let evacuated = Fact::Evacuated(swarm.environment.clone(), swarm.hosts[1].clone());
    swarm.change(|tx| [&reserved, &evacuated].into_iter().try_for_each(|fact| fact::record(tx, fact))).await;
    swarm.change(|tx| operation::cancel(tx, op(200).as_str(), "ann").map(drop)).await;
    let after = host(&swarm, "prod-2");
    assert_eq!((after.renewal, after.evacuated), (None, false));
}

#[tokio::test]
async fn a_successor_has_kind_role_and_labels_of_the_old_and_a_name_of_its_own() {
    let swarm = Swarm::of(3, 0).await;
    swarm.host_is(2, |host| host.role = WishedRole::Manager).await;
    let labels = Change::Labels([("rack".to_owned(), Some("b".to_owned()))].into());
    let place = swarm.environment();
    swarm.change(|tx| placement::wish(tx, &place, "prod-2", &labels, op(100)).map(drop)).await;
    let operation = replaced(&swarm, "prod-2", &successor(None)).await.expect("is begun");
    assert_eq!(operation.subject.to_string(), "replacement/prod-2");
    let new = host(&swarm, "prod-4");
    assert_eq!(new.replaces, Some(swarm.hosts[1].clone()));
    assert_eq!((new.driver.as_deref(), new.role), (Some("local"), WishedRole::Manager));
    assert_eq!(new.placement.labels["rack"], "b");
    assert!(new.placement.outstanding(), "its node is still to get them");

    let again = replaced(&swarm, "prod-2", &successor(Some("other"))).await.expect_err("one at a time");
    assert!(again.contains("in the hands of"), "{again}");
    let taken = replaced(&swarm, "prod-1", &successor(Some("prod-3"))).await.expect_err("has a host");
    assert!(taken.contains("prod-3"), "{taken}");
}

#[tokio::test]
async fn whoever_keeps_the_old_host_gives_its_replacement_up() {
    let swarm = Swarm::of(3, 0).await;
    replaced(&swarm, "prod-2", &successor(None)).await.expect("is begun");
    let place = swarm.environment();
    swarm
        .change(|tx| {
            let mut replacement = tx.get::<Operation>(CLUSTER, op(200).as_str())?.expect("is there").record;
            replacement.prepare(["new", "old"].into_iter());
            operation::save(tx, &replacement)?;
            host::remove(tx, &place, "prod-2", op(201), Some(op(200))).map(drop)
        })
        .await;
    swarm.change(|tx| operation::cancel(tx, op(201).as_str(), "ann").map(drop)).await;
    let view = swarm.ledger.view();
    let replacement = view.get::<Operation>(CLUSTER, op(200).as_str()).expect("reads").expect("is there");
    assert_eq!(replacement.failure.as_deref(), Some("the removal of prod-2 was cancelled by ann"));
    assert_eq!(host(&swarm, "prod-2").removal, None);
}

#[tokio::test]
async fn a_replacement_that_is_cancelled_before_anybody_has_taken_it_up_leaves_no_host_behind() {
    let swarm = Swarm::of(3, 0).await;
    replaced(&swarm, "prod-2", &successor(None)).await.expect("is begun");
    swarm.change(|tx| operation::cancel(tx, op(200).as_str(), "ann").map(drop)).await;
    assert!(host(&swarm, "prod-4").removal.is_some(), "a planner takes it from here");
    assert_eq!(host(&swarm, "prod-2").removal, None);
}

#[tokio::test]
async fn a_name_without_a_number_is_followed_by_the_second() {
    let swarm = Swarm::of(1, 0).await;
    let wish = EnvironmentWish {
        id: crate::ids::EnvironmentId::new(Uuid::now_v7()),
        operation: op(90),
        name: "web".into(),
        template: "single".into(),
        hosts: vec![],
        driver: "local".into(),
        options: Default::default(),
        change: Default::default(),
    };
    let ruled = transact(&*swarm.ledger, Request::new(), |tx| {
        let _ = crate::environment::wish(tx, &wish)?;
        let place = crate::environment::named(tx, "web")?;
        let host = host::HostWish {
            id: HostId::new(Uuid::now_v7()),
            operation: op(91),
            name: "database-main".into(),
            driver: "local".into(),
            options: Default::default(),
            skip_preflight: false,
            labels: Default::default(),
        };
        host::wish(tx, &place, &host, None)?;
        let old = host::named(tx, &place, "database-main")?;
        next_name(tx, &old)
    });
    assert_eq!(ruled.await.expect("commits").answer, "database-main-2");
}
