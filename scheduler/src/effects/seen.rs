//! What a swarm's lists of services and tasks say about a stack. Pure.
//!
//! "It runs" is not enough: Docker may have rolled an update back, and then the old version runs, perfectly well. So the
//! specification that a service shows is compared with the one that was deployed, by the hash in its label.

use bollard::models::{
    Node, Service, ServiceUpdateStatus, ServiceUpdateStatusStateEnum as UpdateState, Task, TaskSpec,
    TaskState,
};
use skep_model::recipe::{self, Mode, RestartCondition};
use skep_model::stack::{ServiceSeen, Stack};

use super::placement;
use super::spec::{SERVICE_HASH_LABEL, TASK_HASH_LABEL};

/// The services of the stack that the swarm has, as they are.
pub(super) fn of_stack(
    stack: &Stack,
    services: &[Service],
    tasks: &[Task],
    nodes: &[Node],
) -> Vec<ServiceSeen> {
    let seen = |wished: &recipe::Service| {
        let swarm_name = wished.swarm_name(stack.name.as_str());
        let service = services.iter().find(|service| name(service) == swarm_name)?;
        let tasks: Vec<&Task> = tasks.iter().filter(|task| task.service_id == service.id).collect();
        let deployed = stack.service_hashes.get(&wished.name);
        Some(of_service(wished, deployed, service, &tasks, nodes))
    };
    stack.recipe.services.iter().filter_map(seen).collect()
}

/// Only tasks of the newest version count; of a service that runs once, also those that have completed.
fn of_service(
    wished: &recipe::Service,
    deployed: Option<&String>,
    service: &Service,
    tasks: &[&Task],
    nodes: &[Node],
) -> ServiceSeen {
    let desired = match wished.mode {
        Mode::Replicated(replicas) => replicas,
        Mode::Global => placement::eligible(nodes, &wished.placement.constraints),
    };
    let once = wished.restart.condition != RestartCondition::Any;
    let newest = newest_version(service);
    let own: Vec<&Task> = tasks.iter().copied().filter(|task| version(task) == newest).collect();
    let counts = |task: &&&Task| match state(task) {
        Some(TaskState::RUNNING) => task.desired_state == Some(TaskState::RUNNING),
        Some(TaskState::COMPLETE) => once,
        _ => false,
    };
    let running = own.iter().filter(counts).count() as u64;
    let update = service.update_status.as_ref().and_then(|status| status.state);
    let as_deployed = deployed.is_none() || service_hash(service) == deployed;
    ServiceSeen {
        name: wished.name.clone(),
        running,
        desired,
        updating: matches!(update, Some(UpdateState::UPDATING | UpdateState::ROLLBACK_STARTED)),
        error: if running < desired { what_is_missing(&own) } else { String::new() },
        failed: failure(service, as_deployed, tasks),
    }
}

/// Why the service will not become what was deployed, if it will not.
fn failure(service: &Service, as_deployed: bool, tasks: &[&Task]) -> String {
    let status = service.update_status.as_ref();
    let what = match (status.and_then(|status| status.state), as_deployed) {
        (Some(UpdateState::ROLLBACK_STARTED), false) => "Docker is rolling the update back",
        (Some(UpdateState::ROLLBACK_COMPLETED), false) => "Docker has rolled the update back",
        (Some(UpdateState::ROLLBACK_PAUSED), _) => {
            "Docker has begun to roll the update back and could not finish that"
        }
        (Some(UpdateState::PAUSED), _) => "Docker has stopped the update half-way",
        (_, false) => {
            return "it is not what was deployed: somebody else has changed it since (docker service update). \
                    Deploy the stack again to put that right"
                .into();
        }
        // Rolled back to exactly what is wished now is as good as deployed.
        (_, true) => return String::new(),
    };
    let reason = status.and_then(docker_reason).map(|reason| format!(" ({reason})")).unwrap_or_default();
    let error = match suspects_error(service, as_deployed, tasks) {
        Some(error) => format!("; the error of its task: {error}"),
        None => String::new(),
    };
    format!("{what}{reason}{error}")
}

fn docker_reason(status: &ServiceUpdateStatus) -> Option<&str> {
    status.message.as_deref().filter(|message| !message.is_empty())
}

/// The newest error of a task of the version that could not be brought up: after a rollback that is not the one that
/// the service shows.
fn suspects_error(service: &Service, as_deployed: bool, tasks: &[&Task]) -> Option<String> {
    let newest = newest_version(service);
    let suspects: Vec<&Task> =
        tasks.iter().copied().filter(|task| (version(task) == newest) == as_deployed).collect();
    newest_error(&suspects, has_failed).or_else(|| newest_error(tasks, has_failed))
}

/// A task that failed says more than one that waits to take its place, so it comes first.
fn what_is_missing(own: &[&Task]) -> String {
    let failed = newest_error(own, has_failed);
    let waiting = newest_error(own, |task| !has_failed(task));
    match (failed, waiting) {
        (Some(failed), Some(waiting)) => format!("{failed}; and another task waits: {waiting}"),
        (one, other) => one.or(other).unwrap_or_default(),
    }
}

fn newest_error(tasks: &[&Task], counts: impl Fn(&Task) -> bool) -> Option<String> {
    let told = tasks.iter().filter(|task| counts(task)).filter_map(|task| {
        let error = task.status.as_ref()?.err.as_ref().filter(|error| !error.is_empty())?;
        Some((&task.created_at, error))
    });
    told.max_by(|a, b| a.0.cmp(b.0)).map(|(_, error)| error.clone())
}

fn has_failed(task: &Task) -> bool {
    matches!(state(task), Some(TaskState::FAILED | TaskState::REJECTED))
}

fn state(task: &Task) -> Option<TaskState> {
    task.status.as_ref().and_then(|status| status.state)
}

fn version(task: &Task) -> Option<&String> {
    task.spec.as_ref().and_then(task_hash)
}

fn newest_version(service: &Service) -> Option<&String> {
    service.spec.as_ref().and_then(|spec| spec.task_template.as_ref()).and_then(task_hash)
}

fn task_hash(spec: &TaskSpec) -> Option<&String> {
    spec.container_spec.as_ref()?.labels.as_ref()?.get(TASK_HASH_LABEL)
}

/// The hash of the specification that the service shows.
pub(super) fn service_hash(service: &Service) -> Option<&String> {
    service.spec.as_ref()?.labels.as_ref()?.get(SERVICE_HASH_LABEL)
}

/// Has Docker stopped an update of it, or the way back from one?
pub(super) fn is_paused(service: &Service) -> bool {
    let state = service.update_status.as_ref().and_then(|status| status.state);
    matches!(state, Some(UpdateState::PAUSED | UpdateState::ROLLBACK_PAUSED))
}

/// Its name in the swarm.
pub(super) fn name(service: &Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.name.as_deref()).unwrap_or_default()
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
