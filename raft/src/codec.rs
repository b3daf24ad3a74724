//! The bytes of openraft's values, on disk and between managers.
//!
//! Log entries are our own protobuf, because there are many and they outlive versions. Votes, memberships and
//! positions are small and rare; they are JSON with named fields, which a newer version can extend.

use std::io;

use openraft::raft::AppendEntriesRequest;
use openraft::{EntryPayload, Membership as OpenMembership, entry::RaftEntry};
use prost::Message as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::types::{Command, Entry, LogId, ManagerNode, Membership, TypeConfig};

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
    #[prost(bytes, tag = "3")]
    Transaction(Vec<u8>),
    #[prost(bytes, tag = "4")]
    Membership(Vec<u8>),
}

#[derive(Clone, PartialEq, prost::Message)]
struct AppendMessage {
    #[prost(bytes = "vec", tag = "1")]
    head: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryMessage>,
}

#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: crate::types::Vote,
    prev: Option<LogId>,
    commit: Option<LogId>,
}

/// Up to where the state is applied, and under which membership; written with the state in one batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AppliedPosition {
    pub(crate) log_id: Option<LogId>,
    pub(crate) membership: Membership,
}

pub(crate) fn entry_to_bytes(entry: &Entry) -> io::Result<Vec<u8>> {
    Ok(entry_message(entry)?.encode_to_vec())
}

pub(crate) fn entry_from_bytes(bytes: &[u8]) -> io::Result<Entry> {
    entry_from_message(EntryMessage::decode(bytes).map_err(invalid)?)
}

pub(crate) fn append_to_bytes(request: &AppendEntriesRequest<TypeConfig>) -> io::Result<Vec<u8>> {
    let head = AppendHead { vote: request.vote, prev: request.prev_log_id, commit: request.leader_commit };
    let entries = request.entries.iter().map(entry_message).collect::<io::Result<_>>()?;
    Ok(AppendMessage { head: to_json(&head)?, entries }.encode_to_vec())
}

pub(crate) fn append_from_bytes(bytes: &[u8]) -> io::Result<AppendEntriesRequest<TypeConfig>> {
    let message = AppendMessage::decode(bytes).map_err(invalid)?;
    let head: AppendHead = from_json(&message.head)?;
    Ok(AppendEntriesRequest {
        vote: head.vote,
        prev_log_id: head.prev,
        leader_commit: head.commit,
        entries: message.entries.into_iter().map(entry_from_message).collect::<io::Result<_>>()?,
    })
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
        EntryPayload::Membership(membership) => Some(PayloadMessage::Membership(to_json(membership)?)),
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
            EntryPayload::Normal(Command(vec![1, 2, 3])),
            EntryPayload::Membership(membership),
        ] {
            let entry = Entry { log_id: LogId::new_term_index(3, 7), payload };
            let again = entry_from_bytes(&entry_to_bytes(&entry).expect("encodes")).expect("decodes");
            assert_eq!(format!("{again:?}"), format!("{entry:?}"));
        }
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(entry_from_bytes(&[0xff; 9]).is_err());
    }
}
