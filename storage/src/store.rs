//! The store: opening it as the right member of the right cluster, and its small records.
//!
//! The rest of its calls is beside what it is about: `log.rs`, `state.rs`, `checkpoint.rs`, `staging.rs`.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use rocksdb::{IteratorMode, WriteBatch};

use crate::checkpoint::Checkpoints;
use crate::database::{LOG, META, STATE_A, STATE_B};
use crate::disk::{Disk, locked};
use crate::error::{Result, StorageError};
use crate::log::LogState;
use crate::observer::{Observer, Silent};
use crate::state::{self, Moment, Table};
use crate::sync::SyncThread;

/// The format that this version writes. Raise it when older versions could misread what is written.
const FORMAT: u8 = 1;

const IDENTITY: &[u8] = b"identity";
const VOTE: &[u8] = b"vote";
/// How many votes were kept so far; see `durable.rs`.
const VOTES: &[u8] = b"votes";
const COMMITTED: &[u8] = b"committed";

/// Whose data it is. A store is refused to anyone else: a vote must not be cast under two names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: String,
    /// The member of the cluster. Never used again after the member has lost its disk.
    pub node: u64,
}

/// What one manager keeps on its disk. A cheap handle; the store closes with the last of them, once every
/// [`crate::StateView`] is gone too.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// First, so that it is dropped first: it completes the waiting appends before the rest is closed.
    pub(crate) sync: SyncThread,
    pub(crate) disk: Arc<Disk>,
    pub(crate) log: LogState,
    /// Which state table rows are applied to and read from. Held for writing only while another one is installed, so
    /// that neither an apply nor a view can fall between.
    pub(crate) active: RwLock<Table>,
    /// The state since the last change, if somebody has looked at it.
    pub(crate) newest: Mutex<Option<Arc<Moment>>>,
    /// The committed position, if it is newer than the one on the disk.
    committed: Mutex<Option<Option<Vec<u8>>>>,
    pub(crate) staging: AtomicBool,
    pub(crate) checkpoints: Checkpoints,
}

impl Store {
    /// Opens the store in `dir`, or creates it there for `identity`.
    ///
    /// # Errors
    /// A variant of its own for each reason to refuse: another cluster, another node, a newer format, in use,
    /// damaged.
    pub fn open(dir: &Path, identity: &Identity) -> Result<Store> {
        Store::open_observed(dir, identity, Arc::new(Silent))
    }

    /// Like [`Store::open`], with somebody who is told about every step, and may fail it or end the process.
    /// For tests that break the store on purpose.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn open_observed(dir: &Path, identity: &Identity, observer: Arc<dyn Observer>) -> Result<Store> {
        let disk = Arc::new(Disk::open(dir.to_owned(), observer)?);
        match disk.get(META, IDENTITY, "read the identity")? {
            Some(found) => check_identity(dir, &found, identity)?,
            None => create(&disk, identity)?,
        }
        disk.refuse_lost_votes(votes(&disk)?)?;
        let active = state::active_table(&disk)?;
        // What an interrupted staging left behind is of no use to anybody.
        state::clear(&disk, active.other())?;
        let inner = Inner {
            sync: SyncThread::start(disk.clone())?,
            log: LogState::load(&disk)?,
            active: RwLock::new(active),
            newest: Mutex::default(),
            committed: Mutex::default(),
            staging: AtomicBool::new(false),
            checkpoints: Checkpoints::load(&disk)?,
            disk,
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Keeps a vote. It is durable when this returns; an answer to a candidate may be given after that.
    ///
    /// # Errors
    /// If it may not have become durable.
    pub fn save_vote(&self, vote: &[u8]) -> Result<()> {
        let disk = &self.inner.disk;
        let number = votes(disk)? + 1;
        let mut batch = WriteBatch::default();
        batch.put_cf(disk.table(META)?, VOTE, vote);
        batch.put_cf(disk.table(META)?, VOTES, number.to_be_bytes());
        disk.write("save the vote", batch)?;
        disk.sync("sync the vote")?;
        disk.votes_are_durable(number);
        Ok(())
    }

    /// The vote that was kept last.
    ///
    /// # Errors
    /// If it could not be read.
    pub fn vote(&self) -> Result<Option<Vec<u8>>> {
        self.inner.disk.get(META, VOTE, "read the vote")
    }

    /// Keeps how far the log is known to be committed. It goes to the disk with the next append or apply: it moves
    /// with each of them, and may be older after a crash.
    ///
    /// # Errors
    /// If the store has stopped.
    pub fn save_committed(&self, committed: Option<&[u8]>) -> Result<()> {
        self.inner.disk.check()?;
        *locked(&self.inner.committed) = Some(committed.map(<[u8]>::to_vec));
        Ok(())
    }

    /// How far the log was known to be committed.
    ///
    /// # Errors
    /// If it could not be read.
    pub fn committed(&self) -> Result<Option<Vec<u8>>> {
        match &*locked(&self.inner.committed) {
            Some(unwritten) => self.inner.disk.check().map(|()| unwritten.clone()),
            None => {
                self.inner.disk.write_postponed()?;
                self.inner.disk.get(META, COMMITTED, "read the committed position")
            }
        }
    }
}

impl Inner {
    /// Adds the committed position to a batch, if it has moved since the last one.
    pub(crate) fn add_committed(&self, batch: &mut WriteBatch) -> Result<()> {
        let meta = self.disk.table(META)?;
        match locked(&self.committed).take() {
            Some(Some(committed)) => batch.put_cf(meta, COMMITTED, committed),
            Some(None) => batch.delete_cf(meta, COMMITTED),
            None => {}
        }
        Ok(())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Store").field("dir", self.inner.disk.dir()).finish_non_exhaustive()
    }
}

/// Makes an empty database the store of `identity`. Synced, so that nothing else is ever durable before it.
fn create(disk: &Disk, identity: &Identity) -> Result<()> {
    let doing = "create the store";
    for name in [META, LOG, STATE_A, STATE_B] {
        let mut rows = disk.db().iterator_cf(disk.table(name)?, IteratorMode::Start);
        if rows.next().is_some() {
            let detail = format!("table {name} has rows, but nothing says whose they are");
            return Err(StorageError::Corrupt { doing, detail });
        }
    }
    let mut batch = WriteBatch::default();
    batch.put_cf(disk.table(META)?, IDENTITY, encode_identity(identity));
    disk.write(doing, batch)?;
    disk.sync("sync the new store")
}

/// Format, node, cluster. The format comes first in every format, so that an older version can refuse.
fn encode_identity(identity: &Identity) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend(identity.node.to_be_bytes());
    bytes.extend(identity.cluster.as_bytes());
    bytes
}

/// How many votes there were; a store from before they were counted has none.
fn votes(disk: &Disk) -> Result<u64> {
    let counted = disk.get(META, VOTES, "read the number of votes")?;
    let counted = counted.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
    Ok(counted.unwrap_or(0))
}

fn check_identity(dir: &Path, record: &[u8], expected: &Identity) -> Result<()> {
    let dir = dir.to_owned();
    let format = record.first().copied().unwrap_or_default();
    if format > FORMAT {
        return Err(StorageError::NewerFormat { dir, found: format, supported: FORMAT });
    }
    let found = decode_identity(record)?;
    if found.cluster != expected.cluster {
        let expected = expected.cluster.clone();
        return Err(StorageError::WrongCluster { dir, found: found.cluster, expected });
    }
    if found.node != expected.node {
        return Err(StorageError::WrongNode { dir, found: found.node, expected: expected.node });
    }
    Ok(())
}

fn decode_identity(record: &[u8]) -> Result<Identity> {
    let parts = || {
        let (_format, rest) = record.split_first()?;
        let (node, cluster) = rest.split_first_chunk()?;
        let cluster = String::from_utf8(cluster.to_vec()).ok()?;
        Some(Identity { cluster, node: u64::from_be_bytes(*node) })
    };
    parts().ok_or_else(|| StorageError::Corrupt {
        doing: "read the identity",
        detail: format!("a record of {} bytes is not one", record.len()),
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
