//! The host's engine: asked for its version and its data folder, and connected to.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::{API_DEFAULT_VERSION, Docker};
use skep_wire::proto::agent::SwarmNode;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::Entrance;

/// An engine that does not answer this simple question by then is not well. Below the heartbeat, so
/// that reports keep coming.
const PROBE_MAX: Duration = Duration::from_secs(3);

/// Connecting to a socket of the same machine.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Where an engine keeps the certificate of its node, below its data folder.
const NODE_CERTIFICATE: &str = "swarm/certificates/swarm-node.crt";

/// The host's engine. Clones share what is known about it.
#[derive(Clone)]
pub(crate) struct Engine {
    socket: PathBuf,
    entrance: Entrance,
    version: Arc<Mutex<Option<EngineVersion>>>,
    root: Arc<Mutex<Option<PathBuf>>>,
}

/// What an engine says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineVersion {
    pub(crate) version: String,
    pub(crate) api: String,
}

impl Engine {
    pub(crate) fn new(socket: PathBuf, entrance: Entrance) -> Engine {
        Engine { socket, entrance, version: Arc::default(), root: Arc::default() }
    }

    /// Asks the engine who it is; the error is why it does not say.
    pub(crate) async fn probe(&self) -> Result<EngineVersion, String> {
        let answer = timeout(PROBE_MAX, self.ask_version()).await.unwrap_or_else(|_| Err(silent()));
        self.remember(answer.as_ref().ok().cloned());
        answer
    }

    /// Where the engine keeps images, containers and volumes, as this agent must name it; the error is why it does not say. Asked
    /// once in the life of an engine, as far as that is noticed.
    pub(crate) async fn data_root(&self) -> Result<PathBuf, String> {
        let known = self.root.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(known) => Ok(known),
            None => self.ask_data_root().await,
        }
    }

    /// The same, asked anew. For that the engine counts its containers and images, and runs other programs for their versions.
    pub(crate) async fn ask_data_root(&self) -> Result<PathBuf, String> {
        let asked = async {
            let info = self.client()?.info().await.map_err(said)?;
            let root = info.docker_root_dir.map(|root| self.entrance.path(root.into()));
            root.ok_or_else(|| "the engine does not say it".to_owned())
        };
        let root = timeout(PROBE_MAX, asked).await.unwrap_or_else(|_| Err(silent()))?;
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(root.clone());
        Ok(root)
    }

    /// The node of a swarm that the engine is, if it is in one; the error is why it does not say.
    pub(crate) async fn swarm_node(&self) -> Result<Option<SwarmNode>, String> {
        let asked = async { self.client()?.info().await.map_err(said) };
        let info = timeout(PROBE_MAX, asked).await.unwrap_or_else(|_| Err(silent()))?;
        let swarm = info.swarm.unwrap_or_default();
        let managers = swarm.remote_managers.unwrap_or_default();
        Ok(swarm.node_id.filter(|id| !id.is_empty()).map(|id| SwarmNode {
            id,
            manager: swarm.control_available.unwrap_or(false),
            swarm: swarm.cluster.and_then(|cluster| cluster.id).unwrap_or_default(),
            managers: managers.into_iter().filter_map(|manager| manager.node_id).collect(),
        }))
    }

    /// From when to when the certificate is valid with which the engine is a node of a swarm, in seconds since 1970; nothing,
    /// if there is none.
    pub(crate) async fn swarm_certificate(&self) -> Option<(i64, i64)> {
        let path = self.data_root().await.ok()?.join(NODE_CERTIFICATE);
        let pem = tokio::fs::read_to_string(path).await.ok()?;
        skep_wire::pki::validity(&pem).ok()
    }

    /// A connection to the engine, with the engine's API version; the error is why there is none.
    pub(crate) async fn connect(&self) -> Result<(UnixStream, String), String> {
        let socket = timeout(CONNECT_MAX, UnixStream::connect(&self.socket))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| {
                format!("connecting to the engine's socket {}: {error}", self.socket.display())
            })?;
        let version = match self.remembered() {
            Some(version) => version,
            None => self.probe().await?,
        };
        Ok((socket, version.api))
    }

    async fn ask_version(&self) -> Result<EngineVersion, String> {
        let version = self.client()?.version().await.map_err(said)?;
        match (version.version, version.api_version) {
            (Some(version), Some(api)) => Ok(EngineVersion { version, api }),
            _ => Err("the engine does not say its version".into()),
        }
    }

    /// A client that waits no longer than this for an answer.
    pub(crate) fn client(&self) -> Result<Docker, String> {
        let socket = self.socket.to_string_lossy();
        Docker::connect_with_unix(&socket, PROBE_MAX.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| error.to_string())
    }

    /// The value is replaced in one step, so a panic elsewhere does not spoil it.
    fn remember(&self, version: Option<EngineVersion>) {
        if version.is_none() {
            *self.root.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    fn remembered(&self) -> Option<EngineVersion> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The client's patience ends at the same moment as ours; the reason is one whichever is first.
fn said(error: DockerError) -> String {
    match error {
        DockerError::RequestTimeoutError => silent(),
        error => error.to_string(),
    }
}

fn silent() -> String {
    format!("the engine did not answer within {} s", PROBE_MAX.as_secs())
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn an_engine_that_hangs_is_said_to_have_not_answered_whoever_loses_patience_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let _hangs = UnixListener::bind(&socket).expect("listens and answers nobody");
        let engine = Engine::new(socket, Entrance::default());
        let (version, root, node) = tokio::join!(engine.probe(), engine.data_root(), engine.swarm_node());
        assert_eq!(version, Err(silent()));
        assert_eq!(root, Err(silent()));
        assert_eq!(node, Err(silent()));
        assert_eq!(said(DockerError::RequestTimeoutError), silent());
    }
}
