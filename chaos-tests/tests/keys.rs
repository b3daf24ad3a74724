//! The keys of a swarm, with real engines: its managers are locked and get the key by themselves, every key is replaced while
//! the swarm goes on, and none of them gets into a log. What Skep says is checked with `docker`.

use std::fs;
use std::path::Path;

use serde_json::Value;
use skep_chaos_tests::lab::{Lab, Wish};

const ENVIRONMENT: &str = "vault";

/// What unlock keys and join tokens begin with.
const SECRETS: [&str; 2] = ["SWMKEY-", "SWMTKN-"];

fn hosts(lab: &Lab) -> Vec<Value> {
    let listed = lab.json(&["host", "ls", "-e", ENVIRONMENT]).expect("lists the hosts");
    listed["items"].as_array().cloned().unwrap_or_default()
}

fn docker(lab: &Lab, host: &str, arguments: &[&str]) -> String {
    let said = lab.docker(host, arguments).unwrap_or_else(|error| panic!("{error:#}"));
    said.trim().to_owned()
}

fn unlock_key(lab: &Lab) -> String {
    lab.succeed(&["env", "unlock-key", ENVIRONMENT]).expect("the key is told").trim().to_owned()
}

fn rotate(lab: &Lab, what: &str) {
    lab.succeed(&["env", what, ENVIRONMENT]).unwrap_or_else(|error| panic!("{error:#}"));
}

/// A power cut for the engine alone; then all are well again, and nobody has typed a key.
fn engine_starts_anew(lab: &Lab, host: &str, witness: &str) {
    lab.sigkill_engine(host).expect("an engine is killed");
    lab.switch_on(host).expect("it is started again");
    all_are_well(lab, host, witness);
}

fn all_are_well(lab: &Lab, host: &str, witness: &str) {
    let mut seen = String::new();
    let well = lab.wait_for("the manager to be one again", || {
        let format = "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.Error}}";
        seen = lab.docker(host, &["info", "--format", format]).unwrap_or_default().trim().to_owned();
        let listed = lab.docker(witness, &["node", "ls", "--format", "{{.Status}}"]).unwrap_or_default();
        let all_ready = listed.lines().filter(|line| *line == "Ready").count() == 3;
        let all_active = hosts(lab).iter().all(|host| host["status"]["state"] == "active");
        Ok((seen == "active true" && all_ready && all_active).then_some(()))
    });
    well.unwrap_or_else(|error| panic!("{error:#}: {seen}"));
}

/// Docker begins no locked swarm anew and would leave the last manager in no swarm at all: that is said before anything is touched.
/// When the others are back, all is as it was.
fn not_rescued(lab: &Lab, listed: &[Value]) {
    let id = |at: usize| listed[at]["metadata"]["id"].as_str().expect("has an id");
    let node = || docker(lab, id(0), &["info", "--format", "{{.Swarm.NodeID}} {{.Swarm.LocalNodeState}}"]);
    let before = node();
    for lost in [1, 2] {
        lab.sigkill_engine(id(lost)).expect("an engine is killed");
        lab.wait_for("the dead engine to be noticed", || {
            Ok((hosts(lab)[lost]["status"]["state"] == "engine-down").then_some(()))
        })
        .expect("it is noticed");
    }
    let survivor = listed[0]["metadata"]["name"].as_str().expect("has a name");
    let rescue = ["env", "rescue", ENVIRONMENT, "--from", survivor, "--confirm", ENVIRONMENT];
    let refused = lab.skep(&rescue).expect("runs");
    assert!(refused.code != 0 && refused.stderr.contains("managers of the swarm are locked"), "{refused:?}");
    assert_eq!(node(), before);
    for lost in [1, 2] {
        lab.switch_on(id(lost)).expect("it is started again");
    }
    all_are_well(lab, id(1), id(0));
}

fn logs(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() && name != "data" {
            logs(&entry, found);
        } else if name == "log" || name == "agent.log" {
            found.push(fs::read_to_string(&entry).expect("a log"));
        }
    }
}

#[test]
fn a_locked_swarm_opens_for_its_managers_and_every_key_is_replaced_while_it_goes_on() {
    let lab = Lab::start(&Wish::new("keys", 1, 28_843).expect("a wish")).expect("a manager starts");
    let create = ["env", "create", ENVIRONMENT, "-t", "default", "--hosts", "3", "--driver", "local"];
    lab.succeed(&[&create[..], &["--autolock", "on"]].concat()).expect("three hosts in a locked swarm");
    let listed = hosts(&lab);
    let [one, other, _] = [0, 1, 2].map(|at| listed[at]["metadata"]["id"].as_str().expect("has an id"));

    lab.wait_for("the swarm to be locked", || {
        let locked = lab
            .docker(one, &["info", "--format", "{{.Swarm.Cluster.Spec.EncryptionConfig.AutoLockManagers}}"]);
        Ok((locked.unwrap_or_default().trim() == "true").then_some(()))
    })
    .expect("it is");
    let first = unlock_key(&lab);
    assert_eq!(first, docker(&lab, other, &["swarm", "unlock-key", "-q"]));
    engine_starts_anew(&lab, one, other);

    rotate(&lab, "rotate-unlock-key");
    let second = unlock_key(&lab);
    assert_ne!(first, second);
    assert_eq!(second, docker(&lab, one, &["swarm", "unlock-key", "-q"]));
    engine_starts_anew(&lab, other, one);

    let token = || docker(&lab, one, &["swarm", "join-token", "-q", "worker"]);
    let authority = || docker(&lab, one, &["swarm", "ca"]);
    let (old_token, old_authority) = (token(), authority());
    rotate(&lab, "rotate-tokens");
    let new_token = token();
    assert_ne!(old_token, new_token);
    assert_eq!(old_authority, authority());
    rotate(&lab, "rotate-ca");
    assert_ne!(old_authority, authority());
    assert_ne!(new_token, token(), "a token names the authority");
    let trusts = docker(&lab, one, &["node", "ls", "--format", "{{.Status}} {{.TLSStatus}}"]);
    assert_eq!(trusts, "Ready Ready\nReady Ready\nReady Ready");

    not_rescued(&lab, &listed);

    lab.succeed(&["env", "update", ENVIRONMENT, "--autolock", "off"]).expect("it is opened");
    engine_starts_anew(&lab, one, other);

    let mut written = vec![];
    logs(&lab.hosts_folder(), &mut written);
    logs(&lab.hosts_folder().with_file_name("m1"), &mut written);
    assert!(written.len() > 3, "the logs of a manager and of three agents");
    let told = written.iter().find(|log| SECRETS.iter().any(|secret| log.contains(secret)));
    assert_eq!(told, None, "a log tells a key");

    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    lab.stop().expect("nothing is left");
}
