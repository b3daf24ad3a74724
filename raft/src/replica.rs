//! One replica: starts openraft on the data directory, proposes, reads, and says who leads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Config, SnapshotPolicy};
use skep_ledger::{Feed, Revision};
use skep_storage::{Identity, StorageError, Store};
use skep_wire::channels::{PeerChannels, Purpose};
use skep_wire::proto::peer::Empty;
use tokio::time::{Instant, timeout, timeout_at};

use crate::codec;
use crate::digests::{Alarms, Digests};
use crate::epoch::Epoch;
use crate::founding;
use crate::gathering::Gathering;
use crate::growth::Growth;
use crate::leadership::Leadership;
use crate::log_store::LogStore;
use crate::network::Network;
use crate::read_index::{ReadIndexes, Standing};
use crate::recovery;
use crate::snapshots::Arrivals;
use crate::state_machine::StateMachine;
use crate::status::{About, ClusterStatus, MemberStatus, resident_bytes, role};
use crate::types::{LogId, ManagerNode, Raft};
use crate::vitals::Heard;

/// A manager that does not describe itself by then is shown as unreachable.
pub(crate) const STATUS_MAX: Duration = Duration::from_millis(500);

/// A snapshot is made of links to files, and a log that is being sent is not held on to for longer than a few
/// seconds; whoever waits longer waits for a disk that is in trouble.
const SNAPSHOT_NOW_MAX: Duration = Duration::from_secs(60);

/// Entries after which a snapshot is taken and the log behind it can go. Each one interrupts the applying for some
/// milliseconds; how large the log may become until then is limited by `growth.rs`.
const SNAPSHOT_EVERY_ENTRIES: u64 = 50_000;

/// Entries kept behind a snapshot, so that a replica that was away for a moment needs no snapshot.
const LOG_MARGIN_ENTRIES: u64 = 2_000;

/// How long silence means that the leader is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Managers in one network.
    Lan,
    /// Managers in different places.
    Wan,
}

impl Timing {
    /// For how long a follower that has heard the leader promises to elect no other.
    fn lease(self) -> Duration {
        Duration::from_millis(self.milliseconds().2)
    }

    /// Heartbeat interval, shortest and longest election timeout, in milliseconds.
    ///
    /// A follower stands for election when it has heard nothing for the longest timeout and then a random one: in a
    /// LAN after 360 to 460 ms, which is seven missed heartbeats. Heartbeats have a connection of their own and never
    /// wait for a disk, so a slow disk is not silence.
    fn milliseconds(self) -> (u64, u64, u64) {
        match self {
            Timing::Lan => (50, 130, 230),
            Timing::Wan => (200, 1_000, 2_000),
        }
    }
}

/// What a replica needs to start.
pub struct ReplicaConfig {
    /// The cluster's id.
    pub cluster: String,
    /// This manager's number.
    pub node: u64,
    /// Where log and state lie.
    pub dir: PathBuf,
    /// The managers that found the cluster together, this one included.
    pub founders: BTreeMap<u64, ManagerNode>,
    /// The way to the other managers.
    pub channels: PeerChannels,
    /// Election timing.
    pub timing: Timing,
    /// Readers trust the leader's lease instead of asking a follower. Faster, and right only as long as clocks of all
    /// managers run equally fast; either all of them do so or none.
    pub lease_reads: bool,
}

/// The replica could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// openraft refused what it found there.
    #[error("starting Raft: {0}")]
    Raft(String),
    /// The other managers know this replica, but it knows nothing.
    #[error(
        "the other managers are members of a cluster already, but this one's log is empty: its data was lost, and what \
         it has promised is forgotten. It must come back under a new number: skep server --reset-from-peers"
    )]
    DataLost,
    /// The cluster was recovered or restored, without what this replica has.
    #[error("this manager must not go on: {0}")]
    Outdated(String),
    /// Its data was found to be wrong in an earlier run.
    #[error("this manager must not go on, its data was found to be wrong: {0}")]
    Condemned(String),
}

/// No snapshot was taken, or the log is still there.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// This replica has stopped.
    #[error("taking a snapshot: the replica has stopped: {0}")]
    Stopped(String),
    /// It may still come.
    #[error("taking a snapshot: not done within {} s", SNAPSHOT_NOW_MAX.as_secs())]
    TooSlow,
}

/// A handle on this replica; clones share it.
#[derive(Clone)]
pub struct Replica(Arc<Inner>);

/// A handle that does not keep the replica open.
pub(crate) struct WeakReplica(Weak<Inner>);

impl WeakReplica {
    pub(crate) fn upgrade(&self) -> Option<Replica> {
        self.0.upgrade().map(Replica)
    }
}

struct Inner {
    raft: Raft,
    store: Store,
    feed: Arc<Feed>,
    network: Network,
    read_indexes: ReadIndexes,
    gathering: Gathering,
    leadership: Leadership,
    standing: Standing,
    founders: BTreeMap<u64, ManagerNode>,
    /// See `founding.rs`.
    takes_part: AtomicBool,
    about: About,
    digests: Arc<Digests>,
    alarms: Alarms,
    arrivals: Arrivals,
    /// See `vitals.rs`.
    heard: Heard,
}

impl Replica {
    /// Opens the data directory and takes part from now on.
    pub async fn start(config: ReplicaConfig) -> Result<Replica, StartError> {
        let identity = Identity { cluster: config.cluster.clone(), node: config.node };
        let store = Store::open(&config.dir, &identity)?;
        let takes_part = !founding::is_empty(&store)?;
        // Who joined later began with a vote of its own (see `prepare`), and has nobody to ask whether it is new.
        if !takes_part && !config.founders.contains_key(&config.node) {
            return Err(StartError::DataLost);
        }
        let epoch = Epoch::load(&store, config.founders.contains_key(&config.node))?;
        let network = Network::new(config.cluster.clone(), config.node, config.channels.clone(), epoch);
        recovery::refuse_outdated(&store, &network, &config.founders).await?;
        let state_machine = StateMachine::open(store.clone()).map_err(raft_error)?;
        let feed = state_machine.feed().clone();
        let digests = state_machine.digests().clone();
        let (growth, grown) = Growth::watched();
        let log = LogStore::open(store.clone(), network.pacing.clone(), growth).map_err(raft_error)?;
        let standing = Standing {
            ballot: log.ballot().clone(),
            applied_term: state_machine.applied_term().clone(),
            feed: feed.clone(),
        };
        for (id, founder) in config.founders.iter().filter(|(id, _)| **id != config.node) {
            config.channels.set(*id, founder.peer_address.clone());
        }
        if config.lease_reads {
            // A replica that was started again has forgotten which leader it had promised to wait for.
            tokio::time::sleep(config.timing.lease()).await;
        }
        let raft = Raft::new(
            config.node,
            Arc::new(openraft_config(&config.cluster, config.timing)?),
            network.clone(),
            log,
            state_machine,
        )
        .await
        .map_err(raft_error)?;
        let founders = config.founders;
        let takes_part = AtomicBool::new(takes_part);
        let read_indexes =
            ReadIndexes::start(raft.clone(), network.clone(), standing.clone(), config.lease_reads);
        let gathering = Gathering::start(raft.clone());
        let leadership = Leadership::of(&raft);
        let (alarms, arrivals) = (Alarms::none(), Arrivals::default());
        let replica = Replica(Arc::new(Inner {
            raft,
            store,
            feed,
            network,
            read_indexes,
            gathering,
            leadership,
            standing,
            founders,
            takes_part,
            about: About::default(),
            digests,
            alarms,
            arrivals,
            heard: Heard::default(),
        }));
        replica.watch_for_divergence();
        replica.keep_log_small(grown);
        Ok(replica)
    }

    /// The managers together, as far as they answer.
    pub async fn status(&self) -> ClusterStatus {
        let members = self.members().await;
        let (leader, term) = {
            let metrics = self.0.raft.metrics();
            let now = metrics.borrow_watched();
            (now.current_leader, now.current_term)
        };
        ClusterStatus::of(&self.0.network.cluster, leader, term, *self.0.feed.latest().borrow(), members)
    }

    /// Does this replica know a leader?
    pub fn knows_leader(&self) -> bool {
        self.leader().is_some()
    }

    /// Does this replica lead?
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.0.network.node)
    }

    /// Takes a snapshot of all that is applied here and lets the log behind it go, for operators who want the space
    /// back now: without this call it happens every 50 000 entries or 64 MiB, and the newest stay. Answers up to which
    /// revision the log is gone. A replica that is behind by then is sent the whole state.
    pub async fn snapshot_now(&self) -> Result<Revision, SnapshotError> {
        let applied = self.0.raft.metrics().borrow_watched().last_applied;
        match applied {
            Some(applied) => self.let_go(applied).await,
            None => Ok(0),
        }
    }

    /// Lets the log up to `wanted` go, once there is a snapshot that reaches so far.
    pub(crate) async fn let_go(&self, wanted: LogId) -> Result<Revision, SnapshotError> {
        let stopped = |error: &dyn std::fmt::Display| SnapshotError::Stopped(error.to_string());
        let mut metrics = self.0.raft.metrics();
        let deadline = Instant::now() + SNAPSHOT_NOW_MAX;
        loop {
            let (taken, purged) = {
                let now = metrics.borrow_watched();
                (now.snapshot, now.purged)
            };
            // Asked again each time: a request is dropped while an older snapshot is being taken, and a log that is
            // being sent stays until it has arrived or failed to.
            match taken {
                Some(_) if purged >= Some(wanted) => return Ok(wanted.index()),
                Some(taken) if taken >= wanted => self.0.raft.trigger().purge_log(wanted.index()).await,
                _ => self.0.raft.trigger().snapshot().await,
            }
            .map_err(|error| stopped(&error))?;
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(stopped(&error)),
                Err(_) => return Err(SnapshotError::TooSlow),
            }
        }
    }

    /// Hands leadership over, if this replica has it, and stops taking part.
    pub async fn shutdown(&self) {
        if self.is_leader()
            && let Err(error) = self.transfer_leadership(None).await
        {
            // Whoever is left elects somebody.
            tracing::warn!(%error, "this replica stops while it leads");
        }
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
    }

    pub(crate) fn followed(&self) -> &Leadership {
        &self.0.leadership
    }

    pub(crate) fn changes(&self) -> &Feed {
        &self.0.feed
    }

    pub(crate) fn read_indexes(&self) -> &ReadIndexes {
        &self.0.read_indexes
    }

    pub(crate) fn gathering(&self) -> &Gathering {
        &self.0.gathering
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.0.standing
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.0.raft
    }

    pub(crate) fn identity(&self) -> (&str, u64) {
        (&self.0.network.cluster, self.0.network.node)
    }

    pub(crate) fn founders(&self) -> &BTreeMap<u64, ManagerNode> {
        &self.0.founders
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn participation(&self) -> &AtomicBool {
        &self.0.takes_part
    }

    pub(crate) fn heard(&self) -> &Heard {
        &self.0.heard
    }

    pub(crate) fn network(&self) -> &Network {
        &self.0.network
    }

    pub(crate) fn digests(&self) -> &Digests {
        &self.0.digests
    }

    pub(crate) fn alarms(&self) -> &Alarms {
        &self.0.alarms
    }

    pub(crate) fn about(&self) -> &About {
        &self.0.about
    }

    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.0.arrivals
    }

    /// For tasks that must not keep a replica open.
    pub(crate) fn downgrade(&self) -> WeakReplica {
        WeakReplica(Arc::downgrade(&self.0))
    }

    /// The numbers of those who vote.
    pub(crate) fn voters(&self) -> Vec<u64> {
        self.known_managers()
            .into_iter()
            .filter(|(_, (_, role))| *role == "voter")
            .map(|(id, _)| id)
            .collect()
    }

    pub(crate) fn own_status(&self) -> MemberStatus {
        let metrics = self.0.raft.metrics();
        let now = metrics.borrow_watched();
        let membership = now.membership_config.membership();
        let node = self.0.network.node;
        let described = membership.get_node(&node).or_else(|| self.0.founders.get(&node)).cloned();
        let described = described.unwrap_or_default();
        self.0.about.completed(MemberStatus {
            name: described.name,
            id: node,
            role: role(membership, node).into(),
            state: format!("{:?}", now.state).to_lowercase(),
            peer_address: described.peer_address,
            api_url: described.api_url,
            last_log_index: now.last_log_index,
            applied_index: now.last_applied.as_ref().map(|log_id| log_id.index()),
            lag_entries: None,
            last_contact_ms: Some(0),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            resident_bytes: resident_bytes(),
            term: Some(now.current_term),
            initialized: now.last_log_index.is_some() || now.current_term > 0,
            takes_part: self.takes_part(),
            epoch: self.epoch(),
            diverged: self.0.alarms.diverged(),
            snapshot_rows: self.0.arrivals.rows(),
            ..MemberStatus::default()
        })
    }

    fn leader(&self) -> Option<u64> {
        self.0.raft.metrics().borrow_watched().current_leader
    }

    /// Everyone in the membership that this replica knows, with role; the founders, as long as there is none.
    fn known_managers(&self) -> BTreeMap<u64, (ManagerNode, &'static str)> {
        let metrics = self.0.raft.metrics();
        let now = metrics.borrow_watched();
        let membership = now.membership_config.membership();
        let known: BTreeMap<_, _> =
            membership.nodes().map(|(id, node)| (*id, (node.clone(), role(membership, *id)))).collect();
        if known.is_empty() {
            return self.0.founders.iter().map(|(id, node)| (*id, (node.clone(), "voter"))).collect();
        }
        known
    }

    /// What the managers say about themselves. Who they are is not for them to say, but for the membership.
    pub(crate) async fn members(&self) -> Vec<MemberStatus> {
        let asked = self.known_managers().into_iter().map(|(id, (node, role))| async move {
            let since = Instant::now();
            let answer = match id == self.0.network.node {
                true => Some(self.own_status()),
                false => timeout(STATUS_MAX, self.status_of(id)).await.ok().and_then(Result::ok),
            };
            let last_contact_ms =
                answer.is_some().then(|| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
            let said = answer
                .unwrap_or_else(|| MemberStatus { state: "unreachable".into(), ..MemberStatus::default() });
            MemberStatus {
                name: node.name,
                id,
                role: role.into(),
                peer_address: node.peer_address,
                api_url: node.api_url,
                last_contact_ms,
                ..said
            }
        });
        join_all(asked).await
    }

    async fn status_of(&self, id: u64) -> std::io::Result<MemberStatus> {
        let mut client = self.0.network.client(id, Purpose::Heartbeat)?;
        let reply = client.status(Empty {}).await.map_err(std::io::Error::other)?;
        codec::from_json(&reply.into_inner().body)
    }
}

fn openraft_config(cluster: &str, timing: Timing) -> Result<Config, StartError> {
    let (heartbeat_interval, election_timeout_min, election_timeout_max) = timing.milliseconds();
    Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval,
        election_timeout_min,
        election_timeout_max,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        install_snapshot_timeout: 30_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY_ENTRIES),
        max_in_snapshot_log_to_keep: LOG_MARGIN_ENTRIES,
        replication_lag_threshold: 2 * SNAPSHOT_EVERY_ENTRIES,
        max_payload_entries: 300,
        max_append_entries: Some(4096),
        // Followers are sent entries while the leader's own disk is busy with them.
        broadcast_submitted_on_append: Some(true),
        ..Config::default()
    }
    .validate()
    .map_err(raft_error)
}

pub(crate) fn raft_error(error: impl std::fmt::Display) -> StartError {
    StartError::Raft(error.to_string())
}
