//! Covers entries of the audit with seals, and lets those go whose time is over, while this manager leads.
//!
//! Which entries wait for a seal is followed in the feed, and only the leader's first look reads whole days: to look for them
//! every few seconds would cost more than writing them does, once there are many.

use std::collections::VecDeque;
use std::time::Duration;

use skep_ledger::{
    Feed, Filter, Key, Record as _, Request, Revision, Stored, Topic, Tx, View, Watch, WatchEvent, transact,
};
use skep_model::Ruling;
use skep_model::audit::{self, ENTRIES_PER_SEAL_MAX, Entry, FORGOTTEN_AT_ONCE_MAX};
use tokio::time::{interval, sleep, timeout};

use super::WRITING_MAX;
use crate::Api;
use crate::problem::{Code, Problem, Reply};

/// How long more is waited for when something has come: much is taken in at a time, and it fits into the buffer of a watch.
const GATHERED_FOR: Duration = Duration::from_millis(100);

/// How often new entries are covered.
const SEALED_EVERY: Duration = Duration::from_secs(5);

/// How often old ones are looked for, counted in the above: every hour.
const FORGOTTEN_EVERY: u32 = 720;

/// Entries that wait for a seal.
struct Unsealed {
    changes: Watch,
    /// The last seal reaches up to here.
    after: Revision,
    /// In the order in which they were written.
    waiting: VecDeque<(Revision, Key)>,
    /// Something may have been missed: they are to be found anew.
    is_lost: bool,
}

impl Unsealed {
    /// Those that a view does not know of come by the feed. Reads a lot if a lot was written since the last seal; blocks.
    fn find(feed: &Feed, view: impl FnOnce() -> View) -> Ruling<Unsealed> {
        let since = *feed.latest().borrow();
        let changes = feed.watch_matching(since, Filter::of([Topic::table(Entry::TABLE)]));
        let view = view();
        let known = audit::unsealed(&view)?.into_iter().filter(|entry| entry.revision <= since);
        let waiting = known.map(|entry| (entry.revision, entry.key())).collect();
        Ok(Unsealed { changes, after: audit::sealed_up_to(&view)?, waiting, is_lost: false })
    }

    /// Waits until something has come, and takes it in. May be given up at any time.
    async fn follow(&mut self) {
        let event = self.changes.next().await;
        self.take(event);
        sleep(GATHERED_FOR).await;
    }

    fn take(&mut self, event: WatchEvent) {
        let WatchEvent::Changes(changes) = event else {
            self.is_lost = true;
            return;
        };
        for change in changes.iter().filter(|change| change.revision > self.after) {
            let written = change.rows.iter().filter(|row| row.key.table == Entry::TABLE && !row.deleted);
            self.waiting.extend(written.map(|row| (change.revision, row.key.clone())));
        }
    }

    /// How many the next seal covers, and up to which revision: what was written together stays together.
    fn next(&self) -> Option<(usize, Revision)> {
        let (upto, _) = self.waiting.get(ENTRIES_PER_SEAL_MAX - 1).or(self.waiting.back())?;
        Some((self.waiting.partition_point(|(revision, _)| revision <= upto), *upto))
    }
}

async fn followed(unsealed: &mut Option<Unsealed>) {
    match unsealed {
        Some(unsealed) => unsealed.follow().await,
        None => std::future::pending().await,
    }
}

impl Api {
    /// Covers entries with seals and lets old ones go while this manager leads; for ever.
    pub(crate) async fn keep_seals(self) {
        let mut due = interval(SEALED_EVERY);
        let mut round = 0_u32;
        let mut unsealed: Option<Unsealed> = None;
        let mut some_are_over = false;
        loop {
            let is_due = tokio::select! {
                _ = due.tick() => true,
                () = followed(&mut unsealed) => false,
            };
            if !self.parts.cluster.is_leader() {
                unsealed = None;
                continue;
            }
            unsealed = unsealed.filter(|unsealed| !unsealed.is_lost);
            let are_many = unsealed.as_ref().is_some_and(|some| some.waiting.len() >= ENTRIES_PER_SEAL_MAX);
            if are_many || is_due {
                unsealed = tried("seal", self.covered(unsealed)).await.flatten();
            }
            if is_due {
                some_are_over |= round.is_multiple_of(FORGOTTEN_EVERY);
                round = round.wrapping_add(1);
            }
            if is_due && some_are_over {
                // New entries are not to wait for old ones.
                let forgetting = timeout(WRITING_MAX, tried("let go of", self.forget_audit()));
                some_are_over = forgetting.await.ok().flatten().is_none();
            }
        }
    }

    /// Covers the entries that no seal covers.
    pub async fn seal_audit(&self) {
        tried("seal", self.covered(None)).await;
    }

    /// Covers all that wait. Nothing is answered if another manager has sealed meanwhile.
    async fn covered(&self, unsealed: Option<Unsealed>) -> Reply<Option<Unsealed>> {
        let mut unsealed = match unsealed {
            Some(unsealed) => unsealed,
            None => {
                let ledger = self.parts.ledger.clone();
                let find = move || Unsealed::find(ledger.feed(), || ledger.view());
                tokio::task::spawn_blocking(find).await.map_err(interrupted)??
            }
        };
        while let Some((count, upto)) = unsealed.next() {
            let after = unsealed.after;
            let entries = read(&self.ledger().view(), unsealed.waiting.range(..count))?;
            let seal = |tx: &mut Tx<'_>| audit::seal(tx, after, upto, &entries);
            if transact(self.ledger(), Request::new(), seal).await?.answer.is_none() {
                return Ok(None);
            }
            unsealed.after = upto;
            unsealed.waiting.drain(..count);
        }
        Ok(Some(unsealed))
    }

    async fn forget_audit(&self) -> Reply<()> {
        loop {
            let over = audit::over(&self.ledger().view(), self.ledger().now())?;
            if over.is_empty() {
                return Ok(());
            }
            for some in over.chunks(FORGOTTEN_AT_ONCE_MAX) {
                let forget = |tx: &mut Tx<'_>| -> Ruling<()> {
                    audit::forget(tx, some);
                    Ok(())
                };
                transact(self.ledger(), Request::new(), forget).await?;
            }
        }
    }
}

fn read<'k>(view: &View, keys: impl Iterator<Item = &'k (Revision, Key)>) -> Ruling<Vec<Stored<Entry>>> {
    let entries = keys.map(|(_, key)| view.get::<Entry>(&key.partition, &key.id));
    Ok(entries.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

fn interrupted(error: tokio::task::JoinError) -> Box<Problem> {
    Problem::new(Code::InternalError, error.to_string())
}

/// What cannot be done now is tried again. Without a limit of time: a first look at many entries that was given up would begin
/// anew each time, and no seal would ever come of it.
async fn tried<T>(what: &str, done: impl Future<Output = Reply<T>>) -> Option<T> {
    done.await
        .inspect_err(|problem| {
            tracing::debug!(what, detail = problem.detail, "the audit could not be kept yet")
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use skep_ledger::{Ledger as _, MemoryLedger};

    use super::*;
    use crate::audit::tests::entry;

    /// In one transaction.
    async fn write(ledger: &MemoryLedger, names: &[&str]) {
        let rule = |tx: &mut Tx<'_>| -> Ruling<()> {
            names.iter().for_each(|name| audit::record(tx, &entry(name)));
            Ok(())
        };
        assert!(transact(ledger, Request::new(), rule).await.is_ok(), "is written");
    }

    fn waiting(unsealed: &Unsealed) -> Vec<(Revision, String)> {
        let name = |key: &Key| key.id.rsplit('.').next().unwrap_or_default().to_owned();
        unsealed.waiting.iter().map(|(revision, key)| (*revision, name(key))).collect()
    }

    #[tokio::test]
    async fn what_is_there_and_what_comes_meanwhile_and_later_waits_once() {
        let ledger = MemoryLedger::new();
        write(&ledger, &["a", "b"]).await;
        let view = || {
            write(&ledger, &["c"]).now_or_never().expect("is written at once");
            ledger.view()
        };
        let mut unsealed = Unsealed::find(ledger.feed(), view).expect("reads");
        unsealed.follow().await;
        write(&ledger, &["d"]).await;
        unsealed.follow().await;
        let expected =
            [(1, "a"), (1, "b"), (2, "c"), (3, "d")].map(|(revision, name)| (revision, name.into()));
        assert_eq!((waiting(&unsealed), unsealed.next()), (expected.to_vec(), Some((4, 3))));
    }

    #[tokio::test]
    async fn what_was_written_together_has_one_seal() {
        let ledger = MemoryLedger::new();
        for number in 1..ENTRIES_PER_SEAL_MAX {
            write(&ledger, &[&format!("{number}")]).await;
        }
        write(&ledger, &["x", "y"]).await;
        write(&ledger, &["z"]).await;
        let unsealed = Unsealed::find(ledger.feed(), || ledger.view()).expect("reads");
        assert_eq!(unsealed.next(), Some((ENTRIES_PER_SEAL_MAX + 1, ENTRIES_PER_SEAL_MAX as Revision)));
    }

    #[tokio::test]
    async fn whoever_has_missed_something_looks_again() {
        let ledger = MemoryLedger::new();
        let mut unsealed = Unsealed::find(ledger.feed(), || ledger.view()).expect("reads");
        ledger.feed().reset(9);
        unsealed.follow().await;
        assert!(unsealed.is_lost);
    }
}
