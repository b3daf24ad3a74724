//! Hosts: machines in an environment that run Docker Engine and the Skep agent.
//!
//! ```text
//!   wished ─► machine (driver) ─► registered, connected (agent) ─► engine up ─► swarm member: active
//! ```
//! Each arrow is a fact with one author; the state that people see is derived from the facts, never stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Stored, Tx, View};

use crate::environment::Environment;
pub use crate::host_state::HostState;
use crate::ids::{EnvironmentId, HostId, OperationId};
use crate::name::Name;
use crate::networks::HostNetworks;
use crate::nfs::NfsSeen;
use crate::operation::{Direction, Operation, Subject, workflow};
use crate::placement::{Availability, Placement};
use crate::preflight::Preflight;
use crate::upgrade::EngineWish;
use crate::{CLUSTER, Refusal, Ruling, operation};
pub use inventory::{Inventory, Validity};
use moving::{Remembered, Standing};

pub mod adoption;
mod inventory;
pub mod moving;
pub mod registration;
pub mod renewal;
pub mod role;
mod standing;

/// Hosts in one environment; Docker's own advice for one swarm.
pub const HOSTS_PER_ENVIRONMENT_MAX: usize = 1_000;

/// What is wished for a host, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id; also the tag on its machine and the name in its certificate.
    pub id: HostId,
    /// Whose it is.
    pub environment: EnvironmentId,
    /// Unique in the environment; the machine's host name.
    pub name: Name,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Where the machine comes from; none if somebody brought it and it registered itself.
    pub driver: Option<String>,
    /// What the driver was told.
    pub options: BTreeMap<String, String>,
    /// Wished for its part in the swarm.
    #[serde(default)]
    pub role: WishedRole,
    /// Somebody wishes that it joins the swarm whatever is found about its network.
    #[serde(default)]
    pub skip_preflight: bool,
    /// Somebody wished it gone.
    pub removal: Option<Timestamp>,
    /// Whoever wished it gone wants its machine to stay, as their own.
    #[serde(default)]
    pub keeps_machine: bool,
    /// The operation that gives its machine back for a new one; none any more once the old one is gone.
    #[serde(default)]
    pub renewal: Option<OperationId>,
    /// The host whose place it takes, or has taken.
    #[serde(default)]
    pub replaces: Option<HostId>,
    /// Docker's id of the node that it was when it came, if its swarm was taken over.
    #[serde(default)]
    pub adopted: Option<String>,
    /// Told by the driver; by the agent, if there is no driver.
    pub machine: Option<Machine>,
    /// Told by the agent when it registered.
    pub registration: Option<Registration>,
    /// Told by the manager that holds the agent's connection.
    pub agent: Agent,
    /// Told by the agent.
    pub inventory: Option<Inventory>,
    /// What its agent and those of other hosts have found about the network between them, before it joined.
    #[serde(default)]
    pub preflight: Option<Preflight>,
    /// Wished for its node in the swarm.
    #[serde(default)]
    pub placement: Placement,
    /// Wished for its engine.
    #[serde(default)]
    pub engine_wish: Option<EngineWish>,
    /// Seen in the swarm.
    pub membership: Option<Membership>,
    /// Told by its own engine: how its node stands among the others.
    #[serde(default)]
    pub standing: Option<Standing>,
    /// What the swarm knew of its node, while that leaves to join anew under another address.
    #[serde(default)]
    pub remembered: Option<Remembered>,
    /// When its node has last left or changed its address for that.
    #[serde(default)]
    pub moved_at: Option<Timestamp>,
    /// Why it could not be taken into the swarm when that was tried last; empty once it is in.
    #[serde(default)]
    pub join_error: String,
    /// Its engine was in no swarm of ours when it was last asked to leave, and has not been seen in one since.
    #[serde(default)]
    pub parted: bool,
    /// No task of the swarm was left on it when it was last looked at.
    pub evacuated: bool,
    /// Since when the swarm sees its node as it does: ready, or not.
    #[serde(default)]
    pub node_since: Option<Timestamp>,
    /// It has been a ready node of the swarm. Tells a host that is on its way from one that has been there.
    #[serde(default)]
    pub was_ready: bool,
    /// Told by the driver, and only asked of it while the agent is silent: what has become of the machine.
    #[serde(default)]
    pub machine_lost: Option<MachineLost>,
    /// Decided: the swarm does without it as a manager. Since when it was down then; once it has been up again, the decision
    /// is void.
    #[serde(default)]
    pub given_up: Option<Timestamp>,
    /// Seen by the scheduler: the networks that Docker has made by itself there.
    #[serde(default)]
    pub networks: Option<HostNetworks>,
    /// Told by its agent when the scheduler asked: what it can do with the environment's NFS server.
    #[serde(default)]
    pub nfs: Option<NfsSeen>,
    /// Its engine has started and takes no part in the swarm before it is given the unlock key.
    #[serde(default)]
    pub swarm_locked: bool,
}

/// A machine that cannot run an agent, and since when that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineLost {
    /// What has become of it.
    pub how: Loss,
    /// When that was found out.
    pub since: Timestamp,
}

/// What has become of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The driver has it, and it does not run.
    Stopped,
    /// The driver has no such machine any more.
    Gone,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The driver's name for it; empty without a driver.
    pub id: String,
    /// Where it is in the environment's network.
    pub address: String,
}

/// The agent's first contact: which key it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// SHA-256 of the public key. The same key may ask again (its answer was lost), another may not.
    pub key_hash: Vec<u8>,
    /// When.
    pub at: Timestamp,
}

/// The agent's connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Is it connected?
    pub connected: bool,
    /// The manager that holds, or last held, the connection.
    pub manager: String,
    /// Tells one connection from the next.
    pub session: String,
    /// Since when it is as it is.
    pub since: Option<Timestamp>,
    /// Does the engine answer?
    pub engine_up: bool,
    /// Why it does not.
    pub engine_error: String,
    /// Since when it answers, or does not.
    #[serde(default)]
    pub engine_since: Option<Timestamp>,
}

/// What the swarm says about the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Docker's id of the node.
    pub node: String,
    /// Manager or worker.
    pub role: Role,
    /// Does it lead the swarm's managers?
    pub leader: bool,
    /// Does the swarm see it ready?
    pub ready: bool,
    /// Which tasks does it take?
    #[serde(default)]
    pub availability: Availability,
    /// Do the swarm's managers reach it? Told of managers only; a worker counts as reachable.
    #[serde(default = "reachable_if_not_told")]
    pub reachable: bool,
}

fn reachable_if_not_told() -> bool {
    true
}

/// Which part a host should play in the swarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WishedRole {
    /// A manager before others, as far as managers are wanted.
    Manager,
    /// Whatever the swarm needs.
    #[default]
    Auto,
    /// Never a manager.
    Worker,
}

/// A node's role in its swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes part in the swarm's own quorum.
    Manager,
    /// Runs tasks only.
    Worker,
}

impl Record for Host {
    const TABLE: &'static str = "host";
    fn partition(&self) -> &str {
        self.environment.as_str()
    }
    fn id(&self) -> String {
        self.id.to_string()
    }
}

/// Which id a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HostName {
    environment: EnvironmentId,
    name: Name,
    id: HostId,
}

impl Record for HostName {
    const TABLE: &'static str = "host-name";
    fn partition(&self) -> &str {
        self.environment.as_str()
    }
    fn id(&self) -> String {
        self.name.to_string()
    }
}

/// Which environment a host id belongs to; agents know only their id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HostPlace {
    id: HostId,
    environment: EnvironmentId,
}

impl Record for HostPlace {
    const TABLE: &'static str = "host-place";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.id.to_string()
    }
}

/// A new host as somebody asks for it. The driver has checked its options already.
#[derive(Debug, Clone)]
pub struct HostWish {
    /// Minted by the caller.
    pub id: HostId,
    /// Minted by the caller.
    pub operation: OperationId,
    /// The name.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// It joins the swarm whatever is found about its network.
    pub skip_preflight: bool,
    /// The labels that its node gets.
    pub labels: BTreeMap<String, String>,
}

/// Asks for a host.
pub fn wish(
    tx: &mut Tx<'_>,
    environment: &Environment,
    wish: &HostWish,
    parent: Option<OperationId>,
) -> Ruling<Operation> {
    environment.check_awake()?;
    let host = Host {
        options: wish.options.clone(),
        skip_preflight: wish.skip_preflight,
        placement: registration::labelled(&wish.labels)?,
        ..new_host(tx, environment, wish.id.clone(), &wish.name, Some(wish.driver.clone()))?
    };
    start(tx, environment, &host, wish.operation.clone(), parent)
}

/// A host of which only the name is known.
fn new_host(
    tx: &mut Tx<'_>,
    environment: &Environment,
    id: HostId,
    name: &str,
    driver: Option<String>,
) -> Ruling<Host> {
    let name = Name::parse("a host", name)?;
    let scope = environment.id.as_str();
    if tx.get::<HostName>(scope, name.as_str())?.is_some() {
        return Err(Refusal::NameTaken {
            what: "a host",
            name: name.to_string(),
            scope: Some(environment.name.to_string()),
        });
    }
    if tx.glance::<HostName>(scope)?.len() >= HOSTS_PER_ENVIRONMENT_MAX {
        return Err(Refusal::TooMany { what: "hosts in an environment", limit: HOSTS_PER_ENVIRONMENT_MAX });
    }
    Ok(Host {
        id,
        environment: environment.id.clone(),
        name,
        created_at: tx.now(),
        driver,
        options: BTreeMap::new(),
        role: WishedRole::default(),
        skip_preflight: false,
        removal: None,
        keeps_machine: false,
        renewal: None,
        replaces: None,
        adopted: None,
        machine: None,
        registration: None,
        agent: Agent::default(),
        inventory: None,
        preflight: None,
        placement: Placement::default(),
        engine_wish: None,
        membership: None,
        standing: None,
        remembered: None,
        moved_at: None,
        join_error: String::new(),
        parted: false,
        evacuated: false,
        node_since: None,
        was_ready: false,
        machine_lost: None,
        given_up: None,
        networks: None,
        nfs: None,
        swarm_locked: false,
    })
}

/// Writes a new host and starts what brings it to life.
fn start(
    tx: &mut Tx<'_>,
    environment: &Environment,
    host: &Host,
    id: OperationId,
    parent: Option<OperationId>,
) -> Ruling<Operation> {
    tx.put(host);
    tx.put(&HostName { environment: environment.id.clone(), name: host.name.clone(), id: host.id.clone() });
    tx.put(&HostPlace { id: host.id.clone(), environment: environment.id.clone() });
    operation::start(tx, id, workflow::CREATE_HOST, subject(host), Some(environment), parent)
}

/// Asks for a host to be removed. If it is still being created, that is turned around first.
pub fn remove(
    tx: &mut Tx<'_>,
    environment: &Environment,
    reference: &str,
    id: OperationId,
    parent: Option<OperationId>,
) -> Ruling<Operation> {
    let host = Host { keeps_machine: false, ..staying(tx, environment, reference)? };
    wish_gone(tx, environment, host, id, parent)
}

/// Asks for a host to be removed while its machine goes on, as whoever's it is. A machine that no driver made stays anyway.
pub fn let_go(
    tx: &mut Tx<'_>,
    environment: &Environment,
    reference: &str,
    id: OperationId,
) -> Ruling<Operation> {
    let host = Host { keeps_machine: true, ..staying(tx, environment, reference)? };
    wish_gone(tx, environment, host, id, None)
}

fn wish_gone(
    tx: &mut Tx<'_>,
    environment: &Environment,
    host: Host,
    id: OperationId,
    parent: Option<OperationId>,
) -> Ruling<Operation> {
    let host = Host { removal: Some(tx.now()), ..host };
    tx.put(&host);
    operation::start(tx, id, workflow::REMOVE_HOST, subject(&host), Some(environment), parent)
}

/// Asks for the network between a host and its swarm to be checked, and says whether the host may join whatever is found;
/// `None` leaves that as it is. What waits for such a check already looks again at once.
pub fn check(
    tx: &mut Tx<'_>,
    environment: &Environment,
    reference: &str,
    skip_preflight: Option<bool>,
    id: OperationId,
    by: &str,
) -> Ruling<Operation> {
    let mut host = staying(tx, environment, reference)?;
    if let Some(skip) = skip_preflight.filter(|skip| *skip != host.skip_preflight) {
        host.skip_preflight = skip;
        tx.put(&host);
    }
    let checks = |running: &Operation| {
        running.direction == Direction::Forward && workflow::CHECKS.contains(&running.workflow.as_str())
    };
    match operation::active_in(tx, &subject(&host))?.filter(checks) {
        Some(running) => operation::retry(tx, running.id.as_str(), id, by),
        None => operation::start(tx, id, workflow::CHECK_HOST, subject(&host), Some(environment), None),
    }
}

/// The host of that name or id that is not going away.
pub(crate) fn staying(tx: &mut Tx<'_>, environment: &Environment, reference: &str) -> Ruling<Host> {
    let host = named(tx, environment, reference)?;
    match host.removal {
        None => Ok(host),
        Some(_) => Err(Refusal::BeingRemoved { what: "host", name: host.name.to_string() }),
    }
}

/// An agent has connected, or has something new to tell.
pub fn reported(
    tx: &mut Tx<'_>,
    id: &str,
    manager: &str,
    session: &str,
    inventory: Option<Inventory>,
    engine: Result<(), String>,
) -> Ruling<()> {
    let Some(mut host) = by_id(tx, id)? else {
        return Ok(());
    };
    let before = host.clone();
    if !host.agent.connected || host.agent.session != session {
        host.agent.since = Some(tx.now());
    }
    if host.agent.engine_up != engine.is_ok() || host.agent.engine_since.is_none() {
        host.agent.engine_since = Some(tx.now());
    }
    // Whoever speaks has a machine that runs.
    host.machine_lost = None;
    host.agent = Agent {
        connected: true,
        manager: manager.to_owned(),
        session: session.to_owned(),
        since: host.agent.since,
        engine_up: engine.is_ok(),
        engine_error: engine.err().unwrap_or_default(),
        engine_since: host.agent.engine_since,
    };
    let known = before.inventory.as_ref().map(|inventory| inventory.address.as_str());
    host.inventory = inventory.or(host.inventory);
    moving::followed(&mut host, known);
    if host != before {
        tx.put(&host);
    }
    Ok(())
}

/// An agent's connection has ended. If it has come back elsewhere meanwhile, that is no news.
pub fn disconnected(tx: &mut Tx<'_>, id: &str, session: &str) -> Ruling<()> {
    if let Some(mut host) = by_id(tx, id)?
        && host.agent.session == session
        && host.agent.connected
    {
        host.agent.connected = false;
        host.agent.since = Some(tx.now());
        tx.put(&host);
    }
    Ok(())
}

/// Lets a host go of which nothing is left.
pub fn forget(tx: &mut Tx<'_>, environment: &EnvironmentId, id: &HostId) -> Ruling<()> {
    if let Some(host) = tx.get::<Host>(environment.as_str(), id.as_str())? {
        tx.delete::<HostName>(environment.as_str(), host.name.as_str());
        tx.delete::<HostPlace>(CLUSTER, id.as_str());
        registration::forget_key(tx, &host);
        operation::forget_rest(tx, &subject(&host));
        tx.delete::<Host>(environment.as_str(), id.as_str());
    }
    Ok(())
}

/// The host of that name or id in an environment.
pub fn named(tx: &mut Tx<'_>, environment: &Environment, reference: &str) -> Ruling<Host> {
    let scope = environment.id.as_str();
    let id = match tx.get::<HostName>(scope, reference)? {
        Some(index) => index.id.to_string(),
        None => reference.to_owned(),
    };
    match tx.get::<Host>(scope, &id)? {
        Some(stored) => Ok(stored.record),
        None => Err(not_found(environment, reference)),
    }
}

/// Like [`named`], for readers.
pub fn find(view: &View, environment: &Environment, reference: &str) -> Ruling<Stored<Host>> {
    let scope = environment.id.as_str();
    let id = match view.get::<HostName>(scope, reference)? {
        Some(index) => index.id.to_string(),
        None => reference.to_owned(),
    };
    view.get::<Host>(scope, &id)?.ok_or_else(|| not_found(environment, reference))
}

/// Is there a host of that id in any environment?
pub fn exists(view: &View, id: &str) -> Ruling<bool> {
    Ok(view.get::<HostPlace>(CLUSTER, id)?.is_some())
}

/// The host as the subject of an operation.
pub fn subject(host: &Host) -> Subject {
    Subject::new("host", &host.id, &host.name)
}

fn by_id(tx: &mut Tx<'_>, id: &str) -> Ruling<Option<Host>> {
    let Some(place) = tx.get::<HostPlace>(CLUSTER, id)? else {
        return Ok(None);
    };
    Ok(tx.get::<Host>(place.environment.as_str(), id)?.map(|stored| stored.record))
}

fn not_found(environment: &Environment, reference: &str) -> Refusal {
    Refusal::NotFound { what: "host", name: reference.to_owned(), scope: Some(environment.name.to_string()) }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Manager => "manager",
            Role::Worker => "worker",
        })
    }
}
