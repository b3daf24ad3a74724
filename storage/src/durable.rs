//! Remembers, beside the database, which write was the last that was acknowledged as durable.
//!
//! Why it is needed: after a crash the write-ahead log is read up to the first record that is not whole, and
//! the rest is dropped without a word. That is right for a torn end that nobody was promised, and wrong if
//! a bit flipped or the file was cut in the middle: acknowledged votes and entries would be gone and the
//! replica would vote again. With the number of the last durable write the two can be told apart.
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

/// The file with the number of the last durable write.
pub(crate) struct DurableMark {
    file: File,
    path: PathBuf,
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
        let mut bytes = [0; MARK_BYTES];
        // A short file is one that was created and never written: there was no durable write yet.
        let last = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| decode(bytes));
        Ok(DurableMark { file, path, last: Mutex::new(last) })
    }

    /// The last write that was acknowledged as durable, as far as is known.
    pub(crate) fn last(&self) -> Option<u64> {
        *locked(&self.last)
    }

    /// Notes that all writes up to `sequence` are durable.
    pub(crate) fn advance(&self, sequence: u64) {
        let mut last = locked(&self.last);
        if last.is_some_and(|known| known >= sequence) {
            return;
        }
        *last = Some(sequence);
        // Only the alarm gets weaker without it, the data is safe: no reason to stop.
        if let Err(error) = self.file.write_all_at(&encode(sequence), 0) {
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
        assert_eq!(DurableMark::open(dir.path()).expect("the mark again").last(), Some(7));
    }

    #[test]
    fn half_a_mark_says_nothing() {
        let mut bytes = encode(7);
        bytes[12] ^= 1;
        assert_eq!(decode(bytes), None);
        assert_eq!(decode([0; MARK_BYTES]), None);
    }
}
