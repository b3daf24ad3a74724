//! Orphans: machines that carry this cluster's tag, and that the cluster knows nothing of.
//!
//! They come about when a manager dies, or is cut off, in the middle of asking for a machine that somebody else has given
//! back meanwhile, and when a cluster is restored from an older backup. Nobody removes them by itself: a person looks, and
//! names each that is to go. It is asked for again right before; and who was an orphan once stays one, because neither the
//! ledger's row nor the host of an id ever comes back.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use skep_drivers::{Driver, DriverError, Machine, MachineKey};
use skep_model::{Refusal, resource};
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::change::{Change, Changing, Keyed, answered};
use crate::dress::At;
use crate::extract::{Place, Reading, Reference};
use crate::listing::{Listing, Page, Paging};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::List;

/// A list of machines; below the 15 s that a client waits for an answer.
const LIST_MAX: Duration = Duration::from_secs(12);

/// Giving one machine back: clouds take half a minute.
const RELEASE_MAX: Duration = Duration::from_secs(120);

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(remove))
}

/// A machine that carries this cluster's tag, and that the cluster knows nothing of.
#[derive(Debug, Serialize, ToSchema)]
struct Orphan {
    /// The tag: the id of the host that it was once made for.
    host: String,
    /// Who can give it back.
    driver: &'static str,
    /// Its host name.
    name: String,
    /// The driver's name for it.
    machine: String,
    /// Where it is.
    address: String,
}

/// What became of an orphan.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
struct OrphanRemoval {
    /// Its tag.
    host: String,
    /// `removed`; `gone`, if there was no such machine any more; `would be removed`, in a dry run.
    result: String,
}

impl Orphan {
    fn new(driver: &'static str, machine: Machine) -> Orphan {
        Orphan {
            host: machine.key.host,
            driver,
            name: machine.name,
            machine: machine.id,
            address: machine.address.to_string(),
        }
    }
}

/// Lists the machines of a driver that carry this cluster's tag and that the cluster knows nothing of.
///
/// As the answering manager sees them; a driver that makes machines on the manager's own computer sees those only.
#[utoipa::path(get, path = "/v1/drivers/{driver}/orphans", operation_id = "list_orphans",
    params(Reading, Paging, ("driver" = String, Path, description = "Its name")),
    responses((status = 200, body = List<Orphan>, description = "All of them"), Refused))]
async fn list(State(api): State<Api>, Place(driver): Place<Reference>, listing: Listing) -> Reply<Page> {
    let (name, driver) = known(&api, &driver)?;
    let machines = asked(name, "listing its machines", LIST_MAX, driver.list()).await?;
    // After the list: what has been asked for by then has its row.
    let view = api.ledger().fresh_view().await?;
    let mut orphans = vec![];
    for machine in machines {
        if resource::orphaned(&view, &machine.key.host)?.is_ok() {
            orphans.push(Orphan::new(name, machine));
        }
    }
    listing.page(view.revision(), orphans, &["host"])
}

/// Gives an orphan back to its driver, with everything that was made for it.
#[utoipa::path(delete, path = "/v1/drivers/{driver}/orphans/{host}", operation_id = "remove_orphan",
    params(Changing, Keyed,
        ("driver" = String, Path, description = "The driver's name"),
        ("host" = String, Path, description = "The orphan's tag: the id of the host that it was once made for")),
    responses((status = 200, body = OrphanRemoval, description = "What became of it"), Refused))]
async fn remove(
    State(api): State<Api>,
    Place((driver, host)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let (name, driver) = known(&api, &driver)?;
    let key = MachineKey { cluster: api.parts.drivers.cluster.clone(), host: host.to_string() };
    let removal = async {
        let found = asked(name, "looking for the machine", LIST_MAX, driver.find(&key)).await?;
        let view = api.ledger().fresh_view().await?;
        resource::orphaned(&view, &host)?
            .map_err(|why| Refusal::NotAnOrphan { machine: host.to_string(), why })?;
        let result = match (found, change.is_dry_run()) {
            (None, _) => "gone",
            (Some(_), true) => "would be removed",
            (Some(machine), false) => {
                asked(name, "giving the machine back", RELEASE_MAX, driver.release(&key)).await?;
                tracing::info!(
                    by = change.by(),
                    driver = name,
                    machine = machine.id,
                    "an orphan was removed"
                );
                "removed"
            }
        };
        Ok(OrphanRemoval { host: host.to_string(), result: result.to_owned() })
    };
    if change.is_dry_run() {
        let rehearsed = api.rehearse(&change, |_| Ok(())).await?;
        return Ok(At(rehearsed.revision, Json(removal.await?)).into_response());
    }
    let removed = api.once(&change, removal).await?;
    let document = Json(removed.answer.clone());
    Ok(answered(&removed, document))
}

fn known(api: &Api, name: &str) -> Reply<(&'static str, Arc<dyn Driver>)> {
    let kind = skep_drivers::kind(name).ok_or_else(|| Refusal::NotFound {
        what: "driver",
        name: name.to_owned(),
        scope: None,
    })?;
    Ok((kind.name, (kind.build)(&api.parts.drivers)))
}

/// What the driver answers, within a time.
async fn asked<T>(
    driver: &'static str,
    doing: &'static str,
    most: Duration,
    answer: impl Future<Output = Result<T, DriverError>>,
) -> Reply<T> {
    let failed = |why: String| Problem::new(Code::DriverFailed, format!("driver {driver}, {doing}: {why}"));
    match timeout(most, answer).await {
        // Nothing that this driver makes could be named so.
        Ok(Err(DriverError::InvalidKey { host, .. })) => {
            Err(Refusal::NotFound { what: "orphan", name: host, scope: None }.into())
        }
        Ok(answer) => answer.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s; it may still be done", most.as_secs()))
            .hinting(format!("look again: skep driver orphans {driver}"))),
    }
}
