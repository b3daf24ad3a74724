//! The link to a manager: dialled, kept, dialled elsewhere when it is lost.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::IpMtu};
use skep_wire::framing::{FramingError, MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::mux::{Incoming, Mux, MuxStream};
use skep_wire::pki::{self, ALPN_AGENT, PkiError, managers_server_name};
use skep_wire::proto::agent::{Report, ReportReply, ReportStream, StreamHeader, stream_header::Purpose};
use skep_wire::{HEARTBEAT_INTERVAL, SILENCE_MAX, random};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::address::{self, NoAddress};
use crate::backoff::Dialing;
use crate::engine::Engine;
use crate::facts::milliseconds_since_1970;
use crate::requests::Requests;
use crate::state::{Membership, StateDir};
use crate::statistics::Statistics;
use crate::streams::Streams;
use crate::terms::Terms;
use crate::{AgentConfig, AgentError, inventory};

/// A manager that has not answered by then is left for the next one.
const DIAL_MAX: Duration = Duration::from_secs(5);

/// How soon an engine that has come up is noticed: a new host waits for nothing else.
const ENGINE_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Keeps a link to some manager until the host's certificate has run out; then returns the membership
/// as it is by now.
pub(crate) async fn keep(
    config: &AgentConfig,
    state: &StateDir,
    membership: Membership,
    engine: &Engine,
    statistics: &Statistics,
) -> Result<Membership, AgentError> {
    let engine = engine.clone();
    let requests = Requests::new(engine.clone(), config, statistics.clone());
    let streams = Streams { engine: engine.clone(), terms: Terms::load(state.term_path())?, requests };
    let key_pem = state.key_pem()?;
    let mut link = Link { state, config, engine, streams, key_pem, membership, dialing: Dialing::default() };
    while pki::still_valid(&link.membership.certificate_pem)? {
        let Some((manager, wait)) = link.dialing.next(&link.membership.managers) else {
            return Err(AgentError::NotJoined);
        };
        tokio::time::sleep(wait).await;
        match link.connect(&manager).await {
            Ok(never) => match never {},
            Err(LinkError::Fatal(error)) => return Err(error),
            Err(error) => tracing::warn!(manager, %error, "there is no link to this manager"),
        }
        link.dialing.failed();
    }
    Ok(link.membership)
}

/// Connects to a manager over TLS, by whatever certificate the configuration shows.
pub async fn dial(manager: &str, cluster: &str, tls: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = managers_server_name(cluster).map_err(io::Error::other)?;
    let dialing = async {
        let tcp = TcpStream::connect(manager).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(tls).connect(name, tcp).await
    };
    timeout(DIAL_MAX, dialing).await.map_err(|_| io::ErrorKind::TimedOut)?
}

struct Link<'a> {
    state: &'a StateDir,
    config: &'a AgentConfig,
    engine: Engine,
    streams: Streams,
    key_pem: String,
    membership: Membership,
    dialing: Dialing,
}

impl Link<'_> {
    /// One link, until it is lost.
    async fn connect(&mut self, manager: &str) -> Result<Infallible, LinkError> {
        let certified = (self.membership.certificate_pem.as_str(), self.key_pem.as_str());
        let tls = pki::client_config(&self.membership.ca_pem, Some(certified), &[ALPN_AGENT])?;
        let stream = dial(manager, &self.membership.cluster, tls).await?;
        let route = Route::of(stream.get_ref().0)?;
        self.take_address(route.address)?;
        let (mux, incoming) = Mux::client(stream);
        let streams = self.streams.clone();
        tokio::select! {
            ended = self.report(manager, &mux, route) => ended,
            () = serve(streams, incoming) => Err(LinkError::Lost),
        }
    }

    /// Reports at once and then with every heartbeat, and minds the replies.
    async fn report(&mut self, manager: &str, mux: &Mux, route: Route) -> Result<Infallible, LinkError> {
        let mut stream = open_report_stream(mux).await?;
        let session = random::name();
        let address = self.take_address(route.address)?;
        let mut inventory = inventory::of_this_host(address, route.mtu, self.config.entrance).await;
        let mut told = None;
        let mut linked = false;
        loop {
            let (engine_up, engine_error) = match self.engine.probe().await {
                Ok(version) => {
                    inventory.engine_version = version.version;
                    inventory.engine_api = version.api;
                    let certificate = self.engine.swarm_certificate().await.unwrap_or_default();
                    (inventory.swarm_certificate_from, inventory.swarm_certificate_to) = certificate;
                    (true, String::new())
                }
                // The last known version stays: the engine will come back as the same one.
                Err(reason) => (false, reason),
            };
            // An interface can get another address while the link over another one lives.
            if let Ok(address) = self.take_address(route.address) {
                inventory.address = address.to_string();
            }
            let report = Report {
                session: session.clone(),
                inventory: (told.as_ref() != Some(&inventory)).then(|| inventory.clone()),
                engine_up,
                engine_error,
                sent_at_ms: milliseconds_since_1970(),
                csr_pem: self.renewal()?,
            };
            told = Some(inventory.clone());
            let reply = timeout(SILENCE_MAX, exchange(&mut stream, &report))
                .await
                .map_err(|_| LinkError::Silence)??;
            if !linked {
                linked = true;
                self.dialing.succeeded();
                tracing::info!(manager, "linked to a manager");
            }
            if reply.removed {
                return Err(LinkError::Fatal(self.part()));
            }
            self.take_over(reply);
            self.pause(engine_up).await;
            // Nothing arrives at such a link any more, and nobody says so.
            if !address::is_here(route.address) {
                return Err(LinkError::AddressGone(route.address));
            }
        }
    }

    /// The address under which this host is known, which is written down. `route` is that of the link.
    fn take_address(&mut self, route: IpAddr) -> Result<IpAddr, NoAddress> {
        let address = address::chosen(self.config.address.as_ref(), self.membership.address, route)?;
        self.keep(Membership { address: Some(address), ..self.membership.clone() });
        Ok(address)
    }

    /// Until the next heartbeat; cut short when an engine that was down answers, because work waits for it.
    async fn pause(&self, engine_up: bool) {
        let due = Instant::now() + HEARTBEAT_INTERVAL;
        while Instant::now() < due {
            let step = if engine_up { HEARTBEAT_INTERVAL } else { ENGINE_LOOK_INTERVAL };
            tokio::time::sleep(step).await;
            if !engine_up && self.engine.probe().await.is_ok() {
                return;
            }
        }
    }

    /// A certificate request when it is time for one.
    fn renewal(&self) -> Result<Option<String>, LinkError> {
        if !pki::past_half_life(&self.membership.certificate_pem)? {
            return Ok(None);
        }
        Ok(Some(pki::certificate_request(&self.key_pem, &self.membership.host_id)?))
    }

    /// Remembers new managers and a new certificate; the latter is shown with the next link.
    fn take_over(&mut self, reply: ReportReply) {
        let mut membership = self.membership.clone();
        if !reply.managers.is_empty() {
            membership.managers = reply.managers;
        }
        if let Some(certificate_pem) = reply.certificate_pem {
            // A certificate that cannot be used must not replace one that can.
            let certified = Some((certificate_pem.as_str(), self.key_pem.as_str()));
            match pki::client_config(&membership.ca_pem, certified, &[ALPN_AGENT]) {
                Ok(_) => membership.certificate_pem = certificate_pem,
                Err(error) => tracing::warn!(%error, "this host's new certificate cannot be used"),
            }
        }
        self.keep(membership);
    }

    /// If it cannot be written down, on a full disk for instance, the link is worth more than the memory of it: the managers
    /// say everything again.
    fn keep(&mut self, membership: Membership) {
        if membership == self.membership {
            return;
        }
        match self.state.save(&membership) {
            Ok(()) => self.membership = membership,
            Err(error) => {
                tracing::warn!(%error, "what this host must know after a restart could not be written down");
                // Good for now; a new certificate is asked for again.
                self.membership.managers = membership.managers;
                self.membership.address = membership.address;
            }
        }
    }

    /// Notes that the host was removed, so that a restart does not bring it back.
    fn part(&self) -> AgentError {
        match self.state.save(&Membership { removed: true, ..self.membership.clone() }) {
            Ok(()) => AgentError::Removed,
            Err(error) => error,
        }
    }
}

async fn open_report_stream(mux: &Mux) -> Result<MuxStream, LinkError> {
    let mut stream = mux.open().await?;
    let header = StreamHeader { purpose: Some(Purpose::Report(ReportStream {})) };
    write_message(&mut stream, &header, MESSAGE_BYTES_MAX).await?;
    Ok(stream)
}

async fn exchange(stream: &mut MuxStream, report: &Report) -> Result<ReportReply, FramingError> {
    write_message(stream, report, MESSAGE_BYTES_MAX).await?;
    read_message(stream, MESSAGE_BYTES_MAX).await
}

/// Serves the manager's streams; how many there can be is the link's bound. They end with the link.
async fn serve(streams: Streams, mut incoming: Incoming) {
    let mut served = JoinSet::new();
    while let Some(stream) = incoming.recv().await {
        served.spawn(streams.clone().serve(stream));
        while served.try_join_next().is_some() {}
    }
}

/// How this host reaches the manager.
struct Route {
    address: IpAddr,
    mtu: u32,
}

impl Route {
    /// The kernel is asked about this connection rather than about interfaces: it has already chosen the
    /// right one, also in a network namespace whose `/sys` is another's.
    fn of(tcp: &TcpStream) -> io::Result<Route> {
        let mtu = getsockopt(tcp, IpMtu).ok().and_then(|mtu| u32::try_from(mtu).ok()).unwrap_or_default();
        Ok(Route { address: tcp.local_addr()?.ip(), mtu })
    }
}

/// Why there is no link, or none any more.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("connecting: {0}")]
    Dial(#[from] io::Error),
    #[error("the manager was silent for {} s", SILENCE_MAX.as_secs())]
    Silence,
    #[error("the connection was lost")]
    Lost,
    #[error("this host does not have the address {0} any more, from which the link came")]
    AddressGone(IpAddr),
    #[error(transparent)]
    Address(#[from] NoAddress),
    #[error(transparent)]
    Framing(#[from] FramingError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Fatal(AgentError),
}
