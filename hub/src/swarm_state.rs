//! What a manager of a swarm keeps of it on its disk: read while it goes on, brought to another machine, put in place there.
//!
//! Why by a script and not by the agent: agents of earlier versions can run one. The archive is a `tar` with `gzip`, so that
//! people get at it without Skep.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::UpdateNodeOptions;
use skep_wire::frames::{CONTENT_BYTES_MAX, ERROR, EXIT, INPUT, OUTPUT};
use skep_wire::framing::FramingError;
use skep_wire::proto::agent::RunRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::{AskError, HostStream, Hub, Shown};

/// Does it on the host.
const SCRIPT: &str = include_str!("swarm_state.sh");

/// The largest archive. Most of what a manager keeps is empty space, and small once it is packed.
pub const SWARM_STATE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// As much of a complaint as an error can show.
const COMPLAINT_BYTES_MAX: usize = 1_000;

/// A slow disk and a slow line.
const DONE_MAX: Duration = Duration::from_secs(120);

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum SwarmStateError {
    /// The host's agent did not do it.
    #[error(transparent)]
    Agent(#[from] AskError),
    /// The host's engine does not answer.
    #[error(transparent)]
    Engine(#[from] bollard::errors::Error),
    /// The host's engine answers something else.
    #[error("the engine does not say where its data are")]
    NoRoot,
    /// The host itself says so.
    #[error("{said} (exit code {code})")]
    Failed {
        /// The program's exit code.
        code: i32,
        /// What it has said.
        said: String,
    },
    /// Larger than anybody has seen.
    #[error("the state of the swarm is larger than {} MiB", SWARM_STATE_BYTES_MAX / 1024 / 1024)]
    TooLarge,
    /// It did not come to its end.
    #[error("it was not done within {} s", DONE_MAX.as_secs())]
    Late,
}

/// How far a restore is on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restoring {
    /// Nothing was brought.
    No,
    /// The state was brought, and is not in place yet.
    Brought,
    /// The state is in place; the swarm was not begun anew with it yet.
    Placed,
    /// The swarm that the engine is in was restored for this key.
    Done(String),
}

/// Lets the managers of a swarm agree on something: the node of the engine that is asked, as it is. Asking for something is not
/// enough to know that they can: who has led until now answers for a while although nobody follows.
pub async fn agree_on_something(manager: &Docker) -> Result<(), bollard::errors::Error> {
    let own = manager.info().await?.swarm.and_then(|swarm| swarm.node_id).unwrap_or_default();
    let node = manager.inspect_node(&own).await?;
    let version = node.version.and_then(|version| version.index).unwrap_or_default();
    let options = UpdateNodeOptions { version: i64::try_from(version).unwrap_or_default() };
    manager.update_node(&own, node.spec.unwrap_or_default(), options).await
}

impl Hub {
    /// The archive of what the engine keeps as a manager of its swarm, with `notes` written down in it.
    /// The engine stands still while that is copied, for less than 5 s; its containers do not.
    ///
    /// An engine writes down that something was agreed upon together with what comes next, and what begins a swarm anew
    /// drops everything of which that is not written down. So something comes next first.
    pub async fn read_swarm_state(&self, host: &str, notes: &[u8]) -> Result<Vec<u8>, SwarmStateError> {
        agree_on_something(&self.docker(host, None)).await?;
        self.swarm_state(host, None, &["read"], notes).await
    }

    /// Brings an archive to a host, where it replaces what was brought before. Answers with the notes in it.
    pub async fn bring_swarm_state(&self, host: &str, archive: &[u8]) -> Result<Vec<u8>, SwarmStateError> {
        self.swarm_state(host, None, &["bring"], archive).await
    }

    /// The notes of what was brought to a host.
    pub async fn swarm_state_notes(&self, host: &str) -> Result<Vec<u8>, SwarmStateError> {
        self.swarm_state(host, None, &["notes"], &[]).await
    }

    /// How far the restore is.
    pub async fn restoring(&self, host: &str, term: u64) -> Result<Restoring, SwarmStateError> {
        let said = self.swarm_state(host, Some(term), &["stands"], &[]).await?;
        let said = String::from_utf8_lossy(&said);
        match said.split_whitespace().collect::<Vec<_>>()[..] {
            ["brought"] => Ok(Restoring::Brought),
            ["placed"] => Ok(Restoring::Placed),
            ["none"] => Ok(Restoring::No),
            ["done", key] => Ok(Restoring::Done(key.to_owned())),
            _ => Err(AskError::OutOfPlace.into()),
        }
    }

    /// Puts what was brought where the engine finds it when it starts. The engine must be in no swarm.
    pub async fn put_swarm_state(&self, host: &str, term: u64) -> Result<(), SwarmStateError> {
        self.swarm_state(host, Some(term), &["put"], &[]).await.map(drop)
    }

    /// Removes what was only needed on the way, and remembers that it was done for this key.
    pub async fn finish_swarm_state(&self, host: &str, term: u64, key: &str) -> Result<(), SwarmStateError> {
        self.swarm_state(host, Some(term), &["finish", key], &[]).await.map(drop)
    }

    /// Has the swarm's managers look for this one, which leads them, at this address (with port). One that has begun a swarm
    /// anew is looked for where its log says that it was.
    pub async fn tell_swarm_address(
        &self,
        host: &str,
        term: u64,
        address: &str,
    ) -> Result<(), SwarmStateError> {
        self.swarm_state(host, Some(term), &["address", address], &[]).await.map(drop)
    }

    async fn swarm_state(
        &self,
        host: &str,
        term: Option<u64>,
        what: &[&str],
        input: &[u8],
    ) -> Result<Vec<u8>, SwarmStateError> {
        let info = self.docker(host, term).info().await?;
        let root =
            info.docker_root_dir.filter(|root| root.starts_with('/')).ok_or(SwarmStateError::NoRoot)?;
        let words = ["sh", "-c", SCRIPT, "skep-swarm-state", &root].into_iter().chain(what.iter().copied());
        let command = words.map(str::to_owned).collect();
        let request = RunRequest { command, ..RunRequest::default() };
        let stream = self.run_as(host, term, Shown::Command(request)).await?;
        timeout(DONE_MAX, to_its_end(stream, input)).await.map_err(|_| SwarmStateError::Late)?
    }
}

/// Gives a command its input and waits for its end: what it says, unless it fails.
async fn to_its_end(stream: HostStream, input: &[u8]) -> Result<Vec<u8>, SwarmStateError> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let send = async {
        for part in input.chunks(CONTENT_BYTES_MAX).chain([&[][..]]) {
            // A command that does not want it says why, if it still can.
            if send(&mut writing, part).await.is_err() {
                break;
            }
        }
    };
    let mut answer = pin!(answer(&mut reading));
    // The way to the command stays open until it has ended: it would be killed otherwise.
    tokio::select! {
        answer = &mut answer => answer,
        () = send => answer.await,
    }
}

async fn answer(reading: &mut (impl AsyncReadExt + Unpin)) -> Result<Vec<u8>, SwarmStateError> {
    let (mut output, mut complaint) = (vec![], vec![]);
    loop {
        let (kind, content) = receive(reading).await?;
        match (kind, content.as_slice()) {
            (OUTPUT, bytes) if output.len() + bytes.len() > SWARM_STATE_BYTES_MAX => {
                return Err(SwarmStateError::TooLarge);
            }
            (OUTPUT, bytes) => output.extend_from_slice(bytes),
            (ERROR, bytes) => {
                complaint.extend_from_slice(bytes);
                complaint.truncate(COMPLAINT_BYTES_MAX);
            }
            (EXIT, [0, 0, 0, 0]) => return Ok(output),
            (EXIT, [a, b, c, d]) => {
                let code = i32::from_be_bytes([*a, *b, *c, *d]);
                let said = String::from_utf8_lossy(&complaint).trim().replace('\n', "; ");
                return Err(SwarmStateError::Failed { code, said });
            }
            _ => {}
        }
    }
}

async fn send(writing: &mut (impl AsyncWriteExt + Unpin), content: &[u8]) -> io::Result<()> {
    writing.write_u8(INPUT).await?;
    writing.write_u32(u32::try_from(content.len()).unwrap_or(u32::MAX)).await?;
    writing.write_all(content).await?;
    writing.flush().await
}

async fn receive(reading: &mut (impl AsyncReadExt + Unpin)) -> Result<(u8, Vec<u8>), AskError> {
    let kind = reading.read_u8().await.map_err(broken)?;
    let length = reading.read_u32().await.map_err(broken)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > CONTENT_BYTES_MAX {
        return Err(AskError::OutOfPlace);
    }
    let mut content = vec![0; length];
    reading.read_exact(&mut content).await.map_err(broken)?;
    Ok((kind, content))
}

fn broken(error: io::Error) -> AskError {
    AskError::Broken(FramingError::from(error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    use super::*;

    /// What the host would do, with a folder of this test as the engine's.
    fn done(root: &Path, what: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "skep-swarm-state"]).arg(root).args(what);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("there is a shell");
        // What it does not want it does not read.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        child.wait_with_output().expect("it ends")
    }

    fn said(output: &Output) -> &str {
        std::str::from_utf8(&output.stdout).expect("text").trim()
    }

    /// As `read` packs it.
    fn archive(content: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("swarm/raft")).expect("a folder");
        fs::write(folder.path().join("swarm/docker-state.json"), content).expect("a file");
        fs::write(folder.path().join("skep-swarm.json"), format!("notes of {content}")).expect("a file");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(folder.path())
            .args(["-czf", "-", "skep-swarm.json", "swarm"])
            .output()
            .expect("there is tar");
        packed.stdout
    }

    #[test]
    fn what_is_brought_is_put_in_place_once_and_who_has_done_so_is_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, state) = (folder.path(), folder.path().join("swarm/docker-state.json"));
        fs::create_dir_all(root.join("swarm")).expect("a folder");
        fs::write(&state, "before").expect("a file");
        assert_eq!(said(&done(root, &["stands"], b"")), "none");
        assert_eq!(done(root, &["notes"], b"").status.code(), Some(65), "nothing was brought");

        assert_eq!(said(&done(root, &["bring"], &archive("first"))), "notes of first");
        assert_eq!(
            said(&done(root, &["bring"], &archive("second"))),
            "notes of second",
            "it replaces the first"
        );
        let refused = done(root, &["bring"], b"no archive");
        assert_eq!(refused.status.code(), Some(65), "{refused:?}");
        assert_eq!(said(&done(root, &["notes"], b"")), "notes of second", "and what was there stays");
        assert_eq!(said(&done(root, &["stands"], b"")), "brought");
        assert_eq!(
            fs::read_to_string(&state).expect("is there"),
            "before",
            "the engine's own is not touched"
        );

        for _ in 0..2 {
            assert!(done(root, &["put"], b"").status.success());
            assert_eq!(fs::read_to_string(&state).expect("is there"), "second");
            assert_eq!(said(&done(root, &["stands"], b"")), "placed");
        }
        for _ in 0..2 {
            assert!(done(root, &["finish", "op_1"], b"").status.success());
            assert_eq!(said(&done(root, &["stands"], b"")), "done op_1");
        }
        let left: Vec<_> =
            fs::read_dir(root).expect("reads").map(|entry| entry.expect("reads").file_name()).collect();
        assert_eq!(left, ["swarm"], "nothing is left beside it");
    }

    #[test]
    fn a_host_that_is_no_manager_of_a_swarm_has_no_state_to_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = done(folder.path(), &["read"], b"notes");
        assert_eq!(refused.status.code(), Some(65), "{refused:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("reads").count(), 0, "and nothing is left");
    }
}
