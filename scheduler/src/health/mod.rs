//! Keeps what is known of hosts, swarms and stacks true while nothing is going on.
//!
//! ```text
//!   every 5 s    roll call of all managers: which agents are connected?   ─► connections that nobody holds end
//!   every 30 s   per environment: nodes, services, tasks, silent machines ─► findings, written if they are news
//!                (sooner when the swarm or a host stirs, every 5 s while something is not as it should be)
//! ```
//! Awake only on the leader, and fenced by its term, like the engine. What to conclude is decided by pure functions
//! ([`roll_call`], [`quorum`], and the rules in `skep_model::health`); here is only when to look.

mod quorum;
mod roll_call;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skep_hub::RollCall;
use skep_ledger::{
    Filter, Ledger, Record, Request, Stored, Term, Topic, TransactError, Tx, View, decide, transact,
};
use skep_model::environment::Environment;
use skep_model::health::{self, Finding};
use skep_model::host::Host;
use skep_model::ids::EnvironmentId;
use skep_model::stack::Stack;
use skep_model::{CLUSTER, Refusal, Ruling};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use roll_call::Absences;

/// Between two roll calls: as often as agents report.
const ROLL_CALL_EVERY: Duration = Duration::from_secs(5);

/// Between two looks at an environment in which everything is as it should be and nothing stirs.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Between two looks at an environment in which something is not as it should be: people wait for it.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(5);

/// After something has stirred, so that a hundred events at once are one look.
const STIR_PAUSE: Duration = Duration::from_secs(1);

/// Environments that are looked at at the same time. A hung engine keeps a place for as long as a look may take.
const LOOKS_AT_ONCE_MAX: usize = 16;

/// Environments come and go rarely, and their first look is in no hurry.
const ENVIRONMENTS_EVERY: Duration = Duration::from_secs(2);

/// Lost agents that are written down in one transaction: each is a whole record, and a transaction has bounds.
const UNHELD_AT_ONCE_MAX: usize = 500;

/// Sees how things are, without changing any.
#[async_trait]
pub trait Lookout: Send + Sync + 'static {
    /// Which agents are connected to which manager?
    async fn roll_call(&self) -> RollCall;

    /// How are the swarm, the stacks and the silent machines of an environment?
    async fn look(&self, view: &View, environment: &EnvironmentId, term: Term) -> Look;

    /// Comes back when something has changed in the swarm of an environment; never, if nobody would tell.
    async fn stirred(&self, view: &View, environment: &EnvironmentId, term: Term);
}

/// What one look has brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    /// What was found.
    pub findings: Vec<Finding>,
    /// The swarm's managers were asked and have no leader.
    pub leaderless: bool,
}

/// Keeps watch whenever this manager leads, until the sender of `leadership` is gone.
pub async fn run(
    ledger: Arc<dyn Ledger>,
    lookout: Arc<dyn Lookout>,
    mut leadership: watch::Receiver<Option<Term>>,
) {
    loop {
        let term = *leadership.borrow_and_update();
        let watching = async {
            match term {
                Some(term) => Arc::new(Watcher::new(ledger.clone(), lookout.clone(), term)).watch().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = watching => {}
            changed = leadership.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// The watch during one term.
struct Watcher {
    ledger: Arc<dyn Ledger>,
    lookout: Arc<dyn Lookout>,
    term: Term,
    places: Semaphore,
}

impl Watcher {
    fn new(ledger: Arc<dyn Ledger>, lookout: Arc<dyn Lookout>, term: Term) -> Watcher {
        Watcher { ledger, lookout, term, places: Semaphore::new(LOOKS_AT_ONCE_MAX) }
    }

    async fn watch(self: Arc<Watcher>) {
        tokio::join!(self.call_rolls(), self.clone().watch_environments());
    }

    async fn call_rolls(&self) {
        let mut absences = Absences::default();
        loop {
            tokio::time::sleep(ROLL_CALL_EVERY).await;
            self.call_roll(&mut absences).await;
        }
    }

    async fn call_roll(&self, absences: &mut Absences) {
        let call = self.lookout.roll_call().await;
        let hosts = match self.ledger.view().list_all::<Host>() {
            Ok(hosts) => hosts,
            Err(error) => return tracing::error!(%error, "the hosts could not be read for a roll call"),
        };
        let gone = absences.after(hosts.iter().map(|host| &host.record), &call);
        for agent in &gone {
            tracing::warn!(host.id = agent.host, "no manager holds the connection of an agent any more");
        }
        for some in gone.chunks(UNHELD_AT_ONCE_MAX) {
            self.write(|tx| health::record_unheld(tx, some)).await;
        }
    }

    /// One task for each environment; dropping this future ends them all.
    async fn watch_environments(self: Arc<Watcher>) {
        let mut tasks = JoinSet::new();
        let mut watched = BTreeSet::new();
        loop {
            let environments = self.ledger.view().list::<Environment>(CLUSTER).unwrap_or_default();
            for environment in environments {
                if watched.insert(environment.id.clone()) {
                    tasks.spawn(self.clone().watch_environment(environment.id.clone()));
                }
            }
            while let Some(ended) = tasks.try_join_next() {
                match ended {
                    Ok(id) => {
                        watched.remove(&id);
                    }
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => {
                        // Whose it was is not known; all of them begin anew.
                        tracing::error!(%error, "looking at an environment ended badly");
                        tasks.abort_all();
                        watched.clear();
                    }
                }
            }
            tokio::time::sleep(ENVIRONMENTS_EVERY).await;
        }
    }

    /// Looks at one environment until it is gone.
    async fn watch_environment(self: Arc<Watcher>, id: EnvironmentId) -> EnvironmentId {
        let mut leaderless = 0;
        let gone = id.clone();
        loop {
            let view = self.ledger.view();
            // Listened to while looking, so that what happens during the look leads to the next one.
            let (lookout, before, place, term) = (self.lookout.clone(), view.clone(), id.clone(), self.term);
            let stirred = async move { lookout.stirred(&before, &place, term).await };
            let mut stirred = AbortOnDropHandle::new(tokio::spawn(stirred));
            let Ok(Some(settled)) = self.look(&view, &id, &mut leaderless).await else {
                return gone;
            };
            let hosts = Filter::of([Topic::partition(Host::TABLE, id.as_str())]);
            let mut changes = self.ledger.feed().watch_matching(self.ledger.view().revision(), hosts);
            let pause = if settled { LOOK_EVERY } else { LOOK_AGAIN_EVERY };
            tokio::select! {
                _ = &mut stirred => tokio::time::sleep(STIR_PAUSE).await,
                _ = changes.next() => tokio::time::sleep(STIR_PAUSE).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks once and writes what is news. Says whether everything is as it should be; nothing, if the environment is
    /// gone.
    async fn look(&self, view: &View, id: &EnvironmentId, leaderless: &mut u32) -> Ruling<Option<bool>> {
        let Some(environment) = view.get::<Environment>(CLUSTER, id.as_str())? else {
            return Ok(None);
        };
        // Before there is a swarm, and once it goes, operations know best.
        if environment.swarm.is_none() || environment.removal.is_some() {
            return Ok(Some(true));
        }
        let mut look = {
            let _place = self.places.acquire().await;
            self.lookout.look(view, id, self.term).await
        };
        *leaderless = if look.leaderless { *leaderless + 1 } else { 0 };
        let hosts = view.list::<Host>(id.as_str())?;
        if quorum::is_lost(hosts.iter().map(|host| &host.record), *leaderless) {
            look.findings.push(Finding::QuorumLost);
        }
        self.write(|tx| health::record(tx, id, view.revision(), &look.findings)).await;
        settled(&self.ledger.view(), id)
    }

    /// Writes if there is anything to write. What could not be written is found again by the next look.
    async fn write(&self, rule: impl Fn(&mut Tx<'_>) -> Ruling<()> + Send + Sync) {
        match decide(&self.ledger.view(), self.ledger.now(), |tx| rule(tx)) {
            Ok(None) => return,
            Ok(Some(_)) => {}
            Err(refusal) => return tracing::error!(%refusal, "what was found was refused"),
        }
        match transact(&*self.ledger, Request::fenced(self.term), |tx| rule(tx)).await {
            Ok(_) => {}
            Err(TransactError::Fenced(term)) => tracing::info!(term, "somebody else leads and looks"),
            Err(error) => tracing::info!(%error, "what was found is not written down yet"),
        }
    }
}

/// Is everything in the environment as it should be? Nothing, if it is gone.
fn settled(view: &View, id: &EnvironmentId) -> Result<Option<bool>, Refusal> {
    let Some(environment) = view.get::<Environment>(CLUSTER, id.as_str())? else {
        return Ok(None);
    };
    let hosts: Vec<Stored<Host>> = view.list(id.as_str())?;
    let stacks: Vec<Stored<Stack>> = view.list(id.as_str())?;
    let well =
        environment.state(&hosts).0 == "active" && stacks.iter().all(|stack| stack.state().0 == "active");
    Ok(Some(well))
}

#[cfg(test)]
mod tests;
