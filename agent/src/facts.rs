//! How the host is at this moment: clock, names, addresses, free space, kernel, engine.
//!
//! Not a part of the inventory, because most of it changes all the time and is of interest only when somebody asks.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;
use skep_wire::proto::agent::{DiskSpace, DiskUse, HostFacts};

use crate::engine::Engine;
use crate::{address, features, inventory};

/// Where an engine keeps its data that does not say otherwise.
const DATA_ROOT_USUAL: &str = "/var/lib/docker";

/// Asks the kernel, the file systems and the engine.
pub(crate) async fn of_this_host(engine: &Engine, state_dir: &Path) -> HostFacts {
    let asked_at_ms = milliseconds_since_1970();
    let (engine_version, engine_error) = match engine.probe().await {
        Ok(version) => (version.version, String::new()),
        Err(reason) => (String::new(), reason),
    };
    let data_root = match engine_error.is_empty() {
        true => engine.data_root().await.ok(),
        // It would only be waited for a second time.
        false => None,
    };
    let data_root = data_root.unwrap_or_else(|| PathBuf::from(DATA_ROOT_USUAL));
    let folders = vec![(DiskUse::Engine, data_root), (DiskUse::Agent, state_dir.to_owned())];
    // Files, and a file system that may be slow.
    let read = tokio::task::spawn_blocking(move || read_host(folders)).await;
    let host = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    HostFacts { asked_at_ms, answered_at_ms: milliseconds_since_1970(), engine_version, engine_error, ..host }
}

pub(crate) fn milliseconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn read_host(folders: Vec<(DiskUse, PathBuf)>) -> HostFacts {
    let root = Path::new("/");
    HostFacts {
        hostname: inventory::hostname(root),
        addresses: addresses().iter().map(IpAddr::to_string).collect(),
        disks: folders.into_iter().filter_map(|(usage, path)| space(usage, &path)).collect(),
        features: features::detect(root).into_iter().map(|(name, there)| (name.to_owned(), there)).collect(),
        ..HostFacts::default()
    }
}

/// Without loopback and what is valid on one link only.
fn addresses() -> Vec<IpAddr> {
    let all = address::interfaces().unwrap_or_default().into_iter().map(|(_, address)| address);
    let mut addresses: Vec<IpAddr> = all
        .filter(|address| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

pub(crate) fn space(usage: DiskUse, path: &Path) -> Option<DiskSpace> {
    let there = path.ancestors().find(|ancestor| ancestor.exists())?;
    let seen = statvfs(there).ok()?;
    let block_bytes = seen.fragment_size();
    Some(DiskSpace {
        r#use: usage.into(),
        path: path.display().to_string(),
        total_bytes: seen.blocks().saturating_mul(block_bytes),
        free_bytes: seen.blocks_available().saturating_mul(block_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_yet_counts_for_the_file_system_it_would_be_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let missing = dir.path().join("not").join("yet");
        let space = space(DiskUse::Engine, &missing).expect("told");
        assert_eq!(space.path, missing.display().to_string());
        assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes, "{space:?}");
    }

    #[test]
    fn addresses_that_nobody_else_could_reach_are_left_out() {
        assert!(addresses().iter().all(|address| !address.is_loopback()));
    }
}
