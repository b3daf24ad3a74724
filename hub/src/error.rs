//! Why there is no stream to a host.

/// Why there is no stream to a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The host's agent is connected to no manager that could be asked.
    #[error("reaching host {host}: its agent is connected to no manager")]
    NoAgent {
        /// The host's id.
        host: String,
    },
    /// The agent was reached, its engine was not.
    #[error("reaching the engine of host {host}: {message}")]
    Engine {
        /// The host's id.
        host: String,
        /// What the agent said.
        message: String,
    },
    /// The host has obeyed a newer leader than the one that this request comes from.
    #[error("reaching host {host}: term {term} was refused, the host has obeyed term {obeyed}")]
    StaleTerm {
        /// The host's id.
        host: String,
        /// The term of the request.
        term: u64,
        /// The highest term that the host has obeyed.
        obeyed: u64,
    },
    /// The link to the agent failed while the stream was opened.
    #[error("reaching host {host}: {reason}")]
    Link {
        /// The host's id.
        host: String,
        /// What failed.
        reason: String,
    },
}

impl HubError {
    /// Whether the host itself has answered, so that another manager would get the same answer.
    pub(crate) fn is_the_hosts_answer(&self) -> bool {
        match self {
            HubError::Engine { .. } | HubError::StaleTerm { .. } => true,
            HubError::NoAgent { .. } | HubError::Link { .. } => false,
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn retryable(&self) -> bool {
        match self {
            HubError::NoAgent { .. } | HubError::Engine { .. } | HubError::Link { .. } => true,
            HubError::StaleTerm { .. } => false,
        }
    }
}
