//! The state: rows, the opaque position they belong to, and consistent views of both.
//!
//! There are two state tables. One is active, the other is empty or being filled by a `Staging`. Which one is
//! active is a record in the database, and in memory under a lock, so that a view finds the table that is active at
//! its own moment, whatever is installed later.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use rocksdb::{ColumnFamily, DBIterator, IteratorMode, ReadOptions, Snapshot, WriteBatch};
use self_cell::self_cell;

use crate::database::{META, STATE_A, STATE_B};
use crate::disk::{self, Disk, forward, locked};
use crate::error::{Result, StorageError};
use crate::store::{Inner, Store};

/// The record that says which table is active. Absent in a new store: the first one.
const ACTIVE: &[u8] = b"active";

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// The key gets this value.
    Put(Vec<u8>, Vec<u8>),
    /// The key is removed; one that is not there is fine.
    Delete(Vec<u8>),
}

impl Store {
    /// Changes rows and moves the position, all of it or nothing. Later changes of a key win. Durable with the
    /// next sync: after a crash the position says from where to apply again.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn apply(&self, changes: Vec<RowChange>, position: &[u8]) -> Result<()> {
        let disk = &self.inner.disk;
        let active = self.inner.active_table();
        let table = disk.table(active.name())?;
        let mut batch = WriteBatch::default();
        for change in &changes {
            match change {
                RowChange::Put(key, value) => batch.put_cf(table, key, value),
                RowChange::Delete(key) => batch.delete_cf(table, key),
            }
        }
        batch.put_cf(disk.table(META)?, active.position_key(), position);
        self.inner.add_committed(&mut batch)?;
        disk.write("apply changes to the state", batch)?;
        self.inner.forget_moment();
        Ok(())
    }

    /// The position of the last change.
    ///
    /// # Errors
    /// If it could not be read.
    pub fn position(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.view().position()?.map(<[u8]>::to_vec))
    }

    /// The state as it is now, for as long as the view is kept.
    #[must_use]
    pub fn view(&self) -> StateView {
        let Inner { disk, .. } = &*self.inner;
        let active = self.inner.active_table();
        let mut newest = locked(&self.inner.newest);
        let moment = disk.check().map(|()| newest.get_or_insert_with(|| Moment::now(disk, *active)).clone());
        StateView { moment }
    }
}

impl Inner {
    /// The next view shows what has been changed. To be called after each change, before anybody is told of it.
    pub(crate) fn forget_moment(&self) {
        // Not dropped under the lock: that asks the database to let the moment go.
        let old = locked(&self.newest).take();
        drop(old);
    }

    pub(crate) fn active_table(&self) -> RwLockReadGuard<'_, Table> {
        self.active.read().unwrap_or_else(PoisonError::into_inner)
    }
}

self_cell!(
    /// A snapshot together with the database it is taken of, so that it can be moved and kept.
    struct Pinned {
        owner: Arc<Disk>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// The state at one moment. Taking it holds up writers for a moment, so that all who look between two changes share one.
pub(crate) struct Moment {
    pinned: Pinned,
    active: Table,
    position: Result<Option<Vec<u8>>>,
}

impl Moment {
    fn now(disk: &Arc<Disk>, active: Table) -> Arc<Moment> {
        let pinned = Pinned::new(disk.clone(), |disk| disk.db().snapshot());
        let position = pinned.meta(active.position_key(), "read the position of the state");
        Arc::new(Moment { pinned, active, position })
    }

    fn table(&self) -> Result<&ColumnFamily> {
        self.pinned.borrow_owner().table(self.active.name())
    }
}

/// The state at one moment. Changes, installs and checkpoints made later do not touch it.
///
/// Old versions of rows are kept on the disk while there is a view of them, so views are for a request, not
/// for a day.
pub struct StateView {
    moment: Result<Arc<Moment>>,
}

impl StateView {
    /// The value of a key.
    ///
    /// # Errors
    /// If it could not be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let moment = self.moment()?;
        let snapshot = moment.pinned.borrow_dependent();
        snapshot.get_cf(moment.table()?, key).map_err(StorageError::rocksdb("read a row"))
    }

    /// The rows whose keys begin with `prefix`, in the order of their keys. An error ends them.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Rows<'_> {
        self.scan_prefix_from(prefix, prefix)
    }

    /// Those of [`StateView::scan_prefix`] that do not lie before `from`. What was deleted before it costs nothing.
    pub fn scan_prefix_from(&self, prefix: &[u8], from: &[u8]) -> Rows<'_> {
        match self.rows_from(prefix, prefix.max(from)) {
            Ok(rows) => Rows { failed: None, rows: Some(rows) },
            Err(error) => Rows { failed: Some(error), rows: None },
        }
    }

    /// The position that the rows belong to.
    ///
    /// # Errors
    /// If it could not be read.
    pub fn position(&self) -> Result<Option<&[u8]>> {
        self.moment()?.position.as_ref().map(Option::as_deref).map_err(Clone::clone)
    }

    fn rows_from(&self, prefix: &[u8], from: &[u8]) -> Result<DBIterator<'_>> {
        let moment = self.moment()?;
        let mut range = ReadOptions::default();
        range.set_iterate_range(rocksdb::PrefixRange(prefix));
        Ok(moment.pinned.borrow_dependent().iterator_cf_opt(moment.table()?, range, forward(from)))
    }

    fn moment(&self) -> Result<&Moment> {
        self.moment.as_deref().map_err(Clone::clone)
    }
}

impl fmt::Debug for StateView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = self.moment().map(|moment| moment.pinned.borrow_dependent().sequence_number());
        formatter.debug_struct("StateView").field("sequence", &sequence).finish_non_exhaustive()
    }
}

/// The rows of a scan, read as they are asked for.
pub struct Rows<'view> {
    failed: Option<StorageError>,
    rows: Option<DBIterator<'view>>,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let row = self.rows.as_mut()?.next()?;
        Some(match row {
            Ok((key, value)) => Ok((key.into_vec(), value.into_vec())),
            Err(error) => Err(StorageError::rocksdb("scan rows")(error)),
        })
    }
}

impl Pinned {
    fn meta(&self, key: &[u8], doing: &'static str) -> Result<Option<Vec<u8>>> {
        let meta = self.borrow_owner().table(META)?;
        self.borrow_dependent().get_cf(meta, key).map_err(StorageError::rocksdb(doing))
    }
}

/// One of the two state tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    A,
    B,
}

const FINDING_ACTIVE: &str = "find the active state table";

impl Table {
    pub(crate) fn other(self) -> Table {
        match self {
            Table::A => Table::B,
            Table::B => Table::A,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::A => STATE_A,
            Table::B => STATE_B,
        }
    }

    pub(crate) fn position_key(self) -> &'static [u8] {
        match self {
            Table::A => b"position_a",
            Table::B => b"position_b",
        }
    }

    pub(crate) fn decode(record: Option<Vec<u8>>) -> Result<Table> {
        match record.as_deref() {
            None | Some(b"a") => Ok(Table::A),
            Some(b"b") => Ok(Table::B),
            Some(other) => {
                let detail = format!("{other:?} is none");
                Err(StorageError::Corrupt { doing: FINDING_ACTIVE, detail })
            }
        }
    }

    fn encode(self) -> &'static [u8] {
        match self {
            Table::A => b"a",
            Table::B => b"b",
        }
    }
}

/// The table that is active now.
pub(crate) fn active_table(disk: &Disk) -> Result<Table> {
    Table::decode(disk.get(META, ACTIVE, FINDING_ACTIVE)?)
}

/// Adds to a batch what makes `table` the active one, at `position`.
pub(crate) fn activate(disk: &Disk, batch: &mut WriteBatch, table: Table, position: &[u8]) -> Result<()> {
    let meta = disk.table(META)?;
    batch.put_cf(meta, ACTIVE, table.encode());
    batch.put_cf(meta, table.position_key(), position);
    batch.delete_cf(meta, table.other().position_key());
    Ok(())
}

/// Removes all rows of a table. Views that were taken before go on seeing them.
pub(crate) fn clear(disk: &Disk, table: Table) -> Result<()> {
    let doing = "clear the inactive state table";
    let Some(last) = disk::last_key(disk.db(), table.name(), b"", doing)? else {
        return Ok(());
    };
    // The end of a range is not part of it; no key lies between a key and the same with a zero byte.
    let end = [last.as_slice(), &[0]].concat();
    let mut batch = WriteBatch::default();
    batch.delete_range_cf(disk.table(table.name())?, Vec::new(), end);
    disk.write(doing, batch)
}

/// What an opened checkpoint says: its active table and the position of it.
pub(crate) fn read_checkpoint(db: &rocksdb::DB) -> Result<(Table, Option<Vec<u8>>)> {
    let meta = disk::table(db, META)?;
    let read = |key: &[u8]| db.get_cf(meta, key).map_err(StorageError::rocksdb("read a checkpoint"));
    let table = Table::decode(read(ACTIVE)?)?;
    Ok((table, read(table.position_key())?))
}

/// Up to `bytes_max` of rows of a table behind the key `after`, at least one if there is one.
pub(crate) fn read_chunk(
    db: &rocksdb::DB,
    table: Table,
    after: Option<&[u8]>,
    bytes_max: usize,
) -> Result<Vec<Row>> {
    let mut once = ReadOptions::default();
    once.fill_cache(false);
    let mode = after.map_or(IteratorMode::Start, forward);
    let mut rows = Vec::new();
    let mut bytes = 0;
    for row in db.iterator_cf_opt(disk::table(db, table.name())?, once, mode) {
        let (key, value) = row.map_err(StorageError::rocksdb("read the rows of a checkpoint"))?;
        if after == Some(&*key) {
            continue;
        }
        bytes += key.len() + value.len();
        if bytes > bytes_max && !rows.is_empty() {
            break;
        }
        rows.push((key.into_vec(), value.into_vec()));
    }
    Ok(rows)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
