//! One number for everything that a replica has applied.
//!
//! Each entry's digest is made of the one before, the entry's index and the rows that it changed. Two replicas that
//! have the same digest at an index have applied the same; if they differ, one of them is wrong from there on.

use aws_lc_rs::digest::{Context, SHA256};
use skep_ledger::RowChange;

/// SHA-256.
pub(crate) type Digest = [u8; 32];

/// The digest of one entry while its changes are added.
pub(crate) struct Chained(Context);

impl Chained {
    pub(crate) fn after(previous: &Digest, index: u64) -> Chained {
        let mut context = Context::new(&SHA256);
        context.update(previous);
        context.update(&index.to_be_bytes());
        Chained(context)
    }

    /// Lengths go in as well: otherwise two different changes could be the same bytes.
    pub(crate) fn add(&mut self, (row, value): &RowChange) {
        self.0.update(&(row.len() as u64).to_be_bytes());
        self.0.update(row);
        match value {
            None => self.0.update(&u64::MAX.to_be_bytes()),
            Some(value) => {
                self.0.update(&(value.len() as u64).to_be_bytes());
                self.0.update(value);
            }
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let mut digest = Digest::default();
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(previous: &Digest, index: u64, changes: &[RowChange]) -> Digest {
        let mut chained = Chained::after(previous, index);
        changes.iter().for_each(|change| chained.add(change));
        chained.finish()
    }

    #[test]
    fn whatever_differs_changes_it() {
        let start = Digest::default();
        let put = |row: &[u8], value: &[u8]| (row.to_vec(), Some(value.to_vec()));
        let one = of(&start, 1, &[put(b"a", b"b")]);
        assert_eq!(one, of(&start, 1, &[put(b"a", b"b")]));
        for other in [
            of(&one, 1, &[put(b"a", b"b")]),
            of(&start, 2, &[put(b"a", b"b")]),
            of(&start, 1, &[put(b"ab", b"")]),
            of(&start, 1, &[(b"a".to_vec(), None)]),
            of(&start, 1, &[]),
        ] {
            assert_ne!(one, other);
        }
    }
}
