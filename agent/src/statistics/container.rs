//! How busy a container is, from the engine's counters, counted as `docker stats` counts.

use std::time::Instant;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerMemoryStats, ContainerNetworkStats, ContainerStatsResponse, ContainerSummary,
};
use bollard::query_parameters::StatsOptions;
use futures::StreamExt;

use super::counters::{Interfaces, Traffic, growth, share, traffic_rate};
use super::history::{About, CONTAINER_VALUES, Values};

/// Longest name of a container or of what it belongs to; a swarm's are shorter, labels could be anything.
pub(super) const NAME_CHARS_MAX: usize = 255;

/// Docker's own labels on containers of a swarm.
const SERVICE_LABEL: &str = "com.docker.swarm.service.name";
const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// A container that runs.
pub(super) struct Running {
    pub(super) id: String,
    pub(super) about: About,
}

/// The counters of a container at one moment; what the engine does not say is absent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    at: Instant,
    /// Nanoseconds of the container, and those of all processors together.
    cpu: Option<(u64, u64)>,
    processors: u64,
    memory_used: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    interfaces: Interfaces,
}

/// The containers that run.
pub(super) async fn running(docker: &Docker) -> Result<Vec<Running>, Error> {
    Ok(docker.list_containers(None).await?.into_iter().filter_map(Running::new).collect())
}

impl Running {
    fn new(summary: ContainerSummary) -> Option<Running> {
        let label = |key: &str| summary.labels.as_ref()?.get(key).map(|value| clipped(value));
        let name = summary.names.iter().flatten().next();
        let about = About {
            name: name.map(|name| clipped(name.trim_start_matches('/'))).unwrap_or_default(),
            service: label(SERVICE_LABEL).unwrap_or_default(),
            task: label(TASK_LABEL).unwrap_or_default(),
        };
        Some(Running { id: clipped(&summary.id?), about })
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

impl Reading {
    /// Asks the engine; `None` if it does not answer with this container's counters.
    pub(super) async fn of(docker: &Docker, id: &str) -> Option<Reading> {
        // Otherwise the engine would wait for a second sample itself.
        let once = StatsOptions { stream: false, one_shot: true };
        let answers = docker.stats(id, Some(once));
        let answer = std::pin::pin!(answers).next().await?.ok()?;
        Some(Reading::new(&answer, Instant::now()))
    }

    fn new(stats: &ContainerStatsResponse, at: Instant) -> Reading {
        let cpu = stats.cpu_stats.as_ref();
        let usage = cpu.and_then(|cpu| cpu.cpu_usage.as_ref());
        // Engines before 17.04 do not tell how many processors there are, but list them.
        let listed =
            || usage.and_then(|usage| usage.percpu_usage.as_ref()).map_or(0, |listed| listed.len() as u64);
        let online = cpu.and_then(|cpu| cpu.online_cpus).map(u64::from).filter(|online| *online > 0);
        let interfaces = stats.networks.iter().flatten();
        Reading {
            at,
            cpu: usage.and_then(|usage| usage.total_usage).zip(cpu.and_then(|cpu| cpu.system_cpu_usage)),
            processors: online.unwrap_or_else(listed),
            memory_used: stats.memory_stats.as_ref().and_then(memory_used),
            memory_limit: stats.memory_stats.as_ref().and_then(|memory| memory.limit),
            interfaces: interfaces
                .filter_map(|(name, counters)| Some((name.clone(), traffic(counters)?)))
                .collect(),
        }
    }

    /// The values at this moment, in the order of [`CONTAINER_VALUES`].
    pub(super) fn values(&self, before: Option<&Reading>) -> Values<CONTAINER_VALUES> {
        let cpu = before.and_then(|before| self.busy(before));
        let traffic = before.and_then(|before| {
            let elapsed = self.at.saturating_duration_since(before.at);
            traffic_rate(&before.interfaces, &self.interfaces, elapsed)
        });
        [cpu, self.memory_used, traffic.map(|traffic| traffic.received), traffic.map(|traffic| traffic.sent)]
    }

    /// One busy processor is 100 %.
    fn busy(&self, before: &Reading) -> Option<u64> {
        let ((own_before, all_before), (own, all)) = (before.cpu?, self.cpu?);
        if self.processors == 0 {
            return None;
        }
        share(growth(own_before, own)?, growth(all_before, all)?, self.processors)
    }
}

/// Without file cache that could be freed at once; it has one name in each version of control groups.
fn memory_used(memory: &ContainerMemoryStats) -> Option<u64> {
    let usage = memory.usage?;
    let named = |name: &str| memory.stats.as_ref()?.get(name).copied().filter(|cache| *cache < usage);
    let cache = named("total_inactive_file").or_else(|| named("inactive_file"));
    Some(usage - cache.unwrap_or_default())
}

fn traffic(counters: &ContainerNetworkStats) -> Option<Traffic> {
    Some(Traffic { received: counters.rx_bytes?, sent: counters.tx_bytes? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn reading(stats: Value, at: Instant) -> Reading {
        Reading::new(&serde_json::from_value(stats).expect("counters"), at)
    }

    fn stats(own: u64, all: u64, received: u64) -> Value {
        json!({"cpu_stats": {"cpu_usage": {"total_usage": own}, "system_cpu_usage": all, "online_cpus": 4},
               "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"inactive_file": 300}},
               "networks": {"eth0": {"rx_bytes": received, "tx_bytes": 50}, "eth1": {"rx_bytes": 0, "tx_bytes": 0}}})
    }

    #[test]
    fn values_are_counted_as_docker_stats_counts_them() {
        let start = Instant::now();
        let first = reading(stats(1_000, 100_000, 0), start);
        assert_eq!(first.values(None), [None, Some(700), None, None], "no rate without a reading before");
        assert_eq!(first.memory_limit, Some(4000));
        // A tenth of four processors' time: 40 %.
        let second = reading(stats(2_000, 110_000, 5_000), start + Duration::from_secs(10));
        assert_eq!(second.values(Some(&first)), [Some(4_000), Some(700), Some(500), Some(0)]);
        let restarted = reading(stats(10, 120_000, 10), start + Duration::from_secs(20));
        assert_eq!(restarted.values(Some(&second)), [None, Some(700), None, None]);
    }

    #[test]
    fn what_the_engine_does_not_say_is_a_gap() {
        let start = Instant::now();
        // As a container answers that has just ended, or has no network of its own.
        let ended = json!({"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}});
        let (before, now) = (reading(stats(0, 0, 0), start), reading(ended, start + Duration::from_secs(10)));
        assert_eq!(now.values(Some(&before)), [None; 4]);
        assert_eq!(reading(json!({}), start).values(Some(&before)), [None; 4]);
    }

    #[test]
    fn the_cache_has_one_name_in_each_version_of_control_groups() {
        for (stats, expected) in [
            (json!({"total_inactive_file": 100, "inactive_file": 1}), 900),
            (json!({"inactive_file": 300}), 700),
            (json!({"inactive_file": 5000}), 1000),
            (json!(null), 1000),
        ] {
            let memory = json!({"usage": 1000, "stats": stats});
            let memory: ContainerMemoryStats = serde_json::from_value(memory).expect("counters");
            assert_eq!(memory_used(&memory), Some(expected));
        }
    }

    #[test]
    fn a_container_is_known_by_its_name_and_by_what_it_belongs_to() {
        let summary = json!({"Id": "c1", "Names": ["/shop_web.1.abc"],
            "Labels": {SERVICE_LABEL: "shop_web", TASK_LABEL: "t1", "other": "x".repeat(9)}});
        let running = Running::new(serde_json::from_value(summary).expect("a container")).expect("an id");
        let about = About { name: "shop_web.1.abc".into(), service: "shop_web".into(), task: "t1".into() };
        assert_eq!((running.id.as_str(), running.about), ("c1", about));
        let bare = json!({"Id": "c2", "Names": ["x".repeat(1000)]});
        let bare = Running::new(serde_json::from_value(bare).expect("a container")).expect("an id");
        assert_eq!((bare.about.name.len(), bare.about.service.as_str()), (NAME_CHARS_MAX, ""));
    }
}
