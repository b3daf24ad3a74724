//! Other engines for hosts: which version is wished, in which order an environment's hosts get it, and what a plan says.
//!
//! Workers first, the swarm's leader last, one host after the other: whatever is wrong with a new engine is seen on a host
//! that is missed least, and the swarm elects one new leader at most.

use serde::{Deserialize, Serialize};
use skep_ledger::Tx;

use crate::environment::{self, Environment};
use crate::host::{self, Host};
use crate::ids::{EnvironmentId, HostId, OperationId};
use crate::operation::{self, Active, Operation, Subject, workflow};
use crate::{CLUSTER, Refusal, Ruling};

/// The longest version: those of distributions carry dates and names.
const VERSION_BYTES_MAX: usize = 64;

/// The engine that is wished for a host, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineWish {
    /// As the engine itself says it.
    pub version: String,
    /// The operation that has begun to change it; the host's agent tells one change from the next by it.
    pub begun_by: Option<OperationId>,
    /// The host was seen to serve with it, as a node of the swarm.
    pub verified: bool,
}

/// What would be done about one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub host: String,
    /// `worker`, `manager` or `leader`; empty if it is no node.
    pub part: &'static str,
    /// The engine's version now; empty if it is not known.
    pub from: String,
    /// What is done, or why nothing is.
    pub what: String,
}

/// Asks for another engine for one host.
pub fn of_host(
    tx: &mut Tx<'_>,
    environment: &Environment,
    reference: &str,
    version: Option<&str>,
    id: OperationId,
) -> Ruling<(String, Operation)> {
    environment.check_awake()?;
    let host = host::named(tx, environment, reference)?;
    if host.removal.is_some() {
        return Err(Refusal::BeingRemoved { what: "host", name: host.name.to_string() });
    }
    let version = wanted(&hosts(tx, environment)?, version)?;
    not_older(&[&host], &version)?;
    let operation = begin(tx, environment, host, &version, id, None)?;
    Ok((version, operation))
}

/// Asks for another engine for every host of an environment, one after the other.
pub fn of_environment(
    tx: &mut Tx<'_>,
    environment: &str,
    version: Option<&str>,
    id: OperationId,
) -> Ruling<(String, Operation)> {
    let mut environment = environment::awake(tx, environment)?;
    let hosts = hosts(tx, &environment)?;
    let version = wanted(&hosts, version)?;
    not_older(&hosts.iter().filter(|host| host.removal.is_none()).collect::<Vec<_>>(), &version)?;
    environment.engine_wish = Some(version.clone());
    tx.put(&environment);
    let subject = environment::subject(&environment);
    let operation =
        operation::start(tx, id, workflow::UPGRADE_ENVIRONMENT, subject, Some(&environment), None)?;
    Ok((version, operation))
}

/// Wishes for it and starts what brings it about.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    environment: &Environment,
    mut host: Host,
    version: &str,
    id: OperationId,
    parent: Option<OperationId>,
) -> Ruling<Operation> {
    // What was seen with this version already is seen again only if something is done about it.
    let known = host.engine_wish.take().filter(|known| known.version == version);
    let verified = known.is_some_and(|known| known.verified);
    host.engine_wish = Some(EngineWish { version: version.to_owned(), begun_by: None, verified });
    tx.put(&host);
    operation::start(tx, id, workflow::UPGRADE_HOST, host::subject(&host), Some(environment), parent)
}

/// It is this host's turn, unless another host has it and is in the hands of an operation.
pub(crate) fn take_turn(tx: &mut Tx<'_>, environment: &EnvironmentId, host: &HostId) -> Ruling<()> {
    let Some(mut place) = tx.get::<Environment>(CLUSTER, environment.as_str())? else {
        return Ok(());
    };
    let held = match place.engine_turn.as_ref().filter(|holder| *holder != host) {
        Some(holder) => {
            let subject = Subject::new("host", holder, "");
            tx.get::<Active>(CLUSTER, &subject.index())?.is_some()
        }
        None => false,
    };
    if !held && place.engine_turn.as_ref() != Some(host) {
        place.record.engine_turn = Some(host.clone());
        tx.put(&place.record);
    }
    Ok(())
}

/// The hosts in the order in which they get another engine.
pub fn order(hosts: &[Host]) -> Vec<&Host> {
    let mut order: Vec<_> = hosts.iter().filter(|host| host.removal.is_none()).collect();
    let leads = |host: &Host| host.membership.as_ref().is_some_and(|node| node.leader);
    order.sort_by(|a, b| {
        let key = |host: &Host| (host.is_swarm_manager(), leads(host));
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    order
}

/// What would be done, in the order in which it would be.
pub fn plan(hosts: &[Host], version: &str) -> Vec<Planned> {
    order(hosts)
        .into_iter()
        .map(|host| Planned {
            host: host.name.to_string(),
            part: match &host.membership {
                None => "",
                Some(node) if node.leader => "leader",
                Some(_) if host.is_swarm_manager() => "manager",
                Some(_) => "worker",
            },
            from: host.engine_version().to_owned(),
            what: what(hosts, host, version),
        })
        .collect()
}

fn what(hosts: &[Host], host: &Host, version: &str) -> String {
    if host.engine_version() == version {
        return "has it already: looks whether it serves".to_owned();
    }
    if !host.agent.connected {
        return format!("stops here: it is {}", host.state().word);
    }
    let quorum = match quorum_without(hosts, host) {
        Ok(()) => String::new(),
        Err(why) => format!("waits: {why}; then "),
    };
    match has_elsewhere(hosts, host) {
        true => format!("{quorum}evacuate, upgrade, verify, take tasks again"),
        false => {
            format!("{quorum}upgrade and verify; its tasks stop meanwhile, there is no other host for them")
        }
    }
}

/// Could tasks of the host run elsewhere?
pub fn has_elsewhere(hosts: &[Host], host: &Host) -> bool {
    let takes = |other: &Host| {
        let active = crate::placement::Availability::Active;
        other.membership.as_ref().is_some_and(|node| node.availability == active)
    };
    hosts.iter().any(|other| other.id != host.id && other.is_active() && takes(other))
}

/// Can the swarm's managers agree while this host is away? The error says why not. A manager that is alone has nobody to
/// agree with, and one whose engine does not answer is missed already.
pub fn quorum_without(hosts: &[Host], host: &Host) -> Result<(), String> {
    let managers: Vec<_> = hosts.iter().filter(|host| host.is_swarm_manager()).collect();
    if !host.is_swarm_manager() || !host.answers() || managers.len() == 1 {
        return Ok(());
    }
    let is_there = |other: &&&Host| other.id != host.id && other.answers() && other.is_active();
    let there = managers.iter().filter(is_there).count();
    if there > managers.len() / 2 {
        return Ok(());
    }
    Err(format!(
        "{} is one of {} swarm managers, and the {there} others that are there could not agree without it",
        host.name,
        managers.len()
    ))
}

/// The version that was asked for; without one, the newest that any host of the environment has.
fn wanted(hosts: &[Host], version: Option<&str>) -> Ruling<String> {
    let invalid = |value: String, allowed: String| {
        Err(Refusal::InvalidValue { what: "the version of an engine", value, allowed })
    };
    let Some(version) = version else {
        let known = hosts.iter().map(Host::engine_version).filter(|version| !version.is_empty());
        return match known.max_by_key(|version| numbers(version)) {
            Some(newest) => Ok(newest.to_owned()),
            None => {
                invalid("left out".into(), "no host has told its own yet; say which (--to VERSION)".into())
            }
        };
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".+~-_".contains(&byte);
    let begins = version.bytes().next().is_some_and(|first| first.is_ascii_digit());
    match begins && version.len() <= VERSION_BYTES_MAX && version.bytes().all(fits) {
        true => Ok(version.to_owned()),
        false => invalid(
            format!("'{}'", version.escape_debug()),
            format!(
                "use what `docker version` shows as the server's: a digit first, at most {VERSION_BYTES_MAX} of a-z, A-Z, 0-9 and .+~-_"
            ),
        ),
    }
}

/// An engine does not read what a newer one has written.
fn not_older(hosts: &[&Host], version: &str) -> Ruling<()> {
    match hosts.iter().find(|host| numbers(host.engine_version()) > numbers(version)) {
        None => Ok(()),
        Some(host) => Err(Refusal::EngineIsNewer {
            host: host.name.to_string(),
            has: host.engine_version().to_owned(),
            wished: version.to_owned(),
        }),
    }
}

/// `20.10.24+dfsg1` is 20, 10, 24. What distributions write behind it says nothing about age.
fn numbers(version: &str) -> Vec<u64> {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    version[..end].split('.').filter_map(|part| part.parse().ok()).collect()
}

fn hosts(tx: &mut Tx<'_>, environment: &Environment) -> Ruling<Vec<Host>> {
    Ok(tx.list::<Host>(environment.id.as_str())?.into_iter().map(|stored| stored.record).collect())
}

impl Host {
    /// The version of its engine as its agent has told it; empty if it has not.
    pub fn engine_version(&self) -> &str {
        self.inventory.as_ref().map_or("", |inventory| inventory.engine_version.as_str())
    }

    /// Does it have this engine, and was it seen to serve with it?
    pub fn serves_with(&self, version: &str) -> bool {
        let verified = self.engine_wish.as_ref().is_some_and(|wish| wish.verified && wish.version == version);
        verified && self.engine_version() == version && !self.is_suspended()
    }
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
