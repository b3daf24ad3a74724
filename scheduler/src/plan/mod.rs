//! Planners: compare what is wished with what is, and say what should be going on. Pure.
//!
//! Most operations are started by the request that wishes for something, in the same transaction. Planners start
//! what nobody asks for by name: a swarm that no longer fits its hosts, a removal that was left unfinished.

mod balance;
mod host;
mod left_behind;
mod moving;
mod pause;
mod picture;
mod preflight;
mod registry;
mod removal;
mod replacement;
mod swarm;
mod swarm_keys;

use std::fmt;

use skep_ledger::{ReadError, Tx};
use skep_model::environment::Environment;
use skep_model::host::renewal::{self, Successor};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::operation::{self, Active, Subject, workflow};
use skep_model::{CLUSTER, Ruling};
use uuid::Uuid;

pub use picture::{Known, Picture};

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
