//! How statistics are packed, and how many of them there can be: what both ends of the request must hold to.
//!
//! A value travels as itself plus one, so that zero is left for "not known": a gap costs one byte, and can be taken for no
//! measured value.

use std::time::Duration;

/// How often a host is looked at: often enough to see what people feel, seldom enough to cost nothing.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// Samples of one hour. What is older belongs into a system for metrics.
pub const SAMPLES_MAX: usize = 360;

/// Containers of one host of which statistics are kept, running and ended together: beyond what an engine runs well, and
/// with all their samples 3 MiB of memory.
pub const CONTAINERS_SAMPLED_MAX: usize = 200;

/// The form in which a value travels; `None` is a gap.
pub fn packed(value: Option<u64>) -> u64 {
    // The largest number loses one, which nobody counts.
    value.map_or(0, |value| value.saturating_add(1))
}

/// What was packed.
pub fn unpacked(packed: u64) -> Option<u64> {
    packed.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_never_taken_for_zero() {
        for value in [None, Some(0), Some(1), Some(u64::MAX - 1)] {
            assert_eq!(unpacked(packed(value)), value);
        }
        assert_eq!((packed(None), unpacked(packed(Some(u64::MAX)))), (0, Some(u64::MAX - 1)));
    }
}
