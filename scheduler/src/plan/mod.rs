//! Planners: compare what is wished with what is, and say what should be going on. Pure.
//!
//! Most operations are started by the request that wishes for something, in the same transaction. Planners start
//! what nobody asks for by name: a swarm that no longer fits its hosts, a removal that was left unfinished.

mod balance;
mod host;
mod left_behind;
mod moving;
mod pause;
mod preflight;
mod registry;
mod removal;
mod replacement;
mod swarm;
mod swarm_keys;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use skep_ledger::{ReadError, Revision, Tx, View};
use skep_model::environment::Environment;
use skep_model::host::Host;
use skep_model::host::renewal::{self, Successor};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::operation::{self, Active, Rest, Subject, workflow};
use skep_model::resource::CloudResource;
use skep_model::{CLUSTER, Ruling};
use uuid::Uuid;

/// After a failed operation nobody asked for, the next one is not started before; doubled each time where nothing has
/// changed since.
const RESTART_PAUSE_SECS: i64 = 30;

/// The longest such pause: what is wrong for hours must not fill the history of operations.
const RESTART_PAUSE_MAX_SECS: i64 = 900;

/// For so long it is remembered how often something has failed in a row.
const RESTS_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// After a cancelled one it is not started before: whoever cancelled it wanted to do something first.
const RESTART_PAUSE_AFTER_CANCEL_SECS: i64 = 600;

/// Looks at the state and decides.
pub type Planner = fn(&Picture) -> Result<Vec<Decision>, ReadError>;

/// All planners. None depends on what another decides in the same pass, so their order does not matter.
pub const PLANNERS: &[Planner] = &[
    swarm::plan,
    swarm_keys::plan,
    preflight::plan,
    moving::plan,
    host::plan,
    registry::plan,
    balance::plan,
    removal::plan,
    replacement::plan,
    left_behind::plan,
    pause::plan,
];

/// Start this, because of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The workflow.
    pub workflow: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// Where.
    pub environment: EnvironmentId,
    /// For people.
    pub why: String,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}: {}", self.workflow, self.subject, self.why)
    }
}

/// What planners look at.
pub struct Picture {
    view: View,
    environments: Vec<Environment>,
    hosts: Hosts,
    active: Vec<String>,
    rests: Vec<Rest>,
    now: Timestamp,
}

/// All hosts by environment. Read once for all planners, and kept for the next pass: reading thousands is most of what a
/// pass takes, and mostly nothing has changed in most environments. Only spares reading; what is read is never older than
/// the view.
#[derive(Debug, Default, Clone)]
pub struct Hosts(BTreeMap<EnvironmentId, (Revision, Arc<[Host]>)>);

impl Hosts {
    /// Reads those of the environments in which something has changed; the others are kept as they are.
    fn read(&self, view: &View, environments: &[Environment]) -> Result<Hosts, ReadError> {
        let hosts = |environment: &Environment| {
            let id = &environment.id;
            let changed = view.changed_at::<Host>(id.as_str())?;
            let known = self.0.get(id).filter(|(read, _)| *read == changed);
            let hosts = match known {
                Some((_, hosts)) => hosts.clone(),
                None => records(view.list::<Host>(id.as_str())?).into(),
            };
            Ok((id.clone(), (changed, hosts)))
        };
        environments.iter().map(hosts).collect::<Result<_, ReadError>>().map(Hosts)
    }
}

impl Picture {
    /// The state of this revision, at this time.
    pub fn of(view: View, now: Timestamp) -> Result<Picture, ReadError> {
        Picture::after(&Hosts::default(), view, now)
    }

    /// The same for whoever has looked before; `known` is what an earlier picture of this ledger has read.
    pub fn after(known: &Hosts, view: View, now: Timestamp) -> Result<Picture, ReadError> {
        let environments = records(view.list::<Environment>(CLUSTER)?);
        Ok(Picture {
            hosts: known.read(&view, &environments)?,
            environments,
            active: view.list::<Active>(CLUSTER)?.into_iter().map(|active| active.record.subject).collect(),
            rests: records(view.list::<Rest>(CLUSTER)?),
            now,
            view,
        })
    }

    /// What the next picture need not read again.
    pub fn known(&self) -> Hosts {
        self.hosts.clone()
    }

    /// Environments that neither rest nor go.
    fn at_work(&self) -> impl Iterator<Item = &Environment> {
        let is_it = |environment: &&Environment| environment.removal.is_none() && environment.pause.is_none();
        self.environments.iter().filter(is_it)
    }

    fn hosts(&self, environment: &Environment) -> &[Host] {
        self.hosts.0.get(&environment.id).map(|(_, hosts)| &**hosts).unwrap_or_default()
    }

    fn stacks(&self, environment: &Environment) -> Result<Vec<skep_model::stack::Stack>, ReadError> {
        Ok(records(self.view.list(environment.id.as_str())?))
    }

    fn resources(&self) -> Result<Vec<CloudResource>, ReadError> {
        Ok(records(self.view.list(CLUSTER)?))
    }

    /// May an operation on it be started now, because something is new?
    fn free(&self, subject: &Subject) -> bool {
        self.rests_no_more(subject, |_| RESTART_PAUSE_SECS)
    }

    /// May something be tried again on it that has failed before, with nothing new?
    fn free_again(&self, subject: &Subject) -> bool {
        let doubled = |times: u32| RESTART_PAUSE_SECS << times.min(10);
        self.rests_no_more(subject, |times| doubled(times).min(RESTART_PAUSE_MAX_SECS))
    }

    /// Does nobody work on it?
    fn is_free(&self, subject: &Subject) -> bool {
        !self.active.contains(&subject.index())
    }

    fn rests_no_more(&self, subject: &Subject, pause: impl Fn(u32) -> i64) -> bool {
        let subject = subject.index();
        let rests = |rest: &Rest| {
            let pause = if rest.cancelled { RESTART_PAUSE_AFTER_CANCEL_SECS } else { pause(rest.times) };
            rest.subject == subject && rest.since + SignedDuration::from_secs(pause) > self.now
        };
        !self.active.contains(&subject) && !self.rests.iter().any(rests)
    }

    /// Subjects of which it need not be known any more how often something failed on them.
    pub fn rested(&self) -> Vec<String> {
        let old = self.rests.iter().filter(|rest| rest.since + RESTS_KEPT < self.now);
        old.map(|rest| rest.subject.clone()).collect()
    }
}

/// All decisions of one pass.
pub fn decide(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for planner in PLANNERS {
        decisions.extend(planner(picture)?);
    }
    Ok(decisions)
}

/// What a decision is known by once it is written down.
#[derive(Debug, Clone)]
pub struct Ids {
    /// The operation.
    pub operation: OperationId,
    /// The host that it makes, if it makes one.
    pub successor: Successor,
}

impl Ids {
    /// Makes them of new UUIDs.
    pub fn mint(mut uuid: impl FnMut() -> Uuid) -> Ids {
        Ids {
            operation: OperationId::new(uuid()),
            successor: Successor {
                host: HostId::new(uuid()),
                creation: OperationId::new(uuid()),
                name: None,
            },
        }
    }
}

/// Writes a decision down, unless its subject is in the hands of another operation by now.
pub fn begin(tx: &mut Tx<'_>, decision: &Decision, ids: &Ids) -> Ruling<()> {
    let environment = tx.get::<Environment>(CLUSTER, decision.environment.as_str())?;
    if environment.is_none() && decision.workflow != workflow::RELEASE_MACHINE {
        return Ok(());
    }
    if tx.get::<Active>(CLUSTER, &decision.subject.index())?.is_some() {
        return Ok(());
    }
    match (decision.workflow, &environment) {
        (workflow::FORM_SWARM, Some(environment)) => swarm::give_up_lost_manager(tx, environment)?,
        (workflow::REBALANCE_SWARM, Some(environment)) => {
            skep_model::balance::begin(tx, &environment.id, &ids.operation)?;
        }
        (workflow::REPLACE_HOST, Some(environment)) => {
            let (host, id) = (&decision.subject.id, ids.operation.clone());
            renewal::replace_lost(tx, environment, host, &ids.successor, id, &decision.why)?;
            return Ok(());
        }
        _ => {}
    }
    let subject = decision.subject.clone();
    operation::start_because(
        tx,
        ids.operation.clone(),
        decision.workflow,
        subject,
        environment.as_deref(),
        &decision.why,
    )?;
    Ok(())
}

fn records<T>(stored: Vec<skep_ledger::Stored<T>>) -> Vec<T> {
    stored.into_iter().map(|stored| stored.record).collect()
}
