//! Tasks and how they are spread over the nodes of a swarm.
//!
//! The mark of a move is a label of the service with the operation's id, written in the same update that has Docker place the
//! tasks anew: whoever finds it there does not do it again.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{Node, Service, ServiceUpdateStatusStateEnum as UpdateState, Task, TaskState};
use bollard::query_parameters::{ListServicesOptions, ListTasksOptions, UpdateServiceOptions};
use skep_model::balance::{End, SERVICES_PER_PASS_MAX, Seen};
use skep_model::fact::Fact;
use skep_model::ids::OperationId;

use super::spec::OWNER_LABEL;
use super::{Site, placement, seen};
use crate::world::EffectError;

/// On a service: the operation that had its tasks placed anew last.
const MOVED_LABEL: &str = "skep.tasks-moved-by";

/// So many more tasks than the emptiest node has the fullest before anything is moved: below that a move would only be
/// turned around by the next one.
const CLEARLY_MORE_TASKS: usize = 2;

/// Says which service is next, if all of them run as they should; nothing while they do not.
pub(super) async fn observe(site: &Site, operation: &OperationId) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let nodes = manager.list_nodes(None).await.map_err(manager.failed("listing the nodes"))?;
    let services = ours(site).await?;
    // Of all services, also of those that are somebody else's: they fill a node as well.
    let filters = HashMap::from([("desired-state".to_owned(), vec!["running".to_owned()])]);
    let tasks = manager.list_tasks(Some(ListTasksOptions { filters: Some(filters) })).await;
    let tasks = tasks.map_err(manager.failed("listing tasks"))?;
    let moved =
        site.environment.balance_of(operation).map(|balance| balance.moved.clone()).unwrap_or_default();
    let seen = next(&nodes, &services, &tasks, &moved);
    let id = &site.environment.id;
    Ok(seen.map(|seen| Fact::SharesSeen(id.clone(), operation.clone(), seen)).into_iter().collect())
}

/// Has Docker place the tasks of a service anew.
pub(super) async fn move_tasks(
    site: &Site,
    name: &str,
    operation: &OperationId,
) -> Result<Vec<Fact>, EffectError> {
    let moved = vec![Fact::TasksMoved(site.environment.id.clone(), operation.clone(), name.to_owned())];
    let services = ours(site).await?;
    // One that was removed meanwhile has no tasks to move.
    let Some(service) = services.into_iter().find(|service| seen::name(service) == name) else {
        return Ok(moved);
    };
    let mut spec = service.spec.unwrap_or_default();
    let mark = spec.labels.get_or_insert_default().insert(MOVED_LABEL.to_owned(), operation.to_string());
    if mark.as_deref() == Some(operation.as_str()) {
        return Ok(moved);
    }
    let template = spec.task_template.get_or_insert_default();
    template.force_update = Some(template.force_update.unwrap_or_default() + 1);
    let version = service.version.and_then(|version| version.index).unwrap_or_default();
    let version = i32::try_from(version)
        .map_err(|_| EffectError::lasting(format!("version {version} of {name} is too large to be sent")))?;
    let options = UpdateServiceOptions { version, ..UpdateServiceOptions::default() };
    let manager = site.manager(None)?;
    let updated = manager.update_service(service.id.as_deref().unwrap_or(name), spec, options, None).await;
    updated.map_err(manager.failed(&format!("placing the tasks of {name} anew")))?;
    Ok(moved)
}

async fn ours(site: &Site) -> Result<Vec<Service>, EffectError> {
    let manager = site.manager(None)?;
    let filters = HashMap::from([("label".to_owned(), vec![OWNER_LABEL.to_owned()])]);
    let options = ListServicesOptions { filters: Some(filters), status: None };
    manager.list_services(Some(options)).await.map_err(manager.failed("listing services"))
}

/// What is next; nothing while a service is on its way.
fn next(nodes: &[Node], services: &[Service], tasks: &[Task], moved: &[String]) -> Option<Seen> {
    for service in services {
        match progress(service, tasks, moved) {
            Progress::Through => {}
            Progress::OnItsWay => return None,
            Progress::Stopped => {
                let why =
                    format!("Docker has stopped the update of {}; see: skep stack ls", seen::name(service));
                return Some(Seen::Ends(End::Stopped(why)));
            }
        }
    }
    let even = Some(Seen::Ends(End::Even));
    let load = load(nodes, tasks);
    let (Some((fullest, most)), Some((emptiest, fewest))) =
        (load.iter().max_by_key(|(_, count)| **count), load.iter().min_by_key(|(_, count)| **count))
    else {
        return even;
    };
    if moved.len() >= SERVICES_PER_PASS_MAX || most - fewest < CLEARLY_MORE_TASKS {
        return even;
    }
    let Some(emptiest) = nodes.iter().find(|node| node.id.as_deref() == Some(*emptiest)) else { return even };
    let gain = |service: &&Service| {
        let on = |node: Option<&str>| {
            let here = |task: &&Task| task.node_id.as_deref() == node && task.service_id == service.id;
            tasks.iter().filter(here).count()
        };
        on(Some(*fullest)).saturating_sub(on(emptiest.id.as_deref()))
    };
    let may_move = |service: &&Service| {
        replicas(service) > 1
            && !moved.iter().any(|moved| moved == seen::name(service))
            && placement::fits(emptiest, constraints(service))
    };
    let best = services.iter().filter(may_move).filter(|service| gain(service) > 0).max_by_key(gain);
    best.map(|service| Seen::Move(seen::name(service).to_owned())).or(even)
}

/// How far a service has come with its newest specification.
#[derive(Debug, PartialEq)]
enum Progress {
    Through,
    OnItsWay,
    Stopped,
}

fn progress(service: &Service, tasks: &[Task], moved: &[String]) -> Progress {
    let update = service.update_status.as_ref().and_then(|status| status.state);
    let newest = service.spec.as_ref().and_then(|spec| spec.task_template.as_ref());
    let forced = newest.and_then(|template| template.force_update).unwrap_or_default();
    let runs = |task: &&Task| {
        let of_it = task.service_id == service.id && task.desired_state == Some(TaskState::RUNNING);
        let is_newest = task.spec.as_ref().and_then(|spec| spec.force_update).unwrap_or_default() == forced;
        of_it && is_newest && task.status.as_ref().and_then(|status| status.state) == Some(TaskState::RUNNING)
    };
    match update {
        Some(UpdateState::UPDATING | UpdateState::ROLLBACK_STARTED) => Progress::OnItsWay,
        Some(UpdateState::PAUSED | UpdateState::ROLLBACK_PAUSED) => Progress::Stopped,
        Some(UpdateState::ROLLBACK_COMPLETED) if moved.iter().any(|moved| moved == seen::name(service)) => {
            Progress::Stopped
        }
        _ if (tasks.iter().filter(runs).count() as u64) < replicas(service) => Progress::OnItsWay,
        _ => Progress::Through,
    }
}

/// Zero for one that is not replicated: a global service is everywhere already, a job ends by itself.
fn replicas(service: &Service) -> u64 {
    let mode = service.spec.as_ref().and_then(|spec| spec.mode.as_ref());
    let replicated = mode.and_then(|mode| mode.replicated.as_ref());
    replicated.and_then(|mode| mode.replicas).and_then(|count| u64::try_from(count).ok()).unwrap_or_default()
}

fn constraints(service: &Service) -> &[String] {
    let template = service.spec.as_ref().and_then(|spec| spec.task_template.as_ref());
    let placement = template.and_then(|template| template.placement.as_ref());
    placement.and_then(|placement| placement.constraints.as_deref()).unwrap_or_default()
}

/// Tasks on each node that takes some, by the node's id.
fn load<'a>(nodes: &'a [Node], tasks: &[Task]) -> BTreeMap<&'a str, usize> {
    let takers =
        nodes.iter().filter(|node| placement::takes_tasks(node)).filter_map(|node| node.id.as_deref());
    let on = |id: &str| tasks.iter().filter(|task| task.node_id.as_deref() == Some(id)).count();
    takers.map(|id| (id, on(id))).collect()
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
