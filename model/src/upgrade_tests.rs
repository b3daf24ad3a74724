//! In which order hosts get another engine, when they wait, and what is refused.

use skep_ledger::Ledger;
use uuid::Uuid;

use super::*;
use crate::testing::Swarm;

fn op(number: u128) -> OperationId {
    OperationId::new(Uuid::from_u128(number))
}

fn of(swarm: &Swarm) -> Vec<Host> {
    let hosts = swarm.ledger.view().list::<Host>(swarm.environment.as_str()).expect("reads");
    hosts.into_iter().map(|stored| stored.record).collect()
}

async fn with_engine(swarm: &Swarm, number: usize, version: &str) {
    swarm
        .host_is(number, |host| {
            host.inventory.get_or_insert_default().engine_version = version.to_owned();
        })
        .await;
}

#[tokio::test]
async fn workers_come_first_and_the_leader_last() {
    let swarm = Swarm::of(3, 2).await;
    let hosts = of(&swarm);
    let names: Vec<_> = order(&hosts).iter().map(|host| host.name.to_string()).collect();
    assert_eq!(names, ["prod-4", "prod-5", "prod-2", "prod-3", "prod-1"]);
}

#[tokio::test]
async fn a_manager_without_which_the_others_could_not_agree_waits_and_one_that_is_alone_does_not() {
    let swarm = Swarm::of(3, 0).await;
    let without = |number: usize| quorum_without(&of(&swarm), &of(&swarm)[number - 1]);
    assert_eq!(without(2), Ok(()));
    swarm.engine_down(3).await;
    let why = without(2).expect_err("would cost the quorum");
    assert!(why.contains("prod-2 is one of 3 swarm managers, and the 1 others"), "{why}");
    assert_eq!(without(3), Ok(()), "it is missed already");
    let alone = of(&Swarm::of(1, 0).await);
    assert_eq!(quorum_without(&alone, &alone[0]), Ok(()));
}

#[tokio::test]
async fn without_a_version_all_get_the_newest_that_one_of_them_has_and_none_gets_an_older_one() {
    let swarm = Swarm::of(1, 1).await;
    with_engine(&swarm, 1, "20.10.9").await;
    with_engine(&swarm, 2, "20.10.24+dfsg1").await;
    assert_eq!(wanted(&of(&swarm), None), Ok("20.10.24+dfsg1".to_owned()));
    let hosts = of(&swarm);
    let refused = not_older(&hosts.iter().collect::<Vec<_>>(), "20.10.10").expect_err("is older");
    assert_eq!(refused.code(), "SKP-1352");
    assert!(refused.to_string().contains("prod-2") && refused.hint().is_some(), "{refused}");
    assert_eq!(not_older(&hosts.iter().collect::<Vec<_>>(), "20.10.25"), Ok(()));
}

#[test]
fn what_is_no_version_is_refused_before_any_shell_sees_it() {
    for wrong in ["", "latest", "1.2;reboot", "1.2 3", "$(id)", "../1", &"1".repeat(65)] {
        let refused = wanted(&[], Some(wrong)).expect_err("is no version");
        assert_eq!(refused.code(), "SKP-1202", "{wrong}");
    }
    assert_eq!(wanted(&[], Some("29.1.2-rc.1")), Ok("29.1.2-rc.1".to_owned()));
    assert_eq!(wanted(&[], None).expect_err("nobody knows").code(), "SKP-1202");
}

#[tokio::test]
async fn a_plan_says_what_happens_to_each_host_in_order() {
    let swarm = Swarm::of(1, 2).await;
    with_engine(&swarm, 3, "29.1.2").await;
    swarm.silent(2).await;
    let plan = plan(&of(&swarm), "29.1.2");
    let lines: Vec<_> =
        plan.iter().map(|host| format!("{} {}: {}", host.host, host.part, host.what)).collect();
    assert_eq!(
        lines,
        [
            "prod-2 worker: stops here: it is unreachable",
            "prod-3 worker: has it already: looks whether it serves",
            "prod-1 leader: evacuate, upgrade, verify, take tasks again",
        ]
    );
}

#[tokio::test]
async fn a_version_that_was_verified_stays_so_until_another_is_wished() {
    let swarm = Swarm::of(1, 0).await;
    let verified = |swarm: &Swarm| of(swarm)[0].engine_wish.clone().is_some_and(|wish| wish.verified);
    let wish = async |version: &str, number: u128| {
        swarm
            .change(|tx| {
                let environment = environment::usable(tx, "prod")?;
                of_host(tx, &environment, "prod-1", Some(version), op(number)).map(drop)
            })
            .await;
    };
    wish("29.1.2", 1).await;
    assert!(!verified(&swarm));
    swarm.host_is(1, |host| host.engine_wish.iter_mut().for_each(|wish| wish.verified = true)).await;
    wish("29.1.2", 2).await;
    assert!(verified(&swarm));
    wish("29.1.3", 3).await;
    assert!(!verified(&swarm));
}
