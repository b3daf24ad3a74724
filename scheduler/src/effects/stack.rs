//! Stacks in a swarm: networks, services, tasks.
//!
//! What Skep made carries the stack's id as a label; whatever has the same name without it is somebody else's and
//! is reported, not touched.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::{
    EndpointPortConfigPublishModeEnum, Service, ServiceSpec, ServiceUpdateStatusStateEnum, Task, TaskState,
};
use bollard::query_parameters::{
    ListNetworksOptions, ListServicesOptions, ListTasksOptions, UpdateServiceOptions,
};
use skep_model::fact::Fact;
use skep_model::recipe::{Mode, RestartCondition};
use skep_model::stack::{ServiceSeen, Stack};

use super::spec::{self, OWNER_LABEL, SERVICE_HASH_LABEL, TASK_HASH_LABEL};
use super::{Site, docker_failed, not_found};
use crate::world::EffectError;

/// Creates the networks that are not there yet.
pub(super) async fn ensure_networks(
    site: &Site,
    stack: &Stack,
    generation: u64,
) -> Result<Vec<Fact>, EffectError> {
    current(stack, generation)?;
    let manager = site.manager(None)?;
    let existing = manager.list_networks(None).await.map_err(docker_failed("listing networks"))?;
    for network in &stack.recipe.networks {
        let name = network.swarm_name(stack.name.as_str());
        let found = existing.iter().find(|existing| existing.name.as_deref() == Some(&name));
        match (found, network.external) {
            (None, true) => {
                return Err(EffectError::lasting(format!("the external network {name} does not exist")));
            }
            (None, false) => {
                let request = spec::network(stack, network, site.environment.mtu);
                let created = manager.create_network(request).await;
                created.map_err(docker_failed(&format!("creating network {name}")))?;
            }
            // Tasks of a removed stack hold its network until they have stopped.
            (Some(found), false) if of_another_stack(stack, found.labels.as_ref()) => {
                return Err(EffectError::passing(format!(
                    "network {name} of a removed stack is still in use"
                )));
            }
            (Some(found), false) if !ours(stack, found.labels.as_ref()) => {
                return Err(EffectError::lasting(format!("network {name} exists and is not this stack's")));
            }
            (Some(_), _) => {}
        }
    }
    Ok(vec![Fact::StackNetworksMade(stack.environment.clone(), stack.name.clone(), generation)])
}

/// Creates, updates and removes services until they are what the recipe says.
pub(super) async fn ensure_services(
    site: &Site,
    stack: &Stack,
    generation: u64,
) -> Result<Vec<Fact>, EffectError> {
    current(stack, generation)?;
    let manager = site.manager(None)?;
    let without_vip = site.hosts.iter().find(|host| host.has_feature("ip_vs") == Some(false));
    let existing = services(&manager, stack).await?;
    for service in &stack.recipe.services {
        let wanted = spec::service(stack, &stack.recipe, service, without_vip.is_none());
        if let Some(host) = without_vip.filter(|_| needs_mesh(&wanted)) {
            return Err(EffectError::lasting(format!(
                "service {} publishes a port through the routing mesh, but the kernel of {} has no IPVS: \
                 publish it with mode: host",
                service.name, host.name
            )));
        }
        ensure_service(&manager, stack, &existing, wanted).await?;
    }
    let wanted = |name: &str| {
        stack.recipe.services.iter().any(|service| service.swarm_name(stack.name.as_str()) == name)
    };
    for service in existing.iter().filter(|service| !wanted(name(service))) {
        remove_service(&manager, service).await?;
    }
    Ok(vec![Fact::StackServicesMade(stack.environment.clone(), stack.name.clone(), generation)])
}

/// How far the services have come.
pub(super) async fn observe(site: &Site, stack: &Stack, generation: u64) -> Result<Vec<Fact>, EffectError> {
    current(stack, generation)?;
    let manager = site.manager(None)?;
    let services = services(&manager, stack).await?;
    let options = ListTasksOptions { filters: Some(labelled(OWNER_LABEL, stack.id.as_str())) };
    let tasks = manager.list_tasks(Some(options)).await.map_err(docker_failed("listing tasks"))?;
    let nodes = site.hosts.iter().filter(|host| host.is_active()).count();
    let seen = stack
        .recipe
        .services
        .iter()
        .filter_map(|wished| {
            let swarm_name = wished.swarm_name(stack.name.as_str());
            let service = services.iter().find(|service| name(service) == swarm_name)?;
            let desired = match wished.mode {
                Mode::Replicated(replicas) => replicas,
                Mode::Global => nodes as u64,
            };
            let once = wished.restart.condition != RestartCondition::Any;
            Some(seen(&wished.name, service, &tasks, desired, once))
        })
        .collect();
    Ok(vec![Fact::StackSeen(stack.environment.clone(), stack.name.clone(), generation, seen)])
}

/// Removes the stack's services, then its networks; the latter are held by tasks that are still stopping.
pub(super) async fn withdraw(site: &Site, stack: &Stack) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    for service in services(&manager, stack).await? {
        remove_service(&manager, &service).await?;
    }
    let options = ListNetworksOptions { filters: Some(labelled(OWNER_LABEL, stack.id.as_str())) };
    let networks = manager.list_networks(Some(options)).await.map_err(docker_failed("listing networks"))?;
    for network in networks {
        let name = network.name.unwrap_or_default();
        match manager.remove_network(&name).await {
            Err(error) if !not_found(&error) => {
                return Err(docker_failed(&format!("removing network {name}"))(error));
            }
            _ => {}
        }
    }
    Ok(vec![Fact::StackWithdrawn(stack.environment.clone(), stack.name.clone())])
}

async fn ensure_service(
    manager: &Docker,
    stack: &Stack,
    ours: &[Service],
    wanted: ServiceSpec,
) -> Result<(), EffectError> {
    let wanted_name = wanted.name.clone().unwrap_or_default();
    let Some(found) = ours.iter().find(|service| name(service) == wanted_name) else {
        return match manager.create_service(wanted, None).await {
            Ok(_) => Ok(()),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => {
                Err(EffectError::lasting(format!(
                    "service {wanted_name} exists and is not of stack {}",
                    stack.name
                )))
            }
            Err(error) => Err(docker_failed(&format!("creating service {wanted_name}"))(error)),
        };
    };
    if label(found, SERVICE_HASH_LABEL)
        == wanted.labels.as_ref().and_then(|labels| labels.get(SERVICE_HASH_LABEL))
    {
        return Ok(());
    }
    let version = found.version.as_ref().and_then(|version| version.index).unwrap_or_default();
    let version = i32::try_from(version).map_err(|_| {
        EffectError::lasting(format!("version {version} of {wanted_name} is too large to be sent"))
    })?;
    let options = UpdateServiceOptions { version, ..UpdateServiceOptions::default() };
    let id = found.id.clone().unwrap_or_default();
    let updated = manager.update_service(&id, wanted, options, None).await;
    updated.map(|_| ()).map_err(docker_failed(&format!("updating service {wanted_name}")))
}

async fn remove_service(manager: &Docker, service: &Service) -> Result<(), EffectError> {
    match manager.delete_service(service.id.as_deref().unwrap_or_default()).await {
        Err(error) if !not_found(&error) => {
            Err(docker_failed(&format!("removing service {}", name(service)))(error))
        }
        _ => Ok(()),
    }
}

async fn services(manager: &Docker, stack: &Stack) -> Result<Vec<Service>, EffectError> {
    let filters = Some(labelled(OWNER_LABEL, stack.id.as_str()));
    let options = ListServicesOptions { filters, status: None };
    manager.list_services(Some(options)).await.map_err(docker_failed("listing services"))
}

/// Only tasks of the newest version count; of a service that runs once, also those that have completed.
fn seen(wished: &str, service: &Service, tasks: &[Task], desired: u64, once: bool) -> ServiceSeen {
    let template = service.spec.as_ref().and_then(|spec| spec.task_template.as_ref());
    let newest = template.and_then(task_hash);
    let own = || {
        tasks
            .iter()
            .filter(|task| task.service_id == service.id && task.spec.as_ref().and_then(task_hash) == newest)
    };
    let state = |task: &&Task| task.status.as_ref().and_then(|status| status.state);
    let counts = |task: &&Task| match state(task) {
        Some(TaskState::RUNNING) => task.desired_state == Some(TaskState::RUNNING),
        Some(TaskState::COMPLETE) => once,
        _ => false,
    };
    let running = own().filter(counts).count() as u64;
    let errors = own().filter_map(|task| {
        let error = task.status.as_ref()?.err.as_ref().filter(|error| !error.is_empty())?;
        Some((task.created_at.clone(), error.clone()))
    });
    let newest_error = errors.max_by(|a, b| a.0.cmp(&b.0)).map(|(_, error)| error).unwrap_or_default();
    let update = service.update_status.as_ref().and_then(|status| status.state);
    ServiceSeen {
        name: wished.to_owned(),
        running,
        desired,
        updating: update == Some(ServiceUpdateStatusStateEnum::UPDATING),
        error: if running < desired { newest_error } else { String::new() },
    }
}

fn task_hash(spec: &bollard::models::TaskSpec) -> Option<&String> {
    spec.container_spec.as_ref()?.labels.as_ref()?.get(TASK_HASH_LABEL)
}

fn needs_mesh(spec: &ServiceSpec) -> bool {
    let ports = spec.endpoint_spec.as_ref().and_then(|endpoint| endpoint.ports.as_ref());
    let ingress = Some(EndpointPortConfigPublishModeEnum::INGRESS);
    ports.is_some_and(|ports| ports.iter().any(|port| port.publish_mode == ingress))
}

fn ours(stack: &Stack, labels: Option<&HashMap<String, String>>) -> bool {
    labels.and_then(|labels| labels.get(OWNER_LABEL)).map(String::as_str) == Some(stack.id.as_str())
}

fn of_another_stack(stack: &Stack, labels: Option<&HashMap<String, String>>) -> bool {
    labels.and_then(|labels| labels.get(OWNER_LABEL)).is_some_and(|owner| owner != stack.id.as_str())
}

fn name(service: &Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.name.as_deref()).unwrap_or_default()
}

fn label<'a>(service: &'a Service, label: &str) -> Option<&'a String> {
    service.spec.as_ref()?.labels.as_ref()?.get(label)
}

fn labelled(label: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{label}={value}")])])
}

/// A newer deployment has overtaken this one: its own operation will bring it about.
fn current(stack: &Stack, generation: u64) -> Result<(), EffectError> {
    if stack.generation == generation {
        Ok(())
    } else {
        Err(EffectError::passing(format!("deployment {generation} was overtaken by {}", stack.generation)))
    }
}
