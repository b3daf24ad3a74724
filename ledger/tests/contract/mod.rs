//! What every ledger owes its users, as a model that is simple enough to be believed, and random transactions on which
//! a ledger and the model must agree. Used by every implementation of the trait.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use jiff::Timestamp;
use proptest::prelude::*;
use skep_ledger::{
    Check, Key, Op, Outcome, Position, REQUESTS_KEPT_FOR_HOURS, RequestId, Revision, Txn, View,
};

/// How a transaction is fenced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fence {
    None,
    Current,
    Old,
}

/// What a transaction believes about something that it has read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Belief {
    /// What is so.
    True,
    /// An older revision, or a later one.
    Off(i8),
}

/// What a check is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About {
    Object(Place),
    Partition(u8, u8),
    Table(u8),
    /// No row of anything: must not be taken for one, and must not break anything.
    Nonsense(u8),
}

/// One of few objects, so that transactions meet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) table: u8,
    pub(crate) partition: u8,
    pub(crate) id: u8,
}

/// A transaction to be made, in terms that do not depend on what is there.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) request: Option<u8>,
    pub(crate) fence: Fence,
    pub(crate) later_minutes: i64,
    pub(crate) checks: Vec<(About, Belief)>,
    pub(crate) writes: Vec<(Place, Option<u8>)>,
}

/// Any steps.
pub(crate) fn steps(count: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), count)
}

fn step() -> impl Strategy<Value = Step> {
    let fence = prop_oneof![6 => Just(Fence::None), 2 => Just(Fence::Current), 1 => Just(Fence::Old)];
    let belief = prop_oneof![8 => Just(Belief::True), 1 => (-2i8..=2).prop_map(Belief::Off)];
    let about = prop_oneof![
        6 => place().prop_map(About::Object),
        2 => (0u8..2, 0u8..2).prop_map(|(table, partition)| About::Partition(table, partition)),
        1 => (0u8..2).prop_map(About::Table),
        1 => (0u8..4).prop_map(About::Nonsense),
    ];
    // Mostly minutes pass; now and then a day, so that requests are forgotten; and clocks differ.
    let later = prop_oneof![8 => 0i64..60, 1 => 20 * 60i64..30 * 60, 1 => -5i64..0];
    (
        proptest::option::weighted(0.8, 0u8..12),
        fence,
        later,
        proptest::collection::vec((about, belief), 0..4),
        proptest::collection::vec((place(), proptest::option::weighted(0.7, any::<u8>())), 1..4),
    )
        .prop_map(|(request, fence, later_minutes, checks, writes)| Step {
            request,
            fence,
            later_minutes,
            checks,
            writes,
        })
}

fn place() -> impl Strategy<Value = Place> {
    (0u8..2, 0u8..2, 0u8..3).prop_map(|(table, partition, id)| Place { table, partition, id })
}

impl Place {
    pub(crate) fn key(self) -> Key {
        Key::new(&table(self.table), &partition(self.partition), &format!("i{}", self.id))
    }

    pub(crate) fn all() -> impl Iterator<Item = Place> {
        (0..2).flat_map(|table| {
            (0..2).flat_map(move |partition| (0..3).map(move |id| Place { table, partition, id }))
        })
    }
}

fn table(number: u8) -> String {
    format!("t{number}")
}

fn partition(number: u8) -> String {
    format!("p{number}")
}

// Rows as they lie in stores and in logs: written down here a second time, because they are an interface.

fn object_row(key: &Key) -> Vec<u8> {
    format!("d{}\0{}\0{}", key.table, key.partition, key.id).into_bytes()
}

fn row(about: About) -> Vec<u8> {
    match about {
        About::Object(place) => object_row(&place.key()),
        About::Partition(of, number) => format!("p{}\0{}", table(of), partition(number)).into_bytes(),
        About::Table(number) => format!("t{}", table(number)).into_bytes(),
        About::Nonsense(0) => vec![],
        About::Nonsense(1) => vec![0xff, 0xfe],
        About::Nonsense(2) => b"d".to_vec(),
        About::Nonsense(_) => b"dt0\0p0".to_vec(),
    }
}

/// The replicated state as one would explain it.
#[derive(Debug, Default)]
pub(crate) struct Model {
    objects: BTreeMap<Key, (Revision, Vec<u8>)>,
    /// The last change of each partition and table.
    stamps: BTreeMap<Vec<u8>, Revision>,
    requests: BTreeMap<Vec<u8>, Answered>,
    /// Requests that may have been forgotten: they are old, but whether their time has come is the ledger's business.
    now_minutes: i64,
}

#[derive(Debug, Clone)]
struct Answered {
    revision: Revision,
    at_ms: i64,
    answer: Vec<u8>,
}

impl Model {
    /// The transaction that a step means at this moment.
    pub(crate) fn txn(&mut self, number: usize, step: &Step, term: u64) -> Txn {
        self.now_minutes += step.later_minutes;
        let check = |(about, belief): &(About, Belief)| {
            let found = self.revision(*about);
            let revision = match belief {
                Belief::True => found,
                Belief::Off(by) => found.saturating_add_signed((*by).into()),
            };
            Check { row: row(*about), revision }
        };
        let write = |(place, value): &(Place, Option<u8>)| Op {
            row: object_row(&place.key()),
            value: value.map(|byte| vec![byte; usize::from(byte % 5)]),
        };
        Txn {
            request: step.request.map(|id| vec![id; 16]).unwrap_or_default(),
            fence: match step.fence {
                Fence::None => None,
                Fence::Current => Some(term),
                Fence::Old => Some(term.wrapping_sub(1)),
            },
            at_ms: (1_000_000 + self.now_minutes) * 60_000,
            checks: step.checks.iter().map(check).collect(),
            ops: step.writes.iter().map(write).collect(),
            answer: format!("answer {number}").into_bytes(),
        }
    }

    fn revision(&self, about: About) -> Revision {
        match about {
            About::Object(place) => self.objects.get(&place.key()).map_or(0, |(revision, _)| *revision),
            About::Nonsense(_) => 0,
            stamp => self.stamps.get(&row(stamp)).copied().unwrap_or(0),
        }
    }

    /// Insists that the outcome is what it should have been, and goes on with it.
    pub(crate) fn agree(&mut self, step: &Step, txn: &Txn, position: Position, outcome: &Outcome) {
        let context = || format!("{step:?}\nas {txn:?}\nat {position:?} came to {outcome:?}\nin {self:?}");
        if let Some(answered) = self.requests.get(&txn.request) {
            let age_ms = txn.at_ms - answered.at_ms;
            let replayed = Outcome::Replayed(answered.revision, answered.answer.clone());
            // Within a day it is remembered; afterwards it may be, until somebody has tidied up.
            if age_ms <= REQUESTS_KEPT_FOR_HOURS * 3_600_000 {
                assert!(self.forgotten_early(answered, txn) || *outcome == replayed, "{}", context());
            }
            if *outcome == replayed {
                return;
            }
        }
        assert!(!matches!(outcome, Outcome::Replayed(..)), "nothing to repeat: {}", context());
        if txn.fence.is_some_and(|term| term != position.term) {
            assert_eq!(*outcome, Outcome::Fenced(position.term), "{}", context());
            return;
        }
        let wrong = step.checks.iter().zip(&txn.checks);
        let wrong = wrong.filter(|((about, _), check)| self.revision(*about) != check.revision).count();
        if wrong > 0 {
            assert!(matches!(outcome, Outcome::Conflict(..)), "{}", context());
            return;
        }
        assert_eq!(*outcome, Outcome::Committed(position.revision), "{}", context());
        self.write(step, txn, position.revision);
    }

    /// Clocks differ: a proposer that is ahead may have let something be forgotten that is young by this one's clock.
    fn forgotten_early(&self, answered: &Answered, txn: &Txn) -> bool {
        let newest_ms = self.requests.values().map(|other| other.at_ms).max().unwrap_or(txn.at_ms);
        newest_ms - answered.at_ms > REQUESTS_KEPT_FOR_HOURS * 3_600_000
    }

    fn write(&mut self, step: &Step, txn: &Txn, revision: Revision) {
        for ((place, _), op) in step.writes.iter().zip(&txn.ops) {
            let key = place.key();
            self.stamps.insert(row(About::Partition(place.table, place.partition)), revision);
            self.stamps.insert(row(About::Table(place.table)), revision);
            match &op.value {
                Some(value) => self.objects.insert(key, (revision, value.clone())),
                None => self.objects.remove(&key),
            };
        }
        if !txn.request.is_empty() {
            let answered = Answered { revision, at_ms: txn.at_ms, answer: txn.answer.clone() };
            self.requests.insert(txn.request.clone(), answered);
        }
    }

    /// Insists that a view shows what it should.
    pub(crate) fn is_shown_by(&self, view: &View) {
        for place in Place::all() {
            let key = place.key();
            let found = view.bytes(&key).expect("is read");
            assert_eq!(found, self.objects.get(&key).cloned(), "{key}");
        }
    }
}

/// Whoever keeps the promise: some replicas of one ledger.
pub(crate) trait Ledgers {
    /// The current term.
    fn term(&self) -> u64;
    /// Proposes at one of them.
    fn propose(&mut self, at: usize, txn: Txn) -> impl Future<Output = Outcome>;
    /// A linearizable view at one of them.
    fn view(&mut self, at: usize) -> impl Future<Output = View>;
    /// How many there are.
    fn count(&self) -> usize;
}

/// Proposes one after another, each at another replica, and compares each outcome and the states with the model.
pub(crate) async fn agrees_with_the_model(ledgers: &mut impl Ledgers, steps: &[Step]) {
    let mut model = Model::default();
    let mut last = 0;
    for (number, step) in steps.iter().enumerate() {
        let at = number % ledgers.count();
        let txn = model.txn(number, step, ledgers.term());
        let outcome = ledgers.propose(at, txn.clone()).await;
        let revision = match &outcome {
            Outcome::Committed(revision) => {
                assert!(*revision > last, "revisions grow: {revision} after {last}");
                last = *revision;
                *revision
            }
            _ => last,
        };
        model.agree(step, &txn, Position { revision, term: ledgers.term() }, &outcome);
        if number % 8 == 0 {
            model.is_shown_by(&ledgers.view((at + 1) % ledgers.count()).await);
        }
    }
    for at in 0..ledgers.count() {
        model.is_shown_by(&ledgers.view(at).await);
    }
}

/// Requests that can be asked for are those that a ledger remembers.
pub(crate) fn remembered(view: &View, ids: impl IntoIterator<Item = u8>) -> BTreeSet<u8> {
    let known = |id: &u8| view.answered(RequestId::from_bytes([*id; 16])).expect("is read").is_some();
    ids.into_iter().filter(known).collect()
}

/// The beginning of time in these tests.
pub(crate) fn beginning() -> Timestamp {
    Timestamp::from_second(1_000_000 * 60).expect("is a time")
}
