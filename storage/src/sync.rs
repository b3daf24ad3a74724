//! The thread that writes appended entries and makes them durable: one sync for all that are waiting.
//!
//! Why it also writes them: who appends has other managers to tell, whose disks take as long as this one.
//!
//! While one sync is in flight, the next appends gather; together they share the one after it. Callbacks
//! are called in the order of their appends, because a callback claims everything before it as well.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use crate::disk::Disk;
use crate::error::{Result, StorageError};

/// What is called when an append is durable, or will never be known to be.
pub(crate) type Callback = Box<dyn FnOnce(Result<()>) + Send>;

/// Bounds how long the first of those who share a sync waits for the others to be collected.
const CALLBACKS_PER_SYNC_MAX: usize = 4096;

/// A handle on the thread. Dropping it waits until every callback was called.
pub(crate) struct SyncThread {
    waiting: Option<Sender<Callback>>,
    thread: Option<JoinHandle<()>>,
}

impl SyncThread {
    pub(crate) fn start(disk: Arc<Disk>) -> Result<SyncThread> {
        let (waiting, callbacks) = mpsc::channel();
        let dir = disk.dir().clone();
        let thread = thread::Builder::new()
            .name("storage-sync".to_owned())
            .spawn(move || run(&disk, &callbacks))
            .map_err(StorageError::io("start the sync thread", &dir))?;
        Ok(SyncThread { waiting: Some(waiting), thread: Some(thread) })
    }

    /// Has `callback` called after the next sync.
    pub(crate) fn when_durable(&self, callback: Callback) {
        // The thread ends only by a panic in a callback; then the store is stopped and says so to the next.
        if let Some(waiting) = &self.waiting {
            let _ = waiting.send(callback);
        }
    }
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        self.waiting = None;
        if let Some(thread) = self.thread.take() {
            // A callback may hold the last handle on the store; the thread cannot wait for itself.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

fn run(disk: &Disk, waiting: &Receiver<Callback>) {
    let _guard = StopOnPanic(disk);
    while let Ok(first) = waiting.recv() {
        let others = waiting.try_iter().take(CALLBACKS_PER_SYNC_MAX - 1);
        let callbacks: Vec<Callback> = std::iter::once(first).chain(others).collect();
        let synced = disk.sync_unmarked("sync the log");
        for callback in callbacks {
            callback(synced.clone().map(|_| ()));
        }
        // Whoever waits need not wait for this as well.
        if let Ok(synced) = synced {
            disk.mark(synced);
        }
    }
}

/// Without the thread no append would ever be answered; better to refuse them.
struct StopOnPanic<'a>(&'a Disk);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop("a callback of the sync thread panicked".to_owned());
        }
    }
}
