//! A cluster is saved, lost with everything on it, and restored on new addresses: the same objects in a new epoch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use skep_chaos_tests::lab::{Ran, ran, skep};
use skep_chaos_tests::process::{self, Access, Process};
use tempfile::TempDir;

/// Managers as an operator runs them: data folders that a command wrote, and `skep server` on each.
struct Managers {
    access: Access,
    logs: Vec<PathBuf>,
    running: Vec<Process>,
}

impl Managers {
    /// Starts every data folder in `out` at the address that it was written for.
    fn start(out: &Path, names: &[&str]) -> Managers {
        let urls = names.iter().map(|name| settle(&out.join(name))).collect();
        let (ca, token) = (out.join(names[0]).join("identity/ca.pem"), out.join("admin-token"));
        let access = Access { binary: skep().expect("skep is built"), urls, ca, token };
        let start = |name: &&str| {
            let mut server = Command::new(&access.binary);
            server.arg("server").arg("--data-dir").arg(out.join(name));
            Process::start(server, &out.join(name).join("log")).expect("starts")
        };
        let running = names.iter().map(start).collect();
        let logs = names.iter().map(|name| out.join(name).join("log")).collect();
        let managers = Managers { access, logs, running };
        managers.wait_for("a leader that answers", || {
            let ran = managers.skep(&["cluster", "status", "-o", "json"]);
            let status: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
            ran.code == 0 && !status["leader"].is_null() && managers.skep(&["env", "ls"]).code == 0
        });
        managers
    }

    fn wait_for(&self, what: &str, mut so: impl FnMut() -> bool) {
        process::wait_for(what, || Ok(so().then_some(())), || self.tails()).expect("comes true");
    }

    fn skep(&self, arguments: &[&str]) -> Ran {
        self.access.run(arguments).expect("runs")
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let ran = self.skep(arguments);
        assert_eq!(ran.code, 0, "skep {}: {}{}", arguments.join(" "), ran.stderr, self.tails());
        ran.stdout
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeed(&[arguments, &["-o", "json"]].concat())).expect("is JSON")
    }

    fn tails(&self) -> String {
        process::tails(self.logs.iter().map(PathBuf::as_path))
    }

    /// Without a warning, all at once.
    fn kill_all(&mut self) {
        self.running.clear();
    }
}

/// Managers on one machine listen only on their own address. Answers where the manager's API is.
fn settle(data: &Path) -> String {
    let file = data.join("server.toml");
    let config = fs::read_to_string(&file).expect("is there");
    let of = |key: &str, config: &str| -> Vec<String> {
        let lines = config.lines().filter(|line| line.starts_with(key));
        lines.map(|line| line.split('"').nth(1).expect("is a text").to_owned()).collect()
    };
    let name = data.file_name().and_then(|name| name.to_str()).expect("is a name");
    let at = of("name = ", &config).iter().position(|known| known == name).expect("is a founder");
    let (peer, url) = (&of("peer_address", &config)[at], &of("api_url", &config)[at]);
    let lines = config.lines().map(|line| match line.split(' ').next().unwrap_or_default() {
        "peer_listen" => format!("peer_listen = \"{peer}\""),
        "api_listen" => format!("api_listen = \"{}\"", url.trim_start_matches("https://")),
        "drain_delay_secs" => "drain_delay_secs = 0".to_owned(),
        _ => line.to_owned(),
    });
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("is written");
    url.clone()
}

/// Runs a command that needs no manager.
fn local(arguments: &[&str]) -> Ran {
    let mut command = Command::new(skep().expect("skep is built"));
    command.args(arguments).env_remove("SKEP_RECOVERY_KEY_FILE").env_remove("SKEP_OUTPUT");
    ran(command).expect("runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("is text")
}

/// `--manager` for each, at loopback addresses that nobody else uses: a network for each call, of those of this process.
fn at_new_addresses(names: &[&str]) -> Vec<String> {
    static NETWORKS: AtomicU32 = AtomicU32::new(0);
    let network = NETWORKS.fetch_add(1, Ordering::SeqCst);
    let (process, network) = (std::process::id() % 12_000, network % 5);
    let place = process * 5 + network;
    let (high, low) = (64 + place / 250 % 190, place % 250);
    names.iter().enumerate().map(|(at, name)| format!("{name}=127.{high}.{low}.{}", at + 1)).collect()
}

fn init(folder: &Path, names: &[&str]) -> PathBuf {
    let out = folder.join("founders");
    let managers = at_new_addresses(names);
    let mut arguments = vec!["init", "--admin-token", "--out", text(&out)];
    arguments.extend(managers.iter().flat_map(|manager| ["--manager", manager.as_str()]));
    let ran = local(&arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("recovery-key"), "{}", ran.stdout);
    out
}

fn restore(backup: &Path, key: &Path, out: &Path, names: &[&str]) -> Ran {
    let managers = at_new_addresses(names);
    let mut arguments =
        vec!["snapshot", "restore", text(backup), "--recovery-key-file", text(key), "--out", text(out)];
    arguments.extend(managers.iter().flat_map(|manager| ["--manager", manager.as_str()]));
    local(&arguments)
}

fn environments(managers: &Managers) -> Value {
    let mut list = managers.json(&["env", "ls"])["items"].clone();
    for item in list.as_array_mut().into_iter().flatten() {
        // The time and the view of the answer are not part of the object.
        item.as_object_mut().expect("is an object").remove("status");
    }
    list
}

fn contents(backup: &Path, key: &Path) -> Value {
    let ran = local(&["snapshot", "inspect", text(backup), "--recovery-key-file", text(key), "-o", "json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.stdout).expect("is JSON")
}

/// R15: the file and the recovery key are all that is left.
#[test]
fn a_cluster_that_was_lost_with_everything_on_it_comes_back_from_file_and_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = init(folder.path(), &["m1", "m2", "m3"]);
    let mut old = Managers::start(&out, &["m1", "m2", "m3"]);
    for name in ["prod", "stage", "play"] {
        old.succeed(&["env", "create", name, "--template", "default"]);
    }
    let backup = folder.path().join("skep.backup");
    let said = old.succeed(&["snapshot", "save", text(&backup)]);
    assert!(said.starts_with("Saved and verified snapshot to revision "), "{said}");
    old.succeed(&["env", "create", "after-the-backup", "--template", "default"]);
    let before = environments(&old);

    // What a person has put elsewhere; everything else is gone.
    let safe = folder.path().join("safe");
    fs::create_dir(&safe).expect("is made");
    for name in ["recovery-key", "admin-token"] {
        fs::copy(out.join(name), safe.join(name)).expect("is copied");
    }
    let key = safe.join("recovery-key");
    let saved = contents(&backup, &key);
    assert_eq!(saved["contents"]["tables"]["environment"], 3);
    let old_epoch = old.json(&["cluster", "status"])["epoch"].clone();
    assert_eq!(old_epoch, 1);
    old.kill_all();
    fs::remove_dir_all(&out).expect("is removed");

    let new = folder.path().join("restored");
    let ran = restore(&backup, &key, &new, &["n1", "n2", "n3"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let restored = Managers::start(&new, &["n1", "n2", "n3"]);
    let status = restored.json(&["cluster", "status"]);
    assert_eq!(status["epoch"], 2);
    let names: Vec<&Value> =
        status["members"].as_array().expect("a list").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    let ids: Vec<u64> =
        status["members"].as_array().expect("a list").iter().filter_map(|it| it["id"].as_u64()).collect();
    assert_eq!(ids, [4, 5, 6], "numbers are not used again");

    let after = environments(&restored);
    let expected: Vec<&Value> = before
        .as_array()
        .expect("a list")
        .iter()
        .filter(|it| it["metadata"]["name"] != "after-the-backup")
        .collect();
    assert_eq!(after.as_array().expect("a list").iter().collect::<Vec<_>>(), expected);
    let old = Access { token: safe.join("admin-token"), ..restored.access.clone() };
    assert_eq!(old.run(&["env", "ls"]).expect("runs").code, 0, "the old token is valid");

    // It goes on as a cluster: writes, and a backup of its own for the same key.
    restored.succeed(&["env", "create", "afterwards", "--template", "default"]);
    let second = folder.path().join("second.backup");
    restored.succeed(&["snapshot", "save", text(&second)]);
    let again = contents(&second, &key);
    assert_eq!(
        (&again["header"]["epoch"], &again["contents"]["tables"]["environment"]),
        (&2.into(), &4.into())
    );
    assert_eq!(again["contents"]["tables"]["token"], 2, "the old administrator and the new one");
}

#[test]
fn backups_are_kept_listed_fetched_and_removed_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = init(folder.path(), &["m1"]);
    let key = out.join("recovery-key");
    let managers = Managers::start(&out, &["m1"]);
    managers.succeed(&["env", "create", "prod", "--template", "default"]);
    managers.succeed(&["snapshot", "save"]);
    let listed = managers.json(&["snapshot", "ls"])["items"][0].clone();
    let id = listed["metadata"]["id"].as_str().expect("has an id").to_owned();
    let path = PathBuf::from(listed["status"]["path"].as_str().expect("has a path"));
    assert!(path.starts_with(out.join("m1/snapshots-out")) && path.exists(), "{listed}");
    assert!(managers.json(&["snapshot", "schedule"])["status"]["last_success_at"].is_string());

    let fetched = folder.path().join("fetched.backup");
    managers.succeed(&["snapshot", "save", text(&fetched), "--id", &id]);
    assert_eq!(fs::read(&fetched).expect("is read"), fs::read(&path).expect("is read"));
    let refused = managers.skep(&["snapshot", "save", text(&fetched)]);
    assert_eq!((refused.code, refused.stderr.contains("exists already")), (2, true), "{refused:?}");

    let verified = local(&["snapshot", "verify", text(&fetched), "--recovery-key-file", text(&key)]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(verified.stdout.contains("restored into memory"), "{}", verified.stdout);

    // A second key, and then a key in the place of both.
    let (deputy, fresh) = (folder.path().join("deputy"), folder.path().join("fresh"));
    managers.succeed(&["snapshot", "new-key", text(&deputy), "--add"]);
    let for_both = folder.path().join("both.backup");
    managers.succeed(&["snapshot", "save", text(&for_both)]);
    managers.succeed(&["snapshot", "new-key", text(&fresh)]);
    let for_one = folder.path().join("one.backup");
    managers.succeed(&["snapshot", "save", text(&for_one)]);
    let opens = |backup: &Path, key: &Path| {
        local(&["snapshot", "verify", text(backup), "--recovery-key-file", text(key)]).code == 0
    };
    assert!(opens(&for_both, &key) && opens(&for_both, &deputy) && !opens(&for_both, &fresh));
    assert!(!opens(&for_one, &key) && !opens(&for_one, &deputy) && opens(&for_one, &fresh));

    managers.succeed(&["snapshot", "schedule", "--every", "6h", "--keep", "2"]);
    let schedule = managers.json(&["snapshot", "schedule"]);
    assert_eq!((&schedule["spec"]["every_minutes"], &schedule["spec"]["keep"]), (&360.into(), &2.into()));
    let refused = managers.skep(&["snapshot", "schedule", "--every", "1m"]);
    assert_eq!((refused.code, refused.stderr.contains("SKP-1202")), (2, true), "{refused:?}");

    managers.succeed(&["snapshot", "rm", &id, "--yes"]);
    managers.wait_for("the backup to go", || {
        let listed = managers.json(&["snapshot", "ls"]);
        !path.exists() && listed["items"].as_array().expect("a list").is_empty()
    });
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_code_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = init(folder.path(), &["m1"]);
    let managers = Managers::start(&out, &["m1"]);
    let good = folder.path().join("good.backup");
    managers.succeed(&["snapshot", "save", text(&good)]);
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("is written");
        path
    };
    let bytes = fs::read(&good).expect("is read");
    let mut flipped = bytes.clone();
    let last = flipped.len() - 40;
    flipped[last] ^= 4;
    let key = out.join("recovery-key");
    let other = TempDir::new().expect("a folder");
    let other_key = init(other.path(), &["m1"]).join("recovery-key");
    let cases = [
        (file("text", b"hello\n"), &key, "SKP-3401"),
        (good.clone(), &other_key, "SKP-3402"),
        (file("flipped", &flipped), &key, "SKP-3404"),
        (file("cut", &bytes[..bytes.len() - 1]), &key, "SKP-3404"),
        (good.clone(), &file("no-key", b"hello\n"), "SKP-3405"),
    ];
    for (backup, key, code) in &cases {
        let wished = folder.path().join("restored");
        for refused in [
            local(&["snapshot", "verify", text(backup), "--recovery-key-file", text(key)]),
            local(&["snapshot", "inspect", text(backup), "--recovery-key-file", text(key)]),
            restore(backup, key, &wished, &["m1"]),
        ] {
            assert_eq!(refused.code, 2, "{code}: {refused:?}");
            assert!(refused.stderr.contains(code), "{code}: {}", refused.stderr);
        }
        assert!(!wished.exists(), "{code}");
    }
    let hidden = fs::read_dir(folder.path()).expect("is read").flatten();
    let hidden: Vec<_> =
        hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");

    let taken = restore(&good, &key, folder.path(), &["m1"]);
    assert_eq!((taken.code, taken.stderr.contains("exists already")), (2, true), "{taken:?}");
    let no_key = local(&["snapshot", "inspect", text(&good)]);
    assert_eq!((no_key.code, no_key.stderr.contains("is encrypted")), (2, true), "{no_key:?}");
}
