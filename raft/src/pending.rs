//! Rows as they will be: what is stored, and the changes of entries that are written together.

use std::collections::BTreeMap;

use skep_ledger::{ReadError, Row, RowChange as Decided, Rows};
use skep_storage::RowChange;

use crate::state_machine::StoredRows;

/// The stored rows under the changes that are not written yet. Each row is written once, however often it changed.
pub(crate) struct PendingRows<R = StoredRows> {
    stored: R,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<R> PendingRows<R> {
    pub(crate) fn on(stored: R) -> PendingRows<R> {
        PendingRows { stored, changes: BTreeMap::new() }
    }

    pub(crate) fn change(&mut self, changes: Vec<Decided>) {
        self.changes.extend(changes);
    }

    pub(crate) fn into_changes(self) -> Vec<RowChange> {
        self.changes
            .into_iter()
            .map(|(row, value)| match value {
                Some(value) => RowChange::Put(row, value),
                None => RowChange::Delete(row),
            })
            .collect()
    }
}

impl<R: Rows> Rows for PendingRows<R> {
    fn get(&self, row: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        match self.changes.get(row) {
            Some(changed) => Ok(changed.clone()),
            None => self.stored.get(row),
        }
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Row>, ReadError> {
        let from = prefix.max(from);
        let changed = || self.changes.range(from.to_vec()..).take_while(|(row, _)| row.starts_with(prefix));
        // Every removed row may hide a stored one, so that many more are read than asked for.
        let removed = changed().filter(|(_, value)| value.is_none()).count();
        let stored = self.stored.scan_from(prefix, from, limit.saturating_add(removed))?;
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (row, value) in changed() {
            match value {
                Some(value) => rows.insert(row.clone(), value.clone()),
                None => rows.remove(row),
            };
        }
        Ok(rows.into_iter().take(limit).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Rows for Plain {
        fn get(&self, row: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
            Ok(self.0.get(row).cloned())
        }

        fn scan_from(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Row>, ReadError> {
            let rows = self.0.range(from.to_vec()..).filter(|(row, _)| row.starts_with(prefix)).take(limit);
            Ok(rows.map(|(row, value)| (row.clone(), value.clone())).collect())
        }
    }

    fn row(name: &str) -> Vec<u8> {
        name.as_bytes().to_vec()
    }

    #[test]
    fn changes_cover_what_is_stored() {
        let stored = ["a1", "a2", "a3", "b1"].map(|name| (row(name), row("old")));
        let mut rows = PendingRows::on(Plain(stored.into()));
        rows.change(vec![(row("a1"), None), (row("a0"), Some(row("new"))), (row("a3"), Some(row("new")))]);
        assert_eq!(rows.get(b"a1"), Ok(None));
        assert_eq!(rows.get(b"a2"), Ok(Some(row("old"))));
        let all = [("a0", "new"), ("a2", "old"), ("a3", "new")].map(|(name, value)| (row(name), row(value)));
        assert_eq!(rows.scan(b"a", 9), Ok(all.to_vec()));
        assert_eq!(rows.scan(b"a", 2), Ok(all[..2].to_vec()));
        assert_eq!(rows.scan_from(b"a", b"a2", 9), Ok(all[1..].to_vec()));
    }

    #[test]
    fn a_row_that_changes_twice_is_written_once() {
        let mut rows = PendingRows::on(Plain(BTreeMap::new()));
        rows.change(vec![(row("a"), Some(row("first")))]);
        rows.change(vec![(row("a"), Some(row("second")))]);
        assert_eq!(rows.into_changes(), [RowChange::Put(row("a"), row("second"))]);
    }
}
