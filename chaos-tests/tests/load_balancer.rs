//! Clients behind a real load balancer notice nothing of a manager that stops as planned, and repeat what a dead one did not answer.

use std::net::IpAddr;

use reqwest::Method;
use serde_json::{Value, json};
use skep_chaos_tests::balanced::{Balanced, client};
use skep_chaos_tests::balancer::Balancer;
use skep_chaos_tests::managers::Managers;

/// Clients at once; each has one request under way.
const CLIENTS: usize = 16;

/// Changes of each client.
const CHANGES_PER_CLIENT: usize = 50;

#[test]
fn a_manager_that_stops_behind_haproxy_fails_no_request_and_one_that_dies_loses_no_change() {
    let mut balanced = Balanced::start(CLIENTS, CHANGES_PER_CLIENT).expect("three managers behind HAProxy");

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

#[test]
fn managers_know_where_clients_are_behind_haproxy_and_nginx_that_say_so() {
    let mut managers = Managers::found(1).expect("a manager");
    managers.kill(1).expect("is stopped");
    managers
        .configure(1, "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = \"optional\"")
        .expect("is written");
    managers.start(1).expect("starts");
    let says_who = ["--proxy-protocol"];
    let balancers = [
        ("haproxy", Balancer::haproxy(&managers, &says_who).expect("HAProxy takes its configuration")),
        ("nginx", Balancer::nginx(&managers, &says_who).expect("nginx takes its configuration")),
    ];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for ((name, balancer), last) in balancers.iter().zip([7, 8]) {
        let address = IpAddr::from([127, 0, 0, last]);
        let client = client(&managers).and_then(|client| Ok(client.local_address(address).build()?));
        let client = client.expect("a client");
        let wish = json!({"document": format!("name: by-{name}\nswarm:\n  managers: 1\n")});
        let change = || {
            let url = format!("{}/v1/templates", balancer.url());
            let asked = client.request(Method::POST, url).header("idempotency-key", *name).json(&wish);
            let status = runtime.block_on(async { asked.send().await })?.status();
            Ok((status.as_u16() == 201).then_some(()))
        };
        managers.wait_for(&format!("an answer through {name}"), change).expect("is made");
        let audit = managers.succeed(&["audit", "ls", "-o", "json"]).expect("is listed");
        let audit: Value = serde_json::from_str(&audit).expect("is JSON");
        let made = |entry: &&Value| entry["about"] == format!("by-{name}") && entry["outcome"] == "done";
        let told = audit["items"].as_array().into_iter().flatten().find(made).expect("was told");
        assert_eq!(told["address"], address.to_string(), "{name}: {told}");
    }
}

#[test]
fn the_name_of_a_load_balancer_comes_into_every_certificate_while_managers_run() {
    const NAME: &str = "skep.example.com";
    let managers = Managers::found(3).expect("managers");
    let pids = || [1, 2, 3].map(|number| managers.pid(number).expect("runs"));
    let (before, runtime) = (pids(), tokio::runtime::Runtime::new().expect("a runtime"));
    let trusted = |number: usize| {
        let address = managers.api_address(number).parse()?;
        // A connection of its own each time: what is asked for is the handshake.
        let client = client(&managers)?.resolve(NAME, address).build()?;
        let url = format!("https://{NAME}:{}/v1/meta", address.port());
        runtime.block_on(async { client.get(url).send().await })?;
        Ok(Some(()))
    };
    let stranger = trusted(1).expect_err("nobody knows the name yet");
    assert!(format!("{stranger:?}").contains("not valid for name"), "{stranger:?}");
    managers.succeed(&["cluster", "set-sans", NAME]).expect("is set");
    for number in 1..=3 {
        managers.wait_for(&format!("m{number} to have the name"), || trusted(number)).expect("it has");
    }
    assert_eq!(pids(), before);
}
