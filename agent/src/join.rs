//! The join file: what a host is told so that it can register.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{AgentError, files};

/// What a host is told so that it can register. Secret because of the token; write it with mode 0600.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

impl JoinFile {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<JoinFile, AgentError> {
        let content = |reason: String| AgentError::Content { path: path.to_owned(), reason };
        let bytes = files::read(path)?.ok_or_else(|| content("there is no such file".into()))?;
        let join: JoinFile = serde_json::from_slice(&bytes).map_err(|error| content(error.to_string()))?;
        if join.managers.is_empty() { Err(content("it names no manager".into())) } else { Ok(join) }
    }
}
