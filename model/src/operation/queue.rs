//! Whose turn it is: one operation at a time is active for a subject, others wait in the order in which they came.
//!
//! The subject's row holds the line, and whoever ends lets the next one begin in the same transaction, so nobody has
//! to look for work. These rows name every operation that has not ended.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use super::log::{forget, save, told};
use super::{Direction, Operation, State, Subject, workflow};
use crate::environment::Environment;
use crate::ids::{EnvironmentId, OperationId};
use crate::{CLUSTER, Refusal, Ruling};

/// Operations that wait behind one on the same subject: whoever sends more has stopped looking at what came of them.
/// A removal is let in beyond it, because there is one per subject.
pub const QUEUED_PER_SUBJECT_MAX: usize = 16;

/// The operation that a subject is in the hands of, and those that wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// `kind/id` of the subject.
    pub subject: String,
    /// The operation.
    pub operation: OperationId,
    /// Who comes next, in this order.
    #[serde(default)]
    pub queue: Vec<OperationId>,
}

impl Record for Active {
    const TABLE: &'static str = "active-operation";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.subject.clone()
    }
}

/// A subject whose last operation ended badly: for a while nothing is begun on it that nobody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// `kind/id` of the subject.
    pub subject: String,
    /// When it ended.
    pub since: Timestamp,
    /// Somebody wanted it to end.
    pub cancelled: bool,
    /// How often in a row that has happened before.
    #[serde(default)]
    pub times: u32,
    /// The operation.
    #[serde(default)]
    pub operation: Option<OperationId>,
    /// How it ended, in words.
    #[serde(default)]
    pub why: String,
}

impl Record for Rest {
    const TABLE: &'static str = "operation-rest";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.subject.clone()
    }
}

/// An operation that was begun by another. These rows spare looking through all operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Child {
    parent: OperationId,
    operation: OperationId,
}

impl Record for Child {
    const TABLE: &'static str = "operation-child";
    fn partition(&self) -> &str {
        self.parent.as_str()
    }
    fn id(&self) -> String {
        self.operation.to_string()
    }
}

/// Starts an operation, or queues it behind the one its subject is in the hands of.
pub fn start(
    tx: &mut Tx<'_>,
    id: OperationId,
    workflow: &str,
    subject: Subject,
    environment: Option<&Environment>,
    parent: Option<OperationId>,
) -> Ruling<Operation> {
    let place = environment.map(|environment| (environment.id.clone(), environment.name.to_string()));
    let mut operation = new(id, workflow, subject, place, parent, tx.now());
    let row = match tx.get::<Active>(CLUSTER, &operation.subject.index())? {
        None => {
            let subject = operation.subject.index();
            Active { subject, operation: operation.id.clone(), queue: vec![] }
        }
        Some(mut active) => {
            let removes = workflow::REMOVALS.contains(&workflow);
            if active.queue.len() >= QUEUED_PER_SUBJECT_MAX + usize::from(removes) {
                return Err(Refusal::QueueFull {
                    subject: operation.subject.to_string(),
                    limit: QUEUED_PER_SUBJECT_MAX,
                    operation: active.operation.to_string(),
                });
            }
            operation.state = State::Queued;
            operation.started_at = None;
            operation.since = None;
            let before = active.queue.last().unwrap_or(&active.operation);
            operation.message = format!("waits for its turn behind {before}");
            active.record.queue.push(operation.id.clone());
            active.record
        }
    };
    tx.put(&row);
    if let Some(parent) = &operation.parent {
        tx.put(&Child { parent: parent.clone(), operation: operation.id.clone() });
    }
    told(tx, None, &mut operation);
    tx.put(&operation);
    Ok(operation)
}

/// Starts an operation that nobody has asked for, and says why.
pub fn start_because(
    tx: &mut Tx<'_>,
    id: OperationId,
    workflow: &str,
    subject: Subject,
    environment: Option<&Environment>,
    reason: &str,
) -> Ruling<Operation> {
    let mut operation = start(tx, id, workflow, subject, environment, None)?;
    operation.reason = reason.to_owned();
    save(tx, &operation)?;
    Ok(operation)
}

fn new(
    id: OperationId,
    workflow: &str,
    subject: Subject,
    environment: Option<(EnvironmentId, String)>,
    parent: Option<OperationId>,
    now: Timestamp,
) -> Operation {
    Operation {
        id,
        workflow: workflow.to_owned(),
        environment,
        parent,
        state: State::Running,
        direction: Direction::Forward,
        step: 0,
        steps: vec![],
        message: "is about to be taken up".into(),
        failure: None,
        turned_at: None,
        created_at: now,
        started_at: Some(now),
        ended_at: None,
        attempts_by_node: BTreeMap::new(),
        since: Some(now),
        hold: None,
        resumed_at: None,
        cancelled: None,
        left: vec![],
        retry_of: None,
        lines: 0,
        reason: String::new(),
        subject,
    }
}

/// An operation has ended: it lets go of its subject, and whoever waits first takes it.
pub(super) fn release(tx: &mut Tx<'_>, ended: &Operation) -> Ruling<()> {
    let Some(active) = tx.get::<Active>(CLUSTER, &ended.subject.index())? else {
        return Ok(());
    };
    let mut active = active.record;
    if active.operation != ended.id {
        active.queue.retain(|id| *id != ended.id);
        tx.put(&active);
        return Ok(());
    }
    while !active.queue.is_empty() {
        let id = active.queue.remove(0);
        if let Some(next) = tx.get::<Operation>(CLUSTER, id.as_str())?
            && !next.ended()
        {
            let mut next = next.record;
            let before = next.clone();
            next.state = State::Running;
            next.message = "its turn has come".into();
            next.started_at = Some(tx.now());
            next.since = Some(tx.now());
            told(tx, Some(&before), &mut next);
            tx.put(&next);
            active.operation = id;
            tx.put(&active);
            return Ok(());
        }
    }
    tx.delete::<Active>(CLUSTER, &ended.subject.index());
    Ok(())
}

/// An operation has ended: how it ended says whether its subject is left alone for a while.
pub(super) fn begin_resting(tx: &mut Tx<'_>, ended: &Operation) -> Ruling<()> {
    let subject = ended.subject.index();
    match ended.state {
        State::Failed | State::Cancelled if !is_over_with(tx, ended)? => {
            let since = tx.now();
            let times = tx.get::<Rest>(CLUSTER, &subject)?.map_or(0, |rest| rest.times.saturating_add(1));
            tx.put(&Rest {
                subject,
                since,
                cancelled: ended.state == State::Cancelled,
                times,
                operation: Some(ended.id.clone()),
                why: ended.message.clone(),
            });
        }
        _ if tx.get::<Rest>(CLUSTER, &subject)?.is_some() => tx.delete::<Rest>(CLUSTER, &subject),
        _ => {}
    }
    Ok(())
}

/// Nothing will be begun on it again: everything is done, or its environment is gone.
fn is_over_with(tx: &mut Tx<'_>, ended: &Operation) -> Ruling<bool> {
    let gone = match &ended.environment {
        Some((id, _)) => tx.get::<Environment>(CLUSTER, id.as_str())?.is_none(),
        None => false,
    };
    Ok(gone || ended.came_through())
}

/// How often something has failed on it is not known any more.
pub fn forget_rest(tx: &mut Tx<'_>, subject: &Subject) {
    tx.delete::<Rest>(CLUSTER, &subject.index());
}

/// Lets the records of operations go that have ended, with their lines.
pub(super) fn forget_all(tx: &mut Tx<'_>, ids: &[OperationId]) -> Ruling<()> {
    for id in ids {
        if let Some(operation) = tx.get::<Operation>(CLUSTER, id.as_str())? {
            forget(tx, &operation);
        }
    }
    Ok(())
}

/// The operation of this workflow that a subject is in the hands of, or that waits for it.
pub fn open_on(tx: &mut Tx<'_>, subject: &Subject, workflow: &str) -> Ruling<Option<Operation>> {
    let Some(active) = tx.get::<Active>(CLUSTER, &subject.index())? else {
        return Ok(None);
    };
    for id in std::iter::once(&active.operation).chain(&active.queue) {
        let found = tx.get::<Operation>(CLUSTER, id.as_str())?.map(|stored| stored.record);
        if let Some(open) = found.filter(|open| open.workflow == workflow) {
            return Ok(Some(open));
        }
    }
    Ok(None)
}

/// The operations that this one has begun, in that order.
pub fn children(view: &View, parent: &OperationId) -> Ruling<Vec<OperationId>> {
    let children = view.list::<Child>(parent.as_str())?;
    Ok(children.into_iter().map(|child| child.record.operation).collect())
}

/// The operation that a subject is in the hands of.
pub fn active(view: &View, kind: &str, id: &str) -> Ruling<Option<OperationId>> {
    Ok(view.get::<Active>(CLUSTER, &format!("{kind}/{id}"))?.map(|active| active.record.operation))
}

/// Like [`active`], for rules.
pub fn active_in(tx: &mut Tx<'_>, subject: &Subject) -> Ruling<Option<Operation>> {
    let Some(active) = tx.get::<Active>(CLUSTER, &subject.index())? else {
        return Ok(None);
    };
    Ok(tx.get::<Operation>(CLUSTER, active.operation.as_str())?.map(|stored| stored.record))
}
