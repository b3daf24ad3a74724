//! What a checkpoint keeps, whatever happens to the store afterwards.

use std::fs;

use super::*;
use crate::testing::{checkpoint_rows, open, put, row, rows};

fn folders(dir: &Path) -> Vec<String> {
    files::names(&dir.join("snapshots")).expect("the folder of snapshots")
}

#[test]
fn a_checkpoint_is_of_its_moment_and_survives_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    assert!(store.latest_checkpoint().expect("none").is_none());
    store.apply(vec![put("a", "1"), put("b", "1")], b"p1").expect("applied");
    let checkpoint = store.checkpoint().expect("a checkpoint");
    store.apply(vec![put("a", "2")], b"p2").expect("applied");
    assert_eq!(checkpoint.position(), b"p1");
    assert_eq!(checkpoint_rows(&checkpoint, 1000), vec![row("a", "1"), row("b", "1")]);
    drop((store, checkpoint));
    let checkpoint = open(dir.path()).latest_checkpoint().expect("readable").expect("a checkpoint");
    assert_eq!(checkpoint.position(), b"p1");
    assert_eq!(checkpoint_rows(&checkpoint, 1000), vec![row("a", "1"), row("b", "1")]);
}

#[test]
fn a_checkpoint_of_nothing_has_no_position_and_no_rows() {
    let dir = tempfile::tempdir().expect("a folder");
    let checkpoint = open(dir.path()).checkpoint().expect("a checkpoint");
    assert_eq!(checkpoint.position(), b"");
    assert_eq!(checkpoint.chunks(1).expect("chunks").count(), 0);
}

#[test]
fn chunks_hold_every_row_once_whatever_their_size() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let changes = (0..100).map(|number| put(&format!("key {number:03}"), "seven c")).collect();
    store.apply(changes, b"p").expect("applied");
    let checkpoint = store.checkpoint().expect("a checkpoint");
    let expected = rows(&store.view());
    for bytes_max in [0, 14, 28, 29, 1000, usize::MAX] {
        assert_eq!(checkpoint_rows(&checkpoint, bytes_max), expected, "{bytes_max} bytes");
    }
    let sizes: Vec<usize> =
        checkpoint.chunks(28).expect("chunks").map(|chunk| chunk.expect("a chunk").len()).collect();
    assert_eq!(sizes, vec![2; 50]);
}

#[test]
fn a_checkpoint_after_an_install_is_of_the_installed_state() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.apply(vec![put("a", "old")], b"p1").expect("applied");
    let staging = store.stage().expect("staging");
    staging.put(vec![row("b", "new")]).expect("staged");
    let during = store.checkpoint().expect("a checkpoint");
    staging.install(b"p2").expect("installed");
    let after = store.checkpoint().expect("a checkpoint");
    assert_eq!((during.position(), checkpoint_rows(&during, 99)), (&b"p1"[..], vec![row("a", "old")]));
    assert_eq!((after.position(), checkpoint_rows(&after, 99)), (&b"p2"[..], vec![row("b", "new")]));
}

#[test]
fn an_older_checkpoint_goes_with_its_last_handle() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.apply(vec![put("a", "1")], b"p1").expect("applied");
    let older = store.checkpoint().expect("a checkpoint");
    store.apply(vec![put("a", "2")], b"p2").expect("applied");
    let newer = store.checkpoint().expect("a checkpoint");
    assert_eq!(folders(dir.path()), ["1", "2"]);
    let chunks = older.chunks(1000).expect("chunks");
    drop(older);
    assert_eq!(folders(dir.path()), ["1", "2"], "it is still being read");
    assert_eq!(chunks.flat_map(|chunk| chunk.expect("a chunk")).collect::<Vec<_>>(), vec![row("a", "1")]);
    assert_eq!(folders(dir.path()), ["2"]);
    drop(newer);
    assert_eq!(folders(dir.path()), ["2"], "the newest stays");
    store.checkpoint().expect("a checkpoint");
    assert_eq!(folders(dir.path()), ["3"]);
}

#[test]
fn leftovers_are_removed_and_damage_costs_the_damaged_one_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.apply(vec![put("a", "1")], b"p1").expect("applied");
    store.checkpoint().expect("a checkpoint");
    drop(store);
    let snapshots = dir.path().join("snapshots");
    for name in ["tmp-2", "tmp-2.tmp", "2", "somebody else's"] {
        fs::create_dir(snapshots.join(name)).expect("a folder");
        fs::write(snapshots.join(name).join("CURRENT"), "damaged").expect("a file");
    }
    let store = open(dir.path());
    assert_eq!(folders(dir.path()), ["1", "somebody else's"]);
    let checkpoint = store.latest_checkpoint().expect("readable").expect("the older one");
    assert_eq!(checkpoint.position(), b"p1");
    store.checkpoint().expect("a checkpoint");
    drop(checkpoint);
    assert_eq!(folders(dir.path()), ["3", "somebody else's"]);
}
