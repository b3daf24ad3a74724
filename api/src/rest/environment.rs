//! Environments: list, show, wish, remove.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use skep_ledger::{Key, Revision, Stored, Tx, View};
use skep_model::access::{self, Caller, Permission, Scope};
use skep_model::host::{HOSTS_PER_ENVIRONMENT_MAX, Host};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::nfs::Nfs;
use skep_model::{CLUSTER, Refusal, Ruling, environment, operation, swarm_keys, upgrade as model_upgrade};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Begun, Change, Changing, Keyed, Started};
use crate::dress::{At, One};
use crate::extract::{Place, Read, Reading, Reference, Within};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Refused, Reply};
use crate::rest::nfs::{self, NfsServer};
use crate::rest::operation::Operation;
use crate::rest::upgrade::{self, UpgradePlan, UpgradeWish};
use crate::rest::{self, List, Metadata, driver};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, remove))
        .routes(routes!(rescue))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(upgrade))
}

/// An isolated swarm with its hosts and stacks.
#[derive(Debug, Serialize, ToSchema)]
struct Environment {
    #[schema(example = "Environment")]
    kind: &'static str,
    metadata: Metadata,
    spec: EnvironmentSpec,
    status: EnvironmentStatus,
}

/// What was wished.
#[derive(Debug, Serialize, ToSchema)]
struct EnvironmentSpec {
    /// The template it was made from.
    template: String,
    /// How many swarm managers it keeps.
    swarm_managers: u8,
    /// The host label over whose values the swarm managers are spread; null: over none.
    spread_over: Option<String>,
    /// For how many seconds a swarm manager may be down before another host takes its place; 0: for ever.
    manager_patience_secs: u32,
    /// For how many seconds a host may be down before a new machine takes its place; 0: for ever.
    host_patience_secs: u32,
    /// Are tasks moved to hosts that have joined?
    rebalance: bool,
    /// The largest packets between its hosts; null: what the narrowest of their links carries.
    mtu: Option<u16>,
    /// Are its overlay networks encrypted from host to host?
    encrypted: bool,
    /// Ranges out of which its swarm takes networks; empty: Docker's own.
    address_pools: Vec<String>,
    /// The prefix of each network taken out of a pool; null: Docker's own.
    subnet_size: Option<u8>,
    /// Where volumes of driver `nfs` lie; null: nowhere.
    nfs: Option<NfsServer>,
    /// Do managers of the swarm whose engines start wait for the unlock key? Skep gives it to them.
    autolock: bool,
    /// How long a node's certificate is valid; null: as Docker decides, 90 days.
    certificate_days: Option<u32>,
}

/// What is to be changed about an environment; what is not named stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EnvironmentPatch {
    spec: EnvironmentSpecPatch,
}

/// What is wished for an environment; what is not named stays as it is, or as the template says.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct EnvironmentSpecPatch {
    /// How many swarm managers it keeps.
    swarm_managers: Option<u8>,
    /// The host label over whose values the swarm managers are spread; null: over none.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    spread_over: Option<Option<String>>,
    /// For how many seconds a swarm manager may be down before another host takes its place; 0: for ever.
    manager_patience_secs: Option<u32>,
    /// For how many seconds a host may be down before a new machine takes its place; 0: for ever.
    host_patience_secs: Option<u32>,
    /// Are tasks moved to hosts that have joined?
    rebalance: Option<bool>,
    /// The largest packets between its hosts; null: what the narrowest of their links carries.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<u16>)]
    mtu: Option<Option<u16>>,
    /// Are its overlay networks encrypted from host to host?
    encrypted: Option<bool>,
    /// Ranges out of which its swarm takes networks, such as `10.20.0.0/16`; only until the swarm is begun.
    address_pools: Option<Vec<String>>,
    /// The prefix of each network taken out of a pool; null: Docker's own.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<u8>)]
    subnet_size: Option<Option<u8>>,
    /// Where volumes of driver `nfs` lie; null: nowhere. Every host that can be asked must be able to use it.
    #[serde(deserialize_with = "said")]
    #[schema(value_type = Option<NfsServer>)]
    nfs: Option<Option<NfsServer>>,
    /// Shall managers of the swarm whose engines start wait for the unlock key?
    autolock: Option<bool>,
    /// How long a node's certificate is valid: 1 to 3650 days.
    certificate_days: Option<u32>,
}

/// A field that is there and null says something; one that is not there says nothing.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(field).map(Some)
}

impl From<EnvironmentSpecPatch> for environment::Change {
    fn from(patch: EnvironmentSpecPatch) -> environment::Change {
        environment::Change {
            swarm_managers: patch.swarm_managers,
            spread_over: patch.spread_over,
            manager_patience_secs: patch.manager_patience_secs,
            host_patience_secs: patch.host_patience_secs,
            rebalance: patch.rebalance,
            mtu: patch.mtu,
            encrypted: patch.encrypted,
            address_pools: patch.address_pools,
            subnet_size: patch.subnet_size,
            nfs: patch.nfs.map(|wished| wished.map(Nfs::from)),
            keys: swarm_keys::Change { autolock: patch.autolock, certificate_days: patch.certificate_days },
        }
    }
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
struct EnvironmentStatus {
    /// `creating`, `active`, `degraded`, `draining` (it is being paused), `paused` or `deleting`.
    state: &'static str,
    /// Why, and what helps.
    message: String,
    /// The swarm; null until there is one.
    swarm: Option<EnvironmentSwarm>,
    /// What its networks are made like; null until its swarm was begun.
    networks: Option<EnvironmentNetworks>,
    /// Its hosts.
    hosts: EnvironmentHosts,
    /// When the newest pass began in which tasks were moved to hosts that had joined.
    rebalanced_at: Option<Timestamp>,
    /// Since when it is wished to rest; null if it is not.
    paused_at: Option<Timestamp>,
    /// The operation that it is in the hands of.
    operation: Option<String>,
}

/// The swarm as it was seen last.
#[derive(Debug, Serialize, ToSchema)]
struct EnvironmentSwarm {
    /// Docker's id of it.
    id: String,
    /// Managers that are ready.
    managers: usize,
    /// Nodes that are ready, managers among them.
    nodes: usize,
    /// Can its managers agree on changes? Without a quorum tasks go on running, and nothing can be changed.
    quorum: bool,
    /// Since when they cannot.
    quorum_lost_at: Option<Timestamp>,
}

/// What the networks of an environment's swarm are made like.
#[derive(Debug, Serialize, ToSchema)]
struct EnvironmentNetworks {
    /// The size of packets on the links for which overlay networks are made from now on.
    mtu: u16,
    /// Are they encrypted?
    encrypted: bool,
    /// The size of packets for which the ingress network was made; null: there is none.
    ingress_mtu: Option<u16>,
}

/// Hosts by number.
#[derive(Debug, Serialize, ToSchema)]
struct EnvironmentHosts {
    /// All of them.
    total: usize,
    /// Those that do their part in the swarm.
    active: usize,
}

/// A new environment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EnvironmentWish {
    /// Unique in the cluster.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    name: String,
    /// The template's name.
    #[schema(value_type = String)]
    template: Reference,
    /// Hosts to begin with, named `NAME-1`, `NAME-2`, ….
    #[serde(default)]
    hosts: Option<HostsWish>,
    /// What is wished otherwise than the template says.
    #[serde(default)]
    spec: EnvironmentSpecPatch,
}

/// Hosts that are all alike.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HostsWish {
    /// How many.
    count: usize,
    /// Where they come from.
    driver: String,
    /// What the driver is told.
    #[serde(default)]
    options: BTreeMap<String, String>,
}

impl Environment {
    fn new(view: &View, stored: &Stored<environment::Environment>) -> Ruling<Environment> {
        let hosts = view.list::<Host>(stored.id.as_str())?;
        let (state, message) = stored.state(&hosts);
        let operation = operation::active(view, "environment", stored.id.as_str())?;
        Ok(Environment {
            kind: "Environment",
            metadata: Metadata {
                id: stored.id.to_string(),
                name: stored.name.to_string(),
                env: None,
                revision: stored.revision,
                created_at: Some(stored.created_at),
                updated_at: Some(stored.removal.unwrap_or(stored.created_at)),
            },
            spec: EnvironmentSpec {
                template: stored.template.to_string(),
                swarm_managers: stored.swarm_managers,
                spread_over: stored.spread_over.clone(),
                manager_patience_secs: stored.upkeep.manager_patience_secs,
                host_patience_secs: stored.upkeep.host_patience_secs,
                rebalance: stored.upkeep.rebalance,
                mtu: stored.mtu,
                encrypted: stored.options.encrypted,
                address_pools: stored.options.address_pools.iter().map(ToString::to_string).collect(),
                subnet_size: stored.options.subnet_size,
                nfs: stored.options.nfs.as_ref().map(NfsServer::from),
                autolock: stored.keys.autolock,
                certificate_days: stored.keys.certificate_days,
            },
            status: EnvironmentStatus {
                state,
                message,
                swarm: stored.swarm.as_ref().map(|swarm| EnvironmentSwarm {
                    id: swarm.id.clone(),
                    managers: swarm.managers,
                    nodes: swarm.nodes,
                    quorum: swarm.quorum_lost.is_none(),
                    quorum_lost_at: swarm.quorum_lost,
                }),
                networks: stored.networks.made_for.map(|made_for| EnvironmentNetworks {
                    mtu: made_for.mtu,
                    encrypted: made_for.encrypted,
                    ingress_mtu: stored.networks.ingress.map(|ingress| ingress.mtu),
                }),
                hosts: EnvironmentHosts {
                    total: hosts.len(),
                    active: hosts.iter().filter(|host| host.is_active()).count(),
                },
                rebalanced_at: stored
                    .balance
                    .as_ref()
                    .filter(|balance| balance.operation.is_some())
                    .map(|balance| balance.begun),
                paused_at: stored.pause.as_ref().map(|pause| pause.since),
                operation: operation.map(|id| id.to_string()),
            },
        })
    }
}

impl EnvironmentWish {
    /// Everything that a rule must not choose itself: the ids.
    fn minted(self) -> Result<environment::EnvironmentWish, Refusal> {
        let hosts = self.hosts.unwrap_or_default();
        if hosts.count > HOSTS_PER_ENVIRONMENT_MAX {
            return Err(Refusal::TooMany {
                what: "hosts in an environment",
                limit: HOSTS_PER_ENVIRONMENT_MAX,
            });
        }
        let host = |_| (HostId::new(Uuid::now_v7()), OperationId::new(Uuid::now_v7()));
        Ok(environment::EnvironmentWish {
            id: EnvironmentId::new(Uuid::now_v7()),
            operation: OperationId::new(Uuid::now_v7()),
            name: self.name,
            template: self.template.to_string(),
            hosts: (0..hosts.count).map(host).collect(),
            driver: hosts.driver,
            options: hosts.options,
            change: self.spec.into(),
        })
    }
}

/// The environment under a key, as the API shows it.
pub(crate) fn document(view: &View, key: &Key) -> Ruling<Option<(Revision, Value)>> {
    let Some(stored) = view.get::<environment::Environment>(&key.partition, &key.id)? else {
        return Ok(None);
    };
    rest::shown(stored.revision, &Environment::new(view, &stored)?)
}

/// Lists the environments.
#[utoipa::path(get, path = "/v1/environments", operation_id = "list_environments",
    params(Reading, Paging),
    responses((status = 200, description = "All that the caller may see",
        content((List<Environment> = "application/json"), (String = "text/event-stream"))), Refused))]
async fn list(Extension(caller): Extension<Caller>, ReadList(view, listing): ReadList) -> Reply<Page> {
    let mut all = view.list::<environment::Environment>(CLUSTER)?;
    all.retain(|stored| caller.grants.has(Permission::ViewEnvironment, &Scope::from(&stored.record)));
    let items = all.iter().map(|stored| Environment::new(&view, stored)).collect::<Ruling<Vec<_>>>()?;
    listing.page(view.revision(), items, &["name"])
}

/// Shows an environment.
#[utoipa::path(get, path = "/v1/environments/{environment}", operation_id = "show_environment",
    params(Reading, Within),
    responses((status = 200, body = Environment, description = "As it is"), Refused))]
async fn show(Place(reference): Place<Reference>, Read(view): Read) -> Reply<One<Environment>> {
    let stored = environment::find(&view, &reference)?;
    Ok(One(view.revision(), stored.revision, Environment::new(&view, &stored)?))
}

/// Asks for an environment. The user who does owns it.
#[utoipa::path(post, path = "/v1/environments", operation_id = "create_environment",
    params(Changing, Keyed), request_body = EnvironmentWish, responses(Begun))]
async fn create(State(api): State<Api>, Asked { change, wish }: Asked<EnvironmentWish>) -> Reply<Response> {
    let wish = wish.minted()?;
    let driver = match wish.hosts.is_empty() {
        true => Ok(()),
        false => driver::check(&api, &wish.driver, &wish.options),
    };
    let children: Vec<_> = wish.hosts.iter().map(|(_, operation)| operation.clone()).collect();
    api.start(&change, |tx| {
        driver.clone()?;
        let operation = environment::wish(tx, &wish)?;
        access::own(tx, change.caller(), &wish.id)?;
        Ok(Started::with_children(operation, children.clone()))
    })
    .await
}

/// Changes what an environment keeps. Networks that are in use stay as they are.
///
/// A dry run answers with the environment as it would be wished then.
#[utoipa::path(patch, path = "/v1/environments/{environment}", operation_id = "update_environment",
    params(Changing, Keyed, Within), request_body = EnvironmentPatch,
    responses(
    (status = 202, body = Operation, description = "Accepted: follow the operation"),
    (status = 200, body = Environment, description = "Dry run: as it would be wished"),
    Refused,
))]
async fn update(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    Asked { change, wish }: Asked<EnvironmentPatch>,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    let wished = environment::Change::from(wish.spec);
    if let Some(Some(nfs)) = &wished.nfs {
        nfs::usable(&api, &reference, nfs).await?;
    }
    let rule = |tx: &mut Tx<'_>| environment::update(tx, &reference, &wished, id.clone());
    if !change.is_dry_run() {
        return api.start(&change, |tx| Ok(rule(tx)?.into())).await;
    }
    let rehearsed = api
        .rehearse(&change, |tx| {
            rule(tx)?;
            environment::named(tx, &reference)
        })
        .await?;
    let would_be = Stored { record: rehearsed.answer, revision: rehearsed.revision };
    let document = Environment::new(&api.ledger().view(), &would_be)?;
    Ok(At(rehearsed.revision, Json(document)).into_response())
}

/// From which host a swarm is rescued.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RescueWish {
    /// The name or id of a manager of the swarm that can be reached.
    #[schema(value_type = String)]
    from: Reference,
}

/// Begins a swarm that has lost its quorum anew on one of its managers, with what that one knows, and takes the others in
/// again. Refused while most of its managers can be reached.
#[utoipa::path(post, path = "/v1/environments/{environment}/actions/rescue", operation_id = "rescue_environment",
    params(Changing, Keyed, Within), request_body = RescueWish, responses(Begun))]
async fn rescue(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    Asked { change, wish }: Asked<RescueWish>,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| Ok(environment::rescue(tx, &reference, &wish.from, id.clone())?.into())).await
}

/// Lets an environment rest: its hosts take no tasks, and nothing is changed in it until it is resumed.
///
/// Services stay as they are, and hosts and their swarm go on; the operation ends when the last task has stopped. Cancelled,
/// it lets the hosts take tasks as before.
#[utoipa::path(
    post,
    path = "/v1/environments/{environment}/actions/pause",
    operation_id = "pause_environment",
    params(Changing, Keyed, Within),
    responses(Begun)
)]
async fn pause(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    change: Change,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| Ok(environment::pause(tx, &reference, id.clone())?.into())).await
}

/// Lets an environment that rests be at work again, with everything as it was; the operation ends when its stacks run.
#[utoipa::path(
    post,
    path = "/v1/environments/{environment}/actions/resume",
    operation_id = "resume_environment",
    params(Changing, Keyed, Within),
    responses(Begun)
)]
async fn resume(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    change: Change,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| Ok(environment::resume(tx, &reference, id.clone())?.into())).await
}

/// Gives all hosts of an environment another engine, one after the other: workers first, the swarm's leader last.
///
/// Each host's tasks move away first, and it is seen to serve before the next one begins. What fails pauses the operation
/// until it is resumed, retried or cancelled. A dry run lists the hosts in their order, with what would be done.
#[utoipa::path(post, path = "/v1/environments/{environment}/actions/upgrade", operation_id = "upgrade_environment",
    params(Changing, Keyed, Within), request_body = UpgradeWish,
    responses(
    (status = 202, body = Operation, description = "Accepted: follow the operation"),
    (status = 200, body = UpgradePlan, description = "Dry run: what would be done"),
    Refused,
))]
async fn upgrade(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    Asked { change, wish }: Asked<UpgradeWish>,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    let rule =
        |tx: &mut Tx<'_>| model_upgrade::of_environment(tx, &reference, wish.version.as_deref(), id.clone());
    upgrade::answer(&api, &change, rule, |_| true).await
}

/// Asks for an environment to be removed with everything in it.
#[utoipa::path(
    delete,
    path = "/v1/environments/{environment}",
    operation_id = "remove_environment",
    params(Changing, Keyed, Within),
    responses(Begun)
)]
async fn remove(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    change: Change,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| Ok(environment::remove(tx, &reference, id.clone())?.into())).await
}
