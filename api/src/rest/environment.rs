//! Environments: list, show, wish, remove.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_ledger::{Key, Revision, Stored, View};
use skep_model::host::{HOSTS_PER_ENVIRONMENT_MAX, Host};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::{CLUSTER, Refusal, Ruling, environment, operation};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Begun, Change, Changing, Keyed, Started};
use crate::dress::At;
use crate::extract::{Place, Read, Reading, Reference, Within};
use crate::problem::{Refused, Reply};
use crate::rest::{self, List, Listed, Metadata, driver};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, remove)).routes(routes!(rescue))
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
    /// MTU of its networks; null: the engine's own.
    mtu: Option<u16>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
struct EnvironmentStatus {
    /// `creating`, `active`, `degraded` or `deleting`.
    state: &'static str,
    /// Why, and what helps.
    message: String,
    /// The swarm; null until there is one.
    swarm: Option<EnvironmentSwarm>,
    /// Its hosts.
    hosts: EnvironmentHosts,
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
    name: String,
    /// The template's name.
    #[schema(value_type = String)]
    template: Reference,
    /// Hosts to begin with, named `NAME-1`, `NAME-2`, ….
    #[serde(default)]
    hosts: Option<HostsWish>,
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
                mtu: stored.mtu,
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
                hosts: EnvironmentHosts {
                    total: hosts.len(),
                    active: hosts.iter().filter(|host| host.is_active()).count(),
                },
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
    params(Reading),
    responses((status = 200, body = List<Environment>, description = "All of them"), Refused))]
async fn list(Read(view): Read) -> Reply<Listed<Environment>> {
    let mut all = view.list::<environment::Environment>(CLUSTER)?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let items = all.iter().map(|stored| Environment::new(&view, stored)).collect::<Ruling<_>>()?;
    Ok(List::at(view.revision(), items))
}

/// Shows an environment.
#[utoipa::path(get, path = "/v1/environments/{environment}", operation_id = "show_environment",
    params(Reading, Within),
    responses((status = 200, body = Environment, description = "As it is"), Refused))]
async fn show(Place(reference): Place<Reference>, Read(view): Read) -> Reply<At<Json<Environment>>> {
    let stored = environment::find(&view, &reference)?;
    Ok(At(view.revision(), Json(Environment::new(&view, &stored)?)))
}

/// Asks for an environment.
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
        Ok(Started::with_children(environment::wish(tx, &wish)?, children.clone()))
    })
    .await
}

/// From which host a swarm is rescued.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RescueWish {
    /// The name or id of a manager of the swarm that can be reached.
    from: String,
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
