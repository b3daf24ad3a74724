//! Rows of a state on their way to another manager, with a checksum that is tested on arrival.
//!
//! TLS already keeps a stranger from changing bytes; the checksum is for bytes that were wrong before
//! they were encrypted or after they were decrypted: memory faults, or a bug in our own chunking.

use aws_lc_rs::digest::{Context, SHA256};

use crate::proto::peer::{Row, Rows};

/// A row of the state: its key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A chunk of rows did not arrive as it was sent.
#[derive(Debug, thiserror::Error)]
#[error("checking {rows} rows of a snapshot: their checksum differs from the one sent along")]
pub struct ChecksumMismatch {
    /// How many rows the chunk had.
    pub rows: usize,
}

impl Rows {
    /// Rows with their checksum, ready to be sent.
    pub fn sealed(rows: Vec<KeyValue>) -> Rows {
        let rows: Vec<Row> = rows.into_iter().map(|(key, value)| Row { key, value }).collect();
        let checksum = checksum(&rows);
        Rows { rows, checksum }
    }

    /// The rows, if they are what was sent.
    pub fn verified(self) -> Result<Vec<KeyValue>, ChecksumMismatch> {
        if checksum(&self.rows) != self.checksum {
            return Err(ChecksumMismatch { rows: self.rows.len() });
        }
        Ok(self.rows.into_iter().map(|row| (row.key, row.value)).collect())
    }
}

/// Lengths go in too, so that a byte which moved from a value to the next key is noticed.
fn checksum(rows: &[Row]) -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    for row in rows {
        for field in [&row.key, &row.value] {
            digest.update(&(field.len() as u64).to_le_bytes());
            digest.update(field);
        }
    }
    digest.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_rows() -> Rows {
        Rows::sealed(vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"".to_vec())])
    }

    #[test]
    fn rows_arrive_as_sent() {
        let rows = some_rows().verified().expect("unchanged rows verify");
        assert_eq!(rows, vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"".to_vec())]);
    }

    #[test]
    fn a_changed_row_is_noticed() {
        let mut rows = some_rows();
        rows.rows[0].value = b"2".to_vec();
        assert!(rows.verified().is_err());
    }

    #[test]
    fn a_byte_that_moved_between_fields_is_noticed() {
        let mut rows = some_rows();
        rows.rows[0].value.clear();
        rows.rows[1].key = b"1b".to_vec();
        assert!(rows.verified().is_err());
    }

    #[test]
    fn a_lost_row_is_noticed() {
        let mut rows = some_rows();
        rows.rows.pop();
        assert!(rows.verified().is_err());
    }
}
