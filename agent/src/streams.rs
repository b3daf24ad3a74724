//! The streams that managers open: to the host's engine, byte by byte, or to this agent itself.

use std::io;
use std::time::Duration;

use skep_wire::framing::{FramingError, MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::mux::MuxStream;
use skep_wire::proto::agent::{
    StreamError, StreamFailure, StreamHeader, StreamReady, stream_header::Purpose,
};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::engine::Engine;
use crate::requests::Requests;
use crate::terms::{TermRefusal, Terms};

/// A manager writes the header as it opens the stream.
const HEADER_MAX: Duration = Duration::from_secs(5);

/// Per direction and stream; larger ones gain little and cost the host memory.
const COPY_BUFFER_BYTES: usize = 32 * 1024;

/// Serves the streams. Clones share what they serve.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) engine: Engine,
    pub(crate) terms: Terms,
    pub(crate) requests: Requests,
}

impl Streams {
    /// Serves one stream until both directions have ended or one has failed.
    pub(crate) async fn serve(self, mut stream: MuxStream) {
        match self.serve_purpose(&mut stream).await {
            Ok(()) => {}
            // Everyday: whoever asked went away in the middle.
            Err(error) => tracing::debug!(%error, "a stream of a manager was broken off"),
        }
    }

    async fn serve_purpose(&self, stream: &mut MuxStream) -> io::Result<()> {
        let header = timeout(HEADER_MAX, read_message::<StreamHeader, _>(stream, MESSAGE_BYTES_MAX))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
            .map_err(to_io)?;
        match header.purpose {
            Some(Purpose::Docker(docker)) => {
                let opened = self.connect(docker.term).await;
                tell_ready(stream, opened.as_ref().map(|(_, engine_api)| engine_api.as_str())).await?;
                let Ok((mut socket, _)) = opened else { return Ok(()) };
                copy_bidirectional_with_sizes(stream, &mut socket, COPY_BUFFER_BYTES, COPY_BUFFER_BYTES)
                    .await
                    .map(drop)
            }
            Some(Purpose::Agent(agent)) => {
                let obeyed = self.obey(agent.term).await;
                tell_ready(stream, obeyed.as_ref().map(|()| "")).await?;
                if obeyed.is_err() {
                    return Ok(());
                }
                self.requests.answer(stream).await.map_err(to_io)
            }
            Some(Purpose::Report(_)) | None => {
                Err(io::Error::other("a manager opened a stream for something unknown"))
            }
        }
    }

    /// A connection to the engine for somebody who acts in this term.
    async fn connect(&self, term: Option<u64>) -> Result<(UnixStream, String), StreamError> {
        self.obey(term).await?;
        self.engine.connect().await.map_err(failure)
    }

    async fn obey(&self, term: Option<u64>) -> Result<(), StreamError> {
        let Some(term) = term else { return Ok(()) };
        self.terms.obey(term).await.map_err(|refusal| refused(term, refusal))
    }
}

async fn tell_ready(stream: &mut MuxStream, engine_api: Result<&str, &StreamError>) -> io::Result<()> {
    let ready = StreamReady {
        engine_api: engine_api.unwrap_or_default().to_owned(),
        error: engine_api.err().cloned(),
    };
    write_message(stream, &ready, MESSAGE_BYTES_MAX).await.map_err(to_io)
}

fn refused(term: u64, refusal: TermRefusal) -> StreamError {
    match refusal {
        TermRefusal::Lower { obeyed } => StreamError {
            failure: StreamFailure::Term.into(),
            message: format!("term {term} is lower than {obeyed}, which this host has obeyed"),
            obeyed_term: obeyed,
        },
        TermRefusal::NotKept(error) => failure(format!("remembering term {term}: {error}")),
    }
}

fn failure(message: String) -> StreamError {
    StreamError { failure: StreamFailure::Engine.into(), message, obeyed_term: 0 }
}

fn to_io(error: FramingError) -> io::Error {
    io::Error::other(error)
}
