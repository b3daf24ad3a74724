//! What becomes of hosts, their machines and their swarm, with real engines: what the command line says is checked with
//! `docker`, and machines are counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use skep_chaos_tests::lab::{Lab, Wish, ran, skep};
use skep_chaos_tests::machine::Machine;
use skep_chaos_tests::managers::Managers;
use skep_drivers::{DriverConfig, JoinFile, Machine as Made, MachineKey, MachineWish, local};

const ENVIRONMENT: &str = "prod";
const LAB: &str = "life";

fn hosts(lab: &Lab) -> Vec<Value> {
    let listed = lab.json(&["host", "ls", "-e", ENVIRONMENT]).expect("lists the hosts");
    listed["items"].as_array().cloned().unwrap_or_default()
}

fn host(lab: &Lab, name: &str) -> Value {
    let hosts = hosts(lab);
    let found = hosts.iter().find(|host| host["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not listed: {hosts:#?}")).clone()
}

fn id(lab: &Lab, name: &str) -> String {
    host(lab, name)["metadata"]["id"].as_str().expect("has an id").to_owned()
}

/// Every node of the swarm, as one of its managers lists them: name, state and part.
fn nodes(lab: &Lab, witness: &str) -> Vec<String> {
    let format = "{{.Hostname}} {{.Status}} {{if .ManagerStatus}}manager{{else}}worker{{end}}";
    let listed = lab.docker(witness, &["node", "ls", "--format", format]).expect("lists the nodes");
    let mut nodes: Vec<String> = listed.lines().map(|line| line.trim().to_owned()).collect();
    nodes.sort();
    nodes
}

fn orphans(lab: &Lab) -> Vec<Value> {
    let listed = lab.json(&["driver", "orphans", "local"]).expect("lists the orphans");
    listed["items"].as_array().cloned().unwrap_or_default()
}

/// A machine with this cluster's tag that no manager has asked for.
fn orphan(lab: &Lab) -> Made {
    let settings: BTreeMap<String, String> = lab.settings().into_iter().collect();
    let config = DriverConfig {
        cluster: format!("dev-{LAB}"),
        skep_binary: skep().expect("is built"),
        root: Path::new("/var/lib/skep-dev").join(LAB).join("hosts"),
    };
    let key =
        MachineKey { cluster: config.cluster.clone(), host: "host_00000000000000000000000000000bad".into() };
    let join = JoinFile {
        cluster: key.cluster.clone(),
        host_id: key.host.clone(),
        // Nobody listens there, so its agent goes on asking.
        managers: vec!["127.0.0.1:9".into()],
        ca_pem: std::fs::read_to_string(&settings["SKEP_CA_FILE"]).expect("a certificate"),
        token: "none".into(),
    };
    let wish = MachineWish { key, name: "lost".into(), options: BTreeMap::new(), join };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on((local::KIND.build)(&config).ensure(&wish)).expect("a machine")
}

#[test]
fn hosts_get_new_machines_are_replaced_let_go_and_orphans_are_found_and_removed() {
    let lab = Lab::start(&Wish::new(LAB, 1, 28_743).expect("a wish")).expect("a manager starts");
    let create = ["env", "create", ENVIRONMENT, "--template", "default", "--hosts", "3", "--driver", "local"];
    lab.succeed(&create).expect("three hosts");
    lab.succeed(&["host", "label", "prod-2", "rack=b", "-e", ENVIRONMENT]).expect("a label");
    let (first, second) = (id(&lab, "prod-1"), id(&lab, "prod-2"));
    let all_manage = ["prod-1 Ready manager", "prod-2 Ready manager", "prod-3 Ready manager"];
    assert_eq!(nodes(&lab, &first), all_manage);

    let refused = lab.skep(&["host", "demote", "prod-1", "-e", ENVIRONMENT]).expect("runs");
    assert!(
        refused.code == 5 && refused.stderr.contains("SKP-1323"),
        "nobody can take its place: {refused:?}"
    );

    // The same host on another machine.
    let before = host(&lab, "prod-2");
    lab.succeed(&["host", "reprovision", "prod-2", "-y", "-e", ENVIRONMENT]).expect("is made anew");
    let after = host(&lab, "prod-2");
    assert_eq!(after["metadata"]["id"], second, "it is the same host");
    assert_eq!(after["status"]["state"], "active", "{after:#}");
    assert_ne!(after["status"]["swarm"]["node"], before["status"]["swarm"]["node"]);
    assert_ne!(after["status"]["address"], before["status"]["address"]);
    lab.wait_for("the label on the new node", || {
        let label = ["node", "inspect", "prod-2", "--format", "{{.Spec.Labels.rack}}"];
        Ok((lab.docker(&first, &label)?.trim() == "b").then_some(()))
    })
    .expect("it is there");
    assert_eq!(nodes(&lab, &first), all_manage, "and nothing of the old node is left");
    assert_eq!(lab.engines(), 3);

    // Another host in its place.
    lab.succeed(&["host", "replace", "prod-3", "--with", "prod-9", "-y", "-e", ENVIRONMENT])
        .expect("is replaced");
    let names: Vec<_> = hosts(&lab).iter().map(|host| host["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["prod-1", "prod-2", "prod-9"]);
    lab.wait_for("three swarm managers", || {
        let wanted = ["prod-1 Ready manager", "prod-2 Ready manager", "prod-9 Ready manager"];
        Ok((nodes(&lab, &first) == wanted).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}\n{:#?}", nodes(&lab, &first), hosts(&lab)));
    assert_eq!(lab.engines(), 3);

    // A host goes, and its machine stays.
    let kept = id(&lab, "prod-9");
    lab.succeed(&["host", "rm", "prod-9", "--keep-machine", "-y", "-e", ENVIRONMENT]).expect("is let go");
    let swarm = lab.docker(&kept, &["info", "--format", "{{.Swarm.LocalNodeState}}"]).expect("goes on");
    assert_eq!(swarm.trim(), "inactive", "it is in no swarm any more");
    assert_eq!((hosts(&lab).len(), lab.engines()), (2, 3));
    assert_eq!(nodes(&lab, &first).len(), 2);
    assert_eq!(orphans(&lab), [] as [Value; 0], "what was let go is no orphan");

    // A machine that nobody knows.
    let lost = orphan(&lab);
    let found = orphans(&lab);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        (found[0]["host"].as_str(), found[0]["machine"].as_str()),
        (Some(lost.key.host.as_str()), Some(lost.id.as_str()))
    );
    let remove = ["driver", "orphans", "local", "--remove"];
    let unasked = lab.skep(&[&remove[..], &["-y"]].concat()).expect("runs");
    assert_eq!((unasked.code, lab.engines()), (2, 4), "it wants to be confirmed by name: {unasked:?}");
    lab.succeed(&[&remove[..], &["--confirm", "local"]].concat()).expect("is removed");
    assert_eq!((orphans(&lab).len(), lab.engines()), (0, 3));
    assert_eq!(nodes(&lab, &first), ["prod-1 Ready manager", "prod-2 Ready manager"]);

    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    assert_eq!(lab.engines(), 1, "but the machine that was let go");
    lab.stop().expect("nothing is left, of that one neither");
}

/// The repository's script that makes an image of the program.
fn image_script() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests")).join("../deploy/image.sh")
}

/// Runs a line of shell on this computer.
fn shell(line: &str) -> String {
    let mut sh = Command::new("sh");
    sh.args(["-ec", line]);
    let ran = ran(sh).expect("runs");
    assert_eq!(ran.code, 0, "{line}: {}", ran.stderr);
    ran.stdout
}

/// A privileged container wants every capability; a computer that is itself a guest may lack one that no agent needs.
const ALL_BUT_PRIVILEGED: &str = "--cap-add ALL --cap-drop SYS_RESOURCE --security-opt seccomp=unconfined";

#[test]
fn a_swarm_that_is_there_is_taken_over_by_an_agent_in_a_container() {
    let machine = Machine::start("old-1").expect("a machine");
    let docker = |arguments: &[&str]| {
        let ran = machine.docker(arguments).expect("runs");
        assert_eq!(ran.code, 0, "docker {arguments:?}: {}", ran.stderr);
        ran.stdout.trim().to_owned()
    };
    docker(&["swarm", "init", "--advertise-addr", &machine.address()]);
    docker(&["config", "create", "kept", "/etc/hostname"]);
    let node = docker(&["info", "--format", "{{.Swarm.NodeID}}"]);
    docker(&["node", "update", "--label-add", "rack=b", "--availability", "drain", &node]);
    let swarm = || docker(&["info", "--format", "{{.Swarm.Cluster.ID}} {{.Swarm.NodeID}}"]);
    let before = swarm();

    let managers = Managers::found_at(vec![machine.manager_address()]).expect("a manager");
    let environment =
        |name: &str| managers.succeed(&["env", "create", name, "-t", "default"]).expect("is made");
    environment("old");
    let socket = format!("{}/docker.sock", machine.folder());
    let program = skep().expect("is built");
    shell(&format!(
        "{} {} skep:test | docker -H unix://{socket} load",
        image_script().display(),
        program.display()
    ));
    // What `skep host adopt` prints, for an engine that has its socket elsewhere.
    let start = |verb: &str| {
        let line =
            ["host", verb, "-e", "old", "--as", "docker-run", "--image", "skep:test", "--name", "old-1"];
        let line = managers.succeed(&line).expect("prints a line");
        let line = line
            .replace("docker run", &format!("docker -H unix://{socket} run"))
            .replace("-v /var/run/docker.sock:", &format!("-v {socket}:"))
            .replace("-v /var/lib/skep-agent:", &format!("-v {}/container:", machine.folder()))
            .replace("--privileged", ALL_BUT_PRIVILEGED);
        shell(&line);
    };
    start("register");
    managers
        .wait_for("the agent to say why it was refused", || {
            let said = machine.docker(&["logs", "skep-agent"])?;
            Ok(said.stderr.contains("SKP-1325").then_some(()))
        })
        .expect("nobody has said that the swarm is to be taken over");
    docker(&["rm", "-f", "skep-agent"]);
    assert_eq!(swarm(), before, "nothing was done to it");

    start("adopt");
    let host = || -> Value {
        let listed = managers.succeed(&["host", "ls", "-e", "old", "-o", "json"]).expect("lists the hosts");
        let listed: Value = serde_json::from_str(&listed).expect("is JSON");
        listed["items"][0].clone()
    };
    managers
        .wait_for("the host to be there as it was", || {
            Ok((host()["status"]["state"] == "drained").then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{:#}", host()));
    assert_eq!(swarm(), before, "the same swarm, the same node");
    assert_eq!(docker(&["config", "ls", "--format", "{{.Name}}"]), "kept");
    let node = "{{.Spec.Labels.rack}} {{.Spec.Availability}} {{.Spec.Role}}";
    assert_eq!(docker(&["node", "inspect", "self", "--format", node]), "b drain manager");
    let shown = managers.succeed(&["env", "inspect", "old", "-o", "json"]).expect("shows it");
    let shown: Value = serde_json::from_str(&shown).expect("is JSON");
    assert_eq!(shown["status"]["swarm"]["id"].as_str(), before.split(' ').next());
    assert_eq!(shown["spec"]["swarm_managers"], 1);
    let inside = ["host", "exec", "old-1", "-e", "old", "--", "cat", "/proc/sys/kernel/hostname"];
    assert_eq!(managers.succeed(&inside).expect("runs on the machine").trim(), "old-1");

    managers.succeed(&["host", "rm", "old-1", "-e", "old", "--yes"]).expect("is removed");
    assert_eq!(docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"]), "inactive");
    docker(&["rm", "-f", "skep-agent"]);
}
