//! Founding a cluster once, and keeping out a replica that has lost its data.
//!
//! A replica whose log is empty is new, or it has forgotten what it voted and acknowledged. The second must never
//! answer as if it were the first: with its help a majority could agree on a history without writes that were
//! acknowledged. So an empty replica answers no Raft message until every founder has said that nothing is
//! founded yet. Then it makes that durable, and only when all founders have done so does the first one found:
//!
//! ```text
//!   every founder   empty ─► all others reachable, none founded ─► vote of term 0 saved: takes part
//!   the first one   all take part ─► founds
//! ```

use std::sync::atomic::Ordering;

use openraft::async_runtime::WatchReceiver as _;
use skep_storage::{StorageError, Store};

use crate::codec;
use crate::proposing::RETRY_PAUSE;
use crate::replica::{Replica, StartError, raft_error};
use crate::status::MemberStatus;

impl Replica {
    /// Founds the cluster if nobody has yet; every founder calls this after each start. Waits until all founders
    /// are there, and does nothing on a replica that has data. Fails if this replica's data was lost.
    pub async fn found(&self) -> Result<(), StartError> {
        if !self.takes_part() {
            self.founders_agree(|_| true).await?;
            self.take_part().await?;
        }
        let first = self.founders().keys().next().copied();
        if self.raft().is_initialized().await.map_err(raft_error)? || first != Some(self.identity().1) {
            return Ok(());
        }
        self.founders_agree(|founder| founder.takes_part).await?;
        match self.raft().initialize(self.founders().clone()).await {
            Ok(()) => Ok(()),
            // An entry of another founder came first.
            Err(_) if self.raft().is_initialized().await.map_err(raft_error)? => Ok(()),
            Err(error) => Err(raft_error(error)),
        }
    }

    /// May this replica answer Raft's messages?
    pub(crate) fn takes_part(&self) -> bool {
        self.participation().load(Ordering::Acquire)
    }

    /// Waits until every founder is reachable, none has founded anything, and each is `ready`.
    async fn founders_agree(&self, ready: impl Fn(&MemberStatus) -> bool) -> Result<(), StartError> {
        loop {
            let founders = self.members().await;
            if founders.iter().any(|founder| founder.initialized) {
                return Err(StartError::DataLost);
            }
            if founders.iter().all(|founder| founder.state != "unreachable" && ready(founder)) {
                return Ok(());
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// From the vote on disk the next start knows that this replica is no longer new. It is the vote that openraft
    /// holds already, and nothing can change it before this returns: whoever does not take part is told nothing.
    async fn take_part(&self) -> Result<(), StartError> {
        let vote = self.raft().metrics().borrow_watched().vote;
        let (store, bytes) = (self.store().clone(), codec::to_json(&vote).map_err(raft_error)?);
        tokio::task::spawn_blocking(move || store.save_vote(&bytes)).await.map_err(raft_error)??;
        self.participation().store(true, Ordering::Release);
        Ok(())
    }
}

impl StartError {
    /// Is it that what is on the disk is not what was written? The other replicas have what is right.
    pub fn is_damage(&self) -> bool {
        match self {
            StartError::Storage(error) => matches!(error, StorageError::Corrupt { .. }),
            // openraft passes on only the words of what it read.
            StartError::Raft(words) => words.contains("the data is damaged"),
            // What is on the disk is right, only not any more, or it says itself what to do.
            StartError::DataLost | StartError::Outdated(_) | StartError::Condemned(_) => false,
        }
    }
}

/// Has anything ever been kept here?
pub(crate) fn is_empty(store: &Store) -> Result<bool, StorageError> {
    Ok(store.vote()?.is_none() && store.last_entry()?.is_none() && store.purged()?.is_none())
}
