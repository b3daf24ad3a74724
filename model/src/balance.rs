//! Giving hosts that have joined their share of the tasks: what was decided, seen and moved the last time.
//!
//! Docker leaves tasks where they are when a node joins. A pass moves the tasks of a few services, one service after the
//! other, by having Docker update it without a change; where its tasks go is Docker's decision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::Tx;

use crate::environment::Environment;
use crate::ids::{EnvironmentId, OperationId};
use crate::operation::Subject;
use crate::{CLUSTER, Ruling};

/// Services of one pass. Each has its tasks restarted; whoever has a hundred services does not want all of them restarted
/// because a host has joined, and a few are enough to fill it.
pub const SERVICES_PER_PASS_MAX: usize = 5;

/// The newest pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// When it was decided. Hosts that were there by then are no reason for another.
    pub begun: Timestamp,
    /// Who carries it out; nobody, if it only was wished that passes begin from here on.
    pub operation: Option<OperationId>,
    /// The service whose tasks are to be moved now, by its name in the swarm.
    pub next: Option<String>,
    /// Services whose tasks were moved.
    pub moved: Vec<String>,
    /// What a look has found to be the end of it.
    pub end: Option<End>,
}

/// Why nothing more is moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Tasks are spread evenly enough, or nothing that may be moved would help.
    Even,
    /// A service did not come through its update.
    Stopped(String),
}

/// What a look at all tasks has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The tasks of this service should move.
    Move(String),
    /// It ends here.
    Ends(End),
}

impl Balance {
    /// Passes begin with what joins from now on.
    pub fn from_now(now: Timestamp) -> Balance {
        Balance { begun: now, operation: None, next: None, moved: vec![], end: None }
    }
}

/// The spread of an environment's tasks as the subject of an operation. Not the swarm itself: a manager that dies meanwhile
/// is replaced at once.
pub fn subject(environment: &Environment) -> Subject {
    Subject::new("tasks", &environment.id, &environment.name)
}

/// A pass begins.
pub fn begin(tx: &mut Tx<'_>, id: &EnvironmentId, operation: &OperationId) -> Ruling<()> {
    if let Some(environment) = tx.get::<Environment>(CLUSTER, id.as_str())? {
        let mut environment = environment.record;
        let from_now = Balance::from_now(tx.now());
        environment.balance = Some(Balance { operation: Some(operation.clone()), ..from_now });
        tx.put(&environment);
    }
    Ok(())
}

impl Environment {
    /// The pass that this operation carries out, if there has not been another since.
    pub fn balance_of(&self, operation: &OperationId) -> Option<&Balance> {
        self.balance.as_ref().filter(|balance| balance.operation.as_ref() == Some(operation))
    }

    pub(crate) fn tasks_seen(&mut self, operation: &OperationId, seen: &Seen) {
        self.in_pass(operation, |balance| match seen {
            Seen::Move(service) => balance.next = Some(service.clone()),
            Seen::Ends(end) => balance.end = Some(end.clone()),
        });
    }

    pub(crate) fn tasks_moved(&mut self, operation: &OperationId, service: &str) {
        self.in_pass(operation, |balance| {
            balance.next = None;
            if !balance.moved.iter().any(|moved| moved == service) {
                balance.moved.push(service.to_owned());
            }
        });
    }

    fn in_pass(&mut self, operation: &OperationId, change: impl FnOnce(&mut Balance)) {
        if let Some(balance) =
            self.balance.as_mut().filter(|balance| balance.operation.as_ref() == Some(operation))
        {
            change(balance);
        }
    }
}
