//! What must hold after a crash.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use skep_storage::{Checkpoint, Store};

use crate::child::{self, Journal};
use crate::power::Disaster;
use crate::workload::{Operation, WORKLOAD, World, id};

/// Far more than a sync takes.
const CALLBACK_WAIT_MAX: Duration = Duration::from_secs(60);

/// Opens what is left and checks it, twice: opening it must not change it. Then it must work.
pub(crate) fn survived(dir: &Path, journal: &Journal, disaster: Disaster, context: &str) {
    let worlds = World::history();
    for _ in 0..2 {
        let store = Store::open(dir, &child::identity())
            .unwrap_or_else(|error| panic!("{context}: the store does not open: {error}"));
        let seen = read(&store);
        let possible = possible(journal, disaster);
        let prefix = possible.clone().find(|count| worlds[*count] == seen);
        assert!(prefix.is_some(), "{context}: after {possible:?} operations it cannot be {seen:#?}");
        check_checkpoint(&store, journal, &worlds, context);
        drop(store);
        check_leftovers(dir, context);
    }
    goes_on(dir, context);
}

/// How many operations may have survived.
fn possible(journal: &Journal, disaster: Disaster) -> std::ops::RangeInclusive<usize> {
    match disaster {
        // What had been written was in the hands of the operating system, and that goes on.
        Disaster::Killed => written(journal)..=journal.started,
        Disaster::PowerCut | Disaster::Torn => journal.durable..=journal.started,
    }
}

/// How many operations from the first were certainly written: appends are left to the syncing thread, or to whatever is
/// written next.
fn written(journal: &Journal) -> usize {
    let last = WORKLOAD[..journal.returned]
        .iter()
        .rposition(|operation| !matches!(operation, Operation::Append(..) | Operation::Committed(_)));
    last.map_or(0, |at| at + 1).max(journal.durable)
}

fn read(store: &Store) -> World {
    let view = store.view();
    let position = view.position().expect("the position").map(<[u8]>::to_vec);
    assert_eq!(position, store.position().expect("the position"));
    let log = store.entries(0, u64::MAX, usize::MAX).expect("a log without holes");
    assert_eq!(store.last_entry().expect("the last entry"), log.last().cloned());
    World {
        vote: store.vote().expect("the vote"),
        committed: store.committed().expect("the committed position"),
        log: log.into_iter().collect(),
        purged: store.purged().expect("the purged position"),
        position,
        rows: view.scan_prefix(b"").map(|row| row.expect("a row")).collect(),
    }
}

/// The newest acknowledged snapshot is there, or the one that was being made, whole in any case.
fn check_checkpoint(store: &Store, journal: &Journal, worlds: &[World], context: &str) {
    let made = |count: usize| {
        let operations = WORKLOAD[..count].iter().enumerate();
        operations
            .filter(|(_, operation)| matches!(operation, Operation::Checkpoint))
            .map(|(at, _)| at)
            .next_back()
    };
    let acknowledged = made(journal.returned);
    let perhaps = made(journal.started);
    match store.latest_checkpoint().expect("the checkpoint") {
        None => assert_eq!(acknowledged, None, "{context}: the checkpoint is gone"),
        Some(checkpoint) => {
            let world = [acknowledged, perhaps].into_iter().flatten().map(|at| &worlds[at]);
            let found =
                world.into_iter().find(|world| world.position.as_deref() == Some(checkpoint.position()));
            let world = found.unwrap_or_else(|| panic!("{context}: {checkpoint:?} was never made"));
            assert_eq!(rows(&checkpoint), world.rows.clone().into_iter().collect::<Vec<_>>(), "{context}");
        }
    }
}

fn rows(checkpoint: &Checkpoint) -> Vec<(Vec<u8>, Vec<u8>)> {
    checkpoint.chunks(64).expect("chunks").flat_map(|chunk| chunk.expect("a chunk")).collect()
}

fn check_leftovers(dir: &Path, context: &str) {
    let entries = fs::read_dir(dir.join("snapshots")).expect("the folder of snapshots");
    let names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    let unfinished = names.iter().any(|name| name.to_string_lossy().starts_with("tmp-"));
    assert!(names.len() <= 1 && !unfinished, "{context}: left over: {names:?}");
}

/// The store takes up its work: appends, takes over a state, makes a snapshot, and keeps all of it.
fn goes_on(dir: &Path, context: &str) {
    let store = Store::open(dir, &child::identity()).expect("the store");
    let before = read(&store);
    let next = before.log.last_key_value().map_or(100, |(index, _)| index + 1);
    // Behind a purged end only one index follows; begin behind everything the workload purges.
    if before.log.is_empty() {
        store.purge(next - 1, &id(next - 1)).expect("purged");
    }
    let (sender, receiver) = mpsc::channel();
    store.append(vec![(next, id(next))], move |outcome| drop(sender.send(outcome))).expect("appended");
    receiver.recv_timeout(CALLBACK_WAIT_MAX).expect("answered").expect("durable");
    child::install(&store, 99);
    store.checkpoint().expect("a checkpoint");
    let after = read(&store);
    drop(store);
    let store = Store::open(dir, &child::identity()).expect("the store");
    assert_eq!(read(&store), after, "{context}");
    assert_eq!(after.log.len(), before.log.len() + 1, "{context}");
    assert_eq!(after.position, Some(id(99)), "{context}");
    let checkpoint = store.latest_checkpoint().expect("readable").expect("a checkpoint");
    assert_eq!(checkpoint.position(), id(99), "{context}");
}
