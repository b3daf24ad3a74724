//! Random values for keys, session names and jitter, from the one crypto provider we use.

/// `N` random bytes.
///
/// # Panics
/// Only if the operating system has no randomness to give; nothing can be trusted then.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system provides randomness");
    bytes
}

/// A random name of 32 hexadecimal digits.
pub fn name() -> String {
    hex(&bytes::<16>())
}

/// A random number below `bound` (0 if `bound` is 0). For jitter and shuffling, not for keys: the
/// remainder favours small numbers by less than one part in a billion for the bounds we use.
pub fn below(bound: u64) -> u64 {
    u64::from_le_bytes(bytes()).checked_rem(bound).unwrap_or(0)
}

/// Puts the items in a random order.
pub fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let other = below(last as u64 + 1) as usize;
        items.swap(last, other);
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
