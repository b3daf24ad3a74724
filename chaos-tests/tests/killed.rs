//! Leaders, engines and agents killed while something is being done, with real engines: it is done, once.
//!
//! Every step of every workflow is `make chaos-hosts`, which takes an hour. Here one of each kind: making, changing,
//! removing, bringing back, and a removal that is only brought to its end later.

use serde_json::Value;
use skep_chaos_tests::lab::{Lab, Wish};
use skep_chaos_tests::life::{Life, STAGES};
use skep_chaos_tests::machine_part::Part;
use skep_chaos_tests::steps::{self, Place};

/// Stage, workflow, step.
const KILLS: &[(&str, &str, &str)] = &[
    ("an environment with five hosts", "form-swarm", "join"),
    ("a sixth host", "create-host", "machine"),
    ("a swarm manager removed", "remove-host", "leave"),
    ("the swarm restored after all managers were lost", "restore-swarm", "join"),
    ("a machine that its driver cannot remove at first", "release-machine", "machine"),
    ("nothing is left", "remove-environment", "hosts"),
];

#[test]
fn a_leader_killed_while_hosts_join_leave_or_go_leaves_nothing_undone_and_nothing_twice() {
    let lab = Lab::start(&Wish::new("steps", 3, 28_643).expect("a wish")).expect("three managers start");
    let mut life = Life::new(&lab).expect("a folder");
    for (title, workflow, step) in KILLS {
        let stage = STAGES.iter().find(|stage| stage.title == *title).expect("there is such a stage");
        let place = Place::new(*workflow, *step);
        let killed = life.live(stage, |begun| *begun == place).unwrap_or_else(|error| panic!("{error:#}"));
        let killed = killed.unwrap_or_else(|| panic!("'{title}' never came to {place}"));
        println!("{title}: {killed}");
    }
    lab.stop().expect("nothing is left");
}

fn making(lab: &Lab, name: &str) -> Value {
    let target = format!("host/{name}");
    let mut all = steps::operations(lab).expect("lists the operations");
    all.retain(|operation| operation["type"] == "create-host" && operation["target"] == *target);
    assert_eq!(all.len(), 1, "one operation makes {name}: {all:?}");
    all.remove(0)
}

#[test]
fn a_host_whose_engine_or_agent_dies_while_it_is_made_says_so_and_is_made_once() {
    let lab = Lab::start(&Wish::new("parts", 1, 28_743).expect("a wish")).expect("a manager starts");
    lab.succeed(&["env", "create", "prod", "--template", "single", "--hosts", "1", "--driver", "local"])
        .expect("a swarm of one host");
    for (name, part, said) in [("engine", Part::Engine, "engine"), ("agent", Part::Agent, "agent")] {
        let started = lab
            .succeed(&["host", "create", name, "--driver", "local", "-e", "prod", "--detach"])
            .unwrap_or_else(|error| panic!("{error:#}"));
        let listed = lab.json(&["host", "ls", "-e", "prod"]).expect("lists the hosts");
        let host =
            listed["items"].as_array().into_iter().flatten().find(|host| host["metadata"]["name"] == name);
        let id = host.and_then(|host| host["metadata"]["id"].as_str()).unwrap_or_else(|| panic!("{started}"));
        let running = lab.wait_for("the process", || lab.on_host(id, part)).expect("it is started");
        let again = running.kill().expect("is killed");
        lab.wait_for("the operation to say what it waits for", || {
            let making = making(&lab, name);
            assert!(making["ended_at"].is_null(), "it has ended: {}", steps::told(&making));
            let message = making["message"].as_str().unwrap_or_default();
            Ok((making["state"] == "waiting" && message.contains(said)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {}", steps::told(&making(&lab, name))));
        lab.wait_for("the host to be made", || {
            // As a supervisor: an engine that comes too early for what the one before has left behind ends once more.
            if lab.on_host(id, part)?.is_none() {
                again.start()?;
            }
            Ok((making(&lab, name)["state"] == "succeeded").then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {}", steps::told(&making(&lab, name))));
    }
    assert_eq!((lab.engines(), lab.agents(), lab.namespaces()), (3, 3, 3));
    lab.succeed(&["env", "rm", "prod", "--confirm", "prod"]).expect("everything goes");
    lab.stop().expect("nothing is left");
}
