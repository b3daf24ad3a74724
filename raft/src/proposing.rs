//! This replica as the [`Ledger`]: proposals and reads, wherever the leader is.
//!
//! While nobody leads, requests wait, and go on as soon as somebody does.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use skep_ledger::{Contact, Feed, Ledger, Outcome, Txn, Unavailable, View};
use skep_wire::channels::Purpose;
use tokio::time::{Instant, timeout, timeout_at};

use crate::replica::Replica;
use crate::state_machine;
use crate::types::Command;

/// How long a request waits for a leader before it fails with "not started".
const LEADER_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long one try to reach the leader may take before another is made; the request may have been lost.
pub(crate) const TRY_MAX: Duration = Duration::from_secs(2);

/// Between two tries, if nothing has changed meanwhile.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How long a forwarded write waits to be visible on this replica too, so that its caller can read it here.
const READ_YOUR_WRITES_MAX: Duration = Duration::from_secs(1);

#[async_trait]
impl Ledger for Replica {
    async fn propose(&self, txn: Txn) -> Result<Outcome, Unavailable> {
        txn.within_limits()?;
        let bytes = Bytes::from(txn.encode());
        let deadline = Instant::now() + LEADER_WAIT_MAX;
        let mut leadership = self.raft().server_metrics();
        let mut failure = Unavailable::NotStarted("there is no leader".into());
        while Instant::now() < deadline {
            let leader = leadership.borrow_and_update().current_leader;
            if let Some(leader) = leader {
                let patience = TRY_MAX.min(deadline - Instant::now());
                match self.propose_at(leader, bytes.clone(), patience).await {
                    Ok(outcome) => {
                        if let Outcome::Committed(revision) | Outcome::Replayed(revision, _) = &outcome {
                            let _ = timeout(READ_YOUR_WRITES_MAX, self.feed().reached(*revision)).await;
                        }
                        return Ok(outcome);
                    }
                    // Once a try may have taken effect, "not started" is no longer true of the whole.
                    Err(error) if !matches!(failure, Unavailable::Unknown(_)) => failure = error,
                    Err(_) => {}
                }
            }
            if let Ok(Err(_)) = timeout(RETRY_PAUSE, leadership.changed()).await {
                break; // This replica has stopped: nothing changes any more.
            }
        }
        Err(failure)
    }

    async fn fresh_view(&self) -> Result<View, Unavailable> {
        let deadline = Instant::now() + LEADER_WAIT_MAX;
        let mut leadership = self.raft().server_metrics();
        let mut failure = String::new();
        while Instant::now() < deadline {
            let _ = leadership.borrow_and_update();
            match self.read_indexes().next().await {
                Ok(index) => {
                    if timeout_at(deadline, self.feed().reached(index)).await.is_ok() {
                        return state_machine::view(self.store())
                            .map_err(|error| Unavailable::NotStarted(error.to_string()));
                    }
                    failure = format!("this replica has not caught up with revision {index}");
                }
                Err(error) => failure = error,
            }
            if let Ok(Err(_)) = timeout(RETRY_PAUSE, leadership.changed()).await {
                break; // This replica has stopped: nothing changes any more.
            }
        }
        Err(Unavailable::NotStarted(failure))
    }

    fn view(&self) -> View {
        state_machine::view(self.store()).unwrap_or_else(|error| state_machine::unreadable_view(&error))
    }

    fn feed(&self) -> &Feed {
        self.changes()
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn contact(&self) -> Contact {
        self.contact_with_leader()
    }
}

impl Replica {
    pub(crate) async fn propose_here(
        &self,
        bytes: Bytes,
        patience: Duration,
    ) -> Result<Outcome, Unavailable> {
        match timeout(patience, self.gathering().propose(Command(bytes))).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Err(Unavailable::NotStarted(forward.to_string()))
            }
            Ok(Err(error)) => Err(Unavailable::Unknown(error.to_string())),
            Err(_) => Err(Unavailable::Unknown("the replicas did not agree in time".into())),
        }
    }

    async fn propose_at(
        &self,
        leader: u64,
        bytes: Bytes,
        patience: Duration,
    ) -> Result<Outcome, Unavailable> {
        if leader == self.identity().1 {
            return self.propose_here(bytes, patience).await;
        }
        let mut client = self
            .network()
            .client(leader, Purpose::Raft)
            .map_err(|error| Unavailable::NotStarted(error.to_string()))?;
        let request = self.network().payload(leader, bytes);
        match timeout(patience, client.propose(request)).await {
            Ok(Ok(reply)) => Outcome::decode(&reply.into_inner().body)
                .map_err(|error| Unavailable::Unknown(error.to_string())),
            Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => {
                Err(Unavailable::NotStarted(status.message().to_owned()))
            }
            // Also "unavailable": whether the request had left this process cannot be told apart.
            Ok(Err(status)) => Err(Unavailable::Unknown(status.message().to_owned())),
            Err(_) => Err(Unavailable::Unknown(format!("manager {leader} did not answer in time"))),
        }
    }
}
