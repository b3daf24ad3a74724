//! What every driver promises, tried on every driver there is, with real machines.
//!
//! A driver brings a bench: how to look at its machines from outside, and what can go wrong half-way. A driver
//! without a bench fails here.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects")]

mod bench;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use bench::{Bench, until};
use skep_drivers::{
    DRIVERS, Driver, DriverConfig, DriverKind, JoinFile, Machine, MachineKey, MachineState, MachineWish, kind,
};

/// Set for the process that only makes one machine; see [`makes_a_machine_for_another_test`].
const HELPER: &str = "SKEP_CONTRACT_HELPER";

#[tokio::test(flavor = "multi_thread")]
async fn every_driver_keeps_its_promises() {
    for kind in DRIVERS {
        let bench = bench::of(kind.name);
        (kind.available)(bench.config()).expect("the driver can work where it is tested");
        let driver = (kind.build)(bench.config());
        nothing_is_found_where_nothing_is(&*driver, &*bench).await;
        making_again_makes_nothing_twice(&*driver, &*bench).await;
        many_at_once_make_one(kind, &*bench).await;
        a_half_made_machine_is_completed(&*driver, &*bench).await;
        a_half_made_machine_can_be_released(&*driver, &*bench).await;
        a_killed_manager_leaves_what_another_completes(kind, &*bench).await;
        a_machine_works_and_goes(&*driver, &*bench).await;
        what_was_let_go_is_found_and_touched_no_more(&*driver, &*bench).await;
    }
}

async fn nothing_is_found_where_nothing_is(driver: &dyn Driver, bench: &dyn Bench) {
    let key = key(bench, "none");
    assert_eq!(driver.find(&key).await.unwrap(), None);
    assert_eq!(driver.list().await.unwrap(), []);
    driver.release(&key).await.expect("what is gone is released");
    bench.nothing_left(&key).expect("looking leaves nothing behind");
}

async fn making_again_makes_nothing_twice(driver: &dyn Driver, bench: &dyn Bench) {
    let (one, two) = (wish(bench, "one"), wish(bench, "two"));
    let first = driver.ensure(&one).await.unwrap();
    assert_eq!((&first.key, &first.name), (&one.key, &one.name));
    bench.made_once(&first).expect("one machine");
    assert_eq!(driver.ensure(&one).await.unwrap(), first);
    bench.made_once(&first).expect("still one machine");

    let second = driver.ensure(&two).await.unwrap();
    assert_ne!((&second.address, &second.id), (&first.address, &first.id));
    assert_eq!(driver.find(&one.key).await.unwrap(), Some(first.clone()));
    assert_eq!(sorted(driver.list().await.unwrap()), sorted(vec![first, second.clone()]));

    driver.release(&one.key).await.unwrap();
    bench.nothing_left(&one.key).expect("a released machine is gone");
    bench.made_once(&second).expect("its neighbour is not touched");
    driver.release(&two.key).await.unwrap();
    assert_eq!(driver.list().await.unwrap(), []);
}

async fn many_at_once_make_one(kind: &DriverKind, bench: &dyn Bench) {
    let wish = wish(bench, "race");
    let (left, right) = ((kind.build)(bench.config()), (kind.build)(bench.config()));
    let mut other = helper(kind, bench, &wish);
    let (first, second, third) = tokio::join!(left.ensure(&wish), right.ensure(&wish), left.ensure(&wish));
    let first = first.unwrap();
    assert_eq!(second.unwrap(), first);
    assert_eq!(third.unwrap(), first);
    assert!(other.wait().unwrap().success(), "the other process made it, or found it, too");
    bench.made_once(&first).expect("one machine");
    left.release(&wish.key).await.unwrap();
    bench.nothing_left(&wish.key).expect("gone");
}

async fn a_half_made_machine_is_completed(driver: &dyn Driver, bench: &dyn Bench) {
    let wish = wish(bench, "half");
    let whole = driver.ensure(&wish).await.unwrap();
    for (fault, inflict) in bench.faults() {
        inflict(&whole);
        assert!(bench.made_once(&whole).is_err(), "{fault}: the fault must be seen");
        assert_eq!(driver.find(&wish.key).await.unwrap().as_ref(), Some(&whole), "{fault}: still found");
        let again = driver.ensure(&wish).await.unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert_eq!(again, whole, "{fault}");
        bench.made_once(&whole).unwrap_or_else(|missing| panic!("{fault}: {missing}"));
        bench.works(&whole).unwrap_or_else(|missing| panic!("{fault}: {missing}"));
    }
    driver.release(&wish.key).await.unwrap();
}

async fn a_half_made_machine_can_be_released(driver: &dyn Driver, bench: &dyn Bench) {
    let wish = wish(bench, "half");
    for (fault, inflict) in bench.faults() {
        inflict(&driver.ensure(&wish).await.unwrap());
        driver.release(&wish.key).await.unwrap_or_else(|error| panic!("{fault}: {error}"));
        bench.nothing_left(&wish.key).unwrap_or_else(|left| panic!("{fault}: {left}"));
    }
}

/// The manager that makes the machine is killed at every stage that can be seen from outside.
async fn a_killed_manager_leaves_what_another_completes(kind: &DriverKind, bench: &dyn Bench) {
    let driver = (kind.build)(bench.config());
    for (stage, reached) in bench.stages() {
        let wish = wish(bench, "killed");
        let mut other = helper(kind, bench, &wish);
        until(stage, || reached(&wish.key));
        other.kill().unwrap();
        other.wait().unwrap();
        let machine = driver.ensure(&wish).await.unwrap_or_else(|error| panic!("{stage}: {error}"));
        bench.made_once(&machine).unwrap_or_else(|missing| panic!("{stage}: {missing}"));
        bench.works(&machine).unwrap_or_else(|missing| panic!("{stage}: {missing}"));
        driver.release(&wish.key).await.unwrap();
        bench.nothing_left(&wish.key).unwrap_or_else(|left| panic!("{stage}: {left}"));
    }
}

async fn a_machine_works_and_goes(driver: &dyn Driver, bench: &dyn Bench) {
    let wish = wish(bench, "used");
    let machine = driver.ensure(&wish).await.unwrap();
    bench.works(&machine).expect("its engine answers");
    assert_eq!(driver.state(&wish.key).await.unwrap(), MachineState::Running);
    bench.use_it(&machine);
    driver.release(&wish.key).await.unwrap();
    bench.nothing_left(&wish.key).expect("with its containers");
    driver.release(&wish.key).await.expect("again");
    assert_eq!(driver.find(&wish.key).await.unwrap(), None);
    assert_eq!(driver.state(&wish.key).await.unwrap(), MachineState::Gone);
}

/// The last one: what is let go stays until the bench is cleared away.
async fn what_was_let_go_is_found_and_touched_no_more(driver: &dyn Driver, bench: &dyn Bench) {
    driver.forget(&key(bench, "none")).await.expect("nothing there is success");
    let (kept, other) = (wish(bench, "kept"), wish(bench, "other"));
    let machine = driver.ensure(&kept).await.unwrap();
    driver.forget(&kept.key).await.unwrap();
    driver.forget(&kept.key).await.expect("again");
    assert_eq!(driver.find(&kept.key).await.unwrap(), None);
    assert_eq!(driver.list().await.unwrap(), []);
    assert_eq!(driver.state(&kept.key).await.unwrap(), MachineState::Gone);
    driver.release(&kept.key).await.expect("there is nothing of ours to release");
    driver.ensure(&kept).await.expect_err("its key has been used");
    bench.works(&machine).expect("it goes on");
    let neighbour = driver.ensure(&other).await.unwrap();
    assert_ne!((&neighbour.address, &neighbour.id), (&machine.address, &machine.id));
    driver.release(&other.key).await.unwrap();
    bench.works(&machine).expect("it still goes on");
}

/// Not a promise of its own: the part of other tests that must happen in a process that can be killed.
#[tokio::test(flavor = "multi_thread")]
async fn makes_a_machine_for_another_test() {
    let Ok(told) = std::env::var(HELPER) else { return };
    let told: Vec<&str> = told.split('\n').collect();
    let config =
        DriverConfig { cluster: told[1].to_owned(), root: told[2].into(), skep_binary: told[3].into() };
    let wish = wish_for(MachineKey { cluster: told[1].to_owned(), host: told[4].to_owned() }, told[5]);
    let driver = (kind(told[0]).unwrap().build)(&config);
    driver.ensure(&wish).await.unwrap();
}

fn helper(kind: &DriverKind, bench: &dyn Bench, wish: &MachineWish) -> Child {
    let config = bench.config();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let told = [
        kind.name.to_owned(),
        config.cluster.clone(),
        path(&config.root),
        path(&config.skep_binary),
        wish.key.host.clone(),
        wish.name.clone(),
    ];
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "makes_a_machine_for_another_test"])
        .env(HELPER, told.join("\n"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn key(bench: &dyn Bench, name: &str) -> MachineKey {
    MachineKey { cluster: bench.config().cluster.clone(), host: format!("host_{name:0>32}") }
}

fn wish(bench: &dyn Bench, name: &str) -> MachineWish {
    wish_for(key(bench, name), name)
}

fn wish_for(key: MachineKey, name: &str) -> MachineWish {
    let join = JoinFile {
        cluster: key.cluster.clone(),
        host_id: key.host.clone(),
        managers: vec!["10.90.0.1:8444".to_owned()],
        ca_pem: "no certificate: the agent of this test reads none".to_owned(),
        token: "once".to_owned(),
    };
    MachineWish { key, name: name.to_owned(), options: BTreeMap::new(), join }
}

fn sorted(mut machines: Vec<Machine>) -> Vec<Machine> {
    machines.sort_by(|one, other| one.key.cmp(&other.key));
    machines
}
