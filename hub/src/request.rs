//! Asking an agent itself: one request on a stream of its own, and the replies to it.

use std::time::Duration;

use skep_wire::framing::{FramingError, MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::proto::agent::agent_reply::Reply;
use skep_wire::proto::agent::agent_request::Request;
use skep_wire::proto::agent::{
    AgentFailure, AgentFailureKind, AgentReply, AgentRequest, LogsRequest, RunRequest,
};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::{HostStream, Hub, HubError};

/// Starting a program on the host.
const START_MAX: Duration = Duration::from_secs(10);

/// Why an agent has not done what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It was not reached.
    #[error(transparent)]
    Unreached(#[from] HubError),
    /// The way to it broke before it had answered.
    #[error("asking the agent: {0}")]
    Broken(#[from] FramingError),
    /// It did not answer in time.
    #[error("asking the agent: it did not answer within {seconds} s")]
    Silent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// It answered that it does not do it.
    #[error("the agent says: {}", .0.message)]
    Refused(AgentFailure),
    /// It was left out, because it had not answered an earlier question.
    #[error("the agent was not asked, because it had not answered before")]
    NotAsked,
    /// It answered something else.
    #[error("asking the agent: its answer does not fit the question")]
    OutOfPlace,
}

impl AskError {
    /// Whether asking again may be answered otherwise: it was not reached, or does something else just now.
    pub fn may_pass(&self) -> bool {
        match self {
            AskError::Refused(failure) => failure.kind() == AgentFailureKind::Busy,
            error => !error.is_its_answer(),
        }
    }

    /// Whether the agent itself has answered, so that it and the way to it are well.
    pub fn is_its_answer(&self) -> bool {
        match self {
            AskError::Refused(_) | AskError::OutOfPlace => true,
            AskError::Unreached(_) | AskError::Broken(_) | AskError::Silent { .. } | AskError::NotAsked => {
                false
            }
        }
    }
}

/// What a client can see of a host.
#[derive(Debug)]
pub enum Shown {
    /// What a command says.
    Command(RunRequest),
    /// A log.
    Log(LogsRequest),
}

/// A request that was sent, with its replies to come.
pub(crate) struct Asked {
    stream: HostStream,
}

impl Hub {
    /// Sends a request to the host's agent, wherever that is connected.
    pub(crate) async fn ask(&self, host: &str, request: Request) -> Result<Asked, AskError> {
        Asked::on(self.agent(host, None).await?, request).await
    }
}

impl Hub {
    /// Runs a command on the host, or shows one of its logs. On the stream are the frames that the agent and the client
    /// exchange about it.
    pub async fn run(&self, host: &str, what: Shown) -> Result<HostStream, AskError> {
        self.run_as(host, None, what).await
    }

    /// As [`Hub::run`]. With a term, the host refuses if it has obeyed a higher one.
    pub(crate) async fn run_as(
        &self,
        host: &str,
        term: Option<u64>,
        what: Shown,
    ) -> Result<HostStream, AskError> {
        let request = match what {
            Shown::Command(run) => Request::Run(run),
            Shown::Log(logs) => Request::Logs(logs),
        };
        let mut asked = Asked::on(self.agent(host, term).await?, request).await?;
        let started = timeout(START_MAX, asked.reply()).await;
        match started.map_err(|_| AskError::Silent { seconds: START_MAX.as_secs() })?? {
            Reply::Started(_) => Ok(asked.stream),
            _ => Err(AskError::OutOfPlace),
        }
    }
}

impl Asked {
    /// Sends a request on a stream that is open already.
    pub(crate) async fn on(mut stream: HostStream, request: Request) -> Result<Asked, AskError> {
        let request = AgentRequest { request: Some(request) };
        write_message(&mut stream, &request, MESSAGE_BYTES_MAX).await?;
        Ok(Asked { stream })
    }

    /// The next reply.
    pub(crate) async fn reply(&mut self) -> Result<Reply, AskError> {
        let answer: AgentReply = read_message(&mut self.stream, MESSAGE_BYTES_MAX).await?;
        match answer.reply {
            Some(Reply::Failure(failure)) => Err(AskError::Refused(failure)),
            Some(reply) => Ok(reply),
            None => Err(AskError::OutOfPlace),
        }
    }

    /// Tells the agent that nothing more is to come, and that it may come to its end.
    pub(crate) async fn end(&mut self) -> Result<(), AskError> {
        Ok(self.stream.shutdown().await.map_err(FramingError::from)?)
    }
}
