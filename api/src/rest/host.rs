//! Hosts: list, show, wish, place, remove.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_ledger::{Key, Revision, Stored, View};
use skep_model::ids::{HostId, OperationId};
use skep_model::{CLUSTER, Ruling, environment, host, operation, placement};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Begun, Change, Changing, Keyed};
use crate::dress::At;
use crate::extract::{Place, Read, Reading, Reference, Within};
use crate::problem::{Refused, Reply};
use crate::rest::registration::Role;
use crate::rest::{self, List, Listed, Metadata, driver};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, remove))
        .routes(routes!(cordon))
        .routes(routes!(uncordon))
        .routes(routes!(evacuate))
}

/// A machine in an environment.
#[derive(Debug, Serialize, ToSchema)]
struct Host {
    #[schema(example = "Host")]
    kind: &'static str,
    metadata: Metadata,
    spec: HostSpec,
    status: HostStatus,
}

/// What was wished.
#[derive(Debug, Serialize, ToSchema)]
struct HostSpec {
    /// Where the machine comes from; null if it registered itself.
    driver: Option<String>,
    /// Which part it should play in the swarm.
    role: Role,
    /// What the driver was told.
    options: BTreeMap<String, String>,
    /// Which tasks its node takes: `active`, `pause` (cordoned) or `drain` (evacuated).
    availability: Availability,
    /// The labels of its node in the swarm, as `node.labels.KEY` in placement constraints.
    labels: BTreeMap<String, String>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
struct HostStatus {
    /// `creating`, `joining`, `active`, `cordoned`, `drained`, `unreachable` (its agent is silent), `engine-down` (its agent says that
    /// Docker does not answer), `swarm-down` (the swarm has lost it), `failed` (its machine is gone or stopped) or
    /// `removing`.
    state: &'static str,
    /// Why, and what helps.
    message: String,
    /// Since when, where that is known.
    since: Option<Timestamp>,
    /// Where the machine is in the environment's network.
    address: Option<String>,
    /// The driver's name for the machine; null without a driver.
    machine: Option<String>,
    /// The agent's connection.
    agent: HostAgent,
    /// Its place in the swarm; null until it has one.
    swarm: Option<HostSwarm>,
    /// What the agent found; null until it has said.
    inventory: Option<HostInventory>,
    /// The operation that it is in the hands of.
    operation: Option<String>,
}

/// The agent's connection.
#[derive(Debug, Serialize, ToSchema)]
struct HostAgent {
    /// Is it connected?
    connected: bool,
    /// The manager that holds, or last held, the connection.
    manager: Option<String>,
    /// Since when it is as it is.
    since: Option<Timestamp>,
}

/// A host's place in the swarm.
#[derive(Debug, Serialize, ToSchema)]
struct HostSwarm {
    /// Docker's id of the node.
    node: String,
    /// `manager` or `worker`.
    role: &'static str,
    /// Does it lead the swarm's managers?
    leader: bool,
    /// Does the swarm see it ready?
    ready: bool,
    /// Do the swarm's managers reach it? Told of managers only; a worker counts as reachable.
    reachable: bool,
}

/// What the agent found on the machine.
#[derive(Debug, Serialize, ToSchema)]
struct HostInventory {
    /// Processors.
    cpus: u32,
    /// Memory.
    memory_bytes: u64,
    /// Kernel release.
    kernel: String,
    /// `x86_64`, `aarch64`, ….
    architecture: String,
    /// MTU of the interface that carries the address.
    mtu: u32,
    /// Docker Engine's version.
    engine_version: String,
    /// The newest API that the engine speaks.
    engine_api: String,
    /// Kernel features by name: there or not.
    features: BTreeMap<String, bool>,
}

/// Which tasks a node takes, in Docker's words.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Availability {
    /// Takes tasks.
    Active,
    /// Keeps its tasks and takes no more.
    Pause,
    /// Takes no tasks and gives those away that it has.
    Drain,
}

impl From<placement::Availability> for Availability {
    fn from(availability: placement::Availability) -> Availability {
        match availability {
            placement::Availability::Active => Availability::Active,
            placement::Availability::Pause => Availability::Pause,
            placement::Availability::Drain => Availability::Drain,
        }
    }
}

/// What is to be changed about a host; what is not named stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HostPatch {
    spec: HostSpecPatch,
}

/// What is to be changed about the wish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HostSpecPatch {
    /// Labels to set; null removes one.
    labels: BTreeMap<String, Option<String>>,
}

/// A new host.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HostWish {
    /// Unique in the environment; becomes the machine's host name.
    name: String,
    /// Where the machine comes from.
    driver: String,
    /// What the driver is told.
    #[serde(default)]
    options: BTreeMap<String, String>,
}

impl Host {
    fn new(view: &View, environment: &environment::Environment, stored: &Stored<host::Host>) -> Ruling<Host> {
        let operation = operation::active(view, "host", stored.id.as_str())?;
        Ok(Host {
            kind: "Host",
            metadata: Metadata {
                id: stored.id.to_string(),
                name: stored.name.to_string(),
                env: Some(environment.name.to_string()),
                revision: stored.revision,
                created_at: Some(stored.created_at),
                updated_at: Some(stored.removal.unwrap_or(stored.created_at)),
            },
            spec: HostSpec {
                driver: stored.driver.clone(),
                role: stored.role.into(),
                options: stored.options.clone(),
                availability: stored.placement.availability.into(),
                labels: stored.placement.labels.clone(),
            },
            status: HostStatus::new(stored, operation),
        })
    }
}

impl HostStatus {
    fn new(host: &host::Host, operation: Option<OperationId>) -> HostStatus {
        let host::HostState { word: state, why: message, since } = host.state();
        HostStatus {
            state,
            message,
            since,
            address: host.machine.as_ref().map(|machine| machine.address.clone()),
            machine: host.machine.as_ref().map(|machine| machine.id.clone()).filter(|id| !id.is_empty()),
            agent: HostAgent {
                connected: host.agent.connected,
                manager: Some(host.agent.manager.clone()).filter(|manager| !manager.is_empty()),
                since: host.agent.since,
            },
            swarm: host.membership.as_ref().map(|membership| HostSwarm {
                node: membership.node.clone(),
                role: match membership.role {
                    host::Role::Manager => "manager",
                    host::Role::Worker => "worker",
                },
                leader: membership.leader,
                ready: membership.ready,
                reachable: membership.reachable,
            }),
            inventory: host.inventory.as_ref().map(HostInventory::new),
            operation: operation.map(|id| id.to_string()),
        }
    }
}

impl HostInventory {
    fn new(inventory: &host::Inventory) -> HostInventory {
        HostInventory {
            cpus: inventory.cpus,
            memory_bytes: inventory.memory_bytes,
            kernel: inventory.kernel.clone(),
            architecture: inventory.architecture.clone(),
            mtu: inventory.mtu,
            engine_version: inventory.engine_version.clone(),
            engine_api: inventory.engine_api.clone(),
            features: inventory.features.clone(),
        }
    }
}

/// The host under a key, as the API shows it.
pub(crate) fn document(view: &View, key: &Key) -> Ruling<Option<(Revision, Value)>> {
    let stored = view.get::<host::Host>(&key.partition, &key.id)?;
    let environment = view.get::<environment::Environment>(CLUSTER, &key.partition)?;
    match (stored, environment) {
        (Some(stored), Some(environment)) => {
            rest::shown(stored.revision, &Host::new(view, &environment, &stored)?)
        }
        _ => Ok(None),
    }
}

/// Lists the hosts of an environment.
#[utoipa::path(get, path = "/v1/environments/{environment}/hosts", operation_id = "list_hosts",
    params(Reading, Within),
    responses((status = 200, body = List<Host>, description = "All of them"), Refused))]
async fn list(Place(reference): Place<Reference>, Read(view): Read) -> Reply<Listed<Host>> {
    let environment = environment::find(&view, &reference)?;
    let mut all = view.list::<host::Host>(environment.id.as_str())?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let items = all.iter().map(|stored| Host::new(&view, &environment, stored)).collect::<Ruling<_>>()?;
    Ok(List::at(view.revision(), items))
}

/// Shows a host.
#[utoipa::path(get, path = "/v1/environments/{environment}/hosts/{host}", operation_id = "show_host",
    params(Reading, Within, ("host" = String, Path, description = "Its name or id")),
    responses((status = 200, body = Host, description = "As it is"), Refused))]
async fn show(
    Place((environment, host)): Place<(Reference, Reference)>,
    Read(view): Read,
) -> Reply<At<Json<Host>>> {
    let environment = environment::find(&view, &environment)?;
    let stored = host::find(&view, &environment, &host)?;
    Ok(At(view.revision(), Json(Host::new(&view, &environment, &stored)?)))
}

/// Asks for a host.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts", operation_id = "create_host",
    params(Changing, Keyed, Within), request_body = HostWish, responses(Begun))]
async fn create(
    State(api): State<Api>,
    Place(environment): Place<Reference>,
    Asked { change, wish }: Asked<HostWish>,
) -> Reply<Response> {
    let driver = driver::check(&api, &wish.driver, &wish.options);
    let wish = host::HostWish {
        id: HostId::new(Uuid::now_v7()),
        operation: OperationId::new(Uuid::now_v7()),
        name: wish.name,
        driver: wish.driver,
        options: wish.options,
    };
    api.start(&change, |tx| {
        driver.clone()?;
        let environment = environment::usable(tx, &environment)?;
        Ok(host::wish(tx, &environment, &wish, None)?.into())
    })
    .await
}

/// Sets and removes labels of a host's node.
#[utoipa::path(patch, path = "/v1/environments/{environment}/hosts/{host}", operation_id = "update_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")),
    request_body = HostPatch, responses(Begun))]
async fn update(
    State(api): State<Api>,
    Place(place): Place<(Reference, Reference)>,
    Asked { change, wish }: Asked<HostPatch>,
) -> Reply<Response> {
    place_as(&api, &place, &placement::Change::Labels(wish.spec.labels), &change).await
}

/// Lets a host keep its tasks and take no more.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts/{host}/actions/cordon",
    operation_id = "cordon_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")), responses(Begun))]
async fn cordon(
    State(api): State<Api>,
    Place(place): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    place_as(&api, &place, &placement::Change::Availability(placement::Availability::Pause), &change).await
}

/// Lets a host take tasks again.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts/{host}/actions/uncordon",
    operation_id = "uncordon_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")), responses(Begun))]
async fn uncordon(
    State(api): State<Api>,
    Place(place): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    place_as(&api, &place, &placement::Change::Availability(placement::Availability::Active), &change).await
}

/// Lets a host take no tasks and moves those away that it has; the operation ends when the last one is gone.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts/{host}/actions/evacuate",
    operation_id = "evacuate_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")), responses(Begun))]
async fn evacuate(
    State(api): State<Api>,
    Place(place): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    place_as(&api, &place, &placement::Change::Availability(placement::Availability::Drain), &change).await
}

async fn place_as(
    api: &Api,
    (environment, host): &(Reference, Reference),
    wished: &placement::Change,
    change: &Change,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(change, |tx| {
        let environment = environment::usable(tx, environment)?;
        Ok(placement::wish(tx, &environment, host, wished, id.clone())?.into())
    })
    .await
}

/// Asks for a host to be removed.
#[utoipa::path(delete, path = "/v1/environments/{environment}/hosts/{host}", operation_id = "remove_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")),
    responses(Begun))]
async fn remove(
    State(api): State<Api>,
    Place((environment, host)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| {
        let environment = environment::named(tx, &environment)?;
        Ok(host::remove(tx, &environment, &host, id.clone(), None)?.into())
    })
    .await
}
