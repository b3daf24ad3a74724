//! Clients behind a real load balancer notice nothing of a manager that stops as planned, and repeat what a dead one did not answer.

use skep_chaos_tests::balanced::Balanced;

/// Clients at once; each has one request under way.
const CLIENTS: usize = 16;

/// Changes of each client.
const CHANGES_PER_CLIENT: usize = 50;

#[test]
fn a_manager_that_stops_behind_haproxy_fails_no_request_and_one_that_dies_loses_no_change() {
    let mut balanced = Balanced::start(CLIENTS, CHANGES_PER_CLIENT).expect("three managers behind HAProxy");
    balanced.nginx_takes_its_configuration().expect("nginx takes it");

    let leader = balanced.leader().expect("there is one");
    balanced.stop(leader).expect("stops");
    balanced.phase().expect("requests are answered");
    assert_eq!(balanced.failures(), Vec::<String>::new(), "the leader stopped as planned");
    balanced.come_back(leader).expect("comes back");
    balanced.phase().expect("requests are answered");
    assert_eq!(balanced.failures(), Vec::<String>::new(), "it came back");

    let leader = balanced.leader().expect("there is one");
    balanced.managers.kill(leader).expect("is killed");
    balanced.phase().expect("requests are answered");
    let failed = balanced.failures();
    assert!(failed.len() <= CLIENTS, "more than what was under way: {failed:#?}");
    balanced.come_back(leader).expect("comes back");
    balanced.end().expect("what was acknowledged is there, once");
}
