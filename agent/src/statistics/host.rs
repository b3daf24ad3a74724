//! How busy the host itself is, from the kernel's own files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use skep_wire::proto::agent::DiskUse;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::counters::{Interfaces, Traffic, growth, share, traffic_rate};
use super::history::{HOST_VALUES, Values};
use crate::facts;

/// A file system that does not answer by then is asked no more until it has: each question that hangs holds a thread.
const DISK_MAX: Duration = Duration::from_secs(2);

/// Interfaces whose traffic stays in the host, or is counted a second time by the interface that carries it: loopback, ends of
/// containers' cables, bridges, bundles, tunnels.
const NOT_PHYSICAL: &[&str] = &[
    "lo", "veth", "docker", "br-", "br0", "virbr", "vnet", "tap", "tun", "wg", "bond", "dummy", "ifb", "cni",
    "vxlan", "flannel", "cali", "ovs",
];

/// What the kernel says at one moment; what it does not say is absent.
#[derive(Debug, Default)]
pub(super) struct Reading {
    processors: Option<Processors>,
    memory: Option<Space>,
    interfaces: Option<Interfaces>,
}

/// The time that processors have spent, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Processors {
    idle: u64,
    total: u64,
}

/// How much of something is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    used: u64,
    total: u64,
}

/// The reading that rates count from, and when it was made.
#[derive(Default)]
pub(super) struct Host {
    before: Option<(Instant, Reading)>,
}

impl Host {
    /// The values of this moment, in the order of [`HOST_VALUES`].
    pub(super) fn look(&mut self, disk: Option<Space>) -> Values<HOST_VALUES> {
        let now = (Instant::now(), Reading::of(Path::new("/")));
        let values = match &self.before {
            Some(before) => now.1.values(Some((&before.1, now.0 - before.0)), disk),
            None => now.1.values(None, disk),
        };
        self.before = Some(now);
        values
    }
}

impl Reading {
    fn of(root: &Path) -> Reading {
        // In the kernel's memory, so that reading them does not wait for anything.
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        Reading {
            processors: read("proc/stat").as_deref().and_then(processors),
            memory: read("proc/meminfo").as_deref().and_then(memory),
            // That of our own network namespace, which is the host's.
            interfaces: read("proc/self/net/dev").as_deref().map(interfaces),
        }
    }

    fn values(&self, before: Option<(&Reading, Duration)>, disk: Option<Space>) -> Values<HOST_VALUES> {
        let cpu = before.and_then(|(before, _)| busy(before.processors?, self.processors?));
        let traffic = before.and_then(|(before, elapsed)| {
            traffic_rate(before.interfaces.as_ref()?, self.interfaces.as_ref()?, elapsed)
        });
        [
            cpu,
            self.memory.map(|memory| memory.used),
            self.memory.map(|memory| memory.total),
            disk.map(|disk| disk.used),
            disk.map(|disk| disk.total),
            traffic.map(|traffic| traffic.received),
            traffic.map(|traffic| traffic.sent),
        ]
    }
}

/// The share of all processors that was not idle.
fn busy(before: Processors, now: Processors) -> Option<u64> {
    let (idle, total) = (growth(before.idle, now.idle)?, growth(before.total, now.total)?);
    share(growth(idle, total)?, total, 1)
}

/// `cpu  USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL …`; what follows is contained in the first ones.
fn processors(stat: &str) -> Option<Processors> {
    const SUMMED: usize = 8;
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Option<Vec<u64>> =
        line.split_whitespace().take(SUMMED).map(|field| field.parse().ok()).collect();
    let ticks = ticks?;
    // Kernels before 2.6 said four; whoever waits for a disk is idle.
    let idle = ticks.get(3)?.saturating_add(ticks.get(4).copied().unwrap_or_default());
    Some(Processors { idle, total: ticks.iter().fold(0, |sum, ticks| sum.saturating_add(*ticks)) })
}

fn memory(meminfo: &str) -> Option<Space> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = bytes("MemTotal")?;
    Some(Space { used: total.checked_sub(bytes("MemAvailable")?)?, total })
}

/// `NAME: RECEIVED … (8 fields) SENT …`, after two lines of headings.
fn interfaces(dev: &str) -> Interfaces {
    const SENT: usize = 8;
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let name = name.trim();
        let counters: Vec<&str> = counters.split_whitespace().collect();
        let traffic =
            Traffic { received: counters.first()?.parse().ok()?, sent: counters.get(SENT)?.parse().ok()? };
        is_physical(name).then(|| (name.to_owned(), traffic))
    };
    dev.lines().filter_map(interface).collect()
}

/// By the name, because `/sys` may be another namespace's. A point is in the names of VLANs.
fn is_physical(name: &str) -> bool {
    !name.contains('.') && !NOT_PHYSICAL.iter().any(|prefix| name.starts_with(prefix))
}

/// The file system on which the engine keeps its data.
#[derive(Default)]
pub(super) struct Disk {
    asked: Option<JoinHandle<Option<Space>>>,
}

impl Disk {
    /// How full it is; `None` if it does not say so in time.
    pub(super) async fn look(&mut self, folder: &Path) -> Option<Space> {
        let folder: PathBuf = folder.to_owned();
        let asked = self.asked.get_or_insert_with(|| tokio::task::spawn_blocking(move || disk(&folder)));
        let answer = timeout(DISK_MAX, asked).await.ok()?;
        self.asked = None;
        answer.ok().flatten()
    }
}

/// What is reserved for the system counts as used: nobody else can write there.
fn disk(folder: &Path) -> Option<Space> {
    let space = facts::space(DiskUse::Engine, folder)?;
    Some(Space { used: space.total_bytes.checked_sub(space.free_bytes)?, total: space.total_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo: 50 1 0 0 0 0 0 0 50 1 0 0 0 0 0 0\n  \
        eth0: 1000 9 0 0 0 0 0 0 70 5 0 0 0 0 0 0\nenp3s0:4 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n\
        docker0: 8 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\nbr-12ab: 8 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n\
        veth77: 8 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\neth0.7: 8 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\nbroken: x\n";

    #[test]
    fn only_what_leaves_the_host_is_counted_and_only_once() {
        let expected = [("enp3s0", 4, 5), ("eth0", 1000, 70)];
        let found = interfaces(DEV);
        let found: Vec<_> = found.iter().map(|(name, at)| (name.as_str(), at.received, at.sent)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn memory_that_could_be_freed_is_not_used_and_half_an_answer_is_none() {
        for (meminfo, expected) in [
            ("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:  40 kB\n", Some((60, 100))),
            ("MemTotal: 100 kB\nMemFree: 1 kB\n", None),
            ("MemTotal: 100 kB\nMemAvailable: 400 kB\n", None),
            ("", None),
        ] {
            let found = memory(meminfo).map(|memory| (memory.used / 1024, memory.total / 1024));
            assert_eq!(found, expected, "{meminfo:?}");
        }
    }

    #[test]
    fn processors_are_busy_by_what_was_not_idle_between_two_readings() {
        for (before, now, expected) in [
            // 100 ticks, of which 60 idle and 10 waiting for a disk.
            ("cpu  0 0 0 0 0 0 0 0 0 0\n", "cpu  10 5 5 60 10 4 3 3 99 99\ncpu0 1 1 1 1\n", Some(3000)),
            ("cpu  10 0 0 10\n", "cpu  20 0 0 20\n", Some(5000)),
            // Restarted, no time, no numbers.
            ("cpu  100 0 0 100\n", "cpu  1 0 0 1\n", None),
            ("cpu  1 0 0 1\n", "cpu  1 0 0 1\n", None),
            ("cpu  1 0 0 1\n", "cpu  x 0 0 1\n", None),
            ("", "cpu  1 0 0 1\n", None),
        ] {
            let found = processors(before).zip(processors(now)).and_then(|(before, now)| busy(before, now));
            assert_eq!(found, expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn the_first_sample_has_levels_and_no_rates_and_missing_files_are_gaps() {
        let mut host = Host::default();
        let [cpu, used, total, disk_used, disk_total, received, sent] = host.look(None);
        assert_eq!((cpu, received, sent, disk_used, disk_total), (None, None, None, None, None));
        assert!(used < total && used > Some(0), "{used:?} {total:?}");
        let empty = tempfile::tempdir().expect("a folder");
        assert_eq!(Reading::of(empty.path()).values(None, None), [None; 7]);
    }

    #[tokio::test]
    async fn a_disk_tells_how_full_it_is() {
        let space = Disk::default().look(Path::new("/")).await.expect("told");
        assert!(space.used <= space.total && space.total > 0, "{space:?}");
    }
}
