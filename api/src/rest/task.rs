//! Tasks, live from the swarm: nothing of them is stored, so what is shown is what is.
//!
//! Any manager of the swarm knows all tasks; the first that answers is believed.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State;
use bollard::Docker;
use bollard::models::{EndpointPortConfig, Node, Service, Task as SwarmTask};
use serde::Serialize;
use skep_ledger::{Stored, View};
use skep_model::environment::{self, Environment};
use skep_model::host::Host;
use skep_model::stack;
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::extract::{Place, Reading, Reference, Within};
use crate::listing::{Listing, Page, Paging, ReadList};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::List;

/// A healthy swarm manager lists its tasks in well under a second; one that lost its quorum never does.
const LIST_MAX: Duration = Duration::from_secs(4);

/// With [`LIST_MAX`] each, that many may fail before a client's own patience of 15 s ends.
const MANAGERS_ASKED_MAX: usize = 3;

/// Which stack a service belongs to; Docker's own label, so that foreign stacks are seen as well.
const STACK_LABEL: &str = "com.docker.stack.namespace";

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(of_environment)).routes(routes!(of_stack))
}

/// One task of a service, as the swarm says it.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct Task {
    /// Docker's id of it.
    id: String,
    /// The service's name, within its stack if it has one.
    service: String,
    /// The stack's name.
    stack: Option<String>,
    /// Which of the service's replicas; null for services that run on every host.
    slot: Option<i64>,
    /// The host it is assigned to.
    host: Option<String>,
    /// Docker's word.
    state: String,
    /// What it should be.
    desired_state: String,
    image: String,
    /// Why it does not run.
    error: Option<String>,
    /// Where it can be reached.
    ports: Vec<TaskPort>,
    /// When its state was last seen to change (RFC 3339).
    updated_at: Option<String>,
}

/// A published port.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct TaskPort {
    published: Option<i64>,
    target: i64,
    protocol: String,
}

/// What a swarm manager answered.
struct Seen {
    tasks: Vec<SwarmTask>,
    services: Vec<Service>,
    nodes: Vec<Node>,
}

/// Lists the tasks of an environment.
#[utoipa::path(get, path = "/v1/environments/{environment}/tasks", operation_id = "list_tasks",
    params(Reading, Paging, Within),
    responses((status = 200, body = List<Task>, description = "All of them"), Refused))]
async fn of_environment(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    ReadList(view, listing): ReadList,
) -> Reply<Page> {
    let environment = environment::find(&view, &reference)?;
    answer(&api, (&view, listing), &environment, None).await
}

/// Lists the tasks of a stack.
#[utoipa::path(get, path = "/v1/environments/{environment}/stacks/{stack}/tasks", operation_id = "list_stack_tasks",
    params(Reading, Paging, Within, ("stack" = String, Path, description = "Its name")),
    responses((status = 200, body = List<Task>, description = "All of them"), Refused))]
async fn of_stack(
    State(api): State<Api>,
    Place((environment, name)): Place<(Reference, Reference)>,
    ReadList(view, listing): ReadList,
) -> Reply<Page> {
    let environment = environment::find(&view, &environment)?;
    stack::find(&view, &environment, &name)?;
    answer(&api, (&view, listing), &environment, Some(&name)).await
}

async fn answer(
    api: &Api,
    (view, listing): (&View, Listing),
    environment: &Environment,
    stack: Option<&str>,
) -> Reply<Page> {
    let hosts = view.list::<Host>(environment.id.as_str())?;
    let seen = ask(api, environment, &hosts).await?;
    listing.page(view.revision(), tasks(&seen, &hosts, stack), &["service", "slot", "host", "id"])
}

/// Asks the swarm's managers one after another, its leader first: the others would ask it anyway.
async fn ask(api: &Api, environment: &Environment, hosts: &[Stored<Host>]) -> Reply<Seen> {
    let mut managers: Vec<_> = hosts.iter().filter(|host| host.is_swarm_manager()).collect();
    if managers.is_empty() {
        let detail = format!("environment '{}' has no swarm yet, so nothing runs in it", environment.name);
        return Err(
            Problem::new(Code::NoActiveHost, detail).hinting("wait until a host is active: skep host ls")
        );
    }
    managers.retain(|host| host.is_ready());
    managers.sort_by_key(|host| !host.membership.as_ref().is_some_and(|membership| membership.leader));
    let mut failures = vec![];
    for host in managers.into_iter().take(MANAGERS_ASKED_MAX) {
        let docker = api.parts.hub.docker(host.id.as_str(), None);
        match timeout(LIST_MAX, Seen::from(&docker)).await {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(error)) => failures.push(format!("host '{}': {error}", host.name)),
            Err(_) => {
                failures.push(format!("host '{}': no answer within {} s", host.name, LIST_MAX.as_secs()))
            }
        }
    }
    let why = match failures.is_empty() {
        true => "none of them is connected".to_owned(),
        false => failures.join("; "),
    };
    let detail = format!("no swarm manager of environment '{}' has answered: {why}", environment.name);
    Err(Problem::new(Code::EngineUnreachable, detail))
}

impl Seen {
    async fn from(docker: &Docker) -> Result<Seen, bollard::errors::Error> {
        let (tasks, services, nodes) =
            tokio::try_join!(docker.list_tasks(None), docker.list_services(None), docker.list_nodes(None))?;
        Ok(Seen { tasks, services, nodes })
    }
}

/// The tasks for people: by service and slot, the newest of a slot first.
fn tasks(seen: &Seen, hosts: &[Stored<Host>], stack: Option<&str>) -> Vec<Task> {
    let services: HashMap<_, _> =
        seen.services.iter().filter_map(|service| Some((service.id.as_deref()?, service))).collect();
    let names = host_names(seen, hosts);
    let mut shown: Vec<Task> = seen
        .tasks
        .iter()
        .map(|task| {
            let service = task.service_id.as_deref().and_then(|id| services.get(id).copied());
            Task::new(task, service, &names)
        })
        .filter(|task| stack.is_none_or(|stack| task.stack.as_deref() == Some(stack)))
        .collect();
    shown.sort_by(|a, b| {
        let place = |task: &Task| (task.stack.clone(), task.service.clone(), task.slot);
        place(a).cmp(&place(b)).then_with(|| b.updated_at.cmp(&a.updated_at)).then_with(|| a.id.cmp(&b.id))
    });
    shown
}

/// Names by Docker's id of the node: ours, and for machines that are not ours what the machine says.
fn host_names(seen: &Seen, hosts: &[Stored<Host>]) -> HashMap<String, String> {
    let theirs = seen.nodes.iter().filter_map(|node| {
        let name = node.description.as_ref()?.hostname.clone()?;
        Some((node.id.clone()?, name))
    });
    let ours =
        hosts.iter().filter_map(|host| Some((host.membership.as_ref()?.node.clone(), host.name.to_string())));
    theirs.chain(ours).collect()
}

impl Task {
    fn new(task: &SwarmTask, service: Option<&Service>, names: &HashMap<String, String>) -> Task {
        let spec = service.and_then(|service| service.spec.as_ref());
        let stack = spec.and_then(|spec| spec.labels.as_ref()?.get(STACK_LABEL).cloned());
        let status = task.status.clone().unwrap_or_default();
        let container = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref());
        Task {
            id: task.id.clone().unwrap_or_default(),
            service: service_name(task, spec.and_then(|spec| spec.name.as_deref()), stack.as_deref()),
            stack,
            // Docker writes zero for tasks of services that run on every node.
            slot: task.slot.filter(|slot| *slot > 0),
            host: task.node_id.as_ref().and_then(|id| names.get(id).cloned()),
            state: status.state.map(|state| state.to_string()).unwrap_or_default(),
            desired_state: task.desired_state.map(|state| state.to_string()).unwrap_or_default(),
            image: container.and_then(|container| container.image.clone()).unwrap_or_default(),
            error: status.err.filter(|error| !error.is_empty()),
            ports: ports(service, status.port_status.and_then(|status| status.ports)),
            updated_at: status.timestamp.or_else(|| task.updated_at.clone()),
        }
    }
}

/// The service's name without its stack's; its id, if the service is gone and only its task is left.
fn service_name(task: &SwarmTask, name: Option<&str>, stack: Option<&str>) -> String {
    let name = name.or(task.service_id.as_deref()).unwrap_or_default();
    let within = stack.and_then(|stack| name.strip_prefix(stack)?.strip_prefix('_'));
    within.unwrap_or(name).to_owned()
}

/// Ports on the task's own host, and those of its service that every host answers on. An engine tells a port once for
/// each family of addresses; it is still one port.
fn ports(service: Option<&Service>, own: Option<Vec<EndpointPortConfig>>) -> Vec<TaskPort> {
    let ingress = bollard::models::EndpointPortConfigPublishModeEnum::INGRESS;
    let endpoint = service.and_then(|service| service.endpoint.as_ref()?.ports.clone()).unwrap_or_default();
    let shared = endpoint.into_iter().filter(|port| port.publish_mode == Some(ingress));
    let mut ports: Vec<TaskPort> = own
        .unwrap_or_default()
        .into_iter()
        .chain(shared)
        .map(|port| TaskPort {
            published: port.published_port,
            target: port.target_port.unwrap_or_default(),
            protocol: port.protocol.map_or_else(|| "tcp".to_owned(), |protocol| protocol.to_string()),
        })
        .collect();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(json: serde_json::Value) -> Seen {
        let part = |name: &str| json[name].clone();
        Seen {
            tasks: serde_json::from_value(part("tasks")).expect("tasks"),
            services: serde_json::from_value(part("services")).expect("services"),
            nodes: serde_json::from_value(part("nodes")).expect("nodes"),
        }
    }

    fn two_stacks() -> Seen {
        seen(serde_json::json!({
            "tasks": [
                {"ID": "t2", "ServiceID": "s1", "Slot": 2, "NodeID": "n1", "DesiredState": "running",
                 "Spec": {"ContainerSpec": {"Image": "whoami:1"}},
                 "Status": {"State": "running", "Timestamp": "2026-01-02T00:00:00Z",
                    "PortStatus": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}, {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]}}},
                {"ID": "t0", "ServiceID": "s1", "Slot": 1, "NodeID": "n1", "DesiredState": "shutdown",
                 "Status": {"State": "failed", "Err": "task: non-zero exit (1)", "Timestamp": "2026-01-01T00:00:00Z"}},
                {"ID": "t1", "ServiceID": "s1", "Slot": 1, "NodeID": "n9", "DesiredState": "running",
                 "Status": {"State": "pending", "Timestamp": "2026-01-02T00:00:00Z"}},
                {"ID": "t3", "ServiceID": "s2", "DesiredState": "running", "Status": {"State": "running"}}],
            "services": [
                {"ID": "s1", "Spec": {"Name": "shop_web", "Labels": {"com.docker.stack.namespace": "shop"}}},
                {"ID": "s2", "Spec": {"Name": "agent"}}],
            "nodes": [{"ID": "n1", "Description": {"Hostname": "box"}}]}))
    }

    #[test]
    fn tasks_are_told_by_stack_service_and_slot_newest_first() {
        let ids: Vec<_> = tasks(&two_stacks(), &[], None).into_iter().map(|task| task.id).collect();
        assert_eq!(ids, ["t3", "t1", "t0", "t2"]);
    }

    #[test]
    fn a_stack_shows_its_own_tasks_with_the_service_names_of_its_recipe() {
        let tasks = tasks(&two_stacks(), &[], Some("shop"));
        assert!(tasks.iter().all(|task| task.service == "web"), "{tasks:?}");
        let last = tasks.last().expect("there are three");
        assert_eq!((last.host.as_deref(), last.image.as_str()), (Some("box"), "whoami:1"));
        assert_eq!(last.ports, [TaskPort { published: Some(8080), target: 80, protocol: "tcp".into() }]);
        assert_eq!(tasks[1].error.as_deref(), Some("task: non-zero exit (1)"));
        assert_eq!(tasks[0].host, None);
    }

    #[test]
    fn a_task_whose_service_is_gone_is_still_told() {
        let mut seen = two_stacks();
        seen.services.clear();
        assert!(tasks(&seen, &[], None).iter().any(|task| task.service == "s1" && task.stack.is_none()));
    }
}
