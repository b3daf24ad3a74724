//! Where the requests that are still remembered begin.
//!
//! Why it is kept: rows that were removed at the front cost a scan as much as if they were still there, until the store
//! has tidied up. Where the requests begin is known to whoever has removed the last ones.
//! Why it may be forgotten: it is worked out from the rows again, so that a replica that has just started and one that
//! has not do the same with the next transaction.

use crate::{Revision, row};

/// The oldest remembered request, as far as is known. It belongs to the rows that it was learned from: whoever goes on
/// with other rows begins with a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldestRequest {
    /// No age row lies before this one.
    from: Vec<u8>,
    /// How old the request of exactly that row is; unknown if there is no such row.
    age: Option<Age>,
}

/// When a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Age {
    pub(crate) at_ms: i64,
    pub(crate) revision: Revision,
}

impl Default for OldestRequest {
    fn default() -> OldestRequest {
        OldestRequest { from: row::REQUEST_AGES.to_vec(), age: None }
    }
}

impl OldestRequest {
    /// No age row lies before this one.
    pub(crate) fn from(&self) -> &[u8] {
        &self.from
    }

    /// How old it is; none if it has to be looked for.
    pub(crate) fn age(&self) -> Option<Age> {
        self.age
    }

    /// A request is remembered from now on. Clocks differ, so it may be older than all others.
    pub(crate) fn remembered(&mut self, age_row: Vec<u8>, age: Age) {
        if age_row <= self.from {
            self.found(age_row, age);
        }
    }

    /// All that lie before this one are forgotten.
    pub(crate) fn found(&mut self, age_row: Vec<u8>, age: Age) {
        *self = OldestRequest { from: age_row, age: Some(age) };
    }

    /// This one and all before it are forgotten.
    pub(crate) fn forgotten(&mut self, age_row: &[u8]) {
        *self = OldestRequest { from: age_row.to_vec(), age: None };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::SortedRows;
    use crate::{Position, REQUESTS_KEPT_FOR_REVISIONS, RequestId, Txn, apply};

    /// How much later in time and in revisions a transaction is than the one before.
    fn later() -> impl Strategy<Value = (i64, u64)> {
        let hours = prop_oneof![8 => 0..3_i64, 3 => -3..0_i64, 1 => 20..30_i64];
        // At each of these revisions requests are forgotten.
        let revisions = prop_oneof![12 => Just(16), 1 => Just(REQUESTS_KEPT_FOR_REVISIONS / 4)];
        (hours, revisions)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        /// A replica that has just started knows nothing, and must do the same as all others.
        #[test]
        fn what_is_known_of_the_oldest_request_changes_nothing_but_the_time_it_takes(
            all in prop::collection::vec(later(), 1..200),
        ) {
            let (mut rows, mut known) = (SortedRows::default(), OldestRequest::default());
            let (mut hour, mut revision) = (1_000, 0);
            for (number, (hours, revisions)) in (0_u128..).zip(all) {
                hour += hours;
                revision += revisions;
                let at = jiff::Timestamp::from_second(hour * 3_600).expect("is a time");
                let txn = Txn::decided(Some(RequestId::from_bytes(number.to_be_bytes())), at, [], []);
                let position = Position { revision, term: 1 };
                let applied = apply(&rows, &txn, position, &mut known).expect("is readable");
                let anew = apply(&rows, &txn, position, &mut OldestRequest::default()).expect("is readable");
                prop_assert_eq!(&applied, &anew);
                rows.change(applied.changes);
            }
        }
    }
}
