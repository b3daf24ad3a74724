//! What an operation says about itself: one line for each thing that happened.
//!
//! Nobody writes lines by hand. They are what differs between the record before and after a move, so no move is
//! forgotten, and they are written in the move's transaction. Each is a row of its own in a ring, so that a line costs
//! its own bytes, and an operation that tries for days keeps the newest lines only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Stored, Tx, View};

use super::queue::{self, Child};
use super::{Direction, Hold, Operation, Planned, State, StepRecord, StepState};
use crate::ids::OperationId;
use crate::{CLUSTER, Ruling, host};

/// Lines kept of an operation: a retry every 15 s makes about three, so these reach back a quarter of an hour.
pub const LINES_PER_OPERATION_MAX: u64 = 200;

/// Characters of a line: errors of clouds can be whole pages.
const LINE_CHARS_MAX: usize = 500;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Whose.
    pub operation: OperationId,
    /// Counted from 0 over the operation's whole life.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// In which step; empty if in none.
    pub step: String,
    /// At which manager; empty if nobody in particular did it.
    pub node: String,
    /// What happened.
    pub text: String,
}

impl Record for Line {
    const TABLE: &'static str = "operation-line";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        slot(&self.operation, self.number)
    }
}

fn slot(operation: &OperationId, number: u64) -> String {
    format!("{operation}.{:03}", number % LINES_PER_OPERATION_MAX)
}

/// Stores a moved operation and its new lines; one that has come to its end lets go of its subject.
pub fn save(tx: &mut Tx<'_>, operation: &Operation) -> Ruling<()> {
    let before = tx.get::<Operation>(CLUSTER, operation.id.as_str())?.map(|stored| stored.record);
    let mut operation = operation.clone();
    told(tx, before.as_ref(), &mut operation);
    if operation.ended() && before.is_none_or(|before| !before.ended()) {
        queue::release(tx, &operation)?;
        host::renewal::ended(tx, &operation)?;
        queue::begin_resting(tx, &operation)?;
    }
    tx.put(&operation);
    Ok(())
}

/// The lines that are kept, oldest first, each with the revision that wrote it.
pub fn log(view: &View, operation: &Operation) -> Ruling<Vec<Stored<Line>>> {
    let oldest = operation.lines.saturating_sub(LINES_PER_OPERATION_MAX);
    let mut lines = vec![];
    for number in oldest..operation.lines {
        let line = view.get::<Line>(CLUSTER, &slot(&operation.id, number))?;
        lines.extend(line.filter(|line| line.number == number));
    }
    Ok(lines)
}

/// Lets an operation's record and lines go.
pub(super) fn forget(tx: &mut Tx<'_>, operation: &Operation) {
    for number in 0..operation.lines.min(LINES_PER_OPERATION_MAX) {
        tx.delete::<Line>(CLUSTER, &slot(&operation.id, number));
    }
    if let Some(parent) = &operation.parent {
        tx.delete::<Child>(parent.as_str(), operation.id.as_str());
    }
    tx.delete::<Operation>(CLUSTER, operation.id.as_str());
}

/// Writes the lines that tell a move.
pub(super) fn told(tx: &mut Tx<'_>, before: Option<&Operation>, after: &mut Operation) {
    let at = tx.now();
    for said in lines(before, after, at) {
        let text = match said.text.char_indices().nth(LINE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &said.text[..end]),
            None => said.text,
        };
        let (operation, number) = (after.id.clone(), after.lines);
        tx.put(&Line { operation, number, at, step: said.step, node: said.node, text });
        after.lines += 1;
    }
}

/// What is said, before it has a number.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    step: String,
    node: String,
    text: String,
}

fn lines(before: Option<&Operation>, after: &Operation, now: Timestamp) -> Vec<Said> {
    let plain = |text: String| Said { step: String::new(), node: String::new(), text };
    let Some(before) = before else {
        let queued =
            if after.state == State::Queued { format!(", {}", after.message) } else { String::new() };
        let again = after.retry_of.as_ref().map(|id| format!(", again after {id}")).unwrap_or_default();
        return vec![plain(format!("asked for: {} of {}{again}{queued}", after.workflow, after.subject))];
    };
    let mut said = vec![];
    if before.reason.is_empty() && !after.reason.is_empty() {
        said.push(plain(format!("begun because {}", after.reason)));
    }
    if before.state == State::Queued && after.state == State::Running {
        said.push(plain(after.message.clone()));
    }
    match (&before.hold, &after.hold) {
        (_, Some(Hold::Paused(asked))) if before.hold != after.hold => {
            said.push(plain(format!("paused by {}", asked.by)));
        }
        (Some(Hold::Paused(asked)), None) => said.push(plain(format!("goes on; was paused by {}", asked.by))),
        _ => {}
    }
    if before.direction != after.direction && after.direction == Direction::Back {
        said.push(plain(format!("turned around: {}", after.failure.as_deref().unwrap_or_default())));
    }
    let ahead = StepRecord::ahead(Planned::from(""));
    for (index, after) in after.steps.iter().enumerate() {
        said.extend(step(before.steps.get(index).unwrap_or(&ahead), after, now));
    }
    if after.ended() && !before.ended() {
        said.push(plain(match after.state {
            State::Succeeded => "succeeded".into(),
            State::Cancelled => format!("ended: {}", after.message),
            _ => format!("failed: {}", after.message),
        }));
    }
    said
}

fn step(before: &StepRecord, after: &StepRecord, now: Timestamp) -> Option<Said> {
    let text = if after.attempt > before.attempt {
        format!("attempt {} began: {}", after.attempt, after.message)
    } else if after.failures > before.failures {
        let pause = after.retry_at.map_or(0, |at| at.duration_since(now).as_millis());
        let (secs, tenths) = (pause / 1000, pause % 1000 / 100);
        format!("attempt {} failed: {}; tries again in {secs}.{tenths} s", after.attempt, after.message)
    } else if after.state != before.state {
        match after.state {
            StepState::Done => "done".into(),
            StepState::Undone => "undone".into(),
            StepState::Kept => format!("kept: {}", after.message),
            StepState::Failed => format!("given up: {}", after.message),
            StepState::Running => format!("waits: {}", after.message),
            StepState::Pending => return None,
        }
    } else if after.message != before.message && after.state == StepState::Running {
        after.message.clone()
    } else if before.retry_at.is_some() && after.retry_at.is_none() {
        "tries again at once: somebody asked for it".into()
    } else {
        return None;
    };
    let node =
        if after.attempt > before.attempt || after.failures > before.failures { &after.owner } else { "" };
    Some(Said { step: after.name.clone(), node: node.into(), text })
}
