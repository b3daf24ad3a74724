//! Reading: a consistent view of the rows at one revision, and typed records in it.

use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::apply::revision_of;
use crate::txn::Remembered;
use crate::{Key, RequestId, Revision, row};

/// The version of the encoding of a record's value; written in front of it.
const RECORD_FORMAT: u8 = 1;

/// Key and value of a stored row.
pub type Row = (Vec<u8>, Vec<u8>);

/// Ordered rows that do not change while they are read.
pub trait Rows: Send + Sync {
    /// The row's bytes, if it exists.
    fn get(&self, row: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;

    /// The first `limit` rows that start with `prefix` and do not lie before `from`, in order.
    fn scan_from(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Row>, ReadError>;

    /// The first `limit` rows that start with `prefix`, in order.
    fn scan(&self, prefix: &[u8], limit: usize) -> Result<Vec<Row>, ReadError> {
        self.scan_from(prefix, prefix, limit)
    }
}

/// The state could not be read. Nobody can do anything about it but stop this replica and heal it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading the replicated state: {0}")]
pub struct ReadError(String);

impl ReadError {
    /// An error of whatever holds the rows.
    pub fn new(cause: impl std::fmt::Display) -> ReadError {
        ReadError(cause.to_string())
    }

    pub(crate) fn malformed(what: &str) -> ReadError {
        ReadError(format!("{what} is malformed"))
    }
}

/// An object of the replicated state: a noun with a table of its own.
pub trait Record: Serialize + DeserializeOwned {
    /// The table's name.
    const TABLE: &'static str;

    /// What the object belongs to: an environment's id, or the cluster.
    fn partition(&self) -> &str;

    /// The object's id within its partition.
    fn id(&self) -> String;

    /// The object's full key.
    fn key(&self) -> Key {
        Key::new(Self::TABLE, self.partition(), &self.id())
    }
}

/// A record together with the revision of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The record.
    pub record: T,
    /// The revision that wrote it; zero if this very transaction did.
    pub revision: Revision,
}

impl<T> Deref for Stored<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.record
    }
}

/// The replicated state at one revision.
#[derive(Clone)]
pub struct View {
    rows: Arc<dyn Rows>,
    revision: Revision,
}

impl View {
    /// A view of rows that were complete up to `revision`.
    pub fn new(rows: Arc<dyn Rows>, revision: Revision) -> View {
        View { rows, revision }
    }

    /// The last change that this view contains.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// One record.
    pub fn get<T: Record>(&self, partition: &str, id: &str) -> Result<Option<Stored<T>>, ReadError> {
        let key = Key::new(T::TABLE, partition, id);
        self.rows.get(&key.row())?.map(|stored| decoded(&key, &stored)).transpose()
    }

    /// All records of a partition, in the order of their ids.
    pub fn list<T: Record>(&self, partition: &str) -> Result<Vec<Stored<T>>, ReadError> {
        self.scan(&row::partition_prefix(T::TABLE, partition))
    }

    /// All records of a table, in the order of partition and id.
    pub fn list_all<T: Record>(&self) -> Result<Vec<Stored<T>>, ReadError> {
        self.scan(&row::table_prefix(T::TABLE))
    }

    /// The first `limit` records of a partition behind the id `after`, in the order of their ids.
    pub fn page<T: Record>(
        &self,
        partition: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Stored<T>>, ReadError> {
        let prefix = row::partition_prefix(T::TABLE, partition);
        // No id lies between an id and the same with a zero byte.
        let from = if after.is_empty() { prefix.clone() } else { [&prefix, after.as_bytes(), &[0]].concat() };
        decoded_all(&self.rows.scan_from(&prefix, &from, limit)?)
    }

    /// The partitions of a table that have records, in order. Costs one look into the table for each of them.
    pub fn partitions<T: Record>(&self) -> Result<Vec<String>, ReadError> {
        let prefix = row::table_prefix(T::TABLE);
        let (mut from, mut partitions) = (prefix.clone(), vec![]);
        while let Some((row, _)) = self.rows.scan_from(&prefix, &from, 1)?.pop() {
            let key = Key::parse(&row).ok_or_else(|| ReadError::malformed("key"))?;
            // Rows of the partition go on with the separator, which is zero, and those of the next with a letter.
            from = [&prefix, key.partition.as_bytes(), &[1]].concat();
            partitions.push(key.partition);
        }
        Ok(partitions)
    }

    /// When anything in a partition of a table was changed last; zero if nothing ever was. Whoever has read the partition
    /// at this revision or later need not read it again.
    pub fn changed_at<T: Record>(&self, partition: &str) -> Result<Revision, ReadError> {
        revision_of(&*self.rows, &row::partition(T::TABLE, partition))
    }

    /// The first answer to a request, if it was answered in the last 24 hours: its revision, and the answer's bytes.
    pub fn answered(&self, request: RequestId) -> Result<Option<(Revision, Vec<u8>)>, ReadError> {
        let Some(stored) = self.rows.get(&row::request(&request.bytes()))? else {
            return Ok(None);
        };
        let (revision, remembered) =
            Remembered::stored(&stored).ok_or_else(|| ReadError::malformed("request row"))?;
        Ok(Some((revision, remembered.answer)))
    }

    pub(crate) fn stored(&self, row: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.rows.get(row)
    }

    fn scan<T: Record>(&self, prefix: &[u8]) -> Result<Vec<Stored<T>>, ReadError> {
        decoded_all(&self.rows.scan(prefix, usize::MAX)?)
    }
}

fn decoded_all<T: Record>(found: &[Row]) -> Result<Vec<Stored<T>>, ReadError> {
    found.iter().map(|(row, stored)| decoded(&NameOf(row), stored)).collect()
}

/// An object by the row that it lies in; read only when there is something to complain about, because taking a key apart
/// costs as much as a tenth of what reading a record does.
struct NameOf<'a>(&'a [u8]);

impl std::fmt::Display for NameOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Key::parse(self.0) {
            Some(key) => key.fmt(f),
            None => f.write_str("a row without a key"),
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// A record's value as it is stored: a format byte, then JSON. Self-describing, so that fields can be added and
/// old readers skip them; readable with any tool when something has gone wrong.
pub(crate) fn encode<T: Record>(record: &T) -> Vec<u8> {
    let mut bytes = vec![RECORD_FORMAT];
    // Records are plain data with string keys; serializing them has nothing that can fail.
    serde_json::to_writer(&mut bytes, record).expect("a record serializes");
    bytes
}

pub(crate) fn decode<T: Record>(key: &impl std::fmt::Display, value: &[u8]) -> Result<T, ReadError> {
    match value.split_first() {
        Some((&RECORD_FORMAT, json)) => {
            serde_json::from_slice(json).map_err(|error| ReadError(format!("{key}: {error}")))
        }
        Some((format, _)) => Err(ReadError(format!("{key}: format {format} is newer than this version"))),
        None => Err(ReadError(format!("{key}: empty value"))),
    }
}

pub(crate) fn decoded<T: Record>(
    key: &impl std::fmt::Display,
    stored: &[u8],
) -> Result<Stored<T>, ReadError> {
    let (revision, value) = row::unstamp(stored).ok_or_else(|| ReadError(format!("{key}: no revision")))?;
    Ok(Stored { record: decode(key, value)?, revision })
}
