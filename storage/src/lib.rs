//! What a manager keeps on its disk: vote, log, state tables and snapshots, as bytes.
//!
//! Why a crate of its own: the promises about what survives a crash are made here and nowhere else, so they
//! can be read, broken on purpose and tested without knowing what the bytes mean. There is no domain word in
//! it, no consensus and no network; those who know what the bytes say live above.
//!
//! One RocksDB with one write-ahead log holds everything. That is the heart of it: with one log, whatever
//! survives a power cut is a *prefix* of what was written, so a vote can never be lost while a later entry
//! stays, and a row never parts from the position it belongs to.
//!
//! ```text
//!   <dir>/lock        held while a process has the store open
//!   <dir>/db/         the database
//!   <dir>/durable     the last write that was acknowledged as durable (see `durable.rs`)
//!   <dir>/condemned   why the store must not be used any more, if so (see `recovery.rs`)
//!   <dir>/snapshots/  checkpoints of the whole database, one folder each, the newest counts
//! ```
//!
//! | call | when is it durable |
//! |---|---|
//! | `save_vote`, `begin_epoch`, `truncate_after`, `purge`, `Staging::install`, `checkpoint` | before it returns |
//! | `append` | readable on return, durable when its callback is called |
//! | `apply` | with the next of the above |
//! | `save_committed` | with the next `append` or `apply` |
//!
//! A write or sync that fails is never tried again: what a disk kept of it cannot be known. From then on
//! every call answers [`StorageError::Poisoned`], and the process is expected to end.
//!
//! All calls block; async callers use a thread of their own or `spawn_blocking`.

mod checkpoint;
mod database;
mod disk;
mod durable;
mod error;
mod files;
mod log;
mod meters;
mod observer;
mod recovery;
mod seal;
mod staging;
mod state;
mod store;
mod sync;
#[cfg(test)]
mod testing;

pub use checkpoint::{Checkpoint, Chunks};
pub use error::{Result, StorageError};
pub use meters::{BUCKET_BOUNDS_SECONDS, Distribution, Meters, Sizes, Timings};
pub use observer::Observer;
pub use recovery::Verified;
pub use staging::Staging;
pub use state::{Row, RowChange, Rows, StateView};
pub use store::{Identity, Store};
