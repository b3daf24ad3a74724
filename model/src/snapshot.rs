//! Backups of the whole cluster: when they are taken, which ones are kept, and how the last attempt went.
//!
//! Three records, because each has one writer: people wish a [`Schedule`], the leader records each [`Snapshot`] that was
//! written and verified, and the [`Health`] of the schedule. A snapshot that has to go is marked; the manager that
//! keeps the file removes it and then the record, so that no file is ever forgotten, and none is removed because
//! nobody knows it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use crate::ids::SnapshotId;
use crate::{CLUSTER, Refusal, Ruling};

/// The one schedule that there is.
pub const DEFAULT: &str = "default";

/// Twice a day, unless people wish otherwise.
const EVERY_MINUTES: u32 = 12 * 60;
/// A backup reads the whole state; more often than this would be a load.
const EVERY_MINUTES_MIN: u32 = 5;
/// Less often than monthly is no schedule any more.
const EVERY_MINUTES_MAX: u32 = 31 * 24 * 60;
/// Two days and a half of backups, unless people wish otherwise.
const KEEP: u32 = 5;
/// Each is a record and a file.
const KEEP_MAX: u32 = 1_000;
/// A key for every person who may restore is plenty; each costs a line in every file.
const RECIPIENTS_MAX: usize = 16;
/// The first one of a new cluster waits until there may be something in it.
const FIRST_AFTER: SignedDuration = SignedDuration::from_mins(10);
/// After a failure, before the next attempt.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// When backups are taken, where to, and who can read them. A wish of people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Are any taken?
    pub enabled: bool,
    /// Minutes between two.
    pub every_minutes: u32,
    /// How many are kept.
    pub keep: u32,
    /// A folder that every manager has; without one, each uses its data folder.
    pub directory: Option<String>,
    /// To which recovery keys they are encrypted.
    pub recipients: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What people can wish about the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleWish {
    /// Are any taken?
    pub enabled: bool,
    /// Minutes between two.
    pub every_minutes: u32,
    /// How many are kept.
    pub keep: u32,
    /// A folder that every manager has.
    pub directory: Option<String>,
    /// To which recovery keys they are encrypted; each was read before.
    pub recipients: Vec<String>,
}

/// A backup that was written, read back and found to be whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The manager that has the file.
    pub manager: String,
    /// Where on that manager.
    pub path: String,
    /// When it was taken.
    pub created_at: Timestamp,
    /// When it was read back.
    pub verified_at: Timestamp,
    /// The epoch of the cluster.
    pub epoch: u64,
    /// The newest change in it.
    pub snapshot_revision: u64,
    /// Rows in it.
    pub rows: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// It has to go: the manager removes the file, then this record.
    #[serde(default)]
    pub removal: bool,
}

/// How the schedule fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The last time that a backup was begun.
    pub last_attempt_at: Option<Timestamp>,
    /// The last one that was verified.
    pub last_success_at: Option<Timestamp>,
    /// The epoch of that one: another cluster's backup is none of this one.
    pub last_success_epoch: u64,
    /// The newest change in that one.
    pub last_success_revision: u64,
    /// Why the last attempt failed; none if it did not.
    pub error: Option<String>,
}

impl Record for Schedule {
    const TABLE: &'static str = "snapshot-schedule";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        DEFAULT.into()
    }
}

impl Record for Snapshot {
    const TABLE: &'static str = "snapshot";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Record for Health {
    const TABLE: &'static str = "snapshot-health";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        DEFAULT.into()
    }
}

/// The schedule of a new cluster: on, for the recovery key that was made with it. Repeating it changes nothing.
pub fn bootstrap(tx: &mut Tx<'_>, recipient: Option<&str>) -> Ruling<()> {
    if tx.get::<Schedule>(CLUSTER, DEFAULT)?.is_none() {
        let recipients = recipient.map(str::to_owned).into_iter().collect();
        let now = tx.now();
        tx.put(&Schedule {
            enabled: true,
            every_minutes: EVERY_MINUTES,
            keep: KEEP,
            directory: None,
            recipients,
            created_at: now,
            updated_at: now,
        });
    }
    Ok(())
}

/// The schedule, if the cluster has one.
pub fn schedule(view: &View) -> Ruling<Schedule> {
    let found = view.get::<Schedule>(CLUSTER, DEFAULT)?.map(|stored| stored.record);
    found.ok_or_else(|| Refusal::NotFound { what: "snapshot schedule", name: DEFAULT.into(), scope: None })
}

/// To which recovery keys backups are encrypted: none before there is a schedule.
pub fn recipients(view: &View) -> Ruling<Vec<String>> {
    let found = view.get::<Schedule>(CLUSTER, DEFAULT)?;
    Ok(found.map(|stored| stored.record.recipients).unwrap_or_default())
}

/// How the schedule fares.
pub fn health(view: &View) -> Ruling<Health> {
    Ok(view.get::<Health>(CLUSTER, DEFAULT)?.map(|stored| stored.record).unwrap_or_default())
}

/// The snapshots that are kept, newest first.
pub fn list(view: &View) -> Ruling<Vec<(Snapshot, u64)>> {
    let mut all: Vec<_> =
        view.list::<Snapshot>(CLUSTER)?.into_iter().map(|stored| (stored.record, stored.revision)).collect();
    all.sort_by_key(|(snapshot, _)| std::cmp::Reverse((snapshot.created_at, snapshot.id.clone())));
    Ok(all)
}

/// The snapshot of this id.
pub fn find(view: &View, id: &str) -> Ruling<(Snapshot, u64)> {
    let found = view.get::<Snapshot>(CLUSTER, id)?.map(|stored| (stored.record, stored.revision));
    found.ok_or_else(|| missing(id))
}

/// Changes the schedule.
pub fn set_schedule(tx: &mut Tx<'_>, wish: &ScheduleWish) -> Ruling<Schedule> {
    check(wish)?;
    let now = tx.now();
    let known = tx.get::<Schedule>(CLUSTER, DEFAULT)?;
    let schedule = Schedule {
        enabled: wish.enabled,
        every_minutes: wish.every_minutes,
        keep: wish.keep,
        directory: wish.directory.clone(),
        recipients: wish.recipients.clone(),
        created_at: known.as_ref().map_or(now, |known| known.created_at),
        updated_at: now,
    };
    tx.put(&schedule);
    Ok(schedule)
}

fn check(wish: &ScheduleWish) -> Ruling<()> {
    let refuse = |what, value: String, allowed: String| Err(Refusal::InvalidValue { what, value, allowed });
    if !(EVERY_MINUTES_MIN..=EVERY_MINUTES_MAX).contains(&wish.every_minutes) {
        let allowed = format!("{EVERY_MINUTES_MIN} to {EVERY_MINUTES_MAX} minutes");
        return refuse("every_minutes", wish.every_minutes.to_string(), allowed);
    }
    if !(1..=KEEP_MAX).contains(&wish.keep) {
        return refuse("keep", wish.keep.to_string(), format!("1 to {KEEP_MAX}"));
    }
    if let Some(directory) = &wish.directory
        && (!directory.starts_with('/') || directory.contains('\0'))
    {
        return refuse("directory", directory.clone(), "an absolute path".into());
    }
    if wish.recipients.len() > RECIPIENTS_MAX || (wish.enabled && wish.recipients.is_empty()) {
        let allowed =
            format!("1 to {RECIPIENTS_MAX} while the schedule is on; make a key: skep snapshot new-key FILE");
        return refuse("recipients", format!("{} keys", wish.recipients.len()), allowed);
    }
    Ok(())
}

/// Is it time for the next one?
pub fn is_due(view: &View, epoch: u64, now: Timestamp) -> Ruling<bool> {
    let Some(schedule) = view.get::<Schedule>(CLUSTER, DEFAULT)? else {
        return Ok(false);
    };
    let health = health(view)?;
    if !schedule.enabled || schedule.recipients.is_empty() {
        return Ok(false);
    }
    if health.error.is_some()
        && health.last_attempt_at.is_some_and(|last| now.duration_since(last) < RETRY_AFTER)
    {
        return Ok(false);
    }
    let every = SignedDuration::from_mins(schedule.every_minutes.into());
    Ok(match health.last_success_at {
        Some(last) if health.last_success_epoch == epoch => now.duration_since(last) >= every,
        // Restored or recovered: whatever was saved before is not this cluster's future.
        Some(_) => true,
        None => now.duration_since(schedule.created_at) >= FIRST_AFTER,
    })
}

/// A backup was written and verified: it is kept, and the oldest ones go.
pub fn taken(tx: &mut Tx<'_>, snapshot: &Snapshot) -> Ruling<()> {
    let keep = tx.get::<Schedule>(CLUSTER, DEFAULT)?.map_or(KEEP, |schedule| schedule.keep);
    let mut kept: Vec<Snapshot> =
        tx.list::<Snapshot>(CLUSTER)?.into_iter().map(|stored| stored.record).collect();
    kept.retain(|known| !known.removal && known.id != snapshot.id);
    kept.sort_by_key(|known| std::cmp::Reverse(known.created_at));
    for oldest in kept.into_iter().skip(keep.saturating_sub(1) as usize) {
        tx.put(&Snapshot { removal: true, ..oldest });
    }
    tx.put(snapshot);
    tx.put(&Health {
        last_attempt_at: Some(snapshot.created_at),
        last_success_at: Some(snapshot.verified_at),
        last_success_epoch: snapshot.epoch,
        last_success_revision: snapshot.snapshot_revision,
        error: None,
    });
    Ok(())
}

/// No backup came about.
pub fn failed(tx: &mut Tx<'_>, why: &str) -> Ruling<()> {
    let known = tx.get::<Health>(CLUSTER, DEFAULT)?.map(|stored| stored.record).unwrap_or_default();
    tx.put(&Health { last_attempt_at: Some(tx.now()), error: Some(why.to_owned()), ..known });
    Ok(())
}

/// A snapshot has to go.
pub fn remove(tx: &mut Tx<'_>, id: &str) -> Ruling<Snapshot> {
    let known = tx.get::<Snapshot>(CLUSTER, id)?.ok_or_else(|| missing(id))?;
    let going = Snapshot { removal: true, ..known.record };
    tx.put(&going);
    Ok(going)
}

/// Its file is gone.
pub fn removed(tx: &mut Tx<'_>, id: &SnapshotId) -> Ruling<()> {
    tx.delete::<Snapshot>(CLUSTER, id.as_str());
    Ok(())
}

fn missing(id: &str) -> Refusal {
    Refusal::NotFound { what: "snapshot", name: id.into(), scope: None }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
