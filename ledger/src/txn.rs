//! What replicas agree on: a transaction, already decided, as bytes that every version can read.

use prost::Message as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Key, Revision, Term, row};

/// The identity of one request; a repeated request is answered with its first outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A new identity, ordered by time.
    pub fn new() -> RequestId {
        RequestId(Uuid::now_v7())
    }

    /// An identity chosen by the caller, e.g. hashed from an idempotency key.
    pub fn from_bytes(bytes: [u8; 16]) -> RequestId {
        RequestId(Uuid::from_bytes(bytes))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }
}

impl Default for RequestId {
    fn default() -> RequestId {
        RequestId::new()
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A decided change: what must still be so, and what is then written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Txn {
    /// The request that this transaction answers.
    #[prost(bytes = "vec", tag = "1")]
    pub request: Vec<u8>,
    /// The term it was decided in, if another term must refuse it.
    #[prost(uint64, optional, tag = "2")]
    pub fence: Option<Term>,
    /// When it was proposed, milliseconds since the epoch; `apply` has no clock of its own.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
    /// Everything that was read.
    #[prost(message, repeated, tag = "4")]
    pub checks: Vec<Check>,
    /// Everything that is written.
    #[prost(message, repeated, tag = "5")]
    pub ops: Vec<Op>,
    /// What the rule answered; given again to whoever repeats the request. Empty if nobody could.
    #[prost(bytes = "vec", tag = "6")]
    pub answer: Vec<u8>,
}

/// "This row was last changed by that revision"; zero means that it does not exist.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Check {
    /// An object's row, or the stamp of a partition or table.
    #[prost(bytes = "vec", tag = "1")]
    pub row: Vec<u8>,
    /// The revision that was read.
    #[prost(uint64, tag = "2")]
    pub revision: Revision,
}

/// One object written, or deleted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Op {
    /// The object's row.
    #[prost(bytes = "vec", tag = "1")]
    pub row: Vec<u8>,
    /// Its new value; absent deletes it.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub value: Option<Vec<u8>>,
}

impl Txn {
    /// The bytes that go into the log.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Reads what [`Txn::encode`] wrote, also by a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Txn, TxnDecodeError> {
        <Txn as prost::Message>::decode(bytes).map_err(TxnDecodeError)
    }
}

/// The bytes are no transaction.
#[derive(Debug, thiserror::Error)]
#[error("reading a transaction: {0}")]
pub struct TxnDecodeError(prost::DecodeError);

/// What became of a transaction. Only `Committed` and `Replayed` have changed something.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing to decide (Raft's own entries).
    #[default]
    Nothing,
    /// Written at this revision.
    Committed(Revision),
    /// The request was answered before: at that revision, with that answer.
    Replayed(Revision, Vec<u8>),
    /// Something that was read has changed; decide again on a view at least this new.
    Conflict(String, Revision),
    /// Decided in another term.
    Fenced(Term),
}

/// [`Outcome`] on the wire.
#[derive(Clone, PartialEq, prost::Message)]
struct OutcomeMessage {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(bytes = "vec", tag = "3")]
    bytes: Vec<u8>,
}

impl Outcome {
    /// The bytes that a follower gets for a transaction that it forwarded.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, number, bytes) = match self {
            Outcome::Nothing => (0, 0, vec![]),
            Outcome::Committed(revision) => (1, *revision, vec![]),
            Outcome::Replayed(revision, answer) => (2, *revision, answer.clone()),
            Outcome::Conflict(what, revision) => (3, *revision, what.clone().into_bytes()),
            Outcome::Fenced(term) => (4, *term, vec![]),
        };
        OutcomeMessage { kind, number, bytes }.encode_to_vec()
    }

    /// Reads what [`Outcome::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Outcome, TxnDecodeError> {
        let message = OutcomeMessage::decode(bytes).map_err(TxnDecodeError)?;
        Ok(match message.kind {
            1 => Outcome::Committed(message.number),
            2 => Outcome::Replayed(message.number, message.bytes),
            3 => Outcome::Conflict(String::from_utf8_lossy(&message.bytes).into_owned(), message.number),
            4 => Outcome::Fenced(message.number),
            _ => Outcome::Nothing,
        })
    }
}

impl Check {
    pub(crate) fn name(&self) -> String {
        match Key::parse(&self.row) {
            Some(key) => key.to_string(),
            // Without the letter that says what kind of row it is; a row may also be empty or not text at all.
            None => {
                let name = self.row.get(1..).unwrap_or_default();
                String::from_utf8_lossy(name).replace('\0', "/")
            }
        }
    }
}

impl Op {
    /// The key that is written.
    pub fn key(&self) -> Option<Key> {
        Key::parse(&self.row)
    }
}

/// What a request row remembers behind its revision.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Remembered {
    #[prost(int64, tag = "1")]
    pub(crate) at_ms: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) answer: Vec<u8>,
}

impl Remembered {
    pub(crate) fn stored(stored: &[u8]) -> Option<(Revision, Remembered)> {
        let (revision, value) = row::unstamp(stored)?;
        Some((revision, Remembered::decode(value).ok()?))
    }
}
