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
    lab.succeed(&["host", "create", "prod-2", "--driver", "local", "-e", ENVIRONMENT]).expect("a worker");
    let first = id(&lab, "prod-1");
    lab.docker(&first, &["config", "create", "kept", "/etc/hostname"]).expect("a config");
    lab.docker(&first, &["network", "create", "-d", "overlay", "inside"]).expect("a network");

    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key, backup) = (file("key"), file("prod.swarm"));
    lab.succeed(&["snapshot", "new-key", &key]).expect("a recovery key");
    let refused = lab.skep(&["env", "backup", ENVIRONMENT, &backup]).expect("runs");
    assert!(refused.stderr.contains("SKP-1336"), "Docker restores no locked swarm: {refused:?}");
    lab.succeed(&["env", "update", ENVIRONMENT, "--autolock", "off"]).expect("is unlocked");
    let refused = lab.skep(&["env", "backup", ENVIRONMENT, &backup, "--from", "prod-2"]).expect("runs");
    assert!(refused.code != 0 && refused.stderr.contains("prod-2"), "a worker knows nothing: {refused:?}");
    let said = lab.succeed(&["env", "backup", ENVIRONMENT, &backup]).expect("is backed up");
    assert!(said.contains("prod-1"), "{said}");
    assert!(fs::read(&backup).expect("is there").starts_with(b"age-encryption.org/v1"));
    assert_eq!(lines(&lab, &first, &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]).len(), 2);
    lab.docker(&first, &["config", "create", "later", "/etc/hostname"])
        .expect("what the backup does not know");

    let restore = |to: &'static str| {
        let restore = ["env", "restore", ENVIRONMENT, &backup, "--to", to, "--recovery-key-file", &key];
        lab.skep(&[&restore[..], &["--confirm", ENVIRONMENT]].concat()).expect("runs")
    };
    let refused = restore("prod-2");
    assert!(
        refused.code != 0 && refused.stderr.contains("SKP-1334"),
        "while a manager is there: {refused:?}"
    );

    lab.switch_off(&first).expect("the machine of the only manager is lost");
    lab.wait_for("the loss to be noticed", || {
        Ok((host(&lab, "prod-1")["status"]["state"] == "unreachable").then_some(()))
    })
    .expect("it is noticed");
    let new = ["host", "create", "prod-3", "--driver", "local", "-e", ENVIRONMENT, "--detach"];
    lab.succeed(&new).expect("a new host");
    lab.wait_for("its engine", || Ok((host(&lab, "prod-3")["status"]["state"] == "joining").then_some(())))
        .expect("it answers");
    let restored = restore("prod-3");
    assert_eq!(restored.code, 0, "{restored:?}");

    let third = id(&lab, "prod-3");
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"];
    lab.wait_for("the worker to be a node of the restored swarm", || {
        let listed = lines(&lab, &third, &nodes);
        let there = |line: &str| listed.iter().any(|listed| listed == line);
        Ok((there("prod-2 Ready") && there("prod-3 Ready Leader")).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", lines(&lab, &third, &nodes)));
    assert_eq!(lines(&lab, &third, &["config", "ls", "--format", "{{.Name}}"]), ["kept"]);
    let networks = lines(&lab, &third, &["network", "ls", "--format", "{{.Name}}"]);
    assert!(networks.iter().any(|name| name == "inside"), "{networks:?}");

    // The lost host goes, and the environment is whole.
    lab.succeed(&["host", "rm", "prod-1", "-y", "-e", ENVIRONMENT]).expect("it goes");
    lab.wait_for("the environment to be whole", || {
        let environment = lab.json(&["env", "inspect", ENVIRONMENT])?;
        Ok((environment["status"]["state"] == "active").then_some(()))
    })
    .expect("it is");
    assert_eq!(lines(&lab, &third, &nodes), ["prod-2 Ready", "prod-3 Ready Leader"]);

    grows(&lab, &third);
    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    lab.stop().expect("nothing is left");
}

/// The swarm's log knows the lost manager's address, where others would look for the new one.
fn grows(lab: &Lab, witness: &str) {
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"];
    lab.succeed(&["host", "create", "prod-4", "--driver", "local", "-e", ENVIRONMENT]).expect("another host");
    lab.succeed(&["env", "update", ENVIRONMENT, "--managers", "3"]).expect("three managers");
    lab.wait_for("three managers that agree", || {
        let listed = lab.docker(witness, &nodes)?;
        let manages = |line: &&str| line.ends_with("Ready Leader") || line.ends_with("Ready Reachable");
        Ok((listed.lines().filter(manages).count() == 3).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", lines(lab, witness, &nodes)));
}
