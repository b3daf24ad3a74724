//! Taking over a whole state that comes from elsewhere, row by row, beside the one in use.
//!
//! ```text
//!   stage      the inactive table is emptied
//!   put …      rows go there; nobody sees them
//!   install    one synced batch says that this table is the active one, at this position
//!   (then)     the table that was active is emptied
//! ```
//! A crash before the batch leaves the old state whole, a crash after it the new one. What is left over in
//! the inactive table is emptied when the store is opened.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rocksdb::WriteBatch;

use crate::error::{Result, StorageError};
use crate::state::{self, Row, Table};
use crate::store::{Inner, Store};

/// A state being taken over. Dropped without [`Staging::install`], it is as if it had never been.
pub struct Staging {
    claim: Claim,
    table: Table,
}

impl Store {
    /// Begins to take over a state. One at a time.
    ///
    /// # Errors
    /// [`StorageError::Busy`] if one is being taken over already; otherwise if the spare table could not be
    /// emptied.
    pub fn stage(&self) -> Result<Staging> {
        self.inner.disk.check()?;
        let claim = Claim::take(self.inner.clone())?;
        let table = claim.0.active_table().other();
        state::clear(&claim.0.disk, table)?;
        Ok(Staging { claim, table })
    }
}

impl Staging {
    /// Adds rows, in any order.
    ///
    /// # Errors
    /// If they could not be written.
    pub fn put(&self, rows: Vec<Row>) -> Result<()> {
        let disk = &self.claim.0.disk;
        let table = disk.table(self.table.name())?;
        let mut batch = WriteBatch::default();
        for (key, value) in &rows {
            batch.put_cf(table, key, value);
        }
        disk.write("stage rows", batch)
    }

    /// Makes the staged rows the state, at `position`. Durable when this returns.
    ///
    /// # Errors
    /// If it may not have become durable.
    pub fn install(self, position: &[u8]) -> Result<()> {
        let inner = &*self.claim.0;
        let mut active = inner.active.write().unwrap_or_else(PoisonError::into_inner);
        let mut batch = WriteBatch::default();
        state::activate(&inner.disk, &mut batch, self.table, position)?;
        inner.disk.write("install the staged state", batch)?;
        *active = self.table;
        inner.forget_moment();
        inner.disk.sync("sync the installed state")?;
        state::clear(&inner.disk, self.table.other())
    }
}

impl fmt::Debug for Staging {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Staging").field("table", &self.table).finish_non_exhaustive()
    }
}

/// The right to write to the inactive table, given back when dropped.
struct Claim(Arc<Inner>);

impl Claim {
    fn take(inner: Arc<Inner>) -> Result<Claim> {
        match inner.staging.swap(true, Ordering::AcqRel) {
            true => Err(StorageError::Busy),
            false => Ok(Claim(inner)),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.staging.store(false, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "staging_tests.rs"]
mod tests;
