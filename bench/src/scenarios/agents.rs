//! Ten thousand agents (P9): what their heartbeats cost the manager that holds them, and what happens when it dies.
//!
//! ```text
//!   register (real tokens) ─► all at the leader ─► idle: processor, memory ─► SIGKILL ─► all elsewhere, meanwhile writes
//! ```
//! The leader is the manager that dies, so that fail-over and reconnecting come together. Agents and managers share this
//! machine's processors: half of what a reconnect costs is the agents' half of the handshakes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, StatusCode};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Effort, MEMBERS};
use crate::agents::{LightAgent, Swarm};
use crate::chaos::{Line, compare, link_of_chain};
use crate::process::{processor_seconds, resident_bytes};
use crate::report::{Finding, seconds};
use crate::skep::{Rest, Skep};
use crate::statistics::rounded;
use crate::system::Cluster;

const PROCESSOR_MAX: f64 = 0.5;
const RECONNECT_MAX_S: f64 = 30.0;

/// Hosts of each environment: operations of one environment look at all of its hosts, and that is not what is measured.
const HOSTS_PER_ENVIRONMENT: usize = 20;

/// More than any environment here has hosts.
const ADDRESSES_PER_ENVIRONMENT: usize = 1_024;

/// Machines that register at the same time.
pub(crate) const REGISTERING_AT_ONCE: usize = 16;

/// Clients that write while the agents reconnect.
const WRITERS: usize = 4;

/// Writes before the manager is killed, for comparison.
const BEFORE: Duration = Duration::from_secs(5);

/// A cancelled operation has ended by then.
const LEFT_ALONE_MAX: Duration = Duration::from_secs(60);

/// Whatever takes longer does not come.
const ALL_LINKED_MAX: Duration = Duration::from_secs(300);

/// Each agent is a file here and one at its manager; while it reconnects, two. They do not all do so at the same moment.
const FILES_PER_TWO_AGENTS: u64 = 3;
const FILES_BESIDES: u64 = 2_000;

const KIB: f64 = 1024.0;

/// P9, with a cluster that has not been started.
pub(crate) async fn storm(cluster: &mut Cluster<Skep>, effort: Effort) -> Result<Finding> {
    raise_file_limit(effort.agents as u64)?;
    cluster.members.start_all()?;
    let leader = cluster.settled().await?;
    let addresses: Vec<String> = (0..MEMBERS).map(|member| cluster.clients.peer_address(member)).collect();
    let began = Instant::now();
    let agents = register(&cluster.clients, leader, &addresses[leader], effort.agents).await?;
    let registered = began.elapsed();
    println!("{} hosts were registered after {:.0} s", agents.len(), registered.as_secs_f64());

    let pid = cluster.members.process(leader)?.pid();
    let before_bytes = resident_bytes(pid)?;
    let began = Instant::now();
    let swarm = Swarm::start(agents, vec![addresses[leader].clone()]);
    swarm.all_linked_since(began, ALL_LINKED_MAX).await?;
    let connected = began.elapsed();
    println!("all were linked to the leader after {:.1} s", connected.as_secs_f64());
    let per_agent_kib =
        (resident_bytes(pid)?.saturating_sub(before_bytes)) as f64 / KIB / swarm.count() as f64;

    let (used, began) = (processor_seconds(pid)?, Instant::now());
    tokio::time::sleep(effort.heartbeats).await;
    let cores = (processor_seconds(pid)? - used) / began.elapsed().as_secs_f64();
    ensure!(swarm.linked() == swarm.count(), "agents were lost while nothing happened");

    let writers = Writers::start(&cluster.clients);
    tokio::time::sleep(BEFORE).await;
    let failures = swarm.failures();
    swarm.may_dial(addresses);
    let killed = Instant::now();
    cluster.members.kill(leader);
    // They notice at once: the kernel of a killed process closes its connections.
    swarm.all_linked_since(killed, ALL_LINKED_MAX).await?;
    let reconnected = killed.elapsed();
    let writes = writers.stop().await?;
    cluster.members.start(leader)?;
    cluster.settled().await.context("after the kill")?;
    compare(cluster, &writes.acknowledged).await?;

    let mut links = swarm.links_made_since(killed);
    links.sort();
    let pass = cores <= PROCESSOR_MAX && reconnected.as_secs_f64() <= RECONNECT_MAX_S;
    Ok(Finding {
        id: "P9",
        measured: json!({
            "heartbeat_processors": rounded(cores, 3),
            "reconnect_s": seconds(reconnected),
        }),
        target: json!({ "heartbeat_processors": PROCESSOR_MAX, "reconnect_s": RECONNECT_MAX_S }),
        pass,
        detail: json!({
            "agents": swarm.count(),
            "memory_per_agent_kib": rounded(per_agent_kib, 1),
            "registered_s": seconds(registered),
            "connected_at_first_s": seconds(connected),
            "half_reconnected_s": links.get(links.len() / 2).map(|half| seconds(*half)),
            "dials_that_failed": swarm.failures() - failures,
            "writes_before": writes.told(|at| at < killed),
            "writes_while_reconnecting": writes.told(|at| at >= killed),
            "writes_lost_or_doubled": 0,
        }),
    })
}

/// Both ends of every link are files, here and in the managers, which inherit the limit.
pub(crate) fn raise_file_limit(agents: u64) -> Result<()> {
    let wanted = agents * FILES_PER_TWO_AGENTS / 2 + FILES_BESIDES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    if soft >= wanted {
        return Ok(());
    }
    let hard = hard.max(wanted);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).with_context(|| {
        format!("{agents} agents need {wanted} open files: run it as root, or ulimit -n {wanted}")
    })
}

async fn register(clients: &Skep, member: usize, manager: &str, count: usize) -> Result<Vec<LightAgent>> {
    let environments = count.div_ceil(HOSTS_PER_ENVIRONMENT);
    let (mut working, mut agents, mut next) = (JoinSet::new(), Vec::with_capacity(count), 0);
    while agents.len() < count {
        while working.len() < REGISTERING_AT_ONCE && next < environments {
            let rest = clients.connect_rest(member).await?;
            let hosts = HOSTS_PER_ENVIRONMENT.min(count - next * HOSTS_PER_ENVIRONMENT);
            working.spawn(register_environment(rest, next, hosts, 1, manager.to_owned()));
            next += 1;
        }
        let done = working.join_next().await.context("nobody registers any more")?;
        agents.extend(done.context("a registration stopped")??);
    }
    Ok(agents)
}

pub(crate) async fn register_environment(
    mut rest: Rest,
    number: usize,
    hosts: usize,
    at_once: usize,
    manager: String,
) -> Result<Vec<LightAgent>> {
    let name = format!("agents-{number}");
    let wish = json!({ "name": name, "template": "default" });
    answered(&mut rest, Method::POST, "/v1/environments", &wish).await?;
    let path = format!("/v1/environments/{name}/registration-tokens");
    let token = answered(&mut rest, Method::POST, &path, &json!({ "uses": hosts })).await?;
    let token = token["join"]["token"].as_str().context("no token was answered")?.to_owned();
    let agents = stream::iter(0..hosts)
        .map(async |host| {
            let address = address(number, host)?.to_string();
            LightAgent::register(&token, &format!("h{host}"), &address, &manager).await
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await?;
    is_left_alone(&mut rest, &name).await?;
    Ok(agents)
}

/// No two hosts have one address.
fn address(environment: usize, host: usize) -> Result<Ipv4Addr> {
    ensure!(host < ADDRESSES_PER_ENVIRONMENT, "an environment of this benchmark has no room for host {host}");
    let number = u32::try_from(environment * ADDRESSES_PER_ENVIRONMENT + host + 1).ok();
    let number =
        number.filter(|number| number >> 24 == 0).context("there are no more addresses in 10.0.0.0/8")?;
    Ok(Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | number))
}

/// Taking a host in waits for its engine, and these have none: that is cancelled.
async fn is_left_alone(rest: &mut Rest, environment: &str) -> Result<()> {
    let deadline = Instant::now() + LEFT_ALONE_MAX;
    let path = format!("/v1/environments/{environment}/hosts?limit=1000");
    loop {
        let listed = answered(rest, Method::GET, &path, &Value::Null).await?;
        let hosts = listed["items"].as_array().into_iter().flatten();
        let open: Vec<&str> = hosts.filter_map(|host| host["status"]["operation"].as_str()).collect();
        if open.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{environment}: {} operations are still open", open.len());
        for operation in open {
            // One that has ended meanwhile, or is being cancelled already, refuses; which is as good.
            let path = format!("/v1/operations/{operation}/actions/cancel");
            rest.ask(Method::POST, &path, Bytes::new()).await?;
        }
        tokio::time::sleep(crate::process::LOOK).await;
    }
}

pub(crate) async fn answered(rest: &mut Rest, method: Method, path: &str, body: &Value) -> Result<Value> {
    let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let answer = rest.ask(method, path, bytes).await?;
    if ![StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED].contains(&answer.status()) {
        bail!("{path}: {} {}", answer.status(), String::from_utf8_lossy(answer.body()));
    }
    serde_json::from_slice(answer.body()).with_context(|| format!("reading the answer to {path}"))
}

/// Clients that write chains of transactions, each after the other, until they are told to stop.
struct Writers {
    tasks: JoinSet<Result<Written>>,
    enough: Arc<AtomicBool>,
}

/// What they have written.
#[derive(Default)]
struct Written {
    acknowledged: crate::chaos::Acknowledged,
    /// When each write was acknowledged, and how long it took with all repetitions.
    took: Vec<(Instant, Duration)>,
}

impl Writers {
    fn start(clients: &Skep) -> Writers {
        let enough = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            tasks.spawn(write(Line::new(clients.clone(), writer), writer as u64, enough.clone()));
        }
        Writers { tasks, enough }
    }

    /// Fails if anything was lost, doubled or not acknowledged.
    async fn stop(mut self) -> Result<Written> {
        self.enough.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        while let Some(written) = self.tasks.join_next().await {
            let written = written.context("a writer stopped")??;
            all.acknowledged.extend(written.acknowledged);
            all.took.extend(written.took);
        }
        Ok(all)
    }
}

async fn write(mut line: Line, writer: u64, enough: Arc<AtomicBool>) -> Result<Written> {
    let (mut written, mut revision) = (Written::default(), 0);
    for number in 0.. {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        revision = link_of_chain(&mut line, writer, number, revision, &mut written.acknowledged).await?;
        written.took.push((Instant::now(), began.elapsed()));
    }
    Ok(written)
}

impl Written {
    fn told(&self, counts: impl Fn(Instant) -> bool) -> Value {
        let mut took: Vec<Duration> =
            self.took.iter().filter(|(at, _)| counts(*at)).map(|(_, took)| *took).collect();
        took.sort();
        let at = |share: f64| {
            let place = (took.len() as f64 * share) as usize;
            took.get(place.min(took.len().saturating_sub(1))).map(|took| seconds(*took))
        };
        json!({ "acknowledged": took.len(), "p50_s": at(0.5), "p99_s": at(0.99), "longest_s": at(1.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_an_address_of_its_own() {
        let told = |environment, host| address(environment, host).map(|address| address.to_string()).ok();
        assert_eq!(told(0, 0).as_deref(), Some("10.0.0.1"));
        assert_eq!(told(0, 1_023).as_deref(), Some("10.0.4.0"));
        assert_eq!(told(1, 0).as_deref(), Some("10.0.4.1"));
        assert_eq!(told(499, 19).as_deref(), Some("10.7.204.20"));
        assert_eq!(told(0, 1_024), None);
        assert_eq!(told(16_384, 0), None);
    }
}
