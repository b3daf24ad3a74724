//! The keys of writes, by which managers know again what they have done already.

use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::Client;

/// FNV-1a with 64 bits: it is the same in every version, and nobody gains by finding two texts that are one.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The random bits of a key that tell the parts of a command apart, above those that count the writes of a part.
const PART_MASK: u64 = 0x0000_ffff_ffff_ff00;

impl Client {
    /// The key of the write that has been sent and not answered, if there is one.
    pub(crate) fn write_under_way(&self) -> Option<Uuid> {
        self.shared.write_under_way.load(Ordering::SeqCst).then_some(self.shared.key)
    }

    /// The nth write of an invocation has the nth neighbour of its key, so that repeating the whole command with
    /// `--idempotency-key` repeats every key. Only random bits change: it stays a version 7 UUID.
    pub(super) fn next_key(&self) -> Uuid {
        let number = self.shared.writes.fetch_add(1, Ordering::SeqCst);
        Uuid::from_u128(self.shared.key.as_u128() ^ number as u128)
    }

    /// From now on writes are about this, and their keys are made for it: a command that is repeated with
    /// `--idempotency-key` and finds a part of its work done uses the same keys for the rest.
    pub(crate) fn begin_part(&self, about: &str) {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        let hash = about.bytes().fold(FNV_BASIS, mix);
        self.shared.writes.store((hash & PART_MASK) as usize, Ordering::SeqCst);
    }
}
