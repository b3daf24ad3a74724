//! A way to interrupt the store at every point where it touches the disk.
//!
//! Why it is public: whether acknowledged data survives can only be shown by dying, or by failing, between
//! any two steps. Tests of this crate and of whole clusters do that through this trait; production opens the
//! store with [`crate::Store::open`], whose observer does nothing.

use std::io;

/// Is told about every step that changes the disk. Called from whichever thread takes the step.
pub trait Observer: Send + Sync + 'static {
    /// Called before `step` is taken. An error makes the step fail as if the disk had refused it.
    ///
    /// # Errors
    /// Whatever the disk is to be blamed for.
    fn before(&self, step: &'static str) -> io::Result<()> {
        let _ = step;
        Ok(())
    }

    /// Called after `step`, a sync of the write-ahead log: all writes that had been made when `before` was
    /// called for it are durable.
    fn synced(&self, step: &'static str) {
        let _ = step;
    }
}

/// Looks on and says nothing.
pub(crate) struct Silent;

impl Observer for Silent {}
