//! Changes the version of the host's engine, or starts it anew, once for each key.
//!
//! ```text
//!   <state>/engine-change/key    which change was begun last: its key and version (none: a restart)
//!   <state>/engine-change/lock   locked by the program that does it, and by its death unlocked
//!   <state>/engine-change/log    what the program says
//!   <state>/engine-change/code   its exit code, once it has ended
//! ```
//!
//! The program outlives the agent, so an agent that starts in the middle finds it by the lock. One that died with the
//! machine has left no code, and is started again. How an engine is changed is the machine's own business: its program
//! `/etc/skep/engine-upgrade`, or the packages of Debian and its relatives; and how it is started anew is
//! `/etc/skep/engine-restart`, or the service `docker`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use skep_wire::proto::agent::{AgentFailureKind, EngineChange, EngineChangeRequest};
use tokio::sync::Mutex;

use crate::engine::Engine;
use crate::files;

/// The machine's own program for it; gets the version.
const PROGRAM: &str = "/etc/skep/engine-upgrade";

/// What calls that, or the machine's packages.
const SCRIPT: &str = include_str!("engine_change.sh");

/// There where systemd runs.
const SYSTEMD: &str = "/run/systemd/system";

/// As much of the log as an error can show.
const SAID_BYTES_MAX: usize = 400;

/// As long as versions and keys are at most.
const WORD_BYTES_MAX: usize = 64;

/// Changes engines. Clones share it.
#[derive(Clone)]
pub(crate) struct EngineChanges {
    engine: Engine,
    dir: Arc<Path>,
    program: Arc<Path>,
    /// Two questions at once must not start two programs.
    asking: Arc<Mutex<()>>,
}

/// Why nothing was changed.
#[derive(Debug)]
pub(crate) struct NotChanged {
    pub(crate) kind: AgentFailureKind,
    pub(crate) message: String,
}

impl From<io::Error> for NotChanged {
    fn from(error: io::Error) -> NotChanged {
        NotChanged { kind: AgentFailureKind::Failed, message: error.to_string() }
    }
}

impl EngineChanges {
    pub(crate) fn new(engine: Engine, state_dir: &Path) -> EngineChanges {
        EngineChanges::with(engine, state_dir, Path::new(PROGRAM))
    }

    fn with(engine: Engine, state_dir: &Path, program: &Path) -> EngineChanges {
        let dir = state_dir.join("engine-change");
        EngineChanges { engine, dir: dir.into(), program: program.into(), asking: Arc::default() }
    }

    /// Begins the change, or says how far it is.
    pub(crate) async fn ensure(&self, request: &EngineChangeRequest) -> Result<EngineChange, NotChanged> {
        let is_known = if request.restart { request.version.is_empty() } else { is_word(&request.version) };
        if !is_known || !is_word(&request.key) {
            let message = "a version or a key of a change is not one".to_owned();
            return Err(NotChanged { kind: AgentFailureKind::Invalid, message });
        }
        let _alone = self.asking.lock().await;
        let now = self.engine.probe().await.map(|told| told.version).unwrap_or_default();
        let told = EngineChange { running: false, code: None, said: String::new(), engine_version: now };
        let is_ours = self.begun()? == Some((request.key.clone(), request.version.clone()));
        let Some(lock) = self.lock()? else {
            return match is_ours {
                true => Ok(EngineChange { running: true, ..told }),
                false => {
                    let message = "another change of the engine goes on".to_owned();
                    Err(NotChanged { kind: AgentFailureKind::Busy, message })
                }
            };
        };
        if told.engine_version == request.version && !request.restart {
            return Ok(EngineChange { code: Some(0), ..told });
        }
        if let Some(code) = self.code().filter(|_| is_ours) {
            return Ok(EngineChange { code: Some(code), said: self.said(), ..told });
        }
        self.start(request, lock)?;
        Ok(EngineChange { running: true, ..told })
    }

    /// The lock, if nothing goes on.
    fn lock(&self) -> Result<Option<File>, NotChanged> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.dir.join("lock");
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Key and version of the change that was begun last.
    fn begun(&self) -> Result<Option<(String, String)>, NotChanged> {
        match fs::read_to_string(self.dir.join("key")) {
            Ok(text) => Ok(text.split_once('\n').map(|(key, version)| (key.into(), version.trim().into()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The exit code of the program that has ended last.
    fn code(&self) -> Option<i32> {
        fs::read_to_string(self.dir.join("code")).ok()?.trim().parse().ok()
    }

    /// The last of what it has said.
    fn said(&self) -> String {
        let bytes = fs::read(self.dir.join("log")).unwrap_or_default();
        let end = &bytes[bytes.len().saturating_sub(SAID_BYTES_MAX)..];
        String::from_utf8_lossy(end).trim().replace('\n', "; ")
    }

    fn start(&self, request: &EngineChangeRequest, lock: File) -> Result<(), NotChanged> {
        let code = self.dir.join("code");
        match fs::remove_file(&code) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // Written before it is begun: what runs without a key would be nobody's.
        let key = format!("{}\n{}\n", request.key, request.version);
        files::replace(&self.dir.join("key"), key.as_bytes()).map_err(io::Error::other)?;
        let log = self.dir.join("log");
        let log = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(log)?;
        let mut command = outliving();
        command
            .args(["sh", "-c", SCRIPT, "skep-engine-change", &request.version])
            .arg(&*self.program)
            .arg(code);
        command.stdin(lock).stdout(log.try_clone()?).stderr(Stdio::from(log)).current_dir("/");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SKEP_")) {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        tracing::info!(version = request.version, key = request.key, "a change of the engine begins");
        // Collected when it ends, so that no zombie stays. A task of the runtime would hold up the end of the agent.
        std::thread::spawn(move || child.wait());
        Ok(())
    }
}

/// Begins a command that does not end with the agent: systemd would end everything in the agent's group.
fn outliving() -> Command {
    if Path::new(SYSTEMD).exists() {
        let mut command = Command::new("systemd-run");
        command.args(["--scope", "--quiet", "--collect", "--slice", "system.slice"]);
        return command;
    }
    Command::new("setsid")
}

fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".+~-_".contains(&byte);
    !text.is_empty() && text.len() <= WORD_BYTES_MAX && text.bytes().all(fits)
}

#[cfg(test)]
#[path = "engine_change_tests.rs"]
mod tests;
