//! What lasts: how many of them somebody has at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

type Counts<K> = Arc<Mutex<HashMap<K, u32>>>;

/// Who has how many; whoever has none is not in it.
#[derive(Debug)]
pub struct Seats<K: Hash + Eq + Clone> {
    limit: u32,
    counts: Counts<K>,
}

/// One of somebody's places; given back when it is dropped.
#[derive(Debug)]
pub struct Seat<K: Hash + Eq>(Option<(Counts<K>, K)>);

impl<K: Hash + Eq> Default for Seat<K> {
    /// One that is nobody's, and is not counted.
    fn default() -> Seat<K> {
        Seat(None)
    }
}

impl<K: Hash + Eq + Clone> Seats<K> {
    /// At most so many for each; 0: as many as they like.
    pub fn new(limit: u32) -> Seats<K> {
        Seats { limit, counts: Counts::default() }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// One more for somebody, if there may be.
    pub fn take(&self, who: &K) -> Option<Seat<K>> {
        if self.limit == 0 {
            return Some(Seat::default());
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = counts.get(who).copied().unwrap_or(0);
        if taken >= self.limit {
            return None;
        }
        counts.insert(who.clone(), taken + 1);
        Some(Seat(Some((self.counts.clone(), who.clone()))))
    }
}

impl<K: Hash + Eq> Drop for Seat<K> {
    fn drop(&mut self) {
        let Some((counts, who)) = self.0.take() else { return };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&who) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&who)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_so_many_and_what_is_given_back_can_be_taken_again() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take(&"ann"), seats.take(&"ann"));
        assert!(first.is_some() && second.is_some() && seats.take(&"ann").is_none());
        let other = seats.take(&"ben");
        assert!(other.is_some());
        drop(first);
        let third = seats.take(&"ann");
        assert!(third.is_some());
        drop((second, third, other));
        assert!(seats.counts.lock().expect("nobody has panicked").is_empty(), "nobody is remembered");
    }

    #[test]
    fn nothing_is_no_limit() {
        let seats = Seats::new(0);
        let all: Vec<_> = (0..100).map(|_| seats.take(&"ann")).collect();
        assert!(all.iter().all(Option::is_some));
    }
}
