//! Tasks and images: through the hub and real agents to engines that speak as much as is asked of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::Request;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skep_agent::{AgentConfig, Entrance, JoinFile, LogFiles};
use skep_hub::{Admitted, Hub, HubEvents, RegisterRefusal};
use skep_model::fact::{self, Fact};
use skep_model::host::{self, Inventory, Machine, Membership, Role};
use skep_model::ids::HostId;
use skep_model::placement::Availability;
use skep_wire::accept::{Accepted, accept};
use skep_wire::pki::{self, Authority, Identity};
use skep_wire::proto::agent::{RegisterRequest, Report};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Ask, CLUSTER, Door, hub, identity, patch, post as post_json, put, rule};

/// Far beyond what anything here takes, so that only a hang reaches it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A door whose environment `prod` has the hosts `a` and `b`; `a` manages the swarm.
pub struct Site {
    pub door: Door,
    pub hosts: Vec<Host>,
    identity: Identity,
    address: String,
    hub: Hub,
    _serving: AbortOnDropHandle<()>,
}

pub struct Host {
    id: HostId,
    loaded: Arc<Mutex<Vec<(String, usize)>>>,
    _agent: AbortOnDropHandle<()>,
    _engine: AbortOnDropHandle<()>,
    _dir: TempDir,
}

impl Site {
    pub async fn new() -> Site {
        let identity = identity();
        let events = Arc::new(Registrar(identity.authority().unwrap()));
        let hub = hub(&identity, events);
        let door = Door::before(hub.clone(), |ledger| ledger).await;
        door.environment("prod").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(listener, identity.clone(), hub.clone())));
        Site { door, hosts: vec![], identity, address, hub, _serving: serving }
    }

    pub async fn with_hosts() -> Site {
        let mut site = Site::new().await;
        for name in ["a", "b"] {
            let id = site.door.host("prod", name).await;
            site.hosts.push(site.start(id).await);
        }
        site.seen_in_swarm().await;
        site
    }

    /// An engine with its agent, connected.
    async fn start(&self, id: HostId) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let loaded = Arc::new(Mutex::new(vec![]));
        let socket = dir.path().join("docker.sock");
        let engine = axum::serve(UnixListener::bind(&socket).unwrap(), engine(loaded.clone())).into_future();
        let engine = AbortOnDropHandle::new(tokio::spawn(async move { engine.await.unwrap() }));
        let join = JoinFile {
            cluster: CLUSTER.into(),
            host_id: id.to_string(),
            managers: vec![self.address.clone()],
            ca_pem: self.identity.ca_pem.clone(),
            token: pki::registration_token(&self.identity.registration_key, CLUSTER, id.as_str()),
        };
        let join_file = dir.path().join("join.json");
        std::fs::write(&join_file, serde_json::to_string(&join).unwrap()).unwrap();
        std::fs::set_permissions(&join_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let config = AgentConfig {
            state_dir: dir.path().join("state"),
            docker_socket: socket,
            join_file: Some(join_file),
            offering: None,
            address: None,
            logs: LogFiles::default(),
            entrance: Entrance::default(),
        };
        let agent = async move { skep_agent::run(config, CancellationToken::new()).await.unwrap() };
        let agent = AbortOnDropHandle::new(tokio::spawn(agent));
        let connected = async {
            while !self.hub.local_hosts().iter().any(|held| held == id.as_str()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, connected).await.expect("the agent connects");
        Host { id, loaded, _agent: agent, _engine: engine, _dir: dir }
    }

    /// Waits until so many agents are connected.
    pub async fn holds(&self, agents: usize) {
        let left = async {
            while self.hub.local_hosts().len() != agents {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, left).await.expect("the agents come and go");
    }

    /// Records what driver, agents and swarm would have told.
    async fn seen_in_swarm(&self) {
        let environment = self.door.find("prod").id;
        let member = |(at, host): (usize, &Host)| {
            let role = if at == 0 { Role::Manager } else { Role::Worker };
            let node = format!("node-{at}");
            (
                host.id.clone(),
                Membership {
                    node,
                    role,
                    leader: at == 0,
                    ready: true,
                    availability: Availability::Active,
                    reachable: true,
                },
            )
        };
        let nodes: Vec<_> = self.hosts.iter().enumerate().map(member).collect();
        let seen = Fact::SwarmSeen(environment.clone(), "swarm-1".into(), nodes);
        let hosts: Vec<_> = self
            .hosts
            .iter()
            .enumerate()
            .map(|(at, host)| (format!("127.0.0.{}", at + 1), &host.id))
            .collect();
        rule(&*self.door.ledger, |tx| {
            for (address, id) in &hosts {
                let machine = Machine { id: id.to_string(), address: address.clone() };
                fact::record(tx, &Fact::MachineExists(environment.clone(), (*id).clone(), machine))?;
                host::registration::register(tx, id.as_str(), b"key", true)?;
                host::reported(tx, id.as_str(), "m1", "s1", Some(Inventory::default()), Ok(()))?;
            }
            fact::record(tx, &seen).map(|()| true)
        })
        .await;
    }
}

struct Registrar(Authority);

#[async_trait]
impl HubEvents for Registrar {
    async fn register(&self, request: RegisterRequest) -> Result<Admitted, RegisterRefusal> {
        let certificate_pem = self.0.sign_host_csr(&request.csr_pem, &request.host_id).unwrap();
        Ok(Admitted { host_id: request.host_id, certificate_pem, ca_pem: self.0.ca_pem().to_owned() })
    }
    async fn renew(&self, host: &str, csr_pem: &str) -> Result<String, RegisterRefusal> {
        Ok(self.0.sign_host_csr(csr_pem, host).unwrap())
    }
    async fn connected(&self, _: &str, _: &str, _: &Report) {}
    async fn reported(&self, _: &str, _: &str, _: &Report) {}
    async fn disconnected(&self, _: &str, _: &str) {}
}

async fn serve(listener: TcpListener, identity: Identity, hub: Hub) {
    let tls = pki::peer_server_config(&identity).unwrap();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (tls, hub) = (tls.clone(), hub.clone());
        tokio::spawn(async move {
            match accept(tls, tcp, CLUSTER).await {
                Ok(Accepted::Agent { io, host_id }) => hub.serve_agent(io, host_id).await,
                Ok(Accepted::Registration(io)) => hub.serve_registration(io).await,
                Ok(Accepted::Manager(_) | Accepted::Join { .. }) | Err(_) => panic!("only agents come here"),
            }
        });
    }
}

/// As much of an engine as tasks, statistics and images need. An archive that begins with `bad` is refused.
fn engine(loaded: Arc<Mutex<Vec<(String, usize)>>>) -> Router {
    let (loads, imports) = (loaded.clone(), loaded);
    let said = |word: &str, loaded: &Mutex<Vec<(String, usize)>>, what: String, body: Bytes| match body
        .starts_with(b"bad")
    {
        true => json!({"errorDetail": {"message": "invalid tar header"}, "error": "invalid tar header"})
            .to_string(),
        false => {
            loaded.lock().unwrap().push((what, body.len()));
            format!("{}\n{}\n", json!({"stream": "Loaded image: web:1\n"}), json!({"status": word}))
        }
    };
    let routes = Router::new()
        .route(
            "/version",
            get(|| async {
                Json(json!({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}))
            }),
        )
        .route("/info", get(|| async { Json(json!({"NCPU": 2, "MemTotal": 1024})) }))
        .route("/containers/json", get(|| async { Json(containers()) }))
        .route("/containers/c1/stats", get(|| async { Json(counters()) }))
        .route("/auth", post(log_in))
        .route("/_ping", get(|| async { "OK" }))
        .route("/tasks", get(|| async { Json(tasks()) }))
        .route("/services", get(|| async { Json(services()) }))
        .route("/nodes", get(|| async { Json(json!([])) }))
        .route("/swarm", get(|| async { Json(locked_swarm()) }))
        .route(
            "/images/load",
            post(move |body: Request| async move {
                said("done", &loads, "load".into(), body.into_body().collect().await.unwrap().to_bytes())
            }),
        )
        .route(
            "/images/create",
            post(move |body: Request| async move {
                let query = body.uri().query().unwrap_or_default().to_owned();
                said("sha256:1", &imports, query, body.into_body().collect().await.unwrap().to_bytes())
            }),
        );
    Router::new().nest("/v1.41", routes.clone()).merge(routes)
}

/// A registry that knows one user, behind an engine.
async fn log_in(Json(login): Json<Value>) -> (StatusCode, Json<Value>) {
    match (login["serveraddress"].as_str(), login["username"].as_str(), login["password"].as_str()) {
        (Some("down.example.com"), ..) => {
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"message": "dial tcp: no such host"})))
        }
        (_, Some("ann"), Some("hunter2")) => (StatusCode::OK, Json(json!({"Status": "Login Succeeded"}))),
        _ => (StatusCode::UNAUTHORIZED, Json(json!({"message": "incorrect username or password"}))),
    }
}

fn containers() -> Value {
    let labels = json!({"com.docker.swarm.service.name": "shop_web", "com.docker.swarm.task.id": "t1"});
    json!([{"Id": "c1", "Names": ["/shop_web.1.t1"], "State": "running", "Labels": labels}])
}

fn counters() -> Value {
    json!({"cpu_stats": {"cpu_usage": {"total_usage": 1000}, "system_cpu_usage": 100_000, "online_cpus": 4},
           "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"inactive_file": 300}},
           "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}}})
}

fn tasks() -> Value {
    json!([
        {"ID": "t1", "ServiceID": "s1", "Slot": 1, "NodeID": "node-1", "DesiredState": "running",
         "Spec": {"ContainerSpec": {"Image": "whoami:1"}}, "Status": {"State": "running", "Timestamp": "2026-01-01T00:00:00Z"}},
        {"ID": "t2", "ServiceID": "s2", "NodeID": "node-0", "DesiredState": "running",
         "Spec": {"ContainerSpec": {"Image": "agent:1"}}, "Status": {"State": "failed", "Err": "exit 1"}}])
}

fn services() -> Value {
    json!([
        {"ID": "s1", "Spec": {"Name": "shop_web", "Labels": {"com.docker.stack.namespace": "shop"}}},
        {"ID": "s2", "Spec": {"Name": "agent"}}])
}

fn locked_swarm() -> Value {
    json!({"ID": "swarm-1", "Spec": {"EncryptionConfig": {"AutoLockManagers": true}}})
}

#[tokio::test]
async fn tasks_are_those_that_the_swarm_has_now() {
    let site = Site::with_hosts().await;
    let list = site.door.get("/v1/environments/prod/tasks").await;
    assert_eq!(list.status, 200, "{list:?}");
    let [agent, web] = &list.body["items"].as_array().unwrap()[..] else { panic!("{list:?}") };
    assert_eq!(
        (&agent["host"], &agent["stack"], &agent["error"]),
        (&json!("a"), &Value::Null, &json!("exit 1"))
    );
    assert_eq!((&web["host"], &web["service"], &web["slot"]), (&json!("b"), &json!("web"), &json!(1)));
    site.door.get("/v1/environments/prod/stacks/shop/tasks").await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn without_a_swarm_manager_tasks_are_refused_and_told_why() {
    let site = Site::new().await;
    let refused = site.door.get("/v1/environments/prod/tasks").await;
    refused.is_problem(409, "SKP-2403");
    let mut site = Site::with_hosts().await;
    site.hosts.clear();
    site.holds(0).await;
    let refused = site.door.get("/v1/environments/prod/tasks").await;
    refused.is_problem(502, "SKP-2401");
    assert!(refused.detail().contains("host 'a'"), "{refused:?}");
}

fn load(query: &str, archive: &[u8]) -> Ask {
    Ask::new(Method::POST, &format!("/v1/environments/prod/images{query}"))
        .with("content-type", "application/x-tar")
        .bytes(archive)
}

#[tokio::test]
async fn an_image_reaches_every_active_host_whole() {
    let site = Site::with_hosts().await;
    // More than a JSON body may have.
    let archive = vec![7; 3 * 1024 * 1024];
    let answer = site.door.send(&load("", &archive)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let item = |host: &str| json!({"host": host, "image": "web:1", "ok": true, "message": ""});
    assert_eq!(answer.body["items"], json!([item("a"), item("b")]));
    for host in &site.hosts {
        assert_eq!(*host.loaded.lock().unwrap(), [("load".to_owned(), archive.len())]);
    }
    assert_eq!(std::fs::read_dir(site.door.spool.path()).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn a_root_file_system_becomes_an_image_of_the_given_name() {
    let site = Site::with_hosts().await;
    let answer = site.door.send(&load("?import=tools:2", b"tar")).await;
    assert_eq!(answer.body["items"][0]["image"], "tools:2", "{answer:?}");
    let (query, _) = site.hosts[1].loaded.lock().unwrap()[0].clone();
    for part in ["fromSrc=-", "repo=tools", "tag=2"] {
        assert!(query.contains(part), "{query}");
    }
}

#[tokio::test]
async fn each_host_says_why_it_has_not_got_the_image() {
    let mut site = Site::with_hosts().await;
    let answer = site.door.send(&load("", b"bad archive")).await;
    assert_eq!(answer.status, 200);
    for item in answer.body["items"].as_array().unwrap() {
        assert!(
            item["ok"] == false && item["message"].as_str().unwrap().contains("invalid tar header"),
            "{item}"
        );
    }
    let gone = site.hosts.pop().unwrap();
    drop(gone._agent);
    let items = site.door.send(&load("", b"good")).await.body["items"].clone();
    assert_eq!((&items[0]["ok"], &items[1]["ok"]), (&json!(true), &json!(false)), "{items}");
}

#[tokio::test]
async fn an_image_needs_a_body_and_a_host() {
    let site = Site::with_hosts().await;
    site.door.send(&load("", b"")).await.is_problem(400, "SKP-1001");
    site.door.environment("empty").await;
    let ask = Ask::new(Method::POST, "/v1/environments/empty/images").bytes("tar");
    site.door.send(&ask).await.is_problem(409, "SKP-2403");
}

#[tokio::test]
async fn an_archive_for_which_there_is_no_room_reaches_nobody() {
    let site = Site::with_hosts().await;
    std::fs::remove_dir(site.door.spool.path()).unwrap();
    let refused = site.door.send(&load("", b"tar")).await;
    refused.is_problem(500, "SKP-3201");
    assert!(site.hosts.iter().all(|host| host.loaded.lock().unwrap().is_empty()));
}

#[tokio::test]
async fn a_locked_swarm_is_not_backed_up() {
    let site = Site::with_hosts().await;
    let key = skep_backup::RecoveryKey::generate().recipient().to_string();
    let schedule =
        json!({"enabled": false, "every_minutes": 60, "keep": 3, "directory": null, "recipients": [key]});
    assert_eq!(site.door.send(&put("/v1/snapshot-schedules/default", schedule)).await.status, 200);
    site.door.get("/v1/environments/prod/swarm-state").await.is_problem(409, "SKP-1336");
}

#[tokio::test]
async fn an_nfs_server_that_a_host_cannot_try_is_not_wished_for() {
    let mut site = Site::with_hosts().await;
    site.hosts.clear();
    site.holds(0).await;
    let wish = json!({"spec": {"nfs": {"server": "nfs.example.com", "path": "/export"}}});
    let refused = site.door.send(&patch("/v1/environments/prod", wish)).await;
    refused.is_problem(409, "SKP-2441");
    assert!(refused.detail().contains("on a it was not tried"), "{refused:?}");
}

/// The connection never becomes frames, so any will do.
#[tokio::test]
async fn a_program_that_a_host_does_not_have_is_not_started() {
    let site = Site::with_hosts().await;
    let ask = post_json("/v1/environments/prod/hosts/a/exec", json!({"command": ["/nowhere/tool"]}))
        .with("upgrade", "skep-frames");
    let mut request = ask.request();
    let connection = hyper::upgrade::on(&mut request);
    request.extensions_mut().insert(connection);
    site.door.request(request).await.is_problem(409, "SKP-2405");
}
