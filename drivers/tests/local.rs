//! What the driver `local` promises beyond the contract: a lab that ends leaves the computer as it was, labs do
//! not meet, and what cannot run is said at once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

#[allow(dead_code, reason = "the contract test uses the rest")]
mod bench;

use std::collections::BTreeMap;
use std::fs;

use bench::{Bench, LocalBench};
use skep_drivers::{DriverError, JoinFile, Machine, MachineKey, MachineState, MachineWish, local};

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_leaves_nothing_and_finds_nothing_the_second_time() {
    let bench = LocalBench::new();
    let machines = two_machines(&bench).await;
    bench.works(&machines[0]).unwrap();
    bench.use_it(&machines[0]);
    // A machine that was let go is swept like the others.
    (local::KIND.build)(bench.config()).forget(&machines[1].key).await.unwrap();
    let swept = local::sweep(bench.config()).unwrap();
    assert!(swept.folder && swept.processes >= 6 && swept.namespaces == 2, "{swept:?}");
    nothing_is_left(&bench);
    let again = local::sweep(bench.config()).unwrap();
    assert!(again.is_empty(), "{again:?}");
}

/// Somebody moved the folder away first, the obvious thing to do. (Engines that end make parts of it again.)
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_works_without_the_folder() {
    let bench = LocalBench::new();
    let machines = two_machines(&bench).await;
    for machine in &machines {
        bench.works(machine).unwrap();
    }
    let folder = bench.config().root.join(bench.tag());
    fs::rename(&folder, bench.config().root.join("elsewhere")).unwrap();
    let swept = local::sweep(bench.config()).unwrap();
    assert!(swept.processes >= 6 && swept.namespaces == 2 && swept.interfaces >= 1, "{swept:?}");
    nothing_is_left(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_labs_share_nothing() {
    let (one, other) = (LocalBench::new(), LocalBench::new());
    let machines = two_machines(&one).await;
    let (mine, theirs) =
        (local::ensure_network(one.config()).unwrap(), local::ensure_network(other.config()).unwrap());
    assert_ne!((mine.subnet, &mine.bridge), (theirs.subnet, &theirs.bridge));
    assert_eq!(local::ensure_network(other.config()).unwrap(), theirs, "chosen once");
    let listener = std::net::TcpListener::bind((theirs.gateway, 0)).expect("managers can listen there");
    drop(listener);
    local::sweep(other.config()).unwrap();
    nothing_is_left(&other);
    for machine in &machines {
        one.made_once(machine).expect("the other lab's sweep did not touch it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_run_is_an_error_that_shows_its_log() {
    let bench = LocalBench::new();
    if (local::KIND.available)(bench.config()).is_err() {
        return;
    }
    fs::write(&bench.config().skep_binary, "#!/bin/sh\necho unknown option: --join >&2\nexit 2\n").unwrap();
    let driver = (local::KIND.build)(bench.config());
    let wish = wish(&bench, "broken");
    let error = driver.ensure(&wish).await.expect_err("it cannot work");
    assert!(matches!(error, DriverError::DiedAtOnce { .. }) && error.retryable(), "{error}");
    assert!(error.to_string().contains("unknown option: --join"), "{error}");
    assert!(driver.find(&wish.key).await.unwrap().is_some(), "it is found, so that it can be released");
    driver.release(&wish.key).await.unwrap();
    bench.nothing_left(&wish.key).unwrap();
}

/// What is on the disk is there again, and the agent needs no other invitation.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_switched_off_is_stopped_and_one_that_is_switched_on_is_the_same() {
    let bench = LocalBench::new();
    let machines = two_machines(&bench).await;
    let driver = (local::KIND.build)(bench.config());
    bench.works(&machines[0]).unwrap();
    let ended = local::switch_off(bench.config(), "left").unwrap();
    assert!(ended >= 2, "engine and agent have ended: {ended}");
    assert_eq!(driver.state(&machines[0].key).await.unwrap(), MachineState::Stopped);
    assert_eq!(driver.state(&machines[1].key).await.unwrap(), MachineState::Running);
    assert_eq!(local::switch_off(bench.config(), "left").unwrap(), 0, "it is so already");
    for _ in 0..2 {
        local::switch_on(bench.config(), &machines[0].key.host).await.unwrap();
        assert_eq!(driver.state(&machines[0].key).await.unwrap(), MachineState::Running);
    }
    bench.works(&machines[0]).unwrap();
    bench.made_once(&machines[0]).unwrap();
    let error = local::switch_on(bench.config(), "middle").await.expect_err("there is no such machine");
    assert!(error.to_string().contains("0 machines on this computer are named"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wished_mtu_holds_for_the_machine_and_its_containers() {
    let bench = LocalBench::new();
    let machines = two_machines(&bench).await;
    bench.works(&machines[0]).unwrap();
    let shown = bench::local::ip(&["-n", &machines[0].id, "link", "show", "eth0"]);
    assert!(shown.contains("mtu 1400"), "{shown}");
    // The engine sets it on its bridge with the first container; until then it is the network's option.
    let socket = local::docker_socket(bench.config(), &machines[0].key.host);
    let network = bench::local::get(&socket, "/networks/bridge").unwrap();
    assert!(network.contains("\"com.docker.network.driver.mtu\":\"1400\""), "{network}");
}

async fn two_machines(bench: &LocalBench) -> Vec<Machine> {
    (local::KIND.available)(bench.config()).expect("the driver can work where it is tested");
    let driver = (local::KIND.build)(bench.config());
    let (left, right) = (wish(bench, "left"), wish(bench, "right"));
    let (left, right) = tokio::join!(driver.ensure(&left), driver.ensure(&right));
    vec![left.unwrap(), right.unwrap()]
}

fn wish(bench: &LocalBench, name: &str) -> MachineWish {
    let key = MachineKey { cluster: bench.config().cluster.clone(), host: format!("host_{name}") };
    let join = JoinFile {
        cluster: key.cluster.clone(),
        host_id: key.host.clone(),
        managers: vec![],
        ca_pem: String::new(),
        token: String::new(),
    };
    let options = BTreeMap::from([("mtu".to_owned(), "1400".to_owned())]);
    MachineWish { key, name: name.to_owned(), options, join }
}

fn nothing_is_left(bench: &LocalBench) {
    let tag = bench.tag();
    assert_eq!(bench::local::names("/sys/class/net", &format!("sk{tag}")), [""; 0]);
    assert_eq!(bench::local::names("/run/netns", &format!("skep-{tag}")), [""; 0]);
    assert_eq!(bench::local::containers(&format!("/skep-{tag}")), 0);
    for hierarchy in bench::local::names("/sys/fs/cgroup", "") {
        assert!(!fs::exists(format!("/sys/fs/cgroup/{hierarchy}/skep-{tag}")).unwrap(), "{hierarchy}");
    }
    assert!(!bench.config().root.join(&tag).exists());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(bench.config().root.to_str().unwrap()), "{mounts}");
}
