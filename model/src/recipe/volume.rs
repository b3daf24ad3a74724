//! Volumes of a recipe, and where services mount them.
//!
//! A volume of driver `local` lies on each host that runs a task; one of driver `nfs` lies on the environment's NFS server and
//! is the same everywhere. What lies on a host by its path is left out: tasks run on any host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names;
use super::node::{Node, Value};
use super::quantity::{Misfit, boolean};
use super::reader::{Key, Reader, not_yet, read, refused};

/// Where a volume lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeDriver {
    /// On the host of each task.
    #[default]
    Local,
    /// On the environment's NFS server.
    Nfs,
}

/// A volume that services of the recipe mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// What the services of the recipe call it.
    pub name: String,
    /// What Docker calls it, if the recipe says so; see [`Volume::docker_name`].
    pub name_in_docker: Option<String>,
    /// It exists already and is mounted as it is.
    pub external: bool,
    /// Where it lies.
    pub driver: VolumeDriver,
    /// Options of the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Labels of the volume.
    pub labels: BTreeMap<String, String>,
}

/// A volume in the containers of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeMount {
    /// The volume's name in the recipe.
    pub volume: String,
    /// Where it is in the container.
    pub target: String,
    /// It cannot be written there.
    pub read_only: bool,
    /// An empty volume stays empty instead of getting what the image has at that place.
    pub no_copy: bool,
}

impl Volume {
    /// The volume's name on the hosts, the same that `docker stack deploy` gives it.
    pub fn docker_name(&self, stack: &str) -> String {
        match &self.name_in_docker {
            Some(name) => name.clone(),
            None if self.external => self.name.clone(),
            None => format!("{stack}_{}", self.name),
        }
    }

    pub(super) fn read(cx: &mut Reader<'_>, name: &str, node: &Node) -> Volume {
        let mut volume = Volume { name: name.to_owned(), ..Volume::default() };
        cx.keys(node, VOLUME_KEYS, &mut volume);
        let is_made_as =
            volume.driver == VolumeDriver::Nfs || !volume.driver_opts.is_empty() || !volume.labels.is_empty();
        if volume.external && is_made_as {
            cx.fail_hint(
                node,
                "an external volume is taken as it is",
                "leave out everything but 'external' and 'name'",
            );
        }
        if volume.driver == VolumeDriver::Nfs && !volume.driver_opts.is_empty() {
            cx.fail_hint(
                node,
                "the environment says how its NFS server is mounted",
                "leave out driver_opts (see: skep env update --nfs), or write driver: local",
            );
        }
        volume
    }
}

const DRIVERS: &[(&str, VolumeDriver)] = &[("local", VolumeDriver::Local), ("nfs", VolumeDriver::Nfs)];

/// A volume of the recipe.
pub(super) const VOLUME_KEYS: &[Key<Volume>] = &[
    read(
        "driver",
        "`local` (default): on each host that runs a task; `nfs`: on the environment's NFS server",
        |cx, node, volume| volume.driver = cx.choice(node, DRIVERS).unwrap_or_default(),
    ),
    read("driver_opts", "a mapping, handed to the driver `local`", |cx, node, volume| {
        cx.pairs(node, |cx, at, key, value| {
            let Some(value) = value else {
                return cx.fail(at, "needs a value");
            };
            volume.driver_opts.insert(key, value);
        });
    }),
    read("external", "`true` if the volume exists already on the hosts", |cx, node, volume| {
        volume.external = cx.value(node, boolean).unwrap_or_default();
    }),
    read("name", "the name on the hosts; default `STACK_VOLUME`", |cx, node, volume| {
        volume.name_in_docker = cx.value(node, |text| names::volume(text).map(|()| text.to_owned()));
    }),
    read("labels", "a mapping or a list of `key=value`", |cx, node, volume| {
        cx.pairs(node, |_, _, key, value| {
            volume.labels.insert(key, value.unwrap_or_default());
        });
    }),
];

/// The long form of a mount.
pub(super) const MOUNT_KEYS: &[Key<VolumeMount>] = &[
    read("type", "`volume`, which is also the default", |cx, node, _| {
        cx.value(node, |kind| match kind {
            "volume" => Ok(()),
            kind => {
                Err(Misfit::new(format!("mounts of type '{kind}' are not supported yet"), "use a volume"))
            }
        });
    }),
    read("source", "the volume's name", |cx, node, mount| mount.volume = cx.text(node).unwrap_or_default()),
    read("target", "where it is in the container", |cx, node, mount| {
        mount.target = cx.value(node, target).unwrap_or_default();
    }),
    read("read_only", "`true` if it cannot be written there", |cx, node, mount| {
        mount.read_only = cx.value(node, boolean).unwrap_or_default();
    }),
    read("volume", "see the level below", |cx, node, mount| cx.keys(node, MOUNT_VOLUME_KEYS, mount)),
    refused("bind", "tasks run on any host", "use a volume"),
    not_yet("tmpfs"),
    refused("consistency", "it means something on other systems than Linux", "leave it out"),
];

/// How a volume is mounted.
pub(super) const MOUNT_VOLUME_KEYS: &[Key<VolumeMount>] = &[read(
    "nocopy",
    "`true` leaves an empty volume empty instead of filling it from the image",
    |cx, node, mount| mount.no_copy = cx.value(node, boolean).unwrap_or_default(),
)];

impl VolumeMount {
    /// Either form. None if it could not be understood, which has then been said.
    pub(super) fn read(cx: &mut Reader<'_>, node: &Node) -> Option<VolumeMount> {
        if !matches!(node.value, Value::Map(_)) {
            return cx.value(node, short);
        }
        let mut mount = VolumeMount::default();
        let before = cx.error_count();
        cx.keys(node, MOUNT_KEYS, &mut mount);
        // What is wrong with one of its keys was said there.
        if cx.error_count() > before {
            return None;
        }
        let missing = match (mount.volume.is_empty(), mount.target.is_empty()) {
            (true, _) => "source",
            (false, true) => "target",
            (false, false) => return Some(mount),
        };
        cx.fail_hint(node, format!("the mount has no {missing}"), format!("add '{missing}: …'"));
        None
    }
}

/// `data:/var/lib/data`, `data:/var/lib/data:ro`
fn short(text: &str) -> Result<VolumeMount, Misfit> {
    let form = || {
        Misfit::new(format!("'{text}' is no volume with a place"), "write VOLUME:/PATH or VOLUME:/PATH:ro")
    };
    let mut parts = text.split(':');
    let (Some(volume), Some(place), mode, None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(form());
    };
    if volume.starts_with(['/', '.', '~']) {
        return Err(Misfit::new(
            format!("'{volume}' is a place on one host, and tasks run on any"),
            "use a volume: declare it under the top level 'volumes:'",
        ));
    }
    names::volume(volume)?;
    let mut mount =
        VolumeMount { volume: volume.to_owned(), target: target(place)?, ..VolumeMount::default() };
    for word in mode.unwrap_or_default().split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => mount.read_only = true,
            "rw" => mount.read_only = false,
            "nocopy" => mount.no_copy = true,
            word => return Err(Misfit::new(format!("'{word}' is not known here"), "write ro, rw or nocopy")),
        }
    }
    Ok(mount)
}

fn target(text: &str) -> Result<String, Misfit> {
    match text.starts_with('/') && text.len() > 1 {
        true => Ok(text.to_owned()),
        false => Err(Misfit::new(
            format!("'{text}' is no place in the container"),
            "write a path that begins with /",
        )),
    }
}
