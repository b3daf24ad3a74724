//! The state of a swarm, backed up and restored with real engines after its last manager was lost.

use std::fs;

use serde_json::Value;
use skep_chaos_tests::lab::{Lab, Wish};

const ENVIRONMENT: &str = "prod";

fn host(lab: &Lab, name: &str) -> Value {
    lab.json(&["host", "inspect", name, "-e", ENVIRONMENT]).expect("is there")
}

fn id(lab: &Lab, name: &str) -> String {
    host(lab, name)["metadata"]["id"].as_str().expect("has an id").to_owned()
}

fn becomes(lab: &Lab, name: &str, state: &str) {
    lab.wait_for(&format!("{name} to be {state}"), || {
        Ok((host(lab, name)["status"]["state"] == state).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

fn lines(lab: &Lab, witness: &str, arguments: &[&str]) -> Vec<String> {
    let said = lab.docker(witness, arguments).expect("a manager of the swarm answers");
    let mut lines: Vec<String> = said.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines
}

#[test]
fn a_swarm_whose_last_manager_is_lost_is_restored_on_a_new_host_with_what_the_backup_knows() {
    let lab = Lab::start(&Wish::new("restore", 1, 29_043).expect("a wish")).expect("a manager starts");
    let create = ["env", "create", ENVIRONMENT, "--template", "default", "--hosts", "1", "--driver", "local"];
    let one_manager = ["--managers", "1", "--autolock", "on"];
    lab.succeed(&[&create[..], &one_manager].concat()).expect("one host");
    let add = |name: &str, more: &[&str]| {
        let add = ["host", "create", name, "--driver", "local", "-e", ENVIRONMENT];
        lab.succeed(&[&add[..], more].concat()).expect("another host");
    };
    add("prod-2", &[]);

    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key, backup) = (file("key"), file("prod.swarm"));
    lab.succeed(&["snapshot", "new-key", &key]).expect("a recovery key");
    let refused = lab.skep(&["env", "backup", ENVIRONMENT, &backup]).expect("runs");
    assert!(refused.stderr.contains("SKP-1336"), "Docker restores no locked swarm: {refused:?}");
    lab.succeed(&["env", "update", ENVIRONMENT, "--autolock", "off"]).expect("is unlocked");
    // Engines have written the swarm down with that, and its manager is one who came later.
    lab.succeed(&["host", "rm", "prod-1", "-y", "-e", ENVIRONMENT]).expect("the first manager goes");
    add("prod-3", &[]);
    let second = id(&lab, "prod-2");
    lab.docker(&second, &["network", "create", "-d", "overlay", "inside"]).expect("a network");
    let refused = lab.skep(&["env", "backup", ENVIRONMENT, &backup, "--from", "prod-3"]).expect("runs");
    assert!(refused.code != 0 && refused.stderr.contains("prod-3"), "a worker knows nothing: {refused:?}");
    // More than managers send each other of their log at once.
    fs::write(file("large"), [b'a'; 100_000]).expect("is written");
    lab.docker(&second, &["config", "create", "large", &file("large")]).expect("a large config");
    lab.docker(&second, &["config", "create", "kept", "/etc/hostname"]).expect("a config");
    let said = lab.succeed(&["env", "backup", ENVIRONMENT, &backup]).expect("is backed up");
    assert!(said.contains("prod-2"), "{said}");
    assert!(fs::read(&backup).expect("is there").starts_with(b"age-encryption.org/v1"));
    assert_eq!(lines(&lab, &second, &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]).len(), 2);
    lab.docker(&second, &["config", "create", "later", "/etc/hostname"])
        .expect("what the backup does not know");

    let restore = |to: &'static str| {
        let restore = ["env", "restore", ENVIRONMENT, &backup, "--to", to, "--recovery-key-file", &key];
        lab.skep(&[&restore[..], &["--confirm", ENVIRONMENT]].concat()).expect("runs")
    };
    let refused = restore("prod-3");
    assert!(
        refused.code != 0 && refused.stderr.contains("SKP-1334"),
        "while a manager is there: {refused:?}"
    );

    lab.switch_off(&second).expect("the machine of the only manager is lost");
    becomes(&lab, "prod-2", "unreachable");
    add("prod-4", &["--detach"]);
    becomes(&lab, "prod-4", "joining");
    let restored = restore("prod-4");
    assert_eq!(restored.code, 0, "{restored:?}");

    let fourth = id(&lab, "prod-4");
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"];
    lab.wait_for("the worker to be a node of the restored swarm", || {
        let listed = lines(&lab, &fourth, &nodes);
        let there = |line: &str| listed.iter().any(|listed| listed == line);
        Ok((there("prod-3 Ready") && there("prod-4 Ready Leader")).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", lines(&lab, &fourth, &nodes)));
    assert_eq!(lines(&lab, &fourth, &["config", "ls", "--format", "{{.Name}}"]), ["kept", "large"]);
    let networks = lines(&lab, &fourth, &["network", "ls", "--format", "{{.Name}}"]);
    assert!(networks.iter().any(|name| name == "inside"), "{networks:?}");

    // The lost host goes, and the environment is whole.
    lab.succeed(&["host", "rm", "prod-2", "-y", "-e", ENVIRONMENT]).expect("it goes");
    lab.wait_for("the environment to be whole", || {
        let environment = lab.json(&["env", "inspect", ENVIRONMENT])?;
        Ok((environment["status"]["state"] == "active").then_some(()))
    })
    .expect("it is");
    assert_eq!(lines(&lab, &fourth, &nodes), ["prod-3 Ready", "prod-4 Ready Leader"]);

    grows(&lab, &fourth);
    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    lab.stop().expect("nothing is left");
}

/// The swarm's log knows the lost manager's address, where others would look for the new one.
fn grows(lab: &Lab, witness: &str) {
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"];
    lab.succeed(&["host", "create", "prod-5", "--driver", "local", "-e", ENVIRONMENT]).expect("another host");
    lab.succeed(&["env", "update", ENVIRONMENT, "--managers", "3"]).expect("three managers");
    lab.wait_for("three managers that agree", || {
        let listed = lab.docker(witness, &nodes)?;
        let manages = |line: &&str| line.ends_with("Ready Leader") || line.ends_with("Ready Reachable");
        Ok((listed.lines().filter(manages).count() == 3).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", lines(lab, witness, &nodes)));
}
