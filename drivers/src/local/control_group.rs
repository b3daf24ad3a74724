//! Control groups of containers: removed when a machine goes.
//!
//! Engines are told to put their containers below a group of the machine's own. That is also how a container's
//! processes are recognised: they do not inherit their engine's environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The kernel gives a group free a moment after its last process is gone.
const EMPTY_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Removes the group and everything below it in every hierarchy; says how many hierarchies had it.
///
/// A group that stays is no error: it is empty and costs nothing, and the next removal tries again.
pub(super) fn remove(group: &str) -> usize {
    let deadline = Instant::now() + EMPTY_WITHIN;
    let found: Vec<PathBuf> = hierarchies()
        .into_iter()
        .map(|mounted| mounted.join(group.trim_start_matches('/')))
        .filter(|folder| folder.exists())
        .collect();
    for folder in &found {
        while !remove_tree(folder) && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
    }
    found.len()
}

/// Groups are removed from the leaves up, and by `rmdir` alone: their files are the kernel's.
fn remove_tree(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return !folder.exists();
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(folder).is_ok() || !folder.exists()
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (folder, kind) = (fields.next()?, fields.next()?);
            matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(folder))
        })
        .collect()
}
