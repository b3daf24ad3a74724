//! The operators' key-value space. What each call means stands in `wire/proto/skep/v1/kv.proto`.

use skep_ledger::{Key, Outcome, RequestId, Txn, Unavailable, View};
use skep_wire::proto::v1::kv_server::Kv;
use skep_wire::proto::v1::{self as proto, CommitReply, CommitRequest, Consistency, GetReply, GetRequest};
use tonic::{Request, Response, Status};

use crate::Api;

/// The table of these keys. No rule reads it, and no key of this door leads out of it.
const TABLE: &str = "kv";

/// Keys are names, not documents.
const KEY_PART_BYTES_MAX: usize = 256;

/// A larger value belongs into an object store; every manager keeps every value.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Checks and writes of one transaction: every replica decides and applies it as a whole.
const KEYS_PER_COMMIT_MAX: usize = 512;

/// A request on the wire: below the largest transaction that the managers agree on.
pub(crate) const MESSAGE_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The service.
pub(crate) struct KvDoor(Api);

impl KvDoor {
    pub(crate) fn new(api: Api) -> KvDoor {
        KvDoor(api)
    }

    async fn view(&self, consistency: Consistency) -> Result<View, Status> {
        match consistency {
            Consistency::Stale => Ok(self.0.ledger().view()),
            Consistency::Linearizable => self.0.ledger().fresh_view().await.map_err(unavailable),
        }
    }
}

#[tonic::async_trait]
impl Kv for KvDoor {
    async fn commit(&self, request: Request<CommitRequest>) -> Result<Response<CommitReply>, Status> {
        let request = request.into_inner();
        let keys = request.checks.len() + request.writes.len();
        if keys > KEYS_PER_COMMIT_MAX {
            return Err(Status::invalid_argument(format!(
                "{keys} checks and writes are too many for one commit: at most {KEYS_PER_COMMIT_MAX}"
            )));
        }
        if request.writes.is_empty() {
            return Err(Status::invalid_argument("nothing is written: a commit needs at least one write"));
        }
        let id = request_id(&request.request_id)?;
        let checks = request.checks.into_iter().map(|check| Ok((key(check.key)?, check.revision)));
        let checks = checks.collect::<Result<Vec<_>, Status>>()?;
        let writes = request.writes.into_iter().map(write).collect::<Result<Vec<_>, Status>>()?;
        let ledger = self.0.ledger();
        match ledger.propose(Txn::decided(id, ledger.now(), checks, writes)).await.map_err(unavailable)? {
            Outcome::Committed(revision) => Ok(Response::new(CommitReply { revision, replayed: false })),
            Outcome::Replayed(revision, _) => Ok(Response::new(CommitReply { revision, replayed: true })),
            Outcome::Conflict(what, revision) => Err(Status::aborted(format!(
                "{what} has changed; decide again on revision {revision} or later"
            ))),
            Outcome::Fenced(_) | Outcome::Nothing => Err(Status::internal("a transaction was not applied")),
        }
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let request = request.into_inner();
        let consistency = Consistency::try_from(request.consistency).map_err(|_| {
            Status::invalid_argument(format!("there is no consistency {}", request.consistency))
        })?;
        let key = key(request.key)?;
        let view = self.view(consistency).await?;
        // A state that cannot be read is this replica's trouble: another one can answer.
        let found = view.bytes(&key).map_err(|error| Status::unavailable(error.to_string()))?;
        let view_revision = view.revision();
        Ok(Response::new(match found {
            Some((revision, value)) => GetReply { value: Some(value.into()), revision, view_revision },
            None => GetReply { value: None, revision: 0, view_revision },
        }))
    }
}

fn request_id(bytes: &[u8]) -> Result<Option<RequestId>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let id = bytes.try_into().map_err(|_| {
        Status::invalid_argument(format!("request_id has {} bytes: it needs 16, or none", bytes.len()))
    })?;
    Ok(Some(RequestId::from_bytes(id)))
}

fn key(key: Option<proto::Key>) -> Result<Key, Status> {
    let key = key.ok_or_else(|| Status::invalid_argument("a key is missing"))?;
    for (what, part) in [("partition", &key.partition), ("id", &key.id)] {
        if part.is_empty() || part.len() > KEY_PART_BYTES_MAX || part.chars().any(char::is_control) {
            return Err(Status::invalid_argument(format!(
                "the {what} of a key has {} bytes: it needs 1 to {KEY_PART_BYTES_MAX}, without control characters",
                part.len()
            )));
        }
    }
    Ok(Key::new(TABLE, &key.partition, &key.id))
}

fn write(write: proto::Write) -> Result<(Key, Option<Vec<u8>>), Status> {
    let bytes = write.value.as_ref().map_or(0, |value| value.len());
    if bytes > VALUE_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "a value of {bytes} bytes is too large: at most {VALUE_BYTES_MAX}"
        )));
    }
    Ok((key(write.key)?, write.value.map(Into::into)))
}

fn unavailable(error: Unavailable) -> Status {
    match error {
        Unavailable::NotStarted(_) => Status::unavailable(error.to_string()),
        Unavailable::Unknown(_) => Status::unknown(error.to_string()),
        Unavailable::TooLarge { .. }
        | Unavailable::ObjectTooLarge { .. }
        | Unavailable::TooManyRows { .. } => Status::invalid_argument(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(partition: &str, id: &str) -> Option<proto::Key> {
        Some(proto::Key { partition: partition.into(), id: id.into() })
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        for (wrong, named) in [
            (None, "missing"),
            (named("", "a"), "partition"),
            (named("p", ""), "id"),
            (named("p", "a\0b"), "id"),
            (named("p", &"a".repeat(KEY_PART_BYTES_MAX + 1)), "id"),
        ] {
            let refused = key(wrong).expect_err("is no key");
            assert!(refused.message().contains(named), "{refused}");
        }
        assert!(key(named("locks", "deploy/web")).is_ok());
    }

    #[test]
    fn a_request_id_has_sixteen_bytes_or_is_absent() {
        assert!(request_id(&[]).expect("is absent").is_none());
        assert!(request_id(&[7; 16]).expect("is one").is_some());
        assert!(request_id(&[7; 15]).is_err());
    }
}
