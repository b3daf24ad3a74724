//! What can go wrong with the disk, said as what was being tried.
//!
//! Every variant is cloneable because one failed sync is the answer to many waiting appends.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of a storage call.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Why the storage could not do what it was asked. `doing` completes the sentence "could not …".
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The folder belongs to a member of another cluster; using it would mix two histories.
    #[error("{} holds the data of cluster {found:?}, not of cluster {expected:?}", dir.display())]
    WrongCluster {
        /// The folder that was opened.
        dir: PathBuf,
        /// The cluster that wrote it.
        found: String,
        /// The cluster that the caller belongs to.
        expected: String,
    },
    /// The folder belongs to another member of the same cluster; using it would make one voter two.
    #[error("{} holds the data of node {found}, not of node {expected}", dir.display())]
    WrongNode {
        /// The folder that was opened.
        dir: PathBuf,
        /// The node that wrote it.
        found: u64,
        /// The node that the caller is.
        expected: u64,
    },
    /// A newer version wrote the folder, in a format that this one does not know.
    #[error("{} is in format {found}, and this version reads up to format {supported}", dir.display())]
    NewerFormat {
        /// The folder that was opened.
        dir: PathBuf,
        /// The format it is in.
        found: u8,
        /// The newest format that this version reads.
        supported: u8,
    },
    /// Another store, here or in another process, has the folder open.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The folder that was opened.
        dir: PathBuf,
    },
    /// What is on the disk is not what was written. The replica has to be built anew from its peers.
    #[error("could not {doing}: the data is damaged: {detail}")]
    Corrupt {
        /// What was being tried.
        doing: &'static str,
        /// What was found.
        detail: String,
    },
    /// A snapshot is being staged already; there is one spare state table only.
    #[error("another snapshot is being staged")]
    Busy,
    /// The entries do not follow on the log; nothing was written.
    #[error("could not append to the log: entry {found} was given where entry {expected} would follow")]
    OutOfOrder {
        /// The index that would have left no hole and overwritten nothing.
        expected: u64,
        /// The index that was given.
        found: u64,
    },
    /// An earlier write failed, so it is unknown what the disk holds; only a restart can tell.
    #[error("the storage stopped after a failed write and must be opened again: {reason}")]
    Poisoned {
        /// The failure that stopped it.
        reason: Arc<str>,
    },
    /// The database refused or failed.
    #[error("could not {doing}")]
    RocksDb {
        /// What was being tried.
        doing: &'static str,
        /// The database's own words.
        source: rocksdb::Error,
    },
    /// The file system refused or failed.
    #[error("could not {doing} ({})", path.display())]
    Io {
        /// What was being tried.
        doing: &'static str,
        /// The file or folder in question.
        path: PathBuf,
        /// The operating system's own words.
        source: Arc<io::Error>,
    },
}

/// What RocksDB says of a file on which something has failed before, perhaps in this moment and in another thread.
const FAILED_BEFORE: &str = "Seen error";

impl StorageError {
    /// For `map_err`: names what the database was asked to do, and tells damage from other failures.
    pub(crate) fn rocksdb(doing: &'static str) -> impl Fn(rocksdb::Error) -> StorageError {
        move |source| match source.kind() {
            rocksdb::ErrorKind::Corruption => StorageError::Corrupt { doing, detail: source.into_string() },
            _ => StorageError::RocksDb { doing, source },
        }
    }

    /// For `map_err`: names what the file system was asked to do, and where.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> StorageError {
        move |source| StorageError::Io { doing, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Does it only say that something else has failed before?
    pub(crate) fn follows_another(&self) -> bool {
        self.in_full().contains(FAILED_BEFORE)
    }

    /// The error with its cause, in one line.
    pub(crate) fn in_full(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_text_names_the_attempt_the_place_and_the_cause() {
        let error = StorageError::io("sync the log", Path::new("/data"))(io::Error::other("no medium"));
        assert_eq!(error.in_full(), "could not sync the log (/data): no medium");
        assert_eq!(StorageError::Busy.in_full(), "another snapshot is being staged");
    }
}
