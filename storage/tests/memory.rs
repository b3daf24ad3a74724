//! Property: what the storage keeps in memory does not grow with what it keeps on the disk.
//!
//! The test has a process of its own, so that the resident size it reads is that of one store.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use skep_storage::{Identity, RowChange, Store};

/// A manager may take 80 MiB with everything in it; half of it is for the storage and this test's own data.
const RESIDENT_KIB_MAX: u64 = 48 << 10;
/// About 100 MiB of entries and 50 MiB of rows: several times all buffers and caches together.
const BATCHES: u64 = 400;
const BATCH: u64 = 250;
const VALUE_BYTES: usize = 1 << 10;
/// Far more than a sync takes.
const CALLBACK_WAIT_MAX: Duration = Duration::from_secs(60);

#[test]
fn resident_size_stays_bounded() {
    let dir = tempfile::tempdir().expect("a folder");
    let identity = Identity { cluster: "meadow".to_owned(), node: 1 };
    let store = Store::open(dir.path(), &identity).expect("a store");
    let empty = resident_kib();
    for batch in 0..BATCHES {
        fill(&store, batch);
    }
    let mut rows = 0;
    for row in store.view().scan_prefix(b"") {
        row.expect("a row");
        rows += 1;
    }
    assert_eq!(rows, BATCHES * BATCH / 2);
    let checkpoint = store.checkpoint().expect("a checkpoint");
    let sent: usize =
        checkpoint.chunks(1 << 20).expect("chunks").map(|chunk| chunk.expect("rows").len()).sum();
    assert_eq!(sent as u64, rows);
    let full = resident_kib();
    println!("resident: {empty} KiB empty, {full} KiB after {BATCHES} batches");
    assert!(full < RESIDENT_KIB_MAX, "{full} KiB resident, {empty} KiB when empty");
}

/// One batch of entries, half of which become rows; the log is purged behind them.
fn fill(store: &Store, batch: u64) {
    let first = batch * BATCH;
    let entries = (first..first + BATCH).map(|index| (index, value(index))).collect();
    let (sender, receiver) = mpsc::channel();
    store.append(entries, move |outcome| drop(sender.send(outcome))).expect("appended");
    receiver.recv_timeout(CALLBACK_WAIT_MAX).expect("answered").expect("durable");
    let rows =
        (first..first + BATCH / 2).map(|index| RowChange::Put(index.to_be_bytes().to_vec(), value(index)));
    store.apply(rows.collect(), &first.to_be_bytes()).expect("applied");
    if batch % 40 == 39 {
        store.purge(first - 10 * BATCH, &first.to_be_bytes()).expect("purged");
    }
}

/// Half noise, half text: compresses about as well as real objects do.
fn value(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |at: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if at.is_multiple_of(2) { b'x' } else { state as u8 }
    };
    (0..VALUE_BYTES).map(&mut next).collect()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its resident size");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}
