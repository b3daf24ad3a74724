//! Removes every trace of a cluster's machines, whether its folder still tells of them or not.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use super::layout::{Layout, NAMESPACES};
use super::processes::{self, Manner, Owner};
use super::{control_group, files, firewall, namespace, network, running};
use crate::DriverError;

/// What a sweep found and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Processes that were ended.
    pub processes: usize,
    /// Mounts below the folder.
    pub mounts: usize,
    /// Network namespaces.
    pub namespaces: usize,
    /// Interfaces.
    pub interfaces: usize,
    /// Firewall rules.
    pub rules: usize,
    /// Control group hierarchies in which there were groups.
    pub control_groups: usize,
    /// Whether there was a folder.
    pub folder: bool,
}

impl Sweep {
    /// Whether there was nothing to remove.
    pub fn is_empty(&self) -> bool {
        *self == Sweep::default()
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing was left");
        }
        let counts = [
            (self.processes, "processes"),
            (self.mounts, "mounts"),
            (self.namespaces, "namespaces"),
            (self.interfaces, "interfaces"),
            (self.rules, "firewall rules"),
            (self.control_groups, "control groups"),
            (usize::from(self.folder), "folders"),
        ];
        let parts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{what} {count}"))
            .collect();
        write!(f, "removed: {}", parts.join(", "))
    }
}

pub(super) fn sweep(layout: &Layout) -> Result<Sweep, DriverError> {
    let folder = layout.folder();
    // Processes first: what they hold cannot be removed, and the folder last: it is what names the rest
    // to a person who looks.
    let swept = Sweep {
        processes: end_processes(layout)?,
        mounts: unmount_below(&folder)?,
        namespaces: remove_namespaces(layout)?,
        interfaces: remove_interfaces(layout)?,
        rules: firewall::remove(layout),
        control_groups: control_group::remove(&layout.control_group()),
        folder: folder.exists(),
    };
    files::remove(&folder)?;
    Ok(swept)
}

/// All at once, then host by host what was only just being started.
fn end_processes(layout: &Layout) -> Result<usize, DriverError> {
    let mut count = processes::end(&Owner::cluster(layout), Manner::Asked)?;
    for id in files::names(&layout.hosts())? {
        count += running::end(&layout.host(&id), Manner::AtOnce)?;
    }
    Ok(count)
}

/// Engines mount in namespaces of their own, so mostly there is nothing. But to remove a folder with
/// something mounted in it would be to empty that.
fn unmount_below(folder: &Path) -> Result<usize, DriverError> {
    let below = mounted_below(folder);
    for mounted in &below {
        umount2(mounted, MntFlags::MNT_DETACH)
            .map_err(|error| files::io_error("unmounting", mounted)(error.into()))?;
    }
    Ok(below.len())
}

/// Innermost first, because the kernel lists them in the order in which they were mounted.
fn mounted_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut below: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|escaped| PathBuf::from(unescape(escaped)))
        .filter(|path| path.starts_with(folder))
        .collect();
    below.reverse();
    below
}

/// The kernel writes the characters that would break its table as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

fn remove_namespaces(layout: &Layout) -> Result<usize, DriverError> {
    let mut ours = files::names(Path::new(NAMESPACES))?;
    ours.retain(|name| name.starts_with(&layout.namespace_prefix()));
    for name in &ours {
        namespace::remove_file_of(&Path::new(NAMESPACES).join(name))?;
    }
    Ok(ours.len())
}

fn remove_interfaces(layout: &Layout) -> Result<usize, DriverError> {
    let mut ours = network::interfaces();
    ours.retain(|name| name.starts_with(&layout.interface_prefix()));
    for name in &ours {
        namespace::remove_cable(name)?;
    }
    Ok(ours.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_tells_what_it_found() {
        assert_eq!(Sweep::default().to_string(), "nothing was left");
        let swept = Sweep { processes: 4, folder: true, ..Sweep::default() };
        assert_eq!(swept.to_string(), "removed: processes 4, folders 1");
    }

    #[test]
    fn mount_points_with_spaces_are_read() {
        assert_eq!(unescape("/a\\040b/c\\134d"), "/a b/c\\d");
    }
}
