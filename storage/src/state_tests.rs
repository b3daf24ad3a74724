//! What views and applied batches promise to readers.

use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel};

use super::*;
use crate::testing::{open, put, row, rows};

fn keys(view: &StateView, prefix: &[u8]) -> Vec<Vec<u8>> {
    view.scan_prefix(prefix).map(|row| row.expect("a row").0).collect()
}

#[test]
fn rows_and_position_move_together_and_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    assert_eq!(store.position().expect("none"), None);
    store.apply(vec![put("a", "1"), put("b", "2"), put("a", "3")], b"p1").expect("applied");
    store
        .apply(vec![RowChange::Delete(b"b".to_vec()), RowChange::Delete(b"z".to_vec())], b"p2")
        .expect("applied");
    drop(store);
    let store = open(dir.path());
    assert_eq!(rows(&store.view()), vec![row("a", "3")]);
    assert_eq!(store.position().expect("a position").as_deref(), Some(&b"p2"[..]));
}

#[test]
fn a_view_does_not_see_what_comes_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.apply(vec![put("a", "1")], b"p1").expect("applied");
    let before = store.view();
    store.apply(vec![put("a", "2"), put("b", "2")], b"p2").expect("applied");
    assert_eq!(before.get(b"a").expect("a row").as_deref(), Some(&b"1"[..]));
    assert_eq!(before.get(b"b").expect("no row"), None);
    assert_eq!(before.position().expect("a position"), Some(&b"p1"[..]));
    assert_eq!(rows(&before), vec![row("a", "1")]);
    assert_eq!(rows(&store.view()), vec![row("a", "2"), row("b", "2")]);
}

#[test]
fn a_view_can_be_sent_and_shared() {
    fn shareable<T: Send + Sync + 'static>(_: &T) {}
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    shareable(&store);
    shareable(&store.view());
    shareable(&store.checkpoint().expect("a checkpoint"));
}

#[test]
fn scans_end_where_the_prefix_ends() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let all: Vec<&[u8]> = vec![
        b"",
        b"a",
        b"a\xfe\xff",
        b"a\xff",
        b"a\xff\x00",
        b"a\xff\xff",
        b"a\xff\xff\xff",
        b"b",
        b"\xff",
        b"\xff\x00",
        b"\xff\xff",
        b"\xff\xff\x01",
    ];
    let changes = all.iter().map(|key| RowChange::Put(key.to_vec(), b"x".to_vec())).collect();
    store.apply(changes, b"p").expect("applied");
    let view = store.view();
    for prefix in &all {
        let expected: Vec<Vec<u8>> =
            all.iter().filter(|key| key.starts_with(prefix)).map(|key| key.to_vec()).collect();
        assert_eq!(keys(&view, prefix), expected, "prefix {prefix:?}");
    }
    assert_eq!(keys(&view, b"a\xff\xff\xff\xff"), Vec::<Vec<u8>>::new());
}

/// What one call has cost this thread, as the database counts it.
fn counted<T>(what: PerfMetric, call: impl FnOnce() -> T) -> u64 {
    rocksdb::perf::set_perf_stats(PerfStatsLevel::EnableCount);
    let mut context = PerfContext::default();
    context.reset();
    call();
    context.metric(what)
}

/// As many rows as a busy day leaves: their filter is larger than the parts a cache is divided into by default.
#[test]
fn a_row_that_is_not_there_is_known_not_to_be_without_the_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    for thousand in 0..600_u64 {
        let rows = (0..1_000).map(|row| RowChange::Put(key_of(thousand * 1_000 + row), vec![0; 8])).collect();
        store.apply(rows, b"p").expect("applied");
    }
    let disk = &store.inner.disk;
    let table = disk.table(store.inner.active_table().name()).expect("a table");
    disk.db().compact_range_cf(table, None::<&[u8]>, None::<&[u8]>);
    let absent = || store.view().get(&key_of(300_000)[..7]).expect("is read");
    assert_eq!(absent(), None, "now its part of the filter is cached");
    assert_eq!(counted(PerfMetric::BlockReadByte, absent), 0);
}

#[test]
fn rows_deleted_before_the_place_where_a_scan_begins_cost_it_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.apply((0..1_001).map(|row| RowChange::Put(key_of(row), vec![])).collect(), b"p").expect("applied");
    store.apply((0..1_000).map(|row| RowChange::Delete(key_of(row))).collect(), b"p").expect("applied");
    let view = store.view();
    let first = |from: &[u8]| view.scan_prefix_from(b"", from).next().expect("one").expect("is read").0;
    assert_eq!((first(b""), first(&key_of(990))), (key_of(1_000), key_of(1_000)));
    let skipped = |from: Vec<u8>| counted(PerfMetric::InternalDeleteSkippedCount, || first(&from));
    assert_eq!((skipped(vec![]), skipped(key_of(990))), (1_000, 10));
}

#[test]
fn a_scan_of_a_prefix_never_begins_before_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.apply(vec![put("a", "1"), put("b", "2"), put("c", "3")], b"p").expect("applied");
    let found = |from: &[u8]| store.view().scan_prefix_from(b"b", from).count();
    assert_eq!((found(b"a"), found(b"b"), found(b"c")), (1, 1, 0));
}

fn key_of(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}
