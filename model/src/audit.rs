//! Who has done what, and who was not allowed to: written with the change itself, and sealed so that nobody rewrites it unseen.
//!
//! An entry is written in the transaction of the change that it tells of, so there is no change without it. Entries come from
//! all managers at once, so they cannot be chained as they are written without standing in each other's way; the leader does that
//! every few seconds: a seal covers the entries of all revisions since the one before, and names its hash (a hash chain as in
//! Haber and Stornetta, "How to time-stamp a digital document", 1991). Whoever keeps one seal's hash elsewhere can tell later
//! whether anything before it was changed or taken away.
//!
//! ```text
//!   revision  7: e1 ─┐             12: e3 ─┐
//!   revision 11: e2 ─┴─► seal 1 ─────────┬─┴─► seal 2 ─► …      hash(n) = SHA-256(hash(n-1), entries in the order of their ids)
//!                        (0 to 11]          (11 to 12]
//! ```
//!
//! Which seal covers an entry follows from its revision and is written nowhere: a seal costs the same for one entry and for a
//! thousand.

use aws_lc_rs::digest::{Context, SHA256};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use skep_ledger::{ReadError, Record, Revision, Stored, Tx, View};

use crate::{CLUSTER, Ruling};

/// How long entries are kept. Seals stay: they are small, and the chain has to reach back.
pub const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Entries of one seal, but for those of one revision, which stay together: whoever checks it holds them all.
pub const ENTRIES_PER_SEAL_MAX: usize = 1_000;

/// Entries that go at once when their time is over: more would make a transaction too large.
pub const FORGOTTEN_AT_ONCE_MAX: usize = 200;

/// Entries whose time is over that are found at a time: looking passes over what has gone before.
const OVER_MAX: usize = 10_000;

/// Entries that are read at a time.
const PAGE: usize = 1_000;

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

/// What vouches for some entries and for all before them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Counted from 1.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    /// It covers entries behind this revision ...
    pub after: Revision,
    /// ... up to this one.
    pub upto: Revision,
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
        seal_id(self.upto)
    }
}

/// In the order of revisions, so that the seal of an entry is found from its own.
fn seal_id(upto: Revision) -> String {
    format!("{upto:020}")
}

/// The newest seal, so that the chain has one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    number: u64,
    upto: Revision,
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
}

/// The entries from one day to another, if they are named, and behind the id `after`, oldest first; read as they are asked for.
pub fn entries<'v>(
    view: &'v View,
    since: Option<&str>,
    until: Option<&str>,
    after: &str,
) -> Ruling<impl Iterator<Item = Ruling<Stored<Entry>>> + use<'v>> {
    let since = since.max(Some(day_of(after))).unwrap_or_default();
    let days = view.partitions::<Entry>()?.into_iter();
    let days: Vec<_> =
        days.filter(|day| **day >= *since && until.is_none_or(|until| **day <= *until)).collect();
    let after = after.to_owned();
    Ok(days.into_iter().flat_map(move |day| entries_of(view, day, after.clone())))
}

fn entries_of(
    view: &View,
    day: String,
    after: String,
) -> impl Iterator<Item = Ruling<Stored<Entry>>> + use<'_> {
    let (mut after, mut page, mut is_last) = (after, vec![].into_iter(), false);
    std::iter::from_fn(move || {
        if page.len() == 0 && !is_last {
            match view.page::<Entry>(&day, &after, PAGE) {
                Ok(found) => {
                    is_last = found.len() < PAGE;
                    after = found.last().map(|last| last.id.clone()).unwrap_or_default();
                    page = found.into_iter();
                }
                Err(error) => {
                    is_last = true;
                    return Some(Err(error.into()));
                }
            }
        }
        page.next().map(Ok)
    })
}

/// The seals that cover entries behind a revision, oldest first, at most `limit`.
pub fn seals(view: &View, after: Revision, limit: usize) -> Ruling<Vec<Seal>> {
    let seals = view.page::<Seal>(CLUSTER, &seal_id(after), limit)?;
    Ok(seals.into_iter().map(|stored| stored.record).collect())
}

/// The seal that covers the entries of a revision, if there is one yet.
pub fn seal_of(view: &View, revision: Revision) -> Ruling<Option<Seal>> {
    Ok(seals(view, revision.saturating_sub(1), 1)?.pop())
}

/// Up to which revision entries are sealed.
pub fn sealed_up_to(view: &View) -> Ruling<Revision> {
    Ok(view.get::<Head>(CLUSTER, CLUSTER)?.map_or(0, |head| head.upto))
}

/// The entries that wait for a seal, in the order of their revisions. Reads all of each day to which something was added since
/// the last seal.
pub fn unsealed(view: &View) -> Ruling<Vec<Stored<Entry>>> {
    let sealed = sealed_up_to(view)?;
    let mut unsealed = vec![];
    for day in view.partitions::<Entry>()? {
        if view.changed_at::<Entry>(&day)? <= sealed {
            continue;
        }
        for entry in entries_of(view, day, String::new()) {
            unsealed.extend(entry.map(|entry| Some(entry).filter(|entry| entry.revision > sealed))?);
        }
    }
    unsealed.sort_by_key(|entry| entry.revision);
    Ok(unsealed)
}

/// Covers entries with a seal: all those behind the revision `after`, up to `upto`. Nothing, if that is not where the chain ends.
pub fn seal(
    tx: &mut Tx<'_>,
    after: Revision,
    upto: Revision,
    entries: &[Stored<Entry>],
) -> Ruling<Option<Seal>> {
    let head = tx.get::<Head>(CLUSTER, CLUSTER)?.map(|stored| stored.record);
    let head = head.unwrap_or_else(|| Head { number: 0, upto: 0, hash: BEGINNING.to_owned() });
    if head.upto != after || entries.is_empty() {
        return Ok(None);
    }
    let number = head.number + 1;
    let mut covered: Vec<&Entry> = entries.iter().map(|entry| &entry.record).collect();
    covered.sort_by(|a, b| a.id.cmp(&b.id));
    let hash = hash(&head.hash, &covered)?;
    let entries = u32::try_from(covered.len()).unwrap_or(u32::MAX);
    let seal = Seal { number, at: tx.now(), after, upto, entries, previous: head.hash, hash };
    tx.put(&Head { number, upto, hash: seal.hash.clone() });
    tx.put(&seal);
    Ok(Some(seal))
}

/// The hash of a seal over the one before and its entries, in the order of their ids: each as JSON with sorted members, ended by
/// a line feed, as `jq -cS 'del(.seal)'` writes what the API shows of it.
pub fn hash(previous: &str, entries: &[&Entry]) -> Ruling<String> {
    let mut context = Context::new(&SHA256);
    context.update(previous.as_bytes());
    context.update(b"\n");
    for entry in entries {
        context.update(&serde_json::to_vec(&Sorted::from(*entry)).map_err(ReadError::new)?);
        context.update(b"\n");
    }
    let digest = context.finish();
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// An entry with its members in the order of their names.
#[derive(Serialize)]
struct Sorted<'e> {
    about: &'e str,
    address: &'e str,
    at: Timestamp,
    call: &'e str,
    code: &'e str,
    count: u32,
    id: &'e str,
    node: &'e str,
    operation: &'e str,
    outcome: Outcome,
    principal: &'e str,
    request: &'e str,
    route: &'e str,
    token: &'e str,
}

impl<'e> From<&'e Entry> for Sorted<'e> {
    fn from(entry: &'e Entry) -> Sorted<'e> {
        let Entry {
            id, principal, token, address, call, route, about, operation, request, node, code, ..
        } = entry;
        let Entry { at, outcome, count, .. } = *entry;
        Sorted {
            about,
            address,
            at,
            call,
            code,
            count,
            id,
            node,
            operation,
            outcome,
            principal,
            request,
            route,
            token,
        }
    }
}

/// Entries whose time is over, the oldest of them. Only what a seal covers goes.
pub fn over(view: &View, now: Timestamp) -> Ruling<Vec<Entry>> {
    let Ok(limit) = now.checked_sub(KEPT) else { return Ok(vec![]) };
    let limit = limit.to_zoned(TimeZone::UTC).date().to_string();
    let sealed = sealed_up_to(view)?;
    let mut over = vec![];
    for entry in entries(view, None, None, "")? {
        let entry = entry?;
        if day_of(&entry.id) >= limit.as_str() || over.len() == OVER_MAX {
            break;
        }
        if entry.revision <= sealed {
            over.push(entry.record);
        }
    }
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
        }
    }

    async fn change<A: serde::Serialize + serde::de::DeserializeOwned + Send>(
        ledger: &MemoryLedger,
        rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
    ) -> A {
        transact(ledger, Request::new(), rule).await.expect("is allowed").answer
    }

    async fn sealed(ledger: &MemoryLedger) -> Option<Seal> {
        let view = ledger.view();
        let (after, open) = (sealed_up_to(&view).expect("reads"), unsealed(&view).expect("reads"));
        change(ledger, |tx| seal(tx, after, view.revision(), &open)).await
    }

    fn all(ledger: &MemoryLedger) -> Vec<Stored<Entry>> {
        let view = ledger.view();
        entries(&view, None, None, "").expect("reads").collect::<Ruling<_>>().expect("reads")
    }

    #[tokio::test]
    async fn seals_cover_each_entry_once_and_name_the_seal_before() {
        let ledger = MemoryLedger::new();
        change(&ledger, |tx| Ok([2, 1].map(|number| record(tx, &entry(number))))).await;
        let first = sealed(&ledger).await.expect("covers two");
        assert_eq!((first.number, first.entries, first.previous.as_str()), (1, 2, BEGINNING));
        assert_eq!(sealed(&ledger).await, None, "they are covered");
        change(&ledger, |tx| Ok([3].map(|number| record(tx, &entry(number))))).await;
        let second = sealed(&ledger).await.expect("covers one");
        assert_eq!((second.number, second.entries, second.previous.clone()), (2, 1, first.hash.clone()));
        let kept = all(&ledger);
        let number =
            |entry: &Stored<Entry>| Some(seal_of(&ledger.view(), entry.revision).expect("reads")?.number);
        assert_eq!(kept.iter().map(number).collect::<Vec<_>>(), [Some(1), Some(1), Some(2)]);
        let [one, two] = [&kept[0].record, &kept[1].record];
        assert_eq!(hash(BEGINNING, &[one, two]).expect("hashes"), first.hash);
        let changed = Entry { principal: "ben".into(), ..one.clone() };
        assert_ne!(hash(BEGINNING, &[&changed, two]).expect("hashes"), first.hash);
        assert_ne!(hash(BEGINNING, &[one]).expect("hashes"), first.hash);
        let chain = seals(&ledger.view(), 0, 9).expect("reads");
        assert_eq!(chain, [first.clone(), second.clone()]);
        assert_eq!(seals(&ledger.view(), first.upto, 9).expect("reads"), [second]);
    }

    #[tokio::test]
    async fn a_seal_that_does_not_follow_the_last_one_is_not_made() {
        let ledger = MemoryLedger::new();
        change(&ledger, |tx| Ok([1].map(|number| record(tx, &entry(number))))).await;
        let open = unsealed(&ledger.view()).expect("reads");
        let stale = open.clone();
        change(&ledger, |tx| seal(tx, 0, 1, &open)).await.expect("covers one");
        assert_eq!(change(&ledger, |tx| seal(tx, 0, 1, &stale)).await, None);
    }

    #[test]
    fn what_is_hashed_is_the_entry_with_its_members_sorted() {
        let sorted: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_value(serde_json::to_value(entry(1)).expect("is JSON")).expect("is an object");
        let hashed = serde_json::to_string(&Sorted::from(&entry(1))).expect("is JSON");
        assert_eq!(hashed, serde_json::to_string(&sorted).expect("is JSON"));
    }

    #[tokio::test]
    async fn entries_are_read_from_day_to_day_and_from_where_one_has_stopped() {
        let ledger = MemoryLedger::new();
        let day = |days: i64, number: i64| {
            let at = entry(1).at + SignedDuration::from_hours(24 * days);
            Entry { id: entry_id(at, &format!("{number:05}")), at, ..entry(1) }
        };
        let many = PAGE as i64 + 2;
        for number in 0..many {
            change(&ledger, |tx| Ok([record(tx, &day(1, number))])).await;
        }
        change(&ledger, |tx| Ok([record(tx, &day(0, 1)), record(tx, &day(2, 1))])).await;
        let view = ledger.view();
        let read = |since: Option<i64>, until: Option<i64>, after: &str| {
            let name = |days: Option<i64>| days.map(|days| day_of(&day(days, 0).id).to_owned());
            let found = entries(&view, name(since).as_deref(), name(until).as_deref(), after).expect("reads");
            found.map(|entry| entry.expect("reads").record.id).collect::<Vec<_>>()
        };
        let mut expected = vec![day(0, 1).id];
        expected.extend((0..many).map(|number| day(1, number).id));
        expected.push(day(2, 1).id);
        assert_eq!(read(None, None, ""), expected);
        assert_eq!(read(Some(1), Some(1), ""), expected[1..=PAGE + 2]);
        assert_eq!(read(None, None, &day(1, many - 2).id), expected[PAGE + 2..]);
        assert_eq!(read(Some(2), None, &day(0, 1).id), expected[PAGE + 3..]);
    }

    #[tokio::test]
    async fn entries_go_after_ninety_days_once_a_seal_covers_them() {
        let ledger = MemoryLedger::new();
        change(&ledger, |tx| Ok([1].map(|number| record(tx, &entry(number))))).await;
        sealed(&ledger).await.expect("covers one");
        change(&ledger, |tx| Ok([2].map(|number| record(tx, &entry(number))))).await;
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
        assert_eq!(all(&ledger).len(), 1);
    }
}
