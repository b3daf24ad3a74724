//! What the arrival of a whole state promises: all of it or nothing, and readers go on.

use crate::testing::{Saboteur, open, put, row, rows};
use crate::{StorageError, Store};

fn with_old_state(store: &Store) {
    store.apply(vec![put("a", "old"), put("b", "old")], b"p1").expect("applied");
}

#[test]
fn an_installed_state_replaces_the_old_one_for_later_views_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    with_old_state(&store);
    let before = store.view();
    let staging = store.stage().expect("staging");
    staging.put(vec![row("b", "new"), row("c", "new")]).expect("staged");
    assert_eq!(rows(&store.view()), vec![row("a", "old"), row("b", "old")]);
    store.apply(vec![put("d", "meanwhile")], b"p2").expect("applied");
    staging.install(b"p9").expect("installed");
    assert_eq!(rows(&before), vec![row("a", "old"), row("b", "old")]);
    assert_eq!(before.position().expect("a position"), Some(&b"p1"[..]));
    store.apply(vec![put("e", "after")], b"p10").expect("applied");
    let expected = vec![row("b", "new"), row("c", "new"), row("e", "after")];
    assert_eq!(rows(&store.view()), expected);
    drop(before);
    drop(store);
    let store = open(dir.path());
    assert_eq!(rows(&store.view()), expected);
    assert_eq!(store.position().expect("a position").as_deref(), Some(&b"p10"[..]));
}

#[test]
fn every_staging_starts_with_an_empty_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    with_old_state(&store);
    for round in ["1", "2", "3"] {
        let abandoned = store.stage().expect("staging");
        abandoned.put(vec![row("left over", round)]).expect("staged");
        drop(abandoned);
        let staging = store.stage().expect("staging");
        staging.put(vec![row("c", round)]).expect("staged");
        staging.install(round.as_bytes()).expect("installed");
        assert_eq!(rows(&store.view()), vec![row("c", round)]);
        assert_eq!(store.position().expect("a position").as_deref(), Some(round.as_bytes()));
    }
}

#[test]
fn one_at_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let staging = store.stage().expect("staging");
    assert!(matches!(store.stage(), Err(StorageError::Busy)));
    staging.install(b"p").expect("installed");
    drop(store.stage().expect("free again"));
    drop(store.stage().expect("free again"));
}

#[test]
fn an_install_that_fails_leaves_the_old_state() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, saboteur) = Saboteur::open(dir.path());
    with_old_state(&store);
    let staging = store.stage().expect("staging");
    staging.put(vec![row("c", "new")]).expect("staged");
    saboteur.fail_at("install the staged state");
    staging.install(b"p9").expect_err("the disk failed");
    drop(store);
    let store = open(dir.path());
    assert_eq!(rows(&store.view()), vec![row("a", "old"), row("b", "old")]);
    assert_eq!(store.position().expect("a position").as_deref(), Some(&b"p1"[..]));
}
