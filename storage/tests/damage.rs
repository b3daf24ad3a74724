//! Property: damaged files are noticed, or do no harm; other data than was written is never served.
//!
//! A store is made that has everything: table files of each table, a write-ahead log that is still needed, a purged
//! log, a snapshot. Then, in a copy each, one file is damaged: a bit flipped, the end cut off, the whole file removed,
//! at many places. Opening the copy and reading all of it must either
//!
//! - fail with [`StorageError::Corrupt`], which names what was being read, or
//! - give exactly what was there before.
//!
//! A snapshot may also be gone, because the state that it was made of is still there. Everything here had been
//! acknowledged, so an older state is as wrong as another one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::{fs, io, thread};

use skep_storage::{Identity, Row, RowChange, StorageError, Store};

/// Bits flipped per file: some at its ends, where headers and footers are, the others spread over it.
const FLIPS: usize = 24;
/// Places per file at which its end is cut off.
const CUTS: usize = 8;
/// The disk is slow and the processors are few.
const THREADS: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Damage {
    None,
    Flip { byte: u64, bit: u8 },
    Cut { to: u64 },
    Remove,
}

#[test]
fn damage_is_noticed_or_harmless() {
    let original = tempfile::tempdir().expect("a folder");
    let expected = fill(original.path());
    let cases = cases(original.path());
    let next = AtomicUsize::new(0);
    let noticed = AtomicUsize::new(0);
    let failures = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    while let Some((file, damage)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                        match try_one(original.path(), file, *damage, &expected) {
                            Ok(true) => drop(noticed.fetch_add(1, Ordering::SeqCst)),
                            Ok(false) => {}
                            Err(why) => failures.push(format!("{}, {damage:?}: {why}", file.display())),
                        }
                    }
                    failures
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect::<Vec<_>>()
    });
    let noticed = noticed.into_inner();
    println!("{} damages, {noticed} noticed, the others did no harm", cases.len());
    assert!(failures.is_empty(), "{} of {} damages:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(cases.len() > 300 && noticed > cases.len() / 4, "{} damages, {noticed} noticed", cases.len());
}

/// What is behind the end of such a log was durable once, and whole. It must not come back.
#[test]
fn a_write_ahead_log_that_is_used_again_has_one_end() {
    let original = tempfile::tempdir().expect("a folder");
    let (log, expected) = fill_until_a_log_is_used_again(original.path());
    let bytes = fs::metadata(original.path().join(&log)).expect("a file").len();
    let flips = (0..32).map(|part| Damage::Flip { byte: bytes * part / 32 + 100, bit: (part % 8) as u8 });
    let cuts = (0..8).map(|part| Damage::Cut { to: bytes * part / 8 });
    let (mut noticed, mut harmless) = (0, 0);
    for damage in flips.chain(cuts).chain([Damage::None]) {
        match try_one(original.path(), &log, damage, &expected) {
            Ok(true) => noticed += 1,
            Ok(false) => harmless += 1,
            Err(why) => panic!("{damage:?}: {why}"),
        }
    }
    assert!(noticed > 2 && harmless > 2, "{noticed} noticed, {harmless} without harm");
}

/// Answers which log it is. What is left behind is what a process leaves that is killed.
fn fill_until_a_log_is_used_again(left_behind: &Path) -> (PathBuf, Contents) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let store = Store::open(dir, &identity()).expect("the store opens");
    let newest = || {
        let logs = files(dir).into_iter().filter(|file| file.extension().is_some_and(|end| end == "log"));
        let log = logs.max().expect("a write-ahead log");
        let bytes = fs::metadata(dir.join(&log)).expect("a file").len();
        (log, bytes)
    };
    let mut number = 0;
    let mut write = || {
        number += 1;
        let row = RowChange::Put(text("key", number % 30), long(number));
        store.apply(vec![row], &text("position", number)).expect("applied");
        // With its sync the row is durable, too.
        append(&store, vec![(number, long(number))]);
    };
    let (mut log, _) = newest();
    for _ in 0..2_000 {
        write();
        let (found, bytes) = newest();
        // A new one that is long from the beginning was another one before.
        if found != log && bytes > 20 * long(0).len() as u64 {
            for _ in 0..8 {
                write();
            }
            assert_eq!(newest(), (found.clone(), bytes), "it is overwritten");
            let contents = read(&store).expect("it can be read");
            while !copied_undisturbed(dir, left_behind) {}
            return (found, contents);
        }
        log = found;
    }
    panic!("no write-ahead log was used again");
}

/// Whether nothing was written in the background meanwhile.
fn copied_undisturbed(from: &Path, to: &Path) -> bool {
    let state = || {
        let state = |file: &PathBuf| {
            fs::metadata(from.join(file)).and_then(|file| Ok((file.len(), file.modified()?)))
        };
        files(from).into_iter().map(|file| Some((state(&file).ok()?, file))).collect::<Option<Vec<_>>>()
    };
    let before = state();
    fs::remove_dir_all(to).expect("removed");
    before.is_some() && copy_all(from, to).is_ok() && state() == before
}

/// A few hundred of them fill a log.
fn long(number: u64) -> Vec<u8> {
    text("long", number).repeat(200)
}

/// All that a store says when everything is asked.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    vote: Option<Vec<u8>>,
    epoch: Option<u64>,
    committed: Option<Vec<u8>>,
    purged: Option<Vec<u8>>,
    entries: Vec<(u64, Vec<u8>)>,
    last: Option<(u64, Vec<u8>)>,
    position: Option<Vec<u8>>,
    rows: Vec<Row>,
    checkpoint: Option<(Vec<u8>, Vec<Row>)>,
}

fn identity() -> Identity {
    Identity { cluster: "meadow".to_owned(), node: 3 }
}

/// Makes the store, in several lives so that there are files of each kind.
fn fill(dir: &Path) -> Contents {
    for life in 0..3_u64 {
        let store = Store::open(dir, &identity()).expect("the store opens");
        store.begin_epoch(life + 1).expect("an epoch");
        for batch in 0..10 {
            let first = life * 200 + batch * 20 + 1;
            let entries = (first..first + 20).map(|index| (index, text("entry", index))).collect();
            append(&store, entries);
            let rows = (first..first + 20).map(|n| RowChange::Put(text("key", n % 300), text("value", n)));
            store.apply(rows.collect(), &text("position", first + 19)).expect("applied");
            store.save_committed(Some(&text("committed", first + 19))).expect("kept");
        }
        if life == 1 {
            store.purge(150, b"purged 150").expect("purged");
            store.checkpoint().expect("a checkpoint");
        }
        store.save_vote(&text("vote", life)).expect("a vote");
    }
    read(&Store::open(dir, &identity()).expect("the store opens")).expect("it can be read")
}

fn append(store: &Store, entries: Vec<(u64, Vec<u8>)>) {
    let (sender, receiver) = mpsc::channel();
    store.append(entries, move |outcome| drop(sender.send(outcome))).expect("appended");
    receiver.recv().expect("told").expect("durable");
}

fn text(what: &str, number: u64) -> Vec<u8> {
    format!("{what} {number:06} {}", "ballast ".repeat(8)).into_bytes()
}

fn read(store: &Store) -> Result<Contents, StorageError> {
    store.verify(|_| {})?;
    let view = store.view();
    let checkpoint = match store.latest_checkpoint()? {
        Some(checkpoint) => {
            let rows = checkpoint.chunks(4096)?.collect::<Result<Vec<_>, _>>()?.concat();
            Some((checkpoint.position().to_vec(), rows))
        }
        None => None,
    };
    Ok(Contents {
        vote: store.vote()?,
        epoch: store.epoch()?,
        committed: store.committed()?,
        purged: store.purged()?,
        entries: store.entries(0, u64::MAX, usize::MAX)?,
        last: store.last_entry()?,
        position: view.position()?.map(<[u8]>::to_vec),
        rows: view.scan_prefix(b"").collect::<Result<_, _>>()?,
        checkpoint,
    })
}

fn cases(root: &Path) -> Vec<(PathBuf, Damage)> {
    let mut cases = Vec::new();
    for file in files(root) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The lock has no content; the diary is for people.
        if name == "lock" || name == "LOCK" || name == "LOG" || name.starts_with("LOG.old") {
            continue;
        }
        let bytes = fs::metadata(root.join(&file)).expect("a file").len();
        cases.push((file.clone(), Damage::Remove));
        for flip in 0..FLIPS as u64 {
            let byte = match flip {
                0..4 => flip * 5,
                4..8 => bytes.saturating_sub(1 + (flip - 4) * 9),
                _ => bytes * (flip - 8) / (FLIPS as u64 - 8) + flip % 7,
            };
            if byte < bytes {
                cases.push((file.clone(), Damage::Flip { byte, bit: (flip % 8) as u8 }));
            }
        }
        for cut in 0..CUTS as u64 {
            cases.push((file.clone(), Damage::Cut { to: bytes * cut / CUTS as u64 }));
        }
        if bytes > 3 {
            cases.push((file.clone(), Damage::Cut { to: bytes - 3 }));
        }
    }
    cases
}

/// All files below a folder, relative to it.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    for name in files(from) {
        let to = to.join(&name);
        fs::create_dir_all(to.parent().unwrap_or(&to))?;
        fs::copy(from.join(&name), to)?;
    }
    Ok(())
}

/// Whether the damage was noticed; an error says what is wrong with how it was taken.
fn try_one(original: &Path, file: &Path, damage: Damage, expected: &Contents) -> Result<bool, String> {
    let copy = tempfile::tempdir().expect("a folder");
    copy_all(original, copy.path()).expect("a copy");
    strike(&copy.path().join(file), damage);
    let read = Store::open(copy.path(), &identity()).and_then(|store| read(&store));
    match read {
        Ok(contents) if contents == *expected => Ok(false),
        Ok(mut contents) if contents.checkpoint.is_none() => {
            contents.checkpoint.clone_from(&expected.checkpoint);
            if contents == *expected { Ok(true) } else { Err(difference(&contents, expected)) }
        }
        Ok(contents) => Err(format!("other data is served: {}", difference(&contents, expected))),
        Err(StorageError::Corrupt { .. }) => Ok(true),
        Err(error) => Err(format!("not called damage: {error:?}")),
    }
}

fn strike(path: &Path, damage: Damage) {
    match damage {
        Damage::None => {}
        Damage::Remove => fs::remove_file(path).expect("removed"),
        Damage::Cut { to } => {
            fs::File::options().write(true).open(path).expect("opened").set_len(to).expect("cut");
        }
        Damage::Flip { byte, bit } => {
            let mut bytes = fs::read(path).expect("read");
            bytes[byte as usize] ^= 1 << bit;
            fs::write(path, bytes).expect("written");
        }
    }
}

fn difference(found: &Contents, expected: &Contents) -> String {
    let short = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned())
    };
    format!(
        "vote {:?}, epoch {:?}, purged {:?}, {} of {} entries, {} of {} rows, position {:?}, checkpoint {}",
        short(&found.vote),
        found.epoch,
        short(&found.purged),
        found.entries.len(),
        expected.entries.len(),
        found.rows.len(),
        expected.rows.len(),
        short(&found.position),
        if found.checkpoint == expected.checkpoint { "equal" } else { "different" }
    )
}
