//! What views and applied batches promise to readers.

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
    assert_eq!(before.position().expect("a position").as_deref(), Some(&b"p1"[..]));
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
