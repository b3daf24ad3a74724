//! What opening a data folder refuses, and what it heals.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::files;
use crate::testing::{Saboteur, answer, append, entry, identity, open, put, rows};

fn refusal(dir: &Path, identity: &Identity) -> StorageError {
    Store::open(dir, identity).expect_err("the store is refused")
}

#[test]
fn small_records_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    assert_eq!(store.vote().expect("no vote"), None);
    store.save_vote(b"term 7").expect("a vote");
    store.save_committed(Some(b"entry 5")).expect("a position");
    store.apply(vec![], b"6").expect("applied");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.vote().expect("a vote").as_deref(), Some(&b"term 7"[..]));
    assert_eq!(store.committed().expect("a position").as_deref(), Some(&b"entry 5"[..]));
    store.save_committed(None).expect("no position");
    assert_eq!(store.committed().expect("no position"), None);
    store.apply(vec![], b"7").expect("applied");
    assert_eq!(store.committed().expect("no position"), None);
}

#[test]
fn a_store_is_refused_to_everybody_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    assert!(matches!(refusal(dir.path(), &identity()), StorageError::Locked { .. }));
    drop(store);
    let other_cluster = Identity { cluster: "garden".to_owned(), node: 3 };
    let error = refusal(dir.path(), &other_cluster);
    assert!(matches!(&error, StorageError::WrongCluster { found, .. } if found == "meadow"), "{error}");
    let other_node = Identity { node: 4, ..identity() };
    let error = refusal(dir.path(), &other_node);
    assert!(matches!(error, StorageError::WrongNode { found: 3, expected: 4, .. }), "{error}");
    open(dir.path());
}

#[test]
fn a_newer_format_is_refused_whatever_follows_its_number() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let disk = &store.inner.disk;
    let mut batch = WriteBatch::default();
    batch.put_cf(disk.table(META).expect("meta"), IDENTITY, [FORMAT + 1, 9, 9]);
    disk.write("write a newer identity", batch).expect("written");
    drop(store);
    let error = refusal(dir.path(), &identity());
    assert!(matches!(error, StorageError::NewerFormat { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn a_list_of_files_whose_end_is_gone_is_noticed() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    store.apply(vec![put("a", "old")], b"1").expect("applied");
    answer(&append(&store, vec![entry(1, "one")])).expect("durable");
    drop(store);
    // What was in the write-ahead log goes into files now, one for each table.
    drop(open(dir.path()));
    let database = dir.path().join("db");
    let list = fs::read_to_string(database.join("CURRENT")).expect("names the list");
    let list = database.join(list.trim_end());
    let bytes = fs::metadata(&list).expect("the list").len();
    fs::File::options().write(true).open(&list).expect("opened").set_len(bytes - 3).expect("cut");
    let error = refusal(dir.path(), &identity()).in_full();
    assert!(error.contains("its list of files"), "{error}");
}

#[test]
fn a_view_keeps_the_store_locked() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let view = store.view();
    drop(store);
    assert!(matches!(refusal(dir.path(), &identity()), StorageError::Locked { .. }));
    drop(view);
    open(dir.path());
}

#[test]
fn after_a_failed_sync_nothing_is_believed_any_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, saboteur) = Saboteur::open(dir.path());
    answer(&append(&store, vec![entry(1, "good")])).expect("durable");
    assert!(saboteur.saw_a_sync());
    saboteur.fail_at("sync the log");
    let error = answer(&append(&store, vec![entry(2, "bad")])).expect_err("the sync failed");
    assert!(matches!(error, StorageError::Io { doing: "sync the log", .. }), "{error}");
    let syncs = saboteur.times("sync the log");
    let refused = [
        store.append(vec![entry(3, "late")], |_| panic!("not called")).expect_err("append"),
        store.save_vote(b"vote").expect_err("vote"),
        store.truncate_after(None).expect_err("truncate"),
        store.purge(1, b"id").expect_err("purge"),
        store.apply(vec![put("a", "1")], b"1").expect_err("apply"),
        store.entries(0, 9, 99).expect_err("read"),
        store.last_entry().expect_err("last"),
        store.position().expect_err("position"),
        store.view().get(b"a").expect_err("view"),
        store.checkpoint().expect_err("checkpoint"),
        store.latest_checkpoint().expect_err("latest checkpoint"),
        store.stage().expect_err("stage"),
    ];
    for error in refused {
        assert!(matches!(error, StorageError::Poisoned { .. }), "{error}");
        assert!(error.to_string().contains("could not sync the log"), "{error}");
        assert!(error.to_string().contains("the medium is gone"), "{error}");
    }
    assert_eq!(saboteur.times("sync the log"), syncs, "a failed sync is never tried again");
    drop(store);
    assert_eq!(open(dir.path()).entries(1, 2, 99).expect("entries"), vec![entry(1, "good")]);
}

#[test]
fn a_failed_write_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, saboteur) = Saboteur::open(dir.path());
    store.apply(vec![put("a", "1")], b"1").expect("applied");
    saboteur.fail_at("apply changes to the state");
    store.apply(vec![put("a", "2")], b"2").expect_err("the disk is full");
    drop(store);
    let store = open(dir.path());
    assert_eq!(rows(&store.view()), vec![crate::testing::row("a", "1")]);
    assert_eq!(store.position().expect("a position").as_deref(), Some(&b"1"[..]));
}

/// The write-ahead log that is written now.
fn live_log(dir: &Path) -> PathBuf {
    let folder = dir.join("db");
    let names = files::names(&folder).expect("names");
    let name = names.iter().rev().find(|name| name.ends_with(".log")).expect("a write-ahead log");
    folder.join(name)
}

fn filled(dir: &Path) {
    let store = open(dir);
    for index in 1..=50 {
        answer(&append(&store, vec![entry(index, "acknowledged")])).expect("durable");
    }
}

#[test]
fn a_flipped_bit_among_acknowledged_writes_is_found_at_every_start() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path());
    let path = live_log(dir.path());
    let mut bytes = fs::read(&path).expect("the log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("the damaged log");
    for _ in 0..2 {
        let error = refusal(dir.path(), &identity());
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_log_that_lost_acknowledged_writes_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path());
    let path = live_log(dir.path());
    let file = fs::File::options().write(true).open(&path).expect("the log");
    let bytes = file.metadata().expect("its size").len();
    file.set_len(bytes - 10).expect("cut");
    let error = refusal(dir.path(), &identity());
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
}

#[test]
fn a_database_that_lost_its_list_of_files_is_not_created_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path());
    fs::remove_file(dir.path().join("db/CURRENT")).expect("removed");
    let error = refusal(dir.path(), &identity());
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
}

#[test]
fn a_removed_database_is_not_created_anew_as_if_nothing_had_been_promised() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path());
    fs::remove_dir_all(dir.path().join("db")).expect("removed");
    let error = refusal(dir.path(), &identity());
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
}
