//! Agents by the thousand in this process: everything that a manager sees of an agent, and nothing of a host.
//!
//! Each registers with a token of its environment and a key of its own, dials with the certificate that it got, keeps one
//! link, reports as often as a real agent, and dials again in the same order and with the same pauses ([`Dialing`] and
//! [`dial`] are the agent's own). What it reports is a machine whose engine does not answer: nothing can be begun on it,
//! so it stays as it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use skep_agent::{Dialing, dial};
use skep_wire::framing::{MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::mux::{Mux, MuxStream};
use skep_wire::pki::{self, ALPN_AGENT, JoinToken, Joiner};
use skep_wire::proto::agent::{
    Inventory, Offer, RegisterReply, RegisterRequest, Registered, Report, ReportReply, ReportStream,
    StreamHeader, register_reply::Outcome, stream_header::Purpose,
};
use skep_wire::{HEARTBEAT_INTERVAL, REGISTER_UNAVAILABLE, SILENCE_MAX, random};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;

/// A manager that does not decide by then is asked again.
const REGISTER_MAX: Duration = Duration::from_secs(30);

/// Before a registration is repeated that nobody could decide about.
const REGISTER_PAUSE: Duration = Duration::from_millis(200);

/// Between two times that all links are counted.
const LINKS_COUNTED_EVERY: Duration = Duration::from_millis(20);

/// A host that has been let in.
pub(crate) struct LightAgent {
    cluster: String,
    address: String,
    tls: Arc<ClientConfig>,
}

/// Agents that run until this is dropped.
pub(crate) struct Swarm {
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Whom they may dial.
    managers: Mutex<Vec<String>>,
    linked: AtomicUsize,
    /// By agent: when its newest link was made.
    links: Mutex<Vec<Option<Instant>>>,
    /// Attempts that failed.
    failures: AtomicUsize,
}

impl LightAgent {
    /// Registers a machine of this name and address at the first of `managers`.
    pub(crate) async fn register(
        token: &str,
        name: &str,
        address: &str,
        manager: &str,
    ) -> Result<LightAgent> {
        let parsed = JoinToken::parse(Joiner::Host, token).context("the answer has no registration token")?;
        let key_pem = pki::generate_key()?;
        let request = RegisterRequest {
            cluster: parsed.cluster.clone(),
            host_id: String::new(),
            token: token.to_owned(),
            csr_pem: pki::certificate_request(&key_pem, "")?,
            offer: Some(Offer { name: name.to_owned(), address: address.to_owned(), ..Offer::default() }),
        };
        let registered = loop {
            match ask(&parsed, manager, &request).await? {
                Outcome::Registered(registered) => break registered,
                Outcome::Refused(refused) if refused.code == REGISTER_UNAVAILABLE => {
                    tokio::time::sleep(REGISTER_PAUSE).await;
                }
                Outcome::Refused(refused) => {
                    bail!("{name} was refused: {} ({})", refused.message, refused.code)
                }
            }
        };
        let Registered { certificate_pem, ca_pem, .. } = registered;
        let certified = Some((certificate_pem.as_str(), key_pem.as_str()));
        let mut tls = Arc::unwrap_or_clone(pki::client_config(&ca_pem, certified, &[ALPN_AGENT])?);
        // Real agents make a configuration for every link, so they never resume a session either.
        tls.resumption = Resumption::disabled();
        Ok(LightAgent { cluster: parsed.cluster, address: address.to_owned(), tls: Arc::new(tls) })
    }

    async fn live(self, number: usize, shared: Arc<Shared>) {
        let mut dialing = Dialing::default();
        loop {
            let managers = shared.managers.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some((manager, wait)) = dialing.next(&managers) else { return };
            tokio::time::sleep(wait).await;
            let mut linked = false;
            let lost = self.link(&manager, || {
                linked = true;
                dialing.succeeded();
                shared.link_made(number);
            });
            // Without a link this is how dialling failed; either way it is dialled again.
            if lost.await.is_err() && !linked {
                shared.failures.fetch_add(1, Ordering::Relaxed);
            }
            if linked {
                shared.linked.fetch_sub(1, Ordering::Relaxed);
            }
            dialing.failed();
        }
    }

    /// One link, until it is lost.
    async fn link(&self, manager: &str, made: impl FnMut()) -> Result<()> {
        let stream = dial(manager, &self.cluster, self.tls.clone()).await?;
        let (mux, _incoming) = Mux::client(stream);
        tokio::select! {
            ended = self.report(&mux, made) => ended,
            () = mux.ended() => bail!("the connection was closed"),
        }
    }

    async fn report(&self, mux: &Mux, mut made: impl FnMut()) -> Result<()> {
        let mut stream = mux.open().await?;
        let header = StreamHeader { purpose: Some(Purpose::Report(ReportStream {})) };
        write_message(&mut stream, &header, MESSAGE_BYTES_MAX).await?;
        let session = random::name();
        let mut inventory = Some(self.inventory());
        loop {
            let first = inventory.is_some();
            let report = Report {
                session: session.clone(),
                inventory: inventory.take(),
                engine_up: false,
                engine_error: "this host is simulated".into(),
                sent_at_ms: 0,
                csr_pem: None,
            };
            timeout(SILENCE_MAX, exchange(&mut stream, &report)).await.context("the manager is silent")??;
            if first {
                made();
            }
            tokio::time::sleep(HEARTBEAT_INTERVAL).await;
        }
    }

    fn inventory(&self) -> Inventory {
        Inventory {
            cpus: 4,
            memory_bytes: 8 << 30,
            kernel: "6.1.0-18-amd64".into(),
            architecture: "x86_64".into(),
            os: "Debian GNU/Linux 12 (bookworm)".into(),
            hostname: self.address.clone(),
            mtu: 1_500,
            address: self.address.clone(),
            engine_version: "27.3.1".into(),
            engine_api: "1.47".into(),
            ..Inventory::default()
        }
    }
}

async fn ask(token: &JoinToken, manager: &str, request: &RegisterRequest) -> Result<Outcome> {
    let mut stream =
        dial(manager, &token.cluster, token.client_config()?).await.context("dialling a manager")?;
    let exchange = async {
        write_message(&mut stream, request, MESSAGE_BYTES_MAX).await?;
        read_message::<RegisterReply, _>(&mut stream, MESSAGE_BYTES_MAX).await
    };
    let reply = timeout(REGISTER_MAX, exchange).await.context("a manager does not decide")?;
    reply.context("registering")?.outcome.context("an answer that neither accepts nor refuses")
}

async fn exchange(stream: &mut MuxStream, report: &Report) -> Result<ReportReply> {
    write_message(stream, report, MESSAGE_BYTES_MAX).await?;
    Ok(read_message(stream, MESSAGE_BYTES_MAX).await?)
}

impl Shared {
    fn link_made(&self, agent: usize) {
        self.linked.fetch_add(1, Ordering::Relaxed);
        self.links.lock().unwrap_or_else(PoisonError::into_inner)[agent] = Some(Instant::now());
    }
}

impl Swarm {
    /// All of them dial one of these managers (`host:port`).
    pub(crate) fn start(agents: Vec<LightAgent>, managers: Vec<String>) -> Swarm {
        let shared = Arc::new(Shared {
            managers: Mutex::new(managers),
            linked: AtomicUsize::new(0),
            links: Mutex::new(vec![None; agents.len()]),
            failures: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        for (number, agent) in agents.into_iter().enumerate() {
            tasks.spawn(agent.live(number, shared.clone()));
        }
        Swarm { tasks, shared }
    }

    /// How many agents there are.
    pub(crate) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// How many of them are linked now.
    pub(crate) fn linked(&self) -> usize {
        self.shared.linked.load(Ordering::Relaxed)
    }

    /// How often dialling has failed so far.
    pub(crate) fn failures(&self) -> usize {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// From now on they may dial these.
    pub(crate) fn may_dial(&self, managers: Vec<String>) {
        *self.shared.managers.lock().unwrap_or_else(PoisonError::into_inner) = managers;
    }

    /// Waits until all have links that were made after `from`.
    pub(crate) async fn all_linked_since(&self, from: Instant, max: Duration) -> Result<()> {
        let deadline = Instant::now() + max;
        loop {
            let linked = self.links_made_since(from).len();
            if linked == self.count() && self.linked() == self.count() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{linked} of {} agents are linked after {} s", self.count(), max.as_secs());
            }
            tokio::time::sleep(LINKS_COUNTED_EVERY).await;
        }
    }

    /// How long after `from` each agent's newest link was made, as far as that was later.
    pub(crate) fn links_made_since(&self, from: Instant) -> Vec<Duration> {
        let links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.iter().flatten().filter(|at| **at >= from).map(|at| *at - from).collect()
    }
}
