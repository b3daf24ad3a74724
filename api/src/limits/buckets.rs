//! Rates: each of those who ask has a bucket that fills evenly, and every request takes something out of it.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::Standing;

/// After so many requests full buckets are forgotten: no more of them are kept than this, and those that are in use.
const SWEPT_EVERY: u32 = 1_024;

/// Whether something was taken; if not, when there will be.
pub(super) type Taken = Result<(), Duration>;

/// One bucket for each key.
pub(super) struct Buckets<K: Hash + Eq + Clone, C: Clock = DefaultClock> {
    name: &'static str,
    quota: NonZeroU32,
    window_seconds: u32,
    limiter: RateLimiter<K, HashMapStateStore<K>, C, StateInformationMiddleware>,
    taken: AtomicU32,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Buckets with room for `quota`, which fill within `window_seconds`; `None` if there is no limit.
    pub(super) fn new(name: &'static str, quota: u32, window_seconds: u32) -> Option<Buckets<K>> {
        Buckets::with_clock(name, quota, window_seconds, DefaultClock::default())
    }
}

impl<K: Hash + Eq + Clone, C: Clock> Buckets<K, C> {
    fn with_clock(name: &'static str, quota: u32, window_seconds: u32, clock: C) -> Option<Buckets<K, C>> {
        let quota = NonZeroU32::new(quota)?;
        let fills = Quota::with_period(Duration::from_secs(window_seconds.into()) / quota.get())?;
        let limiter = RateLimiter::new(fills.allow_burst(quota), HashMapStateStore::default(), clock);
        Some(Buckets { name, quota, window_seconds, limiter, taken: AtomicU32::new(0) })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Takes one out of somebody's bucket, if there is one.
    pub(super) fn take(&self, key: &K) -> (Standing, Taken) {
        if self.taken.fetch_add(1, Ordering::Relaxed) % SWEPT_EVERY == SWEPT_EVERY - 1 {
            self.limiter.retain_recent();
        }
        let (remaining, taken) = match self.limiter.check_key(key) {
            Ok(left) => (left.remaining_burst_capacity(), Ok(())),
            Err(until) => (0, Err(until.wait_time_from(self.limiter.clock().now()))),
        };
        let Buckets { name, quota, window_seconds, .. } = *self;
        (Standing { name, quota: quota.get(), window_seconds, remaining }, taken)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn buckets(quota: u32, window_seconds: u32) -> (Buckets<String, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let buckets = Buckets::with_clock("writes", quota, window_seconds, clock.clone());
        (buckets.expect("is a limit"), clock)
    }

    #[test]
    fn a_bucket_empties_and_fills_and_nobody_empties_anothers() {
        let (buckets, clock) = buckets(10, 5);
        let (ann, ben) = ("ann".to_owned(), "ben".to_owned());
        let left: Vec<_> = (0..10).map(|_| buckets.take(&ann)).collect();
        assert!(left.iter().all(|(_, taken)| taken.is_ok()), "{left:?}");
        assert_eq!((left[0].0.remaining, left[9].0.remaining), (9, 0));
        let (standing, refused) = buckets.take(&ann);
        assert_eq!((standing.remaining, refused), (0, Err(Duration::from_millis(500))));
        assert!(buckets.take(&ben).1.is_ok());
        clock.advance(Duration::from_millis(500));
        assert!(buckets.take(&ann).1.is_ok(), "a tenth of five seconds later there is one");
        assert!(buckets.take(&ann).1.is_err(), "and no second one");
        clock.advance(Duration::from_secs(60));
        assert_eq!(buckets.take(&ann).0.remaining, 9, "it never has room for more");
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let (buckets, clock) = buckets(10, 5);
        for number in 0..10 * SWEPT_EVERY {
            // Each is full again by the time the next ones come.
            clock.advance(Duration::from_millis(500));
            buckets.take(&number.to_string()).1.expect("is the first of its own");
        }
        assert!(buckets.limiter.len() <= SWEPT_EVERY as usize, "{} are kept", buckets.limiter.len());
    }

    #[test]
    fn nothing_is_no_limit() {
        assert!(Buckets::<String>::new("writes", 0, 5).is_none());
    }
}
