//! A recipe's services and networks in Docker's words. Pure.
//!
//! Two hashes go along as labels: one of the whole service, so that an unchanged service is left alone; one of the
//! task template, so that it can be told which tasks are of the newest version.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum, EndpointSpec,
    EndpointSpecModeEnum, HealthConfig, Limit, Mount, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkAttachmentConfig, NetworkCreateRequest, ResourceObject,
    ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecRollbackConfig,
    ServiceSpecRollbackConfigFailureActionEnum as RollbackAction,
    ServiceSpecRollbackConfigOrderEnum as RollbackOrder, ServiceSpecUpdateConfig,
    ServiceSpecUpdateConfigFailureActionEnum as UpdateAction,
    ServiceSpecUpdateConfigOrderEnum as UpdateOrder, TaskSpec, TaskSpecContainerSpec, TaskSpecPlacement,
    TaskSpecPlacementPreferences, TaskSpecPlacementSpread, TaskSpecResources, TaskSpecRestartPolicy,
    TaskSpecRestartPolicyConditionEnum,
};
use skep_model::networks::{MTU_USUAL, MadeFor};
use skep_model::nfs::Nfs;
use skep_model::recipe::{
    Amounts, EndpointMode, FailureAction, Healthcheck, Mode, Network, Order, Placement, Port, PortMode,
    Protocol, Recipe, Resources, RestartCondition, RestartPolicy, Service, UpdatePolicy, VolumeDriver,
    VolumeMount,
};
use skep_model::stack::Stack;

/// Docker's own label for what belongs to a stack.
pub(super) const STACK_LABEL: &str = "com.docker.stack.namespace";
/// Says that Skep made it: the stack's id. Nothing without it is changed or removed.
pub(super) const OWNER_LABEL: &str = "skep.stack";
/// Hash of a whole service as it was wished.
pub(super) const SERVICE_HASH_LABEL: &str = "skep.service-hash";
/// Hash of a service's task template.
pub(super) const TASK_HASH_LABEL: &str = "skep.task-hash";

/// What Docker calls the size of packets for which a network is made.
pub(super) const MTU_OPTION: &str = "com.docker.network.driver.mtu";
/// Encrypts an overlay network, whatever its value is.
pub(super) const ENCRYPTED_OPTION: &str = "encrypted";

/// An overlay network that is made like this, in Docker's words. What Docker does by itself is not said.
pub(super) fn overlay_options(made_for: &MadeFor) -> HashMap<String, String> {
    let mtu = (made_for.mtu != MTU_USUAL).then(|| (MTU_OPTION.to_owned(), made_for.mtu.to_string()));
    let encrypted = made_for.encrypted.then(|| (ENCRYPTED_OPTION.to_owned(), String::new()));
    mtu.into_iter().chain(encrypted).collect()
}

/// The network a stack's recipe declares.
pub(super) fn network(stack: &Stack, network: &Network, made_for: &MadeFor) -> NetworkCreateRequest {
    let Network { name: _, name_in_swarm: _, external: _, driver, driver_opts, attachable, internal, labels } =
        network;
    let mut options: HashMap<_, _> = driver_opts.clone().into_iter().collect();
    options.remove(ENCRYPTED_OPTION);
    for (option, value) in
        overlay_options(&MadeFor { encrypted: network.is_encrypted(made_for.encrypted), ..*made_for })
    {
        options.entry(option).or_insert(value);
    }
    NetworkCreateRequest {
        name: network.swarm_name(stack.name.as_str()),
        driver: Some(driver.clone()),
        scope: Some("swarm".into()),
        attachable: Some(*attachable),
        internal: Some(*internal),
        options: Some(options),
        labels: Some(owned(stack, labels.clone())),
        ..NetworkCreateRequest::default()
    }
}

/// The networks that the service's tasks join, and the names that it has there.
fn attachments(stack: &Stack, recipe: &Recipe, service: &Service) -> Vec<NetworkAttachmentConfig> {
    let attached = service.networks.iter().filter_map(|name| recipe.network(name)).map(|network| {
        let mut names = vec![service.name.clone()];
        names.extend(service.aliases.get(&network.name).cloned().unwrap_or_default());
        NetworkAttachmentConfig {
            target: Some(network.swarm_name(stack.name.as_str())),
            aliases: Some(names),
            ..NetworkAttachmentConfig::default()
        }
    });
    attached.collect()
}

/// The service's volumes. One on NFS is made by Docker on each host that gets a task, as a folder of the environment's server.
fn mounts(stack: &Stack, recipe: &Recipe, service: &Service, nfs: Option<&Nfs>) -> Vec<Mount> {
    let mount = |mount: &VolumeMount| {
        let VolumeMount { volume, target, read_only, no_copy } = mount;
        let volume = recipe.volume(volume)?;
        let name = volume.docker_name(stack.name.as_str());
        let driver = match (volume.driver, nfs) {
            _ if volume.external => None,
            (VolumeDriver::Nfs, Some(nfs)) => Some(on_nfs(nfs, &name)),
            _ if volume.driver_opts.is_empty() => None,
            _ => Some(volume.driver_opts.clone().into_iter().collect()),
        };
        Some(Mount {
            target: Some(target.clone()),
            source: Some(name),
            typ: Some(MountType::VOLUME),
            read_only: Some(*read_only),
            volume_options: Some(MountVolumeOptions {
                no_copy: Some(*no_copy),
                labels: (!volume.external).then(|| owned(stack, volume.labels.clone())),
                driver_config: driver.map(|options| MountVolumeOptionsDriverConfig {
                    name: Some("local".into()),
                    options: Some(options),
                }),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        })
    };
    service.volumes.iter().filter_map(mount).collect()
}

/// A folder of an NFS server, as the driver `local` mounts it.
fn on_nfs(nfs: &Nfs, folder: &str) -> HashMap<String, String> {
    let Nfs { server, path, options } = nfs;
    let all = match options.is_empty() {
        true => format!("addr={server}"),
        false => format!("addr={server},{options}"),
    };
    let device = format!(":{}/{folder}", path.trim_end_matches('/'));
    [("type", "nfs".to_owned()), ("o", all), ("device", device)]
        .into_iter()
        .map(|(option, value)| (option.to_owned(), value))
        .collect()
}

/// The service a stack's recipe declares. `vip` says whether the hosts' kernels can do virtual addresses.
pub(super) fn service(
    stack: &Stack,
    recipe: &Recipe,
    service: &Service,
    vip: bool,
    nfs: Option<&Nfs>,
) -> ServiceSpec {
    let Service {
        name: _,
        image,
        command,
        entrypoint,
        environment,
        labels,
        hostname,
        user,
        working_dir,
        init,
        read_only,
        stop_grace_period,
        healthcheck,
        ports,
        networks: _,
        aliases: _,
        volumes: _,
        mode,
        endpoint_mode,
        deploy_labels,
        update,
        rollback,
        restart,
        placement,
        resources,
    } = service;
    let mounts = mounts(stack, recipe, service, nfs);
    let container = TaskSpecContainerSpec {
        image: Some(image.clone()),
        args: command.clone(),
        command: entrypoint.clone(),
        env: Some(environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(owned(stack, labels.clone())),
        hostname: hostname.clone(),
        user: user.clone(),
        dir: working_dir.clone(),
        init: *init,
        read_only: Some(*read_only),
        stop_grace_period: stop_grace_period.map(nanos),
        health_check: healthcheck.as_ref().map(health),
        mounts: (!mounts.is_empty()).then_some(mounts),
        ..TaskSpecContainerSpec::default()
    };
    let mut task = TaskSpec {
        container_spec: Some(container),
        networks: Some(attachments(stack, recipe, service)),
        restart_policy: Some(restart_policy(restart)),
        placement: Some(placed(placement)),
        resources: Some(resources_of(resources)),
        ..TaskSpec::default()
    };
    let task_hash = hash(&task);
    if let Some(labels) = task.container_spec.as_mut().and_then(|container| container.labels.as_mut()) {
        labels.insert(TASK_HASH_LABEL.into(), task_hash);
    }
    let mut spec = ServiceSpec {
        name: Some(service.swarm_name(stack.name.as_str())),
        labels: Some(owned(stack, deploy_labels.clone())),
        task_template: Some(task),
        mode: Some(mode_of(mode)),
        update_config: Some(update_config(update)),
        rollback_config: Some(rollback_config(rollback)),
        endpoint_spec: Some(endpoint(ports, *endpoint_mode, vip)),
        networks: None,
    };
    let service_hash = hash(&spec);
    spec.labels.get_or_insert_default().insert(SERVICE_HASH_LABEL.into(), service_hash);
    spec
}

fn owned(stack: &Stack, labels: impl IntoIterator<Item = (String, String)>) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> = labels.into_iter().collect();
    labels.insert(STACK_LABEL.into(), stack.name.to_string());
    labels.insert(OWNER_LABEL.into(), stack.id.to_string());
    labels
}

/// Hashes through a sorted form: the maps in Docker's types have no order of their own.
fn hash(spec: &impl serde::Serialize) -> String {
    // Plain data with string keys; serializing it has nothing that can fail.
    let sorted = serde_json::to_value(spec).expect("a spec serializes").to_string();
    digest(&SHA256, sorted.as_bytes()).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mode_of(mode: &Mode) -> ServiceSpecMode {
    match mode {
        Mode::Replicated(replicas) => ServiceSpecMode {
            replicated: Some(ServiceSpecModeReplicated { replicas: Some(signed(*replicas)) }),
            ..ServiceSpecMode::default()
        },
        Mode::Global => ServiceSpecMode { global: Some(HashMap::new()), ..ServiceSpecMode::default() },
    }
}

fn endpoint(ports: &[Port], mode: Option<EndpointMode>, vip: bool) -> EndpointSpec {
    let mode = mode.unwrap_or(if vip { EndpointMode::Vip } else { EndpointMode::Dnsrr });
    EndpointSpec {
        mode: Some(match mode {
            EndpointMode::Vip => EndpointSpecModeEnum::VIP,
            EndpointMode::Dnsrr => EndpointSpecModeEnum::DNSRR,
        }),
        ports: Some(ports.iter().map(port).collect()),
    }
}

fn port(port: &Port) -> EndpointPortConfig {
    let Port { target, published, protocol, mode } = port;
    EndpointPortConfig {
        name: None,
        target_port: Some(i64::from(*target)),
        published_port: published.map(i64::from),
        protocol: Some(match protocol {
            Protocol::Tcp => EndpointPortConfigProtocolEnum::TCP,
            Protocol::Udp => EndpointPortConfigProtocolEnum::UDP,
            Protocol::Sctp => EndpointPortConfigProtocolEnum::SCTP,
        }),
        publish_mode: Some(match mode {
            PortMode::Ingress => EndpointPortConfigPublishModeEnum::INGRESS,
            PortMode::Host => EndpointPortConfigPublishModeEnum::HOST,
        }),
    }
}

fn update_config(policy: &UpdatePolicy) -> ServiceSpecUpdateConfig {
    let UpdatePolicy { parallelism, delay, failure_action, monitor, max_failure_ratio, order } = policy;
    ServiceSpecUpdateConfig {
        parallelism: Some(signed(*parallelism)),
        delay: Some(nanos(*delay)),
        failure_action: Some(match failure_action {
            FailureAction::Pause => UpdateAction::PAUSE,
            FailureAction::Continue => UpdateAction::CONTINUE,
            FailureAction::Rollback => UpdateAction::ROLLBACK,
        }),
        monitor: Some(nanos(*monitor)),
        max_failure_ratio: Some(max_failure_ratio.as_f64()),
        order: Some(match order {
            Order::StopFirst => UpdateOrder::STOP_FIRST,
            Order::StartFirst => UpdateOrder::START_FIRST,
        }),
    }
}

fn rollback_config(policy: &UpdatePolicy) -> ServiceSpecRollbackConfig {
    let UpdatePolicy { parallelism, delay, failure_action, monitor, max_failure_ratio, order } = policy;
    ServiceSpecRollbackConfig {
        parallelism: Some(signed(*parallelism)),
        delay: Some(nanos(*delay)),
        failure_action: Some(match failure_action {
            FailureAction::Continue => RollbackAction::CONTINUE,
            FailureAction::Pause | FailureAction::Rollback => RollbackAction::PAUSE,
        }),
        monitor: Some(nanos(*monitor)),
        max_failure_ratio: Some(max_failure_ratio.as_f64()),
        order: Some(match order {
            Order::StopFirst => RollbackOrder::STOP_FIRST,
            Order::StartFirst => RollbackOrder::START_FIRST,
        }),
    }
}

fn restart_policy(policy: &RestartPolicy) -> TaskSpecRestartPolicy {
    let RestartPolicy { condition, delay, max_attempts, window } = policy;
    TaskSpecRestartPolicy {
        condition: Some(match condition {
            RestartCondition::Any => TaskSpecRestartPolicyConditionEnum::ANY,
            RestartCondition::OnFailure => TaskSpecRestartPolicyConditionEnum::ON_FAILURE,
            RestartCondition::None => TaskSpecRestartPolicyConditionEnum::NONE,
        }),
        delay: Some(nanos(*delay)),
        max_attempts: max_attempts.map(signed),
        window: window.map(nanos),
    }
}

fn placed(placement: &Placement) -> TaskSpecPlacement {
    let Placement { constraints, spread, max_replicas_per_node } = placement;
    let preference = |over: &String| TaskSpecPlacementPreferences {
        spread: Some(TaskSpecPlacementSpread { spread_descriptor: Some(over.clone()) }),
    };
    TaskSpecPlacement {
        constraints: Some(constraints.clone()),
        preferences: Some(spread.iter().map(preference).collect()),
        max_replicas: max_replicas_per_node.map(signed),
        ..TaskSpecPlacement::default()
    }
}

fn resources_of(resources: &Resources) -> TaskSpecResources {
    let Resources { limits, reservations } = resources;
    let Amounts { cpu_nanos, memory_bytes, pids } = limits;
    let limits = Limit {
        nano_cpus: cpu_nanos.map(signed),
        memory_bytes: memory_bytes.map(signed),
        pids: pids.map(signed),
    };
    // Docker cannot reserve process numbers; the recipe's parser refuses it.
    let Amounts { cpu_nanos, memory_bytes, pids: _ } = reservations;
    let reservations = ResourceObject {
        nano_cpus: cpu_nanos.map(signed),
        memory_bytes: memory_bytes.map(signed),
        ..ResourceObject::default()
    };
    TaskSpecResources {
        limits: Some(limits),
        reservations: Some(reservations),
        ..TaskSpecResources::default()
    }
}

fn health(check: &Healthcheck) -> HealthConfig {
    let Healthcheck { test, interval, timeout, retries, start_period, start_interval } = check;
    HealthConfig {
        test: Some(test.clone()),
        interval: interval.map(nanos),
        timeout: timeout.map(nanos),
        retries: retries.map(signed),
        start_period: start_period.map(nanos),
        start_interval: start_interval.map(nanos),
    }
}

/// Docker counts in signed numbers; nobody means more than they hold.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
