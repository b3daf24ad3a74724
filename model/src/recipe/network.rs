//! Networks of a recipe. In a swarm that means overlay networks: others end at the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names;
use super::node::{Node, Value};
use super::quantity::{Misfit, boolean};
use super::reader::{Key, Reader, not_yet, read};

/// The network of services that name none.
pub const DEFAULT_NETWORK: &str = "default";

const OVERLAY: &str = "overlay";

/// A network that services of the recipe share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// What the services of the recipe call it.
    pub name: String,
    /// What the swarm calls it, if the recipe says so; see [`Network::swarm_name`].
    pub name_in_swarm: Option<String>,
    /// It exists already and is neither made nor removed.
    pub external: bool,
    /// Always `overlay` unless the network is external.
    pub driver: String,
    /// Options of the driver, such as `encrypted` and `com.docker.network.driver.mtu`.
    pub driver_opts: BTreeMap<String, String>,
    /// Containers outside of the swarm's services may join.
    pub attachable: bool,
    /// No way out to the world.
    pub internal: bool,
    /// Labels of the network.
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// The network's name in the swarm, the same that `docker stack deploy` gives it.
    pub fn swarm_name(&self, stack: &str) -> String {
        match &self.name_in_swarm {
            Some(name) => name.clone(),
            None if self.external => self.name.clone(),
            None => format!("{stack}_{}", self.name),
        }
    }

    /// Is what goes from host to host encrypted? `default`: where the recipe says nothing. To Docker the option means
    /// yes whatever its value is; to a person who writes `false` it means no.
    pub fn is_encrypted(&self, default: bool) -> bool {
        self.driver_opts.get("encrypted").map_or(default, |value| value != "false")
    }

    /// A network that nobody declared.
    pub(super) fn implied(name: &str) -> Network {
        Network { name: name.to_owned(), driver: OVERLAY.to_owned(), ..Network::default() }
    }

    pub(super) fn read(cx: &mut Reader<'_>, name: &str, node: &Node) -> Network {
        let mut network = Network::implied(name);
        cx.keys(node, NETWORK_KEYS, &mut network);
        let is_made_as = network.attachable
            || network.internal
            || !network.labels.is_empty()
            || !network.driver_opts.is_empty();
        if network.external && is_made_as {
            cx.fail_hint(
                node,
                "an external network is taken as it is",
                "leave out everything but 'external' and 'name'",
            );
        }
        network
    }
}

/// A network of the recipe.
pub(super) const NETWORK_KEYS: &[Key<Network>] = &[
    read("driver", "`overlay`, which is also the default", read_driver),
    read("driver_opts", "a mapping, handed to the driver", |cx, node, network| {
        cx.pairs(node, |cx, at, key, value| {
            let Some(value) = value else {
                return cx.fail(at, "needs a value");
            };
            network.driver_opts.insert(key, value);
        });
    }),
    read("attachable", "`true` lets `docker run --network` join", |cx, node, network| {
        network.attachable = cx.value(node, boolean).unwrap_or_default();
    }),
    read("internal", "`true` cuts the way out of the network", |cx, node, network| {
        network.internal = cx.value(node, boolean).unwrap_or_default();
    }),
    read("external", "`true` if the network exists already, or `name:` with its name", read_external),
    read("name", "the name in the swarm; default `STACK_NETWORK`", |cx, node, network| {
        network.name_in_swarm = cx.value(node, name_in_swarm);
    }),
    read("labels", "a mapping or a list of `key=value`", |cx, node, network| {
        cx.pairs(node, |_, _, key, value| {
            network.labels.insert(key, value.unwrap_or_default());
        });
    }),
    not_yet("ipam"),
    not_yet("enable_ipv6"),
];

/// The old form `external: {name: …}`.
pub(super) const EXTERNAL_KEYS: &[Key<Network>] =
    &[read("name", "the name of the network that exists already", |cx, node, network| {
        network.name_in_swarm = cx.value(node, name_in_swarm);
    })];

fn name_in_swarm(text: &str) -> Result<String, Misfit> {
    names::network(text).map(|()| text.to_owned())
}

fn read_driver(cx: &mut Reader<'_>, node: &Node, _: &mut Network) {
    cx.value(node, |driver| match driver {
        OVERLAY => Ok(()),
        _ => Err(Misfit::new(
            format!("networks of driver '{driver}' end at the host; services need an overlay network"),
            "write driver: overlay",
        )),
    });
}

fn read_external(cx: &mut Reader<'_>, node: &Node, network: &mut Network) {
    if matches!(node.value, Value::Map(_)) {
        network.external = true;
        return cx.keys(node, EXTERNAL_KEYS, network);
    }
    network.external = cx.value(node, boolean).unwrap_or_default();
}
