//! What a host is told so that it can join: a file from its driver, or a token with which machines offer themselves.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{AgentError, files};

/// The longest name of a host.
const NAME_BYTES_MAX: usize = 63;

/// What a host is told so that it can register. Secret because of the token; write it with mode 0600.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinFile {
    /// The cluster's id.
    pub cluster: String,
    /// The host's id, given when it was wished for.
    pub host_id: String,
    /// Peer addresses (`host:port`) of some managers; one is enough.
    pub managers: Vec<String>,
    /// The certificate of the cluster's authority: how the host recognises the managers.
    pub ca_pem: String,
    /// The one-time token: how the managers recognise the host.
    pub token: String,
}

/// With what a machine offers itself as a host.
#[derive(Clone)]
pub struct Offering {
    /// The token of the environment; it also says how the managers are recognised.
    pub token: String,
    /// Peer addresses (`host:port`) of some managers; one is enough.
    pub managers: Vec<String>,
    /// The host's name; this machine's own, if absent.
    pub name: Option<String>,
    /// Its engine's swarm is to be taken over as it is.
    pub adopt: bool,
}

impl JoinFile {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<JoinFile, AgentError> {
        let content = |reason: String| AgentError::Content { path: path.to_owned(), reason };
        let bytes = files::read(path)?.ok_or_else(|| content("there is no such file".into()))?;
        let join: JoinFile = serde_json::from_slice(&bytes).map_err(|error| content(error.to_string()))?;
        if join.managers.is_empty() { Err(content("it names no manager".into())) } else { Ok(join) }
    }
}

impl Offering {
    /// The name to ask for.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            host_name(&fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default())
        })
    }
}

/// A machine's own name in the form that names of hosts have: without domain, in small letters.
fn host_name(own: &str) -> String {
    let first = own.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = first.chars().map(fits).take(NAME_BYTES_MAX).collect();
    name.trim_matches('-').to_owned()
}

/// Without the tokens: these get into logs.
impl fmt::Debug for JoinFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinFile").field("host_id", &self.host_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Offering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offering").field("managers", &self.managers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_own_name_becomes_a_hosts_name() {
        for (own, name) in [
            ("web-1\n", "web-1"),
            ("Web_1.example.org", "web-1"),
            ("-odd-", "odd"),
            ("", ""),
            (&"x".repeat(80), &"x".repeat(63)),
        ] {
            assert_eq!(host_name(own), name, "{own}");
        }
    }
}
