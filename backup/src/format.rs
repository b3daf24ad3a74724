//! What stands inside of the encryption: a magic, then frames of a kind, a length and bytes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The format that this version writes. Raise it when older versions could misread what is written.
pub const FORMAT: u8 = 1;

pub(crate) const MAGIC: &[u8] = b"skep backup\n";

/// Rows are collected up to this size before they are written as a frame.
pub(crate) const FRAME_BYTES: usize = 256 * 1024;

/// A frame is larger than [`FRAME_BYTES`] only by one row, and a row is smaller than a transaction (4 MiB).
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Header = b'H',
    Secrets = b'S',
    Rows = b'R',
    Trailer = b'T',
}

impl Kind {
    pub(crate) fn of(byte: u8) -> Option<Kind> {
        [Kind::Header, Kind::Secrets, Kind::Rows, Kind::Trailer].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Whose state it is. A later version may add fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The cluster's id.
    pub cluster: String,
    /// The epoch of the cluster when it was taken.
    pub epoch: u64,
    /// The newest change in it.
    pub revision: u64,
    /// The term of that change.
    pub term: u64,
    /// The highest number that a manager had: a restored cluster begins behind it.
    pub highest_node: u64,
    /// When it was taken.
    pub created_at: Timestamp,
    /// The manager that wrote it.
    pub manager: String,
    /// The version of Skep that wrote it.
    pub version: String,
}

/// What makes a restored cluster the same to its hosts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// The authority's certificate.
    pub ca_pem: String,
    /// The authority's secret key.
    pub ca_key_pem: String,
    /// What the hosts' one-time tokens are derived from, in hexadecimal digits.
    pub registration_key: String,
}

/// Never the secrets themselves: values end up in logs through `Debug`.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// How much is in a backup. Equal totals mean equal content: the checksum is over all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// All rows.
    pub rows: u64,
    /// Keys and values together.
    pub bytes: u64,
    /// Rows of each table.
    pub tables: BTreeMap<String, u64>,
    /// SHA-256 of everything before the trailer, in hexadecimal digits.
    pub sha256: String,
}

impl Totals {
    pub(crate) fn count(&mut self, table: &str, key: &[u8], value: &[u8]) {
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
        match self.tables.get_mut(table) {
            Some(rows) => *rows += 1,
            None => drop(self.tables.insert(table.to_owned(), 1)),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
