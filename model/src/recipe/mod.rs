//! A recipe: what a person wants to run, written as a compose file (version 3), understood completely or not at all.
//!
//! Why not pass the file on: Docker's own `stack deploy` ignores a good part of what people write (`depends_on`,
//! `build`, `restart`, …) and says so in passing or never. Here every key is either understood, or an error that
//! names the key, its line and what to write instead. So a recipe that was accepted means what it says.
//!
//! The way through: `node` reads YAML into a tree that knows its lines, `reader` walks it along one constant slice
//! of keys per level (the same slices that the documentation and "did you mean" walk), `interpolate` fills in
//! variables, and [`parse`] checks what only the whole recipe can show. Turning a recipe into Swarm services is not
//! done here; whoever does it should take [`Service`] apart without `..`, so that no field is forgotten.

mod deploy;
mod error;
mod healthcheck;
mod interpolate;
mod levels;
mod names;
mod network;
pub(crate) mod node;
mod port;
pub(crate) mod quantity;
pub(crate) mod reader;
mod service;
#[cfg(test)]
mod tests;
mod volume;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use skep_codes::nearest;

pub use deploy::{
    Amounts, EndpointMode, FailureAction, Mode, Order, Placement, Ratio, Resources, RestartCondition,
    RestartPolicy, UpdatePolicy,
};
pub use error::RecipeError;
pub use healthcheck::Healthcheck;
pub use levels::reference;
pub use network::{DEFAULT_NETWORK, Network};
pub use port::{Port, PortMode, Protocol};
pub use service::Service;
pub use volume::{Volume, VolumeDriver, VolumeMount};

use node::{Node, Value};
use reader::{Key, Place, Reader, not_yet, read, refused};
use service::ServiceDraft;

/// A recipe is stored in the replicated log; a compose file of a person is a few kilobytes.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// A recipe with its variables filled in: complete, checked, comparable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    /// Sorted by name, so that moving a service within the file is no change.
    pub services: Vec<Service>,
    /// Every network that is declared or implied, sorted by name.
    pub networks: Vec<Network>,
    /// Every volume that is declared, sorted by name.
    pub volumes: Vec<Volume>,
}

impl Recipe {
    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Does any service mount a volume that lies on the environment's NFS server?
    pub fn uses_nfs(&self) -> bool {
        let mut mounts = self.services.iter().flat_map(|service| &service.volumes);
        mounts
            .any(|mount| self.volume(&mount.volume).is_some_and(|volume| volume.driver == VolumeDriver::Nfs))
    }

    /// The volume that services call by this name.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }

    /// The network that services call by this name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }
}

/// Reads a compose file. Returns every error that can be told in one go, in the order of their lines.
///
/// Nothing but `variables` is consulted: whether `.env` or the environment of the caller counts is decided there.
pub fn parse(text: &str, variables: &BTreeMap<String, String>) -> Result<Recipe, Vec<RecipeError>> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the recipe has {} bytes; at most {TEXT_BYTES_MAX} are read", text.len());
        return Err(vec![RecipeError::whole(message)]);
    }
    let root = node::read(text).map_err(|error| vec![error])?;
    let mut cx = Reader::new(variables);
    let mut draft = Draft::default();
    cx.keys(&root, RECIPE_KEYS, &mut draft);
    let recipe = draft.finish(&mut cx, &root);
    cx.into_errors().map(|()| recipe)
}

/// The top level of a recipe.
const RECIPE_KEYS: &[Key<Draft>] = &[
    read("version", "`3` or `3.x`; may be left out", read_version),
    read("services", "at least one; see the levels below", read_services),
    read("networks", "overlay networks; see the level below", read_networks),
    read("volumes", "volumes that services mount; see the level below", read_volumes),
    not_yet("secrets"),
    not_yet("configs"),
    refused(
        "name",
        "a stack gets its name when it is deployed",
        "leave it out and use `skep up --stack NAME`",
    ),
    refused("include", "a recipe is one file", "copy what is included into this file"),
];

/// A recipe while it is read: what needs a look at the whole carries its place.
#[derive(Default)]
struct Draft {
    services: Vec<ServiceDraft>,
    networks: Vec<Network>,
    volumes: Vec<Volume>,
}

fn read_version(cx: &mut Reader<'_>, node: &Node, _: &mut Draft) {
    let Some(version) = cx.text(node) else { return };
    let (major, minor) = version.split_once('.').unwrap_or((&version, "0"));
    match major {
        "3" if minor.parse::<u8>().is_ok() => {}
        "2" => cx.fail_hint(
            node,
            "compose files of version 2 are not understood yet",
            "write version: '3.8'; what differs is named line by line",
        ),
        _ => cx.fail_hint(
            node,
            format!("'{version}' is not a version that is understood"),
            "write version: '3.8'",
        ),
    }
}

fn read_services(cx: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    cx.named(node, names::service, |cx, name, value| {
        let service = ServiceDraft::read(cx, name, value);
        draft.services.push(service);
    });
}

fn read_networks(cx: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    cx.named(node, names::network, |cx, name, value| {
        let network = Network::read(cx, name, value);
        draft.networks.push(network);
    });
}

fn read_volumes(cx: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    cx.named(node, names::volume, |cx, name, value| {
        let volume = Volume::read(cx, name, value);
        draft.volumes.push(volume);
    });
}

impl Draft {
    fn finish(mut self, cx: &mut Reader<'_>, root: &Node) -> Recipe {
        let is_mapping = matches!(root.value, Value::Map(_) | Value::Null);
        if self.services.is_empty() && is_mapping && !cx.has_failed_within("services") {
            let place = cx.place(root);
            cx.fail_at(
                place,
                "the recipe has no services",
                Some("write at least one under 'services:'".into()),
            );
        }
        self.join_networks(cx);
        self.insist_on_volumes(cx);
        self.refuse_ports_published_twice(cx);
        let mut services: Vec<Service> = self.services.into_iter().map(|draft| draft.service).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        self.networks.sort_by(|a, b| a.name.cmp(&b.name));
        self.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Recipe { services, networks: self.networks, volumes: self.volumes }
    }

    /// A service that names no network is on the stack's default network, which then exists without being declared.
    fn join_networks(&mut self, cx: &mut Reader<'_>) {
        let declared: BTreeSet<String> = self.networks.iter().map(|network| network.name.clone()).collect();
        let mut default_wanted = false;
        for draft in &self.services {
            for (name, place) in &draft.networks {
                if name == DEFAULT_NETWORK {
                    default_wanted = true;
                } else if !declared.contains(name) && !cx.is_full() {
                    let message = format!("the network '{name}' is not declared");
                    let hint = match nearest(name, declared.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean '{near}'?"),
                        None => format!("add '{name}:' under the top level 'networks:'"),
                    };
                    cx.fail_at(place.clone(), message, Some(hint));
                }
            }
        }
        if default_wanted && !declared.contains(DEFAULT_NETWORK) {
            self.networks.push(Network::implied(DEFAULT_NETWORK));
        }
    }

    /// A volume that is only mounted would be made with a name that is never seen again.
    fn insist_on_volumes(&self, cx: &mut Reader<'_>) {
        let declared: BTreeSet<&str> = self.volumes.iter().map(|volume| volume.name.as_str()).collect();
        for (mount, place) in self.services.iter().flat_map(|draft| &draft.volumes) {
            if declared.contains(mount.volume.as_str()) || cx.is_full() {
                continue;
            }
            let hint = match nearest(&mount.volume, declared.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("add '{}:' under the top level 'volumes:'", mount.volume),
            };
            cx.fail_at(place.clone(), format!("the volume '{}' is not declared", mount.volume), Some(hint));
        }
    }

    /// Two services cannot answer on one port: with the ingress network Swarm refuses the second, in host mode its
    /// tasks wait for ever for a host whose port is free.
    fn refuse_ports_published_twice(&self, cx: &mut Reader<'_>) {
        let mut seen: BTreeMap<(u16, Protocol), &Place> = BTreeMap::new();
        let ports = self.services.iter().flat_map(|draft| &draft.ports);
        for (port, place) in ports {
            let Some(published) = port.published else { continue };
            let Some(first) = seen.get(&(published, port.protocol)) else {
                seen.insert((published, port.protocol), place);
                continue;
            };
            let message = format!(
                "port {published}/{} is published twice: {} has it already",
                port.protocol,
                first.spoken()
            );
            cx.fail_at(place.clone(), message, Some("publish each port once".into()));
        }
    }
}
