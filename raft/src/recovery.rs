//! Going on from one survivor when the majority of the managers is lost for good.
//!
//! Nothing here chooses: a person compares what the survivors have ([`inspect`]) and says from which one to go on
//! ([`recover`]). That one keeps its whole log, also the end of which nobody knows whether it was agreed on: an
//! acknowledged change may be there and nowhere else, so dropping it could lose one, and keeping it loses nothing.
//!
//! ```text
//!   new epoch (synced) ─► vote for itself in a new term (synced) ─► membership of one at the end of the log (synced)
//! ```
//! In this order, because a process that ends between any two of them leaves a replica that nobody votes with and that
//! can be recovered again, and never a cluster of one that the others would still take for one of theirs.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use openraft::{EntryPayload, Membership as OpenMembership};
use serde::{Deserialize, Serialize};
use skep_ledger::Txn;
use skep_storage::{Identity, StorageError, Store, Verified};
use skep_wire::channels::{PeerChannels, Purpose};
use skep_wire::proto::peer::Empty;
use tokio::time::timeout;

use crate::codec;
use crate::epoch::{self, Epoch};
use crate::network::Network;
use crate::replica::{Replica, STATUS_MAX, StartError};
use crate::state_machine;
use crate::types::{Entry, LogId, ManagerNode, Membership, Vote};

/// The newest transaction is looked for among this many entries; the others are Raft's own and have no time.
const ENTRIES_WITH_A_TIME_SEARCHED: u64 = 256;

/// Entries read at a time.
const LOG_READ_BYTES: usize = 1 << 20;

/// What a replica that does not run has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// The cluster's id.
    pub cluster: String,
    /// The manager's number.
    pub node: u64,
    /// The manager's name, as far as it knows.
    pub name: String,
    /// Why the data must not be used, if so.
    pub condemned: Option<String>,
    /// The epoch of the data.
    pub epoch: u64,
    /// The highest term that it has voted in.
    pub term: u64,
    /// Term of the newest entry of the log. Who has the highest has the most advanced log …
    pub last_log_term: u64,
    /// … and among those with the same one, who has the highest index.
    pub last_log_index: u64,
    /// Up to where it knew that a majority had agreed.
    pub committed_index: u64,
    /// Up to where its state goes.
    pub applied_index: u64,
    /// When the newest transaction of its log was proposed; otherwise when something was last written.
    pub last_written_at: Option<jiff::Timestamp>,
    /// The managers of the last membership in its log.
    pub members: Vec<FoundMember>,
    /// Rows of log and state that were read; all of them are what was written.
    pub rows_verified: u64,
    /// Their bytes.
    pub bytes_verified: u64,
}

/// A manager in a membership.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoundMember {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where its peer port was.
    pub peer_address: String,
    /// Did it vote?
    pub voter: bool,
}

/// The cluster of one that a survivor has become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// The new epoch.
    pub epoch: u64,
    /// The new term.
    pub term: u64,
    /// The entry of the new membership.
    pub index: u64,
}

/// Why a survivor could not be inspected or recovered. Nothing was changed, unless the disk failed meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A manager runs on this folder.
    #[error("the manager is running on {folder}: stop it first, for instance: systemctl stop skep")]
    Running {
        /// Its folder.
        folder: String,
    },
    /// The data.
    #[error(transparent)]
    Storage(StorageError),
    /// The log or the state.
    #[error("reading the log of this manager: {0}")]
    Unreadable(#[from] io::Error),
    /// It never belonged to a cluster.
    #[error("this manager's log is empty: there is nothing to go on from. Look at the other survivors")]
    Empty,
    /// It is not to be used.
    #[error("this manager's data must not be used: {0}. Look at the other survivors")]
    Condemned(String),
    /// The majority is not lost, or another survivor runs.
    #[error(
        "{} still {}: recovery is for a majority that is lost for good, and two histories must not go on beside each \
         other. Stop and switch off every other manager of the old cluster first", .0.join(", "),
        if .0.len() == 1 { "answers" } else { "answer" }
    )]
    OthersAnswer(Vec<String>),
}

impl From<StorageError> for RecoverError {
    fn from(error: StorageError) -> RecoverError {
        match error {
            StorageError::Locked { dir } => RecoverError::Running { folder: dir.display().to_string() },
            error => RecoverError::Storage(error),
        }
    }
}

/// Looks at a replica that does not run, and reads all that it has. Changes nothing.
pub fn inspect(dir: &Path, cluster: &str, node: u64) -> Result<Findings, RecoverError> {
    let store = open(dir, cluster, node)?;
    findings(&store, cluster, node)
}

/// Makes a replica that does not run a cluster of one, in a new epoch. Asks the other managers first, and refuses if
/// one of them answers. Blocks; `found` says what the caller has shown to a person, so that nothing has changed since.
pub async fn recover(
    dir: &Path,
    found: &Findings,
    channels: PeerChannels,
) -> Result<Recovered, RecoverError> {
    let store = open(dir, &found.cluster, found.node)?;
    let now = findings(&store, &found.cluster, found.node)?;
    if let Some(why) = now.condemned {
        return Err(RecoverError::Condemned(why));
    }
    if now.last_log_index == 0 {
        return Err(RecoverError::Empty);
    }
    let answering = others_answering(&store, &now, channels).await?;
    if !answering.is_empty() {
        return Err(RecoverError::OthersAnswer(answering));
    }
    begin_anew(&store, &now)
}

fn open(dir: &Path, cluster: &str, node: u64) -> Result<Store, RecoverError> {
    // Opening creates, and a typing error in a path must not.
    if !dir.is_dir() {
        return Err(RecoverError::Unreadable(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no {}", dir.display()),
        )));
    }
    Ok(Store::open(dir, &Identity { cluster: cluster.to_owned(), node })?)
}

fn findings(store: &Store, cluster: &str, node: u64) -> Result<Findings, RecoverError> {
    let Verified { rows, bytes } = store.verify(|_| {})?;
    let last = last_log_id(store)?;
    let committed: Option<LogId> = store.committed()?.map(|bytes| codec::from_json(&bytes)).transpose()?;
    let vote: Option<Vote> = store.vote()?.map(|bytes| codec::from_json(&bytes)).transpose()?;
    let membership = last_membership(store)?;
    let members = members(&membership);
    Ok(Findings {
        cluster: cluster.to_owned(),
        node,
        name: members
            .iter()
            .find(|member| member.id == node)
            .map_or_else(|| format!("m{node}"), |member| member.name.clone()),
        condemned: store.condemned()?,
        epoch: store.epoch()?.unwrap_or(epoch::FIRST),
        term: vote.map_or(0, |vote| vote.leader_id.term),
        last_log_term: last.as_ref().map_or(0, |log_id| log_id.committed_leader_id().term),
        last_log_index: index(last.as_ref()),
        committed_index: index(committed.as_ref()),
        applied_index: state_machine::applied_index(store)?,
        last_written_at: last_written_at(store, index(last.as_ref()))?,
        members,
        rows_verified: rows,
        bytes_verified: bytes,
    })
}

fn index(log_id: Option<&LogId>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index())
}

/// The end of the log; where it was purged to its end, the last purged entry.
fn last_log_id(store: &Store) -> Result<Option<LogId>, RecoverError> {
    if let Some((_, bytes)) = store.last_entry()? {
        return Ok(Some(codec::entry_from_bytes(bytes)?.log_id));
    }
    Ok(store.purged()?.map(|bytes| codec::from_json(&bytes)).transpose()?)
}

/// The newest membership in the log, otherwise that of the state. Reads the log once, which also shows that every
/// entry can be decoded.
fn last_membership(store: &Store) -> Result<Membership, RecoverError> {
    let mut newest = state_machine::membership(store)?;
    each_entry(store, 0, |entry| {
        if let EntryPayload::Membership(membership) = entry.payload {
            newest = Membership::new(Some(entry.log_id), membership);
        }
    })?;
    Ok(newest)
}

fn last_written_at(store: &Store, last: u64) -> Result<Option<jiff::Timestamp>, RecoverError> {
    let mut at_ms = None;
    each_entry(store, last.saturating_sub(ENTRIES_WITH_A_TIME_SEARCHED), |entry| {
        if let EntryPayload::Normal(command) = entry.payload
            && let Ok(txn) = Txn::decode(&command.0)
        {
            at_ms = Some(txn.at_ms);
        }
    })?;
    let written = at_ms.and_then(|at_ms| jiff::Timestamp::from_millisecond(at_ms).ok());
    Ok(written.or_else(|| store.last_durable_at().and_then(|at: SystemTime| at.try_into().ok())))
}

fn each_entry(store: &Store, from: u64, mut look: impl FnMut(Entry)) -> Result<(), RecoverError> {
    let mut next = from;
    loop {
        let entries = store.entries(next, u64::MAX, LOG_READ_BYTES)?;
        let Some((last, _)) = entries.last() else { return Ok(()) };
        next = last + 1;
        for (_, bytes) in entries {
            look(codec::entry_from_bytes(bytes)?);
        }
    }
}

fn members(membership: &Membership) -> Vec<FoundMember> {
    let voters: Vec<u64> = membership.membership().voter_ids().collect();
    let member = |(id, node): (&u64, &ManagerNode)| FoundMember {
        id: *id,
        name: node.name.clone(),
        peer_address: node.peer_address.clone(),
        voter: voters.contains(id),
    };
    membership.membership().nodes().map(member).collect()
}

/// The other members that answer at all, whatever they say: even a refusal comes from a manager that runs.
async fn others_answering(
    store: &Store,
    found: &Findings,
    channels: PeerChannels,
) -> Result<Vec<String>, RecoverError> {
    let epoch = Epoch::load(store, true)?;
    let network = Network::new(found.cluster.clone(), found.node, channels, epoch);
    let asked = found.members.iter().filter(|member| member.id != found.node).map(|member| {
        network.channels.set(member.id, member.peer_address.clone());
        let network = &network;
        async move {
            let mut client = network.client(member.id, Purpose::Heartbeat).ok()?;
            let answer = timeout(ANSWER_MAX, client.status(Empty {})).await.ok()?;
            let runs = match answer {
                Ok(_) => true,
                Err(status) => status.code() == tonic::Code::FailedPrecondition,
            };
            runs.then(|| member.name.clone())
        }
    });
    Ok(futures::future::join_all(asked).await.into_iter().flatten().collect())
}

/// Before something that cannot be taken back, the others are given more time than for a look.
const ANSWER_MAX: Duration = Duration::from_secs(3);

fn begin_anew(store: &Store, found: &Findings) -> Result<Recovered, RecoverError> {
    let membership = last_membership(store)?;
    let me = membership.membership().get_node(&found.node).cloned().unwrap_or_default();
    let alone = OpenMembership::new(vec![[found.node].into()], BTreeMap::from([(found.node, me)]))
        .map_err(io::Error::other)?;
    let recovered = Recovered {
        epoch: found.epoch + 1,
        term: found.term.max(found.last_log_term) + 1,
        index: found.last_log_index + 1,
    };
    let entry = Entry {
        log_id: LogId::new_term_index(recovered.term, recovered.index),
        payload: EntryPayload::Membership(alone),
    };
    store.begin_epoch(recovered.epoch)?;
    store.save_vote(&codec::to_json(&Vote::new_committed(recovered.term, found.node))?)?;
    store.save_committed(Some(&codec::to_json(&entry.log_id)?))?;
    let (durable, outcome) = mpsc::channel();
    let tell = move |result| drop(durable.send(result));
    store.append(vec![(recovered.index, codec::entry_to_bytes(&entry)?)], tell)?;
    outcome.recv().map_err(io::Error::other)??;
    Ok(recovered)
}

impl Replica {
    /// The epoch of this replica's data; see `epoch.rs`.
    pub fn epoch(&self) -> u64 {
        self.network().epoch.get()
    }

    /// Resolves when this replica must not go on, with the reason for a person: Raft has ended, the cluster has gone on
    /// in a newer epoch, or its state differs from that of the majority. It takes part in nothing any more then, and
    /// the process must end.
    pub async fn must_end(&self) -> String {
        let mut newer = self.network().epoch.newer();
        let mut condemned = self.alarms().condemned();
        let reason = tokio::select! {
            reason = self.stopped() => return reason,
            Ok(newer) = newer.wait_for(Option::is_some) => epoch::outdated(self.epoch(), newer.unwrap_or_default()),
            Ok(why) = condemned.wait_for(Option::is_some) => why.clone().unwrap_or_default(),
        };
        self.participation().store(false, std::sync::atomic::Ordering::Release);
        if let Err(error) = self.raft().shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        reason
    }
}

/// Before anything is answered: does a manager of the last known membership say that there is a newer epoch, and may
/// the data be used at all?
pub(crate) async fn refuse_outdated(
    store: &Store,
    network: &Network,
    founders: &BTreeMap<u64, ManagerNode>,
) -> Result<(), StartError> {
    if let Some(why) = store.condemned()? {
        return Err(StartError::Condemned(why));
    }
    let known = state_machine::membership(store).map_err(crate::replica::raft_error)?;
    let mut others: BTreeMap<u64, ManagerNode> = founders.clone();
    others.extend(known.membership().nodes().map(|(id, node)| (*id, node.clone())));
    let asked = others.iter().filter(|(id, _)| **id != network.node).map(|(id, node)| {
        network.channels.set(*id, node.peer_address.clone());
        async move {
            if let Ok(mut client) = network.client(*id, Purpose::Heartbeat) {
                // What is said does not matter here: a refusal carries the epoch, see `EpochChannel`.
                let _ = timeout(STATUS_MAX, client.status(Empty {})).await;
            }
        }
    });
    futures::future::join_all(asked).await;
    let newer = *network.epoch.newer().borrow();
    match newer {
        Some(newer) => Err(StartError::Outdated(epoch::outdated(network.epoch.get(), newer))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path(), &Identity { cluster: "c1".into(), node: 2 }).expect("opened");
        (dir, store)
    }

    fn append(store: &Store, entries: &[Entry]) {
        let entries = entries
            .iter()
            .map(|entry| (entry.log_id.index(), codec::entry_to_bytes(entry).expect("encodes")));
        let (durable, outcome) = mpsc::channel();
        let tell = move |result| drop(durable.send(result));
        store.append(entries.collect(), tell).expect("appended");
        outcome.recv().expect("told").expect("durable");
    }

    fn membership_of_three() -> OpenMembership<u64, ManagerNode> {
        let node = |id: u64| (id, ManagerNode { name: format!("m{id}"), ..ManagerNode::default() });
        OpenMembership::new(vec![[1, 2, 3].into()], BTreeMap::from([1, 2, 3].map(node))).expect("well formed")
    }

    #[test]
    fn a_survivor_keeps_its_whole_log_and_is_alone_at_the_end_of_it() {
        let (_dir, store) = store();
        let at = |term, index| LogId::new_term_index(term, index);
        append(
            &store,
            &[
                Entry { log_id: at(1, 1), payload: EntryPayload::Membership(membership_of_three()) },
                Entry { log_id: at(2, 2), payload: EntryPayload::Blank },
                Entry { log_id: at(2, 3), payload: EntryPayload::Blank },
            ],
        );
        store.save_vote(&codec::to_json(&Vote::new(5, 3)).expect("encodes")).expect("saved");
        let found = findings(&store, "c1", 2).expect("found");
        assert_eq!((found.epoch, found.term, found.last_log_term, found.last_log_index), (1, 5, 2, 3));
        assert_eq!((found.name.as_str(), found.members.len()), ("m2", 3));

        let recovered = begin_anew(&store, &found).expect("recovered");
        assert_eq!(recovered, Recovered { epoch: 2, term: 6, index: 4 });
        let found = findings(&store, "c1", 2).expect("found");
        assert_eq!((found.epoch, found.committed_index, found.last_log_index), (2, 4, 4));
        assert_eq!(found.members.iter().map(|member| member.id).collect::<Vec<_>>(), [2]);
        assert_eq!(store.entries(1, 5, usize::MAX).expect("read").len(), 4);
    }
}
