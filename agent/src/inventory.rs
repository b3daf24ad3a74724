//! What a host is: read from the kernel's own files, so that it is right in containers and namespaces too.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use skep_wire::proto::agent::Inventory;

use crate::{Entrance, features, routes};

/// The host as it is now, except for its engine. `address` and `mtu` are those of the link.
pub(crate) async fn of_this_host(address: IpAddr, mtu: u32, entrance: Entrance) -> Inventory {
    // A dozen small files, and a kernel configuration that has to be unpacked.
    let read = tokio::task::spawn_blocking(move || read_host(entrance.root())).await;
    let host = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    Inventory { address: address.to_string(), mtu, ..host }
}

fn read_host(root: &Path) -> Inventory {
    let line = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default().trim().to_owned();
    Inventory {
        cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
        memory_bytes: memory_bytes(&line("proc/meminfo")),
        kernel: line("proc/sys/kernel/osrelease"),
        architecture: std::env::consts::ARCH.to_owned(),
        os: os_name(&line("etc/os-release")),
        hostname: hostname(root),
        features: features::detect(root).into_iter().map(|(name, there)| (name.to_owned(), there)).collect(),
        routes: routes::of_table(&line("proc/net/route")),
        ..Inventory::default()
    }
}

/// The machine's own name.
pub(crate) fn hostname(root: &Path) -> String {
    fs::read_to_string(root.join("proc/sys/kernel/hostname")).unwrap_or_default().trim().to_owned()
}

/// `MemTotal:  16384 kB`
fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"`
fn os_name(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_their_files() {
        assert_eq!(memory_bytes("MemTotal:       16384 kB\nMemFree: 1 kB"), 16384 * 1024);
        assert_eq!(memory_bytes(""), 0);
        assert_eq!(
            os_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_name(""), "Linux");
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let host = read_host(Path::new("/"));
        assert!(host.cpus > 0 && host.memory_bytes > 0, "{host:?}");
        assert!(!host.kernel.is_empty() && !host.hostname.is_empty(), "{host:?}");
    }
}
