//! What was found of the network between a host and its swarm, as the API shows it.

use jiff::Timestamp;
use serde::Serialize;
use skep_model::host::Host;
use skep_model::preflight::{Found, Preflight};
use utoipa::ToSchema;

/// A check of the network between a host and its swarm.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostNetwork {
    /// When it was made.
    checked_at: Timestamp,
    /// The address that the host had then.
    address: String,
    /// The members of the swarm that it was checked with.
    peers: Vec<String>,
    /// Why it does not join; null if it may.
    held_back: Option<String>,
    /// What is wrong, the worst first.
    findings: Vec<HostFinding>,
    /// What could not be found out.
    unchecked: Vec<String>,
}

/// Something that is wrong with the network.
#[derive(Debug, Serialize, ToSchema)]
struct HostFinding {
    /// Stable and never reused.
    #[schema(example = "SKF-202")]
    code: String,
    /// The same for programs; null if a later version has found it.
    #[schema(example = "MANAGEMENT_BLOCKED")]
    reason: Option<&'static str>,
    /// `error` or `warning`.
    severity: Option<String>,
    /// The host that it is about; for the network the one at which nothing arrives.
    host: String,
    /// For the network: the hosts from which nothing arrives there.
    from: Vec<String>,
    /// What was seen.
    seen: String,
    /// Where it comes from.
    cause: Option<&'static str>,
    /// What helps.
    fix: Option<&'static str>,
    /// It keeps the host out of the swarm.
    holds: bool,
}

impl HostNetwork {
    pub(super) fn new(host: &Host, preflight: &Preflight) -> HostNetwork {
        let checked = &preflight.checked;
        HostNetwork {
            checked_at: preflight.at,
            address: checked.address.clone(),
            peers: checked.peers.clone(),
            held_back: host.held_back().filter(|_| host.membership.is_none()),
            findings: checked.findings.iter().map(HostFinding::new).collect(),
            unchecked: checked.unchecked.clone(),
        }
    }
}

impl HostFinding {
    fn new(found: &Found) -> HostFinding {
        let kind = found.kind();
        HostFinding {
            code: found.code.clone(),
            reason: kind.map(|kind| kind.reason),
            severity: kind.map(|kind| kind.severity.to_string()),
            host: found.host.clone(),
            from: found.from.clone(),
            seen: found.seen.clone(),
            cause: kind.map(|kind| kind.cause),
            fix: kind.map(|kind| kind.fix),
            holds: found.holds,
        }
    }
}
