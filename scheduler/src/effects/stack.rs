//! Stacks in a swarm: networks, services, tasks.
//!
//! What Skep made carries the stack's id as a label; whatever has the same name without it is somebody else's and
//! is reported, not touched.

use std::collections::{BTreeMap, HashMap};

use bollard::auth::DockerCredentials;
use bollard::models::{EndpointPortConfigPublishModeEnum, Service, ServiceSpec};
use bollard::query_parameters::{
    ListNetworksOptions, ListServicesOptions, ListTasksOptions, UpdateServiceOptions,
};
use skep_model::fact::Fact;
use skep_model::networks::{MadeFor, wanted};
use skep_model::recipe::Network;
use skep_model::stack::Stack;

use super::reached::Reached;
use super::registry::Logins;
use super::spec::{self, OWNER_LABEL, SERVICE_HASH_LABEL};
use super::{Site, not_found, seen};
use crate::world::EffectError;

/// Creates the networks that are not there yet.
pub(super) async fn ensure_networks(
    site: &Site,
    stack: &Stack,
    generation: u64,
) -> Result<Vec<Fact>, EffectError> {
    current(stack, generation)?;
    let manager = site.manager(None)?;
    let existing = manager.list_networks(None).await.map_err(manager.failed("listing networks"))?;
    let made_for =
        site.environment.networks.made_for.unwrap_or_else(|| wanted(&site.environment, &site.hosts));
    for network in &stack.recipe.networks {
        let name = network.swarm_name(stack.name.as_str());
        let found = existing.iter().find(|existing| existing.name.as_deref() == Some(&name));
        match (found, network.external) {
            (None, true) => {
                return Err(EffectError::lasting(format!("the external network {name} does not exist")));
            }
            (None, false) => {
                can_encrypt(site, network, &made_for)?;
                let request = spec::network(stack, network, &made_for);
                let created = manager.create_network(request).await;
                created.map_err(manager.failed(&format!("creating network {name}")))?;
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
    logins: &Logins,
) -> Result<Vec<Fact>, EffectError> {
    current(stack, generation)?;
    let manager = site.manager(None)?;
    let without_vip = site.hosts.iter().find(|host| host.has_feature("ip_vs") == Some(false));
    let nfs = site.environment.options.nfs.as_ref();
    let existing = services(&manager, stack).await?;
    let mut hashes = BTreeMap::new();
    for service in &stack.recipe.services {
        let wanted = spec::service(stack, &stack.recipe, service, without_vip.is_none(), nfs);
        if let Some(host) = without_vip.filter(|_| needs_mesh(&wanted)) {
            return Err(EffectError::lasting(format!(
                "service {} publishes a port through the routing mesh, but the kernel of {} has no IPVS: \
                 publish it with mode: host",
                service.name, host.name
            )));
        }
        hashes.extend(hash_of(&wanted).map(|hash| (service.name.clone(), hash.clone())));
        let login = Login {
            differs: logins.differ(stack, &service.image),
            credentials: logins.for_image(stack, &service.image),
        };
        ensure_service(&manager, stack, &existing, wanted, login).await?;
    }
    let wanted = |name: &str| {
        stack.recipe.services.iter().any(|service| service.swarm_name(stack.name.as_str()) == name)
    };
    for service in existing.iter().filter(|service| !wanted(seen::name(service))) {
        remove_service(&manager, service).await?;
    }
    let made = Fact::StackServicesMade(stack.environment.clone(), stack.name.clone(), generation, hashes);
    Ok(vec![made, logins.given(stack)])
}

/// How far the services have come.
pub(super) async fn observe(site: &Site, stack: &Stack, generation: u64) -> Result<Vec<Fact>, EffectError> {
    current(stack, generation)?;
    let manager = site.manager(None)?;
    let services = services(&manager, stack).await?;
    let options = ListTasksOptions { filters: Some(labelled(OWNER_LABEL, stack.id.as_str())) };
    let tasks = manager.list_tasks(Some(options)).await.map_err(manager.failed("listing tasks"))?;
    let nodes = manager.list_nodes(None).await.map_err(manager.failed("listing the nodes"))?;
    let seen = seen::of_stack(stack, &services, &tasks, &nodes);
    Ok(vec![Fact::StackSeen(stack.environment.clone(), stack.name.clone(), generation, seen)])
}

/// Removes the stack's services, then its networks; the latter are held by tasks that are still stopping.
pub(super) async fn withdraw(site: &Site, stack: &Stack) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    for service in services(&manager, stack).await? {
        remove_service(&manager, &service).await?;
    }
    let options = ListNetworksOptions { filters: Some(labelled(OWNER_LABEL, stack.id.as_str())) };
    let networks = manager.list_networks(Some(options)).await.map_err(manager.failed("listing networks"))?;
    for network in networks {
        let name = network.name.unwrap_or_default();
        // By its id: a network of the same name on one host is somebody else's.
        match manager.remove_network(network.id.as_deref().unwrap_or(&name)).await {
            Err(error) if !not_found(&error) => {
                // Passing, also where the engine calls it a bad request: it is in use until the last task has stopped.
                let error = manager.failed(&format!("removing network {name}"))(error);
                return Err(EffectError { retryable: true, ..error });
            }
            _ => {}
        }
    }
    Ok(vec![Fact::StackWithdrawn(stack.environment.clone(), stack.name.clone())])
}

/// What a service is given for its registry.
struct Login {
    /// It has another one.
    differs: bool,
    credentials: Option<DockerCredentials>,
}

async fn ensure_service(
    manager: &Reached,
    stack: &Stack,
    ours: &[Service],
    wanted: ServiceSpec,
    login: Login,
) -> Result<(), EffectError> {
    let wanted_name = wanted.name.clone().unwrap_or_default();
    let Some(found) = ours.iter().find(|service| seen::name(service) == wanted_name) else {
        return match manager.create_service(wanted, login.credentials).await {
            Ok(_) => Ok(()),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => {
                Err(EffectError::lasting(format!(
                    "service {wanted_name} exists and is not of stack {}",
                    stack.name
                )))
            }
            Err(error) => Err(manager.failed(&format!("creating service {wanted_name}"))(error)),
        };
    };
    // An update that Docker has paused goes on only if it is asked for again.
    if seen::service_hash(found) == hash_of(&wanted) && !seen::is_paused(found) && !login.differs {
        return Ok(());
    }
    let options = UpdateServiceOptions { version: version(found)?, ..UpdateServiceOptions::default() };
    let id = found.id.clone().unwrap_or_default();
    let updated = manager.update_service(&id, wanted, options, login.credentials).await;
    updated.map(|_| ()).map_err(manager.failed(&format!("updating service {wanted_name}")))
}

/// The version of a service that an update is meant for.
pub(super) fn version(service: &Service) -> Result<i32, EffectError> {
    let version = service.version.as_ref().and_then(|version| version.index).unwrap_or_default();
    i32::try_from(version).map_err(|_| {
        EffectError::lasting(format!("version {version} of {} is too large to be sent", seen::name(service)))
    })
}

async fn remove_service(manager: &Reached, service: &Service) -> Result<(), EffectError> {
    match manager.delete_service(service.id.as_deref().unwrap_or_default()).await {
        Err(error) if !not_found(&error) => {
            Err(manager.failed(&format!("removing service {}", seen::name(service)))(error))
        }
        _ => Ok(()),
    }
}

pub(super) async fn services(manager: &Reached, stack: &Stack) -> Result<Vec<Service>, EffectError> {
    let filters = Some(labelled(OWNER_LABEL, stack.id.as_str()));
    let options = ListServicesOptions { filters, status: None };
    manager.list_services(Some(options)).await.map_err(manager.failed("listing services"))
}

/// Docker makes an encrypted network also where a kernel cannot encrypt, and then nothing arrives.
fn can_encrypt(site: &Site, network: &Network, made_for: &MadeFor) -> Result<(), EffectError> {
    let cannot = site.hosts.iter().find(|host| host.has_feature("xfrm") == Some(false));
    match cannot.filter(|_| network.is_encrypted(made_for.encrypted)) {
        None => Ok(()),
        Some(host) => Err(EffectError::lasting(format!(
            "network {} is encrypted, and the kernel of {} cannot do that (xfrm: ESP with AES-GCM). Install the \
             distribution's complete kernel there, or write driver_opts: {{encrypted: \"false\"}}",
            network.name, host.name
        ))),
    }
}

fn hash_of(spec: &ServiceSpec) -> Option<&String> {
    spec.labels.as_ref()?.get(SERVICE_HASH_LABEL)
}

pub(super) fn needs_mesh(spec: &ServiceSpec) -> bool {
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
