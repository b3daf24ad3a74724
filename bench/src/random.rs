//! Numbers that look random and are the same in every run, so that both systems are asked for the same keys.

/// A sequence; Sebastiano Vigna's "splitmix64".
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of that number.
    pub(crate) fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Bytes that no compression makes smaller.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_repeats_itself_and_stays_below_its_bound() {
        let (mut one, mut other) = (Random::seeded(5), Random::seeded(5));
        assert_eq!(one.bytes(32), other.bytes(32));
        assert!((0..1_000).all(|_| one.below(10) < 10));
    }
}
