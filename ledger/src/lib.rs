//! The one door to the replicated state.
//!
//! Whoever wants to know or change something goes through a [`Ledger`]: [`transact`] decides in plain Rust on a
//! [`View`] and commits only if nothing that was read has changed meanwhile; [`Ledger::fresh_view`] reads
//! linearizably on any replica; [`Ledger::feed`] tells what changed, by revision.
//!
//! Why a crate of its own: rules, planners and doors compile and are tested against this trait alone. How replicas
//! agree (`skep-raft`) and where the bytes lie (`skep-storage`) are not its business. What every replica must do
//! identically with an agreed transaction is: [`apply()`] is the whole replicated state machine, pure and without a
//! domain word, so that two versions of Skep cannot apply one entry differently.

mod apply;
mod bytes;
mod feed;
mod limits;
mod memory;
mod oldest;
mod row;
mod topic;
mod transact;
mod tx;
mod txn;
mod view;

use std::time::Duration;

use async_trait::async_trait;

pub use crate::apply::{
    Applied, Position, REQUESTS_KEPT_FOR_HOURS, REQUESTS_KEPT_FOR_REVISIONS, RowChange, apply,
};
pub use crate::feed::{
    Change, ChangedRow, Feed, FeedMeters, HISTORY_AGE_MINUTES_MAX, HISTORY_CHANGES_MAX, HISTORY_ROWS_MAX,
    WATCH_BUFFER_CHANGES_MAX, Watch, WatchEvent,
};
pub use crate::limits::{OBJECT_BYTES_MAX, TXN_BYTES_MAX, TXN_ROWS_MAX};
pub use crate::memory::MemoryLedger;
pub use crate::oldest::OldestRequest;
pub use crate::row::{Key, table_of};
pub use crate::topic::{Filter, Topic};
pub use crate::transact::{Committed, Request, TRANSACT_ATTEMPTS_MAX, TransactError, decide, transact};
pub use crate::tx::Tx;
pub use crate::txn::{Check, Op, Outcome, RequestId, Txn, TxnDecodeError};
pub use crate::view::{ReadError, Record, Row, Rows, Stored, View};

/// The Raft log index of a change; the cursor of every watch. Zero means "never".
pub type Revision = u64;

/// A period of one leader; the scheduler's transactions are fenced by it.
pub type Term = u64;

/// One replica's way to the replicated state.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Puts a decided transaction to the vote of the replicas; answers once it is applied here or at the leader.
    ///
    /// Proposing the same transaction again after [`Unavailable::Unknown`] is safe: its request id is answered
    /// with the first outcome.
    async fn propose(&self, txn: Txn) -> Result<Outcome, Unavailable>;

    /// A linearizable view: contains every write that was acknowledged anywhere before this call.
    async fn fresh_view(&self) -> Result<View, Unavailable>;

    /// What this replica has applied so far; may be behind, never blocks.
    fn view(&self) -> View;

    /// The recent changes, in order, each once.
    fn feed(&self) -> &Feed;

    /// The clock that stamps transactions proposed here.
    fn now(&self) -> jiff::Timestamp;

    /// What this replica knows of the leader, and since when: says how old [`Ledger::view`] may be.
    fn contact(&self) -> Contact {
        Contact { leader_known: true, age: Duration::ZERO }
    }
}

/// How a replica stands with the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Does it know one?
    pub leader_known: bool,
    /// Since when it has not heard of one; zero if it is the leader itself and the others follow it.
    pub age: Duration,
}

/// Why the replicas could not be asked, and what is known about the write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nothing was changed and nothing will be.
    #[error("no leader could be reached: {0}")]
    NotStarted(String),
    /// The write was sent and its answer lost: it may take effect. Repeat it with the same request id.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The transaction exceeds a limit and was not proposed.
    #[error("the change is too large: {bytes} bytes, at most {limit_bytes} are allowed")]
    TooLarge {
        /// Encoded size of the transaction.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// One object of the transaction exceeds a limit; nothing was proposed.
    #[error("{object} is too large: {bytes} bytes, at most {limit_bytes} are allowed in one object")]
    ObjectTooLarge {
        /// Its key.
        object: String,
        /// The size of its value.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// The transaction touches more than a limit allows and was not proposed.
    #[error("the change is too large: it reads and writes {rows} objects, at most {limit_rows} are allowed")]
    TooManyRows {
        /// What it reads and writes.
        rows: usize,
        /// What is allowed.
        limit_rows: usize,
    },
}
