//! The log: entries under consecutive indexes, appended at the end, truncated there, purged at the front.
//!
//! Deleted ranges stay in the database as markers until a compaction. So nothing is ever looked for from the
//! front: every scan starts at the first index that can be there.

use std::sync::Mutex;
use std::time::Instant;

use rocksdb::{DB, ReadOptions, WriteBatch};

use crate::database::{LOG, META};
use crate::disk::{self, Disk, forward, locked};
use crate::error::{Result, StorageError};
use crate::store::Store;

/// Eight bytes of the index of the last purged entry, then its opaque id.
const PURGED: &[u8] = b"purged";

impl Store {
    /// Adds entries at the end of the log. They can be read when this returns, and `durable` is called when
    /// they are durable, or with the error after which that will never be known. Appends are completed in
    /// their order and share syncs. If this returns an error, `durable` is not called.
    ///
    /// # Errors
    /// [`StorageError::OutOfOrder`] if they would overwrite entries or leave a hole; nothing is written then.
    /// Otherwise if the store has stopped.
    pub fn append(
        &self,
        entries: Vec<(u64, Vec<u8>)>,
        durable: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) -> Result<()> {
        let inner = &*self.inner;
        let (began, meters) = (Instant::now(), inner.disk.meters().clone());
        let _writing = locked(&inner.log.writing);
        let bounds = *locked(&inner.log.bounds);
        let last = bounds.last_with(&entries)?;
        let log = inner.disk.table(LOG)?;
        let mut batch = WriteBatch::default();
        for (index, entry) in &entries {
            batch.put_cf(log, key(*index), entry);
        }
        inner.add_committed(&mut batch)?;
        inner.disk.postpone("append to the log", batch)?;
        locked(&inner.log.bounds).last = last;
        inner.sync.when_durable(Box::new(move |outcome| {
            meters.append.observe(began.elapsed());
            durable(outcome);
        }));
        Ok(())
    }

    /// The entries from `from` up to, not including, `to_exclusive`. Stops when `bytes_max` are reached, but
    /// never before the first entry. What was purged is left out.
    ///
    /// # Errors
    /// If they could not be read.
    pub fn entries(&self, from: u64, to_exclusive: u64, bytes_max: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        self.inner.disk.write_postponed()?;
        let from = from.max(locked(&self.inner.log.bounds).first);
        let mut entries = Vec::new();
        if from < to_exclusive {
            read(self.inner.disk.db(), from, to_exclusive, bytes_max, &mut entries)?;
        }
        Ok(entries)
    }

    /// The entry at the end of the log; none if the log is empty or purged to its end.
    ///
    /// # Errors
    /// If it could not be read.
    pub fn last_entry(&self) -> Result<Option<(u64, Vec<u8>)>> {
        let doing = "read the last entry of the log";
        self.inner.disk.write_postponed()?;
        let Some(last) = locked(&self.inner.log.bounds).last else { return Ok(None) };
        let entry = self.inner.disk.get(LOG, &key(last), doing)?;
        Ok(entry.map(|entry| (last, entry)))
    }

    /// The opaque id of the last purged entry.
    ///
    /// # Errors
    /// If it could not be read.
    pub fn purged(&self) -> Result<Option<Vec<u8>>> {
        Ok(read_purged(&self.inner.disk)?.map(|(_, id)| id))
    }

    /// Removes the entries after `index`, or all of them. Durable when this returns.
    ///
    /// # Errors
    /// If it may not have become durable.
    pub fn truncate_after(&self, index: Option<u64>) -> Result<()> {
        let inner = &*self.inner;
        let _writing = locked(&inner.log.writing);
        let bounds = *locked(&inner.log.bounds);
        let from = index.map_or(bounds.first, |index| index.saturating_add(1).max(bounds.first));
        if let Some(last) = bounds.last.filter(|last| *last >= from) {
            inner.disk.write_postponed()?;
            let mut batch = WriteBatch::default();
            batch.delete_range_cf(inner.disk.table(LOG)?, key(from), key(last.saturating_add(1)));
            let new_last = existing_before(&inner.disk, from)?;
            inner.disk.write("truncate the log", batch)?;
            locked(&inner.log.bounds).last = new_last.filter(|last| *last >= bounds.first);
        }
        inner.disk.sync("sync the truncated log")
    }

    /// Removes the entries up to and including `upto` and keeps the opaque id of that entry, in one batch.
    /// Durable when this returns. Entries beyond the end of the log may be named: a snapshot covers them.
    ///
    /// # Errors
    /// If it may not have become durable.
    pub fn purge(&self, upto: u64, purged: &[u8]) -> Result<()> {
        let inner = &*self.inner;
        let _writing = locked(&inner.log.writing);
        let bounds = *locked(&inner.log.bounds);
        if upto < bounds.first {
            return inner.disk.check();
        }
        let first = upto.saturating_add(1);
        let mut batch = WriteBatch::default();
        batch.put_cf(inner.disk.table(META)?, PURGED, [&key(upto), purged].concat());
        batch.delete_range_cf(inner.disk.table(LOG)?, key(bounds.first), key(first));
        inner.disk.write("purge the log", batch)?;
        let last = bounds.last.filter(|last| *last >= first);
        *locked(&inner.log.bounds) = Bounds { first, last };
        // Files are dropped for good at once, batches only with a sync: the other order would lose entries
        // that nobody knows to be purged.
        inner.disk.sync("sync the purged log")?;
        inner.disk.step("drop purged files of the log", || drop_files(&inner.disk, upto))
    }
}

/// Where the log begins and ends.
pub(crate) struct LogState {
    /// Held by whoever changes the log, so that entries and their callbacks keep one order.
    writing: Mutex<()>,
    /// Held for a moment only, so that readers never wait for a write.
    bounds: Mutex<Bounds>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    /// The first index that is not purged. Zero if nothing was, and then the log may begin later.
    first: u64,
    last: Option<u64>,
}

impl LogState {
    /// How many entries there are.
    pub(crate) fn entry_count(&self) -> u64 {
        let bounds = *locked(&self.bounds);
        // A log that was never purged begins at index zero or one; that much does not matter here.
        bounds.last.map_or(0, |last| last.saturating_sub(bounds.first).saturating_add(1))
    }

    /// Finds the bounds on the disk, and a hole behind what was purged.
    pub(crate) fn load(disk: &Disk) -> Result<LogState> {
        let doing = "find the bounds of the log";
        let purged = read_purged(disk)?.map(|(index, _)| index);
        let first = purged.map_or(0, |index| index.saturating_add(1));
        let last = disk::last_key(disk.db(), LOG, &key(first), doing)?;
        let last = last.map(|key| index_of(&key)).transpose()?;
        let begins = last.is_none() || first == 0 || disk.get(LOG, &key(first), doing)?.is_some();
        if !begins {
            let detail = format!("it was purged to before {first}, and entry {first} is missing");
            return Err(StorageError::Corrupt { doing, detail });
        }
        let bounds = Bounds { first, last };
        Ok(LogState { writing: Mutex::new(()), bounds: Mutex::new(bounds) })
    }
}

impl Bounds {
    /// The end of the log once `entries` are appended.
    fn last_with(&self, entries: &[(u64, Vec<u8>)]) -> Result<Option<u64>> {
        let mut last = self.last;
        for (found, _) in entries {
            let expected = match last {
                Some(last) => last.saturating_add(1),
                None if self.first > 0 => self.first,
                // A log that never had an entry may begin anywhere.
                None => *found,
            };
            if *found != expected {
                return Err(StorageError::OutOfOrder { expected, found: *found });
            }
            last = Some(*found);
        }
        Ok(last)
    }
}

/// Big-endian, so that the order of keys is the order of indexes.
fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn index_of(key: &[u8]) -> Result<u64> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| StorageError::Corrupt {
        doing: "read the log",
        detail: format!("a key of {} bytes is no index", key.len()),
    })
}

/// The index before `from`, if it has an entry.
fn existing_before(disk: &Disk, from: u64) -> Result<Option<u64>> {
    let Some(index) = from.checked_sub(1) else {
        return Ok(None);
    };
    let entry = disk.get(LOG, &key(index), "find the new end of the log")?;
    Ok(entry.map(|_| index))
}

fn read(
    db: &DB,
    from: u64,
    to_exclusive: u64,
    bytes_max: usize,
    entries: &mut Vec<(u64, Vec<u8>)>,
) -> Result<()> {
    let mut range = ReadOptions::default();
    range.set_iterate_upper_bound(key(to_exclusive));
    let mut bytes = 0;
    for row in db.iterator_cf_opt(disk::table(db, LOG)?, range, forward(&key(from))) {
        let (key, entry) = row.map_err(StorageError::rocksdb("read the log"))?;
        let index = index_of(&key)?;
        refuse_hole(entries.last().map(|(index, _)| *index), index)?;
        bytes += entry.len();
        if bytes > bytes_max && !entries.is_empty() {
            break;
        }
        entries.push((index, entry.into_vec()));
    }
    Ok(())
}

fn refuse_hole(previous: Option<u64>, index: u64) -> Result<()> {
    match previous {
        Some(previous) if previous + 1 != index => Err(StorageError::Corrupt {
            doing: "read the log",
            detail: format!("entry {index} follows on entry {previous}"),
        }),
        _ => Ok(()),
    }
}

fn read_purged(disk: &Disk) -> Result<Option<(u64, Vec<u8>)>> {
    let doing = "read what was purged from the log";
    let Some(record) = disk.get(META, PURGED, doing)? else {
        return Ok(None);
    };
    match record.split_first_chunk() {
        Some((index, id)) => Ok(Some((u64::from_be_bytes(*index), id.to_vec()))),
        None => Err(StorageError::Corrupt { doing, detail: format!("{} bytes are too few", record.len()) }),
    }
}

/// Gives the space of purged entries back without waiting for a compaction.
fn drop_files(disk: &Disk, upto: u64) -> Result<()> {
    let doing = "drop purged files of the log";
    let log = disk.table(LOG)?;
    disk.db().delete_file_in_range_cf(log, key(0), key(upto)).map_err(StorageError::rocksdb(doing))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
