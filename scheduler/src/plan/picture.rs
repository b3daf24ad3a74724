//! What planners look at: the state at one revision, of which only what has changed since the picture before is read.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use skep_ledger::{ReadError, Stored, View};
use skep_model::CLUSTER;
use skep_model::environment::Environment;
use skep_model::host::Host;
use skep_model::ids::{EnvironmentId, OperationId};
use skep_model::operation::{Active, Rest, Subject};
use skep_model::resource::CloudResource;
use skep_model::stack::Stack;

use crate::kept::{Kept, records};

/// After a failed operation nobody asked for, the next one is not started before; doubled each time where nothing has
/// changed since.
const RESTART_PAUSE_SECS: i64 = 30;

/// The longest such pause: what is wrong for hours must not fill the history of operations.
const RESTART_PAUSE_MAX_SECS: i64 = 900;

/// For so long it is remembered how often something has failed in a row.
const RESTS_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// After a cancelled one it is not started before: whoever cancelled it wanted to do something first.
const RESTART_PAUSE_AFTER_CANCEL_SECS: i64 = 600;

/// What planners look at.
pub struct Picture {
    pub(super) view: View,
    pub(super) environments: Arc<Vec<Environment>>,
    pub(super) now: Timestamp,
    known: Known,
}

/// What a picture has read, kept for the next one.
#[derive(Debug, Default, Clone)]
pub struct Known {
    environments: Kept<Vec<Environment>>,
    open: Kept<Open>,
    rests: Kept<BTreeMap<String, Rest>>,
    resources: Kept<Vec<CloudResource>>,
    inside: BTreeMap<EnvironmentId, Inside>,
}

/// What is going on.
#[derive(Debug, Default, Clone)]
struct Open {
    /// Subjects that are in the hands of an operation.
    subjects: BTreeSet<String>,
    /// Operations that have not ended.
    operations: Vec<OperationId>,
}

impl Open {
    fn of(all: Vec<Stored<Active>>) -> Open {
        let all = records(all);
        Open {
            subjects: all.iter().map(|active| active.subject.clone()).collect(),
            operations: all
                .into_iter()
                .flat_map(|active| iter::once(active.operation).chain(active.queue))
                .collect(),
        }
    }
}

/// What belongs to an environment.
#[derive(Debug, Default, Clone)]
struct Inside {
    hosts: Kept<Vec<Host>>,
    stacks: Kept<Vec<Stack>>,
}

impl Known {
    fn read(&self, view: &View) -> Result<Known, ReadError> {
        let environments = self.environments.read(view, CLUSTER, records)?;
        let unknown = Inside::default();
        let inside = |environment: &Environment| {
            let id = &environment.id;
            let known = self.inside.get(id).unwrap_or(&unknown);
            let hosts = known.hosts.read(view, id.as_str(), records)?;
            let stacks = known.stacks.read(view, id.as_str(), records)?;
            Ok((id.clone(), Inside { hosts, stacks }))
        };
        Ok(Known {
            inside: environments.value.iter().map(inside).collect::<Result<_, ReadError>>()?,
            environments,
            open: self.open.read(view, CLUSTER, Open::of)?,
            rests: self.rests.read(view, CLUSTER, |all| {
                records::<Rest>(all).into_iter().map(|rest| (rest.subject.clone(), rest)).collect()
            })?,
            resources: self.resources.read(view, CLUSTER, records)?,
        })
    }

    /// Operations that have not ended, as the view shows them.
    pub fn open_operations(&mut self, view: &View) -> Result<Vec<OperationId>, ReadError> {
        self.open = self.open.read(view, CLUSTER, Open::of)?;
        Ok(self.open.value.operations.clone())
    }
}

impl Picture {
    /// The state of this revision, at this time.
    pub fn of(view: View, now: Timestamp) -> Result<Picture, ReadError> {
        Picture::after(&Known::default(), view, now)
    }

    /// The same for whoever has looked before; `known` is what an earlier picture of this ledger has read.
    pub fn after(known: &Known, view: View, now: Timestamp) -> Result<Picture, ReadError> {
        let known = known.read(&view)?;
        Ok(Picture { environments: known.environments.value.clone(), view, now, known })
    }

    /// What the next picture need not read again.
    pub fn into_known(self) -> Known {
        self.known
    }

    /// Environments that neither rest nor go.
    pub(super) fn at_work(&self) -> impl Iterator<Item = &Environment> {
        let is_it = |environment: &&Environment| environment.removal.is_none() && environment.pause.is_none();
        self.environments.iter().filter(is_it)
    }

    pub(super) fn hosts(&self, environment: &Environment) -> &[Host] {
        self.known.inside.get(&environment.id).map(|inside| inside.hosts.value.as_slice()).unwrap_or_default()
    }

    pub(super) fn stacks(&self, environment: &Environment) -> &[Stack] {
        self.known
            .inside
            .get(&environment.id)
            .map(|inside| inside.stacks.value.as_slice())
            .unwrap_or_default()
    }

    pub(super) fn resources(&self) -> &[CloudResource] {
        &self.known.resources.value
    }

    /// May an operation on it be started now, because something is new?
    pub(super) fn free(&self, subject: &Subject) -> bool {
        self.rests_no_more(subject, |_| RESTART_PAUSE_SECS)
    }

    /// May something be tried again on it that has failed before, with nothing new?
    pub(super) fn free_again(&self, subject: &Subject) -> bool {
        let doubled = |times: u32| RESTART_PAUSE_SECS << times.min(10);
        self.rests_no_more(subject, |times| doubled(times).min(RESTART_PAUSE_MAX_SECS))
    }

    /// Does nobody work on it?
    pub(super) fn is_free(&self, subject: &Subject) -> bool {
        !self.known.open.value.subjects.contains(&subject.index())
    }

    fn rests_no_more(&self, subject: &Subject, pause: impl Fn(u32) -> i64) -> bool {
        let rests = |rest: &Rest| {
            let pause = if rest.cancelled { RESTART_PAUSE_AFTER_CANCEL_SECS } else { pause(rest.times) };
            rest.since + SignedDuration::from_secs(pause) > self.now
        };
        self.is_free(subject) && !self.known.rests.value.get(&subject.index()).is_some_and(rests)
    }

    /// Subjects of which it need not be known any more how often something failed on them.
    pub fn rested(&self) -> Vec<String> {
        let old = self.known.rests.value.values().filter(|rest| rest.since + RESTS_KEPT < self.now);
        old.map(|rest| rest.subject.clone()).collect()
    }
}
