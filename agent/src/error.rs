//! What stops an agent for good. A manager or an engine that is away is not among it.

use std::io;
use std::path::PathBuf;

use skep_wire::pki::PkiError;

/// What stops an agent for good.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// First start without anything to join by.
    #[error("this host has not joined a cluster: start it with what 'skep host register' prints")]
    NotJoined,
    /// What should be a registration token is none.
    #[error("the registration token is not one: copy all of what 'skep host register' has printed")]
    NoToken,
    /// Somebody removed the host. Not a failure: it was wished.
    #[error(
        "this host was removed from the cluster; what runs on it was left alone (if Docker is still in the swarm: \
         docker swarm leave --force). To add it again: skep host register"
    )]
    Removed,
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
