//! What stops an agent for good. A manager or an engine that is away is not among it.

use std::io;
use std::path::PathBuf;

use skep_wire::pki::PkiError;

/// What stops an agent for good.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// First start without a join file.
    #[error("this host has not joined a cluster: a join file is needed")]
    NotJoined,
    /// The host was away for longer than its certificate lasts.
    #[error("this host's certificate has run out: a join file is needed to register again")]
    Expired,
    /// The managers do not want this host.
    #[error("registering this host: the managers refuse it: {message} ({code})")]
    Refused {
        /// The managers' code.
        code: String,
        /// Their reason.
        message: String,
    },
    /// The join file is for another host or cluster than the one this state belongs to.
    #[error("the state folder belongs to host {ours}, the join file is for {theirs}")]
    OtherHost {
        /// `host of cluster` of the state folder.
        ours: String,
        /// `host of cluster` of the join file.
        theirs: String,
    },
    /// Another agent uses the state folder.
    #[error("the state folder {} is used by another agent", .0.display())]
    Locked(PathBuf),
    /// A file cannot be read or written.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was being tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("reading {}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key or certificate cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
}
