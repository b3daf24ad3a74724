//! The face of a transaction that rules see: ask, and say what to write.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::view::{decode, decoded, encode};
use crate::{Check, Key, Op, ReadError, Record, RequestId, Revision, Stored, Term, Txn, View, row};

/// A transaction being decided. Every read becomes a check, every write waits until the rule has answered.
pub struct Tx<'v> {
    view: &'v View,
    now: Timestamp,
    checks: BTreeMap<Vec<u8>, Revision>,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
}

impl<'v> Tx<'v> {
    /// A transaction on a view, stamped with a time; rules have no clock of their own.
    pub fn new(view: &'v View, now: Timestamp) -> Tx<'v> {
        Tx { view, now, checks: BTreeMap::new(), writes: BTreeMap::new() }
    }

    /// When this transaction is proposed.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// One record, with this transaction's own writes.
    pub fn get<T: Record>(&mut self, partition: &str, id: &str) -> Result<Option<Stored<T>>, ReadError> {
        let key = Key::new(T::TABLE, partition, id);
        if let Some(written) = self.writes.get(&key) {
            return match written {
                None => Ok(None),
                Some(value) => Ok(Some(Stored { record: decode(&key, value)?, revision: 0 })),
            };
        }
        let found = self.view.stored(&key.row())?.map(|stored| decoded(&key, &stored)).transpose()?;
        self.checks.insert(key.row(), found.as_ref().map_or(0, |stored: &Stored<T>| stored.revision));
        Ok(found)
    }

    /// All records of a partition, with this transaction's own writes; checked as a whole.
    pub fn list<T: Record>(&mut self, partition: &str) -> Result<Vec<Stored<T>>, ReadError> {
        self.check_stamp(row::partition(T::TABLE, partition))?;
        let found = self.view.list(partition)?;
        self.overlaid(found, |key| key.partition == partition)
    }

    /// All records of a table, with this transaction's own writes; checked as a whole.
    pub fn list_all<T: Record>(&mut self) -> Result<Vec<Stored<T>>, ReadError> {
        self.check_stamp(row::table(T::TABLE))?;
        let found = self.view.list_all()?;
        self.overlaid(found, |_| true)
    }

    /// All records of a partition, with this transaction's own writes; unlike every other read not checked. For limits and
    /// for tidying up beside a change: with a check, everybody who adds something would wait for everybody else who
    /// does. A limit may so be passed by as many as add something at one time.
    pub fn glance<T: Record>(&self, partition: &str) -> Result<Vec<Stored<T>>, ReadError> {
        self.overlaid(self.view.list(partition)?, |key| key.partition == partition)
    }

    /// Writes a record.
    pub fn put<T: Record>(&mut self, record: &T) {
        self.writes.insert(record.key(), Some(encode(record)));
    }

    /// Deletes a record; deleting what is gone is fine.
    pub fn delete<T: Record>(&mut self, partition: &str, id: &str) {
        self.writes.insert(Key::new(T::TABLE, partition, id), None);
    }

    /// The finished transaction, or `None` if the rule wrote nothing.
    pub(crate) fn finish(self, request: RequestId, fence: Option<Term>, answer: Vec<u8>) -> Option<Txn> {
        if self.writes.is_empty() {
            return None;
        }
        Some(Txn {
            request: request.bytes(),
            fence,
            at_ms: self.now.as_millisecond(),
            checks: self.checks.into_iter().map(|(row, revision)| Check { row, revision }).collect(),
            ops: self.writes.into_iter().map(|(key, value)| Op { row: key.row(), value }).collect(),
            answer,
        })
    }

    fn check_stamp(&mut self, stamp: Vec<u8>) -> Result<(), ReadError> {
        let revision = match self.view.stored(&stamp)? {
            None => 0,
            Some(stored) => row::unstamp(&stored).ok_or_else(|| ReadError::malformed("stamp"))?.0,
        };
        self.checks.insert(stamp, revision);
        Ok(())
    }

    fn overlaid<T: Record>(
        &self,
        found: Vec<Stored<T>>,
        belongs: impl Fn(&Key) -> bool,
    ) -> Result<Vec<Stored<T>>, ReadError> {
        let mut records: BTreeMap<Key, Stored<T>> =
            found.into_iter().map(|stored| (stored.key(), stored)).collect();
        for (key, written) in self.writes.iter().filter(|(key, _)| key.table == T::TABLE && belongs(key)) {
            match written {
                None => records.remove(key),
                Some(value) => {
                    records.insert(key.clone(), Stored { record: decode(key, value)?, revision: 0 })
                }
            };
        }
        Ok(records.into_values().collect())
    }
}
