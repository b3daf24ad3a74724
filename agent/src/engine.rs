//! The host's engine: asked for its version, and connected to the managers' streams byte by byte.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use skep_wire::framing::{MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::mux::MuxStream;
use skep_wire::proto::agent::{
    StreamError, StreamFailure, StreamHeader, StreamReady, stream_header::Purpose,
};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::terms::{TermRefusal, Terms};

/// A manager writes the header as it opens the stream.
const HEADER_MAX: Duration = Duration::from_secs(5);

/// An engine that does not answer this simple question by then is not well. Below the heartbeat, so
/// that reports keep coming.
const PROBE_MAX: Duration = Duration::from_secs(3);

/// Connecting to a socket of the same machine.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Per direction and stream; larger ones gain little and cost the host memory.
const COPY_BUFFER_BYTES: usize = 32 * 1024;

/// The host's engine. Clones share what is known about it.
#[derive(Clone)]
pub(crate) struct Engine {
    socket: PathBuf,
    terms: Terms,
    version: Arc<Mutex<Option<EngineVersion>>>,
}

/// What an engine says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineVersion {
    pub(crate) version: String,
    pub(crate) api: String,
}

impl Engine {
    pub(crate) fn new(socket: PathBuf, terms: Terms) -> Engine {
        Engine { socket, terms, version: Arc::default() }
    }

    /// Asks the engine who it is; the error is why it does not say.
    pub(crate) async fn probe(&self) -> Result<EngineVersion, String> {
        let answer = timeout(PROBE_MAX, self.ask_version())
            .await
            .unwrap_or_else(|_| Err(format!("the engine did not answer within {} s", PROBE_MAX.as_secs())));
        self.remember(answer.as_ref().ok().cloned());
        answer
    }

    /// Serves one stream of a manager until both directions have ended or one has failed.
    pub(crate) async fn serve(self, mut stream: MuxStream) {
        match self.relay(&mut stream).await {
            Ok(()) => {}
            // Everyday: whoever asked went away in the middle.
            Err(error) => tracing::debug!(%error, "a stream to the engine was broken off"),
        }
    }

    async fn relay(&self, stream: &mut MuxStream) -> io::Result<()> {
        let header = timeout(HEADER_MAX, read_message::<StreamHeader, _>(stream, MESSAGE_BYTES_MAX))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
            .map_err(io::Error::other)?;
        let Some(Purpose::Docker(docker)) = header.purpose else {
            return Err(io::Error::other("a manager opened a stream for something unknown"));
        };
        let opened = self.open(docker.term).await;
        let ready = match &opened {
            Ok((_, engine_api)) => StreamReady { engine_api: engine_api.clone(), error: None },
            Err(error) => StreamReady { engine_api: String::new(), error: Some(error.clone()) },
        };
        write_message(stream, &ready, MESSAGE_BYTES_MAX).await.map_err(io::Error::other)?;
        if let Ok((mut socket, _)) = opened {
            copy_bidirectional_with_sizes(stream, &mut socket, COPY_BUFFER_BYTES, COPY_BUFFER_BYTES).await?;
        }
        Ok(())
    }

    /// A connection to the engine for somebody who acts in this term, with the engine's API version.
    async fn open(&self, term: Option<u64>) -> Result<(UnixStream, String), StreamError> {
        if let Some(term) = term {
            self.terms.obey(term).await.map_err(|refusal| refused(term, refusal))?;
        }
        let socket = timeout(CONNECT_MAX, UnixStream::connect(&self.socket))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| {
                engine_failure(format!(
                    "connecting to the engine's socket {}: {error}",
                    self.socket.display()
                ))
            })?;
        let version = match self.remembered() {
            Some(version) => version,
            None => self.probe().await.map_err(engine_failure)?,
        };
        Ok((socket, version.api))
    }

    async fn ask_version(&self) -> Result<EngineVersion, String> {
        let socket = self.socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&socket, PROBE_MAX.as_secs(), API_DEFAULT_VERSION);
        let version =
            docker.map_err(|error| error.to_string())?.version().await.map_err(|error| error.to_string())?;
        match (version.version, version.api_version) {
            (Some(version), Some(api)) => Ok(EngineVersion { version, api }),
            _ => Err("the engine does not say its version".into()),
        }
    }

    /// The value is replaced in one step, so a panic elsewhere does not spoil it.
    fn remember(&self, version: Option<EngineVersion>) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    fn remembered(&self) -> Option<EngineVersion> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn refused(term: u64, refusal: TermRefusal) -> StreamError {
    match refusal {
        TermRefusal::Lower { obeyed } => StreamError {
            failure: StreamFailure::Term.into(),
            message: format!("term {term} is lower than {obeyed}, which this host has obeyed"),
            obeyed_term: obeyed,
        },
        TermRefusal::NotKept(error) => engine_failure(format!("remembering term {term}: {error}")),
    }
}

fn engine_failure(message: String) -> StreamError {
    StreamError { failure: StreamFailure::Engine.into(), message, obeyed_term: 0 }
}
