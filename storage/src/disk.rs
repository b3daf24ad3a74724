//! The one way to the disk: every write and every sync of the database goes through here.
//!
//! Why one place: the rule that a failed write ends the store, the durability mark and the observer's calls
//! hold for all of them or for none.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use rocksdb::{Cache, ColumnFamily, DB, Direction, IteratorMode, ReadOptions, WriteBatch};

use crate::durable::{DurableMark, FileList};
use crate::error::{Result, StorageError};
use crate::meters::Meters;
use crate::observer::Observer;
use crate::{database, files};

/// The last write that a sync has covered.
#[must_use]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Synced(u64);

/// A batch, and what it is for.
type Postponed = (&'static str, WriteBatch);

/// The open database with what guards it.
pub(crate) struct Disk {
    db: DB,
    dir: PathBuf,
    cache: Cache,
    mark: DurableMark,
    observer: Arc<dyn Observer>,
    meters: Arc<Meters>,
    stopped: OnceLock<Arc<str>>,
    /// Batches that the next write or sync takes along; see [`Disk::postpone`].
    postponed: Mutex<VecDeque<Postponed>>,
    /// Held by whoever writes, so that nothing overtakes what was postponed.
    writing: Mutex<()>,
    /// Shared by every step until its failure is noted, so that whoever fails because of another one can wait for that.
    under_way: RwLock<()>,
    /// Released after the database is closed: fields are dropped in the order they are listed.
    _lock: files::Lock,
}

impl Disk {
    /// Locks the folder, opens the database in it and checks that nothing durable is missing.
    pub(crate) fn open(dir: PathBuf, observer: Arc<dyn Observer>) -> Result<Disk> {
        files::ensure_folder(&dir)?;
        let lock = files::Lock::take(&dir)?;
        let mark = DurableMark::open(&dir)?;
        let folder = dir.join("db");
        files::ensure_folder(&folder)?;
        let cache = database::cache();
        refuse_short_list(&folder, mark.list())?;
        let db = database::open(&folder, &cache)?;
        if let Some(list) = files::list_of(&folder) {
            mark.advance_list(list);
        }
        let meters = Arc::default();
        let (stopped, under_way) = (OnceLock::new(), RwLock::new(()));
        let (postponed, writing) = (Mutex::default(), Mutex::default());
        let disk = Disk {
            db,
            dir,
            cache,
            mark,
            observer,
            meters,
            stopped,
            postponed,
            writing,
            under_way,
            _lock: lock,
        };
        disk.refuse_lost_end()?;
        Ok(disk)
    }

    /// The database, for reading.
    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    /// The folder of the store.
    pub(crate) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// What is measured.
    pub(crate) fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// The block cache, for checkpoints to share.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Refuses if an earlier write failed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.stopped.get() {
            Some(reason) => Err(StorageError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// A table by its name.
    pub(crate) fn table(&self, name: &'static str) -> Result<&ColumnFamily> {
        table(&self.db, name)
    }

    /// One record of a table.
    pub(crate) fn get(&self, name: &'static str, key: &[u8], doing: &'static str) -> Result<Option<Vec<u8>>> {
        self.check()?;
        self.db.get_cf(self.table(name)?, key).map_err(StorageError::rocksdb(doing))
    }

    /// Writes a batch: all of it or nothing, visible at once, durable with the next sync.
    pub(crate) fn write(&self, doing: &'static str, batch: WriteBatch) -> Result<()> {
        let _turn = self.turn_to_write()?;
        self.write_one(doing, batch)
    }

    /// Has a batch written before any other write or sync, by whoever comes with one: the caller need not wait for the
    /// database. Not visible until then.
    pub(crate) fn postpone(&self, doing: &'static str, batch: WriteBatch) -> Result<()> {
        self.check()?;
        locked(&self.postponed).push_back((doing, batch));
        Ok(())
    }

    /// Writes what was postponed before the call.
    pub(crate) fn write_postponed(&self) -> Result<()> {
        self.turn_to_write().map(drop)
    }

    /// As long as the answer is kept, everything that was postponed before is written, and nobody else writes.
    fn turn_to_write(&self) -> Result<MutexGuard<'_, ()>> {
        self.check()?;
        let turn = locked(&self.writing);
        loop {
            let Some((doing, batch)) = locked(&self.postponed).pop_front() else { return Ok(turn) };
            self.write_one(doing, batch)?;
        }
    }

    fn write_one(&self, doing: &'static str, batch: WriteBatch) -> Result<()> {
        self.step(doing, || self.db.write(batch).map_err(StorageError::rocksdb(doing)))
    }

    /// Makes everything durable that was written or postponed before the call.
    pub(crate) fn sync(&self, doing: &'static str) -> Result<()> {
        self.sync_unmarked(doing).map(|synced| self.mark(synced))
    }

    /// Like [`Disk::sync`], for callers with something more urgent to do than to [`Disk::mark`] it.
    pub(crate) fn sync_unmarked(&self, doing: &'static str) -> Result<Synced> {
        self.write_postponed()?;
        // Taken first: the sync covers at least this, whatever others write meanwhile.
        let synced = Synced(self.db.latest_sequence_number());
        let began = Instant::now();
        self.step(doing, || self.db.flush_wal(true).map_err(StorageError::rocksdb(doing)))?;
        self.meters.sync.observe(began.elapsed());
        self.observer.synced(doing);
        Ok(synced)
    }

    /// Remembers what is durable, so that its loss would be noticed.
    pub(crate) fn mark(&self, synced: Synced) {
        self.mark.advance(synced.0);
    }

    /// Notes that so many votes are durable.
    pub(crate) fn votes_are_durable(&self, votes: u64) {
        self.mark.advance_votes(votes);
    }

    /// Refuses if the database has fewer votes than were acknowledged as durable.
    pub(crate) fn refuse_lost_votes(&self, found: u64) -> Result<()> {
        match self.mark.votes() {
            Some(durable) if durable > found => Err(StorageError::Corrupt {
                doing: "open the database",
                detail: format!("it has {found} votes, but {durable} were acknowledged as durable"),
            }),
            _ => Ok(()),
        }
    }

    /// Takes a step that changes the disk. If it fails, the store stops for good.
    pub(crate) fn step<T>(&self, doing: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check()?;
        let under_way = self.under_way.read().unwrap_or_else(PoisonError::into_inner);
        let begun = self.observer.before(doing).map_err(StorageError::io(doing, &self.dir));
        begun.and_then(|()| step()).or_else(|error| {
            if error.follows_another() {
                drop(under_way);
                // Until those who failed first have noted why.
                drop(self.under_way.write().unwrap_or_else(PoisonError::into_inner));
                self.check()?;
            }
            self.stop(error.in_full());
            Err(error)
        })
    }

    /// From now on every call is refused. The first reason stays: the others follow from it.
    pub(crate) fn stop(&self, reason: String) {
        let _ = self.stopped.set(reason.into());
    }

    fn refuse_lost_end(&self) -> Result<()> {
        let found = self.db.latest_sequence_number();
        match self.mark.last() {
            Some(durable) if durable > found => Err(StorageError::Corrupt {
                doing: "open the database",
                detail: format!("it ends at write {found}, but write {durable} was acknowledged as durable"),
            }),
            _ => Ok(()),
        }
    }
}

/// Refuses if the database's list of its files is not what it was.
fn refuse_short_list(folder: &Path, noted: Option<FileList>) -> Result<()> {
    // If there is none, the database says so itself.
    let (Some(noted), Some(found)) = (noted, files::list_of(folder)) else { return Ok(()) };
    if found.number > noted.number || found.number == noted.number && found.bytes >= noted.bytes {
        return Ok(());
    }
    let detail = format!(
        "its list of files, number {}, has {} bytes, but number {} with {} bytes was there",
        found.number, found.bytes, noted.number, noted.bytes
    );
    Err(StorageError::Corrupt { doing: "open the database", detail })
}

/// A table of a database by its name.
pub(crate) fn table<'db>(db: &'db DB, name: &'static str) -> Result<&'db ColumnFamily> {
    db.cf_handle(name).ok_or_else(|| StorageError::Corrupt {
        doing: "find a table of the database",
        detail: format!("table {name} is missing"),
    })
}

/// The last key of a table that is not below `lowest`.
pub(crate) fn last_key(
    db: &DB,
    name: &'static str,
    lowest: &[u8],
    doing: &'static str,
) -> Result<Option<Vec<u8>>> {
    let mut range = ReadOptions::default();
    range.set_iterate_lower_bound(lowest);
    let mut rows = db.iterator_cf_opt(table(db, name)?, range, IteratorMode::End);
    rows.next()
        .transpose()
        .map(|row| row.map(|(key, _)| key.into_vec()))
        .map_err(StorageError::rocksdb(doing))
}

/// Where a scan of `[from, to)` starts.
pub(crate) fn forward(from: &[u8]) -> IteratorMode<'_> {
    IteratorMode::From(from, Direction::Forward)
}

/// Locks a mutex. A panic elsewhere cannot leave half a value behind: each of them guards one assignment.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use super::*;
    use crate::observer::Silent;

    #[test]
    fn whoever_fails_because_of_another_says_what_that_one_has_met() {
        let dir = tempfile::tempdir().expect("a folder");
        let disk = Disk::open(dir.path().to_owned(), Arc::new(Silent)).expect("opens");
        let failed = |words: &'static str| {
            Err::<(), _>(StorageError::io("write", dir.path())(io::Error::other(words)))
        };
        let (syncing, begun) = mpsc::channel();
        let (consequence, seen) = mpsc::channel();
        let (disk, failed) = (&disk, &failed);
        std::thread::scope(|threads| {
            threads.spawn(move || {
                disk.step("sync the log", || {
                    syncing.send(()).expect("is heard");
                    seen.recv().expect("the other one is failing");
                    failed("no medium")
                })
            });
            begun.recv().expect("the sync is under way");
            let written = disk.step("append to the log", || {
                consequence.send(()).expect("is heard");
                failed("IO error: Seen error. Skip writing buffer.")
            });
            let error = written.expect_err("failed too");
            assert!(error.to_string().contains("no medium"), "{error}");
        });
    }
}
