//! A thread of its own for what managers agree on: Raft, and the connections between managers.
//!
//! Each message of an agreement passes through many small tasks. On one thread they follow each other without waking
//! anybody; and however busy the doors are, heartbeats are answered.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// Its tasks end where they next wait for something; one that does not is left alone.
const END_MAX: Duration = Duration::from_secs(5);

/// The runtime with this one thread. It ends with the value.
pub(crate) struct Agreement(Option<Runtime>);

impl Agreement {
    pub(crate) fn start() -> Result<Agreement> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("agreement")
            .enable_all()
            .build()
            .context("starting the thread of the agreement")?;
        Ok(Agreement(Some(runtime)))
    }

    /// Where to start tasks.
    pub(crate) fn handle(&self) -> Result<&Handle> {
        self.0.as_ref().map(Runtime::handle).context("the thread of the agreement has ended")
    }
}

impl Drop for Agreement {
    fn drop(&mut self) {
        // Waited for: whatever still has the database open when the process ends would find it half taken down. By a
        // thread of its own, because waiting is not allowed where this is dropped.
        if let Some(runtime) = self.0.take() {
            let ending = std::thread::spawn(move || runtime.shutdown_timeout(END_MAX));
            // It cannot panic, and nothing could be done about it here.
            let _ = ending.join();
        }
    }
}
