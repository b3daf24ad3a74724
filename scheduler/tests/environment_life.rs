//! What happens to an environment as a whole, where single answers decide about machines and somebody's work.

use skep_ledger::Ledger;
use skep_model::environment;
use skep_model::fact::{self, Fact};
use skep_model::host::{self, Host};
use skep_model::ids::OperationId;
use skep_model::operation::{self, Operation, State, workflow};
use skep_model::placement::Availability;
use skep_model::testing::Swarm;
use skep_model::{CLUSTER, upgrade};
use skep_scheduler::plan::{self, Picture};
use skep_scheduler::workflows::WORKFLOWS;
use skep_scheduler::{At, Effect, Next};
use uuid::Uuid;

fn op(number: u128) -> OperationId {
    OperationId::new(Uuid::from_u128(1_000 + number))
}

fn stored(swarm: &Swarm, id: &OperationId) -> Operation {
    let found = swarm.ledger.view().get::<Operation>(CLUSTER, id.as_str());
    found.expect("reads").expect("is there").record
}

fn all(swarm: &Swarm, workflow: &str) -> Vec<Operation> {
    let operations = swarm.ledger.view().list::<Operation>(CLUSTER).expect("reads");
    let operations = operations.into_iter().map(|stored| stored.record);
    operations.filter(|operation| operation.workflow == workflow).collect()
}

/// What a step of a workflow answers for one of its operations.
fn asked(swarm: &Swarm, workflow: &str, step: &str, id: &OperationId) -> Next {
    let known = WORKFLOWS.iter().find(|known| known.name == workflow).expect("is known");
    let step = known.steps.iter().find(|known| known.name == step).expect("is a step of it");
    (step.next)(&At::look(&swarm.ledger.view(), stored(swarm, id)).expect("reads"))
}

/// Everything that has made the swarm is over.
async fn quiet(managers: usize, workers: usize) -> Swarm {
    let swarm = Swarm::of(managers, workers).await;
    let open = [all(&swarm, workflow::CREATE_ENVIRONMENT), all(&swarm, workflow::CREATE_HOST)].concat();
    swarm
        .change(|tx| {
            open.iter().try_for_each(|operation| {
                let mut operation = operation.clone();
                operation.prepare(["all"].into_iter());
                operation.advance(tx.now());
                operation::save(tx, &operation)
            })
        })
        .await;
    swarm
}

#[tokio::test]
async fn cancelling_the_creation_of_an_environment_cancels_the_creation_of_its_hosts() {
    let swarm = Swarm::of(1, 2).await;
    let creation = all(&swarm, workflow::CREATE_ENVIRONMENT).remove(0);
    swarm.change(|tx| operation::cancel(tx, creation.id.as_str(), "ann").map(drop)).await;
    let hosts = all(&swarm, workflow::CREATE_HOST);
    assert_eq!(hosts.len(), 3);
    for host in hosts {
        let by = host.cancelled.as_ref().map(|asked| asked.by.as_str());
        assert_eq!((by, host.state), (Some("ann"), State::Cancelled), "{}", host.message);
    }
    let words = WORKFLOWS[0].steps[0].gives_back;
    assert!(words.contains("still being created are given up"), "{words}");
}

#[tokio::test]
async fn whoever_has_paused_something_does_not_hold_up_the_removal() {
    let swarm = Swarm::of(1, 1).await;
    let creation = all(&swarm, workflow::CREATE_HOST).remove(1);
    swarm.change(|tx| operation::pause(tx, creation.id.as_str(), "ann").map(drop)).await;
    swarm.change(|tx| environment::remove(tx, "prod", op(1)).map(drop)).await;
    assert!(stored(&swarm, &creation.id).paused().is_none());
}

#[tokio::test]
async fn a_removal_says_how_many_of_how_many_and_who_is_still_there() {
    let swarm = quiet(1, 6).await;
    swarm.change(|tx| environment::remove(tx, "prod", op(1)).map(drop)).await;
    let Next::Do(Effect::RemoveHosts(_, hosts)) =
        asked(&swarm, workflow::REMOVE_ENVIRONMENT, "hosts", &op(1))
    else {
        panic!("hosts are removed first");
    };
    assert_eq!(hosts.len(), 7);
    for (number, id) in hosts.iter().enumerate() {
        let wished =
            Fact::HostRemovalWished(swarm.environment.clone(), id.clone(), op(10 + number as u128), op(1));
        swarm.change(|tx| fact::record(tx, &wished)).await;
    }
    swarm.change(|tx| host::forget(tx, &swarm.environment, &swarm.hosts[0])).await;
    match asked(&swarm, workflow::REMOVE_ENVIRONMENT, "hosts", &op(1)) {
        Next::Wait(words) => assert_eq!(
            words,
            "1 of 7 hosts are removed; still there: prod-2, prod-3, prod-4, prod-5, prod-6, 1 others"
        ),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_host_that_is_away_pauses_the_upgrade_until_somebody_has_looked() {
    let swarm = quiet(1, 1).await;
    swarm.silent(2).await;
    swarm.change(|tx| upgrade::of_environment(tx, "prod", Some("29.1.2"), op(1)).map(drop)).await;
    match asked(&swarm, workflow::UPGRADE_ENVIRONMENT, "hosts", &op(1)) {
        Next::Hold(why) => {
            assert!(why.starts_with("0 of 2 hosts have engine 29.1.2; prod-2 is unreachable: "), "{why}");
            assert!(why.ends_with(&format!("skep operation resume {}", op(1))), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_has_failed_on_a_host_pauses_the_upgrade_once_and_is_tried_again_after_it_was_resumed() {
    let swarm = quiet(1, 1).await;
    swarm.change(|tx| upgrade::of_environment(tx, "prod", Some("29.1.2"), op(1)).map(drop)).await;
    let next = |swarm: &Swarm| asked(swarm, workflow::UPGRADE_ENVIRONMENT, "hosts", &op(1));
    assert!(matches!(next(&swarm), Next::Do(Effect::UpgradeHost { name, .. }) if name.as_str() == "prod-2"));
    let wished = |number| {
        let (place, host, version) = (swarm.environment.clone(), swarm.hosts[1].clone(), "29.1.2".to_owned());
        Fact::HostUpgradeWished(place, host, version, op(number), op(1))
    };
    swarm.change(|tx| fact::record(tx, &wished(2))).await;
    assert!(matches!(next(&swarm), Next::Wait(why) if why.contains("prod-2")));
    swarm
        .change(|tx| {
            let mut child = stored(&swarm, &op(2));
            child.abandon("no such package", tx.now());
            operation::save(tx, &child)?;
            let mut parent = stored(&swarm, &op(1));
            parent.prepare(["hosts"].into_iter());
            operation::save(tx, &parent)
        })
        .await;
    let Next::Hold(why) = next(&swarm) else { panic!("somebody has to look") };
    assert!(why.contains("prod-2 could not be upgraded: no such package"), "{why}");
    swarm
        .change(|tx| {
            let mut parent = stored(&swarm, &op(1));
            parent.hold_for(&why, tx.now());
            operation::save(tx, &parent)
        })
        .await;
    let later = swarm.ledger.now() + jiff::SignedDuration::from_secs(60);
    swarm.ledger.set_now(later);
    swarm.change(|tx| operation::retry(tx, op(1).as_str(), op(9), "ann").map(drop)).await;
    assert_eq!(stored(&swarm, &op(1)).paused(), None);
    assert!(matches!(next(&swarm), Next::Do(Effect::UpgradeHost { .. })));
}

#[tokio::test]
async fn two_hosts_that_are_upgraded_by_hand_take_turns() {
    let swarm = quiet(3, 0).await;
    swarm
        .change(|tx| {
            let environment = environment::usable(tx, "prod")?;
            upgrade::of_host(tx, &environment, "prod-2", Some("29.1.2"), op(2))?;
            upgrade::of_host(tx, &environment, "prod-3", Some("29.1.2"), op(3)).map(drop)
        })
        .await;
    let turn = |number| asked(&swarm, workflow::UPGRADE_HOST, "turn", &op(number));
    assert!(matches!(turn(2), Next::Do(Effect::TakeTurn { .. })) && matches!(turn(3), Next::Do(_)));
    for host in [1, 2] {
        let taken = Fact::EngineTurnTaken(swarm.environment.clone(), swarm.hosts[host].clone());
        swarm.change(|tx| fact::record(tx, &taken)).await;
    }
    assert_eq!(turn(2), Next::Done);
    assert_eq!(turn(3), Next::Wait("prod-2 is at it; one host at a time".into()));
    swarm.change(|tx| operation::cancel(tx, op(2).as_str(), "ann").map(drop)).await;
    assert!(matches!(turn(3), Next::Do(Effect::TakeTurn { .. })), "whoever has ended holds nobody up");
}

#[tokio::test]
async fn a_host_that_comes_while_its_environment_rests_takes_no_tasks_and_one_that_somebody_woke_is_left_alone()
 {
    let swarm = quiet(3, 1).await;
    let decisions = || {
        let picture = Picture::of(swarm.ledger.view(), swarm.ledger.now()).expect("reads");
        plan::decide(&picture)
            .expect("decides")
            .into_iter()
            .map(|decision| decision.workflow)
            .collect::<Vec<_>>()
    };
    swarm
        .change(|tx| {
            let mut pause = environment::pause(tx, "prod", op(1))?;
            pause.prepare(["all"].into_iter());
            pause.advance(tx.now());
            operation::save(tx, &pause)?;
            fact::record(tx, &Fact::TasksSeen(swarm.environment.clone(), 0))
        })
        .await;
    let kept = |availability| move |host: &mut Host| host.placement.kept = availability;
    for number in 1..=3 {
        swarm.host_is(number, kept(Some(Availability::Active))).await;
    }
    assert_eq!(decisions(), [workflow::PAUSE_ENVIRONMENT], "prod-4 has come");
    swarm.host_is(4, kept(Some(Availability::Active))).await;
    assert_eq!(decisions(), Vec::<&str>::new(), "all were drained, and somebody has changed that");
    swarm
        .change(|tx| {
            let mut resume = environment::resume(tx, "prod", op(2))?;
            resume.prepare(["all"].into_iter());
            resume.advance(tx.now());
            operation::save(tx, &resume)
        })
        .await;
    assert_eq!(decisions(), [workflow::RESUME_ENVIRONMENT], "all are to take tasks again");
}
