//! Snapshots: the whole database at one moment, as hard links in a folder of its own.
//!
//! ```text
//!   snapshots/tmp-…   being made; whatever is found under such a name at start is removed
//!   snapshots/7       made: synced and renamed, in this order
//! ```
//! The newest one counts. An older one is removed as soon as nobody holds a handle on it, because sending it
//! to a replica may take minutes. Its position is read from itself, never from the running store: rows and
//! position are then of the same moment, whatever is applied while it is made.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rocksdb::{Cache, DB};

use crate::disk::{Disk, locked};
use crate::error::{Result, StorageError};
use crate::state::{self, Row, Table};
use crate::store::Store;
use crate::{database, files, seal};

/// The start of the names of folders that are not finished.
const UNFINISHED: &str = "tmp-";

/// A handle on a snapshot. Its files stay while there is a handle.
#[derive(Clone)]
pub struct Checkpoint {
    folder: Arc<Folder>,
}

impl Store {
    /// Makes a snapshot of now. It is durable when this returns, with everything that was written before, and
    /// older ones are gone once nobody holds them. One at a time; a second caller waits and gets a later one.
    ///
    /// # Errors
    /// If it could not be made.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let checkpoints = &self.inner.checkpoints;
        let disk = &self.inner.disk;
        disk.check()?;
        let mut last_number = locked(&checkpoints.making);
        let number = *last_number + 1;
        let checkpoint = checkpoints.make(disk, number)?;
        *last_number = number;
        let older = locked(&checkpoints.latest).replace(checkpoint.clone());
        if let Some(older) = older {
            older.folder.retire();
            disk.step("remove the older checkpoint", || {
                drop(older);
                Ok(())
            })?;
        }
        Ok(checkpoint)
    }

    /// The newest snapshot, also one that was made before a restart.
    ///
    /// # Errors
    /// If the store has stopped.
    pub fn latest_checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.inner.disk.check()?;
        Ok(locked(&self.inner.checkpoints.latest).clone())
    }
}

impl Checkpoint {
    /// The position of its rows; empty if nothing was ever applied.
    #[must_use]
    pub fn position(&self) -> &[u8] {
        &self.folder.position
    }

    /// All rows in the order of their keys, in chunks of up to `bytes_max`, but never less than a row.
    ///
    /// # Errors
    /// If it could not be opened.
    pub fn chunks(&self, bytes_max: usize) -> Result<Chunks> {
        self.chunks_after(None, bytes_max)
    }

    /// Like [`Checkpoint::chunks`], from the first row whose key is behind `after`.
    ///
    /// # Errors
    /// If it could not be opened.
    pub fn chunks_after(&self, after: Option<Vec<u8>>, bytes_max: usize) -> Result<Chunks> {
        let db = database::open_read_only(&self.folder.path, &self.folder.cache)?;
        let (table, _) = state::read_checkpoint(&db)?;
        Ok(Chunks { db, table, bytes_max, after, ended: false, _checkpoint: self.clone() })
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Checkpoint").field("path", &self.folder.path).finish_non_exhaustive()
    }
}

/// The rows of a snapshot, chunk by chunk. An error ends them.
pub struct Chunks {
    db: DB,
    table: Table,
    bytes_max: usize,
    /// The last key of the last chunk. Sought again for each chunk: an iterator would borrow the database,
    /// and a chunk is large enough not to care.
    after: Option<Vec<u8>>,
    ended: bool,
    /// Dropped after the database is closed, so that files are never removed under it.
    _checkpoint: Checkpoint,
}

impl Iterator for Chunks {
    type Item = Result<Vec<Row>>;

    fn next(&mut self) -> Option<Result<Vec<Row>>> {
        if self.ended {
            return None;
        }
        let chunk = state::read_chunk(&self.db, self.table, self.after.as_deref(), self.bytes_max);
        match &chunk {
            Ok(rows) => self.after = rows.last().map(|(key, _)| key.clone()),
            Err(_) => self.after = None,
        }
        self.ended = self.after.is_none();
        match chunk {
            Ok(rows) if rows.is_empty() => None,
            chunk => Some(chunk),
        }
    }
}

/// The snapshots of a store.
pub(crate) struct Checkpoints {
    latest: Mutex<Option<Checkpoint>>,
    /// The number of the newest. Held while one is made.
    making: Mutex<u64>,
}

impl Checkpoints {
    /// Finds the newest snapshot that can be opened, and removes the others.
    pub(crate) fn load(disk: &Disk) -> Result<Checkpoints> {
        let parent = parent(disk);
        files::ensure_folder(&parent)?;
        remove_unfinished(&parent)?;
        let numbers = numbers(&parent)?;
        let newest = numbers.first().copied().unwrap_or_default();
        let mut latest = None;
        for number in numbers {
            let path = parent.join(number.to_string());
            match latest {
                None => latest = open_or_remove(path, disk.cache())?,
                Some(_) => files::remove_folder(&path)?,
            }
        }
        Ok(Checkpoints { latest: Mutex::new(latest), making: Mutex::new(newest) })
    }

    fn make(&self, disk: &Disk, number: u64) -> Result<Checkpoint> {
        let parent = parent(disk);
        let unfinished = parent.join(format!("{UNFINISHED}{number}"));
        let path = parent.join(number.to_string());
        // Left by an attempt that failed in this process.
        files::remove_folder(&unfinished)?;
        disk.step("make a checkpoint", || link_files(disk.db(), &unfinished))?;
        disk.step("seal a checkpoint", || seal::put(&unfinished))?;
        disk.step("sync a checkpoint", || files::sync_folder(&unfinished))?;
        disk.step("name a checkpoint", || rename(&unfinished, &path))?;
        disk.step("sync the name of a checkpoint", || files::sync_one(&parent))?;
        Ok(Checkpoint { folder: Arc::new(Folder::open(path, disk.cache())?) })
    }
}

/// The folder of one snapshot, removed with the last handle once a newer one has taken its place.
struct Folder {
    path: PathBuf,
    position: Vec<u8>,
    cache: Cache,
    retired: AtomicBool,
}

impl Folder {
    fn open(path: PathBuf, cache: &Cache) -> Result<Folder> {
        seal::check(&path)?;
        let db = database::open_read_only(&path, cache)?;
        let (_, position) = state::read_checkpoint(&db)?;
        let position = position.unwrap_or_default();
        Ok(Folder { path, position, cache: cache.clone(), retired: AtomicBool::new(false) })
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.retired.load(Ordering::Acquire) {
            return;
        }
        // It costs space until the next start, which removes it; no reason to stop.
        if let Err(error) = files::remove_folder(&self.path) {
            tracing::warn!(error = error.in_full(), "an older checkpoint could not be removed");
        }
    }
}

fn parent(disk: &Disk) -> PathBuf {
    disk.dir().join("snapshots")
}

fn link_files(db: &DB, folder: &Path) -> Result<()> {
    rocksdb::checkpoint::Checkpoint::new(db)
        .and_then(|maker| maker.create_checkpoint(folder))
        .map_err(StorageError::rocksdb("make a checkpoint"))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(StorageError::io("name a checkpoint", to))
}

fn remove_unfinished(parent: &Path) -> Result<()> {
    for name in files::names(parent)? {
        if name.starts_with(UNFINISHED) {
            files::remove_folder(&parent.join(name))?;
        }
    }
    Ok(())
}

/// The numbers of the finished snapshots, newest first. Other names are not ours and stay.
fn numbers(parent: &Path) -> Result<Vec<u64>> {
    let names = files::names(parent)?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable_by(|left, right| right.cmp(left));
    Ok(numbers)
}

/// A damaged snapshot is no loss, the state it was made of is still there; so it does not stop a start.
fn open_or_remove(path: PathBuf, cache: &Cache) -> Result<Option<Checkpoint>> {
    match Folder::open(path.clone(), cache) {
        Ok(folder) => Ok(Some(Checkpoint { folder: Arc::new(folder) })),
        Err(error) => {
            tracing::warn!(path = %path.display(), error = error.in_full(), "a damaged checkpoint is removed");
            files::remove_folder(&path).map(|()| None)
        }
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
