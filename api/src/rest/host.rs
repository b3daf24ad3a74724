//! Hosts: list, show, wish, place, remove.

mod network;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_ledger::{Key, Revision, Stored, Tx, View};
use skep_model::host::renewal::Successor;
use skep_model::ids::{HostId, OperationId};
use skep_model::{CLUSTER, Ruling, environment, host, operation, placement, upgrade as model_upgrade};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::network::HostNetwork;

use crate::Api;
use crate::change::{Asked, Begun, Change, Changing, Keyed, Started};
use crate::dress::One;
use crate::extract::{Place, Read, Reading, Reference, Within};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::nfs::HostNfs;
use crate::rest::operation::Operation;
use crate::rest::registration::Role;
use crate::rest::upgrade::{self, UpgradePlan, UpgradeWish};
use crate::rest::{self, List, Metadata, driver};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, remove))
        .routes(routes!(cordon))
        .routes(routes!(uncordon))
        .routes(routes!(evacuate))
        .routes(routes!(check))
        .routes(routes!(upgrade))
        .routes(routes!(let_go))
        .routes(routes!(reprovision))
        .routes(routes!(replace))
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
    /// It joins the swarm whatever is found about the network between them.
    skip_preflight: bool,
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
    /// Docker does not answer), `swarm-down` (the swarm has lost it), `swarm-locked` (its engine waits for the unlock
    /// key), `failed` (its machine is gone or stopped), `reprovisioning` or `removing`.
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
    /// What was found about the network between it and the swarm before it joined, or when that was last asked for; null if it
    /// was not checked.
    network: Option<HostNetwork>,
    /// What the agent found; null until it has said.
    inventory: Option<HostInventory>,
    /// The networks that Docker has made by itself on it; null until it has joined.
    networks: Option<HostNetworks>,
    /// What it can do with the environment's NFS server; null if nobody has asked.
    nfs: Option<HostNfs>,
    /// The operation that it is in the hands of.
    operation: Option<String>,
}

/// For packets of which size a host's networks were made; `inventory.mtu` says what its link carries.
#[derive(Debug, Serialize, ToSchema)]
struct HostNetworks {
    /// `docker0`.
    engine_mtu: Option<u16>,
    /// `docker_gwbridge`, through which tasks reach the world.
    bridge_mtu: Option<u16>,
    /// The environment's overlay networks.
    environment_mtu: Option<u16>,
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
    /// The address that the node gives to the others; null until its engine has said.
    address: Option<String>,
    /// Do the swarm's managers reach it? Told of managers only; a worker counts as reachable.
    reachable: bool,
    /// Until when the node's certificate is valid, which Docker renews by itself; null if that is not known.
    certificate_expires_at: Option<Timestamp>,
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
    #[serde(default)]
    labels: BTreeMap<String, Option<String>>,
    /// Which part it should play in the swarm.
    role: Option<Role>,
}

/// How the new host is to be that takes the place of another.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct HostReplacement {
    /// Its name; the next free number if nothing is said.
    name: Option<String>,
}

/// A new host.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HostWish {
    /// Unique in the environment; becomes the machine's host name.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    name: String,
    /// Where the machine comes from.
    driver: String,
    /// What the driver is told.
    #[serde(default)]
    options: BTreeMap<String, String>,
    /// It joins the swarm whatever is found about the network between them.
    #[serde(default)]
    skip_preflight: bool,
    /// The labels that its node gets in the swarm.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// A check of the network between a host and its swarm.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HostCheck {
    /// May the host join the swarm whatever is found, from now on? Without it that stays as it is.
    skip_preflight: Option<bool>,
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
                skip_preflight: stored.skip_preflight,
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
                address: host.node_stands().map(|standing| standing.address.clone()),
                reachable: membership.reachable,
                certificate_expires_at: host.swarm_certificate().map(|validity| validity.to),
            }),
            network: host.preflight.as_ref().map(|preflight| HostNetwork::new(host, preflight)),
            inventory: host.inventory.as_ref().map(HostInventory::new),
            nfs: host.nfs.as_ref().map(HostNfs::from),
            networks: host.networks.map(|seen| HostNetworks {
                engine_mtu: seen.engine_mtu,
                bridge_mtu: seen.bridge_mtu,
                environment_mtu: seen.environment_mtu,
            }),
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
    params(Reading, Paging, Within),
    responses((status = 200, description = "All of them",
        content((List<Host> = "application/json"), (String = "text/event-stream"))), Refused))]
async fn list(Place(reference): Place<Reference>, ReadList(view, listing): ReadList) -> Reply<Page> {
    let environment = environment::find(&view, &reference)?;
    let all = view.list::<host::Host>(environment.id.as_str())?;
    let items =
        all.iter().map(|stored| Host::new(&view, &environment, stored)).collect::<Ruling<Vec<_>>>()?;
    listing.page(view.revision(), items, &["name"])
}

/// Shows a host.
#[utoipa::path(get, path = "/v1/environments/{environment}/hosts/{host}", operation_id = "show_host",
    params(Reading, Within, ("host" = String, Path, description = "Its name or id")),
    responses((status = 200, body = Host, description = "As it is"), Refused))]
async fn show(
    Place((environment, host)): Place<(Reference, Reference)>,
    Read(view): Read,
) -> Reply<One<Host>> {
    let environment = environment::find(&view, &environment)?;
    let stored = host::find(&view, &environment, &host)?;
    Ok(One(view.revision(), stored.revision, Host::new(&view, &environment, &stored)?))
}

/// Asks for a host.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts", operation_id = "create_host",
    params(Changing, Keyed, Within), request_body = HostWish, responses(Begun))]
async fn create(
    State(api): State<Api>,
    Place(environment): Place<Reference>,
    Asked { change, wish }: Asked<HostWish>,
) -> Reply<Response> {
    let checked = driver::check(&api, &wish.driver, &wish.options);
    let (id, operation) = (HostId::new(Uuid::now_v7()), OperationId::new(Uuid::now_v7()));
    let HostWish { name, driver, options, skip_preflight, labels } = wish;
    let wish = host::HostWish { id, operation, name, driver, options, skip_preflight, labels };
    api.start(&change, |tx| {
        checked.clone()?;
        let environment = environment::usable(tx, &environment)?;
        Ok(host::wish(tx, &environment, &wish, None)?.into())
    })
    .await
}

/// Sets and removes labels of a host's node, or wishes another part in the swarm for it.
///
/// If both are asked for, the answer is the operation that writes the labels.
#[utoipa::path(patch, path = "/v1/environments/{environment}/hosts/{host}", operation_id = "update_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")),
    request_body = HostPatch, responses(Begun))]
async fn update(
    State(api): State<Api>,
    Place(place): Place<(Reference, Reference)>,
    Asked { change, wish }: Asked<HostPatch>,
) -> Reply<Response> {
    let HostSpecPatch { labels, role } = wish.spec;
    if labels.is_empty() && role.is_none() {
        let detail = "spec names nothing to change: labels or role";
        return Err(Problem::new(Code::InvalidBody, detail));
    }
    let (environment, host) = place;
    let only_role = labels.is_empty();
    let labels = placement::Change::Labels(labels);
    let ids = [(); 2].map(|()| OperationId::new(Uuid::now_v7()));
    api.start(&change, |tx| {
        let environment = environment::usable(tx, &environment)?;
        if let Some(role) = role {
            let begun = host::role::wish(tx, &environment, &host, role.into(), ids[0].clone())?;
            if only_role {
                return Ok(begun.into());
            }
        }
        Ok(placement::wish(tx, &environment, &host, &labels, ids[1].clone())?.into())
    })
    .await
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

/// Checks the network between a host and its swarm, as before it joins. The operation fails with the reason if a host that is
/// not in the swarm would be held back.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts/{host}/actions/check",
    operation_id = "check_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")),
    request_body = HostCheck, responses(Begun))]
async fn check(
    State(api): State<Api>,
    Place((environment, host)): Place<(Reference, Reference)>,
    Asked { change, wish }: Asked<HostCheck>,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| {
        let environment = environment::usable(tx, &environment)?;
        Ok(host::check(tx, &environment, &host, wish.skip_preflight, id.clone(), change.by())?.into())
    })
    .await
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

/// Gives a host another engine: its tasks move away first, and come back once it is seen to serve.
///
/// A dry run says what would be done.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts/{host}/actions/upgrade",
    operation_id = "upgrade_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")),
    request_body = UpgradeWish,
    responses(
    (status = 202, body = Operation, description = "Accepted: follow the operation"),
    (status = 200, body = UpgradePlan, description = "Dry run: what would be done"),
    Refused,
))]
async fn upgrade(
    State(api): State<Api>,
    Place((place, host)): Place<(Reference, Reference)>,
    Asked { change, wish }: Asked<UpgradeWish>,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    let view = api.ledger().view();
    let named = environment::find(&view, &place).and_then(|place| host::find(&view, &place, &host));
    let name = named.map(|found| found.name.to_string()).unwrap_or_default();
    let rule = |tx: &mut Tx<'_>| {
        let environment = environment::usable(tx, &place)?;
        model_upgrade::of_host(tx, &environment, &host, wish.version.as_deref(), id.clone())
    };
    upgrade::answer(&api, &change, rule, |planned| planned == name).await
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

/// Asks for a host to be removed while its machine goes on.
///
/// It leaves the swarm and its agent ends; the driver leaves the machine as it is and knows it no more.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts/{host}/actions/let-go",
    operation_id = "let_host_go",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")), responses(Begun))]
async fn let_go(
    State(api): State<Api>,
    Place((environment, host)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| {
        let environment = environment::named(tx, &environment)?;
        Ok(host::let_go(tx, &environment, &host, id.clone())?.into())
    })
    .await
}

/// Asks for a host's machine to be given back and made anew; the host stays, with its name, role and labels.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts/{host}/actions/reprovision",
    operation_id = "reprovision_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")), responses(Begun))]
async fn reprovision(
    State(api): State<Api>,
    Place((environment, host)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| {
        let environment = environment::usable(tx, &environment)?;
        can_be_made(&api, &host::named(tx, &environment, &host)?)?;
        Ok(host::renewal::reprovision(tx, &environment, &host, id.clone())?.into())
    })
    .await
}

/// Asks for a new host of the same kind, role and labels, and for the removal of this one once the new one does its part.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts/{host}/actions/replace",
    operation_id = "replace_host",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")),
    request_body = HostReplacement, responses(Begun))]
async fn replace(
    State(api): State<Api>,
    Place((environment, host)): Place<(Reference, Reference)>,
    Asked { change, wish }: Asked<HostReplacement>,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    let successor = Successor {
        host: HostId::new(Uuid::now_v7()),
        creation: OperationId::new(Uuid::now_v7()),
        name: wish.name,
    };
    api.start(&change, |tx| {
        let environment = environment::usable(tx, &environment)?;
        can_be_made(&api, &host::named(tx, &environment, &host)?)?;
        let begun = host::renewal::replace(tx, &environment, &host, &successor, id.clone())?;
        Ok(Started::with_children(begun, vec![successor.creation.clone()]))
    })
    .await
}

/// Refused before anything is given up: could a machine like this one be made here?
fn can_be_made(api: &Api, host: &host::Host) -> Ruling<()> {
    match &host.driver {
        Some(driver) => driver::check(api, driver, &host.options),
        None => Ok(()),
    }
}
