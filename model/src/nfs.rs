//! The NFS server of an environment, and what each host can do with it.
//!
//! A host mounts volumes when a task begins; one that cannot lets the task wait without a word. Therefore hosts are asked to
//! mount it before anybody relies on it: when the server is wished, when a host joins, and before a deployment that needs it.

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::host::Host;
use crate::ids::OperationId;
use crate::{Refusal, Ruling};

/// A path on the server is mounted by kernels, which take less than a page.
const PATH_BYTES_MAX: usize = 1_024;

/// A name in DNS.
const SERVER_BYTES_MAX: usize = 253;

/// Where volumes of driver `nfs` lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nfs {
    /// The server's name or address.
    pub server: String,
    /// What it exports; each volume is a folder in there.
    pub path: String,
    /// Options of the mount, as `mount -o` takes them; empty: the kernel's own.
    #[serde(default)]
    pub options: String,
}

/// What a host can do with a server, as its agent found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NfsSeen {
    /// Which one was tried.
    pub nfs: Nfs,
    /// How far it came.
    pub reach: Reach,
    /// What stood in the way, in words; empty if nothing did.
    pub why: String,
    /// The operation that had it tried last.
    #[serde(default)]
    pub tried_by: Option<OperationId>,
}

/// How far a host comes with a server. Ordered: the further, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Nobody answers at its port.
    Unreachable,
    /// It answers; the host's kernel has no NFS client.
    NoClient,
    /// It answers, and does not let itself be mounted.
    NotMounted,
    /// It was mounted and cannot be written.
    NotWritable,
    /// It was mounted, written and unmounted.
    Works,
}

impl std::fmt::Display for Nfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.server, self.path)?;
        if self.options.is_empty() { Ok(()) } else { write!(f, " ({})", self.options) }
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reach::Unreachable => "it is not reached",
            Reach::NoClient => "it is reached, but the kernel has no NFS client",
            Reach::NotMounted => "it is reached, but cannot be mounted",
            Reach::NotWritable => "it is mounted, but cannot be written",
            Reach::Works => "it works",
        })
    }
}

impl Nfs {
    /// Could there be such a server and path?
    pub fn check(&self) -> Ruling<()> {
        let refused = |what, value: &str, allowed: &str| {
            Err(Refusal::InvalidValue {
                what,
                value: format!("'{}'", value.escape_debug()),
                allowed: allowed.into(),
            })
        };
        let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        if self.server.is_empty()
            || self.server.len() > SERVER_BYTES_MAX
            || !self.server.chars().all(in_names)
        {
            return refused("nfs.server", &self.server, "use the server's name or address");
        }
        let plain =
            |text: &str| text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\'));
        if !self.path.starts_with('/') || self.path.len() > PATH_BYTES_MAX || !plain(&self.path) {
            return refused("nfs.path", &self.path, "use what the server exports, a path that begins with /");
        }
        // Whose they are is said by Skep.
        let taken = self.options.split(',').any(|option| option.starts_with("addr="));
        if !plain(&self.options) || self.options.len() > PATH_BYTES_MAX || taken {
            return refused(
                "nfs.options",
                &self.options,
                "write them as mount -o takes them, such as nfsvers=4,hard; without addr",
            );
        }
        Ok(())
    }
}

impl NfsSeen {
    /// What stands in the way of volumes, for people; none if they work.
    pub fn trouble(&self) -> Option<String> {
        match (self.reach, self.why.as_str()) {
            (Reach::Works, _) => None,
            (reach, "") => Some(reach.to_string()),
            (reach, why) => Some(format!("{reach}: {why}")),
        }
    }
}

/// What stands in the way of the environment's volumes on a host; none if nothing is known of any.
pub fn trouble(environment: &Environment, host: &Host) -> Option<String> {
    let wished = environment.options.nfs.as_ref()?;
    host.nfs.as_ref().filter(|seen| seen.nfs == *wished)?.trouble()
}

/// Hosts that can be asked and of which it is not known that the server that is wished now works there; once for each
/// operation, whatever came of it.
pub fn unasked<'a>(
    environment: &'a Environment,
    hosts: &'a [Host],
    operation: &'a OperationId,
) -> impl Iterator<Item = &'a Host> {
    let wished = environment.options.nfs.as_ref();
    let asked = move |host: &Host| {
        let enough =
            |seen: &&NfsSeen| seen.reach == Reach::Works || seen.tried_by.as_ref() == Some(operation);
        host.nfs.as_ref().filter(enough).map(|seen| &seen.nfs) == wished
    };
    let can_be = |host: &&Host| host.agent.connected && host.removal.is_none() && host.membership.is_some();
    hosts.iter().filter(move |_| wished.is_some()).filter(can_be).filter(move |host| !asked(host))
}
