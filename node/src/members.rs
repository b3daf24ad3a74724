//! This manager's part in the membership: what the doors want to know about the managers, and every wish about them.
//!
//! A wish is fulfilled where it can be: draining and certificates by the manager itself, the membership by the leader.
//! Whoever is asked passes it on, one hop. How a new manager is let in is in `admission.rs`; what is done without a
//! wish, in `caretaker.rs`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use jiff::Timestamp;
use skep_api::{
    Check, Cluster, ClusterStatus, Invitation, MemberAction, MemberRefusal, MemberStatus, Readiness,
};
use skep_ledger::{Ledger, Request, transact};
use skep_model::manager::{self, ManagerRole, Standing};
use skep_raft::{ChangeError, ManagerNode, Replica};
use skep_wire::channels::{PeerChannels, Purpose};
use skep_wire::pki::{self, JoinToken, Joiner, LiveIdentity, PkiError};
use skep_wire::proto::peer::members_client::MembersClient;
use skep_wire::proto::peer::{self, ActRequest, Empty, MemberAction as Wire};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;

use crate::config::ServerConfig;
use crate::sans;

/// How long a wish waits for a leader and for the change itself; clients give up after 15 s.
const ACT_MAX: Duration = Duration::from_secs(12);

/// One manager's answer; its change of the membership may take ten seconds.
const ANSWER_MAX: Duration = Duration::from_secs(11);

/// Before the leader is looked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A manager that is further behind is catching up, and answers late: a second's worth of changes of a busy cluster.
const BEHIND_MAX: u64 = 1_000;

/// With less, the next snapshot may not fit.
const DISK_FREE_MIB_MIN: u64 = 512;

/// Codes of a [`peer::MemberRefusal`] between managers.
pub(crate) mod code {
    pub(crate) const QUORUM_AT_RISK: &str = "QUORUM_AT_RISK";
    pub(crate) const NOT_READY: &str = "NOT_READY";
    pub(crate) const BUSY: &str = "BUSY";
    pub(crate) const NOT_LEADER: &str = "NOT_LEADER";
    pub(crate) const UNKNOWN: &str = "UNKNOWN";
    pub(crate) const REFUSED: &str = "REFUSED";
}

/// This manager's view of the managers.
pub(crate) struct Members {
    pub(crate) replica: Replica,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) channels: PeerChannels,
    pub(crate) identity: LiveIdentity,
    pub(crate) config: ServerConfig,
    /// Where the identity is kept.
    pub(crate) data: PathBuf,
    /// Held by whoever changes the membership, so that a second wish waits instead of being refused.
    pub(crate) changing: Mutex<()>,
    /// Numbers that are turned away, on connections that exist as well.
    pub(crate) outcasts: watch::Sender<BTreeSet<u64>>,
    /// Set once this manager itself does not belong to the cluster any more.
    pub(crate) expelled: watch::Sender<bool>,
    name: String,
    cluster: String,
    draining: Arc<AtomicBool>,
}

impl Members {
    pub(crate) fn new(
        replica: Replica,
        channels: PeerChannels,
        identity: LiveIdentity,
        config: ServerConfig,
        data: PathBuf,
    ) -> Members {
        let draining = Arc::new(AtomicBool::new(false));
        let (drains, certificate) = (draining.clone(), identity.clone());
        replica.describe_with(move |status| {
            status.draining = drains.load(Ordering::SeqCst);
            let expiries = certificate.certificate_expiries().unwrap_or_default();
            let own = expiries.iter().find(|expiry| expiry.kind == "manager");
            status.certificate_expires_at = own.map(|expiry| expiry.at);
        });
        Members {
            ledger: Arc::new(replica.clone()),
            name: config.me().map(|me| me.name.clone()).unwrap_or_default(),
            cluster: identity.now().cluster,
            replica,
            channels,
            identity,
            config,
            data,
            changing: Mutex::new(()),
            outcasts: watch::Sender::new(BTreeSet::new()),
            expelled: watch::Sender::new(false),
            draining,
        }
    }

    /// From now on load balancers are told to send nothing new.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Resolves when this manager has been removed from the cluster.
    pub(crate) async fn expelled(&self) {
        // The sender lives as long as this does.
        let _ = self.expelled.subscribe().wait_for(|expelled| *expelled).await;
    }

    /// The names in this manager's certificate that are not its own: those under which clients know the cluster.
    pub(crate) fn shared_names(&self) -> Result<Vec<String>, PkiError> {
        let present = self.identity.now().addresses()?;
        Ok(self.own_node().map(|own| sans::shared(&present, &own)).unwrap_or_default())
    }

    /// What the certificate has, and what it should have.
    pub(crate) fn certified_names(&self) -> Result<(Vec<String>, Vec<String>)> {
        let present = self.identity.now().addresses().context("reading the certificate")?;
        let set = skep_model::sans::get(&self.ledger.view()).context("reading the cluster's names")?;
        let wanted = match (set, self.own_node()) {
            (Some(set), Some(own)) => sans::addresses(&present, &own, &set.names),
            _ => present.clone(),
        };
        Ok((present, wanted))
    }

    /// As the membership knows this manager; nothing before it has one.
    fn own_node(&self) -> Option<ManagerNode> {
        self.replica.members_now().remove(&self.config.node).map(|member| member.node)
    }

    /// A new key and certificate: on disk first, then in use.
    pub(crate) async fn rotate_certificate(&self) -> Result<()> {
        let (identity, data) = (self.identity.clone(), self.data.clone());
        let (_, addresses) = self.certified_names()?;
        let renewing = tokio::task::spawn_blocking(move || {
            let renewed = identity.renewed(&addresses)?;
            renewed.save(&data)?;
            identity.replace(renewed)
        });
        renewing.await.context("renewing the certificate")?.context("renewing the certificate")?;
        tracing::info!("this manager's certificate was renewed");
        Ok(())
    }

    /// Fulfils a wish that another manager, or this one, has passed on.
    pub(crate) async fn act_here(&self, request: ActRequest) -> Result<(), peer::MemberRefusal> {
        let member = request.member;
        let named = member.ok_or_else(|| refusal(code::REFUSED, "it is not said which manager is meant"));
        match request.action() {
            Wire::TransferLeader => self.transfer_here(member, request.dry_run).await,
            Wire::Promote => self.promote_here(named?, request.dry_run).await,
            Wire::Remove => self.remove_here(named?, request.dry_run).await,
            _ if request.dry_run => Ok(()),
            Wire::Drain => {
                self.drain();
                // To whom, is the leader's choice; the caretaker tries again as long as this manager leads.
                let _ = self.replica.transfer_leadership(None).await;
                Ok(())
            }
            Wire::Resume => {
                self.draining.store(false, Ordering::SeqCst);
                Ok(())
            }
            Wire::RotateCertificate => {
                let rotated = self.rotate_certificate().await;
                rotated.map_err(|error| refusal(code::REFUSED, format!("{error:#}")))
            }
            Wire::Unspecified => Err(refusal(code::REFUSED, "this version does not know the action")),
        }
    }

    async fn transfer_here(&self, to: Option<u64>, rehearse: bool) -> Result<(), peer::MemberRefusal> {
        if to.is_some() && to == self.replica.leader_id() {
            return Ok(());
        }
        let done = match rehearse {
            true => self.replica.successor(to).await.map(drop),
            false => self.replica.transfer_leadership(to).await,
        };
        done.map_err(changed)
    }

    async fn promote_here(&self, member: u64, rehearse: bool) -> Result<(), peer::MemberRefusal> {
        let votes = self.replica.members_now().get(&member).is_some_and(|member| member.votes);
        if votes {
            return Ok(());
        }
        let only = BTreeSet::from([member]);
        if rehearse {
            return self.replica.may_promote(&only).await.map_err(changed);
        }
        let _one_at_a_time = self.changing.lock().await;
        self.replica.may_promote(&only).await.map_err(changed)?;
        self.write(|tx| manager::set_role(tx, member, ManagerRole::Voter)).await?;
        self.replica.promote(&only).await.map_err(changed)
    }

    async fn remove_here(&self, member: u64, rehearse: bool) -> Result<(), peer::MemberRefusal> {
        self.replica.may_remove(member).await.map_err(changed)?;
        if rehearse {
            return Ok(());
        }
        if !self.replica.is_leader() {
            return Err(changed(ChangeError::NotLeader));
        }
        if member == self.config.node {
            // Its successor removes it: the one who asks looks for the leader again.
            self.replica.transfer_leadership(None).await.map_err(changed)?;
            return Err(changed(ChangeError::NotLeader));
        }
        let _one_at_a_time = self.changing.lock().await;
        let name = self.name_of(member).unwrap_or_default();
        self.write(|tx| manager::remove(tx, member, &name)).await?;
        self.finish_removal(member).await.map_err(changed)
    }

    /// Takes a number that is marked as removed out of the membership, and tells it.
    pub(crate) async fn finish_removal(&self, member: u64) -> Result<(), ChangeError> {
        let client = self.client(member);
        self.replica.remove_member(member).await?;
        tracing::info!(member, "a manager was removed from the cluster");
        if let Ok(mut client) = client {
            // It finds out by itself if this does not reach it.
            tokio::spawn(async move { timeout(ANSWER_MAX, client.removed(Empty {})).await.map(drop) });
        }
        Ok(())
    }

    async fn write(
        &self,
        rule: impl FnMut(&mut skep_ledger::Tx<'_>) -> skep_model::Ruling<bool> + Send,
    ) -> Result<(), peer::MemberRefusal> {
        match transact(&*self.ledger, Request::new(), rule).await {
            Ok(_) => Ok(()),
            Err(skep_ledger::TransactError::Refused(refused)) => {
                Err(refusal(code::REFUSED, refused.to_string()))
            }
            Err(error) => Err(refusal(code::UNKNOWN, error.to_string())),
        }
    }

    /// Asks the manager that it is about.
    async fn ask(&self, node: u64, request: ActRequest) -> Result<(), peer::MemberRefusal> {
        if node == self.config.node {
            return self.act_here(request).await;
        }
        let unreachable =
            |why: String| refusal(code::UNKNOWN, format!("manager {node} did not answer: {why}"));
        let mut client = self.client(node).map_err(unreachable)?;
        match timeout(ANSWER_MAX, client.act(request)).await {
            Ok(Ok(reply)) => reply.into_inner().refused.map_or(Ok(()), Err),
            Ok(Err(status)) => Err(unreachable(status.message().to_owned())),
            Err(_) => Err(unreachable(format!("{} s have passed", ANSWER_MAX.as_secs()))),
        }
    }

    /// Asks whoever leads, also while that changes. Asking again is safe: each wish finds done what is done.
    async fn ask_leader(&self, request: ActRequest) -> Result<(), MemberRefusal> {
        let deadline = Instant::now() + ACT_MAX;
        let mut last = MemberRefusal::NoLeader("none was elected in time".into());
        loop {
            if let Some(leader) = self.replica.leader_id() {
                match self.ask(leader, request).await {
                    Ok(()) => return Ok(()),
                    Err(refused) => match refused.code.as_str() {
                        code::NOT_LEADER => {}
                        code::BUSY => last = MemberRefusal::Changing(refused.message),
                        code::UNKNOWN => last = MemberRefusal::OutcomeUnknown(refused.message),
                        _ => return Err(told(refused)),
                    },
                }
            }
            if Instant::now() > deadline {
                return Err(last);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Asks a manager about itself.
    async fn ask_member(&self, node: u64, request: ActRequest) -> Result<(), MemberRefusal> {
        self.ask(node, request).await.map_err(|refused| match refused.code.as_str() {
            code::UNKNOWN => MemberRefusal::Unreachable(refused.message),
            _ => told(refused),
        })
    }

    pub(crate) fn client(&self, node: u64) -> Result<MembersClient<Channel>, String> {
        let channel = self.channels.get_for(node, Purpose::Heartbeat);
        channel.map(MembersClient::new).map_err(|error| error.to_string())
    }

    fn name_of(&self, number: u64) -> Option<String> {
        self.replica.members_now().get(&number).map(|member| member.node.name.clone())
    }

    /// The number of the member that is called so.
    fn number_of(&self, named: &str) -> Option<u64> {
        let members = self.replica.members_now();
        let found =
            members.iter().find(|(number, member)| member.node.name == named || number.to_string() == named);
        found.map(|(number, _)| *number)
    }

    fn member(&self, named: &str) -> Result<u64, MemberRefusal> {
        self.number_of(named).ok_or_else(|| MemberRefusal::Unknown(named.to_owned()))
    }

    /// The number of one that is no member but had a number: removed before, left out by a recovery, or let in without
    /// ever having come. One that was not removed is preferred.
    async fn former(&self, named: &str) -> Option<manager::Manager> {
        let view = self.ledger.fresh_view().await.ok()?;
        let rows = manager::list(&view).unwrap_or_default();
        let fits = |row: &manager::Manager| row.name == named || row.number.to_string() == named;
        rows.into_iter().filter(fits).max_by_key(|row| row.standing == Standing::Admitted)
    }

    async fn rotate_all(&self, dry_run: bool) -> Result<(), MemberRefusal> {
        let mut failed = vec![];
        for (number, member) in self.replica.members_now() {
            let request =
                ActRequest { action: Wire::RotateCertificate.into(), member: Some(number), dry_run };
            if let Err(error) = self.ask_member(number, request).await {
                failed.push(format!("{}: {error}", member.node.name));
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(MemberRefusal::Unreachable(format!(
                "not every manager has a new certificate; the others have: {}",
                failed.join("; ")
            ))),
        }
    }
}

#[async_trait]
impl Cluster for Members {
    async fn status(&self) -> ClusterStatus {
        let status = self.replica.status().await;
        ClusterStatus {
            cluster: status.cluster,
            leader: status.leader,
            term: status.term,
            voters: status.voters,
            quorum: status.quorum,
            failure_tolerance: status.failure_tolerance,
            revision: status.revision,
            epoch: self.replica.epoch(),
            diverged: diverged(&status.members),
            members: status.members.into_iter().map(member).collect(),
        }
    }

    fn readiness(&self) -> Readiness {
        match (self.is_draining(), self.replica.knows_leader()) {
            (true, _) => Readiness::Draining,
            (false, true) => Readiness::Serving,
            (false, false) => Readiness::Unusable("no leader is known".into()),
        }
    }

    fn checks(&self) -> Vec<Check> {
        let vitals = self.replica.vitals();
        let behind = vitals.commit_index.saturating_sub(vitals.applied_index);
        let check = |name, ok, detail| Check { name, ok, detail };
        let leader = self.replica.leader_id().map(|leader| format!("manager {leader} leads"));
        let free = nix::sys::statvfs::statvfs(&self.data)
            .map(|disk| disk.blocks_available() * disk.fragment_size() / (1024 * 1024));
        vec![
            check("leader", leader.is_some(), leader.unwrap_or_else(|| "no leader is known".into())),
            check(
                "log",
                behind <= BEHIND_MAX,
                format!("{behind} entries are agreed upon and not applied yet"),
            ),
            check("drain", !self.is_draining(), format!("draining: {}", self.is_draining())),
            match free {
                Ok(free) => check("disk", free >= DISK_FREE_MIB_MIN, format!("{free} MiB are free")),
                Err(error) => check("disk", false, format!("the free space is not known: {error}")),
            },
        ]
    }

    fn is_leader(&self) -> bool {
        self.replica.is_leader()
    }

    fn node_name(&self) -> &str {
        &self.name
    }

    fn cluster_id(&self) -> &str {
        &self.cluster
    }

    async fn act(&self, action: MemberAction, dry_run: bool) -> Result<(), MemberRefusal> {
        let request = |action: Wire, member| ActRequest { action: action.into(), member, dry_run };
        match action {
            MemberAction::TransferLeader(to) => {
                let to = to.map(|named| self.member(&named)).transpose()?;
                self.ask_leader(request(Wire::TransferLeader, to)).await
            }
            MemberAction::Promote(named) => {
                let member = self.member(&named)?;
                self.ask_leader(request(Wire::Promote, Some(member))).await
            }
            MemberAction::Remove(named) => {
                let member = match self.member(&named) {
                    Ok(member) => member,
                    Err(unknown) => match self.former(&named).await {
                        Some(row) if row.standing == Standing::Removed => return Ok(()),
                        Some(row) => row.number,
                        None => return Err(unknown),
                    },
                };
                self.ask_leader(request(Wire::Remove, Some(member))).await
            }
            MemberAction::Drain(named) => {
                let member = self.member(&named)?;
                self.ask_member(member, request(Wire::Drain, Some(member))).await
            }
            MemberAction::Resume(named) => {
                let member = self.member(&named)?;
                self.ask_member(member, request(Wire::Resume, Some(member))).await
            }
            MemberAction::RotateCertificate(Some(named)) => {
                let member = self.member(&named)?;
                self.ask_member(member, request(Wire::RotateCertificate, Some(member))).await
            }
            MemberAction::RotateCertificate(None) => self.rotate_all(dry_run).await,
        }
    }

    fn join_token(&self, id: &str) -> String {
        let identity = self.identity.now();
        let token = JoinToken::derive(
            Joiner::Manager,
            &identity.registration_key,
            &identity.cluster,
            id,
            &identity.ca_pem,
        );
        // The authority's certificate was read at the start, so its fingerprint can be made.
        token.map(|token| token.to_string()).unwrap_or_default()
    }

    fn invitation(&self, id: &str) -> Invitation {
        let identity = self.identity.now();
        let token = JoinToken::derive(
            Joiner::Host,
            &identity.registration_key,
            &identity.cluster,
            id,
            &identity.ca_pem,
        );
        let members = self.replica.members_now();
        Invitation {
            // As above.
            token: token.map(|token| token.to_string()).unwrap_or_default(),
            managers: members.values().map(|member| member.node.peer_address.clone()).collect(),
            api_url: self.config.me().map(|me| me.api_url.clone()).unwrap_or_default(),
            pinned_key: pki::pinned_key(&identity.manager_pem).unwrap_or_default(),
        }
    }

    fn invited_by(&self, token: &str) -> Option<String> {
        let identity = self.identity.now();
        let token = JoinToken::parse(Joiner::Host, token)?;
        let ours = token.cluster == identity.cluster && token.is_derived_from(&identity.registration_key);
        ours.then_some(token.id)
    }

    fn epoch(&self) -> u64 {
        self.replica.epoch()
    }
}

/// Every manager that differs from another one, whoever of the two has said so.
fn diverged(members: &[skep_raft::MemberStatus]) -> Vec<String> {
    let pairs = members.iter().flat_map(|member| member.diverged.iter().map(|other| (member.id, *other)));
    let involved: BTreeSet<u64> = pairs.flat_map(|(one, other)| [one, other]).collect();
    let named = members.iter().filter(|member| involved.contains(&member.id));
    named.map(|member| member.name.clone()).collect()
}

pub(crate) fn refusal(code: &str, message: impl Into<String>) -> peer::MemberRefusal {
    peer::MemberRefusal { code: code.into(), message: message.into() }
}

/// What the replica said no with, for another manager.
pub(crate) fn changed(error: ChangeError) -> peer::MemberRefusal {
    let known = match &error {
        ChangeError::NotLeader => code::NOT_LEADER,
        ChangeError::QuorumAtRisk(_) => code::QUORUM_AT_RISK,
        ChangeError::NotReady(_) => code::NOT_READY,
        ChangeError::Busy(_) => code::BUSY,
        ChangeError::Unknown(_) => code::UNKNOWN,
    };
    refusal(known, error.to_string())
}

/// What another manager said no with, for people.
fn told(refused: peer::MemberRefusal) -> MemberRefusal {
    match refused.code.as_str() {
        code::QUORUM_AT_RISK => MemberRefusal::QuorumAtRisk(refused.message),
        code::BUSY => MemberRefusal::Changing(refused.message),
        code::NOT_LEADER => MemberRefusal::NoLeader(refused.message),
        code::UNKNOWN => MemberRefusal::OutcomeUnknown(refused.message),
        _ => MemberRefusal::NotReady(refused.message),
    }
}

fn member(status: skep_raft::MemberStatus) -> MemberStatus {
    MemberStatus {
        name: status.name,
        id: status.id,
        role: status.role,
        state: status.state,
        peer_address: Some(status.peer_address),
        api_url: Some(status.api_url),
        last_log_index: status.last_log_index,
        applied_index: status.applied_index,
        lag_entries: status.lag_entries,
        last_contact_ms: status.last_contact_ms,
        version: status.version,
        resident_bytes: status.resident_bytes,
        draining: status.draining,
        certificate_expires_at: status
            .certificate_expires_at
            .and_then(|seconds| Timestamp::from_second(seconds).ok()),
        epoch: (status.epoch > 0).then_some(status.epoch),
        snapshot_rows: status.snapshot_rows,
    }
}
