//! Clients that go on writing while a cluster is being broken, and note when each write was acknowledged.
//!
//! They behave as a careful client should: what was refused as "not started" is repeated at once at another member,
//! what may have happened is not repeated and counts as failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::MEMBERS;
use crate::load::name_key;
use crate::system::{Clients, Failure, Session};

/// Before a refused request is repeated: a leader that is being elected is not there any sooner for being asked.
const PAUSE: Duration = Duration::from_millis(1);

/// Failures are told by example.
const FAILURES_TOLD_MAX: usize = 5;

/// Writers that run until they are stopped.
pub(crate) struct Writers {
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Seen>>,
}

/// What the writers have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When which writer's write was acknowledged.
    pub(crate) acknowledged: Vec<(Instant, usize)>,
    /// Requests whose outcome is unknown.
    pub(crate) failed: usize,
    /// Requests that were refused and repeated.
    pub(crate) refused: usize,
    /// Some of the failures.
    pub(crate) examples: Vec<String>,
}

impl Writers {
    /// Starts writers, spread over all members.
    pub(crate) fn start<C: Clients>(clients: &C, count: usize, value: &Bytes) -> Writers {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        for writer in 0..count {
            tasks.spawn(write(clients.clone(), writer, value.clone(), seen.clone()));
        }
        Writers { tasks, seen }
    }

    /// Waits until there are this many acknowledged writes.
    pub(crate) async fn acknowledged(&self, count: usize, max: Duration) -> Result<()> {
        let waiting = async {
            while self.with(|seen| seen.acknowledged.len()) < count {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let waited = tokio::time::timeout(max, waiting).await;
        waited.with_context(|| format!("{count} writes were not acknowledged within {} s", max.as_secs()))
    }

    /// Stops them and tells what they saw.
    pub(crate) async fn stop(mut self) -> Seen {
        self.tasks.shutdown().await;
        self.with(std::mem::take)
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seen {
    /// The longest time within `from..until` in which nothing was acknowledged to anybody.
    pub(crate) fn longest_silence(&self, from: Instant, until: Instant) -> Duration {
        longest_gap(self.acknowledged.iter().map(|(at, _)| *at), from, until)
    }

    /// The same for the one writer who waited longest.
    pub(crate) fn longest_wait(&self, from: Instant, until: Instant) -> Duration {
        let writers = self.acknowledged.iter().map(|(_, writer)| *writer).max().map_or(0, |most| most + 1);
        let of = |writer| {
            let own = self.acknowledged.iter().filter(move |(_, by)| *by == writer).map(|(at, _)| *at);
            longest_gap(own, from, until)
        };
        (0..writers).map(of).max().unwrap_or(until - from)
    }
}

fn longest_gap(times: impl Iterator<Item = Instant>, from: Instant, until: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last = from;
    // Each writer's are in order, and all are noted by one thread as they come.
    for at in times.filter(|at| (from..=until).contains(at)).chain([until]) {
        longest = longest.max(at.saturating_duration_since(last));
        last = at;
    }
    longest
}

async fn write<C: Clients>(clients: C, writer: usize, value: Bytes, seen: Arc<Mutex<Seen>>) {
    let mut member = writer % MEMBERS;
    let mut session: Option<C::Session> = None;
    let mut key = String::new();
    name_key(&mut key, writer as u64);
    loop {
        let outcome = match &mut session {
            Some(session) => session.put(&key, value.clone()).await,
            None => match clients.connect(member).await {
                Ok(connected) => {
                    session = Some(connected);
                    continue;
                }
                Err(error) => Err(Failure::NotStarted(format!("{error:#}"))),
            },
        };
        let acknowledged = outcome.is_ok();
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(()) => seen.acknowledged.push((Instant::now(), writer)),
                Err(Failure::NotStarted(_)) => seen.refused += 1,
                Err(Failure::Unknown(why)) => {
                    seen.failed += 1;
                    if seen.examples.len() < FAILURES_TOLD_MAX {
                        seen.examples.push(why);
                    }
                }
            }
        }
        if !acknowledged {
            session = None;
            member = (member + 1) % MEMBERS;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_lasts_until_anybody_is_answered_and_a_wait_until_one_is() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let acknowledged = vec![(at(1), 0), (at(2), 1), (at(10), 0), (at(30), 0), (at(31), 1)];
        let seen = Seen { acknowledged, ..Seen::default() };
        assert_eq!(seen.longest_silence(at(0), at(32)), Duration::from_millis(20));
        assert_eq!(seen.longest_wait(at(0), at(32)), Duration::from_millis(29));
        // What lies outside of the window is not looked at, and its ends count.
        assert_eq!(seen.longest_silence(at(11), at(26)), Duration::from_millis(15));
    }

    #[test]
    fn nobody_answered_means_silence_all_the_time() {
        let begin = Instant::now();
        let end = begin + Duration::from_millis(7);
        let seen = Seen::default();
        assert_eq!(seen.longest_silence(begin, end), Duration::from_millis(7));
        assert_eq!(seen.longest_wait(begin, end), Duration::from_millis(7));
    }
}
