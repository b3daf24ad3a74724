//! What the child does, and what the store must look like after each of its operations.

use std::collections::BTreeMap;

use skep_storage::Row;

/// One operation of the workload.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Vote(u64),
    Committed(u64),
    /// Entries `from..=to`, with a text that tells the attempts to write them apart. Nobody waits for the sync.
    Append(u64, u64, &'static str),
    /// Waits until everything that was appended is durable.
    Settle,
    Truncate(Option<u64>),
    Purge(u64),
    Apply(u64),
    Checkpoint,
    /// Stages rows and gives up.
    Abandon,
    Install(u64),
}

use Operation::{Abandon, Append, Apply, Checkpoint, Committed, Install, Purge, Settle, Truncate, Vote};

impl Operation {
    /// Whether everything up to and with it is durable when it returns.
    pub(crate) fn is_durable_on_return(&self) -> bool {
        matches!(self, Vote(_) | Settle | Truncate(_) | Purge(_) | Checkpoint | Install(_))
    }
}

/// The life of a replica: it votes, follows, is corrected by a new leader, makes snapshots, falls behind and
/// is given a snapshot, twice, so that each state table has both parts.
pub(crate) const WORKLOAD: &[Operation] = &[
    Vote(1),
    Append(1, 3, "first"),
    Append(4, 6, "first"),
    Settle,
    Committed(4),
    Apply(3),
    Apply(4),
    Append(7, 9, "lost"),
    Vote(2),
    Truncate(Some(6)),
    Append(7, 8, "second"),
    Settle,
    Committed(8),
    Apply(8),
    Checkpoint,
    Append(9, 9, "second"),
    Purge(5),
    Apply(9),
    Abandon,
    Append(10, 12, "second"),
    Settle,
    Install(20),
    Purge(20),
    Vote(3),
    Append(21, 24, "third"),
    Apply(21),
    Checkpoint,
    Append(25, 25, "third"),
    Settle,
    Apply(24),
    Purge(22),
    Abandon,
    Install(40),
    Truncate(None),
    Purge(40),
    Append(41, 42, "fourth"),
    Committed(41),
    Apply(41),
    Checkpoint,
    Settle,
];

/// Everything that can be read from a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) committed: Option<Vec<u8>>,
    pub(crate) log: BTreeMap<u64, Vec<u8>>,
    pub(crate) purged: Option<Vec<u8>>,
    pub(crate) position: Option<Vec<u8>>,
    pub(crate) rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl World {
    /// The world before the first operation, after the first, and so on to the last.
    pub(crate) fn history() -> Vec<World> {
        let mut worlds = vec![World::default()];
        let mut unwritten = None;
        for operation in WORKLOAD {
            let mut world = worlds.last().cloned().unwrap_or_default();
            match operation {
                // Goes to the disk with the next of those that move it.
                Committed(index) => unwritten = Some(id(*index)),
                Append(..) | Apply(_) => world.committed = unwritten.take().or(world.committed),
                _ => {}
            }
            world.take(operation);
            worlds.push(world);
        }
        worlds
    }

    fn take(&mut self, operation: &Operation) {
        match operation {
            Vote(term) => self.vote = Some(id(*term)),
            Append(from, to, text) => self.log.extend(entries(*from, *to, text)),
            Truncate(index) => self.log.retain(|at, _| index.is_some_and(|index| *at <= index)),
            Purge(upto) => {
                self.log.retain(|at, _| at > upto);
                self.purged = Some(id(*upto));
            }
            Apply(index) => {
                let (put, deleted) = changes(*index);
                self.rows.extend(put);
                self.rows.remove(&deleted);
                self.position = Some(id(*index));
            }
            Install(index) => {
                self.rows = installed(*index).into_iter().collect();
                self.position = Some(id(*index));
            }
            Committed(_) | Settle | Checkpoint | Abandon => {}
        }
    }
}

/// An opaque id, as the layer above would make one.
pub(crate) fn id(number: u64) -> Vec<u8> {
    format!("id {number}").into_bytes()
}

pub(crate) fn entries(from: u64, to: u64, text: &str) -> Vec<(u64, Vec<u8>)> {
    (from..=to).map(|index| (index, format!("{text} {index} ").repeat(20).into_bytes())).collect()
}

/// What applying up to an index puts, and the key that it deletes.
pub(crate) fn changes(index: u64) -> (Vec<Row>, Vec<u8>) {
    let key = |name: &str| name.as_bytes().to_vec();
    let put = vec![(key("counter"), id(index)), (key(&format!("object {index}")), id(index))];
    (put, key(&format!("object {}", index - 1)))
}

/// The rows of a state that comes from elsewhere.
pub(crate) fn installed(index: u64) -> Vec<Row> {
    (0..10).map(|row| (format!("installed {row}").into_bytes(), id(index))).collect()
}
