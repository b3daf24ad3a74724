//! Who has done what, and who was not allowed to: written with the change itself, and sealed so that nobody rewrites it unseen.
//!
//! An entry is written in the transaction of the change that it tells of, so there is no change without it. Entries come from
//! all managers at once, so they cannot be chained as they are written without standing in each other's way; the leader does that
//! every few seconds: a seal covers the entries that none has covered, and names the hash of the seal before (a hash chain as in
//! Haber and Stornetta, "How to time-stamp a digital document", 1991). Whoever keeps one seal's hash elsewhere can tell later
//! whether anything before it was changed or taken away.
//!
//! ```text
//!   entry e1 ─┐             entry e3 ─┐
//!   entry e2 ─┴─► seal 1 ───────────┬─┴─► seal 2 ─► …      hash(n) = SHA-256(hash(n-1), entries in the order of their ids)
//! ```

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_ledger::{ReadError, Record, Stored, Tx, View};

use crate::{CLUSTER, Ruling};

/// How long entries are kept. Seals stay: they are small, and the chain has to reach back.
pub const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Entries of one seal: more would make a transaction too large.
pub const ENTRIES_PER_SEAL_MAX: usize = 200;

/// Entries that go at once when their time is over.
const FORGOTTEN_AT_ONCE_MAX: usize = 200;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has done what was asked.
    Done,
    /// Whoever asked was not allowed to, or nobody known.
    Denied,
    /// The answer was no, and nothing has changed.
    Refused,
    /// It could not be done, or nobody knows whether it was.
    Failed,
}

/// One call, or several that were alike and came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id, in the order of time as far as the managers' clocks agree.
    pub id: String,
    /// When it was written; of several, the last one.
    pub at: Timestamp,
    /// Who asked; empty if nobody known.
    pub principal: String,
    /// The id of the token that they came with.
    pub token: String,
    /// From where; empty if that is not known.
    pub address: String,
    /// What was asked: method and path, without the query.
    pub call: String,
    /// The same with placeholders, as the API's description has it.
    pub route: String,
    /// What it was about, where the path does not say it.
    pub about: String,
    /// The operation that was started; empty if none was.
    pub operation: String,
    /// The id of the request; finds it in the log of the manager.
    pub request: String,
    /// The manager.
    pub node: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The code of the problem; empty if there was none.
    pub code: String,
    /// How many calls it tells of.
    pub count: u32,
    /// The seal that covers it; absent until there is one. Not part of what is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<u64>,
}

impl Record for Entry {
    const TABLE: &'static str = "audit";
    fn partition(&self) -> &str {
        day_of(&self.id)
    }
    fn id(&self) -> String {
        self.id.clone()
    }
}

/// An entry that no seal covers yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    entry: String,
}

impl Record for Open {
    const TABLE: &'static str = "audit-open";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.entry.clone()
    }
}

/// What vouches for some entries and for all before them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Counted from 1.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    /// How many entries it covers.
    pub entries: u32,
    /// The hash of the seal before, in hexadecimal digits; of the first, zeros.
    pub previous: String,
    /// Its own.
    pub hash: String,
}

impl Record for Seal {
    const TABLE: &'static str = "audit-seal";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        format!("{:020}", self.number)
    }
}

/// A day on which something was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    day: String,
}

impl Record for Day {
    const TABLE: &'static str = "audit-day";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.day.clone()
    }
}

/// The newest seal's number, so that the chain has one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    number: u64,
    hash: String,
}

impl Record for Head {
    const TABLE: &'static str = "audit-head";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        CLUSTER.into()
    }
}

/// What the first seal has in the place of a hash before it.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// An id for an entry that is written now; `unique` puts those of one day into their order, as a UUID of version 7 does.
pub fn entry_id(now: Timestamp, unique: &str) -> String {
    format!("{}.{unique}", now.to_zoned(TimeZone::UTC).date())
}

/// The day on which an entry was written, as `2026-11-28`.
pub fn day_of(id: &str) -> &str {
    id.split_once('.').map_or(id, |(day, _)| day)
}

/// Writes an entry.
pub fn record(tx: &mut Tx<'_>, entry: &Entry) {
    tx.put(entry);
    tx.put(&Open { entry: entry.id.clone() });
}

/// The entries of one day, oldest first.
pub fn entries(view: &View, day: &str) -> Ruling<Vec<Stored<Entry>>> {
    Ok(view.list::<Entry>(day)?)
}

/// All seals, oldest first.
pub fn seals(view: &View) -> Ruling<Vec<Stored<Seal>>> {
    Ok(view.list::<Seal>(CLUSTER)?)
}

/// The ids of entries that wait for a seal, oldest first, as many as one seal takes.
///
/// Read outside of the transaction that seals them: within it every entry that is written meanwhile would be a conflict.
pub fn open(view: &View) -> Ruling<Vec<String>> {
    let open = view.list::<Open>(CLUSTER)?;
    Ok(open.into_iter().take(ENTRIES_PER_SEAL_MAX).map(|open| open.record.entry).collect())
}

/// Covers entries with a seal; those that are covered already are left out.
pub fn seal(tx: &mut Tx<'_>, ids: &[String]) -> Ruling<Option<Seal>> {
    let head = tx.get::<Head>(CLUSTER, CLUSTER)?.map(|stored| stored.record);
    let (last, previous) = head.map_or((0, BEGINNING.to_owned()), |head| (head.number, head.hash));
    let mut covered = vec![];
    for id in ids {
        if tx.get::<Open>(CLUSTER, id)?.is_some() {
            tx.delete::<Open>(CLUSTER, id);
            covered.extend(tx.get::<Entry>(day_of(id), id)?.map(|stored| stored.record));
        }
    }
    if covered.is_empty() {
        return Ok(None);
    }
    covered.sort_by(|a, b| a.id.cmp(&b.id));
    let number = last + 1;
    let hash = hash(&previous, &covered)?;
    let entries = u32::try_from(covered.len()).unwrap_or(u32::MAX);
    for entry in covered {
        tx.put(&Day { day: day_of(&entry.id).to_owned() });
        tx.put(&Entry { seal: Some(number), ..entry });
    }
    let seal = Seal { number, at: tx.now(), entries, previous, hash };
    tx.put(&Head { number, hash: seal.hash.clone() });
    tx.put(&seal);
    Ok(Some(seal))
}

/// The hash of a seal over the one before and its entries, in the order of their ids: each as JSON with sorted members and
/// without `seal`, ended by a line feed, as `jq -cS 'del(.seal)'` writes it.
pub fn hash(previous: &str, entries: &[Entry]) -> Ruling<String> {
    let mut context = Context::new(&SHA256);
    context.update(previous.as_bytes());
    context.update(b"\n");
    for entry in entries {
        let value = serde_json::to_value(Entry { seal: None, ..entry.clone() }).map_err(ReadError::new)?;
        // Sorted, whatever order the library keeps members in.
        let members: BTreeMap<&String, &Value> = value.as_object().into_iter().flatten().collect();
        context.update(&serde_json::to_vec(&members).map_err(ReadError::new)?);
        context.update(b"\n");
    }
    let digest = context.finish();
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Days with entries, oldest first; the newest entries may wait for their seal on another one.
pub fn days(view: &View) -> Ruling<Vec<String>> {
    Ok(view.list::<Day>(CLUSTER)?.into_iter().map(|stored| stored.record.day).collect())
}

/// Entries whose time is over, as many as go at once. Only what a seal covers goes.
pub fn over(view: &View, now: Timestamp) -> Ruling<Vec<Entry>> {
    let Ok(limit) = now.checked_sub(KEPT) else { return Ok(vec![]) };
    let limit = limit.to_zoned(TimeZone::UTC).date().to_string();
    let mut over = vec![];
    for day in days(view)?.iter().filter(|day| **day < limit) {
        over.extend(
            entries(view, day)?.into_iter().map(|stored| stored.record).filter(|entry| entry.seal.is_some()),
        );
        if over.len() >= FORGOTTEN_AT_ONCE_MAX {
            break;
        }
    }
    over.truncate(FORGOTTEN_AT_ONCE_MAX);
    Ok(over)
}

/// Lets entries go whose time is over.
pub fn forget(tx: &mut Tx<'_>, entries: &[Entry]) {
    for entry in entries {
        tx.delete::<Entry>(day_of(&entry.id), &entry.id);
    }
}

#[cfg(test)]
mod tests {
    use skep_ledger::{Ledger as _, MemoryLedger, Request, transact};

    use super::*;

    fn entry(number: u32) -> Entry {
        let at = Timestamp::from_second(1_795_000_000 + i64::from(number)).expect("is a time");
        Entry {
            id: entry_id(at, &number.to_string()),
            at,
            principal: "ann".into(),
            token: "t1".into(),
            address: "10.0.0.1".into(),
            call: "DELETE /v1/environments/prod".into(),
            route: "/v1/environments/{environment}".into(),
            about: String::new(),
            operation: "op_1".into(),
            request: "r1".into(),
            node: "m1".into(),
            outcome: Outcome::Done,
            code: String::new(),
            count: 1,
            seal: None,
        }
    }

    async fn change<A: serde::Serialize + serde::de::DeserializeOwned + Send>(
        ledger: &MemoryLedger,
        rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
    ) -> A {
        transact(ledger, Request::new(), rule).await.expect("is allowed").answer
    }

    #[tokio::test]
    async fn seals_cover_each_entry_once_and_name_the_seal_before() {
        let ledger = MemoryLedger::new();
        change(&ledger, |tx| Ok([2, 1].map(|number| record(tx, &entry(number))))).await;
        let ids = open(&ledger.view()).expect("reads");
        let first = change(&ledger, |tx| seal(tx, &ids)).await.expect("covers two");
        assert_eq!((first.number, first.entries, first.previous.as_str()), (1, 2, BEGINNING));
        assert_eq!(change(&ledger, |tx| seal(tx, &ids)).await, None, "they are covered");
        change(&ledger, |tx| Ok([3].map(|number| record(tx, &entry(number))))).await;
        let ids = open(&ledger.view()).expect("reads");
        let second = change(&ledger, |tx| seal(tx, &ids)).await.expect("covers one");
        assert_eq!((second.number, second.entries, second.previous), (2, 1, first.hash.clone()));
        let kept = entries(&ledger.view(), day_of(&entry(1).id)).expect("reads");
        let kept: Vec<Entry> = kept.into_iter().map(|stored| stored.record).collect();
        assert_eq!(kept.iter().map(|entry| entry.seal).collect::<Vec<_>>(), [Some(1), Some(1), Some(2)]);
        assert_eq!(hash(BEGINNING, &kept[..2]).expect("hashes"), first.hash);
        let mut changed = kept[..2].to_vec();
        changed[0].principal = "ben".into();
        assert_ne!(hash(BEGINNING, &changed).expect("hashes"), first.hash);
        assert_ne!(hash(BEGINNING, &kept[..1]).expect("hashes"), first.hash);
    }

    #[tokio::test]
    async fn entries_go_after_ninety_days_once_a_seal_covers_them() {
        let ledger = MemoryLedger::new();
        change(&ledger, |tx| Ok([1, 2].map(|number| record(tx, &entry(number))))).await;
        change(&ledger, |tx| seal(tx, &[entry(1).id])).await;
        let over_at = |days_later: i64| {
            let now = entry(1).at + SignedDuration::from_hours(24 * days_later);
            over(&ledger.view(), now).expect("reads")
        };
        assert_eq!(over_at(90), []);
        let gone = over_at(92);
        assert_eq!(gone.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>(), [entry(1).id]);
        let forgotten = |tx: &mut Tx<'_>| {
            forget(tx, &gone);
            Ok(())
        };
        change(&ledger, forgotten).await;
        assert_eq!(entries(&ledger.view(), day_of(&entry(1).id)).expect("reads").len(), 1);
    }
}
