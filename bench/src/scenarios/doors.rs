//! What clients of the published API wait for: one object (P14), a list, the command line, and news (P13).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::agents::{REGISTERING_AT_ONCE, answered, register_environment};
use super::{Effort, MEMBERS, WARM_UP};
use crate::etcd::Etcd;
use crate::load::{Client, Fleet, KEYS, KeyClient, Work, fill};
use crate::process::resident_bytes;
use crate::random::Random;
use crate::report::Finding;
use crate::skep::{Rest, Skep};
use crate::statistics::{largest, median, rounded};
use crate::system::{Clients as _, Cluster, Failure, Freshness};

/// Times that of etcd's linearizable read, in the same role.
const GET_MAX_RATIO: f64 = 1.5;
const LIST_MAX_MS: f64 = 30.0;
const STATUS_MAX_MS: f64 = 60.0;
const WATCHES_MAX_MIB: f64 = 100.0;
const REACHED_MAX_MS: f64 = 200.0;

/// Hosts in the list.
const HOSTS: usize = 1_000;

/// Clients that watch.
pub(crate) const WATCHES: usize = 2_000;

/// Lists, commands and changes of which the median is told.
const TIMES: usize = 11;

/// Watchers that are connected at the same time: each handshake costs the manager a signature.
const CONNECTING_AT_ONCE: usize = 16;

/// Whatever has not come by then does not come.
const COMES_MAX: Duration = Duration::from_secs(30);

const MIB: f64 = 1_048_576.0;

/// Asks for one object, again and again.
struct Getter {
    rest: Rest,
    path: String,
}

impl Client for Getter {
    async fn step(&mut self, _random: &mut Random) -> Result<(), Failure> {
        match self.rest.ask(Method::GET, &self.path, Bytes::new()).await {
            Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
            Ok(answer) => Err(Failure::Unknown(format!("{}: {}", self.path, answer.status()))),
            Err(error) => Err(Failure::Unknown(format!("{error:#}"))),
        }
    }
}

/// P14, with both clusters running and nothing in them.
pub(crate) async fn reads(
    skep: &mut Cluster<Skep>,
    etcd: &mut Cluster<Etcd>,
    binary: &Path,
    effort: Effort,
) -> Result<Finding> {
    let (leader, their_leader) = (skep.settled().await?, etcd.settled().await?);
    let filling = etcd.clients.connect(their_leader).await?;
    fill(&vec![filling; 64], KEYS, &Bytes::from(vec![b'a'; 256])).await?;
    let rest = skep.clients.connect_rest(leader).await?;
    register_environment(rest, 0, HOSTS, REGISTERING_AT_ONCE, skep.clients.peer_address(leader)).await?;

    let mut ratios = vec![];
    let mut roles = vec![];
    for (role, ours, theirs) in
        [("leader", leader, their_leader), ("follower", (leader + 1) % MEMBERS, (their_leader + 1) % MEMBERS)]
    {
        let path = "/v1/environments/agents-0/hosts/h500".to_owned();
        let mut getting = Fleet::new(vec![Getter { rest: skep.clients.connect_rest(ours).await?, path }]);
        let session = etcd.clients.connect(theirs).await?;
        let reading = KeyClient::new(session, Work::Read(Freshness::Linearizable), Bytes::new());
        let mut reading = Fleet::new(vec![reading]);
        getting.round(WARM_UP).await?;
        reading.round(WARM_UP).await?;
        let (mut of_role, mut ours_ms, mut theirs_ms) = (vec![], vec![], vec![]);
        for _ in 0..effort.rounds {
            let (ours, theirs) = (getting.round(effort.round).await?, reading.round(effort.round).await?);
            of_role.push(ours.p50_ms / theirs.p50_ms);
            ours_ms.push(ours.p50_ms);
            theirs_ms.push(theirs.p50_ms);
        }
        ratios.extend(median(&of_role));
        roles.push(json!({ "role": role, "skep_p50_ms": ours_ms, "etcd_p50_ms": theirs_ms }));
    }
    let list_ms = lists(skep, leader).await?;
    let status_ms = statuses(skep, binary).await?;
    let ratio = largest(&ratios).map(|ratio| rounded(ratio, 2));
    let (list, status) = (median(&list_ms), median(&status_ms));
    let below = |value: Option<f64>, max| value.is_some_and(|value| value <= max);
    Ok(Finding {
        id: "P14",
        measured: json!({ "get_p50_ratio": ratio, "list_ms": list, "cluster_status_ms": status }),
        target: json!({ "get_p50_ratio": GET_MAX_RATIO, "list_ms": LIST_MAX_MS, "cluster_status_ms": STATUS_MAX_MS }),
        pass: below(ratio, GET_MAX_RATIO) && below(list, LIST_MAX_MS) && below(status, STATUS_MAX_MS),
        detail: json!({ "get": roles, "hosts": HOSTS, "lists_ms": list_ms, "cluster_statuses_ms": status_ms }),
    })
}

async fn lists(skep: &Cluster<Skep>, leader: usize) -> Result<Vec<f64>> {
    let mut rest = skep.clients.connect_rest(leader).await?;
    let path = format!("/v1/environments/agents-0/hosts?limit={HOSTS}");
    let mut took = vec![];
    for _ in 0..TIMES {
        let began = Instant::now();
        let answer = rest.ask(Method::GET, &path, Bytes::new()).await?;
        took.push(rounded(began.elapsed().as_secs_f64() * 1_000.0, 2));
        let listed: Value = serde_json::from_slice(answer.body()).context("reading the list")?;
        let hosts = listed["items"].as_array().map_or(0, Vec::len);
        ensure!(hosts == HOSTS, "{hosts} hosts are listed");
    }
    Ok(took)
}

/// `skep cluster status`, from its start to its end.
async fn statuses(skep: &Cluster<Skep>, binary: &Path) -> Result<Vec<f64>> {
    let mut took = vec![];
    for _ in 0..TIMES {
        let mut command = Command::new(binary);
        command.args(["cluster", "status"]).envs(skep.clients.variables()).stdin(Stdio::null());
        let began = Instant::now();
        let output = command.output().await.context("starting skep cluster status")?;
        took.push(rounded(began.elapsed().as_secs_f64() * 1_000.0, 2));
        if !output.status.success() {
            bail!("skep cluster status: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(took)
}

/// P13, with a cluster that runs: one manager serves all watches.
pub(crate) async fn watches(cluster: &mut Cluster<Skep>) -> Result<Finding> {
    let leader = cluster.settled().await?;
    let follower = (leader + 1) % MEMBERS;
    let pid = cluster.members.process(follower)?.pid();
    let before = resident_bytes(pid)?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHES.div_ceil(CONNECTING_AT_ONCE) {
        let opened: Vec<_> = (0..CONNECTING_AT_ONCE)
            .map(|_| async {
                let mut rest = cluster.clients.connect_rest(follower).await?;
                Ok::<_, anyhow::Error>((rest.stream("/v1/events?topics=template:*").await?, rest))
            })
            .collect();
        for opened in futures::future::try_join_all(opened).await? {
            let told = told.clone();
            watchers.spawn(async move { watch(opened.0, opened.1, &told).await });
        }
    }
    let mib = rounded(resident_bytes(pid)?.saturating_sub(before) as f64 / MIB, 1);
    let mut rest = cluster.clients.connect_rest(leader).await?;
    let mut reached_ms = vec![];
    for number in 0..TIMES {
        let began = Instant::now();
        let document = format!("name: news-{number}\ndescription: news\n");
        answered(&mut rest, Method::POST, "/v1/templates", &json!({ "document": document })).await?;
        let mut last = began;
        for _ in 0..watchers.len() {
            let at: Instant =
                timeout(COMES_MAX, heard.recv()).await.context("a watcher heard nothing")?.context("gone")?;
            last = last.max(at);
        }
        reached_ms.push(rounded((last - began).as_secs_f64() * 1_000.0, 1));
    }
    let reached = median(&reached_ms);
    Ok(Finding {
        id: "P13",
        measured: json!({ "reached_ms": reached, "watches_mib": mib }),
        target: json!({ "reached_ms": REACHED_MAX_MS, "watches_mib": WATCHES_MAX_MIB }),
        pass: reached.is_some_and(|reached| reached <= REACHED_MAX_MS) && mib <= WATCHES_MAX_MIB,
        detail: json!({
            "watches": watchers.len(),
            "reached": "from the request to change something at the leader until the last watcher of a follower has read of it",
            "each_reached_ms": reached_ms,
        }),
    })
}

/// Tells when each change has come. The connection lives as long as the watch.
async fn watch(mut events: Incoming, _connection: Rest, told: &mpsc::UnboundedSender<Instant>) {
    let mut line = vec![];
    while let Some(Ok(frame)) = events.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        for byte in data {
            if byte != b'\n' {
                line.push(byte);
            } else {
                if line == b"event: put" && told.send(Instant::now()).is_err() {
                    return;
                }
                line.clear();
            }
        }
    }
}
