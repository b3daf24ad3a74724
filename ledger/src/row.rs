//! How keys lie in the ordered rows of the replicated state.
//!
//! Objects are `d table 0 partition 0 id`; each write also stamps `p table 0 partition` and `t table`, so that
//! "nothing in this partition has changed" is a check like any other. Request rows (`r id`) remember outcomes, and
//! `e time id` orders them by age. Every row begins with the revision of its last change, eight bytes big endian.

use crate::Revision;

/// Where an object lives: `table / partition / id`. A partition is an environment, or the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The noun, e.g. `host`.
    pub table: String,
    /// What the object belongs to.
    pub partition: String,
    /// The object's own id or name.
    pub id: String,
}

impl Key {
    /// A key from its three parts; none of them may contain a zero byte.
    pub fn new(table: &str, partition: &str, id: &str) -> Key {
        debug_assert!(
            [table, partition, id].iter().all(|part| !part.contains('\0')),
            "a key part contains the separator"
        );
        Key { table: table.into(), partition: partition.into(), id: id.into() }
    }

    pub(crate) fn row(&self) -> Vec<u8> {
        joined(b'd', &[&self.table, &self.partition, &self.id])
    }

    /// The key of an object's row, or `None` for bookkeeping rows.
    pub(crate) fn parse(row: &[u8]) -> Option<Key> {
        let [table, partition, id] = parts(row)?;
        Some(Key::new(table, partition, id))
    }
}

/// Table, partition and id of an object's row, or `None` for bookkeeping rows.
fn parts(row: &[u8]) -> Option<[&str; 3]> {
    let text = std::str::from_utf8(row.strip_prefix(b"d")?).ok()?;
    let (table, rest) = text.split_once('\0')?;
    let (partition, id) = rest.split_once('\0')?;
    (!id.contains('\0')).then_some([table, partition, id])
}

/// The rows that a change of this one stamps: those of its partition and of its table; `None` for bookkeeping rows.
pub(crate) fn stamps(row: &[u8]) -> Option<[Vec<u8>; 2]> {
    let [of_table, of_partition, _] = parts(row)?;
    Some([partition(of_table, of_partition), table(of_table)])
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.table, self.partition, self.id)
    }
}

/// The table of an object's row, for those who count rows without reading them; `None` for bookkeeping rows.
pub fn table_of(row: &[u8]) -> Option<&str> {
    let end = row.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(row.get(..end)?.strip_prefix(b"d")?).ok()
}

/// The row stamped by every change in a partition of a table.
pub(crate) fn partition(table: &str, partition: &str) -> Vec<u8> {
    joined(b'p', &[table, partition])
}

/// The row stamped by every change in a table.
pub(crate) fn table(table: &str) -> Vec<u8> {
    joined(b't', &[table])
}

/// Start of all objects of a partition.
pub(crate) fn partition_prefix(table: &str, partition: &str) -> Vec<u8> {
    joined(b'd', &[table, partition, ""])
}

/// Start of all objects of a table.
pub(crate) fn table_prefix(table: &str) -> Vec<u8> {
    joined(b'd', &[table, ""])
}

/// The row that remembers the outcome of a request.
pub(crate) fn request(id: &[u8]) -> Vec<u8> {
    [b"r", id].concat()
}

/// Start of the rows that order requests by age.
pub(crate) const REQUEST_AGES: &[u8] = b"e";

/// The row that orders requests by age.
pub(crate) fn request_age(at_ms: i64, id: &[u8]) -> Vec<u8> {
    [REQUEST_AGES, &at_ms.to_be_bytes(), id].concat()
}

/// Time and id of a [`request_age`] row.
pub(crate) fn parse_request_age(row: &[u8]) -> Option<(i64, &[u8])> {
    let (at, id) = row.strip_prefix(REQUEST_AGES)?.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*at), id))
}

/// Prefixes a value with the revision that wrote it.
pub(crate) fn stamp(revision: Revision, value: &[u8]) -> Vec<u8> {
    [revision.to_be_bytes().as_slice(), value].concat()
}

/// Splits a stored row into revision and value.
pub(crate) fn unstamp(stored: &[u8]) -> Option<(Revision, &[u8])> {
    let (revision, value) = stored.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*revision), value))
}

fn joined(kind: u8, parts: &[&str]) -> Vec<u8> {
    let mut row = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for (part, before) in parts.iter().zip([kind].into_iter().chain(std::iter::repeat(0))) {
        row.push(before);
        row.extend_from_slice(part.as_bytes());
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_row() {
        let key = Key::new("host", "env_1", "host_2");
        assert_eq!(Key::parse(&key.row()), Some(key));
        assert_eq!(Key::parse(&partition("host", "env_1")), None);
        assert_eq!(Key::parse(b"dhost\0env_1\0host_2\0more"), None);
        assert_eq!(table_of(&Key::new("host", "env_1", "host_2").row()), Some("host"));
        assert_eq!(table_of(&partition("host", "env_1")), None);
    }

    #[test]
    fn an_object_stamps_its_partition_and_its_table() {
        let row = Key::new("host", "env_1", "host_2").row();
        assert_eq!(row, b"dhost\0env_1\0host_2");
        assert_eq!(stamps(&row), Some([b"phost\0env_1".to_vec(), b"thost".to_vec()]));
        assert_eq!(stamps(&request(b"id")), None);
    }

    #[test]
    fn a_partition_prefix_does_not_match_a_longer_name() {
        let other = Key::new("host", "env_10", "h").row();
        assert!(!other.starts_with(&partition_prefix("host", "env_1")));
        assert!(!Key::new("hosts", "e", "h").row().starts_with(&table_prefix("host")));
    }
}
