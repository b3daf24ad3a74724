//! What single steps answer where the answer decides about a swarm, a machine or somebody's work.

use jiff::SignedDuration;
use skep_ledger::{Ledger, Tx};
use skep_model::fact::{self, Fact};
use skep_model::host::moving::Standing;
use skep_model::host::{self, Host, Role, renewal};
use skep_model::ids::OperationId;
use skep_model::operation::{Active, Operation, workflow};
use skep_model::placement::{self, Availability, Change};
use skep_model::preflight::{Checked, Found, Preflight};
use skep_model::swarm_state::{self, RestoreWish};
use skep_model::testing::Swarm;
use skep_model::{CLUSTER, Refusal, environment};
use skep_scheduler::plan::Ids;
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

/// It may join in the hands of another operation while its removal is asked for.
#[tokio::test]
async fn a_host_that_nobody_has_seen_join_is_asked_before_it_goes() {
    let swarm = Swarm::of(3, 0).await;
    swarm.host_is(3, |host| host.membership = None).await;
    removal_is_wished(&swarm, 3).await;
    let asked_first = || asked(&swarm, workflow::REMOVE_HOST, "evacuate", 3);
    assert!(matches!(asked_first(), Next::Do(Effect::LeaveSwarm { .. })), "{:?}", asked_first());

    let left = Fact::LeftSwarm(swarm.environment.clone(), swarm.hosts[2].clone());
    swarm.change(|tx| fact::record(tx, &left)).await;
    assert_eq!(asked_first(), Next::Done);

    let joined = Fact::SwarmSeen(swarm.environment.clone(), "swarm".into(), swarm.members(3));
    swarm.change(|tx| fact::record(tx, &joined)).await;
    assert!(matches!(asked_first(), Next::Do(Effect::DrainNode { .. })), "{:?}", asked_first());

    swarm.host_is(3, |host| host.membership = None).await;
    swarm.silent(3).await;
    assert_eq!(asked_first(), Next::Done, "nobody can be asked");
}

#[tokio::test]
async fn a_list_of_nodes_from_before_a_host_has_joined_takes_nothing_from_it() {
    let swarm = Swarm::of(3, 0).await;
    let still_member = async |id: &str| {
        let seen = Fact::SwarmSeen(swarm.environment.clone(), id.into(), swarm.members(3)[..2].to_vec());
        swarm.change(|tx| fact::record(tx, &seen)).await;
        let host = swarm.ledger.view().get::<Host>(swarm.environment.as_str(), swarm.hosts[2].as_str());
        host.expect("reads").expect("is there").membership.is_some()
    };
    assert!(still_member("swarm").await);
    assert!(!still_member("another").await, "it is no node of a swarm that was begun since");
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
    for name in ["swarm", "machine"] {
        let asked = undone(name);
        assert!(
            matches!(asked, Next::Do(Effect::LeaveSwarm { .. })),
            "{name}: it may have joined: {asked:?}"
        );
    }
    swarm.host_is(3, |host| host.parted = true).await;
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

/// Whoever removes a host and wants its machine gets it, also if the host was still being made.
#[tokio::test]
async fn a_machine_that_is_to_stay_is_let_go_and_never_given_back() {
    let swarm = Swarm::of(3, 0).await;
    swarm.seen(|number, node| node.role = if number == 3 { Role::Worker } else { Role::Manager }).await;
    swarm
        .change(|tx| {
            let environment = environment::named(tx, "prod")?;
            host::let_go(tx, &environment, "prod-3", OperationId::new(Uuid::now_v7())).map(drop)
        })
        .await;
    let undo = step(workflow::CREATE_HOST, "machine").undo.expect("has a way back");
    let given_back = undo(&at(&swarm, swarm.operation(workflow::CREATE_HOST, 3)));
    assert!(matches!(given_back, Next::Turn(_)), "{given_back:?}");
    let goes = asked(&swarm, workflow::REMOVE_HOST, "machine", 3);
    assert!(matches!(goes, Next::Do(Effect::LetMachineGo { .. })), "{goes:?}");
    swarm.change(|tx| environment::remove(tx, "prod", OperationId::new(Uuid::now_v7())).map(drop)).await;
    let parts = asked(&swarm, workflow::REMOVE_HOST, "leave", 3);
    assert!(matches!(parts, Next::Do(Effect::LeaveSwarm { .. })), "it must not stay a node: {parts:?}");
}

#[tokio::test]
async fn a_host_that_is_made_anew_gives_its_machine_back_once_and_only_while_it_is_reserved() {
    let swarm = Swarm::of(3, 0).await;
    let id = OperationId::new(Uuid::from_u128(300));
    let begun = id.clone();
    swarm
        .change(|tx| {
            let environment = environment::named(tx, "prod")?;
            host::renewal::reprovision(tx, &environment, "prod-3", begun.clone()).map(drop)
        })
        .await;
    let asked = |name: &str| asked(&swarm, workflow::REPROVISION_HOST, name, 3);
    assert!(matches!(asked("reserve"), Next::Do(Effect::ReserveHost(..))));
    assert_eq!(asked("release"), Next::Done, "a machine that is not reserved is not touched");
    swarm.host_is(3, |host| host.renewal = Some(id.clone())).await;
    assert_eq!(asked("reserve"), Next::Done);
    assert!(matches!(asked("release"), Next::Do(Effect::ReleaseMachine { .. })));
}

/// Several hosts that come at once are checked together: each check keeps the agents of the members busy.
#[tokio::test]
async fn a_new_host_is_checked_before_it_joins_together_with_others_that_wait_for_it() {
    let swarm = Swarm::of(1, 3).await;
    for number in 2..=4 {
        swarm.host_is(number, |host| (host.membership, host.was_ready) = (None, false)).await;
    }
    swarm.engine_down(4).await;
    let network = || asked(&swarm, workflow::CREATE_HOST, "network", 3);
    let Next::Do(Effect::CheckNetwork { hosts, insist, .. }) = network() else { panic!("{:?}", network()) };
    let names: Vec<&str> = hosts.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!((names, insist), (vec!["prod-3", "prod-2"], Some(swarm.hosts[2].clone())));

    let address = swarm.host(3).machine.expect("has one").address;
    let passes = Fact::NetworkChecked(
        swarm.environment.clone(),
        swarm.hosts[2].clone(),
        Checked { address, ..Checked::default() },
    );
    let join =
        || (step(workflow::FORM_SWARM, "join").next)(&at(&swarm, swarm.operation(workflow::CREATE_HOST, 3)));
    assert_eq!(join(), Next::Done, "nobody may join yet");
    swarm.change(|tx| fact::record(tx, &passes)).await;
    assert_eq!(network(), Next::Done);
    let Next::Do(Effect::JoinSwarm { joins, .. }) = join() else { panic!("{:?}", join()) };
    assert_eq!(joins.iter().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>(), ["prod-3"]);
}

#[tokio::test]
async fn a_swarm_that_was_formed_without_a_host_that_could_not_join_says_so() {
    let swarm = Swarm::of(1, 1).await;
    let joined = swarm.ledger.now() + SignedDuration::from_secs(1);
    let checked = async |after_secs: i64| {
        let at = joined + SignedDuration::from_secs(after_secs);
        swarm
            .host_is(2, |host| {
                (host.membership, host.was_ready) = (None, false);
                let address = host.machine.as_ref().expect("has one").address.clone();
                host.preflight = Some(Preflight { at, checked: Checked { address, ..Checked::default() } });
            })
            .await;
    };
    let mut operation = swarm.operation(workflow::CREATE_HOST, 1);
    operation.prepare(["init", "networks", "join", "nfs", "roles", "verify"].into_iter());
    for _ in ["init", "networks"] {
        operation.advance(joined);
    }
    let mut without_all = operation.clone();
    operation.advance(joined);
    without_all.go_on("not done within 120 s", joined);
    let verified = || (step(workflow::FORM_SWARM, "verify").next)(&at(&swarm, operation.clone()));
    checked(0).await;
    assert_eq!(verified(), Next::Done, "it was away for a moment, and was not asked to join");
    assert_eq!(
        (step(workflow::FORM_SWARM, "verify").next)(&at(&swarm, without_all)),
        Next::Turn("prod-2 could not join: not done within 120 s".into())
    );
    swarm.host_is(2, |host| host.join_error = "no way to the managers".into()).await;
    checked(1).await;
    assert_eq!(verified(), Next::Done, "its network was found good after the others had joined");
    checked(0).await;
    assert_eq!(verified(), Next::Turn("prod-2 could not join: no way to the managers".into()));
}

#[tokio::test]
async fn a_check_that_somebody_asks_for_is_made_now_and_fails_with_the_reason() {
    let swarm = Swarm::of(1, 1).await;
    swarm.host_is(2, |host| (host.membership, host.was_ready) = (None, false)).await;
    let creation = swarm.operation(workflow::CREATE_HOST, 2);
    let check = async |number: u128, skip: Option<bool>| {
        let id = OperationId::new(Uuid::from_u128(number));
        swarm
            .change(|tx| {
                let environment = environment::named(tx, "prod")?;
                host::check(tx, &environment, "prod-2", skip, id.clone(), "ann").map(drop)
            })
            .await;
        swarm.ledger.view().get::<Operation>(CLUSTER, id.as_str()).expect("reads").map(|stored| stored.record)
    };
    assert_eq!(check(300, None).await, None, "its creation waits for the same, and looks again at once");
    swarm
        .change(|tx| {
            tx.delete::<Active>(CLUSTER, &creation.subject.index());
            Ok(())
        })
        .await;
    let operation = check(301, None).await.expect("is begun");
    let asked = || (step(workflow::CHECK_HOST, "network").next)(&at(&swarm, operation.clone()));
    assert!(matches!(asked(), Next::Do(Effect::CheckNetwork { insist: None, .. })), "{:?}", asked());
    let found = Found {
        code: "SKF-202".into(),
        host: "prod-1".into(),
        from: vec!["prod-2".into()],
        seen: "2377/tcp".into(),
        holds: true,
    };
    let address = swarm.host(2).machine.expect("has one").address;
    let held = Checked { address, findings: vec![found], ..Checked::default() };
    let held = Fact::NetworkChecked(swarm.environment.clone(), swarm.hosts[1].clone(), held);
    swarm.change(|tx| fact::record(tx, &held)).await;
    assert!(matches!(asked(), Next::Turn(why) if why.starts_with("SKF-202: 2377/tcp. ")), "{:?}", asked());
    swarm.host_is(2, |host| host.skip_preflight = true).await;
    assert_eq!(asked(), Next::Done);
}

/// The environment's host with this number has another address, and its node the one before.
async fn moved(swarm: &Swarm, number: usize) -> At {
    swarm
        .host_is(number, |host| {
            let machine = host.machine.as_mut().expect("has one");
            let node = host.membership.as_ref().expect("a node").node.clone();
            host.standing = Some(Standing { node, address: machine.address.clone(), cut_off: false });
            machine.address = "10.90.7.7".into();
        })
        .await;
    at(swarm, swarm.operation(workflow::CREATE_HOST, number))
}

fn moving(name: &str, at: &At) -> Next {
    (step(workflow::MOVE_HOST, name).next)(at)
}

#[tokio::test]
async fn a_host_is_checked_at_its_new_address_before_it_leaves_the_swarm_under_the_old_one() {
    let swarm = Swarm::of(1, 1).await;
    let at = moved(&swarm, 2).await;
    assert!(matches!(moving("remember", &at), Next::Do(Effect::RememberNode { .. })));
    assert!(matches!(moving("network", &at), Next::Do(Effect::CheckNetwork { insist: Some(_), .. })));
    assert_eq!(moving("demote", &at), Next::Done);
    assert!(matches!(moving("leave", &at), Next::Do(Effect::LeaveSwarm { .. })));
    assert_eq!(moving("swarm", &at), Next::Done);
}

#[tokio::test]
async fn a_manager_becomes_a_worker_before_it_leaves_and_the_only_one_begins_the_swarm_anew() {
    let swarm = Swarm::of(3, 0).await;
    let at_three = moved(&swarm, 2).await;
    assert!(is_demotion(&moving("demote", &at_three)));
    assert!(matches!(moving("leave", &at_three), Next::Turn(why) if why.contains("skep env rescue prod")));
    let swarm = Swarm::of(1, 2).await;
    let at_one = moved(&swarm, 1).await;
    let anew = moving("demote", &at_one);
    assert!(matches!(anew, Next::Do(Effect::AdvertiseManager { .. })), "{anew:?}");
    let standing = Standing { node: "node-1".into(), address: "10.90.7.7".into(), cut_off: false };
    let stands = Fact::NodeStands(swarm.environment.clone(), swarm.hosts[0].clone(), standing);
    swarm.change(|tx| fact::record(tx, &stands)).await;
    let at_one = at(&swarm, swarm.operation(workflow::CREATE_HOST, 1));
    for name in ["demote", "leave", "swarm", "node"] {
        assert_eq!(moving(name, &at_one), Next::Done, "{name}");
    }
    assert!(swarm.host(1).moved_at.is_some());
}

#[tokio::test]
async fn a_host_whose_address_another_one_has_as_well_stays_and_says_why() {
    let swarm = Swarm::of(1, 2).await;
    swarm.host_is(3, |host| host.machine.as_mut().expect("has one").address = "10.90.7.7".into()).await;
    let at = moved(&swarm, 2).await;
    assert_eq!(moving("leave", &at), Next::Turn("prod-3 has the same address".into()));
}

/// Somebody who asks for a replacement has a reason; what was begun because the host was down has none any more.
#[tokio::test]
async fn a_replacement_that_nobody_asked_for_is_given_up_when_the_host_is_back() {
    for (reason, is_given_up) in [("host prod-2 is unreachable", true), ("", false)] {
        let swarm = Swarm::of(3, 0).await;
        swarm.silent(2).await;
        let ids = Ids::mint(Uuid::now_v7);
        let (old, place) = (swarm.hosts[1].as_str(), swarm.environment());
        let begin = |tx: &mut Tx<'_>| {
            renewal::replace_lost(tx, &place, old, &ids.successor, ids.operation.clone(), reason).map(drop)
        };
        swarm.change(begin).await;
        let waits = asked(&swarm, workflow::REPLACE_HOST, "new", 2);
        assert!(matches!(waits, Next::Wait(_)), "{waits:?}");
        swarm.host_is(2, |host| host.agent.connected = true).await;
        let next = asked(&swarm, workflow::REPLACE_HOST, "new", 2);
        assert_eq!(matches!(next, Next::Turn(why) if why == "prod-2 is back"), is_given_up, "{reason}");
    }
}

/// Hosts that look for managers that are gone join anew, workers as well; whoever finds the new one stays.
#[tokio::test]
async fn a_restored_swarm_parts_with_the_nodes_that_are_lost_to_it_and_takes_their_hosts_in_again() {
    let swarm = Swarm::of(2, 2).await;
    swarm.silent(1).await;
    swarm.silent(2).await;
    let id = OperationId::new(Uuid::from_u128(200));
    let wish = RestoreWish { environment: "prod", to: "prod-4", replace: false };
    swarm.change(|tx| swarm_state::restore(tx, &wish, id.clone()).map(drop)).await;
    let asked = |name: &str| {
        let stored = swarm.ledger.view().get::<Operation>(skep_model::CLUSTER, id.as_str());
        let operation = stored.expect("reads").expect("is there").record;
        (step(workflow::RESTORE_SWARM, name).next)(&at(&swarm, operation))
    };
    assert!(matches!(asked("restore"), Next::Do(Effect::RestoreSwarm { .. })), "{:?}", asked("restore"));
    swarm.engine_down(4).await;
    assert!(matches!(asked("restore"), Next::Do(Effect::RestoreSwarm { .. })), "its engine starts anew");

    swarm.host_is(4, |host| host.agent.engine_up = true).await;
    let mut seen = swarm.members(2);
    seen.retain(|(host, _)| *host != swarm.hosts[0]);
    for (number, (host, node)) in seen.iter_mut().enumerate() {
        node.ready = *host == swarm.hosts[3];
        node.role = if node.ready { Role::Manager } else { Role::Worker };
        node.node = format!("restored-{number}");
    }
    let facts = [
        Fact::SwarmRestored(swarm.environment.clone(), id.clone()),
        Fact::SwarmSeen(swarm.environment.clone(), "swarm".into(), seen),
    ];
    swarm.change(|tx| facts.iter().try_for_each(|fact| fact::record(tx, fact))).await;
    assert_eq!(asked("restore"), Next::Done);
    for number in [2, 3] {
        match asked("part") {
            Next::Do(Effect::LeaveSwarm { name, .. }) => assert_eq!(name.as_str(), format!("prod-{number}")),
            other => panic!("{other:?}"),
        }
        let left = Fact::LeftSwarm(swarm.environment.clone(), swarm.hosts[number - 1].clone());
        swarm.change(|tx| fact::record(tx, &left)).await;
    }
    assert_eq!(asked("part"), Next::Done);
    swarm.host_is(3, |host| host.skip_preflight = true).await;
    match asked("join") {
        Next::Do(Effect::JoinSwarm { joins, .. }) => {
            let names: Vec<_> = joins.iter().map(|(_, name, _)| name.as_str()).collect();
            assert_eq!(names, ["prod-3"], "the others do not answer");
        }
        other => panic!("{other:?}"),
    }
}
