//! Has agents try out an NFS server, many at a time.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use skep_wire::proto::agent::agent_reply::Reply;
use skep_wire::proto::agent::agent_request::Request;
use skep_wire::proto::agent::{NfsOutcome, NfsRequest};
use tokio::time::timeout;

use crate::Hub;
use crate::request::AskError;

/// Hosts that mount it at the same time: a server takes that, and a thousand at once it might not.
const HOSTS_AT_ONCE_MAX: usize = 32;

/// An agent gives reaching 3 s and mounting 15 s.
const ANSWER_MAX: Duration = Duration::from_secs(22);

/// A server, and what is tried with it.
#[derive(Debug, Clone, Default)]
pub struct NfsCheck {
    /// Its name or address.
    pub server: String,
    /// What is mounted.
    pub path: String,
    /// As `mount -o` takes them.
    pub options: String,
    /// Folders to be made in there.
    pub folders: Vec<String>,
}

/// How far a host came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NfsReach {
    /// Nobody answers at its port.
    Unreachable,
    /// The kernel has no NFS client.
    NoClient,
    /// It does not let itself be mounted.
    NotMounted,
    /// It cannot be written.
    NotWritable,
    /// It was mounted, written and unmounted.
    Works,
}

/// What a host found.
#[derive(Debug, Clone)]
pub struct NfsFound {
    /// How far it came.
    pub reach: NfsReach,
    /// What stood in the way, in words.
    pub why: String,
}

impl Hub {
    /// What each host can do with the server, in the order of the hosts.
    pub async fn check_nfs(&self, hosts: &[&str], check: &NfsCheck) -> Vec<Result<NfsFound, AskError>> {
        let asking: Vec<_> = hosts.iter().map(|host| self.check_nfs_of(host, check)).collect();
        stream::iter(asking).buffered(HOSTS_AT_ONCE_MAX).collect().await
    }

    async fn check_nfs_of(&self, host: &str, check: &NfsCheck) -> Result<NfsFound, AskError> {
        let NfsCheck { server, path, options, folders } = check.clone();
        let request = Request::Nfs(NfsRequest { server, path, options, folders });
        let asked = async {
            match self.ask(host, request).await?.reply().await? {
                Reply::Nfs(reply) => {
                    let reach = reach(reply.outcome());
                    Ok(NfsFound { reach, why: reply.message })
                }
                _ => Err(AskError::OutOfPlace),
            }
        };
        let silent = || Err(AskError::Silent { seconds: ANSWER_MAX.as_secs() });
        timeout(ANSWER_MAX, asked).await.unwrap_or_else(|_| silent())
    }
}

/// What this manager does not know yet is nothing that works.
fn reach(outcome: NfsOutcome) -> NfsReach {
    match outcome {
        NfsOutcome::Works => NfsReach::Works,
        NfsOutcome::NotWritable => NfsReach::NotWritable,
        NfsOutcome::NoClient => NfsReach::NoClient,
        NfsOutcome::Unreachable => NfsReach::Unreachable,
        NfsOutcome::NotMounted | NfsOutcome::Unspecified => NfsReach::NotMounted,
    }
}
