//! What single steps answer where the answer decides about a swarm, a machine or somebody's work.

use skep_ledger::Ledger;
use skep_model::host::{self, Role};
use skep_model::ids::OperationId;
use skep_model::operation::{Operation, workflow};
use skep_model::placement::{self, Availability, Change};
use skep_model::testing::Swarm;
use skep_model::{Refusal, environment};
use skep_scheduler::workflows::WORKFLOWS;
use skep_scheduler::{At, Effect, Next, Step};
use uuid::Uuid;

fn step(workflow: &str, name: &str) -> &'static Step {
    let known = WORKFLOWS.iter().find(|known| known.name == workflow).expect("is known");
    known.steps.iter().find(|step| step.name == name).expect("is a step of it")
}

fn at(swarm: &Swarm, operation: Operation) -> At {
    At::look(&swarm.ledger.view(), operation).expect("reads")
}

/// What the step answers for the host with this number.
fn asked(swarm: &Swarm, workflow: &str, name: &str, number: usize) -> Next {
    (step(workflow, name).next)(&at(swarm, swarm.operation(workflow, number)))
}

async fn removal_is_wished(swarm: &Swarm, number: usize) {
    swarm
        .change(|tx| {
            let environment = environment::named(tx, "prod")?;
            let name = format!("prod-{number}");
            host::remove(tx, &environment, &name, OperationId::new(Uuid::now_v7()), None).map(drop)
        })
        .await;
}

fn is_demotion(next: &Next) -> bool {
    matches!(next, Next::Do(Effect::SetRole { role: Role::Worker, .. }))
}

#[tokio::test]
async fn a_manager_without_which_the_others_could_not_agree_stays_and_says_why() {
    let swarm = Swarm::of(3, 0).await;
    swarm.engine_down(2).await;
    swarm.seen(|number, node| node.ready = number != 2).await;
    removal_is_wished(&swarm, 1).await;
    assert!(is_demotion(&asked(&swarm, workflow::REMOVE_HOST, "demote", 1)));
    // Docker has refused that, or it took too long.
    match asked(&swarm, workflow::REMOVE_HOST, "leave", 1) {
        Next::Turn(why) => assert!(why.contains("prod-2 cannot be reached"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dead_manager_leaves_without_being_asked() {
    let swarm = Swarm::of(3, 0).await;
    swarm.silent(2).await;
    swarm.seen(|number, node| node.ready = number != 2).await;
    removal_is_wished(&swarm, 2).await;
    let leaves = asked(&swarm, workflow::REMOVE_HOST, "leave", 2);
    assert!(matches!(leaves, Next::Do(Effect::LeaveSwarm { .. })), "{leaves:?}");
}

/// The swarm takes a moment to agree on one vote less; until then it is missed.
#[tokio::test]
async fn all_hosts_of_a_swarm_can_be_removed_one_after_the_other() {
    let swarm = Swarm::of(3, 0).await;
    for number in 1..=3 {
        removal_is_wished(&swarm, number).await;
    }
    assert!(is_demotion(&asked(&swarm, workflow::REMOVE_HOST, "demote", 1)));
    swarm.seen(|number, node| node.role = if number == 3 { Role::Manager } else { Role::Worker }).await;
    for number in 1..=3 {
        assert_eq!(asked(&swarm, workflow::REMOVE_HOST, "demote", number), Next::Done, "{number}");
        let leaves = asked(&swarm, workflow::REMOVE_HOST, "leave", number);
        assert!(matches!(leaves, Next::Do(Effect::LeaveSwarm { .. })), "{number}: {leaves:?}");
    }
}

#[tokio::test]
async fn a_creation_that_goes_back_takes_the_host_out_of_the_swarm_before_its_machine_goes() {
    let swarm = Swarm::of(3, 0).await;
    let undone = |name: &str| {
        let undo = step(workflow::CREATE_HOST, name).undo.expect("has a way back");
        undo(&at(&swarm, swarm.operation(workflow::CREATE_HOST, 3)))
    };
    for name in ["swarm", "machine"] {
        assert!(is_demotion(&undone(name)), "{name}");
    }
    swarm.engine_down(2).await;
    swarm.engine_down(1).await;
    for name in ["swarm", "machine"] {
        assert!(matches!(undone(name), Next::Wait(_)), "{name}: nobody could demote it");
    }
    swarm.host_is(3, |host| host.membership = None).await;
    assert_eq!(undone("swarm"), Next::Done);
    assert!(matches!(undone("machine"), Next::Do(Effect::ReleaseMachine { .. })));
}

#[tokio::test]
async fn a_rescue_whose_turn_comes_when_the_managers_are_back_does_nothing() {
    let swarm = Swarm::of(3, 0).await;
    swarm.silent(2).await;
    swarm.silent(3).await;
    let rescue = || OperationId::new(Uuid::from_u128(200));
    swarm.change(|tx| environment::rescue(tx, "prod", "prod-1", rescue()).map(drop)).await;
    let asked = |swarm: &Swarm| {
        let stored = swarm.ledger.view().get::<Operation>(skep_model::CLUSTER, rescue().as_str());
        let operation = stored.expect("reads").expect("was begun").record;
        (step(workflow::RESCUE_SWARM, "rescue").next)(&at(swarm, operation))
    };
    assert!(matches!(asked(&swarm), Next::Do(Effect::RescueSwarm { .. })));
    for number in [2, 3] {
        let id = swarm.hosts[number - 1].as_str();
        swarm.change(|tx| host::reported(tx, id, "m1", "s2", None, Ok(()))).await;
    }
    assert_eq!(asked(&swarm), Next::Turn("the swarm's managers can agree again".into()));
}

/// `skep host evacuate web-1 && poweroff` must not go on when somebody has uncordoned the host meanwhile.
#[tokio::test]
async fn an_evacuation_that_somebody_took_back_has_not_succeeded() {
    let swarm = Swarm::of(1, 1).await;
    let wished = async |number: u128, availability: Availability| {
        let change = Change::Availability(availability);
        swarm
            .change(|tx| -> Result<(), Refusal> {
                let environment = environment::named(tx, "prod")?;
                let id = OperationId::new(Uuid::from_u128(number));
                placement::wish(tx, &environment, "prod-2", &change, id).map(drop)
            })
            .await;
    };
    wished(200, Availability::Drain).await;
    let evacuation = swarm.operation(workflow::UPDATE_HOST, 2);
    swarm.host_is(2, |host| host.placement.applied = host.placement.generation).await;
    let asked = || (step(workflow::UPDATE_HOST, "evacuate").next)(&at(&swarm, evacuation.clone()));
    assert!(matches!(asked(), Next::Do(Effect::ObserveEvacuation { .. })));
    wished(201, Availability::Active).await;
    assert!(matches!(asked(), Next::Turn(_)), "{:?}", asked());
}
