//! How Swarm runs a service: how many tasks, where, with how much, and how it changes and restarts them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::node::Node;
use super::quantity::{Misfit, cpu_nanos, duration, ratio, size, whole};
use super::reader::{Key, Place, Reader, not_yet, read, refused};
use super::service::ServiceDraft;

/// How many tasks a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// So many, on whichever hosts.
    Replicated(u64),
    /// One on every host.
    Global,
}

impl Default for Mode {
    fn default() -> Mode {
        Mode::Replicated(1)
    }
}

/// What the name of a service resolves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointMode {
    /// One virtual address that spreads connections.
    Vip,
    /// The addresses of the tasks, in turn.
    Dnsrr,
}

/// How tasks are replaced when the service changes, or changes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdatePolicy {
    /// How many tasks at a time; 0 is all.
    pub parallelism: u64,
    /// Pause between two batches.
    pub delay: Duration,
    /// What happens if too many new tasks fail.
    pub failure_action: FailureAction,
    /// How long a new task is watched for failure.
    pub monitor: Duration,
    /// The share of tasks that may fail.
    pub max_failure_ratio: Ratio,
    /// Which of the old and the new task goes first.
    pub order: Order,
}

/// Swarm's own defaults, written out so that a plan can show them.
impl Default for UpdatePolicy {
    fn default() -> UpdatePolicy {
        UpdatePolicy {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            monitor: Duration::from_secs(5),
            max_failure_ratio: Ratio::default(),
            order: Order::StopFirst,
        }
    }
}

/// A share from 0 to 1. Kept as a whole number, so that recipes can be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ratio {
    /// 1 000 000 000 is all.
    pub billionths: u32,
}

impl Ratio {
    /// As Docker's API wants it.
    pub fn as_f64(self) -> f64 {
        f64::from(self.billionths) / 1e9
    }
}

/// What happens if an update fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// It stops and waits for a person.
    Pause,
    /// It goes on.
    Continue,
    /// It goes back to the last version. Not for a rollback itself.
    Rollback,
}

/// Which task goes first when one replaces another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The old one stops, then the new one starts.
    StopFirst,
    /// The new one starts, then the old one stops.
    StartFirst,
}

/// When a task that ended is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// After which ends.
    pub condition: RestartCondition,
    /// Pause before the new start.
    pub delay: Duration,
    /// None: as often as needed.
    pub max_attempts: Option<u64>,
    /// The time in which attempts are counted. None: for ever.
    pub window: Option<Duration>,
}

/// Swarm's own defaults.
impl Default for RestartPolicy {
    fn default() -> RestartPolicy {
        RestartPolicy {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: None,
            window: None,
        }
    }
}

/// After which ends of a task a new one is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartCondition {
    /// After every one.
    Any,
    /// Unless it ended with 0.
    OnFailure,
    /// Never.
    None,
}

/// On which hosts tasks may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// All must hold: `node.role == worker`.
    pub constraints: Vec<String>,
    /// Node labels over whose values tasks are spread, the most important first: `node.labels.zone`.
    pub spread: Vec<String>,
    /// None: as many as fit.
    pub max_replicas_per_node: Option<u64>,
}

/// What a task may use, and what is kept free for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// At most.
    pub limits: Amounts,
    /// At least; a host without so much left gets no task.
    pub reservations: Amounts,
}

/// Amounts of what a host has. None: not limited, nothing reserved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amounts {
    /// CPUs in billionths.
    pub cpu_nanos: Option<u64>,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Processes and threads. Only as a limit.
    pub pids: Option<u64>,
}

const MODES: &[(&str, ModeWord)] = &[("replicated", ModeWord::Replicated), ("global", ModeWord::Global)];
const ENDPOINT_MODES: &[(&str, EndpointMode)] = &[("vip", EndpointMode::Vip), ("dnsrr", EndpointMode::Dnsrr)];
const ORDERS: &[(&str, Order)] = &[("stop-first", Order::StopFirst), ("start-first", Order::StartFirst)];
const ROLLBACK_FAILURE_ACTIONS: &[(&str, FailureAction)] =
    &[("pause", FailureAction::Pause), ("continue", FailureAction::Continue)];
const FAILURE_ACTIONS: &[(&str, FailureAction)] = &[
    ("pause", FailureAction::Pause),
    ("continue", FailureAction::Continue),
    ("rollback", FailureAction::Rollback),
];
const RESTART_CONDITIONS: &[(&str, RestartCondition)] = &[
    ("any", RestartCondition::Any),
    ("on-failure", RestartCondition::OnFailure),
    ("none", RestartCondition::None),
];

/// How Swarm runs a service.
pub(super) const DEPLOY_KEYS: &[Key<ServiceDraft>] = &[
    read("mode", "`replicated` (default) or `global`", |cx, node, draft| {
        draft.mode = cx.choice(node, MODES);
    }),
    read("replicas", "how many tasks; default 1", |cx, node, draft| {
        draft.replicas = cx.value(node, whole).map(|count| (count, cx.place(node)));
    }),
    read("endpoint_mode", "`vip` (default) or `dnsrr`", |cx, node, draft| {
        draft.service.endpoint_mode = cx.choice(node, ENDPOINT_MODES);
    }),
    read("labels", "labels of the service; a mapping or a list of `key=value`", |cx, node, draft| {
        read_labels(cx, node, &mut draft.service.deploy_labels);
    }),
    read("update_config", "see the level below", |cx, node, draft| {
        cx.keys(node, UPDATE_KEYS, &mut draft.service.update);
    }),
    read("rollback_config", "see the level below", |cx, node, draft| {
        cx.keys(node, ROLLBACK_KEYS, &mut draft.service.rollback);
    }),
    read("restart_policy", "see the level below", |cx, node, draft| {
        cx.keys(node, RESTART_KEYS, &mut draft.service.restart);
    }),
    read("placement", "see the level below", |cx, node, draft| {
        cx.keys(node, PLACEMENT_KEYS, &mut draft.service.placement);
    }),
    read("resources", "see the level below", read_resources),
];

/// How tasks are replaced when the service changes.
pub(super) const UPDATE_KEYS: &[Key<UpdatePolicy>] = &[
    read("parallelism", "how many tasks at a time; default 1, 0 is all", read_parallelism),
    read("delay", "pause between two batches; default none", read_update_delay),
    read("failure_action", "`pause` (default), `continue` or `rollback`", |cx, node, policy| {
        policy.failure_action = cx.choice(node, FAILURE_ACTIONS).unwrap_or(FailureAction::Pause);
    }),
    read("monitor", "how long a new task is watched; default 5s", read_monitor),
    read("max_failure_ratio", "the share of tasks that may fail, 0 to 1; default 0", read_ratio),
    read("order", "`stop-first` (default) or `start-first`", read_order),
];

/// How tasks are replaced when an update is taken back.
pub(super) const ROLLBACK_KEYS: &[Key<UpdatePolicy>] = &[
    read("parallelism", "how many tasks at a time; default 1, 0 is all", read_parallelism),
    read("delay", "pause between two batches; default none", read_update_delay),
    read("failure_action", "`pause` (default) or `continue`", |cx, node, policy| {
        policy.failure_action = cx.choice(node, ROLLBACK_FAILURE_ACTIONS).unwrap_or(FailureAction::Pause);
    }),
    read("monitor", "how long a new task is watched; default 5s", read_monitor),
    read("max_failure_ratio", "the share of tasks that may fail, 0 to 1; default 0", read_ratio),
    read("order", "`stop-first` (default) or `start-first`", read_order),
];

/// When a task that ended is started again. To Swarm 0 means "not limited" here and in the levels below.
pub(super) const RESTART_KEYS: &[Key<RestartPolicy>] = &[
    read("condition", "`any` (default), `on-failure` or `none`", |cx, node, policy| {
        policy.condition = cx.choice(node, RESTART_CONDITIONS).unwrap_or(RestartCondition::Any);
    }),
    read("delay", "pause before the new start; default 5s", |cx, node, policy| {
        policy.delay = cx.value(node, duration).unwrap_or_default();
    }),
    read("max_attempts", "how often; default as often as needed", |cx, node, policy| {
        policy.max_attempts = cx.value(node, whole).filter(|attempts| *attempts > 0);
    }),
    read("window", "the time in which attempts are counted; default for ever", |cx, node, policy| {
        policy.window = cx.value(node, duration).filter(|window| !window.is_zero());
    }),
];

/// On which hosts tasks may run.
pub(super) const PLACEMENT_KEYS: &[Key<Placement>] = &[
    read("constraints", "a list such as `node.role == worker`; all must hold", |cx, node, placement| {
        cx.each_item(node, |cx, item| placement.constraints.extend(cx.value(item, constraint)));
    }),
    read("preferences", "a list of `spread: node.labels.NAME`", |cx, node, placement| {
        cx.each_item(node, |cx, item| cx.keys(item, PREFERENCE_KEYS, placement));
    }),
    read(
        "max_replicas_per_node",
        "how many tasks on one host; default as many as fit",
        |cx, node, placement| {
            placement.max_replicas_per_node = cx.value(node, whole).filter(|count| *count > 0);
        },
    ),
];

/// A wish about the spread of tasks.
pub(super) const PREFERENCE_KEYS: &[Key<Placement>] =
    &[read("spread", "the node label over whose values tasks are spread", |cx, node, placement| {
        placement.spread.extend(cx.value(node, |text| match text.split_once(".labels.") {
            Some(("node" | "engine", label)) if !label.is_empty() => Ok(text.to_owned()),
            _ => Err(Misfit::new(
                format!("'{text}' is not a label of nodes"),
                "write it like node.labels.zone",
            )),
        }));
    })];

/// What a task may use, and what is kept free for it.
pub(super) const RESOURCES_KEYS: &[Key<Resources>] = &[
    read("limits", "at most so much", |cx, node, resources| {
        cx.keys(node, LIMITS_KEYS, &mut resources.limits)
    }),
    read("reservations", "at least so much, kept free on the host", |cx, node, resources| {
        cx.keys(node, RESERVATIONS_KEYS, &mut resources.reservations);
    }),
];

/// The most that a task may use.
pub(super) const LIMITS_KEYS: &[Key<Amounts>] = &[
    read("cpus", "CPUs, such as `'0.5'`", read_cpus),
    read("memory", "memory, such as `64M`", read_memory),
    read("pids", "processes and threads", |cx, node, amounts| {
        amounts.pids = cx.value(node, whole).filter(|count| *count > 0);
    }),
];

/// What is kept free for a task.
pub(super) const RESERVATIONS_KEYS: &[Key<Amounts>] = &[
    read("cpus", "CPUs, such as `'0.5'`", read_cpus),
    read("memory", "memory, such as `64M`", read_memory),
    refused("pids", "Swarm does not reserve processes", "write it under limits"),
    not_yet("generic_resources"),
    not_yet("devices"),
];

/// The word under `deploy.mode`; the number stands under another key, which may come first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ModeWord {
    Replicated,
    Global,
}

impl Mode {
    pub(super) fn settle(
        cx: &mut Reader<'_>,
        word: Option<ModeWord>,
        replicas: Option<(u64, Place)>,
    ) -> Mode {
        match (word, replicas) {
            (Some(ModeWord::Global), Some((_, place))) => {
                let hint = "leave out 'replicas' or write mode: replicated".to_owned();
                cx.fail_at(place, "a global service has one task on every host", Some(hint));
                Mode::Global
            }
            (Some(ModeWord::Global), None) => Mode::Global,
            (_, Some((count, _))) => Mode::Replicated(count),
            (_, None) => Mode::default(),
        }
    }
}

pub(super) fn read_labels(cx: &mut Reader<'_>, node: &Node, labels: &mut BTreeMap<String, String>) {
    cx.pairs(node, |_, _, key, value| {
        labels.insert(key, value.unwrap_or_default());
    });
}

fn read_parallelism(cx: &mut Reader<'_>, node: &Node, policy: &mut UpdatePolicy) {
    policy.parallelism = cx.value(node, whole).unwrap_or_default();
}

fn read_update_delay(cx: &mut Reader<'_>, node: &Node, policy: &mut UpdatePolicy) {
    policy.delay = cx.value(node, duration).unwrap_or_default();
}

fn read_monitor(cx: &mut Reader<'_>, node: &Node, policy: &mut UpdatePolicy) {
    policy.monitor = cx.value(node, duration).unwrap_or_default();
}

fn read_ratio(cx: &mut Reader<'_>, node: &Node, policy: &mut UpdatePolicy) {
    policy.max_failure_ratio = cx.value(node, ratio).unwrap_or_default();
}

fn read_order(cx: &mut Reader<'_>, node: &Node, policy: &mut UpdatePolicy) {
    policy.order = cx.choice(node, ORDERS).unwrap_or(Order::StopFirst);
}

fn read_resources(cx: &mut Reader<'_>, node: &Node, draft: &mut ServiceDraft) {
    let resources = &mut draft.service.resources;
    cx.keys(node, RESOURCES_KEYS, resources);
    let (limits, reservations) = (&resources.limits, &resources.reservations);
    let exceeds =
        |reserved: Option<u64>, limit: Option<u64>| matches!((reserved, limit), (Some(r), Some(l)) if r > l);
    for (what, reserved, limit) in [
        ("CPUs", reservations.cpu_nanos, limits.cpu_nanos),
        ("memory", reservations.memory_bytes, limits.memory_bytes),
    ] {
        if exceeds(reserved, limit) {
            cx.fail_hint(
                node,
                format!("more {what} reserved than allowed"),
                "raise the limit or reserve less",
            );
        }
    }
}

/// The engine refuses less than a thousandth of a CPU.
const CPU_NANOS_MIN: u64 = 1_000_000;
/// The engine refuses to start a container with less than 4 MiB.
const MEMORY_BYTES_MIN: u64 = 4 << 20;

fn read_cpus(cx: &mut Reader<'_>, node: &Node, amounts: &mut Amounts) {
    amounts.cpu_nanos = cx.value(node, |text| at_least(text, cpu_nanos(text)?, CPU_NANOS_MIN, "0.001"));
}

fn read_memory(cx: &mut Reader<'_>, node: &Node, amounts: &mut Amounts) {
    amounts.memory_bytes = cx.value(node, |text| at_least(text, size(text)?, MEMORY_BYTES_MIN, "4M"));
}

fn at_least(text: &str, amount: u64, least: u64, spoken: &str) -> Result<u64, Misfit> {
    if amount >= least {
        return Ok(amount);
    }
    Err(Misfit::new(format!("'{text}' is too little for the engine"), format!("write at least {spoken}")))
}

/// The facts about a node that Swarm can compare. Those that end in a dot go on with the name of a label.
const CONSTRAINT_SUBJECTS: &[&str] = &[
    "node.id",
    "node.hostname",
    "node.ip",
    "node.role",
    "node.platform.os",
    "node.platform.arch",
    "node.labels.",
    "engine.labels.",
];

/// `node.role == worker`, with one space around the operator whatever was written, so that equal ones compare equal.
fn constraint(text: &str) -> Result<String, Misfit> {
    let misfit = |message: String| {
        Misfit::new(message, "write it like node.role == worker or node.labels.disk != ssd")
    };
    let at = text.find("==").or_else(|| text.find("!="));
    let Some(at) = at else {
        return Err(misfit(format!("'{text}' compares nothing")));
    };
    let (subject, rest) = text.split_at(at);
    let (operator, value) = rest.split_at(2);
    let (subject, value) = (subject.trim(), value.trim());
    let known = CONSTRAINT_SUBJECTS.iter().any(|known| match known.strip_suffix('.') {
        Some(_) => subject.len() > known.len() && subject.starts_with(known),
        None => subject == *known,
    });
    if !known {
        return Err(misfit(format!("'{subject}' is not a fact about nodes")));
    }
    if value.is_empty() || value.contains(['=', '!']) {
        return Err(misfit(format!("'{text}' lacks a value to compare with")));
    }
    if subject == "node.role" && !matches!(value, "manager" | "worker") {
        return Err(misfit(format!("'{value}' is not a role")));
    }
    Ok(format!("{subject} {operator} {value}"))
}
