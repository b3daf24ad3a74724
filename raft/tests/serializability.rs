//! Three replicas and several proposers at each: whatever they do at the same time, with leaders that change meanwhile,
//! is as if it had been done one after another, in the order of the revisions.
//!
//! Every transaction answers with what it has read and what it has written. The answer of a repeated request is the
//! first one's, so the history is whole even where an answer was lost on its way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "parts of it are for other tests")]
mod cluster;
#[path = "../../ledger/tests/contract/mod.rs"]
#[allow(dead_code, reason = "parts of it are for the ledger in memory")]
mod contract;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cluster::{Cluster, Counter};
use contract::{Ledgers, agrees_with_the_model, steps};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde::{Deserialize, Serialize};
use skep_ledger::{Ledger, Outcome, Request, RequestId, Revision, TransactError, Tx, Txn, View, transact};
use skep_raft::Replica;

/// Enough that every pair of kinds meets many times.
const TRANSACTIONS_PER_PROPOSER: u64 = 60;

const PROPOSERS_PER_NODE: u64 = 2;

const ACCOUNTS: u64 = 4;

/// What every account begins with.
const BALANCE: u64 = 100;

/// What a transaction has seen and done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Done {
    /// Each counter that was read, with the revision of its last change and its value; none: it did not exist.
    read: BTreeMap<String, Option<(Revision, u64)>>,
    /// It has read all there are.
    all: bool,
    written: BTreeMap<String, u64>,
}

/// [`Done`], as its proposer came to know of it.
#[derive(Debug)]
struct Known {
    revision: Revision,
    /// The newest revision that anybody had been told of when it was asked for.
    asked_after: Revision,
    done: Done,
}

/// A transaction while it is decided.
struct Deciding<'t, 'v> {
    tx: &'t mut Tx<'v>,
    done: Done,
}

impl<'t, 'v> Deciding<'t, 'v> {
    fn new(tx: &'t mut Tx<'v>) -> Deciding<'t, 'v> {
        let done = Done { read: BTreeMap::new(), all: false, written: BTreeMap::new() };
        Deciding { tx, done }
    }

    fn read(&mut self, name: &str) -> u64 {
        let found = self.tx.get::<Counter>("tests", name).unwrap();
        let seen = found.as_ref().map(|counter| (counter.revision, counter.value));
        self.done.read.insert(name.to_owned(), seen);
        seen.map_or(0, |(_, value)| value)
    }

    fn read_all(&mut self) -> u64 {
        let all = self.tx.list::<Counter>("tests").unwrap();
        self.done.all = true;
        for counter in &all {
            self.done.read.insert(counter.name.clone(), Some((counter.revision, counter.value)));
        }
        all.iter().filter(|counter| counter.name.starts_with("account")).map(|counter| counter.value).sum()
    }

    fn write(&mut self, name: &str, value: u64) {
        self.tx.put(&Counter::new(name, value));
        self.done.written.insert(name.to_owned(), value);
    }
}

/// One of several things to do at once, chosen by a number.
fn decide(tx: &mut Tx<'_>, number: u64) -> Result<Done, String> {
    let mut deciding = Deciding::new(tx);
    match number % 5 {
        // A transfer: the sum stays.
        0 | 1 => {
            let (from, to) = (number % ACCOUNTS, (number / 7 + 1) % ACCOUNTS);
            let (from, to) = (format!("account{from}"), format!("account{to}"));
            let (have, other) = (deciding.read(&from), deciding.read(&to));
            if have == 0 || from == to {
                return Err("nothing to transfer".into());
            }
            deciding.write(&from, have - 1);
            deciding.write(&to, other + 1);
        }
        // An increment.
        2 => {
            let count = deciding.read("count");
            deciding.write("count", count + 1);
        }
        // Two who may rest, but not both: each reads the other and writes itself.
        3 => {
            let (me, other) = if number.is_multiple_of(2) { ("ann", "ben") } else { ("ben", "ann") };
            let (mine, theirs) = (deciding.read(me), deciding.read(other));
            match (mine, theirs) {
                (0, 0) => deciding.write(me, 1),
                (1, _) => deciding.write(me, 0),
                _ => return Err("the other one rests".into()),
            }
        }
        // An audit: reads everything, and everything that comes later conflicts with it.
        _ => {
            let sum = deciding.read_all();
            deciding.write("audit", sum);
        }
    }
    Ok(deciding.done)
}

async fn propose(replica: Replica, seed: u64, told: Arc<AtomicU64>, history: Arc<Mutex<Vec<Known>>>) {
    for step in 0..TRANSACTIONS_PER_PROPOSER {
        let number = seed.wrapping_mul(7_919).wrapping_add(step.wrapping_mul(104_729)) >> 1;
        let id = RequestId::new();
        let asked_after = told.load(Ordering::SeqCst);
        // As long as nobody knows what became of it, the same request is asked again.
        loop {
            match transact(&replica, Request::repeatable(id), |tx| decide(tx, number)).await {
                Ok(committed) => {
                    told.fetch_max(committed.revision, Ordering::SeqCst);
                    let known = Known { revision: committed.revision, asked_after, done: committed.answer };
                    history.lock().unwrap().push(known);
                    break;
                }
                Err(TransactError::Refused(_) | TransactError::Conflict { .. }) => break,
                Err(TransactError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_do_at_once_is_as_if_they_had_taken_turns() {
    let cluster = Cluster::founded().await;
    let founding = cluster.transact(1, Request::new(), |tx| {
        for account in 0..ACCOUNTS {
            tx.put(&Counter::new(format!("account{account}"), BALANCE));
        }
        Ok(())
    });
    let founded = founding.await.unwrap().revision;
    let told = Arc::new(AtomicU64::new(founded));
    let history = Arc::new(Mutex::new(vec![]));
    let proposers: Vec<_> = (0..3 * PROPOSERS_PER_NODE)
        .map(|seed| {
            let (told, history) = (told.clone(), history.clone());
            cluster.on(seed % 3 + 1, move |replica| propose(replica, seed, told, history))
        })
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    let faults = async {
        let mut changes = 0;
        while !over.load(Ordering::SeqCst) {
            let (leader, _) = cluster.leader().await;
            let next = leader % 3 + 1;
            // Whether the leader was still the leader does not matter: somebody is soon.
            let passed = cluster.on(leader, move |replica| async move {
                replica.transfer_leadership(Some(next)).await.is_ok()
            });
            changes += u32::from(passed.await);
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        changes
    };
    let proposing = async {
        futures::future::join_all(proposers).await;
        over.store(true, Ordering::SeqCst);
    };
    let ((), changes) = tokio::join!(proposing, faults);
    assert!(changes > 0, "no leader was changed");

    let mut history = Arc::into_inner(history).unwrap().into_inner().unwrap();
    history.sort_by_key(|known| known.revision);
    let finally = explained(&history, founded);
    assert_eq!(
        finally["count"].1,
        history.iter().filter(|known| known.done.written.contains_key("count")).count() as u64
    );
    for node in 1..=3 {
        let view = cluster.fresh(node).await;
        let found = view.list::<Counter>("tests").unwrap();
        let found: BTreeMap<_, _> =
            found.iter().map(|counter| (counter.name.clone(), (counter.revision, counter.value))).collect();
        assert_eq!(found, finally, "at node {node}");
    }
}

/// Goes through the history in the order of the revisions; answers the state at its end.
fn explained(history: &[Known], founded: Revision) -> BTreeMap<String, (Revision, u64)> {
    let mut state: BTreeMap<String, (Revision, u64)> =
        (0..ACCOUNTS).map(|account| (format!("account{account}"), (founded, BALANCE))).collect();
    let mut last = founded;
    for Known { revision, asked_after, done } in history {
        assert!(*revision > last, "two transactions have revision {revision}");
        assert!(revision > asked_after, "{revision} was asked for when {asked_after} was known to be done");
        last = *revision;
        for (name, seen) in &done.read {
            assert_eq!(*seen, state.get(name).copied(), "what {revision} has read of {name}");
        }
        if done.all {
            assert_eq!(done.read.len(), state.len(), "{revision} has read all there is");
            assert_eq!(done.written["audit"], ACCOUNTS * BALANCE, "the sum at {revision}");
        }
        for (name, value) in &done.written {
            state.insert(name.clone(), (*revision, *value));
        }
        let rests = |name: &str| state.get(name).is_some_and(|(_, value)| *value == 1);
        assert!(!(rests("ann") && rests("ben")), "both rest at {revision}");
    }
    state
}

struct Replicas {
    cluster: Cluster,
    term: u64,
}

impl Ledgers for Replicas {
    fn term(&self) -> u64 {
        self.term
    }

    async fn propose(&mut self, at: usize, txn: Txn) -> Outcome {
        let node = at as u64 + 1;
        self.cluster.on(node, move |replica| async move { replica.propose(txn).await }).await.unwrap()
    }

    async fn view(&mut self, at: usize) -> View {
        self.cluster.fresh(at as u64 + 1).await
    }

    fn count(&self) -> usize {
        3
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_agree_with_the_model_of_the_ledger() {
    let cluster = Cluster::founded().await;
    let (_, term) = cluster.leader().await;
    let mut runner = TestRunner::deterministic();
    let steps = steps(300).new_tree(&mut runner).unwrap().current();
    agrees_with_the_model(&mut Replicas { cluster, term }, &steps).await;
}
