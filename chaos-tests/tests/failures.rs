//! What fails on a host is told apart: its agent, its engine, its whole machine. The state has the right word and reason,
//! the other hosts are not concerned, and the host comes back by itself.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use skep_chaos_tests::lab::{Lab, Wish};

const ENVIRONMENT: &str = "prod";

fn hosts(lab: &Lab) -> Vec<Value> {
    let listed = lab.json(&["host", "ls", "-e", ENVIRONMENT]).expect("lists the hosts");
    listed["items"].as_array().cloned().unwrap_or_default()
}

/// State and reason of every host, by name.
fn states(lab: &Lab) -> Vec<(String, String, String)> {
    let text = |host: &Value, pointer: &str| {
        host.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let listed = hosts(lab);
    let state = |host: &Value| {
        (text(host, "/metadata/name"), text(host, "/status/state"), text(host, "/status/message"))
    };
    listed.iter().map(state).collect()
}

/// Waits until exactly this host is in this state with a reason that says these words, and all others are active.
fn only_this_is_down(lab: &Lab, name: &str, word: &str, said: &str) {
    let begun = Instant::now();
    let mut found = vec![];
    let told = lab.wait_for(&format!("{name} to be {word}: {said}"), || {
        found = states(lab);
        let others_are_well = found.iter().all(|(host, state, _)| host == name || state == "active");
        assert!(others_are_well, "others are concerned: {found:?}");
        let is_so = |(host, state, why): &(String, String, String)| {
            host == name && state == word && why.contains(said)
        };
        Ok(found.iter().any(is_so).then_some(()))
    });
    assert!(told.is_ok(), "{told:?}; last seen: {found:?}");
    println!("{name} is {word} after {:.1} s", begun.elapsed().as_secs_f64());
}

fn all_are_well(lab: &Lab, after: &str) {
    let begun = Instant::now();
    lab.wait_for(&format!("all hosts to be active after {after}"), || {
        Ok(states(lab).iter().all(|(_, state, _)| state == "active").then_some(()))
    })
    .expect("it is well again");
    println!("well again {:.1} s after {after}", begun.elapsed().as_secs_f64());
}

#[test]
fn agent_engine_and_machine_that_are_down_are_told_apart_and_come_back_by_themselves() {
    let lab = Lab::start(&Wish::new("failures", 1, 28_643).expect("a wish")).expect("a manager starts");
    let create = ["env", "create", ENVIRONMENT, "--template", "default", "--hosts", "3", "--driver", "local"];
    lab.succeed(&create).expect("three hosts");
    let listed = hosts(&lab);
    let id = |name: &str| {
        let host = listed.iter().find(|host| host["metadata"]["name"] == name).expect("is listed");
        host["metadata"]["id"].as_str().expect("has an id")
    };

    lab.sigkill_agent(id("prod-1")).expect("an agent is killed");
    only_this_is_down(&lab, "prod-1", "unreachable", "the agent has not been heard since");
    lab.switch_on(id("prod-1")).expect("what does not run is started");
    all_are_well(&lab, "the agent was started");

    lab.signal_engine(id("prod-2"), Signal::SIGSTOP).expect("an engine hangs");
    only_this_is_down(&lab, "prod-2", "engine-down", "did not answer within");
    lab.signal_engine(id("prod-2"), Signal::SIGCONT).expect("it goes on");
    all_are_well(&lab, "the engine went on");

    lab.sigkill_engine(id("prod-2")).expect("an engine is killed");
    only_this_is_down(&lab, "prod-2", "engine-down", "engine down: the agent is connected");
    lab.switch_on(id("prod-2")).expect("what does not run is started");
    all_are_well(&lab, "the engine was started");

    lab.switch_off(id("prod-3")).expect("a machine loses power");
    only_this_is_down(&lab, "prod-3", "failed", "machine is stopped");
    lab.switch_on(id("prod-3")).expect("it has power again");
    all_are_well(&lab, "the machine was switched on");

    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    lab.stop().expect("nothing is left");
}
