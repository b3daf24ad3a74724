//! What becomes of a cluster when managers are lost for good, and of a manager whose disk fails: real processes.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use skep_chaos_tests::managers::{Managers, write_ahead_log};

#[test]
fn a_survivor_goes_on_alone_and_the_others_do_not_come_back() -> Result<()> {
    let mut managers = Managers::found(3)?;
    for name in ["a", "b", "c"] {
        managers.succeed(&["env", "create", name, "--template", "default"])?;
    }
    managers.all_caught_up()?;
    let inspect = ["cluster", "recover", "--inspect", "--data-dir"];
    let running = managers.skep_at(3, &inspect)?;
    assert_eq!(running.code, 5, "{running:?}");
    assert!(running.stderr.contains("running") && running.stderr.contains("stop"), "{}", running.stderr);

    managers.kill(3)?;
    managers.kill(2)?;
    let cluster = cluster_of_stopped(&managers, 2)?;
    let recover = ["cluster", "recover", "--from-this-node", "--confirm", cluster.as_str(), "--data-dir"];
    let early = managers.skep_at(3, &recover)?;
    assert_eq!(early.code, 5, "{early:?}");
    assert!(early.stderr.contains("m1 still answers"), "{}", early.stderr);

    managers.kill(1)?;
    let yes = managers.skep_at(3, &["cluster", "recover", "--from-this-node", "-y", "--data-dir"])?;
    assert_eq!((yes.code, yes.stderr.contains("--confirm")), (2, true), "{yes:?}");
    let other = ["cluster", "recover", "--from-this-node", "--confirm", "another", "--data-dir"];
    assert_eq!(managers.skep_at(3, &other)?.code, 2);
    let found = managers.skep_at(3, &inspect)?;
    assert!(found.stdout.contains("epoch 1"), "nothing was changed: {}", found.stdout);

    let recovered = managers.skep_at(3, &recover)?;
    assert_eq!(recovered.code, 0, "{}", recovered.stderr);
    assert!(recovered.stdout.contains("epoch 2"), "{}", recovered.stdout);
    managers.start(3)?;
    let environments = managers.succeed(&["env", "ls", "-o", "name"])?;
    for name in ["a", "b", "c"] {
        assert!(environments.contains(name), "{environments}");
    }
    managers.succeed(&["env", "create", "after", "--template", "default"])?;
    let status = managers.status()?;
    assert_eq!((status["epoch"].as_u64(), status["voters"].as_u64()), (Some(2), Some(1)), "{status}");

    // Together they would be a majority of the old cluster.
    managers.start(1)?;
    managers.start(2)?;
    for number in [1, 2] {
        let status = managers.ended(number)?;
        let log = managers.log(number)?;
        assert!(!status.success());
        assert!(log.contains("epoch 2") && log.contains("--reset-from-peers"), "m{number}: {log}");
    }
    let environments = managers.succeed(&["env", "ls", "-o", "name"])?;
    assert!(environments.contains("after"), "{environments}");
    Ok(())
}

#[test]
fn a_leader_whose_disk_refuses_a_sync_ends_and_the_others_go_on() -> Result<()> {
    disk_fails("fsync,fdatasync,sync_file_range", "EIO", "Input/output error")
}

#[test]
fn a_leader_whose_disk_is_full_ends_and_comes_back_when_there_is_space() -> Result<()> {
    disk_fails("write,pwrite64,writev,pwritev", "ENOSPC", "No space left on device")
}

/// Lets the named system calls on the leader's write-ahead log fail, as a disk would let them.
fn disk_fails(calls: &str, error: &str, words: &str) -> Result<()> {
    let mut managers = Managers::found(3)?;
    managers.succeed(&["env", "create", "before", "--template", "default"])?;
    let failing = managers.wait_for("a leader", || managers.leader())?;
    let log = write_ahead_log(&managers.data_dir(failing))?;
    let mut saboteur = sabotage(managers.pid(failing)?, &log, calls, error)?;
    // Its own next write to the log is enough; this makes sure that there is one.
    managers.succeed(&["env", "create", "meanwhile", "--template", "default"])?;
    let status = managers.ended(failing)?;
    saboteur.wait().context("waiting for strace")?;
    let said = managers.log(failing)?;
    assert!(!status.success(), "{said}");
    assert!(said.contains(words), "m{failing} does not say why: {said}");

    managers.succeed(&["env", "create", "without-it", "--template", "default"])?;
    managers.start(failing)?;
    managers.all_caught_up()?;
    let environments = managers.succeed(&["env", "ls", "-o", "name"])?;
    for name in ["before", "meanwhile", "without-it"] {
        assert!(environments.contains(name), "{environments}");
    }
    let alarms: Vec<String> = (1..=3)
        .map(|number| managers.log(number))
        .collect::<Result<Vec<_>>>()?
        .iter()
        .flat_map(|log| {
            log.lines().filter(|line| line.contains("ALARM")).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(alarms.is_empty(), "{alarms:?}");
    Ok(())
}

/// Attaches to a process; ends with it.
fn sabotage(pid: u32, file: &Path, calls: &str, error: &str) -> Result<Child> {
    let mut strace = Command::new("strace")
        .args(["-f", "-q", "-o", "/dev/null", "-p", &pid.to_string(), "-P"])
        .arg(file)
        .arg("-e")
        .arg(format!("trace={calls}"))
        .arg("-e")
        .arg(format!("inject={calls}:error={error}"))
        .stdin(Stdio::null())
        .spawn()
        .context("starting strace, which apt-get install strace brings")?;
    let status = format!("/proc/{pid}/status");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let text = std::fs::read_to_string(&status).context("looking at a manager")?;
        if text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
            return Ok(strace);
        }
        match strace.try_wait().context("looking at strace")? {
            // The manager had something to write at once, and both have ended between two looks.
            Some(ended) if ended.success() => return Ok(strace),
            Some(ended) => anyhow::bail!("strace could not attach: {ended}"),
            None => {}
        }
        anyhow::ensure!(std::time::Instant::now() < deadline, "strace has not attached");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn cluster_of_stopped(managers: &Managers, number: usize) -> Result<String> {
    let found = managers.skep_at(number, &["cluster", "recover", "--inspect", "-o", "json", "--data-dir"])?;
    let found: serde_json::Value = serde_json::from_str(&found.stdout).context(found.stderr)?;
    Ok(found["cluster"].as_str().context("no cluster is named")?.to_owned())
}
