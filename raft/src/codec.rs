//! The bytes of openraft's values, on disk and between managers.
//!
//! Log entries, positions and the messages that carry entries are our own protobuf, because there are many and they
//! outlive versions. Votes and memberships are small and rare; they are JSON with named fields, which a newer version
//! can extend.

use std::io;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use openraft::{EntryPayload, Membership as OpenMembership, entry::RaftEntry};
use prost::Message as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::types::{Appended, Command, Entry, LogId, ManagerNode, Membership, TypeConfig, Vote};

#[derive(Clone, PartialEq, prost::Message)]
struct EntryMessage {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(oneof = "PayloadMessage", tags = "3, 4")]
    payload: Option<PayloadMessage>,
}

/// Absent for Raft's own blank entries.
#[derive(Clone, PartialEq, prost::Oneof)]
enum PayloadMessage {
    #[prost(bytes = "bytes", tag = "3")]
    Transaction(Bytes),
    #[prost(bytes = "bytes", tag = "4")]
    Membership(Bytes),
}

#[derive(Clone, PartialEq, prost::Message)]
struct VoteMessage {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LogIdMessage {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AppendMessage {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(message, optional, tag = "2")]
    prev: Option<LogIdMessage>,
    #[prost(message, optional, tag = "3")]
    commit: Option<LogIdMessage>,
    #[prost(message, repeated, tag = "4")]
    entries: Vec<EntryMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AppendedMessage {
    #[prost(oneof = "AppendedKind", tags = "1, 2, 3")]
    kind: Option<AppendedKind>,
}

/// Absent if the log matches before its first entry.
#[derive(Clone, PartialEq, prost::Oneof)]
enum AppendedKind {
    #[prost(message, tag = "1")]
    Matching(LogIdMessage),
    #[prost(message, tag = "2")]
    Conflict(LogIdMessage),
    #[prost(message, tag = "3")]
    HigherVote(VoteMessage),
}

/// Up to where the state is applied, what it is made of, and under which membership; written with the state in one
/// batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct AppliedPosition {
    pub(crate) log_id: Option<LogId>,
    /// The chained digest of everything that was applied; the same on every replica at the same index.
    pub(crate) digest: Digest,
    pub(crate) membership: Membership,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PositionMessage {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdMessage>,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    #[prost(bytes = "bytes", tag = "3")]
    membership: Bytes,
}

/// The membership in a position, encoded once: it is written with every batch and hardly ever changes.
pub(crate) fn membership_to_bytes(membership: &Membership) -> io::Result<Bytes> {
    Ok(to_json(membership)?.into())
}

pub(crate) fn position_to_bytes(log_id: Option<LogId>, digest: &Digest, membership: &Bytes) -> Vec<u8> {
    PositionMessage {
        log_id: log_id.as_ref().map(log_id_message),
        digest: digest.to_vec(),
        membership: membership.clone(),
    }
    .encode_to_vec()
}

/// An empty position belongs to a state to which nothing was ever applied.
pub(crate) fn position_from_bytes(bytes: &[u8]) -> io::Result<AppliedPosition> {
    if bytes.is_empty() {
        return Ok(AppliedPosition::default());
    }
    let message = PositionMessage::decode(bytes).map_err(invalid)?;
    Ok(AppliedPosition {
        log_id: message.log_id.as_ref().map(log_id_from),
        digest: message.digest.try_into().map_err(|_| io::Error::other("a digest has 32 bytes"))?,
        membership: from_json(&message.membership)?,
    })
}

/// Only the index of a position, for readers: they ask for nothing else, and often.
pub(crate) fn index_from_bytes(bytes: &[u8]) -> io::Result<u64> {
    let log_id = PositionIndexMessage::decode(bytes).map_err(invalid)?.log_id;
    Ok(log_id.map_or(0, |log_id| log_id.index))
}

/// The beginning of a [`PositionMessage`]; the rest is skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct PositionIndexMessage {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdMessage>,
}

pub(crate) fn entry_to_bytes(entry: &Entry) -> io::Result<Vec<u8>> {
    Ok(entry_message(entry)?.encode_to_vec())
}

pub(crate) fn entry_from_bytes(bytes: impl Into<Bytes>) -> io::Result<Entry> {
    entry_from_message(EntryMessage::decode(bytes.into()).map_err(invalid)?)
}

pub(crate) fn append_to_bytes(request: &AppendEntriesRequest<TypeConfig>) -> io::Result<Vec<u8>> {
    let message = AppendMessage {
        vote: Some(vote_message(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_message),
        commit: request.leader_commit.as_ref().map(log_id_message),
        entries: request.entries.iter().map(entry_message).collect::<io::Result<_>>()?,
    };
    Ok(message.encode_to_vec())
}

pub(crate) fn append_from_bytes(bytes: Bytes) -> io::Result<AppendEntriesRequest<TypeConfig>> {
    let message = AppendMessage::decode(bytes).map_err(invalid)?;
    Ok(AppendEntriesRequest {
        vote: vote_from(&message.vote.ok_or_else(|| io::Error::other("entries without a vote"))?),
        prev_log_id: message.prev.as_ref().map(log_id_from),
        leader_commit: message.commit.as_ref().map(log_id_from),
        entries: message.entries.into_iter().map(entry_from_message).collect::<io::Result<_>>()?,
    })
}

pub(crate) fn appended_to_bytes(appended: &Appended) -> Vec<u8> {
    let kind = match appended {
        Ok(matching) => matching.as_ref().map(log_id_message).map(AppendedKind::Matching),
        Err(StreamAppendError::Conflict(at)) => Some(AppendedKind::Conflict(log_id_message(at))),
        Err(StreamAppendError::HigherVote(vote)) => Some(AppendedKind::HigherVote(vote_message(vote))),
    };
    AppendedMessage { kind }.encode_to_vec()
}

pub(crate) fn appended_from_bytes(bytes: Bytes) -> io::Result<Appended> {
    let message = AppendedMessage::decode(bytes).map_err(invalid)?;
    Ok(match message.kind {
        None => Ok(None),
        Some(AppendedKind::Matching(at)) => Ok(Some(log_id_from(&at))),
        Some(AppendedKind::Conflict(at)) => Err(StreamAppendError::Conflict(log_id_from(&at))),
        Some(AppendedKind::HigherVote(vote)) => Err(StreamAppendError::HigherVote(vote_from(&vote))),
    })
}

fn vote_message(vote: &Vote) -> VoteMessage {
    VoteMessage { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
}

fn vote_from(message: &VoteMessage) -> Vote {
    match message.committed {
        true => Vote::new_committed(message.term, message.node),
        false => Vote::new(message.term, message.node),
    }
}

fn log_id_message(log_id: &LogId) -> LogIdMessage {
    LogIdMessage { term: log_id.committed_leader_id().term, index: log_id.index() }
}

fn log_id_from(message: &LogIdMessage) -> LogId {
    LogId::new_term_index(message.term, message.index)
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(invalid)
}

pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(invalid)
}

fn entry_message(entry: &Entry) -> io::Result<EntryMessage> {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(command) => Some(PayloadMessage::Transaction(command.0.clone())),
        EntryPayload::Membership(membership) => Some(PayloadMessage::Membership(to_json(membership)?.into())),
    };
    let log_id = entry.log_id();
    Ok(EntryMessage { index: log_id.index(), term: log_id.committed_leader_id().term, payload })
}

fn entry_from_message(message: EntryMessage) -> io::Result<Entry> {
    let payload = match message.payload {
        None => EntryPayload::Blank,
        Some(PayloadMessage::Transaction(bytes)) => EntryPayload::Normal(Command(bytes)),
        Some(PayloadMessage::Membership(bytes)) => {
            EntryPayload::Membership(from_json::<OpenMembership<u64, ManagerNode>>(&bytes)?)
        }
    };
    Ok(Entry { log_id: LogId::new_term_index(message.term, message.index), payload })
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_survives() {
        let nodes = std::collections::BTreeMap::from([(1, ManagerNode::default())]);
        let membership = OpenMembership::new(vec![[1].into()], nodes).expect("is well formed");
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Command::from(vec![1, 2, 3])),
            EntryPayload::Membership(membership),
        ] {
            let entry = Entry { log_id: LogId::new_term_index(3, 7), payload };
            let again = entry_from_bytes(entry_to_bytes(&entry).expect("encodes")).expect("decodes");
            assert_eq!(format!("{again:?}"), format!("{entry:?}"));
        }
    }

    #[test]
    fn every_answer_to_appended_entries_survives() {
        let at = LogId::new_term_index(3, 7);
        let answers: [Appended; 4] = [
            Ok(None),
            Ok(Some(at)),
            Err(StreamAppendError::Conflict(at)),
            Err(StreamAppendError::HigherVote(Vote::new_committed(4, 2))),
        ];
        for answer in answers {
            let again = appended_from_bytes(appended_to_bytes(&answer).into()).expect("decodes");
            assert_eq!(again, answer);
        }
    }

    #[test]
    fn a_position_survives_and_tells_its_index_alone() {
        let position = AppliedPosition {
            log_id: Some(LogId::new_term_index(3, 7)),
            digest: [9; 32],
            membership: Membership::default(),
        };
        let membership = membership_to_bytes(&position.membership).expect("encodes");
        let bytes = position_to_bytes(position.log_id, &position.digest, &membership);
        assert_eq!(position_from_bytes(&bytes).expect("decodes"), position);
        assert_eq!(index_from_bytes(&bytes).expect("decodes"), 7);
        assert_eq!(index_from_bytes(&[]).expect("decodes"), 0);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(entry_from_bytes(vec![0xff; 9]).is_err());
    }
}
