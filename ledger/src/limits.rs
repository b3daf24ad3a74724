//! How large a transaction may be. Checked by whoever proposes, on every implementation of the ledger alike: what is
//! in the log must be applied by everybody, so there it is too late.

use prost::Message as _;

use crate::{Txn, Unavailable};

/// One object's value. The largest that Skep writes itself is a stack with its recipe of 256 KiB, twice.
pub const OBJECT_BYTES_MAX: usize = 1024 * 1024;

/// A whole transaction. Larger ones are a mistake somewhere above; they would hold up everybody behind them.
pub const TXN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What one transaction checks and writes. Every replica looks at each of them before it goes on to the next entry.
pub const TXN_ROWS_MAX: usize = 10_000;

impl Txn {
    /// May this be proposed?
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn within_limits(&self) -> Result<(), Unavailable> {
        let rows = self.checks.len() + self.ops.len();
        if rows > TXN_ROWS_MAX {
            return Err(Unavailable::TooManyRows { rows, limit_rows: TXN_ROWS_MAX });
        }
        for op in &self.ops {
            let bytes = op.value.as_ref().map_or(0, Vec::len);
            if bytes > OBJECT_BYTES_MAX {
                let object = op.key().map_or_else(|| "an object".into(), |key| key.to_string());
                return Err(Unavailable::ObjectTooLarge { object, bytes, limit_bytes: OBJECT_BYTES_MAX });
            }
        }
        let bytes = self.encoded_len();
        if bytes > TXN_BYTES_MAX {
            return Err(Unavailable::TooLarge { bytes, limit_bytes: TXN_BYTES_MAX });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Ledger as _, MemoryLedger, Outcome};

    fn txn(objects: usize, bytes: usize) -> Txn {
        let write = |number: usize| (Key::new("t", "p", &number.to_string()), Some(vec![0; bytes]));
        Txn::decided(None, jiff::Timestamp::UNIX_EPOCH, [], (0..objects).map(write))
    }

    #[tokio::test]
    async fn each_limit_is_exact_and_has_its_own_error() {
        let ledger = MemoryLedger::new();
        for fits in [txn(1, OBJECT_BYTES_MAX), txn(TXN_ROWS_MAX, 1), txn(7, TXN_BYTES_MAX / 8)] {
            assert!(matches!(ledger.propose(fits).await, Ok(Outcome::Committed(_))));
        }
        let before = ledger.view().revision();
        let Err(Unavailable::ObjectTooLarge { object, bytes, .. }) =
            ledger.propose(txn(1, OBJECT_BYTES_MAX + 1)).await
        else {
            panic!("the object is too large")
        };
        assert_eq!((object.as_str(), bytes), ("t/p/0", OBJECT_BYTES_MAX + 1));
        let many = ledger.propose(txn(TXN_ROWS_MAX + 1, 1)).await;
        assert!(matches!(many, Err(Unavailable::TooManyRows { rows, .. }) if rows == TXN_ROWS_MAX + 1));
        let large = ledger.propose(txn(8, TXN_BYTES_MAX / 8)).await;
        assert!(matches!(large, Err(Unavailable::TooLarge { .. })), "{large:?}");
        assert_eq!(ledger.view().revision(), before, "nothing was proposed");
    }
}
