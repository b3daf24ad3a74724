//! Stacks: list, show, deploy, remove.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_ledger::{Key, Revision, Stored, View};
use skep_model::ids::{OperationId, StackId};
use skep_model::recipe::{Mode, Port, PortMode, Service};
use skep_model::{CLUSTER, Ruling, environment, operation, stack};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Begun, Change, Changing, Keyed};
use crate::dress::One;
use crate::extract::{Place, Read, Reading, Reference, Within};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Refused, Reply};
use crate::rest::{self, List, Metadata};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, deploy, remove))
}

/// A recipe that became services.
#[derive(Debug, Serialize, ToSchema)]
struct Stack {
    #[schema(example = "Stack")]
    kind: &'static str,
    metadata: Metadata,
    spec: StackSpec,
    status: StackStatus,
}

/// What was wished. The variables are not shown: they may be secrets.
#[derive(Debug, Serialize, ToSchema)]
struct StackSpec {
    /// The compose file as it was given.
    recipe: String,
    /// What was understood.
    services: Vec<StackService>,
}

/// A service of a recipe.
#[derive(Debug, Serialize, ToSchema)]
struct StackService {
    /// Its name in the recipe.
    name: String,
    /// What its containers are made from.
    image: String,
    /// How many tasks; null: one on every host.
    replicas: Option<u64>,
    /// What it publishes.
    ports: Vec<StackPort>,
}

/// A published port of a service.
#[derive(Debug, Serialize, ToSchema)]
struct StackPort {
    /// The port on the hosts; null: Swarm picks one.
    published: Option<u16>,
    /// The port in the containers.
    target: u16,
    /// `tcp`, `udp` or `sctp`.
    protocol: String,
    /// `ingress` or `host`.
    mode: &'static str,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
struct StackStatus {
    /// `deploying`, `active`, `degraded` or `removing`.
    state: &'static str,
    /// Why.
    message: String,
    /// The services as they were seen last.
    services: Vec<StackServiceSeen>,
    /// The operation that it is in the hands of.
    operation: Option<String>,
}

/// A service as it was seen last.
#[derive(Debug, Serialize, ToSchema)]
struct StackServiceSeen {
    /// Its name in the recipe.
    name: String,
    /// Tasks that run, or have completed if that is all they should.
    running: u64,
    /// Tasks that should.
    desired: u64,
    /// What is wrong with it; empty if nothing is.
    message: String,
}

/// A deployment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StackWish {
    /// The compose file.
    recipe: String,
    /// Values for its variables.
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

impl Stack {
    fn new(
        view: &View,
        environment: &environment::Environment,
        stored: &Stored<stack::Stack>,
    ) -> Ruling<Stack> {
        let (state, message) = stored.state();
        let operation = operation::active(view, "stack", stored.id.as_str())?;
        let seen = |service: &stack::ServiceSeen| StackServiceSeen {
            name: service.name.clone(),
            running: service.running,
            desired: service.desired,
            message: if service.failed.is_empty() { service.error.clone() } else { service.failed.clone() },
        };
        Ok(Stack {
            kind: "Stack",
            metadata: Metadata {
                id: stored.id.to_string(),
                name: stored.name.to_string(),
                env: Some(environment.name.to_string()),
                revision: stored.revision,
                created_at: Some(stored.created_at),
                updated_at: Some(stored.removal.unwrap_or(stored.updated_at)),
            },
            spec: StackSpec {
                recipe: stored.document.clone(),
                services: stored.recipe.services.iter().map(StackService::new).collect(),
            },
            status: StackStatus {
                state,
                message,
                services: stored.seen.iter().map(seen).collect(),
                operation: operation.map(|id| id.to_string()),
            },
        })
    }
}

impl StackService {
    fn new(service: &Service) -> StackService {
        StackService {
            name: service.name.clone(),
            image: service.image.clone(),
            replicas: match service.mode {
                Mode::Replicated(replicas) => Some(replicas),
                Mode::Global => None,
            },
            ports: service.ports.iter().map(StackPort::new).collect(),
        }
    }
}

impl StackPort {
    fn new(port: &Port) -> StackPort {
        StackPort {
            published: port.published,
            target: port.target,
            protocol: port.protocol.to_string(),
            mode: match port.mode {
                PortMode::Ingress => "ingress",
                PortMode::Host => "host",
            },
        }
    }
}

/// The stack under a key, as the API shows it.
pub(crate) fn document(view: &View, key: &Key) -> Ruling<Option<(Revision, Value)>> {
    let stored = view.get::<stack::Stack>(&key.partition, &key.id)?;
    let environment = view.get::<environment::Environment>(CLUSTER, &key.partition)?;
    match (stored, environment) {
        (Some(stored), Some(environment)) => {
            rest::shown(stored.revision, &Stack::new(view, &environment, &stored)?)
        }
        _ => Ok(None),
    }
}

/// Lists the stacks of an environment.
#[utoipa::path(get, path = "/v1/environments/{environment}/stacks", operation_id = "list_stacks",
    params(Reading, Paging, Within),
    responses((status = 200, description = "All of them",
        content((List<Stack> = "application/json"), (String = "text/event-stream"))), Refused))]
async fn list(Place(reference): Place<Reference>, ReadList(view, listing): ReadList) -> Reply<Page> {
    let environment = environment::find(&view, &reference)?;
    let all = view.list::<stack::Stack>(environment.id.as_str())?;
    let items =
        all.iter().map(|stored| Stack::new(&view, &environment, stored)).collect::<Ruling<Vec<_>>>()?;
    listing.page(view.revision(), items, &["name"])
}

/// Shows a stack.
#[utoipa::path(get, path = "/v1/environments/{environment}/stacks/{stack}", operation_id = "show_stack",
    params(Reading, Within, ("stack" = String, Path, description = "Its name")),
    responses((status = 200, body = Stack, description = "As it is"), Refused))]
async fn show(
    Place((environment, stack)): Place<(Reference, Reference)>,
    Read(view): Read,
) -> Reply<One<Stack>> {
    let environment = environment::find(&view, &environment)?;
    let stored = stack::find(&view, &environment, &stack)?;
    Ok(One(view.revision(), stored.revision, Stack::new(&view, &environment, &stored)?))
}

/// Asks for a stack to be deployed, new or again.
#[utoipa::path(put, path = "/v1/environments/{environment}/stacks/{stack}", operation_id = "deploy_stack",
    params(Changing, Keyed, Within, ("stack" = String, Path, description = "Its name")),
    request_body = StackWish, responses(Begun))]
async fn deploy(
    State(api): State<Api>,
    Place((environment, name)): Place<(Reference, Reference)>,
    Asked { change, wish }: Asked<StackWish>,
) -> Reply<Response> {
    let wish = stack::StackWish {
        id: StackId::new(Uuid::now_v7()),
        operation: OperationId::new(Uuid::now_v7()),
        name: name.to_string(),
        document: wish.recipe,
        variables: wish.variables,
    };
    api.start(&change, |tx| Ok(stack::deploy(tx, &environment, &wish)?.into())).await
}

/// Asks for a stack to be removed.
#[utoipa::path(delete, path = "/v1/environments/{environment}/stacks/{stack}", operation_id = "remove_stack",
    params(Changing, Keyed, Within, ("stack" = String, Path, description = "Its name")), responses(Begun))]
async fn remove(
    State(api): State<Api>,
    Place((environment, stack)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| Ok(stack::remove(tx, &environment, &stack, id.clone())?.into())).await
}
