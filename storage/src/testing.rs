//! What the tests of this crate share.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::disk::locked;
use crate::{Checkpoint, Identity, Observer, Result, Row, RowChange, StateView, Store};

/// Far more than any single sync takes; reached only when a callback is lost.
const CALLBACK_WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) fn identity() -> Identity {
    Identity { cluster: "meadow".to_owned(), node: 3 }
}

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir, &identity()).expect("the store opens")
}

pub(crate) fn entry(index: u64, text: &str) -> (u64, Vec<u8>) {
    (index, format!("{text}-{index}").into_bytes())
}

pub(crate) fn row(key: &str, value: &str) -> Row {
    (key.as_bytes().to_vec(), value.as_bytes().to_vec())
}

pub(crate) fn put(key: &str, value: &str) -> RowChange {
    let (key, value) = row(key, value);
    RowChange::Put(key, value)
}

pub(crate) fn rows(view: &StateView) -> Vec<Row> {
    view.scan_prefix(b"").collect::<Result<_>>().expect("the rows can be read")
}

pub(crate) fn checkpoint_rows(checkpoint: &Checkpoint, bytes_max: usize) -> Vec<Row> {
    let chunks = checkpoint.chunks(bytes_max).expect("the checkpoint opens");
    chunks.flat_map(|chunk| chunk.expect("a chunk")).collect()
}

/// Appends, and returns where the answer of the sync thread arrives.
pub(crate) fn append(store: &Store, entries: Vec<(u64, Vec<u8>)>) -> Receiver<Result<()>> {
    let (sender, receiver) = mpsc::channel();
    store.append(entries, move |outcome| drop(sender.send(outcome))).expect("the entries are appended");
    receiver
}

pub(crate) fn answer(receiver: &Receiver<Result<()>>) -> Result<()> {
    receiver.recv_timeout(CALLBACK_WAIT_MAX).expect("the callback is called")
}

/// Keeps the steps it sees, and lets the disk fail or hang at one of them when told to.
#[derive(Default)]
pub(crate) struct Saboteur {
    steps: Mutex<Vec<&'static str>>,
    fails_at: Mutex<Option<&'static str>>,
    hangs_at: Mutex<Option<(&'static str, Receiver<()>)>>,
    synced: AtomicBool,
}

impl Saboteur {
    pub(crate) fn open(dir: &Path) -> (Store, Arc<Saboteur>) {
        let saboteur = Arc::new(Saboteur::default());
        let store = Store::open_observed(dir, &identity(), saboteur.clone()).expect("the store opens");
        (store, saboteur)
    }

    pub(crate) fn fail_at(&self, step: &'static str) {
        *locked(&self.fails_at) = Some(step);
    }

    /// Whoever comes to this step next stays there until the answer is dropped.
    fn hang_at(&self, step: &'static str) -> Sender<()> {
        let (release, released) = mpsc::channel();
        *locked(&self.hangs_at) = Some((step, released));
        release
    }

    /// Appends, and returns once the sync of that hangs: what keeps it, and where its answer arrives.
    pub(crate) fn hang_in_a_sync(
        &self,
        store: &Store,
        entries: Vec<(u64, Vec<u8>)>,
    ) -> (Sender<()>, Receiver<Result<()>>) {
        let release = self.hang_at("sync the log");
        let receiver = append(store, entries);
        while self.times("sync the log") == 0 {
            thread::yield_now();
        }
        (release, receiver)
    }

    pub(crate) fn steps(&self) -> Vec<&'static str> {
        locked(&self.steps).clone()
    }

    pub(crate) fn times(&self, step: &str) -> usize {
        locked(&self.steps).iter().filter(|seen| **seen == step).count()
    }

    pub(crate) fn saw_a_sync(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }
}

impl Observer for Saboteur {
    fn before(&self, step: &'static str) -> io::Result<()> {
        locked(&self.steps).push(step);
        let hangs = locked(&self.hangs_at).take_if(|(at, _)| *at == step);
        if let Some((_, released)) = hangs {
            // Ends with an error when the other end is dropped, and that is the sign.
            let _ = released.recv();
        }
        match *locked(&self.fails_at) {
            Some(fails_at) if fails_at == step => Err(io::Error::other("the medium is gone")),
            _ => Ok(()),
        }
    }

    fn synced(&self, _step: &'static str) {
        self.synced.store(true, Ordering::Release);
    }
}
