//! An environment's life with real engines: it rests and is at work again, its hosts get other engines, and it goes although
//! one of them is dead. What the command line says is checked with `docker` and with what the kernel has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use skep_chaos_tests::alter::next_engine;
use skep_chaos_tests::lab::{Lab, Wish};

const ENVIRONMENT: &str = "prod";

const RECIPE: &str = "\
services:
  web:
    image: skep-demo/busybox:1
    command: [sleep, '100000']
    stop_grace_period: 1s
    deploy: {replicas: 4}
  guard:
    image: skep-demo/busybox:1
    command: [sleep, '100000']
    stop_grace_period: 1s
    deploy: {mode: global}
";

fn hosts(lab: &Lab) -> BTreeMap<String, Value> {
    let listed = lab.json(&["host", "ls", "-e", ENVIRONMENT]).expect("lists the hosts");
    let hosts = listed["items"].as_array().cloned().unwrap_or_default();
    hosts.into_iter().map(|host| (text(&host["metadata"]["name"]), host)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn id(hosts: &BTreeMap<String, Value>, name: &str) -> String {
    text(&hosts[name]["metadata"]["id"])
}

fn state(lab: &Lab) -> String {
    text(&lab.json(&["env", "inspect", ENVIRONMENT]).expect("shows it")["status"]["state"])
}

/// Containers that run on each host, by its name.
fn containers(lab: &Lab, hosts: &BTreeMap<String, Value>) -> BTreeMap<String, usize> {
    let count = |name: &String| {
        lab.docker(&id(hosts, name), &["ps", "-q"]).expect("lists containers").lines().count()
    };
    hosts.keys().map(|name| (name.clone(), count(name))).collect()
}

/// Version, state and availability of each engine, as itself and its swarm tell them.
fn engines(lab: &Lab, hosts: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let told = |name: &String| {
        let version = lab.docker(&id(hosts, name), &["version", "--format", "{{.Server.Version}}"]);
        let node = "{{.Status.State}} {{.Spec.Availability}}";
        let node = lab.docker(&id(hosts, name), &["node", "inspect", "self", "--format", node]);
        format!("{} {}", version.expect("tells its version").trim(), node.expect("is a node").trim())
    };
    hosts.keys().map(|name| (name.clone(), told(name))).collect()
}

/// A leader whose engine was upgraded leads no more, and the next one knows of no node until it has heard from it.
fn wait_for_engines(lab: &Lab, hosts: &BTreeMap<String, Value>, expected: &BTreeMap<String, String>) {
    let waited = lab.wait_for("engines and nodes to be as expected", || {
        Ok((engines(lab, hosts) == *expected).then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {:?} instead of {expected:?}", engines(lab, hosts)));
}

fn load_image(lab: &Lab, folder: &Path) {
    let archive = folder.join("image.tar");
    let script = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests"))
        .join("../examples/busybox-image.sh");
    let file = fs::File::create(&archive).expect("a file");
    let made = Command::new("sh").arg(script).stdin(Stdio::null()).stdout(file).status().expect("runs");
    assert!(made.success());
    let archive = archive.display().to_string();
    lab.succeed(&["image", "load", &archive, "--import", "skep-demo/busybox:1", "-e", ENVIRONMENT])
        .expect("an image");
}

#[test]
fn an_environment_rests_gets_other_engines_and_goes_although_a_host_of_it_is_dead() {
    let lab = Lab::start(&Wish::new("envlife", 1, 28_643).expect("a wish")).expect("a manager starts");
    let files = tempfile::tempdir().expect("a folder");
    let create = ["env", "create", ENVIRONMENT, "--template", "default", "--hosts", "3", "--driver", "local"];
    lab.succeed(&create).expect("three hosts");
    load_image(&lab, files.path());
    let recipe = files.path().join("shop.yml");
    fs::write(&recipe, RECIPE).expect("written");
    let up = ["up", "-f", recipe.to_str().expect("a path"), "--stack", "shop", "-e", ENVIRONMENT];
    lab.succeed(&up).expect("a stack");
    let before = hosts(&lab);
    let one = id(&before, "prod-1");

    // It rests: nothing runs, nothing is changed, and what others have set is there afterwards.
    lab.docker(&one, &["node", "update", "--availability", "pause", "prod-3"])
        .expect("somebody cordons a node");
    let specs = |lab: &Lab| {
        lab.docker(&one, &["service", "inspect", "shop_web", "shop_guard", "--format", "{{json .Spec}}"])
    };
    let services = specs(&lab).expect("inspects");
    lab.succeed(&["env", "pause", ENVIRONMENT, "--yes"]).expect("it rests");
    assert_eq!(state(&lab), "paused");
    assert_eq!(containers(&lab, &before).values().sum::<usize>(), 0);
    let refused = lab.skep(&up).expect("runs");
    assert!(refused.code == 5 && refused.stderr.contains("SKP-1351"), "{refused:?}");
    lab.succeed(&["env", "activate", ENVIRONMENT]).expect("it is at work again");
    assert_eq!(state(&lab), "active");
    assert_eq!(specs(&lab).expect("inspects"), services, "no service was touched");
    let running = containers(&lab, &before);
    assert_eq!((running["prod-1"] + running["prod-2"], running["prod-3"]), (6, 0), "{running:?}");
    lab.docker(&one, &["node", "update", "--availability", "active", "prod-3"]).expect("uncordons it");

    other_engines(&lab, &before);

    // A host dies with its agent; the environment goes all the same.
    lab.sigkill_agent(&id(&before, "prod-3")).expect("an agent is killed");
    lab.sigkill_engine(&id(&before, "prod-3")).expect("an engine is killed");
    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    assert_eq!(lab.engines(), 0);
    assert_eq!(lab.machines().expect("looks"), Vec::<String>::new());
    assert_eq!(lab.json(&["env", "ls"]).expect("lists")["items"].as_array().map(Vec::len), Some(0));
    lab.stop().expect("nothing is left");
}

/// One host after the other; one on which it fails pauses the rest, and is not worse off.
fn other_engines(lab: &Lab, hosts: &BTreeMap<String, Value>) {
    let now = text(&hosts["prod-1"]["status"]["inventory"]["engine_version"]);
    let (next, folder) = next_engine(lab, &now).unwrap_or_else(|error| panic!("{error:#}"));
    let broken = folder.join("broken");
    fs::write(&broken, "").expect("written");
    let upgrade = ["env", "upgrade", ENVIRONMENT, "--to", &next];
    let plan = lab.json(&[&upgrade[..], &["--dry-run"]].concat()).expect("a plan");
    let order: Vec<String> =
        plan["hosts"].as_array().into_iter().flatten().map(|host| text(&host["host"])).collect();
    assert_eq!((order.len(), text(&plan["hosts"][2]["swarm"]).as_str()), (3, "leader"), "{plan:#}");

    let paused = lab.skep(&upgrade).expect("runs");
    assert!(paused.code == 7 && paused.stderr.contains("prod-2 could not be upgraded"), "{paused:?}");
    assert!(paused.stderr.contains("this engine is broken here"), "{paused:?}");
    let done = order.iter().take_while(|name| *name != "prod-2").count();
    let expected: BTreeMap<String, String> = order
        .iter()
        .enumerate()
        .map(|(at, name)| (name.clone(), format!("{} ready active", if at < done { &next } else { &now })))
        .collect();
    wait_for_engines(lab, hosts, &expected);

    fs::remove_file(&broken).expect("mended");
    let listed = lab.json(&["op", "ls", "--state", "paused"]).expect("lists");
    let operation = text(&listed["items"][0]["id"]);
    lab.succeed(&["op", "resume", &operation]).expect("it goes on");
    lab.succeed(&["op", "watch", &operation]).expect("all of them have it");
    let expected: BTreeMap<_, _> =
        order.iter().map(|name| (name.clone(), format!("{next} ready active"))).collect();
    wait_for_engines(lab, hosts, &expected);
    lab.wait_for("all tasks to run", || {
        let running = containers(lab, hosts).values().sum::<usize>();
        Ok((running == 7).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", containers(lab, hosts)));
}
