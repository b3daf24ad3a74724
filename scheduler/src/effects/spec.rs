//! A recipe's services and networks in Docker's words. Pure.
//!
//! Two hashes go along as labels: one of the whole service, so that an unchanged service is left alone; one of the
//! task template, so that it can be told which tasks are of the newest version.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum, EndpointSpec,
    EndpointSpecModeEnum, HealthConfig, Limit, NetworkAttachmentConfig, NetworkCreateRequest, ResourceObject,
    ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecRollbackConfig,
    ServiceSpecRollbackConfigFailureActionEnum as RollbackAction,
    ServiceSpecRollbackConfigOrderEnum as RollbackOrder, ServiceSpecUpdateConfig,
    ServiceSpecUpdateConfigFailureActionEnum as UpdateAction,
    ServiceSpecUpdateConfigOrderEnum as UpdateOrder, TaskSpec, TaskSpecContainerSpec, TaskSpecPlacement,
    TaskSpecPlacementPreferences, TaskSpecPlacementSpread, TaskSpecResources, TaskSpecRestartPolicy,
    TaskSpecRestartPolicyConditionEnum,
};
use skep_model::recipe::{
    Amounts, EndpointMode, FailureAction, Healthcheck, Mode, Network, Order, Placement, Port, PortMode,
    Protocol, Recipe, Resources, RestartCondition, RestartPolicy, Service, UpdatePolicy,
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

/// The network a stack's recipe declares.
pub(super) fn network(stack: &Stack, network: &Network, mtu: Option<u16>) -> NetworkCreateRequest {
    let Network { name: _, name_in_swarm: _, external: _, driver, driver_opts, attachable, internal, labels } =
        network;
    let mut options: HashMap<_, _> = driver_opts.clone().into_iter().collect();
    if let Some(mtu) = mtu {
        options.entry("com.docker.network.driver.mtu".into()).or_insert_with(|| mtu.to_string());
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

/// The service a stack's recipe declares. `vip` says whether the hosts' kernels can do virtual addresses.
pub(super) fn service(stack: &Stack, recipe: &Recipe, service: &Service, vip: bool) -> ServiceSpec {
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
        networks,
        aliases,
        mode,
        endpoint_mode,
        deploy_labels,
        update,
        rollback,
        restart,
        placement,
        resources,
    } = service;
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
        ..TaskSpecContainerSpec::default()
    };
    let attached = networks.iter().filter_map(|name| recipe.network(name)).map(|network| {
        let mut names = vec![service.name.clone()];
        names.extend(aliases.get(&network.name).cloned().unwrap_or_default());
        NetworkAttachmentConfig {
            target: Some(network.swarm_name(stack.name.as_str())),
            aliases: Some(names),
            ..NetworkAttachmentConfig::default()
        }
    });
    let mut task = TaskSpec {
        container_spec: Some(container),
        networks: Some(attached.collect()),
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
