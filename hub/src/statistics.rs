//! How busy a host and its containers were: asked of its agent, which keeps it (see `agent/src/statistics/mod.rs`).

use std::time::Duration;

use skep_wire::proto::agent::agent_reply::Reply;
use skep_wire::proto::agent::agent_request::Request;
use skep_wire::proto::agent::{self, StatisticsRequest};
use skep_wire::statistics::{CONTAINERS_SAMPLED_MAX, SAMPLES_MAX, unpacked};
use tokio::time::timeout;

use crate::Hub;
use crate::request::AskError;

/// The agent has everything at hand; at most 3 MiB are on the way, perhaps over a slow line. Below the patience of a client.
const STATISTICS_MAX: Duration = Duration::from_secs(10);

/// How busy a host and its containers were. Each series has one value for each time; `None` is a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When samples were taken, oldest first, by the host's clock: milliseconds since 1970.
    pub times_ms: Vec<i64>,
    /// The host itself.
    pub host: HostSeries,
    /// Its containers, if they were asked for; those that ended in the last hour as well.
    pub containers: Vec<ContainerSeries>,
    /// Running containers of which nothing is kept, because there are too many.
    pub containers_left_out: u32,
}

/// Values over time.
pub type Series = Vec<Option<u64>>;

/// How busy a host was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSeries {
    /// Share of all processors, in hundredths of a percent.
    pub cpu: Series,
    /// Memory in use.
    pub memory_used_bytes: Series,
    /// Memory that there is.
    pub memory_total_bytes: Series,
    /// Use of the file system with the engine's data.
    pub disk_used_bytes: Series,
    /// Its size.
    pub disk_total_bytes: Series,
    /// Received from the network in each second.
    pub received_bytes_per_second: Series,
    /// Sent to the network in each second.
    pub sent_bytes_per_second: Series,
}

/// How busy a container was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSeries {
    /// The engine's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The swarm service that it belongs to; empty if it belongs to none.
    pub service: String,
    /// The swarm task that it is; empty if it is none.
    pub task: String,
    /// The memory that it may use.
    pub memory_limit_bytes: Option<u64>,
    /// Share of one processor, in hundredths of a percent.
    pub cpu: Series,
    /// Memory in use, without cache that could be freed.
    pub memory_used_bytes: Series,
    /// Received from its networks in each second.
    pub received_bytes_per_second: Series,
    /// Sent to its networks in each second.
    pub sent_bytes_per_second: Series,
}

impl Hub {
    /// Asks a host's agent how busy the host was in the last hour.
    pub async fn statistics(&self, host: &str, request: StatisticsRequest) -> Result<Statistics, AskError> {
        let silent = AskError::Silent { seconds: STATISTICS_MAX.as_secs() };
        timeout(STATISTICS_MAX, self.ask_statistics(host, request)).await.unwrap_or(Err(silent))
    }

    async fn ask_statistics(&self, host: &str, request: StatisticsRequest) -> Result<Statistics, AskError> {
        let mut asked = self.ask(host, Request::Statistics(request)).await?;
        let Reply::HostStatistics(first) = asked.reply().await? else { return Err(AskError::OutOfPlace) };
        let mut statistics = Statistics::new(first)?;
        loop {
            match asked.reply().await? {
                Reply::ContainerStatistics(part) => statistics.add(part.containers)?,
                Reply::StatisticsEnd(_) => return Ok(statistics),
                _ => return Err(AskError::OutOfPlace),
            }
        }
    }
}

impl Statistics {
    /// An agent that sends more than agents keep, or series that do not fit together, is not believed.
    fn new(host: agent::HostStatistics) -> Result<Statistics, AskError> {
        let times_ms = times(&host.times_ms);
        let samples = times_ms.len();
        if samples > SAMPLES_MAX {
            return Err(AskError::OutOfPlace);
        }
        Ok(Statistics {
            times_ms,
            host: HostSeries {
                cpu: series(&host.cpu, samples)?,
                memory_used_bytes: series(&host.memory_used_bytes, samples)?,
                memory_total_bytes: series(&host.memory_total_bytes, samples)?,
                disk_used_bytes: series(&host.disk_used_bytes, samples)?,
                disk_total_bytes: series(&host.disk_total_bytes, samples)?,
                received_bytes_per_second: series(&host.received_bytes_per_second, samples)?,
                sent_bytes_per_second: series(&host.sent_bytes_per_second, samples)?,
            },
            containers: vec![],
            containers_left_out: host.containers_left_out,
        })
    }

    fn add(&mut self, containers: Vec<agent::ContainerSeries>) -> Result<(), AskError> {
        if containers.is_empty() || self.containers.len() + containers.len() > CONTAINERS_SAMPLED_MAX {
            return Err(AskError::OutOfPlace);
        }
        let samples = self.times_ms.len();
        for container in containers {
            self.containers.push(ContainerSeries {
                cpu: series(&container.cpu, samples)?,
                memory_used_bytes: series(&container.memory_used_bytes, samples)?,
                received_bytes_per_second: series(&container.received_bytes_per_second, samples)?,
                sent_bytes_per_second: series(&container.sent_bytes_per_second, samples)?,
                id: container.id,
                name: container.name,
                service: container.service,
                task: container.task,
                memory_limit_bytes: container.memory_limit_bytes,
            });
        }
        Ok(())
    }
}

fn times(differences: &[i64]) -> Vec<i64> {
    let add = |time: &mut i64, difference: &i64| {
        *time = time.wrapping_add(*difference);
        Some(*time)
    };
    differences.iter().scan(0, add).collect()
}

fn series(packed: &[u64], samples: usize) -> Result<Series, AskError> {
    match packed.len() == samples {
        true => Ok(packed.iter().map(|value| unpacked(*value)).collect()),
        false => Err(AskError::OutOfPlace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(times: usize, values: usize) -> agent::HostStatistics {
        let column = vec![1; values];
        agent::HostStatistics {
            times_ms: vec![10; times],
            cpu: column.clone(),
            memory_used_bytes: column.clone(),
            memory_total_bytes: column.clone(),
            disk_used_bytes: column.clone(),
            disk_total_bytes: column.clone(),
            received_bytes_per_second: vec![0; values],
            sent_bytes_per_second: column,
            containers_left_out: 4,
        }
    }

    fn container(values: usize) -> agent::ContainerSeries {
        let column = vec![1; values];
        agent::ContainerSeries {
            cpu: column.clone(),
            memory_used_bytes: column.clone(),
            received_bytes_per_second: column.clone(),
            sent_bytes_per_second: column,
            ..agent::ContainerSeries::default()
        }
    }

    #[test]
    fn what_an_agent_says_is_unpacked() {
        let mut statistics = Statistics::new(host(2, 2)).expect("it fits");
        statistics.add(vec![container(2)]).expect("it fits");
        assert_eq!((statistics.times_ms.as_slice(), statistics.containers_left_out), (&[10, 20][..], 4));
        assert_eq!(statistics.host.cpu, [Some(0), Some(0)]);
        assert_eq!(statistics.host.received_bytes_per_second, [None, None]);
        assert_eq!(statistics.containers[0].cpu, [Some(0), Some(0)]);
    }

    #[test]
    fn an_agent_that_sends_what_does_not_fit_is_not_believed() {
        let refused = |result: Result<Statistics, AskError>| matches!(result, Err(AskError::OutOfPlace));
        assert!(refused(Statistics::new(host(2, 3))));
        assert!(refused(Statistics::new(host(SAMPLES_MAX + 1, SAMPLES_MAX + 1))));
        for containers in [vec![], vec![container(1)], vec![container(2); CONTAINERS_SAMPLED_MAX + 1]] {
            let mut statistics = Statistics::new(host(2, 2)).expect("it fits");
            assert!(matches!(statistics.add(containers), Err(AskError::OutOfPlace)));
        }
    }
}
