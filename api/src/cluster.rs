//! What the doors want to know about the managers themselves.
//!
//! Why a trait with types of its own: the doors must not know how managers agree, and what is written here is the
//! published form, which does not change when Raft's own bookkeeping does.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// This manager's knowledge of itself and the others.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Asks every manager how it is. Answers without a leader too.
    async fn status(&self) -> ClusterStatus;

    /// May a load balancer send requests here?
    fn readiness(&self) -> Readiness;

    /// What it takes to serve well, one by one, as it is at present.
    fn checks(&self) -> Vec<Check>;

    /// Does this manager lead, as far as it knows?
    fn is_leader(&self) -> bool;

    /// This manager's name, `m1`.
    fn node_name(&self) -> &str;

    /// The cluster's id.
    fn cluster_id(&self) -> &str;

    /// Does something with managers, wherever that has to be done; a rehearsal only says whether it could be.
    async fn act(&self, action: MemberAction, rehearse: bool) -> Result<(), MemberRefusal>;

    /// The text of the join token with this id; the same on every manager.
    fn join_token(&self, id: &str) -> String;

    /// What a machine needs that registers with the registration token of this id; the same on every manager, but for
    /// the address.
    fn invitation(&self, id: &str) -> Invitation;

    /// The id of the registration token with this text, if it is one of this cluster's.
    fn invited_by(&self, token: &str) -> Option<String>;

    /// The epoch of the data: revisions are comparable within one.
    fn epoch(&self) -> u64;
}

/// What a machine needs so that it can register as a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The text of the registration token.
    pub token: String,
    /// Peer addresses of the managers.
    pub managers: Vec<String>,
    /// Where the API of this manager is.
    pub api_url: String,
    /// The public key that this manager shows there, as `sha256//` and its hash in Base64.
    pub pinned_key: String,
}

/// What an administrator can wish about managers, which are named by name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberAction {
    /// Another manager leads: this one, or the furthest.
    TransferLeader(Option<String>),
    /// It serves nothing new and does not lead.
    Drain(String),
    /// It serves again.
    Resume(String),
    /// It votes.
    Promote(String),
    /// It leaves the cluster and does not come back.
    Remove(String),
    /// It gets a new certificate; all of them, if none is named.
    RotateCertificate(Option<String>),
}

/// Why a wish about managers was not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberRefusal {
    /// No manager of that name or number.
    #[error("there is no manager named '{0}'")]
    Unknown(String),
    /// Too few managers that can agree would be left.
    #[error("the managers could not agree on anything any more: {0}")]
    QuorumAtRisk(String),
    /// The manager is not far enough for it.
    #[error("{0}")]
    NotReady(String),
    /// Another change is under way.
    #[error("{0}")]
    Changing(String),
    /// The manager that would have to do it does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// Nobody leads.
    #[error("no manager leads: {0}")]
    NoLeader(String),
    /// It was begun, and how it ended is not known.
    #[error("{0}")]
    OutcomeUnknown(String),
}

/// Whether a manager serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Send requests.
    Serving,
    /// It is about to stop: what is open may finish, nothing new should come.
    Draining,
    /// It cannot answer, and why. The reason is for the log; probes tell no details.
    Unusable(String),
}

/// One thing that a manager needs to serve well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// In one word.
    pub name: &'static str,
    /// Is it as it should be?
    pub ok: bool,
    /// How it is; for those who may see the cluster.
    pub detail: String,
}

/// The managers together, as seen from one of them.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Cluster)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: String,
    /// The leader's name; null while there is none.
    pub leader: Option<String>,
    /// The current period of leadership.
    pub term: u64,
    /// Managers that vote.
    pub voters: usize,
    /// How many of them must agree.
    pub quorum: usize,
    /// How many more may fail before nothing can be agreed on; who cannot be reached already counts.
    pub failure_tolerance: usize,
    /// The newest revision that the answering manager has applied.
    pub revision: u64,
    /// Changes when the cluster is recovered or restored; revisions are comparable within one epoch.
    pub epoch: u64,
    /// Managers whose data differs where it must be equal: an alarm. Empty when all is well.
    pub diverged: Vec<String>,
    /// Everyone, in the order of their numbers.
    pub members: Vec<MemberStatus>,
}

/// One manager; what could not be asked is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = ClusterMember)]
pub struct MemberStatus {
    /// `m1`.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// `voter` or `learner`.
    pub role: String,
    /// `leader`, `follower`, `candidate`, `learner`, `unreachable` or `unknown`.
    pub state: String,
    /// Where its peer port is.
    pub peer_address: Option<String>,
    /// Where its API is.
    pub api_url: Option<String>,
    /// The newest entry in its log.
    pub last_log_index: Option<u64>,
    /// The newest entry that it has applied.
    pub applied_index: Option<u64>,
    /// Entries that it is behind the furthest one.
    pub lag_entries: Option<u64>,
    /// How long ago it answered.
    pub last_contact_ms: Option<u64>,
    /// Its program version.
    pub version: Option<String>,
    /// Memory that it occupies.
    pub resident_bytes: Option<u64>,
    /// Whether it serves nothing new at present.
    pub draining: bool,
    /// When its certificate ends; it is renewed after two thirds of its life.
    pub certificate_expires_at: Option<Timestamp>,
    /// The epoch of its data.
    pub epoch: Option<u64>,
    /// Rows of a whole state that it has been sent so far, while that goes on.
    pub snapshot_rows: Option<u64>,
}
