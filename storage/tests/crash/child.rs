//! The process that dies: runs the workload, keeps a journal, and aborts before the step it was told.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use skep_storage::{Identity, Observer, RowChange, Store};

use crate::power;
use crate::workload::{self, Operation, WORKLOAD};

/// The environment variable with the folder to work in. Without it the child has nothing to do.
pub(crate) const ROOT: &str = "SKEP_STORAGE_CRASH_ROOT";
/// The environment variable with the number of the step before which to die.
pub(crate) const STEP: &str = "SKEP_STORAGE_CRASH_STEP";
/// How a process that aborts itself ends.
pub(crate) const SIGABRT: i32 = 6;
/// Far more than a sync takes.
const CALLBACK_WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) fn identity() -> Identity {
    Identity { cluster: "meadow".to_owned(), node: 1 }
}

pub(crate) fn run_if_asked() {
    let (Some(root), Some(step)) = (std::env::var_os(ROOT), std::env::var(STEP).ok()) else {
        return;
    };
    let root = PathBuf::from(root);
    let die_at = step.parse().expect("the number of a step");
    let killer = Killer { root: root.clone(), die_at, steps: AtomicUsize::new(0), lengths: Mutex::default() };
    let store = Store::open_observed(&root.join("store"), &identity(), Arc::new(killer)).expect("a store");
    let journal = Arc::new(JournalWriter::create(&root));
    let mut waiting = Vec::new();
    for (number, operation) in WORKLOAD.iter().enumerate() {
        journal.write("started", number);
        perform(&store, &journal, number, operation, &mut waiting);
        journal.write("returned", number);
        if operation.is_durable_on_return() {
            journal.write("durable", number);
        }
    }
}

fn perform(
    store: &Store,
    journal: &Arc<JournalWriter>,
    number: usize,
    operation: &Operation,
    waiting: &mut Vec<mpsc::Receiver<()>>,
) {
    match operation {
        Operation::Vote(term) => store.save_vote(&workload::id(*term)).expect("vote"),
        Operation::Committed(index) => store.save_committed(Some(&workload::id(*index))).expect("committed"),
        Operation::Append(from, to, text) => {
            waiting.push(append(store, journal, number, workload::entries(*from, *to, text)));
        }
        Operation::Settle => {
            for receiver in waiting.drain(..) {
                receiver.recv_timeout(CALLBACK_WAIT_MAX).expect("the callback is called");
            }
        }
        Operation::Truncate(index) => store.truncate_after(*index).expect("truncate"),
        Operation::Purge(upto) => store.purge(*upto, &workload::id(*upto)).expect("purge"),
        Operation::Apply(index) => apply(store, *index),
        Operation::Checkpoint => drop(store.checkpoint().expect("checkpoint")),
        Operation::Abandon => {
            let staging = store.stage().expect("stage");
            staging.put(vec![(b"abandoned".to_vec(), b"never seen".to_vec())]).expect("put");
        }
        Operation::Install(index) => install(store, *index),
    }
}

fn append(
    store: &Store,
    journal: &Arc<JournalWriter>,
    number: usize,
    entries: Vec<(u64, Vec<u8>)>,
) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    let journal = journal.clone();
    let report = move |outcome: skep_storage::Result<()>| {
        outcome.expect("durable");
        journal.write("durable", number);
        let _ = sender.send(());
    };
    store.append(entries, report).expect("append");
    receiver
}

fn apply(store: &Store, index: u64) {
    let (put, deleted) = workload::changes(index);
    let mut changes: Vec<RowChange> =
        put.into_iter().map(|(key, value)| RowChange::Put(key, value)).collect();
    changes.push(RowChange::Delete(deleted));
    store.apply(changes, &workload::id(index)).expect("apply");
}

pub(crate) fn install(store: &Store, index: u64) {
    let staging = store.stage().expect("stage");
    for chunk in workload::installed(index).chunks(4) {
        staging.put(chunk.to_vec()).expect("put");
    }
    staging.install(&workload::id(index)).expect("install");
}

/// What the child had done when it died.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// How many operations were started.
    pub(crate) started: usize,
    /// How many operations returned.
    pub(crate) returned: usize,
    /// How many operations from the first were acknowledged as durable.
    pub(crate) durable: usize,
}

impl Journal {
    pub(crate) fn read(root: &Path) -> Journal {
        let mut journal = Journal::default();
        // Absent if the child died before the store was open.
        for line in fs::read_to_string(root.join("journal")).unwrap_or_default().lines() {
            let (event, number) = line.split_once(' ').expect("an event and a number");
            let count = number.parse::<usize>().expect("a number") + 1;
            match event {
                "started" => journal.started = count,
                "returned" => journal.returned = count,
                _ => journal.durable = journal.durable.max(count),
            }
        }
        journal
    }
}

/// Writes whole lines to a file, which outlives the process though not a power cut; the parent needs no more.
struct JournalWriter(Mutex<File>);

impl JournalWriter {
    fn create(root: &Path) -> JournalWriter {
        JournalWriter(Mutex::new(File::create(root.join("journal")).expect("a journal")))
    }

    fn write(&self, event: &str, number: usize) {
        let line = format!("{event} {number}\n");
        self.0.lock().expect("the journal").write_all(line.as_bytes()).expect("a line");
    }
}

/// Counts steps and dies before one of them. Notes what each sync covered.
struct Killer {
    root: PathBuf,
    die_at: usize,
    steps: AtomicUsize,
    /// How long the log was before the step that a thread is taking now.
    lengths: Mutex<HashMap<ThreadId, power::Covered>>,
}

impl Observer for Killer {
    fn before(&self, _step: &'static str) -> io::Result<()> {
        if self.steps.fetch_add(1, Ordering::SeqCst) == self.die_at {
            process::abort();
        }
        let covered = power::Covered::now(&self.root);
        self.lengths.lock().expect("the lengths").insert(thread::current().id(), covered);
        Ok(())
    }

    fn synced(&self, _step: &'static str) {
        let lengths = self.lengths.lock().expect("the lengths");
        let covered = lengths.get(&thread::current().id()).expect("a sync begins with a step");
        covered.note(&self.root);
    }
}
