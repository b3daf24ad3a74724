//! Changes of an engine by a script that stands for the machine's own program.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::*;
use crate::Entrance;

/// Long enough on a loaded computer.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    folder: tempfile::TempDir,
    changes: EngineChanges,
}

impl Bench {
    /// The machine's own program is this shell script; there is no engine.
    fn with(script: &str) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("engine-upgrade");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        let engine = Engine::new(folder.path().join("docker.sock"), Entrance::default());
        let changes = EngineChanges::with(engine, folder.path(), &program);
        Bench { folder, changes }
    }

    async fn ask(&self, key: &str) -> EngineChange {
        let request = EngineChangeRequest { version: "29.1.2".into(), key: key.into(), restart: false };
        self.changes.ensure(&request).await.unwrap_or_else(|not| panic!("{}", not.message))
    }

    async fn ended(&self, key: &str) -> EngineChange {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.ask(key).await;
            if !told.running {
                return told;
            }
            assert!(Instant::now() < deadline, "the change goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn runs(&self) -> usize {
        let runs = fs::read_to_string(self.folder.path().join("runs")).unwrap_or_default();
        runs.lines().count()
    }
}

#[tokio::test]
async fn a_change_is_done_once_for_each_key_and_gets_the_version() {
    let bench = Bench::with(r#"echo "$1" >> "$(dirname "$0")/runs"; echo "no such package" >&2; exit 7"#);
    assert!(bench.ask("op_1").await.running);
    let told = bench.ended("op_1").await;
    assert_eq!((told.code, told.said.as_str()), (Some(7), "no such package"));
    assert_eq!(bench.ended("op_1").await.code, Some(7));
    assert_eq!(bench.runs(), 1, "asking again changes nothing");
    assert!(bench.ask("op_2").await.running);
    bench.ended("op_2").await;
    assert_eq!(fs::read_to_string(bench.folder.path().join("runs")).expect("read"), "29.1.2\n29.1.2\n");
}

#[tokio::test]
async fn an_agent_that_starts_in_the_middle_finds_what_goes_on_and_another_change_waits() {
    let bench = Bench::with(r#"cat "$(dirname "$0")/go" > /dev/null; echo x >> "$(dirname "$0")/runs""#);
    let go = bench.folder.path().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert!(bench.ask("op_1").await.running);
    let engine = Engine::new(bench.folder.path().join("docker.sock"), Entrance::default());
    let program = bench.folder.path().join("engine-upgrade");
    let restarted = EngineChanges::with(engine, bench.folder.path(), &program);
    let request =
        |key: &str| EngineChangeRequest { version: "29.1.2".into(), key: key.into(), restart: false };
    assert!(restarted.ensure(&request("op_1")).await.expect("is told").running);
    let other = restarted.ensure(&request("op_2")).await.expect_err("one at a time");
    assert_eq!(other.kind, AgentFailureKind::Busy);
    fs::write(&go, "go").expect("told to go on");
    assert_eq!(bench.ended("op_1").await.code, Some(0));
    assert_eq!(bench.runs(), 1);
}

#[tokio::test]
async fn a_change_that_died_with_the_machine_is_begun_again() {
    let bench = Bench::with(r#"echo x >> "$(dirname "$0")/runs""#);
    fs::create_dir(bench.folder.path().join("engine-change")).expect("made");
    fs::write(bench.folder.path().join("engine-change/key"), "op_1\n29.1.2\n").expect("written");
    assert!(bench.ask("op_1").await.running);
    assert_eq!(bench.ended("op_1").await.code, Some(0));
    assert_eq!(bench.runs(), 1);
}

#[tokio::test]
async fn what_is_no_version_never_reaches_a_shell() {
    let bench = Bench::with("exit 0");
    for version in ["", "$(id)", "1;2", "1 2"] {
        let request = EngineChangeRequest { version: version.into(), key: "op_1".into(), restart: false };
        let not = bench.changes.ensure(&request).await.expect_err("is refused");
        assert_eq!(not.kind, AgentFailureKind::Invalid, "{version}");
    }
}

#[tokio::test]
async fn an_engine_is_started_anew_once_for_each_key_by_the_program_for_that() {
    let bench = Bench::with(r#"echo "an upgrade" >> "$(dirname "$0")/runs""#);
    let program = bench.folder.path().join("engine-restart");
    fs::write(&program, "#!/bin/sh\necho \"$# words\" >> \"$(dirname \"$0\")/runs\"\n").expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    let restart = |key: &str| EngineChangeRequest { version: String::new(), key: key.into(), restart: true };
    for key in ["op_1", "op_1", "op_2"] {
        let deadline = Instant::now() + PATIENCE;
        while bench.changes.ensure(&restart(key)).await.expect("is told").running {
            assert!(Instant::now() < deadline, "the restart goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let runs = fs::read_to_string(bench.folder.path().join("runs")).expect("read");
    assert_eq!(runs, "0 words\n0 words\n");
}
