//! Closed loops: every client sends its next request when the last one has been answered.
//!
//! The clients of one system are one [`Fleet`], connected once; rounds of fleets alternate, so that whatever else the
//! machine does happens to all of them.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::random::Random;
use crate::system::{Failure, Freshness, Session};

/// Keys that are read and overwritten: more than fits in a processor's cache, few enough to be there soon.
pub(crate) const KEYS: u64 = 10_000;

/// Percentiles are exact to a thousandth.
const DIGITS: u8 = 3;

/// A client whose connection is gone would fail as fast as the processor can.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(1);

/// One client.
pub(crate) trait Client: Send + 'static {
    /// Sends one request and waits for the answer.
    fn step(&mut self, random: &mut Random) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What clients of a key-value store do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Write,
    Read(Freshness),
    /// Linearizable reads, and of a hundred requests this many writes.
    Mixed {
        writes_percent: u64,
    },
}

/// A client of a key-value store that works on random keys.
pub(crate) struct KeyClient<S> {
    session: S,
    work: Work,
    value: Bytes,
    key: String,
}

/// What one round has shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) answered: u64,
}

/// All clients of one system.
pub(crate) struct Fleet<C> {
    clients: Vec<(C, Random)>,
}

struct Tally {
    latency_us: Histogram<u64>,
    last: Option<Instant>,
    failure: Option<Failure>,
}

impl<S: Session> KeyClient<S> {
    pub(crate) fn new(session: S, work: Work, value: Bytes) -> KeyClient<S> {
        KeyClient { session, work, value, key: String::new() }
    }
}

impl<S: Session> Client for KeyClient<S> {
    async fn step(&mut self, random: &mut Random) -> Result<(), Failure> {
        name_key(&mut self.key, random.below(KEYS));
        let freshness = match self.work {
            Work::Write => return self.session.put(&self.key, self.value.clone()).await,
            Work::Mixed { writes_percent } if random.below(100) < writes_percent => {
                return self.session.put(&self.key, self.value.clone()).await;
            }
            Work::Mixed { .. } => Freshness::Linearizable,
            Work::Read(freshness) => freshness,
        };
        match self.session.get(&self.key, freshness).await? {
            Some(_) => Ok(()),
            None => Err(Failure::Unknown(format!("{} has no value", self.key))),
        }
    }
}

impl<C: Client> Fleet<C> {
    pub(crate) fn new(clients: Vec<C>) -> Fleet<C> {
        let seeded = |(client, seed)| (client, Random::seeded(seed));
        Fleet { clients: clients.into_iter().zip(1..).map(seeded).collect() }
    }

    /// Lets all clients work for a while. A request that fails spoils the round: it would look like a fast one.
    pub(crate) async fn round(&mut self, duration: Duration) -> Result<Round> {
        let latency_us = Histogram::new(DIGITS).context("making a histogram")?;
        let tally = Arc::new(Mutex::new(Tally { latency_us, last: None, failure: None }));
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        for (client, random) in self.clients.drain(..) {
            tasks.spawn(work(client, random, begin + duration, tally.clone()));
        }
        self.clients = tasks.join_all().await;
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &tally.failure {
            bail!("a request failed: {failure}");
        }
        let last = tally.last.context("no request was answered")?;
        let ms = |quantile| tally.latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
        Ok(Round {
            per_second: tally.latency_us.len() as f64 / (last - begin).as_secs_f64(),
            p50_ms: ms(0.50),
            p99_ms: ms(0.99),
            answered: tally.latency_us.len(),
        })
    }
}

async fn work<C: Client>(
    mut client: C,
    mut random: Random,
    until: Instant,
    tally: Arc<Mutex<Tally>>,
) -> (C, Random) {
    let mut begin = Instant::now();
    while begin < until {
        let outcome = client.step(&mut random).await;
        let end = Instant::now();
        let failed = outcome.is_err();
        {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(()) => {
                    tally.latency_us.saturating_record((end - begin).as_micros() as u64);
                    tally.last = Some(end);
                }
                Err(failure) => tally.failure = Some(failure),
            }
        }
        if failed {
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
        begin = Instant::now();
    }
    (client, random)
}

/// Writes the name of a key into a string that is used again.
pub(crate) fn name_key(name: &mut String, number: u64) {
    name.clear();
    // Writing into a string cannot fail.
    let _ = write!(name, "k{number:08}");
}

/// Writes keys `0..count` once, each with `value`, over these sessions at the same time.
pub(crate) async fn fill<S: Session>(sessions: &[S], count: u64, value: &Bytes) -> Result<()> {
    let mut tasks = JoinSet::new();
    for (at, session) in (0..).zip(sessions) {
        let (mut session, value, step) = (session.clone(), value.clone(), sessions.len());
        tasks.spawn(async move {
            let mut name = String::new();
            for number in (at..count).step_by(step) {
                name_key(&mut name, number);
                session.put(&name, value.clone()).await?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(written) = tasks.join_next().await {
        written.context("a client stopped")?.context("filling the store")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Instantly(bool);

    impl Client for Instantly {
        async fn step(&mut self, _random: &mut Random) -> Result<(), Failure> {
            tokio::task::yield_now().await;
            if self.0 { Ok(()) } else { Err(Failure::Unknown("broken".into())) }
        }
    }

    #[tokio::test]
    async fn a_round_counts_what_was_answered_and_keeps_its_clients() {
        let mut fleet = Fleet::new(vec![Instantly(true), Instantly(true)]);
        for _ in 0..2 {
            let round = fleet.round(Duration::from_millis(5)).await.expect("runs");
            assert!(round.answered >= 2 && round.per_second > 0.0, "{round:?}");
        }
        assert_eq!(fleet.clients.len(), 2);
    }

    #[tokio::test]
    async fn a_failed_request_spoils_the_round() {
        let mut fleet = Fleet::new(vec![Instantly(true), Instantly(false)]);
        let error = fleet.round(Duration::from_millis(5)).await.expect_err("is spoilt");
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
