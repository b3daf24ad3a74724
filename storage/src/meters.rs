//! What the store measures of itself: how long appends and syncs take, and how large it is.
//!
//! Plain counters, so that nothing here depends on how somebody shows them. Counting costs a look at the clock and
//! three additions, next to a sync of the disk.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::{Result, StorageError};
use crate::store::Store;

/// Upper bounds of the classes of durations: from a fast disk's sync to a disk in trouble.
pub const BUCKET_BOUNDS_SECONDS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025_6, 0.1, 0.4, 1.6,
    6.4,
];

/// What a store has measured since it was opened.
#[derive(Debug, Default)]
pub struct Meters {
    /// From the call of `append` until its entries are durable.
    pub append: Timings,
    /// Syncs of the write-ahead log, for whatever they were made.
    pub sync: Timings,
}

/// Durations by class.
#[derive(Debug, Default)]
pub struct Timings {
    /// The last class is for everything beyond the bounds.
    counts: [AtomicU64; BUCKET_BOUNDS_SECONDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// [`Timings`] at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub sum_seconds: f64,
    /// Each class with its upper bound; the last bound is infinite. A duration counts in one class only.
    pub classes: Vec<(f64, u64)>,
}

/// How much a store keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// All files of the database, the write-ahead log included.
    pub database_bytes: u64,
    /// The write-ahead log.
    pub wal_bytes: u64,
    /// Entries of the log that are not purged.
    pub log_entries: u64,
    /// When the newest snapshot was made.
    pub snapshot_at: Option<SystemTime>,
}

impl Timings {
    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let class = BUCKET_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        self.counts[class].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn distribution(&self) -> Distribution {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = BUCKET_BOUNDS_SECONDS.iter().copied().chain([f64::INFINITY]);
        let classes: Vec<_> = bounds.zip(counts).collect();
        Distribution {
            count: classes.iter().map(|(_, count)| count).sum(),
            sum_seconds: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64(),
            classes,
        }
    }
}

impl Store {
    /// What was measured since the store was opened.
    pub fn meters(&self) -> &Meters {
        self.inner.disk.meters()
    }

    /// How much is kept. Looks at the folder; a few dozen files.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn sizes(&self) -> Result<Sizes> {
        let doing = "measure the store";
        let folder = self.inner.disk.dir().join("db");
        let mut sizes = Sizes { log_entries: self.inner.log.entry_count(), ..Sizes::default() };
        for entry in fs::read_dir(&folder).map_err(StorageError::io(doing, &folder))? {
            let entry = entry.map_err(StorageError::io(doing, &folder))?;
            // RocksDB removes files at any time; one that is gone takes no space.
            let Ok(about) = entry.metadata() else { continue };
            sizes.database_bytes += about.len();
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                sizes.wal_bytes += about.len();
            }
        }
        sizes.snapshot_at = self.snapshot_at();
        Ok(sizes)
    }

    fn snapshot_at(&self) -> Option<SystemTime> {
        let snapshots = fs::read_dir(self.inner.disk.dir().join("snapshots")).ok()?;
        let finished = snapshots
            .filter_map(std::result::Result::ok)
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u64>().is_ok()));
        finished.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_class_that_holds_it() {
        let timings = Timings::default();
        for nanoseconds in [0, 50_000, 50_001, 7_000_000_000] {
            timings.observe(Duration::from_nanos(nanoseconds));
        }
        let seen = timings.distribution();
        assert_eq!((seen.count, seen.classes[0].1, seen.classes[1].1), (4, 2, 1));
        assert_eq!(seen.classes.last(), Some(&(f64::INFINITY, 1)));
        assert!((seen.sum_seconds - 7.000_100_001).abs() < 1e-6);
    }
}
