//! The log grows until what a snapshot has can go.
//!
//! After how many entries that happens is openraft's business. Large entries would fill the disk long before, so their
//! bytes are counted here.

use std::sync::atomic::{AtomicUsize, Ordering};

use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::mpsc;

use crate::replica::Replica;
use crate::types::LogId;

/// Bytes of entries after which a snapshot is taken, however few entries they are.
const SNAPSHOT_EVERY_BYTES: usize = 64 * 1024 * 1024;

/// Counts what is appended.
pub(crate) struct Growth {
    bytes: AtomicUsize,
    grown: mpsc::Sender<LogId>,
}

/// Up to which entry the log should go, each time that it has grown.
pub(crate) type Grown = mpsc::Receiver<LogId>;

impl Growth {
    pub(crate) fn watched() -> (Growth, Grown) {
        let (grown, told) = mpsc::channel(1);
        (Growth { bytes: AtomicUsize::new(0), grown }, told)
    }

    /// So many bytes are in the log now, and up to `dispensable` nobody is likely to read them again.
    pub(crate) fn appended(&self, bytes: usize, dispensable: Option<LogId>) {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes < SNAPSHOT_EVERY_BYTES {
            return;
        }
        self.bytes.store(0, Ordering::Relaxed);
        if let Some(dispensable) = dispensable {
            // If the last time is not dealt with yet, the next one will do.
            let _ = self.grown.try_send(dispensable);
        }
    }
}

impl Replica {
    /// Lets go what is in a snapshot whenever the log has grown, until the log is closed.
    pub(crate) fn keep_log_small(&self, mut grown: Grown) {
        let replica = self.downgrade();
        tokio::spawn(async move {
            while let Some(dispensable) = grown.recv().await {
                let Some(replica) = replica.upgrade() else { return };
                // What is not applied is in no snapshot, and asking for one again and again would not help.
                let applied = replica.raft().metrics().borrow_watched().last_applied;
                let Some(dispensable) = applied.map(|applied| applied.min(dispensable)) else { continue };
                if let Err(error) = replica.let_go(dispensable).await {
                    tracing::warn!(%error, "the log has grown and cannot be made smaller yet");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_for_so_many_bytes() {
        let (growth, mut grown) = Growth::watched();
        let at = |index| Some(LogId::new_term_index(1, index));
        growth.appended(SNAPSHOT_EVERY_BYTES - 1, at(1));
        assert!(grown.try_recv().is_err());
        growth.appended(1, at(2));
        assert_eq!(grown.try_recv().ok(), at(2));
        growth.appended(1, at(3));
        assert!(grown.try_recv().is_err(), "counted anew");
    }
}
