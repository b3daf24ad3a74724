//! What the watch concludes from what it is shown, and what it writes.

use std::sync::Mutex;

use skep_model::fact::{self, Fact};
use skep_model::host::{self, Loss};
use skep_model::testing::Swarm;

use super::*;

/// Shows what it is told to show.
#[derive(Default)]
struct Shown {
    call: Mutex<RollCall>,
    look: Mutex<Look>,
}

#[async_trait]
impl Lookout for Shown {
    async fn roll_call(&self) -> RollCall {
        self.call.lock().expect("not poisoned").clone()
    }
    async fn look(&self, _: &View, _: &EnvironmentId, _: Term) -> Look {
        self.look.lock().expect("not poisoned").clone()
    }
    async fn stirred(&self, _: &View, _: &EnvironmentId, _: Term) {
        std::future::pending().await
    }
}

/// A swarm of three managers, and whoever watches it.
struct Site {
    swarm: Swarm,
    shown: Arc<Shown>,
    watcher: Arc<Watcher>,
}

impl Site {
    async fn new() -> Site {
        let swarm = Swarm::of(3, 0).await;
        let shown = Arc::new(Shown::default());
        let watcher = Arc::new(Watcher::new(swarm.ledger.clone(), shown.clone(), swarm.ledger.term()));
        let site = Site { swarm, shown, watcher };
        site.show_held(&["s", "s", "s"]);
        site.show(vec![Finding::Swarm("swarm".into(), site.swarm.members(3))], false);
        site
    }

    /// The sessions in which the agents are held; none is held in session "".
    fn show_held(&self, sessions: &[&str]) {
        let held = self.swarm.hosts.iter().zip(sessions).filter(|(_, session)| !session.is_empty());
        let held = held.map(|(host, session)| (host.to_string(), (*session).to_owned())).collect();
        *self.shown.call.lock().expect("not poisoned") = RollCall { held, incomplete: false };
    }

    fn show(&self, findings: Vec<Finding>, leaderless: bool) {
        *self.shown.look.lock().expect("not poisoned") = Look { findings, leaderless };
    }

    async fn look(&self, leaderless: &mut u32) -> bool {
        let look = self.watcher.look(&self.swarm.ledger.view(), &self.swarm.environment, leaderless).await;
        look.expect("reads").expect("the environment is there")
    }

    fn host(&self, number: usize) -> Host {
        let id = self.swarm.hosts[number].as_str();
        self.swarm
            .ledger
            .view()
            .get::<Host>(self.swarm.environment.as_str(), id)
            .expect("reads")
            .expect("is there")
            .record
    }

    fn state(&self) -> (&'static str, String) {
        let view = self.swarm.ledger.view();
        let hosts = view.list::<Host>(self.swarm.environment.as_str()).expect("reads");
        let environment = view.get::<Environment>(CLUSTER, self.swarm.environment.as_str()).expect("reads");
        environment.expect("is there").state(&hosts)
    }

    async fn rule(&self, rule: impl Fn(&mut Tx<'_>) -> Ruling<()> + Send + Sync) {
        transact(&*self.swarm.ledger, Request::new(), |tx| rule(tx)).await.expect("commits");
    }
}

/// The manager that held the connection would have written that it ended, had it not died with the agent.
#[tokio::test]
async fn an_agent_that_died_together_with_its_manager_becomes_unreachable_and_heals() {
    let site = Site::new().await;
    let mut absences = Absences::default();
    site.show_held(&["s", "", "s"]);
    for _ in 1..roll_call::MISSED_CALLS_MAX {
        site.watcher.call_roll(&mut absences).await;
        assert_eq!(site.host(1).state().word, "active", "not before it was missed often enough");
    }
    site.watcher.call_roll(&mut absences).await;
    let state = site.host(1).state();
    assert_eq!(state.word, "unreachable");
    assert!(state.why.starts_with("the agent has not been heard since"), "{}", state.why);
    assert_eq!(site.host(0).state().word, "active");

    let id = site.swarm.hosts[1].clone();
    site.rule(|tx| host::reported(tx, id.as_str(), "m2", "s2", None, Ok(()))).await;
    site.show_held(&["s", "s2", "s"]);
    for _ in 0..=roll_call::MISSED_CALLS_MAX {
        site.watcher.call_roll(&mut absences).await;
    }
    assert_eq!(site.host(1).state().word, "active");
}

#[tokio::test]
async fn an_agent_that_comes_back_in_time_was_never_away_and_is_counted_anew() {
    let site = Site::new().await;
    let mut absences = Absences::default();
    for _ in 0..3 {
        site.show_held(&["", "s", "s"]);
        for _ in 1..roll_call::MISSED_CALLS_MAX {
            site.watcher.call_roll(&mut absences).await;
        }
        site.show_held(&["s", "s", "s"]);
        site.watcher.call_roll(&mut absences).await;
    }
    assert!(site.host(0).agent.connected);
}

#[tokio::test]
async fn nothing_is_concluded_while_a_manager_does_not_know_the_question_or_by_a_leader_of_the_past() {
    let site = Site::new().await;
    let mut absences = Absences::default();
    let none = |incomplete| RollCall { held: Default::default(), incomplete };
    *site.shown.call.lock().expect("not poisoned") = none(true);
    for _ in 0..2 * roll_call::MISSED_CALLS_MAX {
        site.watcher.call_roll(&mut absences).await;
    }
    assert!(site.host(0).agent.connected, "an old manager may hold it");

    *site.shown.call.lock().expect("not poisoned") = none(false);
    site.swarm.ledger.next_term();
    for _ in 0..2 * roll_call::MISSED_CALLS_MAX {
        site.watcher.call_roll(&mut absences).await;
    }
    assert!(site.host(0).agent.connected, "somebody else leads");
}

#[tokio::test]
async fn only_news_are_written() {
    let site = Site::new().await;
    assert!(site.look(&mut 0).await, "all is well");
    let before = site.swarm.ledger.view().revision();
    site.look(&mut 0).await;
    assert_eq!(site.swarm.ledger.view().revision(), before);

    let mut seen = site.swarm.members(3);
    seen[2].1.ready = false;
    site.show(vec![Finding::Swarm("swarm".into(), seen)], false);
    assert!(!site.look(&mut 0).await, "a node is down, so it is looked at again soon");
    assert_eq!(site.host(2).state().word, "swarm-down");
    assert_eq!(site.state().0, "degraded");
    site.show(vec![Finding::Swarm("swarm".into(), site.swarm.members(3))], false);
    assert!(site.look(&mut 0).await);
    assert_eq!(site.state(), ("active", "3 of 3 hosts active".into()));
}

#[tokio::test]
async fn a_swarm_without_a_leader_and_without_a_majority_has_lost_its_quorum_until_it_is_seen_again() {
    let site = Site::new().await;
    let (second, third) = (site.swarm.hosts[1].clone(), site.swarm.hosts[2].clone());
    site.rule(|tx| {
        host::disconnected(tx, second.as_str(), "s")?;
        host::disconnected(tx, third.as_str(), "s")
    })
    .await;
    site.show(vec![], true);
    site.look(&mut 0).await;
    let (word, why) = site.state();
    assert_eq!(word, "degraded");
    let begins = "the swarm has lost its quorum: 1 of 3 swarm managers can be reached; since";
    assert!(why.starts_with(begins), "{why}");
    assert!(why.contains("bring prod-2, prod-3 back"), "{why}");

    site.show(vec![Finding::Swarm("swarm".into(), site.swarm.members(3))], false);
    site.look(&mut 0).await;
    assert!(!site.state().1.contains("quorum"), "{}", site.state().1);
}

#[tokio::test]
async fn an_election_of_the_swarm_is_no_lost_quorum_unless_it_does_not_end() {
    let site = Site::new().await;
    site.show(vec![], true);
    let mut leaderless = 0;
    for _ in 1..quorum::LEADERLESS_LOOKS_MAX {
        site.look(&mut leaderless).await;
        assert_eq!(site.state().0, "active");
    }
    site.look(&mut leaderless).await;
    assert!(site.state().1.starts_with("the swarm has lost its quorum: 3 of 3"), "{}", site.state().1);
}

/// Each is a whole record, and a transaction has bounds.
#[tokio::test]
async fn the_loss_of_thousands_of_agents_is_written_in_parts() {
    let swarm = Swarm::of(3, 897).await;
    let shown = Arc::new(Shown::default());
    let watcher = Watcher::new(swarm.ledger.clone(), shown, swarm.ledger.term());
    let before = swarm.ledger.view().revision();
    let mut absences = Absences::default();
    for _ in 0..roll_call::MISSED_CALLS_MAX {
        watcher.call_roll(&mut absences).await;
    }
    let view = swarm.ledger.view();
    let hosts = view.list_all::<Host>().expect("reads");
    assert_eq!(
        hosts.iter().filter(|host| !host.agent.connected).count(),
        900,
        "all of them are written down"
    );
    let mut written: Vec<u64> = hosts.iter().map(|host| host.revision).collect();
    written.sort_unstable();
    written.dedup();
    assert_eq!(written.len(), 900_usize.div_ceil(UNHELD_AT_ONCE_MAX), "{written:?}");
    assert!(written.iter().all(|revision| *revision > before));
    for revision in written {
        let together = hosts.iter().filter(|host| host.revision == revision).count();
        assert!(together <= UNHELD_AT_ONCE_MAX, "{together} in one transaction");
    }
}

/// A look takes seconds; an operation can change what it sees.
#[tokio::test]
async fn what_was_changed_after_the_look_began_is_left_alone() {
    let site = Site::new().await;
    let began = site.swarm.ledger.view();
    let (first, environment) = (site.swarm.hosts[0].clone(), site.swarm.environment.clone());
    site.rule(|tx| fact::record(tx, &Fact::LeftSwarm(environment.clone(), first.clone()))).await;
    site.watcher.look(&began, &site.swarm.environment, &mut 0).await.expect("reads");
    assert_eq!(site.host(0).membership, None, "the operation knows better than the older look");
    assert!(site.host(1).membership.is_some());
}

#[tokio::test]
async fn another_swarm_says_nothing_about_ours() {
    let site = Site::new().await;
    site.show(vec![Finding::Swarm("another".into(), vec![])], false);
    site.look(&mut 0).await;
    assert!(site.host(0).membership.is_some());
}

#[tokio::test]
async fn the_driver_is_believed_about_a_silent_host_until_its_agent_speaks() {
    let site = Site::new().await;
    let first = site.swarm.hosts[0].clone();
    let lost = vec![Finding::Machine(first.clone(), Some(Loss::Stopped))];
    site.show(lost, false);
    site.look(&mut 0).await;
    assert_eq!(site.host(0).state().word, "active", "whoever speaks has a machine");
    site.rule(|tx| host::disconnected(tx, first.as_str(), "s")).await;
    site.look(&mut 0).await;
    let state = site.host(0).state();
    assert_eq!(state.word, "failed");
    assert!(state.why.starts_with("machine is stopped"), "{}", state.why);
    site.rule(|tx| host::reported(tx, first.as_str(), "m2", "s2", None, Ok(()))).await;
    assert_eq!(site.host(0).state().word, "active");
}

#[tokio::test]
async fn the_watch_begins_when_this_manager_leads() {
    let site = Site::new().await;
    let mut seen = site.swarm.members(3);
    seen[2].1.ready = false;
    site.show(vec![Finding::Swarm("swarm".into(), seen)], false);
    let (leads, leadership) = watch::channel(None);
    let watching = tokio::spawn(run(site.swarm.ledger.clone(), site.shown.clone(), leadership));
    let mut changes = site.swarm.ledger.feed().latest();
    changes.mark_unchanged();
    leads.send_replace(Some(site.swarm.ledger.term()));
    let changed = tokio::time::timeout(Duration::from_secs(20), changes.changed()).await;
    changed.expect("something is written").expect("the ledger lives");
    assert_eq!(site.host(2).state().word, "swarm-down");
    watching.abort();
}
