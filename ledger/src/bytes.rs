//! Values that no rule of Skep reads: a transaction that somebody else has decided, and the bytes it is about.

use jiff::Timestamp;

use crate::{Check, Key, Op, ReadError, RequestId, Revision, Txn, View, row};

impl Txn {
    /// A transaction that was decided elsewhere. Without a request id nothing is remembered of it, and repeating it
    /// changes things again.
    pub fn decided(
        request: Option<RequestId>,
        at: Timestamp,
        checks: impl IntoIterator<Item = (Key, Revision)>,
        writes: impl IntoIterator<Item = (Key, Option<Vec<u8>>)>,
    ) -> Txn {
        let check = |(key, revision): (Key, Revision)| Check { row: key.row(), revision };
        Txn {
            request: request.map(|id| id.bytes()).unwrap_or_default(),
            fence: None,
            at_ms: at.as_millisecond(),
            checks: checks.into_iter().map(check).collect(),
            ops: writes.into_iter().map(|(key, value)| Op { row: key.row(), value }).collect(),
            answer: vec![],
        }
    }
}

impl View {
    /// What [`Txn::decided`] wrote under a key, with the revision of its last change.
    pub fn bytes(&self, key: &Key) -> Result<Option<(Revision, Vec<u8>)>, ReadError> {
        let Some(mut stored) = self.stored(&key.row())? else {
            return Ok(None);
        };
        let (revision, value) = row::unstamp(&stored).ok_or_else(|| ReadError::malformed("row"))?;
        let value_from = stored.len() - value.len();
        stored.drain(..value_from);
        Ok(Some((revision, stored)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ledger as _, MemoryLedger, Outcome};

    #[tokio::test]
    async fn a_check_that_does_not_hold_changes_nothing() {
        let ledger = MemoryLedger::new();
        let key = Key::new("kv", "locks", "deploy");
        let take = |revision, value: &[u8]| {
            Txn::decided(None, ledger.now(), [(key.clone(), revision)], [(key.clone(), Some(value.to_vec()))])
        };
        let Ok(Outcome::Committed(revision)) = ledger.propose(take(0, b"anna")).await else {
            panic!("the lock is free");
        };
        assert!(matches!(ledger.propose(take(0, b"ben")).await, Ok(Outcome::Conflict(..))));
        let held = ledger.view().bytes(&key).expect("is read");
        assert_eq!(held, Some((revision, b"anna".to_vec())));
    }

    #[tokio::test]
    async fn without_a_request_id_nothing_is_remembered() {
        let ledger = MemoryLedger::new();
        let key = Key::new("kv", "p", "k");
        for _ in 0..2 {
            let txn = Txn::decided(None, ledger.now(), [], [(key.clone(), Some(vec![]))]);
            assert!(matches!(ledger.propose(txn).await, Ok(Outcome::Committed(_))));
        }
    }
}
