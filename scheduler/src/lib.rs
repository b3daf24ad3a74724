//! The leader's head: what should be going on, what is the next effect, and doing it.
//!
//! ```text
//!   planners (pure)  ─► decisions: start this workflow
//!   workflows (pure) ─► next: Done · Do(effect) · Wait(why) · Turn(why)
//!   engine           ─► writes the attempt, lets the world do it, writes facts and move in one transaction
//!   effects          ─► the world: drivers and Docker engines, each asked "is it so already?" first
//!   health           ─► looks at what changes by itself, and writes what is news
//! ```
//!
//! Awake only on the leader. Every transaction carries the term it was decided in, so a leader that does not know
//! yet that it is none can start nothing and finish nothing. A wake-up carries no data: start, event and timer all
//! mean "look again", and whoever looks next goes on where the last one stopped.

mod around;
mod effect;
pub mod effects;
mod engine;
pub mod health;
mod kept;
pub mod plan;
mod runner;
mod slots;
mod swarm_roles;
mod workflow;
pub mod workflows;
mod world;

pub use crate::effect::Effect;
pub use crate::engine::{Engine, Stop, Turned};
pub use crate::slots::{
    EFFECTS_IN_FLIGHT_PER_ENVIRONMENT_MAX, MACHINES_IN_FLIGHT_PER_DRIVER_MAX,
    RELEASES_IN_FLIGHT_PER_DRIVER_MAX,
};
pub use crate::workflow::{At, Late, Next, Step, Workflow};
pub use crate::world::{EffectError, World};

use std::sync::Arc;

use skep_ledger::{Ledger, Term};
use tokio::sync::watch;

/// Moves operations and keeps watch whenever this manager leads, until the sender of `leadership` is gone. `node` is the
/// manager's name.
pub async fn run(
    ledger: Arc<dyn Ledger>,
    world: Arc<dyn World>,
    node: String,
    leadership: watch::Receiver<Option<Term>>,
) {
    let watching = async {
        if let Some(lookout) = world.clone().lookout() {
            health::run(ledger.clone(), lookout, leadership.clone()).await;
        }
    };
    tokio::join!(watching, runner::run(ledger.clone(), world.clone(), node, leadership.clone()));
}
