//! The managers' door for people and programs: REST under `/v1`, gRPC beside it, probes for load balancers, and who
//! may come in.
//!
//! ```text
//!   request ─► dress (request id, headers, problems) ─► audit ─► auth (who) ─► access (may they) ─► rest/<noun> ─┬─► a view       (reads)
//!                                                                                                                ├─► transact     (wishes)
//!                                                                                                                └─► hub ─► engine (tasks, images)
//!   call of gRPC ─► grpc (which route) ─► the same as a request
//! ```
//!
//! A door decides nothing: it parses once into what a rule of `skep-model` takes, asks the ledger, and shows what
//! came of it. Which status number belongs to which refusal stands in the catalogue (`skep_codes::Code`); which routes there
//! are stands in the slice `RESOURCES` of `rest`, which the router and the OpenAPI document both walk.

mod access;
mod attempts;
mod audit;
mod auth;
mod callers;
mod change;
mod cluster;
mod cookie;
mod dress;
mod extract;
mod freshness;
mod grpc;
mod limits;
mod listing;
mod metrics;
mod notes;
mod openapi;
mod panics;
mod precondition;
pub mod problem;
mod provider;
mod rest;
mod snapshots;
mod strict;
mod watches;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use skep_drivers::DriverConfig;
use skep_hub::Hub;
use skep_ledger::Ledger;
use skep_sealing::SealingKey;

pub use access::{Access, ROUTES, SERVICES};
pub use cluster::{
    Check, Cluster, ClusterStatus, Invitation, MemberAction, MemberRefusal, MemberStatus, Readiness,
};
pub use limits::{LimitsConfig, Seat, Seats, network};
pub use metrics::{Metrics, TooBusy};
pub use openapi::document;
pub use rest::session::ClientAddress;
pub use snapshots::{MadeSnapshot, SnapshotFailure, Snapshots};
pub use watches::WATCHES_MAX;

/// A JSON body larger than this is a mistake: the largest thing in one is a recipe of 256 KiB, which may double when
/// its quotes and line ends are escaped.
const JSON_BYTES_MAX: usize = 1024 * 1024;

/// What the doors lead to.
pub struct Parts {
    /// The replicated state.
    pub ledger: Arc<dyn Ledger>,
    /// What this manager knows of the managers.
    pub cluster: Arc<dyn Cluster>,
    /// The way to the hosts' engines.
    pub hub: Hub,
    /// Who makes backups.
    pub snapshots: Arc<dyn Snapshots>,
    /// What drivers must know to say whether they can work here.
    pub drivers: DriverConfig,
    /// A folder with room for the image archives that are on their way to hosts. It must exist.
    pub spool: PathBuf,
    /// What secrets are sealed with before anything is written down.
    pub sealing: Arc<SealingKey>,
    /// What is counted here and shown under `/metrics`.
    pub metrics: Arc<Metrics>,
}

/// What every handler gets to know. Clones share it: each layer around the handlers has one for each request.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

/// See [`Api`].
#[derive(Clone)]
pub struct Shared {
    parts: Arc<Parts>,
    diagnoses: rest::diagnosis::Running,
    attempts: attempts::Attempts,
    polls: rest::device::Polls,
    limits: limits::Limits,
    callers: Arc<callers::Callers>,
    collected: audit::Collected,
    notes: notes::Notes,
}

impl Api {
    /// A door to these parts, with the limits that there are where nothing is said.
    pub fn new(parts: Parts) -> Api {
        Api(Arc::new(Shared {
            callers: Arc::new(callers::Callers::following(parts.ledger.feed())),
            parts: Arc::new(parts),
            diagnoses: rest::diagnosis::Running::default(),
            attempts: attempts::Attempts::default(),
            polls: rest::device::Polls::default(),
            limits: limits::Limits::new(&LimitsConfig::default()),
            collected: audit::Collected::default(),
            notes: notes::Notes::default(),
        }))
    }

    /// The same door with other limits.
    #[must_use]
    pub fn limited_to(self, config: &LimitsConfig) -> Api {
        Api(Arc::new(Shared { limits: limits::Limits::new(config), ..Shared::clone(&self) }))
    }

    /// Writes down what is collected beside requests, and seals the audit, as long as the process lives.
    pub fn keep_books(self) {
        tokio::spawn(self.clone().keep_notes());
        tokio::spawn(self.clone().keep_seals());
        tokio::spawn(self.keep_audit());
    }

    fn ledger(&self) -> &dyn Ledger {
        &*self.parts.ledger
    }
}

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Everything that is served on the API port.
pub fn router(api: Api) -> Router {
    let (routes, _) = rest::routes().split_for_parts();
    let rest: Router = routes
        .fallback(rest::unknown_route)
        .method_not_allowed_fallback(rest::unknown_method)
        .layer(from_fn_with_state(api.clone(), rest::event::follow_lists))
        .layer(from_fn(strict::require))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .layer(from_fn_with_state(api.clone(), freshness::require))
        .layer(from_fn_with_state(api.clone(), auth::require))
        .layer(from_fn_with_state(api.clone(), audit::follow))
        .layer(from_fn_with_state(api.clone(), dress::dress))
        .with_state(api.clone());
    let grpc = grpc::routes(api.clone(), &rest);
    rest.merge(grpc).layer(from_fn_with_state(api, metrics::count))
}
