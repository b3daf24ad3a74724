//! What the log promises: order, no holes, and nothing acknowledged that is not durable.

use std::collections::BTreeMap;
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::testing::{Saboteur, answer, append, entry, identity, open};

const EVERYTHING: usize = usize::MAX;

fn indexes(store: &Store, from: u64, to: u64, bytes_max: usize) -> Vec<u64> {
    let entries = store.entries(from, to, bytes_max).expect("entries");
    entries.into_iter().map(|(index, _)| index).collect()
}

fn entries(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|index| entry(index, "entry")).collect()
}

#[test]
fn entries_are_readable_at_once_and_reported_durable_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, saboteur) = Saboteur::open(dir.path());
    let (sender, receiver) = mpsc::channel();
    for index in 1..=200 {
        let sender = sender.clone();
        let report = move |outcome: Result<()>| drop(sender.send(outcome.map(|()| index)));
        store.append(vec![entry(index, "entry")], report).expect("appended");
        assert_eq!(store.last_entry().expect("readable"), Some(entry(index, "entry")));
    }
    drop(sender);
    let reported: Vec<u64> = receiver.iter().map(|outcome| outcome.expect("durable")).collect();
    assert_eq!(reported, (1..=200).collect::<Vec<u64>>());
    assert!(saboteur.times("sync the log") <= 200, "never more than a sync for each");
}

#[test]
fn nobody_waits_for_a_sync_to_append_read_or_apply_and_nothing_overtakes_an_append() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, saboteur) = Saboteur::open(dir.path());
    let (sync, first) = saboteur.hang_in_a_sync(&store, entries(1..=1));
    let mut waiting = vec![first, append(&store, entries(2..=2))];
    assert_eq!(saboteur.times("append to the log"), 1, "left to the thread that syncs");
    assert_eq!(indexes(&store, 0, 9, EVERYTHING), vec![1, 2]);
    let later: [(&str, &dyn Fn()); 3] = [
        ("apply changes to the state", &|| store.apply(vec![], b"2").expect("applied")),
        ("save the vote", &|| store.save_vote(b"vote").expect("saved")),
        ("purge the log", &|| store.purge(2, b"two").expect("purged")),
    ];
    for (index, (step, act)) in (3..).zip(later) {
        waiting.push(append(&store, entries(index..=index)));
        act();
        let steps = saboteur.steps();
        let at = steps.iter().rposition(|seen| *seen == step).expect("was taken");
        assert_eq!(steps[at - 1], "append to the log", "before: {step}");
    }
    drop(sync);
    waiting.iter().for_each(|receiver| answer(receiver).expect("durable"));
}

#[test]
fn an_append_that_somebody_else_fails_to_write_is_not_reported_durable() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, saboteur) = Saboteur::open(dir.path());
    let (sync, first) = saboteur.hang_in_a_sync(&store, entries(1..=1));
    let second = append(&store, entries(2..=2));
    saboteur.fail_at("append to the log");
    store.apply(vec![], b"1").expect_err("the medium is gone");
    drop(sync);
    answer(&first).expect("was written before");
    let error = answer(&second).expect_err("was never written");
    assert!(matches!(error, StorageError::Poisoned { .. }), "{error}");
}

#[test]
fn closing_the_store_completes_what_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let receiver = append(&store, entries(1..=3));
    drop(store);
    receiver.try_recv().expect("answered before the store is closed").expect("durable");
}

#[test]
fn a_callback_may_hold_the_last_handle() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let (sender, receiver) = mpsc::channel();
    let handle = store.clone();
    let report = move |outcome: Result<()>| {
        drop(handle);
        drop(sender.send(outcome));
    };
    store.append(entries(1..=1), report).expect("appended");
    drop(store);
    answer(&receiver).expect("durable");
    // The sync thread closes the database, and a process that ends meanwhile takes its locks away under it.
    while let Err(error) = Store::open(dir.path(), &identity()) {
        assert!(matches!(error, StorageError::Locked { .. }), "{error}");
        std::thread::yield_now();
    }
}

#[test]
fn reading_stops_at_the_limit_but_not_before_the_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    append(&store, (1..=9).map(|index| (index, vec![0; 100])).collect());
    assert_eq!(indexes(&store, 2, 9, 300), vec![2, 3, 4]);
    assert_eq!(indexes(&store, 2, 9, 299), vec![2, 3]);
    assert_eq!(indexes(&store, 2, 9, 0), vec![2]);
    assert_eq!(indexes(&store, 8, 99, EVERYTHING), vec![8, 9]);
    assert_eq!(indexes(&store, 5, 5, EVERYTHING), Vec::<u64>::new());
}

#[test]
fn neither_holes_nor_overwriting() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    append(&store, entries(4..=6));
    for wrong in [8, 6, 1] {
        let error = store.append(entries(wrong..=wrong), |_| ()).expect_err("out of order");
        assert!(matches!(error, StorageError::OutOfOrder { expected: 7, .. }), "{error}");
    }
    let gap = vec![entry(7, "a"), entry(9, "b")];
    assert!(store.append(gap, |_| ()).is_err());
    assert_eq!(indexes(&store, 0, 99, EVERYTHING), vec![4, 5, 6]);
    store.purge(10, b"ten").expect("purged beyond the end");
    assert!(matches!(
        store.append(entries(13..=13), |_| ()),
        Err(StorageError::OutOfOrder { expected: 11, found: 13 })
    ));
}

#[test]
fn purging_keeps_the_id_and_never_goes_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    append(&store, entries(1..=9));
    store.purge(6, b"six").expect("purged");
    store.purge(2, b"two").expect("nothing to do");
    assert_eq!(store.purged().expect("an id").as_deref(), Some(&b"six"[..]));
    assert_eq!(indexes(&store, 0, 99, EVERYTHING), vec![7, 8, 9]);
    store.purge(9, b"nine").expect("purged");
    assert_eq!(store.last_entry().expect("empty"), None);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.last_entry().expect("empty"), None);
    append(&store, entries(10..=10));
    assert_eq!(indexes(&store, 0, 99, EVERYTHING), vec![10]);
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn purged_files_take_no_unpurged_entry_with_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    // Several write buffers full, so that there are several files.
    for first in (1..=400).step_by(50) {
        append(&store, (first..first + 50).map(|index| (index, noise(index, 64 << 10))).collect());
    }
    let disk = &store.inner.disk;
    let log = disk.table(LOG).expect("the log");
    disk.db().flush_cf(log).expect("flushed");
    disk.db().compact_range_cf(log, None::<&[u8]>, None::<&[u8]>);
    let files = || {
        disk.db()
            .live_files()
            .expect("files")
            .into_iter()
            .filter(|file| file.column_family_name == LOG)
            .count()
    };
    let files_before = files();
    store.purge(250, b"250").expect("purged");
    assert!(files() < files_before, "{files_before} files before, {} after", files());
    drop(store);
    let store = open(dir.path());
    assert_eq!(indexes(&store, 0, 999, EVERYTHING), (251..=400).collect::<Vec<u64>>());
}

#[derive(Debug, Clone)]
enum Operation {
    Append(u64),
    Truncate(Option<u64>),
    Purge(u64),
    Read(u64, u64),
    Reopen,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        5 => (0..6u64).prop_map(Operation::Append),
        2 => proptest::option::weighted(0.9, 0..40u64).prop_map(Operation::Truncate),
        2 => (0..40u64).prop_map(Operation::Purge),
        3 => (0..40u64, 0..40u64).prop_map(|(from, count)| Operation::Read(from, count)),
        1 => Just(Operation::Reopen),
    ];
    proptest::collection::vec(operation, 1..40)
}

/// What a log is, without a disk.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Vec<u8>>,
    purged: Option<u64>,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.entries.last_key_value().map(|(index, _)| *index);
        last.max(self.purged).map_or(0, |index| index + 1)
    }

    fn truncate_after(&mut self, index: Option<u64>) {
        self.entries.retain(|at, _| index.is_some_and(|index| *at <= index));
    }

    fn purge(&mut self, upto: u64) {
        if self.purged.is_none_or(|purged| purged < upto) {
            self.purged = Some(upto);
            self.entries.retain(|at, _| *at > upto);
        }
    }

    fn range(&self, from: u64, to: u64) -> Vec<(u64, Vec<u8>)> {
        let entries = self.entries.iter().filter(|(index, _)| (from..to).contains(*index));
        entries.map(|(index, entry)| (*index, entry.clone())).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_a_map_would(operations in operations()) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut store = open(dir.path());
        let mut model = Model::default();
        for (step, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Append(count) => {
                    let next = model.next();
                    let new: Vec<_> =
                        (next..next + count).map(|index| entry(index, &format!("step {step}"))).collect();
                    model.entries.extend(new.clone());
                    append(&store, new);
                }
                Operation::Truncate(index) => {
                    model.truncate_after(index);
                    store.truncate_after(index).expect("truncated");
                }
                Operation::Purge(upto) => {
                    model.purge(upto);
                    store.purge(upto, &upto.to_be_bytes()).expect("purged");
                }
                Operation::Read(from, count) => {
                    let found = store.entries(from, from + count, EVERYTHING).expect("entries");
                    prop_assert_eq!(found, model.range(from, from + count));
                }
                Operation::Reopen => {
                    drop(store);
                    store = open(dir.path());
                }
            }
            prop_assert_eq!(store.entries(0, 999, EVERYTHING).expect("entries"), model.range(0, 999));
            prop_assert_eq!(store.last_entry().expect("last"), model.range(0, 999).pop());
            let purged = store.purged().expect("purged");
            prop_assert_eq!(purged, model.purged.map(|upto| upto.to_be_bytes().to_vec()));
        }
    }
}
