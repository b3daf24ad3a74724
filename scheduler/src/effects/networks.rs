//! The networks that Docker makes by itself: made for packets of the size that the links between hosts carry.
//!
//! Docker makes `docker_gwbridge` when a host enters a swarm and the ingress network when the swarm is begun, both for
//! 1500 bytes. Where that is right nothing is done. Otherwise the bridge is made before it enters, as Docker would; the
//! ingress network is made anew while no service publishes through it.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions, ListServicesOptions};
use futures::future::join_all;
use skep_model::fact::Fact;
use skep_model::host::Host;
use skep_model::ids::OperationId;
use skep_model::networks::{HostNetworks, MTU_USUAL, MadeFor, bridge_mtu, made_for};
use tokio::time::{Instant, sleep, timeout};

use super::reached::Reached;
use super::spec::{ENCRYPTED_OPTION, MTU_OPTION, overlay_options};
use super::stack::needs_mesh;
use super::{Site, not_found};
use crate::world::EffectError;

/// The bridge over which tasks of a host reach the world.
const BRIDGE: &str = "docker_gwbridge";

/// The network of containers that belong to no swarm; its bridge is `docker0`.
const ENGINE_NETWORK: &str = "bridge";

/// Says that Skep has made a network of a host: only such are ever removed.
const MADE_LABEL: &str = "skep.made";

/// What Docker gives the bridge when it makes it.
const BRIDGE_OPTIONS: &[(&str, &str)] = &[
    ("com.docker.network.bridge.name", BRIDGE),
    ("com.docker.network.bridge.enable_icc", "false"),
    ("com.docker.network.bridge.enable_ip_masquerade", "true"),
];

/// Docker lets the ingress network go a moment after it has said so: every node gives its part back first.
const INGRESS_GOES_MAX: Duration = Duration::from_secs(20);

/// An engine tells what its networks are like from memory.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Between two tries to make it anew.
const INGRESS_LOOK: Duration = Duration::from_millis(200);

/// Makes the bridge of a host that is about to enter a swarm, if Docker would make it for other packets.
pub(super) async fn prepare(site: &Site, docker: &Reached, host: &Host) -> Result<(), EffectError> {
    let mtu = bridge_mtu(&site.environment, &site.hosts, host);
    match inspect(docker, BRIDGE).await? {
        // Somebody else's, or Docker's of an earlier swarm: it stays, and is a finding if it does not fit.
        Some(found) if !is_ours(&found) => return Ok(()),
        Some(found) if mtu_of(&found) == mtu => return Ok(()),
        Some(_) => {
            let removed = docker.remove_network(BRIDGE).await;
            removed.map_err(docker.failed(&format!("removing {BRIDGE} of {}", host.name)))?;
        }
        None => {}
    }
    if mtu == MTU_USUAL {
        return Ok(());
    }
    let said = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let mut options: HashMap<String, String> = BRIDGE_OPTIONS.iter().map(said).collect();
    options.insert(MTU_OPTION.into(), mtu.to_string());
    let request = NetworkCreateRequest {
        name: BRIDGE.into(),
        driver: Some("bridge".into()),
        options: Some(options),
        labels: Some([(MADE_LABEL.to_owned(), "yes".to_owned())].into()),
        ..NetworkCreateRequest::default()
    };
    let made = docker.create_network(request).await;
    made.map(drop).map_err(docker.failed(&format!("making {BRIDGE} of {}", host.name)))
}

/// Decides what overlay networks are made like from now on, and makes the ingress network so if nobody uses it. Tells what
/// every host's own networks are like.
pub(super) async fn set(
    site: &Site,
    operation: &OperationId,
    made_for: MadeFor,
) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let mut ingress = find_ingress(&manager).await?;
    if needs_another(site, &ingress, made_for) && !is_used(&manager).await? {
        if let Some(found) = ingress.as_ref().and_then(|found| found.id.as_deref()) {
            match manager.remove_network(found).await {
                Err(error) if !not_found(&error) => {
                    return Err(manager.failed("removing the ingress network")(error));
                }
                _ => {}
            }
        }
        make_ingress(&manager, made_for).await?;
        ingress = find_ingress(&manager).await?;
    }
    let seen = ingress.map(|found| like(&found.options.unwrap_or_default()));
    let id = site.environment.id.clone();
    let mut facts = vec![Fact::NetworksSet(id, operation.clone(), made_for, seen)];
    let members: Vec<&Host> =
        site.hosts.iter().filter(|host| host.membership.is_some() && host.answers()).collect();
    facts.extend(look_at(site, &members, made_for.mtu).await);
    Ok(facts)
}

/// What the own networks of hosts are like. A courtesy: whoever does not answer keeps what was seen before.
pub(super) async fn look(site: &Site, hosts: &[&Host]) -> Vec<Fact> {
    look_at(site, hosts, made_for(&site.environment, &site.hosts).mtu).await
}

async fn look_at(site: &Site, hosts: &[&Host], environment_mtu: u16) -> Vec<Fact> {
    let looks = hosts.iter().map(|host| timeout(LOOK_MAX, seen(site, host, environment_mtu)));
    join_all(looks).await.into_iter().flatten().collect()
}

async fn seen(site: &Site, host: &Host, environment_mtu: u16) -> Fact {
    let docker = site.docker(host);
    let (engine, bridge) = tokio::join!(inspect(&docker, ENGINE_NETWORK), inspect(&docker, BRIDGE));
    let mtu = |found: Result<Option<Found>, EffectError>| found.ok().flatten().map(|found| mtu_of(&found));
    let seen = HostNetworks {
        engine_mtu: mtu(engine),
        bridge_mtu: mtu(bridge),
        environment_mtu: Some(environment_mtu),
    };
    Fact::HostNetworksSeen(host.environment.clone(), host.id.clone(), seen)
}

/// A network of an engine, as far as it is of interest here.
struct Found {
    options: HashMap<String, String>,
    labels: HashMap<String, String>,
}

async fn inspect(docker: &Reached, name: &str) -> Result<Option<Found>, EffectError> {
    match docker.inspect_network(name, None::<InspectNetworkOptions>).await {
        Ok(found) => Ok(Some(Found {
            options: found.options.unwrap_or_default(),
            labels: found.labels.unwrap_or_default(),
        })),
        Err(error) if not_found(&error) => Ok(None),
        Err(error) => Err(docker.failed(&format!("looking at network {name}"))(error)),
    }
}

fn is_ours(found: &Found) -> bool {
    found.labels.contains_key(MADE_LABEL)
}

fn mtu_of(found: &Found) -> u16 {
    like(&found.options).mtu
}

fn like(options: &HashMap<String, String>) -> MadeFor {
    let mtu = options.get(MTU_OPTION).and_then(|mtu| mtu.parse().ok()).unwrap_or(MTU_USUAL);
    MadeFor { mtu, encrypted: options.contains_key(ENCRYPTED_OPTION) }
}

/// An ingress network that was there before, or should be in a new swarm, was lost when it was to be made anew. Otherwise
/// somebody has taken it away who wants none.
fn needs_another(site: &Site, ingress: &Option<Network>, made_for: MadeFor) -> bool {
    let before = &site.environment.networks;
    match ingress {
        Some(found) => like(&found.options.clone().unwrap_or_default()) != made_for,
        None => before.ingress.is_some() || before.made_for.is_none(),
    }
}

async fn find_ingress(manager: &Reached) -> Result<Option<Network>, EffectError> {
    let listed = manager.list_networks(None::<ListNetworksOptions>).await;
    let listed = listed.map_err(manager.failed("listing networks"))?;
    Ok(listed.into_iter().find(|network| network.ingress == Some(true)))
}

async fn is_used(manager: &Reached) -> Result<bool, EffectError> {
    let services = manager.list_services(None::<ListServicesOptions>).await;
    let services = services.map_err(manager.failed("listing services"))?;
    Ok(services.iter().filter_map(|service| service.spec.as_ref()).any(needs_mesh))
}

async fn make_ingress(manager: &Reached, made_for: MadeFor) -> Result<(), EffectError> {
    let request = NetworkCreateRequest {
        name: "ingress".into(),
        driver: Some("overlay".into()),
        scope: Some("swarm".into()),
        ingress: Some(true),
        options: Some(overlay_options(&made_for)),
        ..NetworkCreateRequest::default()
    };
    let deadline = Instant::now() + INGRESS_GOES_MAX;
    loop {
        match manager.create_network(request.clone()).await {
            Ok(_) => return Ok(()),
            // The one before is still on its way out; anything else is as wrong at the deadline.
            Err(_) if Instant::now() < deadline => sleep(INGRESS_LOOK).await,
            Err(error) => return Err(manager.failed("making the ingress network")(error)),
        }
    }
}
