//! Looks at the host and at its containers, again and again.
//!
//! It runs from the agent's start to its end, whether or not there is a link: what happened while no manager was there is what
//! people ask for afterwards.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use futures::stream::{self, StreamExt};
use skep_wire::statistics::{CONTAINERS_SAMPLED_MAX, SAMPLE_INTERVAL};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::Statistics;
use super::container::{self, Reading, Running};
use super::history::{Sample, Seen};
use super::host::{Disk, Host};
use crate::engine::Engine;
use crate::facts::milliseconds_since_1970;

/// Containers that the engine is asked about at the same time. Older engines (20.10) answer each question with their next
/// sample, up to a second later: all 200 must have been asked before the time is over.
const CONTAINERS_AT_ONCE_MAX: usize = 32;

/// Whatever has not been answered by then is a gap, so that the next sample begins in time.
const CONTAINERS_MAX: Duration = Duration::from_secs(8);

/// Samples after which the engine is asked again where it keeps its data: it may have been moved. Each asking makes the engine
/// count all its containers and images.
const DATA_ROOT_SAMPLES: u64 = 30;

/// Takes samples for ever.
pub(crate) async fn sample(statistics: Statistics, engine: Engine) {
    let mut sampler = Sampler::new(statistics, engine);
    let mut due = interval(SAMPLE_INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        due.tick().await;
        sampler.sample().await;
    }
}

struct Sampler {
    statistics: Statistics,
    engine: Engine,
    host: Host,
    disk: Disk,
    data_root: Option<PathBuf>,
    samples: u64,
    /// The readings that rates count from, by containers' ids.
    readings: HashMap<String, Reading>,
}

impl Sampler {
    fn new(statistics: Statistics, engine: Engine) -> Sampler {
        Sampler {
            statistics,
            engine,
            host: Host::default(),
            disk: Disk::default(),
            data_root: None,
            samples: 0,
            readings: HashMap::new(),
        }
    }

    async fn sample(&mut self) {
        let at_ms = milliseconds_since_1970();
        let disk = async {
            if self.samples.is_multiple_of(DATA_ROOT_SAMPLES) || self.data_root.is_none() {
                self.data_root = self.engine.ask_data_root().await.ok().or(self.data_root.take());
            }
            // A folder that was only guessed may be on another disk.
            self.disk.look(self.data_root.as_ref()?).await
        };
        let (disk, readings) = tokio::join!(disk, containers(&self.engine, &self.statistics));
        let host = self.host.look(disk);
        self.samples += 1;
        // Where the engine has not said which ones run, the next rates count from the last readings.
        let (containers, left_out) = match readings {
            Some((readings, left_out)) => (self.seen(readings), Some(left_out)),
            None => (vec![], None),
        };
        self.statistics.history().record(Sample { at_ms, host, containers, left_out });
    }

    /// Containers with what has changed since they were read before.
    fn seen(&mut self, readings: Vec<(Running, Option<Reading>)>) -> Vec<Seen> {
        let ids: HashSet<&str> = readings.iter().map(|(running, _)| running.id.as_str()).collect();
        self.readings.retain(|id, _| ids.contains(id.as_str()));
        readings.into_iter().map(|(running, reading)| self.seen_one(running, reading)).collect()
    }

    fn seen_one(&mut self, running: Running, reading: Option<Reading>) -> Seen {
        let Running { id, about } = running;
        let Some(reading) = reading else {
            return Seen { id, about, memory_limit: None, values: Default::default() };
        };
        let values = reading.values(self.readings.get(&id));
        let memory_limit = reading.memory_limit;
        self.readings.insert(id.clone(), reading);
        Seen { id, about, memory_limit, values }
    }
}

/// The readings of the containers that run, each `None` if it was not got in time, and how many more there are; `None` if the
/// engine has not said which ones run.
async fn containers(
    engine: &Engine,
    statistics: &Statistics,
) -> Option<(Vec<(Running, Option<Reading>)>, usize)> {
    let deadline = Instant::now() + CONTAINERS_MAX;
    let docker = engine.client().ok()?;
    let running = timeout_at(deadline, container::running(&docker)).await.ok()?.ok()?;
    let mut running = statistics.history().known_first(running, |container| &container.id);
    let left_out = running.len().saturating_sub(CONTAINERS_SAMPLED_MAX);
    running.truncate(CONTAINERS_SAMPLED_MAX);
    let read = |container| read(&docker, container, deadline);
    let readings = stream::iter(running).map(read).buffer_unordered(CONTAINERS_AT_ONCE_MAX).collect().await;
    Some((readings, left_out))
}

async fn read(docker: &Docker, container: Running, deadline: Instant) -> (Running, Option<Reading>) {
    let reading = timeout_at(deadline, Reading::of(docker, &container.id)).await.ok().flatten();
    (container, reading)
}
