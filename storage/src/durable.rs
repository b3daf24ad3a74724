//! Remembers, beside the database, which write was the last that was acknowledged as durable, and how many votes there were.
//!
//! Why it is needed: after a crash the write-ahead log is read up to the first record that is not whole, and
//! the rest is dropped without a word. That is right for a torn end that nobody was promised, and wrong if
//! a bit flipped or the file was cut in the middle: acknowledged votes and entries would be gone and the
//! replica would vote again. With the number of the last durable write the two can be told apart.
//!
//! Why votes are counted by themselves: a vote is written seldom, so it may lie in a table file of which only the database's list of
//! files knows. If that list is cut between two of its records, the database opens with everything newer and an older vote.
//!
//! Why the length of that list is remembered: when the database is opened, each table is written to a file of its own and
//! listed by itself, and the write-ahead log goes. With the last of these records cut off, one table would be as it was before.
//!
//! Why it costs no sync: the number is written only after the sync it speaks of. If a power cut takes the
//! newest number, an older one remains, and that one is true as well.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::disk::locked;
use crate::error::{Result, StorageError};

/// The number and its complement, so that a mark that was never completely written is recognised.
const MARK_BYTES: usize = 16;

/// How much of the database's list of its files there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileList {
    /// The number in its name; a later list has a higher one.
    pub(crate) number: u32,
    pub(crate) bytes: u32,
}

/// The file with the number of the last durable write, the number of durable votes, and how long the list of files was.
pub(crate) struct DurableMark {
    file: File,
    path: PathBuf,
    writes: Number,
    votes: Number,
    /// See [`FileList`]: the number, then the bytes, so that it only grows.
    list: Number,
}

/// One number in the file.
struct Number {
    offset: u64,
    last: Mutex<Option<u64>>,
}

impl DurableMark {
    /// Opens or creates the mark in a store's folder.
    pub(crate) fn open(dir: &Path) -> Result<DurableMark> {
        let path = dir.join("durable");
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(StorageError::io("open the durability mark", &path))?;
        let number = |offset| {
            let mut bytes = [0; MARK_BYTES];
            // A short file is one in which it was never written: there was nothing durable yet.
            let last = file.read_exact_at(&mut bytes, offset).ok().and_then(|()| decode(bytes));
            Number { offset, last: Mutex::new(last) }
        };
        let [writes, votes, list] = [0, 1, 2].map(|place| number(place * MARK_BYTES as u64));
        Ok(DurableMark { file, path, writes, votes, list })
    }

    /// The last write that was acknowledged as durable, as far as is known.
    pub(crate) fn last(&self) -> Option<u64> {
        *locked(&self.writes.last)
    }

    /// How many votes were acknowledged as durable, as far as is known.
    pub(crate) fn votes(&self) -> Option<u64> {
        *locked(&self.votes.last)
    }

    /// Notes that all writes up to `sequence` are durable.
    pub(crate) fn advance(&self, sequence: u64) {
        self.note(&self.writes, sequence);
    }

    /// Notes that so many votes are durable.
    pub(crate) fn advance_votes(&self, votes: u64) {
        self.note(&self.votes, votes);
    }

    /// How long the list of files was when the database was opened last.
    pub(crate) fn list(&self) -> Option<FileList> {
        let list = (*locked(&self.list.last))?;
        Some(FileList { number: (list >> 32) as u32, bytes: list as u32 })
    }

    /// Notes how long the list of files is.
    pub(crate) fn advance_list(&self, list: FileList) {
        self.note(&self.list, u64::from(list.number) << 32 | u64::from(list.bytes));
    }

    fn note(&self, number: &Number, value: u64) {
        let mut last = locked(&number.last);
        if last.is_some_and(|known| known >= value) {
            return;
        }
        *last = Some(value);
        // Only the alarm gets weaker without it, the data is safe: no reason to stop.
        if let Err(error) = self.file.write_all_at(&encode(value), number.offset) {
            tracing::warn!(path = %self.path.display(), %error, "the durability mark could not be written");
        }
    }
}

fn encode(sequence: u64) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    bytes[8..].copy_from_slice(&(!sequence).to_be_bytes());
    bytes
}

fn decode(bytes: [u8; MARK_BYTES]) -> Option<u64> {
    let both = u128::from_be_bytes(bytes);
    let sequence = (both >> 64) as u64;
    (both as u64 == !sequence).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_remembered_and_never_goes_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let mark = DurableMark::open(dir.path()).expect("a mark");
        assert_eq!(mark.last(), None);
        mark.advance(7);
        mark.advance(3);
        mark.advance_votes(2);
        mark.advance_list(FileList { number: 9, bytes: 100 });
        mark.advance_list(FileList { number: 10, bytes: 50 });
        mark.advance_list(FileList { number: 10, bytes: 49 });
        let again = DurableMark::open(dir.path()).expect("the mark again");
        assert_eq!((again.last(), again.votes()), (Some(7), Some(2)));
        assert_eq!(again.list(), Some(FileList { number: 10, bytes: 50 }));
    }

    #[test]
    fn half_a_mark_says_nothing() {
        let mut bytes = encode(7);
        bytes[12] ^= 1;
        assert_eq!(decode(bytes), None);
        assert_eq!(decode([0; MARK_BYTES]), None);
    }
}
