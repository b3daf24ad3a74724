//! What managers do about each other without being asked: let learners vote once they have caught up, complete what
//! was interrupted, remove the dead if that is wished, notice that they were removed themselves, renew certificates.
//!
//! One loop that looks again and again; nothing is remembered that could not be found out anew, except since when
//! somebody has been dead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use skep_hub::Hub;
use skep_ledger::{Request, transact};
use skep_model::host;
use skep_model::manager::{self, Manager, ManagerRole, Standing};
use skep_model::sans;
use skep_raft::ChangeError;
use skep_wire::SILENCE_MAX;
use skep_wire::proto::peer::Empty;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::admission::REMOVED_MARK;
use crate::config::{Founder, save_known_members};
use crate::members::Members;
use crate::solitude::Solitude;

/// Between two looks. A learner waits that long, and two looks must agree about it.
const LOOK: Duration = Duration::from_millis(500);

/// Looks after which the slow part is done: everything that asks the other managers or reads certificates.
const SLOW_LOOKS: u32 = 6;

/// A manager that does not say by then whether one belongs to it is asked again later.
const BELONGS_MAX: Duration = Duration::from_millis(500);

/// A quorum that has not answered by then is not there.
const QUORUM_MAX: Duration = Duration::from_secs(2);

/// Runs until the process ends.
pub(crate) async fn run(members: Arc<Members>, hub: Hub) {
    let mut caretaker = Caretaker {
        members,
        hub,
        ready: BTreeSet::new(),
        dead_since: BTreeMap::new(),
        leads: false,
        solitude: Solitude::default(),
    };
    let mut looks = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        looks = (looks + 1) % SLOW_LOOKS;
        caretaker.look(looks == 0).await;
    }
}

/// Tells everybody in this process who the managers are, whenever that changes.
pub(crate) async fn follow_membership(members: Arc<Members>, managers: watch::Sender<Vec<String>>) {
    let mut membership = members.replica.membership();
    loop {
        let now = membership.borrow_and_update().clone();
        // Before anything is known, the founders or whoever was asked to join are the best guess.
        if !now.is_empty() {
            for (number, member) in now.iter().filter(|(number, _)| **number != members.config.node) {
                members.channels.set(*number, member.node.peer_address.clone());
            }
            for gone in members.channels.nodes().iter().filter(|number| !now.contains_key(number)) {
                members.channels.remove(*gone);
            }
            managers.send_replace(now.values().map(|member| member.node.peer_address.clone()).collect());
            let known = now.iter().map(|(number, member)| Founder {
                id: *number,
                name: member.node.name.clone(),
                peer_address: member.node.peer_address.clone(),
                api_url: member.node.api_url.clone(),
            });
            if let Err(error) = save_known_members(&members.data, known.collect()) {
                tracing::warn!(error = format!("{error:#}"), "the known managers could not be kept");
            }
        }
        if membership.changed().await.is_err() {
            return;
        }
    }
}

struct Caretaker {
    members: Arc<Members>,
    hub: Hub,
    /// Learners that had caught up at the last look.
    ready: BTreeSet<u64>,
    /// Voters that do not answer, and since when; only while this manager leads.
    dead_since: BTreeMap<u64, Instant>,
    leads: bool,
    solitude: Solitude,
}

impl Caretaker {
    async fn look(&mut self, slow: bool) {
        let rows = manager::list(&self.members.ledger.view()).unwrap_or_default();
        self.turn_away(&rows);
        if slow {
            self.look_slowly().await;
        }
        let leads = self.members.replica.is_leader();
        if !leads || !self.leads {
            self.leads = leads;
            self.ready.clear();
            self.dead_since.clear();
            return;
        }
        if self.members.is_draining() {
            self.hand_over().await;
        }
        // Somebody else is changing the members: they will look different afterwards.
        let members = self.members.clone();
        let Ok(_one_at_a_time) = members.changing.try_lock() else { return };
        let mut done = self.note_founders(&rows).await;
        if done.is_ok() && slow {
            done = self.note_sans().await;
        }
        if done.is_ok() {
            done = members.replica.settle().await;
        }
        if done.is_ok() {
            done = self.complete_removals(&rows).await;
        }
        if done.is_ok() {
            done = self.promote(&rows).await;
        }
        if done.is_ok() && slow {
            done = self.remove_dead().await;
        }
        if let Err(error) = done {
            tracing::info!(%error, "the managers' membership is not as it should be yet");
        }
    }

    async fn look_slowly(&mut self) {
        // Also while a leader is known: a replica believes in the last one for as long as it hears of no other, and one
        // that was removed while it was away never does.
        if !self.members.replica.is_leader() && self.is_told_off().await {
            self.members.expelled.send_replace(true);
        }
        if let Err(error) = self.renew().await {
            tracing::error!(error = format!("{error:#}"), "this manager's certificate could not be renewed");
        }
        self.disconnect_removed_hosts();
        self.part_with_agents_if_alone().await;
    }

    /// Numbers that were removed and are out. One that is still in counts until its removal is agreed on: the quorum
    /// may need it for that.
    fn turn_away(&self, rows: &[Manager]) {
        let present = self.members.replica.members_now();
        let removed = rows.iter().filter(|row| row.standing == Standing::Removed).map(|row| row.number);
        let out: BTreeSet<u64> = removed.filter(|number| !present.contains_key(number)).collect();
        if out.contains(&self.members.config.node) && !present.is_empty() {
            self.members.expelled.send_replace(true);
        }
        self.members.outcasts.send_if_modified(|known| std::mem::replace(known, out.clone()) != out);
    }

    /// Does any manager say that this one was removed?
    async fn is_told_off(&self) -> bool {
        for node in self.members.channels.nodes() {
            let Ok(mut client) = self.members.client(node) else { continue };
            if let Ok(Err(status)) = timeout(BELONGS_MAX, client.belongs(Empty {})).await
                && status.metadata().contains_key(REMOVED_MARK)
            {
                return true;
            }
        }
        false
    }

    async fn renew(&self) -> Result<()> {
        let due = self.members.identity.renewal_is_due(jiff::Timestamp::now().as_second())?;
        let (present, wanted) = self.members.certified_names()?;
        match due || present != wanted {
            true => self.members.rotate_certificate().await,
            false => Ok(()),
        }
    }

    /// They find their way back if there is no better one.
    async fn part_with_agents_if_alone(&mut self) {
        let quorum = timeout(QUORUM_MAX, self.members.ledger.fresh_view()).await;
        let in_company = matches!(quorum, Ok(Ok(_))) || self.members.replica.members_now().len() < 2;
        if self.solitude.looked(in_company, Instant::now(), SILENCE_MAX) {
            let agents = self.hub.disconnect_all();
            tracing::warn!(agents, "the other managers cannot be reached: agents are sent to look for them");
        }
    }

    /// A removed host's certificate is valid for days; its link must not be.
    fn disconnect_removed_hosts(&self) {
        let view = self.members.ledger.view();
        for gone in self.hub.local_hosts().iter().filter(|id| matches!(host::exists(&view, id), Ok(false))) {
            tracing::info!(host.id = gone, "the link of a removed host is ended");
            self.hub.disconnect(gone);
        }
    }

    /// A draining manager may have been elected again.
    async fn hand_over(&self) {
        let described = self.members.replica.described_members().await;
        let other = described
            .iter()
            .any(|member| member.role == "voter" && member.state != "unreachable" && !member.draining);
        if other && let Err(error) = self.members.replica.transfer_leadership(None).await {
            tracing::info!(%error, "a draining manager could not hand leadership over yet");
        }
    }

    /// Every number has its row, so that none is given again.
    async fn note_founders(&self, rows: &[Manager]) -> Result<(), ChangeError> {
        let present = self.members.replica.members_now();
        let unknown: Vec<_> = present
            .iter()
            .filter(|(number, _)| !rows.iter().any(|row| row.number == **number))
            .map(|(number, member)| (*number, member.node.name.clone()))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let noted =
            transact(&*self.members.ledger, Request::new(), |tx| manager::note_members(tx, &unknown)).await;
        noted.map(drop).map_err(|error| ChangeError::Unknown(error.to_string()))
    }

    /// What clients know the cluster by is written down, so that managers that join later have it as well.
    async fn note_sans(&self) -> Result<(), ChangeError> {
        let names = self.members.shared_names().map_err(|error| ChangeError::Unknown(error.to_string()))?;
        if names.is_empty() || sans::get(&self.members.ledger.view()).is_ok_and(|set| set.is_some()) {
            return Ok(());
        }
        let noted = transact(&*self.members.ledger, Request::new(), |tx| sans::note(tx, &names)).await;
        noted.map(drop).map_err(|error| ChangeError::Unknown(error.to_string()))
    }

    async fn complete_removals(&self, rows: &[Manager]) -> Result<(), ChangeError> {
        let present = self.members.replica.members_now();
        let left = rows.iter().filter(|row| row.standing == Standing::Removed);
        for row in left.filter(|row| present.contains_key(&row.number)) {
            if row.number == self.members.config.node {
                return self.members.replica.transfer_leadership(None).await;
            }
            self.members.finish_removal(row.number).await?;
        }
        Ok(())
    }

    /// Learners that have caught up twice in a row and are meant to vote.
    async fn promote(&mut self, rows: &[Manager]) -> Result<(), ChangeError> {
        let standby =
            |number: &u64| rows.iter().any(|row| row.number == *number && row.role == ManagerRole::Standby);
        let ready: BTreeSet<u64> =
            self.members.replica.caught_up()?.into_iter().filter(|number| !standby(number)).collect();
        let mut stable: BTreeSet<u64> = self.ready.intersection(&ready).copied().collect();
        self.ready = ready;
        if stable.is_empty() {
            return Ok(());
        }
        // One that is away must not keep the others waiting.
        let described = self.members.replica.described_members().await;
        let away = described.iter().filter(|member| member.state == "unreachable");
        for member in away {
            stable.remove(&member.id);
        }
        self.members.replica.promote(&stable).await?;
        tracing::info!(members = ?stable, "managers that have caught up vote from now on");
        Ok(())
    }

    async fn remove_dead(&mut self) -> Result<(), ChangeError> {
        let autopilot = manager::autopilot(&self.members.ledger.view()).unwrap_or_default();
        let Some(after) = autopilot.remove_dead_after_seconds.map(Duration::from_secs) else {
            self.dead_since.clear();
            return Ok(());
        };
        let described = self.members.replica.described_members().await;
        let dead: BTreeMap<u64, &str> = described
            .iter()
            .filter(|member| member.role == "voter" && member.state == "unreachable")
            .map(|member| (member.id, member.name.as_str()))
            .collect();
        self.dead_since.retain(|number, _| dead.contains_key(number));
        for (number, name) in dead {
            let since = *self.dead_since.entry(number).or_insert_with(Instant::now);
            if since.elapsed() < after || !self.members.replica.may_be_cleaned_up(number).await {
                continue;
            }
            tracing::warn!(member = number, name, "a manager that has been dead for long is removed");
            let marked =
                transact(&*self.members.ledger, Request::new(), |tx| manager::remove(tx, number, name)).await;
            marked.map_err(|error| ChangeError::Unknown(error.to_string()))?;
            // One at a time: whether another may go is a new question.
            return self.members.finish_removal(number).await;
        }
        Ok(())
    }
}
