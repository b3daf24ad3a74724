//! One service of a recipe: what its containers are, and how they meet the world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::deploy::{
    DEPLOY_KEYS, EndpointMode, Mode, ModeWord, Placement, Resources, RestartPolicy, UpdatePolicy, read_labels,
};
use super::healthcheck::Healthcheck;
use super::names;
use super::network::DEFAULT_NETWORK;
use super::node::{Node, Value};
use super::port::{Port, PortMode};
use super::quantity::{boolean, duration, words};
use super::reader::{Key, Place, Reader, not_yet, read, refused};
use super::volume::VolumeMount;

/// A service, checked, with its variables filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Unique within the recipe; the name in DNS on its networks.
    pub name: String,
    /// What the containers are made from.
    pub image: String,
    /// Replaces the image's command (Swarm's `Args`). None: the image's own.
    pub command: Option<Vec<String>>,
    /// Replaces the image's entry point (Swarm's `Command`). None: the image's own.
    pub entrypoint: Option<Vec<String>>,
    /// Environment variables of the containers.
    pub environment: BTreeMap<String, String>,
    /// Labels of the containers.
    pub labels: BTreeMap<String, String>,
    /// Host name of the containers; may hold templates of Swarm.
    pub hostname: Option<String>,
    /// User, and perhaps group, that runs the command.
    pub user: Option<String>,
    /// Where the command runs.
    pub working_dir: Option<String>,
    /// Whether a small init process reaps zombies. None: as the engine is set up.
    pub init: Option<bool>,
    /// The root file system cannot be written.
    pub read_only: bool,
    /// How long a container may take to stop before it is killed. None: 10 seconds.
    pub stop_grace_period: Option<Duration>,
    /// How to find out whether a container works. None: as the image says.
    pub healthcheck: Option<Healthcheck>,
    /// Published ports, in the order in which they are written.
    pub ports: Vec<Port>,
    /// Networks by their names in the recipe, sorted; never empty.
    pub networks: Vec<String>,
    /// Further names of the service: network → names. Its own name is always there and not listed.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Volumes in its containers, in the order in which they are written.
    pub volumes: Vec<VolumeMount>,
    /// How many tasks.
    pub mode: Mode,
    /// What its name resolves to. None: a virtual address.
    pub endpoint_mode: Option<EndpointMode>,
    /// Labels of the service itself.
    pub deploy_labels: BTreeMap<String, String>,
    /// How tasks are replaced when the service changes.
    pub update: UpdatePolicy,
    /// How tasks are replaced when a change is taken back.
    pub rollback: UpdatePolicy,
    /// When a task that ended is started again.
    pub restart: RestartPolicy,
    /// On which hosts tasks may run.
    pub placement: Placement,
    /// What a task may use, and what is kept free for it.
    pub resources: Resources,
}

impl Service {
    /// The service's name in the swarm, the same that `docker stack deploy` gives it.
    pub fn swarm_name(&self, stack: &str) -> String {
        format!("{stack}_{}", self.name)
    }
}

/// A service of the recipe.
pub(super) const SERVICE_KEYS: &[Key<ServiceDraft>] = &[
    read("image", "what the containers are made from; needed", |cx, node, draft| {
        if let Some(image) = cx.value(node, names::image) {
            draft.service.image = image;
        }
    }),
    read(
        "command",
        "a list, or a line that is split as a shell does; replaces the image's",
        |cx, node, draft| {
            draft.service.command = read_words(cx, node);
        },
    ),
    read(
        "entrypoint",
        "a list, or a line that is split as a shell does; replaces the image's",
        |cx, node, draft| {
            draft.service.entrypoint = read_words(cx, node);
        },
    ),
    read(
        "environment",
        "a mapping or a list of `KEY=value`; `KEY` alone takes the variable",
        read_environment,
    ),
    read("ports", "a list of `\"8080:80\"`, `\"8080:80/udp\"`, `\"80\"` or the long form below", read_ports),
    read("networks", "a list of names, or a mapping with `aliases`", read_networks),
    read("labels", "labels of the containers; a mapping or a list of `key=value`", |cx, node, draft| {
        read_labels(cx, node, &mut draft.service.labels);
    }),
    read(
        "hostname",
        "host name of the containers; templates such as `{{.Node.Hostname}}` work",
        |cx, node, draft| {
            draft.service.hostname = cx.value(node, names::hostname);
        },
    ),
    read("user", "user or `user:group` that runs the command", |cx, node, draft| {
        draft.service.user = cx.text(node);
    }),
    read("working_dir", "where the command runs", |cx, node, draft| {
        draft.service.working_dir = cx.text(node)
    }),
    read("init", "`true` runs a small init process first", |cx, node, draft| {
        draft.service.init = cx.value(node, boolean);
    }),
    read("read_only", "`true` makes the root file system unwritable", |cx, node, draft| {
        draft.service.read_only = cx.value(node, boolean).unwrap_or_default();
    }),
    read(
        "stop_grace_period",
        "time to stop before the container is killed; default 10s",
        |cx, node, draft| {
            draft.service.stop_grace_period = cx.value(node, duration);
        },
    ),
    read("healthcheck", "see the level below", |cx, node, draft| {
        draft.service.healthcheck = Some(Healthcheck::read(cx, node));
    }),
    read("deploy", "see the level below", |cx, node, draft| cx.keys(node, DEPLOY_KEYS, draft)),
    read("volumes", "a list of `VOLUME:/PATH`, `VOLUME:/PATH:ro` or the long form below", read_volumes),
    not_yet("secrets"),
    not_yet("configs"),
    not_yet("env_file"),
    not_yet("tmpfs"),
    not_yet("logging"),
    not_yet("dns"),
    not_yet("dns_search"),
    not_yet("dns_opt"),
    not_yet("extra_hosts"),
    not_yet("cap_add"),
    not_yet("cap_drop"),
    not_yet("sysctls"),
    not_yet("ulimits"),
    not_yet("group_add"),
    not_yet("stop_signal"),
    not_yet("tty"),
    not_yet("stdin_open"),
    not_yet("isolation"),
    not_yet("credential_spec"),
    refused("build", "a swarm does not build images", "build and push the image, then name it with 'image'"),
    refused(
        "container_name",
        "a service has many containers and Swarm names them",
        "reach them by the name of the service, or set 'hostname'",
    ),
    refused(
        "depends_on",
        "Swarm starts all services at once and in no order",
        "let the program retry, or let it fail and be restarted by deploy.restart_policy",
    ),
    refused(
        "expose",
        "services on one network reach all ports of each other",
        "leave it out, or publish with 'ports'",
    ),
    refused("links", "Swarm has no links", "put both services on one network and use their names"),
    refused("external_links", "Swarm has no links", "share an external network and use the names there"),
    refused("network_mode", "tasks join networks of the swarm", "use 'networks'"),
    refused("restart", "Swarm restarts tasks, not containers", "use deploy.restart_policy.condition"),
    refused("scale", "the number of tasks belongs to deploy", "use deploy.replicas"),
    refused("cpus", "resources belong to deploy", "use deploy.resources.limits.cpus"),
    refused("mem_limit", "resources belong to deploy", "use deploy.resources.limits.memory"),
    refused("mem_reservation", "resources belong to deploy", "use deploy.resources.reservations.memory"),
    refused("pids_limit", "resources belong to deploy", "use deploy.resources.limits.pids"),
    refused("cpu_shares", "Swarm has no CPU shares", "use deploy.resources.limits.cpus"),
    refused("cpu_quota", "Swarm has no CPU quota", "use deploy.resources.limits.cpus"),
    refused("cpuset", "Swarm does not pin tasks to CPUs", "use deploy.resources.limits.cpus"),
    refused("memswap_limit", "Swarm does not limit swap", "use deploy.resources.limits.memory"),
    refused("oom_kill_disable", "Swarm does not change the out-of-memory killer", "leave it out"),
    refused("oom_score_adj", "Swarm does not change the out-of-memory killer", "leave it out"),
    refused(
        "platform",
        "the host decides, not the service",
        "use deploy.placement.constraints with node.platform.arch",
    ),
    refused("privileged", "Swarm runs no privileged containers", "leave it out"),
    refused("security_opt", "Swarm takes no security options", "leave it out"),
    refused("devices", "Swarm gives no devices to containers", "leave it out"),
    refused("gpus", "Swarm gives no devices to containers", "leave it out"),
    refused("ipc", "tasks may run on different hosts", "leave it out"),
    refused("pid", "tasks do not see the processes of the host", "leave it out"),
    refused("userns_mode", "the engine of the host decides", "leave it out"),
    refused("cgroup_parent", "the engine of the host decides", "leave it out"),
    refused("runtime", "the engine of the host decides", "leave it out"),
    refused("shm_size", "Swarm does not size shared memory", "leave it out"),
    refused("domainname", "Swarm sets no domain name", "write the full name under 'hostname'"),
    refused("mac_address", "every task needs its own address", "leave it out"),
    refused("volumes_from", "tasks may run on different hosts", "leave it out"),
    refused("extends", "a recipe is one file", "use a YAML anchor and '<<: *name'"),
    refused("profiles", "all services of a recipe are deployed", "keep the other services in another recipe"),
    refused("pull_policy", "Swarm pulls an image that a host lacks", "leave it out"),
    refused("attach", "a deployed stack shows no output", "leave it out and use `skep logs`"),
    refused("develop", "a swarm does not build images", "leave it out"),
];

/// A service's part of one network.
pub(super) const ATTACHMENT_KEYS: &[Key<Vec<String>>] = &[
    read("aliases", "further names of the service on this network", |cx, node, aliases| {
        cx.each_item(node, |cx, item| aliases.extend(cx.value(item, names::alias)));
    }),
    refused(
        "ipv4_address",
        "every task needs its own address",
        "leave it out and use the name of the service",
    ),
    refused(
        "ipv6_address",
        "every task needs its own address",
        "leave it out and use the name of the service",
    ),
    refused("link_local_ips", "every task needs its own address", "leave it out"),
    refused("mac_address", "every task needs its own address", "leave it out"),
    refused("priority", "Swarm does not order networks", "leave it out"),
];

/// A service while it is read: what needs a look at the whole carries its place.
#[derive(Default)]
pub(super) struct ServiceDraft {
    pub(super) service: Service,
    pub(super) mode: Option<ModeWord>,
    pub(super) replicas: Option<(u64, Place)>,
    pub(super) ports: Vec<(Port, Place)>,
    pub(super) networks: Vec<(String, Place)>,
    pub(super) volumes: Vec<(VolumeMount, Place)>,
}

impl ServiceDraft {
    pub(super) fn read(cx: &mut Reader<'_>, name: &str, node: &Node) -> ServiceDraft {
        let mut draft = ServiceDraft::default();
        draft.service.name = name.to_owned();
        let before = cx.error_count();
        cx.keys(node, SERVICE_KEYS, &mut draft);
        let is_mapping = matches!(node.value, Value::Map(_) | Value::Null);
        if draft.service.image.is_empty() && is_mapping && !cx.has_failed_since(before, "image") {
            cx.fail_hint(node, "has no image", "add 'image: NAME:TAG'");
        }
        draft.settle(cx, node);
        draft
    }

    /// What follows from several keys together.
    fn settle(&mut self, cx: &mut Reader<'_>, node: &Node) {
        self.service.mode = Mode::settle(cx, self.mode, self.replicas.take());
        if self.networks.is_empty() {
            self.networks.push((DEFAULT_NETWORK.to_owned(), cx.place(node)));
        }
        self.service.networks = self.networks.iter().map(|(name, _)| name.clone()).collect();
        self.service.networks.sort();
        self.service.volumes = self.volumes.iter().map(|(mount, _)| mount.clone()).collect();
        self.service.ports = self.ports.iter().map(|(port, _)| port.clone()).collect();
        self.refuse_ingress_without_address(cx);
    }

    /// The routing mesh delivers to the virtual address; a service in DNS round robin has none.
    fn refuse_ingress_without_address(&self, cx: &mut Reader<'_>) {
        if self.service.endpoint_mode != Some(EndpointMode::Dnsrr) {
            return;
        }
        for (port, place) in &self.ports {
            if port.mode == PortMode::Ingress {
                let hint =
                    "publish it in the long form with mode: host, or leave out endpoint_mode".to_owned();
                cx.fail_at(place.clone(), "an ingress port needs endpoint_mode vip", Some(hint));
            }
        }
    }
}

/// A command: words, or a line to split. Nothing at all means the image's own.
fn read_words(cx: &mut Reader<'_>, node: &Node) -> Option<Vec<String>> {
    let words = match node.value {
        Value::Null => return None,
        Value::List(_) => cx.texts(node),
        Value::Scalar(_) | Value::Map(_) => cx.value(node, words)?,
    };
    (!words.is_empty()).then_some(words)
}

fn read_environment(cx: &mut Reader<'_>, node: &Node, draft: &mut ServiceDraft) {
    cx.pairs(node, |cx, at, key, value| {
        let Some(value) = value.or_else(|| cx.variable(&key).cloned()) else {
            let hint = format!("give it a value here, or set the variable '{key}'");
            return cx.fail_hint(at, format!("the variable '{key}' is not set"), hint);
        };
        draft.service.environment.insert(key, value);
    });
}

fn read_ports(cx: &mut Reader<'_>, node: &Node, draft: &mut ServiceDraft) {
    cx.each_item(node, |cx, item| {
        if let Some(port) = Port::read(cx, item) {
            draft.ports.push((port, cx.place(item)));
        }
    });
}

fn read_volumes(cx: &mut Reader<'_>, node: &Node, draft: &mut ServiceDraft) {
    let mut places = BTreeSet::new();
    cx.each_item(node, |cx, item| {
        let Some(mount) = VolumeMount::read(cx, item) else { return };
        if !places.insert(mount.target.clone()) {
            let message = format!("something is mounted at '{}' already", mount.target);
            return cx.fail_hint(item, message, "mount each volume at a place of its own");
        }
        draft.volumes.push((mount, cx.place(item)));
    });
}

fn read_networks(cx: &mut Reader<'_>, node: &Node, draft: &mut ServiceDraft) {
    if cx.refuse_scalar(node) {
        return;
    }
    if let Value::List(_) = node.value {
        let mut seen = BTreeSet::new();
        return cx.each_item(node, |cx, item| {
            let Some(name) = cx.text(item) else { return };
            if !seen.insert(name.clone()) {
                return cx.fail_hint(item, format!("the network '{name}' is given twice"), "leave one out");
            }
            draft.networks.push((name, cx.place(item)));
        });
    }
    cx.named(node, names::network, |cx, name, value| {
        let mut aliases = Vec::new();
        cx.keys(value, ATTACHMENT_KEYS, &mut aliases);
        if !aliases.is_empty() {
            draft.service.aliases.insert(name.to_owned(), aliases);
        }
        draft.networks.push((name.to_owned(), cx.place(value)));
    });
}
