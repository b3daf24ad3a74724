//! What is wished anew for an environment, what its template says by now, and what both would change.

use skep_ledger::{Ledger, Request, TransactError, Tx, transact};
use uuid::Uuid;

use super::*;
use crate::environment::Change;
use crate::fact::{self, Fact};
use crate::host::Inventory;
use crate::networks::{HostNetworks, MadeFor, unfit};
use crate::testing::Swarm;

fn id() -> OperationId {
    OperationId::new(Uuid::now_v7())
}

async fn decided<T: Serialize + serde::de::DeserializeOwned + Send>(
    swarm: &Swarm,
    mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<T> + Send,
) -> Result<T, Refusal> {
    match transact(&*swarm.ledger, Request::new(), |tx| rule(tx)).await {
        Ok(committed) => Ok(committed.answer),
        Err(TransactError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

async fn updated(swarm: &Swarm, change: Change) -> Result<Operation, Refusal> {
    decided(swarm, |tx| environment::update(tx, "prod", &change, id())).await
}

fn hosts(swarm: &Swarm) -> Vec<Host> {
    let hosts = swarm.ledger.view().list::<Host>(swarm.environment.as_str()).expect("reads");
    hosts.into_iter().map(|stored| stored.record).collect()
}

/// The plan, a line for each difference: what, how it is, how it would be, how that is brought about.
fn planned(swarm: &Swarm) -> Vec<String> {
    let templates = template::list(&swarm.ledger.view()).expect("reads");
    let environment = swarm.environment();
    let template = templates.into_iter().map(|(one, _)| one).find(|one| one.name == environment.template);
    let lines = plan(&environment, template.as_ref(), &hosts(swarm));
    lines.iter().map(|line| format!("{}: {} -> {} {}", line.what, line.is, line.would_be, line.way)).collect()
}

async fn measured(swarm: &Swarm, links: &[u32]) {
    for (number, mtu) in links.iter().enumerate() {
        swarm
            .host_is(number + 1, |host| {
                host.inventory = Some(Inventory { mtu: *mtu, ..host.inventory.clone().unwrap_or_default() });
            })
            .await;
    }
}

#[tokio::test]
async fn a_wish_is_written_and_brought_about_on_the_swarm_and_half_of_one_is_not() {
    let swarm = Swarm::of(3, 1).await;
    let change = Change { swarm_managers: Some(1), encrypted: Some(true), ..Change::default() };
    let operation = updated(&swarm, change).await.expect("is begun");
    assert_eq!(
        (operation.workflow.as_str(), operation.subject.kind.as_str()),
        ("update-environment", "swarm")
    );
    let environment = swarm.environment();
    assert_eq!((environment.swarm_managers, environment.options.encrypted), (1, true));

    let half = Change { encrypted: Some(false), mtu: Some(Some(100)), ..Change::default() };
    let refused = updated(&swarm, half).await.expect_err("no network has so small packets");
    assert_eq!(refused.code(), "SKP-1202");
    assert!(swarm.environment().options.encrypted, "nothing is changed");

    let pools = Change { address_pools: Some(vec!["10.20.0.0/16".into()]), ..Change::default() };
    let refused = updated(&swarm, pools).await.expect_err("the swarm has its pools");
    assert_eq!(refused.code(), "SKP-1308");
}

#[tokio::test]
async fn hosts_that_do_not_go_with_a_wish_are_named() {
    let swarm = Swarm::of(1, 1).await;
    swarm
        .host_is(2, |host| {
            let features = [("xfrm".to_owned(), false)].into();
            host.inventory = Some(Inventory { features, ..Inventory::default() });
        })
        .await;
    let refused =
        updated(&swarm, Change { encrypted: Some(true), ..Change::default() }).await.expect_err("cannot");
    assert_eq!(refused.code(), "SKP-1341");
    assert!(
        refused.to_string().contains("prod-2: ") && !refused.to_string().contains("prod-1: "),
        "{refused}"
    );
}

#[tokio::test]
async fn a_pool_may_not_hide_what_a_host_reaches() {
    let swarm = Swarm::of(1, 0).await;
    swarm
        .host_is(1, |host| {
            let routes = vec!["172.30.8.0/24".parse().expect("a range")];
            host.inventory = Some(Inventory { routes, ..Inventory::default() });
        })
        .await;
    let with = |pool: &str| {
        let mut environment = swarm.environment();
        environment.options.address_pools = vec![pool.parse().expect("a range")];
        unfit(&environment, &hosts(&swarm)[0])
    };
    assert_eq!(with("10.20.0.0/16"), None);
    assert!(with("10.90.0.0/16").expect("its own address").contains("10.90.0.1"));
    assert!(with("172.30.0.0/16").expect("a route").contains("172.30.8.0/24"));
}

#[tokio::test]
async fn networks_are_made_for_the_narrowest_link_and_never_for_more_than_usual_by_themselves() {
    let swarm = Swarm::of(3, 0).await;
    let mtu = |swarm: &Swarm| wanted(&swarm.environment(), &hosts(swarm)).mtu;
    assert_eq!(mtu(&swarm), 1_500, "nothing was measured");
    measured(&swarm, &[9_000, 9_000, 9_000]).await;
    assert_eq!(mtu(&swarm), 1_500);
    measured(&swarm, &[1_500, 1_400, 1_450]).await;
    assert_eq!(mtu(&swarm), 1_400);
    updated(&swarm, Change { mtu: Some(Some(8_900)), ..Change::default() }).await.expect("is wished");
    assert_eq!(mtu(&swarm), 8_900, "who says it means it");
    let all = hosts(&swarm);
    assert_eq!(networks::bridge_mtu(&swarm.environment(), &all, &all[1]), 1_400, "no more than its own link");
}

#[tokio::test]
async fn a_changed_template_is_taken_over_when_it_is_applied_but_not_what_was_said_for_the_environment() {
    let swarm = Swarm::of(3, 2).await;
    let import = |text: &'static str| move |tx: &mut Tx<'_>| template::import(tx, text, None, true).map(drop);
    swarm.change(import("name: web\n")).await;
    swarm
        .change(|tx| {
            let mut environment = environment::named(tx, "prod")?;
            environment.template = crate::name::Name::parse("a template", "web")?;
            tx.put(&environment);
            Ok(())
        })
        .await;
    assert_eq!(planned(&swarm), Vec::<String>::new());
    updated(&swarm, Change { mtu: Some(Some(1_450)), ..Change::default() }).await.expect("is wished");
    swarm
        .change(import(
            "name: web\nswarm: {managers: 5}\nnetwork: {mtu: 1400, addressPools: [10.20.0.0/16]}\n",
        ))
        .await;
    assert_eq!(
        planned(&swarm),
        [
            "swarm.managers: 3 -> 5 live",
            "network.mtu: 1450 -> 1400 kept",
            "network.addressPools: Docker's own -> 10.20.0.0/16 rebuild",
        ]
    );
    let seen = swarm.ledger.view().revision();
    let none = BTreeSet::new();
    decided(&swarm, |tx| apply(tx, "prod", &none, Some(seen), id())).await.expect("is applied");
    let environment = swarm.environment();
    assert_eq!((environment.swarm_managers, environment.mtu), (5, Some(1_450)));

    let refused =
        decided(&swarm, |tx| apply(tx, "prod", &none, Some(seen), id())).await.expect_err("it has changed");
    assert_eq!(refused.code(), "SKP-1343");
    let follow = BTreeSet::from(["network.mtu".to_owned()]);
    decided(&swarm, |tx| apply(tx, "prod", &follow, None, id())).await.expect("is applied");
    assert_eq!(swarm.environment().mtu, Some(1_400));
    assert_eq!(planned(&swarm), ["network.addressPools: Docker's own -> 10.20.0.0/16 rebuild"]);
    let unknown = BTreeSet::from(["colour".to_owned()]);
    assert!(decided(&swarm, |tx| apply(tx, "prod", &unknown, None, id())).await.is_err());
}

#[tokio::test]
async fn what_the_swarm_has_not_yet_is_planned_line_by_line() {
    let swarm = Swarm::of(3, 0).await;
    let (made, ingress) =
        (MadeFor { mtu: 1_450, encrypted: false }, MadeFor { mtu: 1_500, encrypted: false });
    let seen = HostNetworks { bridge_mtu: Some(1_500), ..HostNetworks::default() };
    swarm
        .change(|tx| {
            fact::record(tx, &Fact::NetworksSet(swarm.environment.clone(), id(), made, Some(ingress)))?;
            fact::record(tx, &Fact::HostNetworksSeen(swarm.environment.clone(), swarm.hosts[1].clone(), seen))
        })
        .await;
    measured(&swarm, &[1_400, 1_400, 1_400]).await;
    assert_eq!(
        planned(&swarm),
        [
            "overlay networks: packets of 1450 bytes -> packets of 1400 bytes live",
            "ingress network: packets of 1500 bytes -> packets of 1400 bytes live",
            "docker_gwbridge of prod-2: 1500 -> 1400 next-join",
        ]
    );
}
