//! The divergence alarm: replicas compare what they have made of the same log, and one that differs stops.
//!
//! All replicas apply the same entries in the same order, so at one index they must be equal. A bug, a memory fault, or
//! a hand in the data folder can still make one different, and then it would serve what is not true without knowing it.
//! Two things are compared, because each sees what the other cannot:
//!
//! - the *chain*: a digest over everything applied so far, kept with the position. Cheap, so every few seconds; finds
//!   where two replicas have decided differently.
//! - the *rows*: a digest over the whole state as it is stored. Finds a row that nobody has touched since it went
//!   wrong. Costs reading everything, so now and then, and only when both happen to be at the same index.
//!
//! Whoever differs from a majority of the voters, all of which are equal, is wrong and stops. If there is no such
//! majority, nobody can say who is wrong: all go on and all raise the alarm.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use skep_ledger::{Ledger as _, Revision};
use skep_storage::StateView;
use skep_wire::channels::Purpose;
use skep_wire::proto::peer::Payload;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};

use crate::codec;
use crate::digest::Digest;
use crate::replica::Replica;
use crate::state_machine;

/// Between two indexes at which every replica remembers its chain.
const CHECKPOINT_EVERY_ENTRIES: u64 = 256;

/// Checkpoints remembered: a replica that is up to 16 384 entries behind still has one in common with the others.
const CHECKPOINTS_KEPT_MAX: usize = 64;

/// Between two comparisons of the chain.
const COMPARE_CHAIN_EVERY: Duration = Duration::from_secs(3);

/// Between two comparisons of all rows: reading a state of 100 MB takes about a second of one processor.
const COMPARE_ROWS_EVERY: Duration = Duration::from_secs(600);

/// Between two readings of the whole disk, the log included.
const SCRUB_EVERY: Duration = Duration::from_secs(3600);

/// While the disk is read for damage, others want it too.
const SCRUB_BYTES_PER_SEC_MAX: usize = 32 << 20;

/// A replica answers with what it has in memory.
const CHAIN_ANSWER_MAX: Duration = Duration::from_secs(1);

/// A replica reads its whole state for this.
const ROWS_ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long one that is a little behind may take to come to the index that is asked about.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);

/// In a busy cluster two replicas are seldom at the same index; a miss costs next to nothing.
const ROWS_TRIES_MAX: usize = 50;

/// Between two of these tries.
const ROWS_TRY_PAUSE: Duration = Duration::from_millis(20);

/// The chain at the last checkpoints and at the newest entry.
#[derive(Default)]
pub(crate) struct Digests(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    checkpoints: VecDeque<(Revision, Digest)>,
    latest: Option<(Revision, Digest)>,
}

impl Digests {
    /// Remembers the chain after the entry at `index` was applied. Cheap enough for every entry.
    pub(crate) fn note(&self, index: Revision, digest: Digest) {
        let mut kept = self.kept();
        // A state that was installed jumps; what was before it is still true.
        kept.latest = Some((index, digest));
        if index.is_multiple_of(CHECKPOINT_EVERY_ENTRIES) {
            if kept.checkpoints.len() == CHECKPOINTS_KEPT_MAX {
                kept.checkpoints.pop_front();
            }
            kept.checkpoints.push_back((index, digest));
        }
    }

    /// The chain at an index, if it is remembered.
    #[cfg(test)]
    pub(crate) fn at(&self, index: Revision) -> Option<Digest> {
        self.all().into_iter().find(|(at, _)| *at == index).map(|(_, digest)| digest)
    }

    /// All that is remembered, the newest last.
    fn all(&self) -> Vec<(Revision, Digest)> {
        let kept = self.kept();
        kept.checkpoints.iter().copied().chain(kept.latest).collect()
    }

    /// Guards plain assignments; nobody leaves half of one behind.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From whom this replica differs, and whether it has to stop for it.
#[derive(Clone)]
pub(crate) struct Alarms(Arc<Raised>);

struct Raised {
    differs_from: Mutex<BTreeMap<u64, Difference>>,
    condemned: watch::Sender<Option<String>>,
}

/// Two replicas are not equal where they must be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Difference {
    at: Revision,
    in_what: &'static str,
}

impl Alarms {
    pub(crate) fn none() -> Alarms {
        Alarms(Arc::new(Raised { differs_from: Mutex::default(), condemned: watch::Sender::new(None) }))
    }

    /// The replicas that differ from this one.
    pub(crate) fn diverged(&self) -> Vec<u64> {
        self.differs_from().keys().copied().collect()
    }

    /// Says when this replica must stop, and why.
    pub(crate) fn condemned(&self) -> watch::Receiver<Option<String>> {
        self.0.condemned.subscribe()
    }

    fn differs_from(&self) -> MutexGuard<'_, BTreeMap<u64, Difference>> {
        self.0.differs_from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one replica asks another.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    /// Compute the digest of all rows, if you are at this index.
    rows_at: Option<Revision>,
}

/// What the other says.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    chain: Vec<(Revision, Digest)>,
    rows: Option<(Revision, Digest)>,
}

/// What the voters have at one index, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All that were heard are equal to this one.
    Equal,
    /// These differ, and nobody can say who is right.
    Differ(Vec<u64>),
    /// A majority differs from this replica and agrees with itself.
    Wrong(Vec<u64>),
}

/// Compares this replica's digest with what others have at the same index.
fn judge(own: Digest, others: &BTreeMap<u64, Digest>, voters: usize) -> Verdict {
    let differing: Vec<u64> =
        others.iter().filter(|(_, digest)| **digest != own).map(|(node, _)| *node).collect();
    if differing.is_empty() {
        return Verdict::Equal;
    }
    let quorum = voters / 2 + 1;
    for digest in others.values().filter(|digest| **digest != own) {
        let agreeing: Vec<u64> =
            others.iter().filter(|(_, other)| *other == digest).map(|(node, _)| *node).collect();
        if agreeing.len() >= quorum {
            return Verdict::Wrong(agreeing);
        }
    }
    Verdict::Differ(differing)
}

impl Replica {
    /// Compares with the others for as long as this replica lives.
    pub(crate) fn watch_for_divergence(&self) {
        let replica = self.downgrade();
        tokio::spawn(async move {
            let mut chain = tokio::time::interval(COMPARE_CHAIN_EVERY);
            let mut rows = tokio::time::interval_at(
                tokio::time::Instant::now() + COMPARE_ROWS_EVERY,
                COMPARE_ROWS_EVERY,
            );
            let mut scrub = tokio::time::interval_at(tokio::time::Instant::now() + SCRUB_EVERY, SCRUB_EVERY);
            for timer in [&mut chain, &mut rows, &mut scrub] {
                timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            }
            loop {
                let due = tokio::select! {
                    _ = chain.tick() => Due::Chain,
                    _ = rows.tick() => Due::Rows,
                    _ = scrub.tick() => Due::Scrub,
                };
                let Some(replica) = replica.upgrade() else { return };
                match due {
                    Due::Chain => replica.compare_chain().await,
                    Due::Rows => replica.compare_rows().await,
                    Due::Scrub => replica.scrub().await,
                }
            }
        });
    }

    /// Compares the chain with the others at every index that is remembered here and there. The replicas do this by
    /// themselves every few seconds.
    pub async fn compare_chain(&self) {
        let others = self.other_voters();
        let asked = others.iter().map(|node| async move {
            (*node, self.ask(*node, &Question { rows_at: None }, CHAIN_ANSWER_MAX).await)
        });
        let answers = futures::future::join_all(asked).await;
        let own = self.digests().all();
        // Per index, because two others may have a different newest index in common with us.
        let mut heard: BTreeMap<Revision, BTreeMap<u64, Digest>> = BTreeMap::new();
        for (node, answer) in answers {
            let Ok(answer) = answer else { continue };
            for (at, digest) in answer.chain {
                heard.entry(at).or_default().insert(node, digest);
            }
        }
        for (at, digest) in own {
            if let Some(others) = heard.get(&at) {
                self.conclude(at, "the chain of what was applied", digest, others);
            }
        }
    }

    /// Compares all rows with every other replica that comes to be at the same index. The replicas do this by
    /// themselves every ten minutes.
    pub async fn compare_rows(&self) {
        let mut missing = self.other_voters();
        for _ in 0..ROWS_TRIES_MAX {
            if missing.is_empty() {
                return;
            }
            let view = self.store().view();
            let Ok(at) = state_machine::index_of(&view) else { return };
            let question = &Question { rows_at: Some(at) };
            let asked = missing
                .iter()
                .map(|node| async move { (*node, self.ask(*node, question, ROWS_ANSWER_MAX).await) });
            let answers = futures::future::join_all(asked).await;
            let others: BTreeMap<u64, Digest> = answers
                .into_iter()
                .filter_map(|(node, answer)| Some((node, answer.ok()?.rows?)))
                .filter(|(_, (their_index, _))| *their_index == at)
                .map(|(node, (_, digest))| (node, digest))
                .collect();
            if !others.is_empty() {
                match rows_digest(view).await {
                    Ok(own) => self.conclude(at, "the rows of the state", own, &others),
                    Err(error) => return self.damaged(&error),
                }
                missing.retain(|node| !others.contains_key(node));
            }
            tokio::time::sleep(ROWS_TRY_PAUSE).await;
        }
        tracing::debug!(?missing, "rows were not compared with some: never at the same index");
    }

    /// Reads the whole disk. Rows that nobody asks for go bad as well, and are needed when another disk fails.
    async fn scrub(&self) {
        let store = self.store().clone();
        let pace = |bytes: usize| {
            std::thread::sleep(Duration::from_secs_f64(bytes as f64 / SCRUB_BYTES_PER_SEC_MAX as f64));
        };
        match tokio::task::spawn_blocking(move || store.verify(pace)).await {
            Ok(Ok(verified)) => {
                tracing::debug!(
                    verified.rows,
                    verified.bytes,
                    "everything on the disk was read and is sound"
                );
            }
            Ok(Err(error)) => self.damaged(&io::Error::other(error)),
            Err(_) => {}
        }
    }

    /// What another replica asks of this one.
    pub(crate) async fn answer_digest(&self, body: &[u8]) -> io::Result<Vec<u8>> {
        let question: Question = codec::from_json(body)?;
        let rows = match question.rows_at {
            Some(at) => self.own_rows_at(at).await?,
            None => None,
        };
        codec::to_json(&Answer { chain: self.digests().all(), rows })
    }

    async fn own_rows_at(&self, wanted: Revision) -> io::Result<Option<(Revision, Digest)>> {
        let _ = timeout(CATCH_UP_MAX, self.feed().reached(wanted)).await;
        let view = self.store().view();
        if state_machine::index_of(&view)? != wanted {
            return Ok(None);
        }
        Ok(Some((wanted, rows_digest(view).await?)))
    }

    async fn ask(&self, node: u64, question: &Question, patience: Duration) -> io::Result<Answer> {
        let mut client = self.network().client(node, Purpose::Heartbeat)?;
        let payload: Payload = self.network().payload(node, codec::to_json(question)?);
        let asked = timeout(patience, client.digests(payload)).await?;
        codec::from_json(&asked.map_err(io::Error::other)?.into_inner().body)
    }

    fn conclude(&self, at: Revision, in_what: &'static str, own: Digest, others: &BTreeMap<u64, Digest>) {
        match judge(own, others, self.voters().len()) {
            Verdict::Equal => {}
            Verdict::Differ(nodes) => self.raise(at, in_what, &nodes),
            Verdict::Wrong(nodes) => {
                self.raise(at, in_what, &nodes);
                self.condemn(format!(
                    "at revision {at} {in_what} differ from managers {nodes:?}, which are the majority and agree with \
                     each other: this manager's data is wrong. On its machine run: skep server --reset-from-peers"
                ));
            }
        }
    }

    fn raise(&self, at: Revision, in_what: &'static str, nodes: &[u64]) {
        let mut differs_from = self.alarms().differs_from();
        for node in nodes {
            // Once: it would be said every few seconds otherwise, and the first index is the interesting one.
            if differs_from.insert(*node, Difference { at, in_what }).is_none() {
                tracing::error!(
                    manager = node,
                    revision = at,
                    in_what,
                    "ALARM: this manager and another one differ where they must be equal"
                );
            }
        }
    }

    fn damaged(&self, error: &io::Error) {
        self.condemn(format!(
            "what is on the disk is not what was written: {error}. On this machine run: skep server --reset-from-peers"
        ));
    }

    /// Kept on the disk, so that a restart does not serve it again.
    fn condemn(&self, why: String) {
        tracing::error!(why, "ALARM: this manager stops");
        if let Err(error) = self.store().condemn(&why) {
            tracing::error!(%error, "the mark that this data must not be used could not be written");
        }
        self.alarms().0.condemned.send_replace(Some(why));
    }

    fn other_voters(&self) -> Vec<u64> {
        let own = self.identity().1;
        self.voters().into_iter().filter(|node| *node != own).collect()
    }
}

enum Due {
    Chain,
    Rows,
    Scrub,
}

async fn rows_digest(view: StateView) -> io::Result<Digest> {
    tokio::task::spawn_blocking(move || {
        let mut context = Context::new(&SHA256);
        for row in view.scan_prefix(b"") {
            let (key, value) = row.map_err(io::Error::other)?;
            for field in [&key, &value] {
                context.update(&(field.len() as u64).to_le_bytes());
                context.update(field);
            }
        }
        context.finish().as_ref().try_into().map_err(io::Error::other)
    })
    .await
    .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = [1; 32];
    const B: Digest = [2; 32];
    const C: Digest = [3; 32];

    #[test]
    fn who_differs_from_an_agreeing_majority_is_wrong_and_nobody_else() {
        let table = [
            (vec![(2, A), (3, A)], 3, Verdict::Equal),
            (vec![(2, B), (3, B)], 3, Verdict::Wrong(vec![2, 3])),
            (vec![(2, A), (3, B)], 3, Verdict::Differ(vec![3])),
            (vec![(2, B), (3, C)], 3, Verdict::Differ(vec![2, 3])),
            (vec![(2, B)], 3, Verdict::Differ(vec![2])),
            (vec![(2, B)], 2, Verdict::Differ(vec![2])),
            (vec![(2, B), (3, B)], 5, Verdict::Differ(vec![2, 3])),
            (vec![(2, B), (3, B), (4, B), (5, A)], 5, Verdict::Wrong(vec![2, 3, 4])),
            (vec![], 3, Verdict::Equal),
        ];
        for (others, voters, verdict) in table {
            assert_eq!(judge(A, &others.iter().copied().collect(), voters), verdict, "{others:?}");
        }
    }

    #[test]
    fn the_last_checkpoints_and_the_newest_entry_are_remembered() {
        let digests = Digests::default();
        let last = CHECKPOINT_EVERY_ENTRIES * (CHECKPOINTS_KEPT_MAX as u64 + 1);
        for index in 1..=last + 1 {
            digests.note(index, [index as u8; 32]);
        }
        assert_eq!(digests.at(CHECKPOINT_EVERY_ENTRIES), None);
        assert!(digests.at(2 * CHECKPOINT_EVERY_ENTRIES).is_some() && digests.at(last).is_some());
        assert!(digests.at(last + 1).is_some() && digests.at(last - 1).is_none());
        assert_eq!(digests.all().len(), CHECKPOINTS_KEPT_MAX + 1);
    }
}
