//! What managers ask this agent itself. One stream carries one request.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_wire::framing::{FramingError, MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::mux::MuxStream;
use skep_wire::proto::agent::{
    AgentFailure, AgentFailureKind, AgentReply, AgentRequest, Listening, Started, agent_reply::Reply,
    agent_request::Request,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::engine::Engine;
use crate::engine_change::EngineChanges;
use crate::probe::{NotProbed, Probes};
use crate::run::{LogFiles, Run};
use crate::statistics::Statistics;
use crate::{AgentConfig, Entrance, facts, nfs};

/// A manager sends its request as soon as the stream is ready.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// Answers requests. Clones share it.
#[derive(Clone)]
pub(crate) struct Requests {
    engine: Engine,
    state_dir: Arc<Path>,
    probes: Probes,
    statistics: Statistics,
    logs: LogFiles,
    engines: EngineChanges,
    entrance: Entrance,
}

impl Requests {
    pub(crate) fn new(engine: Engine, config: &AgentConfig, statistics: Statistics) -> Requests {
        Requests {
            engines: EngineChanges::new(engine.clone(), &config.state_dir),
            engine,
            state_dir: config.state_dir.as_path().into(),
            probes: Probes::default(),
            statistics,
            logs: config.logs.clone(),
            entrance: config.entrance,
        }
    }

    /// Reads the one request of this stream and answers it.
    pub(crate) async fn answer(&self, stream: &mut MuxStream) -> Result<(), FramingError> {
        let read = timeout(REQUEST_MAX, read_message::<AgentRequest, _>(stream, MESSAGE_BYTES_MAX));
        let request = read.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        match request.request {
            Some(Request::Facts(_)) => {
                let facts = facts::of_this_host(&self.engine, &self.state_dir).await;
                reply(stream, Reply::Facts(facts)).await?;
            }
            Some(Request::Listen(listen)) => match self.probes.listen(&listen) {
                Ok((ears, alone)) => {
                    reply(stream, Reply::Listening(Listening {})).await?;
                    let heard = ears.hear_until(ended(stream)).await;
                    // Whoever has the answer may ask again at once.
                    drop(alone);
                    reply(stream, Reply::Heard(heard)).await?;
                }
                Err(NotProbed { kind, message }) => reply(stream, failure(kind, message)).await?,
            },
            Some(Request::Send(send)) => {
                let sent = self.probes.send(&send).await;
                let answer = sent.map_or_else(|not| failure(not.kind, not.message), Reply::Sent);
                reply(stream, answer).await?;
            }
            Some(Request::Statistics(asked)) => {
                for part in self.statistics.replies(&asked) {
                    reply(stream, part).await?;
                }
            }
            Some(Request::EngineChange(asked)) => {
                let told = self.engines.ensure(&asked).await;
                let answer = told.map_or_else(|not| failure(not.kind, not.message), Reply::EngineChange);
                reply(stream, answer).await?;
            }
            Some(Request::Nfs(nfs)) => {
                let found = nfs::check(&nfs, &self.state_dir, self.entrance).await;
                reply(stream, Reply::Nfs(found)).await?;
            }
            Some(Request::Run(run)) => return show(stream, Run::start(&run, self.entrance)).await,
            Some(Request::Logs(logs)) => {
                return show(stream, Run::logs(&logs, &self.logs, self.entrance)).await;
            }
            None => {
                let message = "this agent does not know the request; it is of an earlier version";
                reply(stream, failure(AgentFailureKind::UnknownRequest, message)).await?;
            }
        }
        Ok(stream.shutdown().await?)
    }
}

async fn show(stream: &mut MuxStream, run: std::io::Result<Run>) -> Result<(), FramingError> {
    match run {
        Ok(run) => {
            reply(stream, Reply::Started(Started {})).await?;
            run.relay(stream).await?;
        }
        Err(error) => {
            let message = format!("it cannot be started: {error}");
            reply(stream, failure(AgentFailureKind::Failed, message)).await?;
        }
    }
    Ok(stream.shutdown().await?)
}

/// The manager has said that it is enough, or has gone away.
async fn ended(stream: &mut MuxStream) {
    let _ = stream.read(&mut [0]).await;
}

async fn reply(stream: &mut MuxStream, reply: Reply) -> Result<(), FramingError> {
    write_message(stream, &AgentReply { reply: Some(reply) }, MESSAGE_BYTES_MAX).await
}

fn failure(kind: AgentFailureKind, message: impl Into<String>) -> Reply {
    Reply::Failure(AgentFailure { kind: kind.into(), message: message.into() })
}
