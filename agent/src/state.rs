//! The state folder: what an agent must still know after a restart.
//!
//! ```text
//!   agent.key         the host's secret key, made before the first registration and kept for ever
//!   membership.json   cluster, host, certificate, trusted authority, managers
//!   term              the highest term that was obeyed (see `terms`)
//!   lock              held while an agent runs
//! ```

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_wire::pki;

use crate::files::{failed, read, replace};
use crate::{AgentError, JoinFile};

pub(crate) const KEY: &str = "agent.key";
pub(crate) const LOCK: &str = "lock";
const MEMBERSHIP: &str = "membership.json";

/// The folder, locked for this process.
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: fs::File,
}

/// What makes a host a part of a cluster, except for its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) cluster: String,
    pub(crate) host_id: String,
    pub(crate) managers: Vec<String>,
    pub(crate) ca_pem: String,
    pub(crate) certificate_pem: String,
    /// The id of the token with which the machine offered itself.
    #[serde(default)]
    pub(crate) token: Option<String>,
    /// Under which it is known.
    #[serde(default)]
    pub(crate) address: Option<IpAddr>,
    /// The managers have said that this host does not belong to the cluster any more.
    #[serde(default)]
    pub(crate) removed: bool,
}

impl StateDir {
    pub(crate) fn open(path: &Path) -> Result<StateDir, AgentError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(failed("making", path))?;
        let lock_path = path.join(LOCK);
        let lock = fs::File::create(&lock_path).map_err(failed("creating", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(StateDir { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(AgentError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(failed("locking", &lock_path)(error)),
        }
    }

    /// The host's key; made if there is none. It is kept before it is shown to anybody, so that a
    /// registration whose answer was lost is repeated with the same key.
    pub(crate) fn key_pem(&self) -> Result<String, AgentError> {
        let path = self.path.join(KEY);
        if let Some(bytes) = read(&path)? {
            return String::from_utf8(bytes)
                .map_err(|_| AgentError::Content { path, reason: "it is not a key".into() });
        }
        let key_pem = pki::generate_key()?;
        replace(&path, key_pem.as_bytes())?;
        Ok(key_pem)
    }

    pub(crate) fn membership(&self) -> Result<Option<Membership>, AgentError> {
        Membership::of(&self.path)
    }

    pub(crate) fn save(&self, membership: &Membership) -> Result<(), AgentError> {
        let path = self.path.join(MEMBERSHIP);
        let bytes = serde_json::to_vec_pretty(membership)
            .map_err(|error| AgentError::Content { path: path.clone(), reason: error.to_string() })?;
        replace(&path, &bytes)
    }

    pub(crate) fn term_path(&self) -> PathBuf {
        self.path.join("term")
    }
}

impl Membership {
    /// The one that is kept in a state folder, whoever has it locked.
    pub(crate) fn of(state_dir: &Path) -> Result<Option<Membership>, AgentError> {
        let path = state_dir.join(MEMBERSHIP);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let membership = serde_json::from_slice(&bytes)
            .map_err(|error| AgentError::Content { path, reason: error.to_string() })?;
        Ok(Some(membership))
    }

    pub(crate) fn check_same_host(&self, join: &JoinFile) -> Result<(), AgentError> {
        if (&self.cluster, &self.host_id) == (&join.cluster, &join.host_id) {
            return Ok(());
        }
        Err(AgentError::OtherHost {
            ours: format!("{} of cluster {}", self.host_id, self.cluster),
            theirs: format!("{} of cluster {}", join.host_id, join.cluster),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_membership_are_kept_and_a_second_agent_is_kept_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(dir.path()).expect("opened");
        assert!(matches!(StateDir::open(dir.path()), Err(AgentError::Locked(_))));
        let key = state.key_pem().expect("a key");
        assert!(state.membership().expect("readable").is_none());
        let membership = Membership {
            cluster: "c1".into(),
            host_id: "h1".into(),
            managers: vec!["10.90.0.1:8444".into()],
            ca_pem: "ca".into(),
            certificate_pem: "certificate".into(),
            token: None,
            address: None,
            removed: false,
        };
        state.save(&membership).expect("saved");
        drop(state);

        let state = StateDir::open(dir.path()).expect("opened again");
        assert_eq!(state.key_pem().expect("a key"), key);
        let kept = state.membership().expect("readable").expect("kept");
        assert_eq!(kept.managers, membership.managers);

        let join = JoinFile {
            cluster: "c2".into(),
            host_id: "h1".into(),
            managers: vec![],
            ca_pem: String::new(),
            token: String::new(),
        };
        assert!(matches!(kept.check_same_host(&join), Err(AgentError::OtherHost { .. })));
    }
}
