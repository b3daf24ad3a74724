//! `make chaos`: transactions by the million while managers are killed, and a search for what was lost.
//!
//! Each client's transactions are a chain: every one checks that the client's head key still has the revision that was
//! acknowledged before, and moves it on. So a write that was acknowledged and lost, or carried out twice, breaks the
//! chain at the next transaction, and nothing has to be remembered or read for that. Besides, every transaction writes
//! one of the client's other keys; at the end all of them are read from every manager and compared with what was
//! acknowledged last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use skep_wire::proto::v1 as kv;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::random::Random;
use crate::scenarios::MEMBERS;
use crate::skep::{Skep, SkepSession, key, request_id, write};
use crate::system::{Clients as _, Cluster};

/// Enough that writes share a sync.
const CLIENTS: u64 = 16;

/// Keys of each client besides its head.
const KEYS_PER_CLIENT: u64 = 500;

/// An attempt that hangs longer is given up and repeated elsewhere.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// A transaction that is not through by then never will be: the managers are all there again within seconds.
const TRANSACTION_MAX: Duration = Duration::from_secs(120);

/// Before an attempt is repeated.
const PAUSE: Duration = Duration::from_millis(5);

/// Between two kills, and how long the dead stay dead.
const CALM_MS: std::ops::Range<u64> = 500..4_000;
const DEAD_MS: std::ops::Range<u64> = 50..2_000;

/// Of a hundred kills, how many take all managers at once and how many take the leader.
const ALL_PERCENT: u64 = 10;
const LEADER_PERCENT: u64 = 45;

/// How often it is told how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What was acknowledged last for each key: value and revision.
pub(crate) type Acknowledged = BTreeMap<String, (Bytes, u64)>;

/// Commits `transactions` and fails with the first thing that is wrong.
pub(crate) async fn run(cluster: &mut Cluster<Skep>, transactions: u64) -> Result<()> {
    cluster.settled().await?;
    let begin = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let share = transactions / CLIENTS + u64::from(client < transactions % CLIENTS);
        clients.spawn(chain(cluster.clients.clone(), client, share, done.clone()));
    }
    println!("{transactions} transactions of {CLIENTS} clients while managers are killed");
    let finished = async {
        let mut acknowledged = Acknowledged::new();
        while let Some(client) = clients.join_next().await {
            acknowledged.extend(client.context("a client stopped")??);
        }
        Ok::<_, anyhow::Error>(acknowledged)
    };
    let kills = AtomicU64::new(0);
    let acknowledged = tokio::select! {
        acknowledged = finished => acknowledged?,
        error = kill(cluster, &kills) => return error.context("killing managers"),
        () = tell(&done, &kills, begin) => bail!("telling how far it is has ended"),
    };
    for member in 0..MEMBERS {
        if !cluster.members.running().contains(&member) {
            cluster.members.start(member)?;
        }
    }
    cluster.settled().await.context("after the last kill")?;
    compare(cluster, &acknowledged).await?;
    println!(
        "no acknowledged write was lost or doubled, and all {MEMBERS} managers are equal: {transactions} transactions, \
         {} kills, {} keys, {:.0} s",
        kills.load(Ordering::Relaxed),
        acknowledged.len(),
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// One client's transactions, each after the other.
async fn chain(clients: Skep, client: u64, count: u64, done: Arc<AtomicU64>) -> Result<Acknowledged> {
    let mut acknowledged = Acknowledged::new();
    let mut line = Line::new(clients, client as usize);
    let mut revision = 0;
    for number in 0..count {
        revision = link_of_chain(&mut line, client, number, revision, &mut acknowledged).await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(acknowledged)
}

/// One transaction, after the one that was acknowledged at `revision`; the revision of this one.
pub(crate) async fn link_of_chain(
    line: &mut Line,
    client: u64,
    number: u64,
    revision: u64,
    acknowledged: &mut Acknowledged,
) -> Result<u64> {
    let head = format!("head-{client}");
    let value = Bytes::from(format!("client {client}, transaction {number}"));
    let other = format!("key-{client}-{}", number % KEYS_PER_CLIENT);
    let request = kv::CommitRequest {
        request_id: request_id(),
        checks: vec![kv::Check { key: Some(key(&head)), revision }],
        writes: vec![write(&head, value.clone()), write(&other, value.clone())],
    };
    let written = line.commit(request).await;
    let reply = written
        .with_context(|| format!("client {client}, transaction {number}, after revision {revision}"))?;
    if reply.revision <= revision {
        bail!("client {client}, transaction {number}: revision {} after {revision}", reply.revision);
    }
    acknowledged.insert(other, (value.clone(), reply.revision));
    acknowledged.insert(head, (value, reply.revision));
    Ok(reply.revision)
}

/// The way of one client to whichever manager answers.
pub(crate) struct Line {
    clients: Skep,
    member: usize,
    session: Option<SkepSession>,
}

impl Line {
    /// Begins at a member of its own, so that lines are spread.
    pub(crate) fn new(clients: Skep, line: usize) -> Line {
        Line { clients, member: line % MEMBERS, session: None }
    }

    /// Repeats until it is acknowledged. A check that does not hold ends it: nobody else writes these keys.
    async fn commit(&mut self, request: kv::CommitRequest) -> Result<kv::CommitReply> {
        let deadline = Instant::now() + TRANSACTION_MAX;
        loop {
            let missing = match self.attempt(request.clone()).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(status))
                    if matches!(
                        status.code(),
                        Code::Aborted | Code::InvalidArgument | Code::Unauthenticated
                    ) =>
                {
                    bail!("an acknowledged write is lost, or one was carried out twice: {status}");
                }
                Ok(Err(status)) => status.to_string(),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() > deadline {
                bail!("not acknowledged within {} s: {missing}", TRANSACTION_MAX.as_secs());
            }
            self.session = None;
            self.member = (self.member + 1) % MEMBERS;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(
        &mut self,
        request: kv::CommitRequest,
    ) -> Result<Result<kv::CommitReply, tonic::Status>> {
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(self.clients.connect(self.member).await?),
        };
        timeout(ATTEMPT_MAX, session.commit(request)).await.context("no answer in time")
    }
}

/// Kills and starts managers for as long as it is let. A majority is back before the next kill.
async fn kill(cluster: &mut Cluster<Skep>, kills: &AtomicU64) -> Result<()> {
    let mut random = Random::seeded(u64::from(std::process::id()));
    loop {
        let leader = cluster.settled().await?;
        pause(&mut random, CALM_MS).await;
        let victims = match random.below(100) {
            draw if draw < ALL_PERCENT => (0..MEMBERS).collect(),
            draw if draw < ALL_PERCENT + LEADER_PERCENT => vec![leader],
            _ => vec![random.below(MEMBERS as u64) as usize],
        };
        for victim in &victims {
            cluster.members.kill(*victim);
            kills.fetch_add(1, Ordering::Relaxed);
        }
        pause(&mut random, DEAD_MS).await;
        for victim in victims {
            cluster.members.start(victim)?;
        }
    }
}

async fn pause(random: &mut Random, ms: std::ops::Range<u64>) {
    let length = ms.start + random.below(ms.end - ms.start);
    tokio::time::sleep(Duration::from_millis(length)).await;
}

async fn tell(done: &AtomicU64, kills: &AtomicU64, begin: Instant) {
    loop {
        tokio::time::sleep(TOLD_EVERY).await;
        let (done, kills) = (done.load(Ordering::Relaxed), kills.load(Ordering::Relaxed));
        println!("  {:>5.0} s: {done} transactions, {kills} kills", begin.elapsed().as_secs_f64());
    }
}

/// Reads every key from every manager's own copy.
pub(crate) async fn compare(cluster: &Cluster<Skep>, acknowledged: &Acknowledged) -> Result<()> {
    for member in 0..MEMBERS {
        let mut session = cluster.clients.connect(member).await?;
        for (name, (value, revision)) in acknowledged {
            let found = session.stale(name).await.with_context(|| format!("reading {name}"))?;
            if found.value.as_ref() != Some(value) || found.revision != *revision {
                bail!(
                    "manager {}: {name} was acknowledged as {value:?} at revision {revision}, but is {:?} at {}",
                    member + 1,
                    found.value,
                    found.revision
                );
            }
        }
    }
    Ok(())
}
