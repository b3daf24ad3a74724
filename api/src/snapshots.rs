//! What the doors want of whoever makes backups.
//!
//! Why a trait: reading the replicated state out of a replica, and the secrets that go into a backup, are the manager's
//! business. The doors only pass the finished file on.

use std::fs::File;
use std::io;

use async_trait::async_trait;
use skep_ledger::Unavailable;
use skep_model::snapshot::Snapshot;

/// This manager's backups.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Makes a backup, reads it back, and hands the file over; nothing is kept. `fresh` needs a leader.
    async fn make(&self, fresh: bool) -> Result<MadeSnapshot, SnapshotFailure>;

    /// Makes a backup, reads it back, and keeps it on this manager among the scheduled ones.
    async fn keep(&self) -> Result<Snapshot, SnapshotFailure>;

    /// The file of a snapshot that this manager keeps.
    fn open(&self, snapshot: &Snapshot) -> io::Result<File>;
}

/// A backup that was written and read back. Its file has no name any more and goes with its handle.
#[derive(Debug)]
pub struct MadeSnapshot {
    /// From its beginning.
    pub file: File,
    /// The newest change in it.
    pub revision: u64,
    /// The epoch of the cluster.
    pub epoch: u64,
    /// Rows in it.
    pub rows: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFailure {
    /// The replicas could not be asked.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Nobody could read it.
    #[error("the cluster has no recovery key, so nobody could read a backup")]
    NoRecoveryKey,
    /// The disk, or what was read back.
    #[error("{0}")]
    Failed(String),
}
