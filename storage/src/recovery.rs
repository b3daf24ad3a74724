//! What is kept for the day on which a cluster is brought back: the epoch of the data, and the mark of a store that
//! must not be used any more.
//!
//! An epoch is a history that goes on in one line. It ends when history is decided anew by a person: by continuing
//! from one survivor, or from a backup. Data of an older epoch may hold what the newer one does not know, so the two
//! must never be mixed.
//!
//! The mark is a file beside the database and not a record in it, because it must be possible to set it when the
//! database is the thing that is broken.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rocksdb::{IteratorMode, ReadOptions, WriteBatch};

use crate::database::{LOG, META, STATE_A, STATE_B};
use crate::disk::Disk;
use crate::error::{Result, StorageError};
use crate::files;
use crate::store::Store;

const EPOCH: &[u8] = b"epoch";

/// The file that says why the store must not be used.
const CONDEMNED: &str = "condemned";

/// What was read when everything was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows of all tables.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// The epoch that the data belongs to; none before one was begun here.
    ///
    /// # Errors
    /// If it could not be read.
    pub fn epoch(&self) -> Result<Option<u64>> {
        let doing = "read the epoch";
        let Some(record) = self.inner.disk.get(META, EPOCH, doing)? else {
            return Ok(None);
        };
        match record.as_slice().try_into() {
            Ok(bytes) => Ok(Some(u64::from_be_bytes(bytes))),
            Err(_) => Err(StorageError::Corrupt {
                doing,
                detail: format!("{} bytes are not a number", record.len()),
            }),
        }
    }

    /// Says that the data belongs to `epoch` from now on. Durable when this returns.
    ///
    /// # Errors
    /// If it may not have become durable.
    pub fn begin_epoch(&self, epoch: u64) -> Result<()> {
        let disk = &self.inner.disk;
        let mut batch = WriteBatch::default();
        batch.put_cf(disk.table(META)?, EPOCH, epoch.to_be_bytes());
        disk.write("begin an epoch", batch)?;
        disk.sync("sync the epoch")
    }

    /// Reads every row of every table as it is on the disk, not as it is in memory. `pace` is called now and then
    /// with the bytes that were read since the last time, and may wait.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for the first table with a row that is not what was written.
    pub fn verify(&self, mut pace: impl FnMut(usize)) -> Result<Verified> {
        let mut verified = Verified::default();
        for name in [META, LOG, STATE_A, STATE_B] {
            verify_table(&self.inner.disk, name, &mut verified, &mut pace)?;
        }
        Ok(verified)
    }

    /// Says that this store must not be used any more, and why. Also possible after a failed write.
    ///
    /// # Errors
    /// If the mark could not be written.
    pub fn condemn(&self, reason: &str) -> Result<()> {
        let dir = self.inner.disk.dir();
        let path = dir.join(CONDEMNED);
        let doing = "mark the store as not to be used";
        fs::write(&path, reason).map_err(StorageError::io(doing, &path))?;
        files::sync_one(&path)?;
        files::sync_one(dir)
    }

    /// Why this store must not be used any more, if so.
    ///
    /// # Errors
    /// If the mark could not be read.
    pub fn condemned(&self) -> Result<Option<String>> {
        read_mark(self.inner.disk.dir())
    }

    /// The last moment at which something here was acknowledged as durable, as the file system remembers it.
    #[must_use]
    pub fn last_durable_at(&self) -> Option<std::time::SystemTime> {
        fs::metadata(self.inner.disk.dir().join("durable")).and_then(|file| file.modified()).ok()
    }
}

fn read_mark(dir: &Path) -> Result<Option<String>> {
    let path = dir.join(CONDEMNED);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("read whether the store may be used", &path)(error)),
    }
}

/// Between two calls of `pace`.
const PACE_BYTES: usize = 256 << 10;

fn verify_table(
    disk: &Disk,
    name: &'static str,
    verified: &mut Verified,
    pace: &mut impl FnMut(usize),
) -> Result<()> {
    let doing = "verify the tables of the database";
    let damaged = |error: rocksdb::Error| match StorageError::rocksdb(doing)(error) {
        StorageError::Corrupt { doing, detail } => {
            StorageError::Corrupt { doing, detail: format!("table {name}: {detail}") }
        }
        other => other,
    };
    let mut once = ReadOptions::default();
    once.fill_cache(false);
    once.set_verify_checksums(true);
    let mut unpaced = 0;
    for row in disk.db().iterator_cf_opt(disk.table(name)?, once, IteratorMode::Start) {
        let (key, value) = row.map_err(damaged)?;
        let bytes = key.len() + value.len();
        verified.rows += 1;
        verified.bytes += bytes as u64;
        unpaced += bytes;
        if unpaced >= PACE_BYTES {
            pace(std::mem::take(&mut unpaced));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{answer, append, entry, open, put};

    #[test]
    fn an_epoch_is_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path());
        assert_eq!(store.epoch().expect("read"), None);
        store.begin_epoch(2).expect("begun");
        drop(store);
        assert_eq!(open(dir.path()).epoch().expect("read"), Some(2));
    }

    #[test]
    fn a_condemned_store_says_why() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path());
        assert_eq!(store.condemned().expect("read"), None);
        store.condemn("it differs from the others").expect("marked");
        drop(store);
        let why = open(dir.path()).condemned().expect("read");
        assert_eq!(why.as_deref(), Some("it differs from the others"));
    }

    #[test]
    fn everything_is_read_when_a_store_is_verified() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path());
        answer(&append(&store, vec![entry(1, "one"), entry(2, "two")])).expect("durable");
        store.apply(vec![put("a", "1")], b"1").expect("applied");
        let verified = store.verify(|_| {}).expect("sound");
        // Two entries, a row, its position and the identity.
        assert_eq!(verified.rows, 5);
    }
}
