//! Managers join, leave, lose their data and get new certificates, while a client goes on writing.

use std::fs;
use std::path::Path;

use skep_chaos_tests::managers::Managers;

#[test]
fn one_manager_becomes_three_then_five_then_three_and_no_write_is_lost() {
    let mut managers = Managers::found().expect("a cluster of one");
    let writer = managers.keep_writing();
    managers.join(&["m2", "m3"], "voter").expect("they join");
    managers.wait_for_voters(3).expect("three voters");
    managers.join(&["m4", "m5"], "voter").expect("they join");
    managers.wait_for_voters(5).expect("five voters");

    // The leader is among those that go.
    let leader = managers.leader().expect("a leader");
    let other = if leader == "m5" { "m4" } else { "m5" };
    for gone in [leader.as_str(), other] {
        // Clients are told first, as an administrator would take it off the load balancer.
        managers.forget_url(gone);
        let removed = managers.client(&["cluster", "remove", gone, "--confirm", gone]).expect("runs");
        assert_eq!(removed.code, 0, "{}", removed.stderr);
        let status = managers.ended(gone).expect("the removed manager ends");
        assert!(status.success(), "{status}: {}", managers.said(gone));
        assert!(managers.said(gone).contains("was removed from the cluster"), "{}", managers.said(gone));
        let again = managers.run(gone, &[]).expect("runs");
        assert_eq!(again.code, 1, "a removed manager does not start again");
        assert!(again.stderr.contains("join-command"), "{}", again.stderr);
    }
    managers.wait_for_voters(3).expect("three voters");

    let written = writer.stop().expect("every write was acknowledged");
    assert!(written.len() > 5, "the writer has hardly written: {}", written.len());
    let status = managers.json(&["cluster", "status"]).expect("a status");
    for member in status["members"].as_array().expect("members") {
        let name = member["name"].as_str().expect("a name").to_owned();
        managers
            .wait_for(&format!("{name} to have every write"), |managers| {
                let there = managers.templates(&name)?;
                Ok(written.iter().all(|name| there.contains(name)).then_some(()))
            })
            .expect("nothing acknowledged is lost");
    }
}

#[test]
fn a_removal_that_would_lose_the_quorum_is_refused_with_the_reason() {
    let mut managers = Managers::found().expect("a cluster of one");
    let refused = managers.client(&["cluster", "remove", "m1", "--confirm", "m1"]).expect("runs");
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("SKP-3101") && refused.stderr.contains("only manager"),
        "{}",
        refused.stderr
    );

    managers.join(&["m2", "m3"], "voter").expect("they join");
    managers.wait_for_voters(3).expect("three voters");
    managers.kill("m3").expect("killed");
    let alive = if managers.leader().expect("a leader") == "m1" { "m2" } else { "m1" };
    managers
        .wait_for("m3 to be missed", |managers| {
            Ok((managers.member("m3")?["state"] == "unreachable").then_some(()))
        })
        .expect("it is dead");
    let refused = managers.client(&["cluster", "remove", alive, "--confirm", alive]).expect("runs");
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("only 1 can be reached"), "{}", refused.stderr);
    let unconfirmed = managers.client(&["cluster", "remove", "m3", "-y"]).expect("runs");
    assert_eq!(unconfirmed.code, 2, "{}", unconfirmed.stderr);
    let unknown = managers.client(&["cluster", "remove", "m9", "--confirm", "m9"]).expect("runs");
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);

    let removed = managers.client(&["cluster", "remove", "m3", "--confirm", "m3"]).expect("runs");
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    managers.wait_for_voters(2).expect("two voters");
    // It was away when it was removed, and is told when it comes back.
    managers.start("m3", &[]).expect("starts");
    let status = managers.ended("m3").expect("it is turned away");
    assert!(status.success(), "{status}: {}", managers.said("m3"));
    managers.import("still-here").expect("the others go on");
}

#[test]
fn a_manager_without_its_data_comes_back_from_its_peers_under_a_new_number() {
    let mut managers = Managers::of(3).expect("three managers");
    managers.import("before").expect("is written");
    for (name, number) in [("m1", 4), ("m3", 5)] {
        managers.kill(name).expect("killed");
        match name {
            "m1" => empty(&managers.data(name).join("raft")),
            _ => damage(&managers.data(name).join("raft")),
        }
        let refused = managers.run(name, &[]).expect("runs");
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains("skep server --reset-from-peers"), "{}", refused.stderr);
        managers.import(&format!("without-{name}")).expect("the others go on");

        managers.start(name, &["--reset-from-peers"]).expect("starts");
        managers
            .wait_for(&format!("{name} to be back"), |managers| {
                let member = managers.member(name)?;
                Ok((member["id"] == number && member["role"] == "voter").then_some(()))
            })
            .expect("it is back");
        managers.wait_for_voters(3).expect("three voters");
        let missed = format!("without-{name}");
        managers
            .wait_for("its state", |managers| {
                let there = managers.templates(name)?;
                Ok((there.contains(&missed) && there.contains(&"before".to_owned())).then_some(()))
            })
            .expect("it has everything");
        let aside = fs::read_dir(managers.data(name)).expect("readable").flatten();
        let aside = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("raft.set-aside-"));
        assert_eq!(aside.count(), 1, "the old data is kept");
    }
    // An ordinary start is one again.
    managers.kill("m1").expect("killed");
    managers.start("m1", &[]).expect("starts");
    managers.wait_for_voters(3).expect("three voters");
}

#[test]
fn without_peers_a_reset_is_refused_and_changes_nothing() {
    let mut managers = Managers::found().expect("a cluster of one");
    managers.import("only-here").expect("is written");
    managers.kill("m1").expect("killed");
    let refused = managers.run("m1", &["--reset-from-peers"]).expect("runs");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("no other manager"), "{}", refused.stderr);
    managers.start("m1", &[]).expect("starts");
    managers
        .wait_for("the data", |managers| {
            Ok(managers.templates("m1")?.contains(&"only-here".to_owned()).then_some(()))
        })
        .expect("nothing is lost");
}

#[test]
fn certificates_are_replaced_leadership_moves_and_no_request_fails() {
    let mut managers = Managers::of(3).expect("three managers");
    let writer = managers.keep_writing();
    let certificates = |managers: &Managers| {
        ["m1", "m2", "m3"].map(|name| {
            fs::read_to_string(managers.data(name).join("identity/manager.pem")).expect("a certificate")
        })
    };
    let before = certificates(&managers);
    let rotated = managers.client(&["cluster", "rotate-certificates"]).expect("runs");
    assert_eq!(rotated.code, 0, "{}", rotated.stderr);
    let after = certificates(&managers);
    assert!(before.iter().zip(&after).all(|(before, after)| before != after));
    assert!(managers.member("m2").expect("a member")["certificate_expires_at"].is_string());
    // A new connection in every direction is made with the new certificates.
    managers.kill("m2").expect("killed");
    managers.start("m2", &[]).expect("starts");
    managers.wait_for_voters(3).expect("three voters");

    for to in ["m2", "m3"] {
        let moved = managers.client(&["cluster", "transfer-leader", "--to", to]).expect("runs");
        assert_eq!(moved.code, 0, "{}", moved.stderr);
        assert_eq!(managers.leader().expect("a leader"), to);
    }
    let drained = managers.client(&["cluster", "drain", "m3"]).expect("runs");
    assert_eq!(drained.code, 0, "{}", drained.stderr);
    managers
        .wait_for("a leader that does not drain", |managers| {
            let drains = managers.member("m3")?["draining"] == true;
            Ok((drains && managers.leader()? != "m3").then_some(()))
        })
        .expect("a drained manager does not lead");
    let resumed = managers.client(&["cluster", "drain", "m3", "--off"]).expect("runs");
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_eq!(managers.member("m3").expect("a member")["draining"], false);
    writer.stop().expect("no request failed");
}

#[test]
fn a_standby_receives_and_votes_only_after_it_was_promoted() {
    let mut managers = Managers::found().expect("a cluster of one");
    managers.join(&["spare"], "standby").expect("it joins");
    managers.import("seen-by-all").expect("is written");
    managers
        .wait_for("the standby to have caught up", |managers| {
            Ok(managers.templates("spare")?.contains(&"seen-by-all".to_owned()).then_some(()))
        })
        .expect("it receives");
    assert_eq!(managers.member("spare").expect("a member")["role"], "learner");
    let promoted = managers.client(&["cluster", "promote", "spare"]).expect("runs");
    assert_eq!(promoted.code, 0, "{}", promoted.stderr);
    managers.wait_for_voters(2).expect("two voters");

    let refused = managers.run("late", &["--join", "127.0.0.1:1", "--token", "skj_nonsense"]).expect("runs");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("join-command"), "{}", refused.stderr);
}

fn empty(dir: &Path) {
    fs::remove_dir_all(dir).expect("removed");
    fs::create_dir(dir).expect("made");
}

/// What a bad disk does to the list of the database's files.
fn damage(dir: &Path) {
    let mut damaged = 0;
    for entry in walk(dir) {
        if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST")) {
            let mut bytes = fs::read(&entry).expect("readable");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            fs::write(&entry, bytes).expect("written");
            damaged += 1;
        }
    }
    assert!(damaged > 0, "there is nothing to damage in {}", dir.display());
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).expect("readable").flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => walk(&path),
            path => vec![path],
        })
        .collect()
}
