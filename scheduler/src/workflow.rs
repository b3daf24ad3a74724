//! What a workflow is: a constant list of steps, each a condition with a way to reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use skep_ledger::{ReadError, Stored, View};
use skep_model::environment::Environment;
use skep_model::host::{self, Host};
use skep_model::operation::{Operation, Planned, Rest};
use skep_model::registry::{self, RegistryLogin};
use skep_model::resource::CloudResource;
use skep_model::stack::Stack;

use crate::Effect;
use crate::around::Around;

/// The steps that bring one thing about.
pub struct Workflow {
    /// Its name, as operations and people call it.
    pub name: &'static str,
    /// In this order.
    pub steps: &'static [Step],
}

/// One condition, and how to reach it.
pub struct Step {
    /// Its name, as people see it.
    pub name: &'static str,
    /// Asked again after every change, until it answers [`Next::Done`].
    pub next: fn(&At) -> Next,
    /// How to give back what the step made; asked like `next` when the operation has been turned around.
    pub undo: Option<fn(&At) -> Next>,
    /// What the undoing does, for people; empty without one.
    pub gives_back: &'static str,
    /// What stays of the step if it is not undone, for people; empty if it makes nothing.
    pub keeps: &'static str,
    /// Once begun, nobody can turn the operation around any more.
    pub for_good: bool,
    /// How long it may take.
    pub deadline_secs: i64,
    /// What happens when it takes longer, or cannot be done at all.
    pub late: Late,
}

/// What to do about a step that takes too long or cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// Give up and give back.
    Turn,
    /// Leave it and go on: the step was a courtesy.
    GoOn,
}

/// A step's answer to "is it so already, and if not, what next?".
#[derive(Debug, PartialEq)]
pub enum Next {
    /// It is so.
    Done,
    /// Do this, then ask again.
    Do(Effect),
    /// Nothing of ours would help; ask again when something has changed.
    Wait(String),
    /// Somebody has to look before it can go on: the operation pauses.
    Hold(String),
    /// It cannot become so; from an undoing step: what is there stays.
    Turn(String),
}

impl Step {
    /// Long enough for a machine that boots slowly, short enough that nobody waits in vain.
    const DEADLINE_SECS: i64 = 600;

    /// A step that makes nothing, so there is nothing to give back.
    pub const fn new(name: &'static str, next: fn(&At) -> Next) -> Step {
        Step {
            name,
            next,
            undo: None,
            gives_back: "",
            keeps: "",
            for_good: false,
            deadline_secs: Self::DEADLINE_SECS,
            late: Late::Turn,
        }
    }

    /// What stays of it when the operation is turned around and the step has no way back, or its way back fails.
    pub const fn leaving(self, keeps: &'static str) -> Step {
        Step { keeps, ..self }
    }

    /// With a way back, in code and in words.
    pub const fn undone_by(self, undo: fn(&At) -> Next, gives_back: &'static str) -> Step {
        Step { undo: Some(undo), gives_back, ..self }
    }

    /// Once begun, it cannot be taken back: it can only be finished.
    pub const fn for_good(self) -> Step {
        Step { for_good: true, ..self }
    }

    /// With a time limit of its own, and what happens after it.
    pub const fn within(self, deadline_secs: i64, late: Late) -> Step {
        Step { deadline_secs, late, ..self }
    }

    /// As an operation writes it down.
    pub fn planned(&self) -> Planned {
        Planned {
            name: self.name.to_owned(),
            undo: self.undo.map(|_| self.gives_back.to_owned()),
            keeps: self.keeps.to_owned(),
            for_good: self.for_good,
            deadline_secs: self.deadline_secs,
        }
    }
}

/// Everything a step may look at, all of one revision.
#[derive(Debug)]
pub struct At {
    /// The operation itself.
    pub operation: Operation,
    /// Its environment, unless that is gone.
    pub environment: Option<Environment>,
    /// All hosts of the environment, in the order of their creation.
    pub hosts: Arc<Vec<Host>>,
    /// All stacks of the environment.
    pub stacks: Arc<Vec<Stack>>,
    /// The registries to which the environment logs in.
    pub logins: Arc<Vec<Stored<RegistryLogin>>>,
    /// The cloud ledger's row of the host that the operation is about.
    pub machine: Option<CloudResource>,
    /// What is in the hands of an operation, in the whole cluster.
    pub busy: Arc<Busy>,
    /// How the last operation on something ended, if that was badly, in the whole cluster.
    pub rests: Arc<Rests>,
}

/// The subjects that operations have in their hands, as they are indexed.
pub(crate) type Busy = BTreeSet<String>;

/// By subject, as they are indexed.
pub(crate) type Rests = BTreeMap<String, Rest>;

impl At {
    /// Looks.
    pub fn look(view: &View, operation: Operation) -> Result<At, ReadError> {
        Around::default().at(view, operation)
    }

    /// The host that the operation is about, unless it is gone.
    pub fn host(&self) -> Option<&Host> {
        self.hosts.iter().find(|host| host.id.as_str() == self.operation.subject.id)
    }

    /// The stack that the operation is about, unless it is gone.
    pub fn stack(&self) -> Option<&Stack> {
        self.stacks.iter().find(|stack| stack.id.as_str() == self.operation.subject.id)
    }

    /// Which logins a stack's services should have.
    pub fn logins_of(&self, stack: &Stack) -> BTreeMap<String, Timestamp> {
        registry::logins_of(stack, &self.logins)
    }

    /// Swarm managers whose engines can be spoken to.
    pub fn swarm_managers(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.is_swarm_manager() && host.answers() && !host.swarm_locked)
    }

    /// Does nobody work on the host?
    pub fn is_idle(&self, host: &Host) -> bool {
        !self.busy.contains(&host::subject(host).index())
    }

    /// What an operation on the host has failed for since this one began, or was let go on.
    pub fn failure_of(&self, host: &Host) -> Option<&Rest> {
        let recent = |rest: &&Rest| match self.operation.resumed_at {
            Some(resumed) => rest.since > resumed,
            None => rest.since >= self.operation.created_at,
        };
        self.rests.get(&host::subject(host).index()).filter(recent)
    }

    /// Is the environment on its way out, or gone?
    pub fn environment_goes(&self) -> bool {
        self.environment.as_ref().is_none_or(|environment| environment.removal.is_some())
    }
}
