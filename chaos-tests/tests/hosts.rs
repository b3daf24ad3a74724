//! What happens to hosts and their swarm, with real engines: what the command line says is checked with `docker`.

use serde_json::Value;
use skep_chaos_tests::lab::{Lab, Wish};

const ENVIRONMENT: &str = "prod";

fn hosts(lab: &Lab) -> Vec<Value> {
    let listed = lab.json(&["host", "ls", "-e", ENVIRONMENT]).expect("lists the hosts");
    listed["items"].as_array().cloned().unwrap_or_default()
}

fn id<'a>(hosts: &'a [Value], name: &str) -> &'a str {
    let host = hosts.iter().find(|host| host["metadata"]["name"] == name).expect("is listed");
    host["metadata"]["id"].as_str().expect("has an id")
}

fn state(lab: &Lab, name: &str) -> String {
    let hosts = hosts(lab);
    let host = hosts.iter().find(|host| host["metadata"]["name"] == name).expect("is listed");
    host["status"]["state"].as_str().unwrap_or_default().to_owned()
}

fn nodes(lab: &Lab, witness: &str) -> Vec<String> {
    let format = "{{.Hostname}} {{.Status}} {{.ManagerStatus}}";
    let listed = lab.docker(witness, &["node", "ls", "--format", format]).expect("lists the nodes");
    let mut nodes: Vec<String> = listed.lines().map(|line| line.trim().to_owned()).collect();
    nodes.sort();
    nodes
}

#[test]
fn two_of_three_swarm_managers_are_lost_and_the_third_rescues_the_swarm_with_what_it_knows() {
    let lab = Lab::start(&Wish::new("rescue", 1, 28_543).expect("a wish")).expect("a manager starts");
    let create = ["env", "create", ENVIRONMENT, "--template", "default", "--hosts", "3", "--driver", "local"];
    lab.succeed(&create).expect("three hosts");
    lab.succeed(&["host", "label", "prod-2", "rack=b", "-e", ENVIRONMENT]).expect("a label");
    let before = hosts(&lab);
    let survivor = id(&before, "prod-2");
    lab.docker(survivor, &["config", "create", "kept", "/etc/hostname"])
        .expect("something that the swarm keeps");

    let refused = lab.skep(&["env", "rescue", ENVIRONMENT, "--from", "prod-2", "--confirm", ENVIRONMENT]);
    let refused = refused.expect("runs");
    assert!(refused.code != 0 && refused.stderr.contains("SKP-1305"), "while all is well: {refused:?}");

    for name in ["prod-1", "prod-3"] {
        lab.sigkill_engine(id(&before, name)).expect("an engine is killed");
        lab.wait_for("the dead engine to be noticed", || {
            Ok((state(&lab, name) == "engine-down").then_some(()))
        })
        .expect("it is noticed");
    }
    let refused = lab.skep(&["env", "rescue", ENVIRONMENT, "--from", "prod-1", "--confirm", ENVIRONMENT]);
    let refused = refused.expect("runs");
    assert!(refused.stderr.contains("SKP-1306") && refused.stderr.contains("prod-2"), "{refused:?}");

    let rescue = ["env", "rescue", ENVIRONMENT, "--from", "prod-2", "--confirm", ENVIRONMENT];
    lab.succeed(&rescue).expect("the swarm is rescued");
    assert_eq!(nodes(&lab, survivor), ["prod-2 Ready Leader"]);
    let kept = lab.docker(survivor, &["config", "ls", "--format", "{{.Name}}"]).expect("lists");
    assert_eq!(kept.trim(), "kept");
    let label = ["node", "inspect", "prod-2", "--format", "{{.Spec.Labels.rack}}"];
    assert_eq!(lab.docker(survivor, &label).expect("inspects").trim(), "b");

    // Dead hosts can be removed, and new ones make the swarm whole.
    lab.succeed(&["host", "rm", "prod-1", "prod-3", "-y", "-e", ENVIRONMENT]).expect("dead hosts go");
    lab.succeed(&["host", "create", "prod-4", "prod-5", "--driver", "local", "-e", ENVIRONMENT])
        .expect("new hosts");
    lab.wait_for("three swarm managers", || {
        let managers = nodes(&lab, survivor);
        let agree = |line: &&String| line.ends_with("Leader") || line.ends_with("Reachable");
        Ok((managers.len() == 3 && managers.iter().filter(agree).count() == 3).then_some(()))
    })
    .expect("the swarm is whole");
    assert_eq!(lab.engines(), 3);
    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    lab.stop().expect("nothing is left");
}
