//! Proposals that come at the same time are handed to openraft together.
//!
//! openraft appends, replicates and applies what it finds waiting at each moment. With many clients that is mostly a
//! single proposal, because the next one is made by another thread, and each of these steps costs as much for one as for
//! fifty. So only a few batches are under way at a time, and what comes meanwhile makes the next one: group commit, as in
//! DeWitt et al., "Implementation Techniques for Main Memory Database Systems" (SIGMOD 1984). Whoever comes alone waits for
//! nobody.

use std::sync::Arc;

use futures::StreamExt as _;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use skep_ledger::Outcome;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::types::{Command, Raft, TypeConfig};

/// While one is synced and confirmed, the next one is appended; more of them would only be smaller.
const BATCHES_MAX: usize = 2;

/// Proposals of one batch: below what openraft appends at once.
const PROPOSALS_MAX: usize = 512;

/// ... and after how many bytes no more of them are taken: a batch is written as a whole.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// What became of a proposal.
pub(crate) type Proposed = Result<Outcome, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

type Waiting = (Command, oneshot::Sender<Proposed>);

/// Where proposals gather.
pub(crate) struct Gathering(mpsc::Sender<Waiting>);

impl Gathering {
    pub(crate) fn start(raft: Raft) -> Gathering {
        let (sender, proposals) = mpsc::channel(PROPOSALS_MAX);
        tokio::spawn(gather(raft, proposals));
        Gathering(sender)
    }

    /// Answers when this replica has applied it.
    pub(crate) async fn propose(&self, command: Command) -> Proposed {
        let (answer, answered) = oneshot::channel();
        // The other ends are dropped with openraft only.
        let stopped = || RaftError::Fatal(Fatal::Stopped);
        self.0.send((command, answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

async fn gather(raft: Raft, mut proposals: mpsc::Receiver<Waiting>) {
    let under_way = Arc::new(Semaphore::new(BATCHES_MAX));
    loop {
        let Ok(place) = under_way.clone().acquire_owned().await else { return };
        let Some(batch) = next_batch(&mut proposals).await else { return };
        if batch.is_empty() {
            continue;
        }
        let (commands, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let results = raft.client_write_many(commands).await;
        tokio::spawn(async move {
            // openraft answers for every entry, also for those that are cut off or lie before a snapshot; who waits for
            // an answer that will not come, because it has stopped, learns of it when its sender is dropped.
            let Ok(mut results) = results else { return };
            for answer in answers {
                let Some(result) = results.next().await else { return };
                let _ = answer.send(match result {
                    Ok(Ok(response)) => Ok(response.response),
                    Ok(Err(refused)) => Err(RaftError::APIError(refused)),
                    Err(fatal) => Err(RaftError::Fatal(fatal)),
                });
            }
            drop(place);
        });
    }
}

/// What is there, once there is something; empty if nobody waits for it any more, `None` once nobody can propose any more.
async fn next_batch(proposals: &mut mpsc::Receiver<Waiting>) -> Option<Vec<Waiting>> {
    let (mut batch, mut bytes) = (vec![], 0);
    let mut next = Some(proposals.recv().await?);
    while let Some((command, answer)) = next {
        // Whoever has given up was told that it may have happened; it need not.
        if !answer.is_closed() {
            bytes += command.0.len();
            batch.push((command, answer));
        }
        let is_full = batch.len() >= PROPOSALS_MAX || bytes >= BATCH_BYTES_MAX;
        next = if is_full { None } else { proposals.try_recv().ok() };
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(bytes: usize) -> (Waiting, oneshot::Receiver<Proposed>) {
        let (answer, answered) = oneshot::channel();
        ((Command::from(vec![0; bytes]), answer), answered)
    }

    async fn batches(sizes: &[usize]) -> Vec<usize> {
        let (sender, mut proposals) = mpsc::channel(sizes.len());
        let mut waiting = vec![];
        for size in sizes {
            let (proposal, answered) = proposal(*size);
            waiting.push(answered);
            sender.try_send(proposal).expect("has room");
        }
        drop(sender);
        let mut batches = vec![];
        while let Some(batch) = next_batch(&mut proposals).await {
            batches.push(batch.len());
        }
        batches
    }

    #[tokio::test]
    async fn a_batch_is_bounded_in_number_and_in_bytes() {
        assert_eq!(batches(&[9]).await, [1]);
        assert_eq!(batches(&[9; PROPOSALS_MAX + 3]).await, [PROPOSALS_MAX, 3]);
        assert_eq!(batches(&[BATCH_BYTES_MAX / 2; 5]).await, [2, 2, 1]);
        assert_eq!(batches(&[3 * BATCH_BYTES_MAX, 9]).await, [1, 1]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_proposed() {
        let (sender, mut proposals) = mpsc::channel(2);
        let (given_up, answered) = proposal(9);
        drop(answered);
        let (other, _answered) = proposal(8);
        for proposal in [given_up, other] {
            sender.try_send(proposal).expect("has room");
        }
        let batch = next_batch(&mut proposals).await.expect("is there");
        assert_eq!(batch.iter().map(|(command, _)| command.0.len()).collect::<Vec<_>>(), [8]);
    }
}
