//! Roles come to rest, on a way on which the swarm never has too few managers.

use proptest::prelude::*;
use skep_ledger::Ledger as _;
use skep_model::ids::HostId;
use skep_model::name::Name;
use skep_model::testing::Swarm;
use uuid::Uuid;

use super::*;

/// How a host is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Health {
    Well,
    Silent,
    GivenUp,
    /// Its engine answers, and the swarm does not see it.
    SwarmDown,
}

#[derive(Debug, Clone)]
struct Drawn {
    manages: bool,
    zone: Option<u8>,
    role: WishedRole,
    health: Health,
}

/// An environment, and a host of it that is a well manager.
fn sample() -> (Environment, Host) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let swarm = runtime.block_on(Swarm::of(1, 0));
    let hosts = swarm.ledger.view().list::<Host>(swarm.environment.as_str()).expect("reads");
    (swarm.environment(), hosts[0].record.clone())
}

fn draw(sample: &Host, number: usize, drawn: &Drawn) -> Host {
    let mut host = sample.clone();
    host.id = HostId::new(Uuid::from_u128(number as u128));
    host.name = Name::parse("a host", &format!("prod-{number}")).expect("a name");
    host.role = drawn.role;
    host.placement.labels =
        drawn.zone.map(|zone| ("zone".to_owned(), zone.to_string())).into_iter().collect();
    let node = host.membership.as_mut().expect("is a node");
    node.role = if drawn.manages { Role::Manager } else { Role::Worker };
    node.leader = false;
    node.ready = drawn.health == Health::Well;
    host.agent.connected = matches!(drawn.health, Health::Well | Health::SwarmDown);
    host.given_up = (drawn.health == Health::GivenUp).then(|| host.down_since()).flatten();
    host
}

fn any_host() -> impl Strategy<Value = Drawn> {
    let role = prop_oneof![1 => Just(WishedRole::Manager), 4 => Just(WishedRole::Auto), 1 => Just(WishedRole::Worker)];
    let health = prop_oneof![
        8 => Just(Health::Well),
        1 => Just(Health::Silent),
        1 => Just(Health::GivenUp),
        1 => Just(Health::SwarmDown)
    ];
    (any::<bool>(), proptest::option::weighted(0.9, 0..4_u8), role, health)
        .prop_map(|(manages, zone, role, health)| Drawn { manages, zone, role, health })
}

/// Without those that do nothing for their swarm any more.
fn managers(hosts: &[Host]) -> usize {
    hosts.iter().filter(|host| host.is_swarm_manager() && !host.is_given_up()).count()
}

fn well_managers(hosts: &[Host]) -> usize {
    hosts.iter().filter(|host| host.is_swarm_manager() && host.is_active()).count()
}

/// Does what is next until nothing is; how many changes that were.
fn settle(environment: &Environment, hosts: &mut [Host]) -> usize {
    let wanted = usize::from(environment.swarm_managers);
    let before = (managers(hosts).min(wanted), well_managers(hosts).min(wanted));
    let changes_max = 3 * hosts.len() + 1;
    for count in 0..changes_max {
        let (id, role) = match next(environment, hosts) {
            Roles::Change(host, role, why) => {
                assert!(!why.is_empty());
                (host.id.clone(), role)
            }
            Roles::Settling | Roles::AsWished => return count,
        };
        let host = hosts.iter_mut().find(|host| host.id == id).expect("is one of them");
        host.membership.as_mut().expect("is a node").role = role;
        assert!(managers(hosts) >= before.0, "fewer managers than wanted on the way");
        assert!(well_managers(hosts) >= before.1, "fewer managers that do their part than before");
    }
    panic!("no rest after {changes_max} changes: {hosts:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn roles_come_to_rest_and_are_spread_as_evenly_as_the_hosts_allow(
        drawn in proptest::collection::vec(any_host(), 1..12),
        wanted in prop_oneof![Just(1_u8), Just(3), Just(5), Just(7)],
        spread in any::<bool>(),
    ) {
        thread_local! { static SAMPLE: (Environment, Host) = sample(); }
        let (environment, mut hosts) = SAMPLE.with(|(environment, host)| {
            let mut environment = environment.clone();
            environment.swarm_managers = wanted;
            environment.spread_over = spread.then(|| "zone".to_owned());
            let hosts: Vec<Host> =
                drawn.iter().zip(1..).map(|(drawn, number)| draw(host, number, drawn)).collect();
            (environment, hosts)
        });
        settle(&environment, &mut hosts);
        prop_assert_eq!(settle(&environment, &mut hosts), 0, "what has come to rest stays");
        let board = Board::of(&environment, &hosts);
        let all_well = board.managers.iter().all(|host| host.is_active());
        for (heir, manager) in board.heirs.iter().flat_map(|heir| board.managers.iter().map(move |other| (heir, other))) {
            prop_assert!(manager.role <= heir.role || !all_well, "{} should be one instead of {}", heir.name, manager.name);
            let crowded = |host: &Host| crowd(&board.label, &board.managers, host);
            let uneven = manager.role == heir.role && crowded(manager) > crowded(heir) + 1;
            prop_assert!(!uneven || !all_well, "{} and {} are not spread", heir.name, manager.name);
        }
        if all_well && board.heir().is_some() {
            prop_assert_eq!(board.managers.len(), usize::from(wanted));
        }
    }
}

/// Hosts in these zones, the first of them managers.
fn placed(managers: usize, zones: &[u8]) -> (Environment, Vec<Host>) {
    let (mut environment, sample) = sample();
    environment.swarm_managers = 3;
    environment.spread_over = Some("zone".into());
    let hosts = zones.iter().zip(1..).map(|(zone, number)| {
        let manages = number <= managers;
        let drawn = Drawn { manages, zone: Some(*zone), role: WishedRole::Auto, health: Health::Well };
        draw(&sample, number, &drawn)
    });
    (environment, hosts.collect())
}

#[test]
fn managers_in_one_zone_are_spread_by_as_few_changes_as_it_takes() {
    let (environment, mut hosts) = placed(3, &[1, 1, 1, 2, 2, 3]);
    assert_eq!(settle(&environment, &mut hosts), 4, "two are promoted and two demoted");
    let zones: Vec<_> = hosts
        .iter()
        .filter(|host| host.is_swarm_manager())
        .map(|host| host.placement.labels["zone"].as_str())
        .collect();
    assert_eq!(zones, ["1", "2", "3"]);
}

#[test]
fn where_a_manager_is_down_nothing_is_spread() {
    let (environment, mut hosts) = placed(3, &[1, 1, 1, 2]);
    hosts[2].agent.connected = false;
    assert!(matches!(next(&environment, &hosts), Roles::AsWished));
}

/// Whoever was just promoted is not a member of the managers' quorum yet.
#[test]
fn nobody_is_demoted_before_the_one_that_was_promoted_does_its_part() {
    let (environment, mut hosts) = placed(4, &[1, 1, 1, 2]);
    hosts[3].membership.as_mut().expect("is a node").ready = false;
    assert!(matches!(next(&environment, &hosts), Roles::Settling));
    hosts[3].membership.as_mut().expect("is a node").ready = true;
    assert!(matches!(next(&environment, &hosts), Roles::Change(_, Role::Worker, _)));
}

#[test]
fn a_lost_manager_is_replaced_only_after_a_while_and_only_if_it_is_not_the_network() {
    let (environment, mut hosts) = placed(3, &[1, 2, 3, 3]);
    hosts[0].agent.connected = false;
    let since = hosts[0].down_since().expect("is down");
    let after = |secs: i64| since + SignedDuration::from_secs(secs);
    let lost = |environment: &Environment, hosts: &[Host], secs| {
        lost_manager(environment, hosts, after(secs)).map(|(host, _)| host.name.to_string())
    };
    assert_eq!(lost(&environment, &hosts, 299), None);
    assert_eq!(lost(&environment, &hosts, 300).as_deref(), Some("prod-1"));

    let mut never = environment.clone();
    never.upkeep.manager_patience_secs = 0;
    assert_eq!(lost(&never, &hosts, 9_999), None, "whoever says 0 means never");

    let mut no_quorum = environment.clone();
    no_quorum.swarm.as_mut().expect("a swarm").quorum_lost = Some(since);
    assert_eq!(lost(&no_quorum, &hosts, 9_999), None, "nobody could agree");

    let mut no_heir = hosts.clone();
    no_heir[3].role = WishedRole::Worker;
    assert_eq!(lost(&environment, &no_heir, 9_999), None, "nobody could stand in");

    hosts[3].agent.connected = false;
    assert_eq!(lost(&environment, &hosts, 9_999), None, "half of the hosts are away");
}

#[test]
fn a_given_up_manager_is_replaced_it_demoted_then_one_promoted_and_nothing_more() {
    let (environment, mut hosts) = placed(3, &[1, 2, 3, 1, 2]);
    hosts[0].agent.connected = false;
    assert_eq!(settle(&environment, &mut hosts), 0, "it is not given up yet");
    hosts[0].given_up = hosts[0].down_since();
    match next(&environment, &hosts) {
        Roles::Change(host, Role::Worker, _) => assert_eq!(host.name.as_str(), "prod-1"),
        other => {
            panic!("one that is promoted first may not get up, and two of four are no quorum: {other:?}")
        }
    }
    assert_eq!(settle(&environment, &mut hosts), 2);
    let managers: Vec<_> =
        hosts.iter().filter(|host| host.is_swarm_manager()).map(|host| host.name.as_str()).collect();
    assert_eq!(managers, ["prod-2", "prod-3", "prod-4"], "the heir is of the zone of the lost one");
}
