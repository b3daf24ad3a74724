//! What planners start, and above all what they do not start again.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use skep_ledger::{Ledger, MemoryLedger};
use skep_model::environment::{self, Environment};
use skep_model::fact::{self, Fact};
use skep_model::host::moving::{Known, MOVES_APART, Standing};
use skep_model::host::{self, Host, Role, WishedRole};
use skep_model::ids::{EnvironmentId, HostId, OperationId, StackId};
use skep_model::name::Name;
use skep_model::operation::{self, Active, Operation, Rest, workflow};
use skep_model::preflight::{Checked, Found, Preflight};
use skep_model::sealed::Sealed;
use skep_model::stack::{self, ServiceSeen, Stack, StackWish};
use skep_model::testing::Swarm;
use skep_model::{CLUSTER, swarm_keys};
use skep_scheduler::plan::{self, Decision, Ids, Picture};
use uuid::Uuid;

/// Four hosts in one swarm, three of them managers; the agent of one manager is gone.
async fn a_swarm_with_a_silent_manager() -> Swarm {
    let swarm = Swarm::of(3, 1).await;
    swarm.silent(2).await;
    swarm
}

fn decided(ledger: &MemoryLedger) -> Vec<Decision> {
    let picture = Picture::of(ledger.view(), ledger.now()).expect("reads");
    plan::decide(&picture).expect("decides")
}

fn ids(first: u128) -> Ids {
    let mut next = first..;
    Ids::mint(|| Uuid::from_u128(next.next().expect("there are enough")))
}

#[tokio::test]
async fn a_silent_manager_is_still_a_manager_and_starts_nothing() {
    let swarm = a_swarm_with_a_silent_manager().await;
    assert_eq!(decided(&swarm.ledger), []);
}

/// `form-swarm` would wait for it in vain, again and again. What is seen of the swarm tells when it is back.
/// Whoever rescues or restores the swarm need not wait for attempts that lead nowhere.
#[tokio::test]
async fn nothing_is_begun_while_no_manager_of_the_swarm_answers() {
    let swarm = Swarm::of(1, 2).await;
    swarm.host_is(3, |host| (host.membership, host.skip_preflight) = (None, true)).await;
    assert_eq!(decided(&swarm.ledger)[0].workflow, workflow::FORM_SWARM);
    swarm.silent(1).await;
    assert_eq!(decided(&swarm.ledger), []);
}

#[tokio::test]
async fn a_node_that_was_ready_and_is_down_starts_nothing() {
    let swarm = a_swarm_with_a_silent_manager().await;
    swarm.seen(|_, node| node.ready = node.role == Role::Manager).await;
    assert_eq!(decided(&swarm.ledger), []);
}

#[tokio::test]
async fn a_host_that_is_meant_to_be_a_manager_takes_the_place_of_one_that_is_not() {
    let swarm = Swarm::of(3, 1).await;
    swarm.host_is(4, |host| host.role = WishedRole::Manager).await;
    let decided = decided(&swarm.ledger);
    assert_eq!(decided.len(), 1, "{decided:?}");
    assert_eq!(decided[0].workflow, workflow::FORM_SWARM);
    assert_eq!(
        decided[0].why,
        "host prod-4 should be a manager of the swarm: it is rather meant to be one than prod-3"
    );
}

/// With nothing new, what has failed is tried more and more seldom; something new is taken up soon.
#[tokio::test]
async fn a_host_that_cannot_join_does_not_fill_the_history_and_keeps_nobody_waiting() {
    let swarm = Swarm::of(1, 0).await;
    let refused = |times: u32, error: &'static str| {
        let (swarm, subject) = (&swarm, skep_model::environment::swarm(&swarm.environment()).index());
        async move {
            swarm
                .host_is(1, |host| {
                    host.membership = None;
                    host.join_error = error.into();
                })
                .await;
            swarm
                .change(|tx| {
                    let since = tx.now();
                    tx.put(&Rest {
                        subject: subject.clone(),
                        since,
                        cancelled: false,
                        times,
                        operation: None,
                        why: error.to_owned(),
                    });
                    Ok(())
                })
                .await;
        }
    };
    let after = |seconds: i64| swarm.ledger.set_now(swarm.ledger.now() + SignedDuration::from_secs(seconds));
    refused(3, "port 2377 is closed").await;
    after(31);
    assert_eq!(decided(&swarm.ledger), []);
    after(210);
    assert_eq!(decided(&swarm.ledger).len(), 1, "30 s, doubled three times");
    refused(3, "").await;
    after(31);
    assert_eq!(decided(&swarm.ledger).len(), 1, "a host that has not been tried yet");
}

#[tokio::test]
async fn a_manager_that_was_lost_for_long_is_replaced_and_the_operation_says_why() {
    let swarm = a_swarm_with_a_silent_manager().await;
    let later = swarm.ledger.now() + SignedDuration::from_secs(300);
    swarm.ledger.set_now(later);
    let decided = decided(&swarm.ledger);
    assert_eq!(decided.len(), 1, "{decided:?}");
    assert_eq!(decided[0].workflow, workflow::FORM_SWARM);
    let why = &decided[0].why;
    assert!(why.starts_with("host prod-2, a manager of the swarm, is unreachable since "), "{why}");
    let ids = ids(200);
    swarm.change(|tx| plan::begin(tx, &decided[0], &ids)).await;
    let begun = swarm.ledger.view().get::<Operation>(skep_model::CLUSTER, ids.operation.as_str());
    assert_eq!(&begun.expect("reads").expect("was begun").reason, why);

    // The decision is of this absence: when the host has been back, it is to be decided anew.
    let given_up = |swarm: &Swarm| {
        let hosts = swarm.ledger.view().list_all::<Host>().expect("reads");
        hosts.iter().filter(|host| host.is_given_up()).map(|host| host.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(given_up(&swarm), ["prod-2"]);
    let lost = swarm.hosts[1].as_str();
    swarm.change(|tx| host::reported(tx, lost, "m1", "s2", None, Ok(()))).await;
    assert_eq!(given_up(&swarm), [""; 0]);
    swarm.change(|tx| host::disconnected(tx, lost, "s2")).await;
    assert_eq!(given_up(&swarm), [""; 0]);
}

#[tokio::test]
async fn managers_in_one_zone_are_spread_when_somebody_wishes_it() {
    let swarm = Swarm::of(3, 2).await;
    for (number, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")] {
        swarm.host_is(number, |host| drop(host.placement.labels.insert("zone".into(), zone.into()))).await;
    }
    assert_eq!(decided(&swarm.ledger), []);
    updated(&swarm, environment::Change { spread_over: Some(Some("zone".into())), ..Default::default() })
        .await;
    let decided = decided(&swarm.ledger);
    assert_eq!(decided.len(), 1, "{decided:?}");
    let why = "host prod-5 should be a manager of the swarm: managers are spread over zone, and where prod-2 is there are more";
    assert_eq!(decided[0].why, why);
}

/// A stack whose services all run.
async fn with_a_stack(swarm: &Swarm) {
    let wish = StackWish {
        id: StackId::new(uuid::Uuid::from_u128(300)),
        operation: OperationId::new(uuid::Uuid::from_u128(301)),
        name: "shop".into(),
        document: "services: {web: {image: busybox}}".into(),
        variables: Default::default(),
    };
    let (environment, name) = (swarm.environment.clone(), Name::parse("a stack", "shop").expect("a name"));
    let web = ServiceSeen {
        name: "web".into(),
        running: 1,
        desired: 1,
        updating: false,
        error: String::new(),
        failed: String::new(),
    };
    swarm
        .change(|tx| {
            let deployed = stack::deploy(tx, "prod", &wish)?;
            let made = Fact::StackServicesMade(environment.clone(), name.clone(), 1, Default::default());
            fact::record(tx, &made)?;
            fact::record(tx, &Fact::StackSeen(environment.clone(), name.clone(), 1, vec![web.clone()]))?;
            ended(tx, deployed.id.as_str())
        })
        .await;
}

/// An operation has come to its end.
fn ended(tx: &mut skep_ledger::Tx<'_>, id: &str) -> skep_model::Ruling<()> {
    let mut operation = tx.get::<Operation>(skep_model::CLUSTER, id)?.expect("was begun").record;
    operation.prepare(["it"].into_iter());
    operation.advance(tx.now());
    operation::save(tx, &operation)
}

/// Something is wished anew for the environment, by an operation that has come to its end without having changed the swarm.
async fn updated(swarm: &Swarm, change: environment::Change) {
    let id = OperationId::new(uuid::Uuid::from_u128(400));
    swarm
        .change(|tx| {
            environment::update(tx, "prod", &change, id.clone())?;
            ended(tx, id.as_str())
        })
        .await;
}

/// The test's environment begins with operations of its own that nobody carries out.
async fn nobody_works(swarm: &Swarm) {
    let active = swarm.ledger.view().list::<Active>(skep_model::CLUSTER).expect("reads");
    swarm.change(|tx| active.iter().try_for_each(|active| ended(tx, active.operation.as_str()))).await;
}

#[tokio::test]
async fn tasks_are_moved_once_for_a_host_that_has_joined_if_that_is_wished_and_all_is_calm() {
    let swarm = Swarm::of(3, 1).await;
    nobody_works(&swarm).await;
    with_a_stack(&swarm).await;
    let after = |seconds: i64| swarm.ledger.set_now(swarm.ledger.now() + SignedDuration::from_secs(seconds));
    after(3_600);
    assert_eq!(decided(&swarm.ledger), [], "it is off unless somebody wishes it");
    updated(&swarm, environment::Change { rebalance: Some(true), ..Default::default() }).await;
    after(60);
    assert_eq!(decided(&swarm.ledger), [], "whoever was there is no reason");

    let now = swarm.ledger.now();
    swarm.host_is(4, |host| host.node_since = Some(now)).await;
    after(29);
    assert_eq!(decided(&swarm.ledger), [], "Docker has its own to do first");
    after(1);
    let begun = decided(&swarm.ledger);
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_eq!(
        begun[0].to_string(),
        "rebalance-swarm for tasks/prod: host prod-4 has joined since tasks were last spread"
    );

    swarm.host_is(2, |host| host.agent.engine_up = false).await;
    let moves = |decision: &Decision| decision.workflow == workflow::REBALANCE_SWARM;
    assert!(!decided(&swarm.ledger).iter().any(moves), "not while a host is not well");
    swarm.host_is(2, |host| host.agent.engine_up = true).await;
    let stack = swarm.ledger.view().list_all::<Stack>().expect("reads")[0].id.to_string();
    let operation = OperationId::new(uuid::Uuid::from_u128(9));
    let deploys = Active { subject: format!("stack/{stack}"), operation, queue: vec![] };
    swarm
        .change(|tx| {
            tx.put(&deploys);
            Ok(())
        })
        .await;
    assert_eq!(decided(&swarm.ledger), [], "not while something is deployed");
    swarm
        .change(|tx| {
            tx.delete::<Active>(skep_model::CLUSTER, &deploys.subject);
            Ok(())
        })
        .await;

    let ids = ids(200);
    swarm.change(|tx| plan::begin(tx, &begun[0], &ids)).await;
    swarm.change(|tx| ended(tx, ids.operation.as_str())).await;
    after(3_600);
    assert_eq!(decided(&swarm.ledger), [], "once is enough for one join");
}

/// What an earlier pass has read only spares reading: whatever has changed since is seen, and nothing else is decided.
#[tokio::test]
async fn a_pass_that_knows_what_the_one_before_has_read_decides_like_one_that_does_not() {
    let swarm = Swarm::of(3, 1).await;
    let before = Picture::of(swarm.ledger.view(), swarm.ledger.now()).expect("reads").into_known();
    let again = |known| {
        let picture = Picture::after(known, swarm.ledger.view(), swarm.ledger.now()).expect("reads");
        (plan::decide(&picture).expect("decides"), picture.into_known())
    };
    let (decisions, before) = again(&before);
    assert_eq!(decisions, []);
    swarm.host_is(4, |host| host.role = WishedRole::Manager).await;
    let (decisions, before) = again(&before);
    assert_eq!((decisions.len(), decisions.clone()), (1, decided(&swarm.ledger)));
    let ids = ids(300);
    swarm.change(|tx| plan::begin(tx, &decisions[0], &ids)).await;
    let (decisions, before) = again(&before);
    assert_eq!(decisions, [], "somebody is at it");
    swarm.change(|tx| ended(tx, ids.operation.as_str())).await;
    let (decisions, before) = again(&before);
    assert_eq!(decisions.len(), 1, "nobody is any more");
    swarm.host_is(4, |host| host.role = WishedRole::Auto).await;
    assert_eq!(again(&before).0, []);
}

#[tokio::test]
async fn in_two_hundred_environments_no_host_waits_for_a_second_pass() {
    const ENVIRONMENTS: u128 = 200;
    let swarm = Swarm::of(1, 0).await;
    let hosts = swarm.ledger.view().list::<Host>(swarm.environment.as_str()).expect("reads");
    for number in 1_000..1_000 + ENVIRONMENTS {
        let id = EnvironmentId::new(Uuid::from_u128(number));
        let environment = Environment { id: id.clone(), ..swarm.environment() };
        let mut host = hosts[0].record.clone();
        (host.id, host.environment, host.membership) = (HostId::new(Uuid::from_u128(number)), id, None);
        swarm
            .change(|tx| {
                tx.put(&environment);
                tx.put(&host);
                Ok(())
            })
            .await;
    }
    let decided = decided(&swarm.ledger);
    let places: BTreeSet<&EnvironmentId> = decided.iter().map(|decision| &decision.environment).collect();
    assert_eq!(places.len() as u128, ENVIRONMENTS);
    assert!(decided.iter().all(|decision| decision.workflow == workflow::FORM_SWARM), "{decided:?}");
}

/// The unlock key is given without being asked for; and a swarm whose managers are all locked is not taken for one that can
/// be changed.
#[tokio::test]
async fn engines_that_wait_for_the_unlock_key_get_it_and_nothing_else_is_begun_meanwhile() {
    let swarm = Swarm::of(3, 1).await;
    for number in 1..=3 {
        swarm.host_is(number, |host| host.swarm_locked = true).await;
    }
    assert_eq!(decided(&swarm.ledger), [], "nobody has a key");
    let keys = swarm_keys::Change { autolock: Some(true), ..Default::default() };
    let lock = environment::Change { keys, ..Default::default() };
    let (environment, sealed) = (swarm.environment.clone(), Sealed::new(vec![1]));
    swarm
        .change(|tx| {
            let operation = environment::update(tx, "prod", &lock, OperationId::new(Uuid::now_v7()))?;
            tx.delete::<Active>(CLUSTER, &operation.subject.index());
            fact::record(tx, &Fact::SwarmSettingsApplied(environment.clone(), 0, Some(sealed.clone())))
        })
        .await;
    let decided = decided(&swarm.ledger);
    let workflows: Vec<_> = decided.iter().map(|decision| decision.workflow).collect();
    assert_eq!(workflows, [workflow::UNLOCK_SWARM], "{decided:?}");
    assert!(decided[0].why.contains("prod-1"), "{decided:?}");
}

#[tokio::test]
async fn a_swarm_gets_what_was_wished_for_it_before_it_was_there() {
    let swarm = Swarm::of(3, 0).await;
    let keys = swarm_keys::Change { autolock: Some(true), ..Default::default() };
    let lock = environment::Change { keys, ..Default::default() };
    swarm
        .change(|tx| {
            let operation = environment::update(tx, "prod", &lock, OperationId::new(Uuid::now_v7()))?;
            tx.delete::<Active>(CLUSTER, &operation.subject.index());
            Ok(())
        })
        .await;
    let decided = decided(&swarm.ledger);
    assert_eq!(
        decided.iter().map(|decision| decision.workflow).collect::<Vec<_>>(),
        [workflow::UPDATE_SWARM]
    );
}

fn blocked(address: &str) -> Preflight {
    let found = Found {
        code: "SKF-202".into(),
        host: "prod-1".into(),
        from: vec!["prod-2".into()],
        seen: "2377/tcp".into(),
        holds: true,
    };
    let checked = Checked { address: address.into(), findings: vec![found], ..Checked::default() };
    Preflight { at: Timestamp::UNIX_EPOCH, checked }
}

/// It would be a node that is down. Somebody opens the port some time, so it is looked at again, more and more seldom.
#[tokio::test]
async fn a_host_that_is_held_back_is_not_joined_but_checked_again() {
    let swarm = Swarm::of(1, 1).await;
    let address = swarm.host(2).machine.expect("has one").address;
    let outside = async |preflight: Option<Preflight>, was_ready: bool| {
        swarm
            .host_is(2, |host| {
                (host.membership, host.was_ready) = (None, was_ready);
                host.preflight = preflight.clone();
            })
            .await;
        let subject = host::subject(&swarm.host(2)).index();
        swarm
            .change(|tx| {
                tx.delete::<Active>(CLUSTER, &subject);
                Ok(())
            })
            .await;
    };
    let started = || decided(&swarm.ledger).into_iter().map(|decision| decision.workflow).collect::<Vec<_>>();
    outside(Some(blocked(&address)), false).await;
    assert_eq!(started(), [workflow::CHECK_HOST]);
    outside(None, false).await;
    assert_eq!(started(), [workflow::CHECK_HOST], "nobody has looked yet");
    outside(Some(blocked("10.90.0.99")), true).await;
    assert_eq!(started(), [workflow::CHECK_HOST], "it has another address now");
    swarm.host_is(2, |host| host.skip_preflight = true).await;
    assert_eq!(started(), [workflow::FORM_SWARM], "a person lets it in");
    swarm.host_is(2, |host| host.skip_preflight = false).await;
    outside(
        Some(Preflight {
            checked: Checked { address: address.clone(), ..Checked::default() },
            ..blocked("")
        }),
        false,
    )
    .await;
    assert_eq!(started(), [workflow::FORM_SWARM], "it passes");
    outside(None, true).await;
    assert_eq!(started(), [workflow::FORM_SWARM], "it has been a node before");
}

/// Its node stands under the address that the machine had before.
async fn moves(swarm: &Swarm, number: usize, address: &str) {
    swarm
        .host_is(number, |host| {
            let machine = host.machine.as_mut().expect("has one");
            let node = host.membership.as_ref().expect("a node").node.clone();
            host.standing = Some(Standing { node, address: machine.address.clone(), cut_off: false });
            machine.address = address.into();
        })
        .await;
    let subject = host::subject(&swarm.host(number)).index();
    swarm
        .change(|tx| {
            tx.delete::<Active>(CLUSTER, &subject);
            Ok(())
        })
        .await;
}

fn moved(swarm: &Swarm) -> Vec<String> {
    let decided = decided(&swarm.ledger);
    assert!(decided.iter().all(|decision| decision.workflow == workflow::MOVE_HOST), "{decided:?}");
    decided.into_iter().map(|decision| decision.subject.name).collect()
}

#[tokio::test]
async fn managers_move_one_after_the_other_and_workers_when_they_have_all_moved() {
    let swarm = Swarm::of(3, 2).await;
    for number in [1, 3, 4, 5] {
        moves(&swarm, number, &format!("10.90.7.{number}")).await;
    }
    assert_eq!(moved(&swarm), ["prod-1"]);
    let begin = decided(&swarm.ledger).remove(0);
    swarm.change(|tx| plan::begin(tx, &begin, &ids(77))).await;
    let known = Known {
        node: "node-1".into(),
        role: Role::Manager,
        availability: Default::default(),
        labels: Default::default(),
    };
    let fact = Fact::NodeRemembered(swarm.environment.clone(), swarm.hosts[0].clone(), known);
    swarm.change(|tx| fact::record(tx, &fact)).await;
    assert_eq!(moved(&swarm), Vec::<String>::new(), "one manager is on its way");
    for number in [1, 3] {
        swarm.host_is(number, |host| (host.standing, host.remembered) = (None, None)).await;
    }
    assert_eq!(moved(&swarm), ["prod-4", "prod-5"]);
}

#[tokio::test]
async fn an_address_that_comes_and_goes_moves_its_host_every_few_minutes_at_most() {
    let swarm = Swarm::of(3, 1).await;
    moves(&swarm, 4, "10.90.7.4").await;
    assert_eq!(moved(&swarm), ["prod-4"]);
    let now = swarm.ledger.now();
    swarm.host_is(4, |host| host.moved_at = Some(now)).await;
    assert_eq!(moved(&swarm), Vec::<String>::new());
    swarm.ledger.set_now(now + MOVES_APART + SignedDuration::from_secs(1));
    assert_eq!(moved(&swarm), ["prod-4"]);
}

/// Two machines that swap their addresses tell it one after the other; two that really have the same stay where they are.
#[tokio::test]
async fn hosts_that_share_an_address_stay_until_they_do_not() {
    let swarm = Swarm::of(3, 2).await;
    let (fourth, fifth) = ("10.90.0.4", "10.90.0.5");
    moves(&swarm, 4, fifth).await;
    assert_eq!(moved(&swarm), Vec::<String>::new());
    moves(&swarm, 5, fourth).await;
    assert_eq!(moved(&swarm), ["prod-4", "prod-5"]);
}

#[tokio::test]
async fn the_place_of_a_manager_that_joins_anew_is_not_given_away() {
    let swarm = Swarm::of(3, 1).await;
    let known = Known {
        node: "node-2".into(),
        role: Role::Manager,
        availability: Default::default(),
        labels: Default::default(),
    };
    let facts = [
        Fact::NodeRemembered(swarm.environment.clone(), swarm.hosts[1].clone(), known),
        Fact::LeftSwarm(swarm.environment.clone(), swarm.hosts[1].clone()),
    ];
    swarm.change(|tx| facts.iter().try_for_each(|fact| fact::record(tx, fact))).await;
    let decided = decided(&swarm.ledger);
    assert_eq!(decided.len(), 1, "{decided:?}");
    assert_eq!(decided[0].why, "host prod-2 is ready and in no swarm", "prod-4 is not promoted");
}

fn replacements(swarm: &Swarm) -> Vec<Decision> {
    let mut decided = decided(&swarm.ledger);
    decided.retain(|decision| decision.workflow == workflow::REPLACE_HOST);
    decided
}

/// Which hosts a planner would give a new machine.
fn replaced(swarm: &Swarm) -> Vec<String> {
    replacements(swarm).into_iter().map(|decision| decision.subject.name).collect()
}

/// Nobody works on them, and they are replaced when they are down for so long.
async fn hosts_are_replaced_after(swarm: &Swarm, secs: u32) {
    let environment = swarm.environment();
    swarm
        .change(|tx| {
            let mut environment = environment.clone();
            environment.upkeep.host_patience_secs = secs;
            tx.put(&environment);
            for active in tx.list::<Active>(CLUSTER)? {
                tx.delete::<Active>(CLUSTER, &active.subject);
            }
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn a_host_that_is_down_for_too_long_gets_a_new_machine_only_where_that_is_wished() {
    let swarm = Swarm::of(3, 2).await;
    swarm.silent(4).await;
    let since = swarm.ledger.now();
    let after = |secs| swarm.ledger.set_now(since + SignedDuration::from_secs(secs));
    after(24 * 3_600);
    assert_eq!(replaced(&swarm), Vec::<String>::new(), "nobody has wished for it");
    hosts_are_replaced_after(&swarm, 600).await;
    after(599);
    assert_eq!(replaced(&swarm), Vec::<String>::new(), "it may come back");
    after(600);
    assert_eq!(replaced(&swarm), ["prod-4"]);

    swarm.host_is(4, |host| host.driver = None).await;
    assert_eq!(replaced(&swarm), Vec::<String>::new(), "nobody knows how to make a machine like it");
    swarm.host_is(4, |host| host.driver = Some("local".into())).await;
    swarm.host_is(4, |host| host.swarm_locked = true).await;
    assert_eq!(replaced(&swarm), Vec::<String>::new(), "it waits for a key");
    swarm.host_is(4, |host| host.swarm_locked = false).await;

    let decision = replacements(&swarm).remove(0);
    assert!(decision.why.starts_with("host prod-4 is unreachable since "), "{}", decision.why);
    let ids = ids(500);
    swarm.change(|tx| plan::begin(tx, &decision, &ids)).await;
    let begun = swarm.operation(workflow::REPLACE_HOST, 4);
    assert_eq!((&begun.id, &begun.reason), (&ids.operation, &decision.why));
    let place = swarm.environment.as_str();
    let new = swarm.ledger.view().get::<Host>(place, ids.successor.host.as_str()).expect("reads");
    assert_eq!(new.expect("is being made").replaces.as_ref(), Some(&swarm.hosts[3]));

    swarm.silent(5).await;
    after(1_300);
    assert_eq!(replaced(&swarm), Vec::<String>::new(), "one after the other");
}

/// More machines would not help hosts that are all cut off; and a decision that is late buys nothing.
#[tokio::test]
async fn no_machine_is_made_while_most_hosts_are_ill_or_for_one_that_is_back() {
    let swarm = Swarm::of(1, 3).await;
    hosts_are_replaced_after(&swarm, 10).await;
    for number in [2, 3] {
        swarm.silent(number).await;
    }
    swarm.ledger.set_now(swarm.ledger.now() + SignedDuration::from_secs(60));
    assert_eq!(replaced(&swarm), Vec::<String>::new(), "half of them");
    swarm.host_is(3, |host| host.agent.connected = true).await;
    let decision = replacements(&swarm).remove(0);
    assert_eq!(decision.subject.name, "prod-2");
    swarm.host_is(2, |host| host.agent.connected = true).await;
    swarm.change(|tx| plan::begin(tx, &decision, &ids(500))).await;
    let hosts = swarm.ledger.view().list_all::<Host>().expect("reads");
    assert_eq!(hosts.len(), 4, "it is back, and no host was made in its place");
}
