//! A thread of its own for what managers agree on: Raft, and the connections between managers.
//!
//! Each message of an agreement passes through many small tasks. On one thread they follow each other without waking
//! anybody; and however busy the doors are, heartbeats are answered.

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Handle, Runtime};

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
        // Waiting for its tasks is for those who started them, and not allowed where this is dropped.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
