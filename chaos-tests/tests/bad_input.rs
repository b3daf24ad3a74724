//! What a user gets wrong: one clear error each, the exit code that is promised for it, and nothing changed.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use skep_chaos_tests::lab::{Lab, Wish, ran};

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// A request that must be refused: what is typed, with which variables; the exit code, and words of the error.
struct Refused {
    typed: String,
    variables: &'static [(&'static str, &'static str)],
    code: i32,
    says: &'static [&'static str],
}

fn refused(typed: impl Into<String>, code: i32, says: &'static [&'static str]) -> Refused {
    Refused { typed: typed.into(), variables: &[], code, says }
}

/// All that people can have made. That somebody has tried is written into the audit, so revisions move on.
fn everything(lab: &Lab, environment: &str) -> Vec<Value> {
    let lists =
        ["env", "template", "operation", "user", "group", "role", "token"].map(|noun| vec![noun, "ls"]);
    let within = ["host", "stack", "registry"].map(|noun| vec![noun, "ls", "-e", environment]);
    let list = |words: &Vec<&str>| lab.json(words).expect("is listed")["items"].clone();
    lists.iter().chain(&within).map(list).collect()
}

#[test]
fn each_mistake_gets_one_clear_error_and_changes_nothing() {
    let lab =
        Lab::start(&Wish::new("bad-input", 1, 27_443).expect("skep is built")).expect("a manager starts");
    lab.succeed(&["env", "create", "taken", "--template", "default"]).expect("an environment is created");
    let files = tempfile::tempdir().expect("a folder");
    let unknown_key =
        file(files.path(), "unknown.yml", "services:\n  web:\n    image: a:1\n    prots: ['80:80']\n");
    let no_yaml = file(files.path(), "broken.yml", "services: [\n");
    let template = file(files.path(), "even.yml", "name: even\nswarm:\n  managers: 2\n");
    let up = |file: &str| format!("up -f {file} --stack s -e taken");
    let cases = [
        refused("env create x --template nope", 3, &["SKP-1203", "template", "nope"]),
        refused("env create taken --template default", 5, &["SKP-1301", "taken"]),
        refused("env create Upper --template default", 2, &["SKP-1201", "Upper"]),
        refused("host create h --driver cloudy -e taken", 2, &["SKP-2001", "cloudy", "local"]),
        refused("host create h --driver local -e nowhere", 3, &["SKP-1203", "nowhere"]),
        refused(up(&unknown_key), 2, &["SKP-2601", "prots", "line 4", "ports"]),
        refused(up(&no_yaml), 2, &["SKP-2601", "line"]),
        refused(up("no-such-file.yml"), 2, &["no-such-file.yml"]),
        refused(format!("template import {template}"), 2, &["SKP-2603", "line 3", "swarm.managers"]),
        refused("host rm ghost -y -e taken", 3, &["SKP-1203", "ghost"]),
        refused("env rm taken -y", 2, &["--confirm"]),
        refused("hots ls", 2, &["hots", "host"]),
        Refused {
            variables: &[("SKEP_TOKEN_FILE", ""), ("SKEP_TOKEN", "skp_wrong_token")],
            ..refused("env ls", 4, &["SKP-1101"])
        },
        Refused {
            variables: &[("SKEP_URL", "https://127.0.0.1:1")],
            ..refused("env ls", 8, &["127.0.0.1:1"])
        },
    ];
    let before = everything(&lab, "taken");
    for case in &cases {
        case.insist(&lab);
    }
    assert_eq!(everything(&lab, "taken"), before, "something was changed");
    lab.stop().expect("nothing is left");
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left() {
    let port = 27_543;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let mut command = Command::new(skep_chaos_tests::lab::skep().expect("skep is built"));
    command.args(["dev", "--name", "port-taken", "--port", &port.to_string()]);
    let ran = ran(command).expect("runs");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("27543") && ran.stderr.contains("--port"), "{}", ran.stderr);
    assert!(!Path::new("/var/lib/skep-dev/port-taken").exists(), "a folder is left");
}

#[test]
fn without_root_a_local_host_is_refused_before_anything_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let binary = folder.path().join("skep");
    std::fs::copy(skep_chaos_tests::lab::skep().expect("skep is built"), &binary)
        .expect("a copy that others may run");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("others may enter");
    let root = folder.path().join("dev");
    std::fs::create_dir(&root).expect("a folder");
    chown(&root, Some(NOBODY), Some(NOBODY)).expect("it is nobody's");
    let wish =
        Wish { root, binary, user: Some(NOBODY), ..Wish::new("no-root", 1, 27_643).expect("skep is built") };
    let lab = Lab::start(&wish).expect("a manager starts without root");
    lab.succeed(&["env", "create", "here", "--template", "single"]).expect("an environment is created");
    let before = everything(&lab, "here");
    refused("host create h --driver local -e here", 2, &["SKP-2001", "root"]).insist(&lab);
    assert_eq!(everything(&lab, "here"), before, "something was changed");
    lab.stop().expect("nothing is left");
}

impl Refused {
    fn insist(&self, lab: &Lab) {
        let words: Vec<_> = self.typed.split(' ').collect();
        let ran = lab.skep_with(&words, self.variables).expect("the client runs");
        assert_eq!(ran.code, self.code, "skep {}: {}", self.typed, ran.stderr);
        for word in self.says {
            assert!(ran.stderr.contains(word), "skep {}: '{word}' is missing in: {}", self.typed, ran.stderr);
        }
        let errors = ran.stderr.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, 1, "skep {} should say one error: {}", self.typed, ran.stderr);
    }
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}
