//! A door in front of a ledger in memory, and a client that knows its token.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use skep_api::{
    Api, Check, Cluster, ClusterStatus, Invitation, LimitsConfig, MadeSnapshot, MemberAction, MemberRefusal,
    MemberStatus, Metrics, Parts, Readiness, SnapshotFailure, Snapshots,
};
use skep_drivers::DriverConfig;
use skep_hub::{Admitted, Hub, HubEvents, RegisterRefusal};
use skep_ledger::{Ledger, MemoryLedger, Request as Change, TransactError, Tx, transact};
use skep_model::environment::Environment;
use skep_model::ids::{HostId, OperationId, SnapshotId};
use skep_model::snapshot::{self, Snapshot};
use skep_model::{Refusal, Ruling, access, environment, host};
use skep_sealing::SealingKey;
use skep_wire::channels::PeerChannels;
use skep_wire::pki::{self, Identity};
use skep_wire::proto::agent::{RegisterRequest, Report};
use tempfile::TempDir;
use tower::ServiceExt;
use uuid::Uuid;

pub const CLUSTER: &str = "c1";
pub const TOKEN: &str = "skp_one_secret";

/// Tests ask as fast as they can.
pub const UNLIMITED: LimitsConfig = LimitsConfig {
    reads_per_second: 0,
    writes_per_second: 0,
    joins_per_minute: 0,
    watches: 0,
    sessions: 0,
    connections_per_address: 0,
};

/// A door, what is behind it, and its client.
pub struct Door {
    pub router: Router,
    pub api: Api,
    pub ledger: Arc<MemoryLedger>,
    pub manager: Arc<Manager>,
    pub spool: TempDir,
}

/// One manager that is always there.
pub struct Manager {
    pub readiness: Mutex<Readiness>,
    pub leads: Mutex<bool>,
    pub acted: Mutex<Vec<MemberAction>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

/// Makes backups of four letters, and keeps them if somebody could read them.
struct Backups(Arc<MemoryLedger>);

#[async_trait]
impl Snapshots for Backups {
    async fn make(&self, fresh: bool) -> Result<MadeSnapshot, SnapshotFailure> {
        let mut file = tempfile::tempfile().unwrap();
        let text = if fresh { "made" } else { "old!" };
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        Ok(MadeSnapshot { file, revision: 7, epoch: 2, rows: 3, file_bytes: 4, sha256: "ab".into() })
    }

    async fn keep(&self) -> Result<Snapshot, SnapshotFailure> {
        match snapshot::recipients(&self.0.view()).unwrap().is_empty() {
            true => Err(SnapshotFailure::NoRecoveryKey),
            false => Ok(kept_snapshot("m1", "/nowhere")),
        }
    }

    fn open(&self, snapshot: &Snapshot) -> std::io::Result<std::fs::File> {
        std::fs::File::open(&snapshot.path)
    }
}

/// A request; sent with [`Door::send`].
#[derive(Debug, Clone)]
pub struct Ask {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Door {
    pub async fn new() -> Door {
        Door::before(hub(&identity(), NoHosts::events()), |ledger| ledger).await
    }

    /// A door to these engines, with `wrap` between it and the state.
    pub async fn before(hub: Hub, wrap: impl FnOnce(Arc<MemoryLedger>) -> Arc<dyn Ledger>) -> Door {
        let door = Door::unfounded(hub, wrap);
        let (id, hash) = access::parse(TOKEN).unwrap();
        rule(&*door.ledger, |tx| access::bootstrap(tx, &id, &hash)).await;
        door
    }

    /// A door of a cluster that waits for its first administrator.
    pub async fn with_setup_code(code: &str) -> Door {
        let door = Door::unfounded(hub(&identity(), NoHosts::events()), |ledger| ledger);
        let hash = access::setup_code_hash(code).unwrap();
        rule(&*door.ledger, |tx| access::bootstrap_setup(tx, &hash)).await;
        door
    }

    /// A door of managers that have not agreed on anything yet.
    pub fn unfounded(hub: Hub, wrap: impl FnOnce(Arc<MemoryLedger>) -> Arc<dyn Ledger>) -> Door {
        let ledger = MemoryLedger::new();
        let manager = Arc::new(Manager {
            readiness: Mutex::new(Readiness::Serving),
            leads: Mutex::new(true),
            acted: Mutex::default(),
        });
        let spool = tempfile::tempdir().unwrap();
        let wrapped = wrap(ledger.clone());
        let api = Api::new(Parts {
            ledger: wrapped.clone(),
            metrics: Arc::new(Metrics::new(wrapped)),
            cluster: manager.clone(),
            hub,
            snapshots: Arc::new(Backups(ledger.clone())),
            drivers: drivers(spool.path().join(MACHINES)),
            spool: spool.path().to_owned(),
            sealing: Arc::new(SealingKey::derive(&[7; 32], "c1").unwrap()),
        })
        .limited_to(&UNLIMITED);
        Door { router: skep_api::router(api.clone()), api, ledger, manager, spool }
    }

    pub async fn send(&self, ask: &Ask) -> Answer {
        self.request(ask.request()).await
    }

    pub async fn request(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(&Ask::new(Method::GET, path)).await
    }

    /// Makes an environment without hosts.
    pub async fn environment(&self, name: &str) -> Answer {
        let answer = self.send(&post("/v1/environments", json!({"name": name, "template": "default"}))).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer
    }

    /// Wishes a host, whether or not its driver would work here.
    pub async fn host(&self, environment: &str, name: &str) -> HostId {
        let wish = host::HostWish {
            id: HostId::new(Uuid::now_v7()),
            operation: OperationId::new(Uuid::now_v7()),
            name: name.into(),
            driver: "local".into(),
            options: BTreeMap::new(),
            skip_preflight: false,
            labels: BTreeMap::new(),
        };
        rule(&*self.ledger, |tx| {
            let environment = environment::usable(tx, environment)?;
            host::wish(tx, &environment, &wish, None).map(|_| true)
        })
        .await;
        wish.id
    }

    pub fn find(&self, environment: &str) -> Environment {
        environment::find(&self.ledger.view(), environment).unwrap().record
    }
}

impl Ask {
    pub fn new(method: Method, path: &str) -> Ask {
        let headers = vec![("authorization", format!("Bearer {TOKEN}"))];
        Ask { method, path: path.into(), headers, body: vec![] }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Ask {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    pub fn without_token(mut self) -> Ask {
        self.headers.retain(|(name, _)| *name != "authorization");
        self
    }

    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Ask {
        self.body = bytes.into();
        self
    }

    pub fn request(&self) -> Request<Body> {
        let mut request = Request::builder().method(&self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(Body::from(self.body.clone())).unwrap()
    }
}

impl Answer {
    /// Is it this problem, in the form that every problem has?
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["request_id"], self.headers["skep-request-id"].to_str().unwrap());
        for field in ["type", "title", "detail", "reason"] {
            assert!(self.body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {self:?}");
        }
    }

    #[track_caller]
    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap()
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

pub fn post(path: &str, body: Value) -> Ask {
    Ask::new(Method::POST, path).with("content-type", "application/json").bytes(body.to_string())
}

pub fn patch(path: &str, body: Value) -> Ask {
    Ask { method: Method::PATCH, ..post(path, body) }
}

pub fn put(path: &str, body: Value) -> Ask {
    Ask { method: Method::PUT, ..post(path, body) }
}

pub fn delete(path: &str) -> Ask {
    Ask::new(Method::DELETE, path)
}

/// Changes the state as the scheduler or an agent would.
pub async fn rule(ledger: &dyn Ledger, mut change: impl FnMut(&mut Tx<'_>) -> Ruling<bool> + Send) {
    let outcome: Result<_, TransactError<Refusal>> = transact(ledger, Change::new(), &mut change).await;
    outcome.unwrap();
}

/// The folder of a local driver that has made nothing, in a door's own.
pub const MACHINES: &str = "machines";

pub fn drivers(root: PathBuf) -> DriverConfig {
    DriverConfig { cluster: CLUSTER.into(), skep_binary: "/bin/true".into(), root }
}

pub fn identity() -> Identity {
    Identity::create(CLUSTER, 1, &[]).unwrap()
}

/// A backup of an early age.
pub fn kept_snapshot(manager: &str, path: &str) -> Snapshot {
    Snapshot {
        id: SnapshotId::new(Uuid::now_v7()),
        manager: manager.into(),
        path: path.into(),
        created_at: Timestamp::UNIX_EPOCH,
        verified_at: Timestamp::UNIX_EPOCH,
        epoch: 1,
        snapshot_revision: 5,
        rows: 2,
        file_bytes: 4,
        sha256: "cd".into(),
        removal: false,
    }
}

/// A hub of a cluster with one manager.
pub fn hub(identity: &Identity, events: Arc<dyn HubEvents>) -> Hub {
    let channels = PeerChannels::new(pki::manager_client_config(identity).unwrap(), CLUSTER, 1);
    Hub::new(1, channels, events, tokio::sync::watch::Sender::new(vec![]).subscribe())
}

/// For doors behind which nobody registers.
pub struct NoHosts;

impl NoHosts {
    pub fn events() -> Arc<dyn HubEvents> {
        Arc::new(NoHosts)
    }
}

#[async_trait]
impl HubEvents for NoHosts {
    async fn register(&self, _: RegisterRequest) -> Result<Admitted, RegisterRefusal> {
        Err(RegisterRefusal::unavailable("nobody registers here"))
    }
    async fn renew(&self, _: &str, _: &str) -> Result<String, RegisterRefusal> {
        Err(RegisterRefusal::unavailable("nobody registers here"))
    }
    async fn connected(&self, _: &str, _: &str, _: &Report) {}
    async fn reported(&self, _: &str, _: &str, _: &Report) {}
    async fn disconnected(&self, _: &str, _: &str) {}
}

#[async_trait]
impl Cluster for Manager {
    async fn status(&self) -> ClusterStatus {
        let member = MemberStatus {
            name: "m1".into(),
            id: 1,
            role: "voter".into(),
            state: "leader".into(),
            ..MemberStatus::default()
        };
        ClusterStatus {
            cluster: CLUSTER.into(),
            leader: Some("m1".into()),
            term: 3,
            voters: 1,
            quorum: 1,
            failure_tolerance: 0,
            revision: 7,
            epoch: 2,
            diverged: vec![],
            members: vec![member],
        }
    }
    fn readiness(&self) -> Readiness {
        self.readiness.lock().unwrap().clone()
    }
    fn checks(&self) -> Vec<Check> {
        let ok = !matches!(self.readiness(), Readiness::Unusable(_));
        vec![
            Check { name: "leader", ok, detail: "planted detail".into() },
            Check { name: "disk", ok: true, detail: "7 MiB are free".into() },
        ]
    }
    fn is_leader(&self) -> bool {
        *self.leads.lock().unwrap()
    }
    fn node_name(&self) -> &str {
        "m1"
    }
    fn epoch(&self) -> u64 {
        2
    }
    fn cluster_id(&self) -> &str {
        CLUSTER
    }
    async fn act(&self, action: MemberAction, rehearse: bool) -> Result<(), MemberRefusal> {
        match action {
            MemberAction::Remove(name) if name == "m1" => {
                Err(MemberRefusal::QuorumAtRisk("it is the only one".into()))
            }
            MemberAction::Remove(name) => Err(MemberRefusal::Unknown(name)),
            MemberAction::Promote(name) if name == "behind" => {
                Err(MemberRefusal::NotReady("it has not caught up yet".into()))
            }
            MemberAction::Promote(name) if name == "second" => {
                Err(MemberRefusal::Changing("another one is being promoted".into()))
            }
            MemberAction::Drain(name) if name == "silent" => {
                Err(MemberRefusal::Unreachable("it does not answer".into()))
            }
            action => {
                if !rehearse {
                    self.acted.lock().unwrap().push(action);
                }
                Ok(())
            }
        }
    }
    fn invitation(&self, id: &str) -> Invitation {
        Invitation {
            token: format!("skh_{id}"),
            managers: vec!["10.0.0.11:8444".into()],
            api_url: "https://10.0.0.11:8443".into(),
            pinned_key: "sha256//AAAA".into(),
        }
    }

    fn invited_by(&self, token: &str) -> Option<String> {
        token.strip_prefix("skh_").map(str::to_owned)
    }

    fn join_token(&self, id: &str) -> String {
        format!("skj_{CLUSTER}.{id}.00.00")
    }
}
