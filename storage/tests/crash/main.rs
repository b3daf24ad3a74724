//! Property: whatever was acknowledged survives a crash at any step, and what survives has no holes.
//!
//! A child process (this same program) runs a fixed workload on a store and aborts itself before its n-th
//! step on the disk, for n = 0, 1, 2, … until it gets through. It writes down what it had started and what
//! had been acknowledged. After each death the parent opens what is left, three times over:
//!
//! - *killed*: the files as they are. The operating system lost nothing of what was written.
//! - *power cut*: the write-ahead log cut to what the last completed sync had covered.
//! - *torn*: the log cut half-way between that and its end, in the middle of a record.
//!
//! The check is one sentence: **the store is what the workload had made of it after some number of its
//! operations**, at least those that were acknowledged as durable and at most those that were started. With it
//! come the snapshot that had been acknowledged, no trace of half a staging, and that the store can go on.

mod check;
mod child;
mod power;
mod workload;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::power::Disaster;

/// The machine may have one core or many; more processes than this would only wait for the disk.
const CHILDREN_AT_ONCE: usize = 3;
/// A workload that does not end would be a crash test that does not end.
const STEPS_MAX: usize = 1000;

#[test]
fn acknowledged_data_survives_a_crash_at_every_step() {
    let next_step = AtomicUsize::new(0);
    let steps = AtomicUsize::new(STEPS_MAX);
    let disasters = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CHILDREN_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let step = next_step.fetch_add(1, Ordering::SeqCst);
                    if step >= steps.load(Ordering::SeqCst) {
                        return;
                    }
                    let outcome = crash_at(step);
                    disasters.fetch_add(outcome.disasters, Ordering::SeqCst);
                    if outcome.got_through {
                        steps.fetch_min(step, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let steps = steps.into_inner();
    let disasters = disasters.into_inner();
    println!("{steps} crash points, {disasters} stores opened after a crash");
    assert!(steps > 60, "the workload took {steps} steps only");
    assert!(steps < STEPS_MAX, "the workload never got through");
}

/// Not a test by itself: what the child runs.
#[test]
fn workload_in_a_child_process() {
    child::run_if_asked();
}

struct Outcome {
    got_through: bool,
    disasters: usize,
}

fn crash_at(step: usize) -> Outcome {
    let root = tempfile::tempdir().expect("a folder");
    let got_through = run_child(root.path(), step);
    let journal = child::Journal::read(root.path());
    let mut disasters = 0;
    // The copies first: opening the original changes it.
    for disaster in [Disaster::PowerCut, Disaster::Torn, Disaster::Killed] {
        if let Some(store) = power::strike(root.path(), disaster) {
            let context = format!("step {step}, {disaster:?}, {journal:?}");
            check::survived(&store, &journal, disaster, &context);
            disasters += 1;
        }
    }
    Outcome { got_through, disasters }
}

/// Whether the child got through the whole workload.
fn run_child(root: &Path, step: usize) -> bool {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["workload_in_a_child_process", "--exact", "--nocapture"])
        .env(child::ROOT, root)
        .env(child::STEP, step.to_string())
        .stdin(Stdio::null())
        .output()
        .expect("the child starts");
    let aborted = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(child::SIGABRT);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || aborted, "step {step}: the child failed by itself: {text}");
    output.status.success()
}
