//! What both systems can do: the face that every scenario drives, so that none can treat them differently.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use crate::process::{LOOK, Launch, Process};

/// Whatever is waited for comes within this time or not at all.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// One question while waiting: a member that is starting may accept a connection and not answer.
const ASK_MAX: Duration = Duration::from_secs(1);

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    Linearizable,
    Stale,
}

/// A request that was not answered with "done".
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// Nothing has happened: it may be repeated.
    NotStarted(String),
    /// It may have happened.
    Unknown(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotStarted(why) => write!(text, "not started: {why}"),
            Failure::Unknown(why) => write!(text, "outcome unknown: {why}"),
        }
    }
}

impl std::error::Error for Failure {}

/// A client's connection to one member; clones share it.
pub(crate) trait Session: Clone + Send + 'static {
    /// Writes a key; durable on a quorum when answered.
    fn put(&mut self, key: &str, value: Bytes) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Reads a key.
    fn get(
        &mut self,
        key: &str,
        freshness: Freshness,
    ) -> impl Future<Output = Result<Option<Bytes>, Failure>> + Send;
}

/// How clients reach a system; clones share it.
pub(crate) trait Clients: Clone + Send + 'static {
    type Session: Session;

    /// For tables.
    const NAME: &'static str;

    /// A client of that member.
    fn connect(&self, member: usize) -> impl Future<Output = Result<Self::Session>> + Send;

    /// Does that member lead, as far as it knows?
    fn leads(&self, member: usize) -> impl Future<Output = Result<bool>> + Send;
}

/// A cluster of one of the systems.
pub(crate) struct Cluster<C> {
    pub(crate) members: Members,
    pub(crate) clients: C,
}

/// The processes of a cluster.
pub(crate) struct Members {
    launches: Vec<Launch>,
    running: Vec<Option<Process>>,
}

impl Members {
    /// Nothing is started yet.
    pub(crate) fn new(launches: Vec<Launch>) -> Members {
        let running = launches.iter().map(|_| None).collect();
        Members { launches, running }
    }

    /// Starts a member.
    pub(crate) fn start(&mut self, member: usize) -> Result<()> {
        self.running[member] = Some(self.launches[member].start()?);
        Ok(())
    }

    /// Starts all of them.
    pub(crate) fn start_all(&mut self) -> Result<()> {
        (0..self.count()).try_for_each(|member| self.start(member))
    }

    /// Ends a member without a warning.
    pub(crate) fn kill(&mut self, member: usize) {
        self.running[member] = None;
    }

    /// Ends all of them without a warning, all before any is waited for.
    pub(crate) fn kill_all(&mut self) -> Result<()> {
        self.running.iter().flatten().try_for_each(|process| process.signal(Signal::SIGKILL))?;
        self.running.fill_with(|| None);
        Ok(())
    }

    /// How many there are, running or not.
    pub(crate) fn count(&self) -> usize {
        self.launches.len()
    }

    /// Those that were started and not ended by us.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.count()).filter(|member| self.running[*member].is_some()).collect()
    }

    /// The process of a member that runs.
    pub(crate) fn process(&self, member: usize) -> Result<&Process> {
        let running = self.running[member].as_ref();
        running.with_context(|| format!("{} is not running", self.launches[member].name))
    }

    /// The process of a member that runs.
    pub(crate) fn process_mut(&mut self, member: usize) -> Result<&mut Process> {
        let running = self.running[member].as_mut();
        running.with_context(|| format!("{} is not running", self.launches[member].name))
    }

    fn must_run(&mut self) -> Result<()> {
        self.running.iter_mut().flatten().try_for_each(Process::must_run)
    }
}

impl<C: Clients> Cluster<C> {
    /// Waits until exactly one running member says that it leads.
    pub(crate) async fn leader(&mut self) -> Result<usize> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            self.members.must_run()?;
            let mut leaders = vec![];
            for member in self.members.running() {
                if let Ok(Ok(true)) = timeout(ASK_MAX, self.clients.leads(member)).await {
                    leaders.push(member);
                }
            }
            if let [leader] = leaders[..] {
                return Ok(leader);
            }
            if Instant::now() > deadline {
                bail!("{}: no leader within {} s", C::NAME, WAIT_MAX.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a member answers a linearizable read.
    pub(crate) async fn serving(&mut self, member: usize) -> Result<()> {
        self.answered(member, "a linearizable read", serves).await
    }

    /// Waits until a member has applied a key with that value, by its own copy.
    pub(crate) async fn has_applied(&mut self, member: usize, key: &str, value: &Bytes) -> Result<()> {
        let ask = |session| applied(session, key.to_owned(), value.clone());
        self.answered(member, "what the others have", ask).await
    }

    /// Waits until all that run have a leader and have applied everything that was acknowledged before. Says who leads.
    pub(crate) async fn settled(&mut self) -> Result<usize> {
        let mark = Bytes::from(format!("{:?}", std::time::SystemTime::now()));
        let leader = self.leader().await?;
        self.serving(leader).await?;
        self.clients.connect(leader).await?.put("settled", mark.clone()).await?;
        for member in self.members.running() {
            self.has_applied(member, "settled", &mark).await?;
            self.serving(member).await?;
        }
        self.leader().await
    }

    /// Asks a member, over a new connection after each failure, until it answers as wanted.
    async fn answered<F>(
        &mut self,
        member: usize,
        what: &str,
        mut ask: impl FnMut(C::Session) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<bool, Failure>>,
    {
        let deadline = Instant::now() + WAIT_MAX;
        let mut connected = None;
        loop {
            self.members.must_run()?;
            let session = match connected.take() {
                Some(session) => Ok(session),
                None => self.clients.connect(member).await,
            };
            let missing = match session {
                Err(error) => format!("{error:#}"),
                Ok(session) => match timeout(ASK_MAX, ask(session.clone())).await {
                    Ok(Ok(true)) => return Ok(()),
                    Ok(Ok(false)) => {
                        connected = Some(session);
                        "it is not there yet".to_owned()
                    }
                    Ok(Err(failure)) => failure.to_string(),
                    Err(_) => format!("no answer within {} s", ASK_MAX.as_secs()),
                },
            };
            if Instant::now() > deadline {
                let name = &self.members.launches[member].name;
                bail!("{name}: waited {} s for {what}: {missing}", WAIT_MAX.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn serves<S: Session>(mut session: S) -> Result<bool, Failure> {
    session.get("serving", Freshness::Linearizable).await.map(|_| true)
}

async fn applied<S: Session>(mut session: S, key: String, value: Bytes) -> Result<bool, Failure> {
    Ok(session.get(&key, Freshness::Stale).await?.as_ref() == Some(&value))
}
