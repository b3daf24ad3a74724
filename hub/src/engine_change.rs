//! Another engine for a host, or the same one started anew, by its agent.

use std::time::Duration;

use skep_wire::proto::agent::EngineChangeRequest;
use skep_wire::proto::agent::agent_reply::Reply;
use skep_wire::proto::agent::agent_request::Request;
use tokio::time::timeout;

use crate::request::Asked;
use crate::{AskError, Hub};

/// The agent looks at a few files, asks its engine for the version, and may start a program.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// How far a change is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineChange {
    /// It goes on.
    Running,
    /// It has ended well, or there was nothing to change.
    Done {
        /// The engine's version now; empty if it does not answer.
        version: String,
    },
    /// It has ended badly.
    Failed {
        /// Its exit code.
        code: i32,
        /// The last of what it said.
        said: String,
    },
}

impl Hub {
    /// Asks the host's agent for an engine of this version. Asking again with the same key only says how far that is.
    pub async fn change_engine(
        &self,
        host: &str,
        term: u64,
        version: &str,
        key: &str,
    ) -> Result<EngineChange, AskError> {
        let request =
            EngineChangeRequest { version: version.to_owned(), key: key.to_owned(), restart: false };
        self.ask_for_engine(host, term, request).await
    }

    /// Asks the host's agent to start its engine anew. Asking again with the same key only says how far that is.
    pub async fn restart_engine(&self, host: &str, term: u64, key: &str) -> Result<EngineChange, AskError> {
        let request = EngineChangeRequest { version: String::new(), key: key.to_owned(), restart: true };
        self.ask_for_engine(host, term, request).await
    }

    async fn ask_for_engine(
        &self,
        host: &str,
        term: u64,
        request: EngineChangeRequest,
    ) -> Result<EngineChange, AskError> {
        let asking = async {
            let stream = self.agent(host, Some(term)).await?;
            Asked::on(stream, Request::EngineChange(request)).await?.reply().await
        };
        let silent = AskError::Silent { seconds: ANSWER_MAX.as_secs() };
        let Reply::EngineChange(told) = timeout(ANSWER_MAX, asking).await.map_err(|_| silent)?? else {
            return Err(AskError::OutOfPlace);
        };
        Ok(match (told.running, told.code) {
            (true, _) => EngineChange::Running,
            (false, Some(0)) => EngineChange::Done { version: told.engine_version },
            (false, code) => EngineChange::Failed { code: code.unwrap_or(-1), said: told.said },
        })
    }
}
