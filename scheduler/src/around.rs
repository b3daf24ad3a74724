//! What is around operations: everything in their environments, read once for all operations that look at it.
//!
//! A change in an environment wakes every operation in it. Each of them reading everything for itself would cost the
//! square of what the environment has, as when a thousand machines register in an hour.

use std::collections::BTreeMap;

use skep_ledger::{ReadError, View};
use skep_model::CLUSTER;
use skep_model::environment::Environment;
use skep_model::host::Host;
use skep_model::operation::{Active, Operation, Rest};
use skep_model::registry::RegistryLogin;
use skep_model::resource::CloudResource;
use skep_model::stack::Stack;

use crate::kept::{Kept, records};
use crate::workflow::{At, Busy, Rests};

/// What earlier looks have read.
#[derive(Debug, Default)]
pub(crate) struct Around {
    busy: Kept<Busy>,
    rests: Kept<Rests>,
    /// By environment.
    inside: BTreeMap<String, Inside>,
}

#[derive(Debug, Default, Clone)]
struct Inside {
    hosts: Kept<Vec<Host>>,
    stacks: Kept<Vec<Stack>>,
    logins: Kept<Vec<skep_ledger::Stored<RegistryLogin>>>,
}

impl Around {
    /// What a step of the operation may look at, as the view shows it.
    pub(crate) fn at(&mut self, view: &View, operation: Operation) -> Result<At, ReadError> {
        let id = operation.environment.as_ref().map(|(id, _)| id.as_str()).unwrap_or_default();
        let environment = view.get::<Environment>(CLUSTER, id)?.map(|stored| stored.record);
        let inside = self.inside.get(id).unwrap_or(&Inside::default()).read(view, id)?;
        match environment {
            Some(_) => self.inside.insert(id.to_owned(), inside.clone()),
            None => self.inside.remove(id),
        };
        self.busy = self.busy.read(view, CLUSTER, |all: Vec<_>| {
            records::<Active>(all).into_iter().map(|active| active.subject).collect()
        })?;
        self.rests = self.rests.read(view, CLUSTER, |all: Vec<_>| {
            records::<Rest>(all).into_iter().map(|rest| (rest.subject.clone(), rest)).collect()
        })?;
        Ok(At {
            environment,
            hosts: inside.hosts.value,
            stacks: inside.stacks.value,
            logins: inside.logins.value,
            machine: view.get::<CloudResource>(CLUSTER, &operation.subject.id)?.map(|stored| stored.record),
            busy: self.busy.value.clone(),
            rests: self.rests.value.clone(),
            operation,
        })
    }
}

impl Inside {
    fn read(&self, view: &View, environment: &str) -> Result<Inside, ReadError> {
        let in_order = |stored| {
            let mut hosts: Vec<Host> = records(stored);
            hosts.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
            hosts
        };
        Ok(Inside {
            hosts: self.hosts.read(view, environment, in_order)?,
            stacks: self.stacks.read(view, environment, records)?,
            logins: self.logins.read(view, environment, |stored| stored)?,
        })
    }
}
