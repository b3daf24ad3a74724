//! Skep's side: managers founded with `skep init`, driven over the published API as a stranger would.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use skep_wire::pki::{self, Identity};
use skep_wire::proto::v1 as kv;
use skep_wire::proto::v1::kv_client::KvClient;
use tokio_rustls::rustls::ClientConfig;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Status};

use crate::connection::{Http1, Http2, SendError};
use crate::load::Client;
use crate::process::Launch;
use crate::random::Random;
use crate::system::{Clients, Cluster, Failure, Freshness, Members, Session, told};

/// What `skep init` gives managers that are not told otherwise.
const API_PORT: u16 = 8443;
const PEER_PORT: u16 = 8444;

/// Nobody balances load here, so there is nobody to wait for before leaving.
const DRAIN_DELAY_SECS: u64 = 1;

/// All keys of a benchmark are listed together.
const PARTITION: &str = "bench";

/// The way to managers over the published API.
#[derive(Clone)]
pub(crate) struct Skep {
    addresses: Arc<[SocketAddr]>,
    grpc: Arc<ClientConfig>,
    rest: Arc<ClientConfig>,
    token: Arc<str>,
    ca_file: Arc<Path>,
}

/// Founds a cluster below `dir`, at `addresses`; nothing is started yet.
pub(crate) fn found(binary: &Path, dir: &Path, addresses: &[Ipv4Addr]) -> Result<Cluster<Skep>> {
    let founders = dir.join("managers");
    let mut init = Command::new(binary);
    init.arg("init").arg("--admin-token").arg("--out").arg(&founders).stdin(Stdio::null());
    for (address, number) in addresses.iter().zip(1..) {
        init.arg("--manager").arg(format!("m{number}={address}"));
    }
    let output = init.output().with_context(|| format!("starting {}", binary.display()))?;
    if !output.status.success() {
        bail!("skep init: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let folders: Vec<PathBuf> =
        (1..=addresses.len()).map(|number| founders.join(format!("m{number}"))).collect();
    for folder in &folders {
        leave_soon(&folder.join("server.toml"))?;
    }
    let identity = Identity::load(&folders[0]).context("reading the cluster's authority")?;
    let token = fs::read_to_string(founders.join("admin-token")).context("reading the token")?;
    let launches = folders.iter().zip(1..).map(|(folder, number)| Launch {
        name: format!("skep manager {number}"),
        program: binary.to_owned(),
        arguments: vec!["server".into(), "--data-dir".into(), folder.display().to_string()],
        log: dir.join(format!("m{number}.log")),
    });
    let clients = Skep {
        addresses: addresses.iter().map(|ip| SocketAddr::new((*ip).into(), API_PORT)).collect(),
        grpc: pki::client_config(&identity.ca_pem, None, &[pki::ALPN_GRPC])?,
        rest: pki::client_config(&identity.ca_pem, None, &[pki::ALPN_HTTP1])?,
        token: token.trim().into(),
        ca_file: folders[0].join("identity/ca.pem").into(),
    };
    Ok(Cluster { members: Members::new(launches.collect()), clients })
}

impl Skep {
    /// Where that manager's agents dial.
    pub(crate) fn peer_address(&self, member: usize) -> String {
        SocketAddr::new(self.addresses[member].ip(), PEER_PORT).to_string()
    }

    /// What `skep` needs to know as a client.
    pub(crate) fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("SKEP_URL", format!("https://{}", self.addresses[0])),
            ("SKEP_TOKEN", self.token.to_string()),
            ("SKEP_CA_FILE", self.ca_file.display().to_string()),
        ]
    }

    /// A client that speaks REST.
    pub(crate) async fn connect_rest(&self, member: usize) -> Result<Rest> {
        let address = self.addresses[member];
        let connection = Http1::connect(address, &self.rest).await?;
        Ok(Rest { connection, host: address.to_string(), token: format!("Bearer {}", self.token) })
    }

    /// Raft's term, as that manager sees it.
    pub(crate) async fn term(&self, member: usize) -> Result<u64> {
        let answer = self.get(member, "/v1/cluster").await?;
        let status: Value = serde_json::from_slice(answer.body()).context("reading /v1/cluster")?;
        status["term"].as_u64().with_context(|| format!("/v1/cluster answers without a term: {status}"))
    }

    /// Does a probe of that manager answer 200?
    pub(crate) async fn probe(&self, member: usize, path: &str) -> Result<bool> {
        Ok(self.get(member, path).await?.status() == StatusCode::OK)
    }

    /// Asks over a connection of its own.
    pub(crate) async fn get(&self, member: usize, path: &str) -> Result<Response<Bytes>> {
        self.connect_rest(member).await?.ask(Method::GET, path, Bytes::new()).await
    }
}

impl Clients for Skep {
    type Session = SkepSession;

    const NAME: &'static str = "Skep";

    async fn connect(&self, member: usize) -> Result<SkepSession> {
        let address = self.addresses[member];
        let connection = Http2::connect(address, Some(&self.grpc)).await?;
        let origin: Uri = format!("https://{address}").parse().context("writing an address")?;
        let authorization = format!("Bearer {}", self.token).parse().context("using the token")?;
        Ok(SkepSession { client: KvClient::with_origin(connection, origin), authorization })
    }

    async fn leads(&self, member: usize) -> Result<bool> {
        self.probe(member, "/leaderz").await
    }
}

/// A client of the key-value space.
#[derive(Clone)]
pub(crate) struct SkepSession {
    client: KvClient<Http2>,
    authorization: MetadataValue<Ascii>,
}

impl SkepSession {
    /// One transaction, as it goes over the wire.
    pub(crate) async fn commit(&mut self, request: kv::CommitRequest) -> Result<kv::CommitReply, Status> {
        let request = self.authorized(request);
        self.client.commit(request).await.map(tonic::Response::into_inner)
    }

    /// One key as this manager has it, with its revision.
    pub(crate) async fn stale(&mut self, name: &str) -> Result<kv::GetReply, Status> {
        let consistency = kv::Consistency::Stale.into();
        let request = self.authorized(kv::GetRequest { key: Some(key(name)), consistency });
        self.client.get(request).await.map(tonic::Response::into_inner)
    }

    fn authorized<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }
}

impl Session for SkepSession {
    /// Every write could be repeated safely: what a careful client pays for is measured.
    async fn put(&mut self, key: &str, value: Bytes) -> Result<(), Failure> {
        let request =
            kv::CommitRequest { request_id: request_id(), checks: vec![], writes: vec![write(key, value)] };
        self.commit(request).await.map(drop).map_err(|status| failure(&status))
    }

    async fn get(&mut self, name: &str, freshness: Freshness) -> Result<Option<Bytes>, Failure> {
        let consistency = match freshness {
            Freshness::Linearizable => kv::Consistency::Linearizable,
            Freshness::Stale => kv::Consistency::Stale,
        };
        let request = kv::GetRequest { key: Some(key(name)), consistency: consistency.into() };
        let request = self.authorized(request);
        let answer = self.client.get(request).await.map_err(|status| failure(&status))?;
        Ok(answer.into_inner().value)
    }
}

/// One key to write.
pub(crate) fn write(name: &str, value: Bytes) -> kv::Write {
    kv::Write { key: Some(key(name)), value: Some(value) }
}

/// A key of the benchmark.
pub(crate) fn key(name: &str) -> kv::Key {
    kv::Key { partition: PARTITION.to_owned(), id: name.to_owned() }
}

/// Different for every write of every run on one cluster.
pub(crate) fn request_id() -> Bytes {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&u64::from(std::process::id()).to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    Bytes::copy_from_slice(&id)
}

/// The contract says which answers mean that nothing has happened.
fn failure(status: &Status) -> Failure {
    let never_sent = std::error::Error::source(status)
        .and_then(|source| source.downcast_ref::<SendError>())
        .map(|error| error.not_sent);
    match (never_sent, status.code()) {
        (Some(true), _) | (None, Code::Unavailable | Code::Aborted) => Failure::NotStarted(told(status)),
        _ => Failure::Unknown(told(status)),
    }
}

fn leave_soon(config: &Path) -> Result<()> {
    let text = fs::read_to_string(config).with_context(|| format!("reading {}", config.display()))?;
    let lines = text.lines().map(|line| match line.starts_with("drain_delay_secs") {
        true => format!("drain_delay_secs = {DRAIN_DELAY_SECS}\n"),
        false => format!("{line}\n"),
    });
    fs::write(config, lines.collect::<String>()).with_context(|| format!("writing {}", config.display()))
}

/// A REST client with one connection.
pub(crate) struct Rest {
    connection: Http1,
    host: String,
    token: String,
}

impl Rest {
    /// Sends one request.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<Response<Bytes>> {
        let request = self.request(method, path, body)?;
        self.connection.ask(request).await
    }

    /// Begins a stream of events.
    pub(crate) async fn stream(&mut self, path: &str) -> Result<Incoming> {
        let request = self.request(Method::GET, path, Bytes::new())?;
        let answer = self.connection.begin(request).await?;
        ensure!(answer.status() == StatusCode::OK, "{path}: {}", answer.status());
        Ok(answer.into_body())
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, &self.token)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .context("writing a request")
    }
}

/// The longest description that a template takes. With its other fields the record has more than the 256 bytes of the
/// values that others write.
const DESCRIPTION_BYTES: usize = 200;

/// Imports templates: the one write of the domain that needs no host. It is authenticated, its YAML is read, its rule
/// looks whether the name is free, and two clients conflict only over one name.
pub(crate) struct TemplateWriter {
    rest: Rest,
    description: String,
}

impl TemplateWriter {
    /// A client.
    pub(crate) fn new(rest: Rest) -> TemplateWriter {
        let letters = (0..DESCRIPTION_BYTES).map(|at| char::from(b'a' + (at * 7 % 26) as u8));
        TemplateWriter { rest, description: letters.collect() }
    }
}

impl Client for TemplateWriter {
    async fn step(&mut self, _random: &mut Random) -> Result<(), Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let document = format!("name: t{number}\ndescription: {}\n", self.description);
        let body = Bytes::from(json!({ "document": document }).to_string());
        match self.rest.ask(Method::POST, "/v1/templates", body).await {
            Ok(answer) if answer.status() == StatusCode::CREATED => Ok(()),
            Ok(answer) => Err(Failure::Unknown(format!(
                "{}: {}",
                answer.status(),
                String::from_utf8_lossy(answer.body())
            ))),
            Err(error) => Err(Failure::Unknown(format!("{error:#}"))),
        }
    }
}
