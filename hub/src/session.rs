//! One agent's link: registration before it exists, reports while it lives, streams over it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_wire::SILENCE_MAX;
use skep_wire::framing::{FramingError, MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::mux::{Incoming, Mux, MuxStream};
use skep_wire::proto::agent::{
    AgentStream, DockerStream, Refused, RegisterReply, RegisterRequest, Registered, Report, ReportReply,
    StreamError, StreamFailure, StreamHeader, StreamReady, register_reply, stream_header,
};
use skep_wire::proto::peer::HostService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::stream::Target;
use crate::{Admitted, HostStream, Hub, HubError, HubEvents, RegisterRefusal};

/// A host that has connected to register says so at once.
const REGISTER_REQUEST_MAX: Duration = Duration::from_secs(5);

/// How long admitting a host may take; it includes a change of the replicated state, perhaps during an
/// election. Shorter than the agent waits.
const REGISTER_ANSWER_MAX: Duration = Duration::from_secs(20);

/// Signing a certificate. Kept well below the silence after which the agent gives the link up.
const RENEW_MAX: Duration = Duration::from_secs(5);

/// Before an unchanged report is told again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Opening a stream includes the agent's connection to its engine's socket.
const OPEN_MAX: Duration = Duration::from_secs(10);

impl Hub {
    /// Answers one registration.
    pub async fn serve_registration<Io>(&self, mut io: Io)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let read = timeout(REGISTER_REQUEST_MAX, read_message(&mut io, MESSAGE_BYTES_MAX)).await;
        let Ok(Ok(request)) = read else {
            tracing::debug!("a connection for a registration brought no request");
            return;
        };
        let reply = self.register(request).await;
        let written = write_message(&mut io, &reply, MESSAGE_BYTES_MAX).await;
        // Whether the host got it or not: it asks again if it did not.
        let _ = (written, io.shutdown().await);
    }

    /// Serves an agent's link until it ends. `host` was read from the agent's certificate.
    pub async fn serve_agent<Io>(&self, io: Io, host: String)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mux, mut incoming) = Mux::server(io);
        let reason = self.serve_reports(&mux, &mut incoming, &host).await;
        mux.close();
        tracing::info!(host.id = host, reason = %reason, "an agent's link has ended");
    }

    /// Tells the agent of a host that was removed, so that it does not dial for ever.
    pub async fn turn_away<Io>(&self, io: Io, host: &str)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mux, mut incoming) = Mux::server(io);
        let told = async {
            let mut stream = report_stream(&mut incoming).await?;
            next_report(&mut stream).await?;
            let reply = ReportReply { removed: true, ..ReportReply::default() };
            write_message(&mut stream, &reply, MESSAGE_BYTES_MAX).await?;
            // It hangs up when it has read this.
            next_report(&mut stream).await
        };
        let ended: Result<Report, LinkEnd> = told.await;
        mux.close();
        tracing::info!(host.id = host, ended = ?ended.err(), "an agent of a removed host was turned away");
    }

    async fn register(&self, request: RegisterRequest) -> RegisterReply {
        let asked = request.host_id.clone();
        let outcome = if request.cluster == self.shared.channels.cluster() {
            timeout(REGISTER_ANSWER_MAX, self.shared.events.register(request))
                .await
                .unwrap_or_else(|_| Err(RegisterRefusal::unavailable("the managers did not decide in time")))
        } else {
            let message =
                format!("this is cluster {}, not {}", self.shared.channels.cluster(), request.cluster);
            Err(RegisterRefusal { code: "WRONG_CLUSTER".into(), message })
        };
        let outcome = match outcome {
            Ok(Admitted { host_id, certificate_pem, ca_pem }) => {
                tracing::info!(host.id = host_id, "a host was registered");
                let managers = self.managers();
                register_reply::Outcome::Registered(Registered { certificate_pem, managers, host_id, ca_pem })
            }
            Err(RegisterRefusal { code, message }) => {
                tracing::warn!(host.id = asked, code, message, "a host's registration was refused");
                register_reply::Outcome::Refused(Refused { code, message })
            }
        };
        RegisterReply { outcome: Some(outcome) }
    }

    async fn serve_reports(&self, mux: &Mux, incoming: &mut Incoming, host: &str) -> LinkEnd {
        match self.receive_reports(mux, incoming, host).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn receive_reports(
        &self,
        mux: &Mux,
        incoming: &mut Incoming,
        host: &str,
    ) -> Result<std::convert::Infallible, LinkEnd> {
        let mut stream = report_stream(incoming).await?;
        let mut known = next_report(&mut stream).await?;
        if known.session.is_empty() || known.inventory.is_none() {
            return Err(LinkEnd::Protocol("the first report names no session or has no inventory"));
        }
        let asked = known.csr_pem.take();
        let session = Session { host: host.to_owned(), id: known.session.clone(), mux: mux.clone() };
        let (changes, changed) = watch::channel(known.clone());
        tokio::spawn(tell(self.shared.events.clone(), host.to_owned(), changed));
        let _entered = self.shared.sessions.enter(session);
        self.reply(&mut stream, host, asked).await?;
        loop {
            let mut report = next_report(&mut stream).await?;
            let asked = report.csr_pem.take();
            if take_over(&mut known, report) {
                changes.send_replace(known.clone());
            }
            self.reply(&mut stream, host, asked).await?;
        }
    }

    async fn reply(
        &self,
        stream: &mut MuxStream,
        host: &str,
        csr_pem: Option<String>,
    ) -> Result<(), LinkEnd> {
        let certificate_pem = match csr_pem {
            Some(csr_pem) => self.renew(host, &csr_pem).await,
            None => None,
        };
        let reply = ReportReply { managers: self.managers(), certificate_pem, removed: false };
        timeout(SILENCE_MAX, write_message(stream, &reply, MESSAGE_BYTES_MAX))
            .await
            .map_err(|_| LinkEnd::Silence)??;
        Ok(())
    }

    /// Without an answer the agent asks again with its next report.
    async fn renew(&self, host: &str, csr_pem: &str) -> Option<String> {
        let refusal = match timeout(RENEW_MAX, self.shared.events.renew(host, csr_pem)).await {
            Ok(Ok(certificate_pem)) => return Some(certificate_pem),
            Ok(Err(refusal)) => refusal,
            Err(_) => RegisterRefusal::unavailable("the managers did not decide in time"),
        };
        tracing::warn!(
            host.id = host,
            code = refusal.code,
            message = refusal.message,
            "a host's certificate was not renewed"
        );
        None
    }

    fn managers(&self) -> Vec<String> {
        self.shared.managers.borrow().clone()
    }
}

/// The agent opens one stream, for its reports.
async fn report_stream(incoming: &mut Incoming) -> Result<MuxStream, LinkEnd> {
    let mut stream =
        timeout(SILENCE_MAX, incoming.recv()).await.map_err(|_| LinkEnd::Silence)?.ok_or(LinkEnd::Lost)?;
    let header: StreamHeader = timeout(SILENCE_MAX, read_message(&mut stream, MESSAGE_BYTES_MAX))
        .await
        .map_err(|_| LinkEnd::Silence)??;
    match header.purpose {
        Some(stream_header::Purpose::Report(_)) => Ok(stream),
        _ => Err(LinkEnd::Protocol("the first stream is not for reports")),
    }
}

async fn next_report(stream: &mut MuxStream) -> Result<Report, LinkEnd> {
    let report = timeout(SILENCE_MAX, read_message(stream, MESSAGE_BYTES_MAX))
        .await
        .map_err(|_| LinkEnd::Silence)??;
    Ok(report)
}

/// Brings what is known up to date; whether anything that matters has changed.
fn take_over(known: &mut Report, report: Report) -> bool {
    let inventory = report.inventory.or_else(|| known.inventory.clone());
    let changed = inventory != known.inventory
        || report.engine_up != known.engine_up
        || report.engine_error != known.engine_error;
    known.inventory = inventory;
    known.engine_up = report.engine_up;
    known.engine_error = report.engine_error;
    known.sent_at_ms = report.sent_at_ms;
    changed
}

/// Tells the story of one session in order, at the listener's own pace. Told again now and then even if nothing has
/// changed: a listener that got it wrong, in whatever way, is right again after a while.
async fn tell(events: Arc<dyn HubEvents>, host: String, mut changed: watch::Receiver<Report>) {
    let first = changed.borrow_and_update().clone();
    while_linked(&changed, events.connected(&host, &first.session, &first)).await;
    while !matches!(timeout(TELL_AGAIN, changed.changed()).await, Ok(Err(_))) {
        let report = changed.borrow_and_update().clone();
        while_linked(&changed, events.reported(&host, &report.session, &report)).await;
    }
    events.disconnected(&host, &first.session).await;
}

/// What is not written down when the session ends is out of date; the host may be telling another manager already.
async fn while_linked(session: &watch::Receiver<Report>, telling: impl Future<Output = ()>) {
    let mut session = session.clone();
    let ended = async { while session.changed().await.is_ok() {} };
    tokio::select! {
        () = telling => {}
        () = ended => {}
    }
}

/// Why an agent's link has ended.
#[derive(Debug, thiserror::Error)]
enum LinkEnd {
    #[error("the agent was silent for {} s", SILENCE_MAX.as_secs())]
    Silence,
    #[error("the connection was lost or closed")]
    Lost,
    #[error("{0}")]
    Protocol(&'static str),
    #[error(transparent)]
    Framing(#[from] FramingError),
}

/// A connected agent.
#[derive(Clone)]
pub(crate) struct Session {
    host: String,
    id: String,
    pub(crate) mux: Mux,
}

impl Session {
    /// Opens a stream to a service of the host.
    pub(crate) async fn open(&self, target: Target<'_>) -> Result<HostStream, HubError> {
        let link = |reason: String| HubError::Link { host: self.host.clone(), reason };
        match timeout(OPEN_MAX, self.ask_for_stream(target)).await {
            Ok(Ok((stream, StreamReady { error: None, engine_api }))) => {
                Ok(HostStream::local(stream, engine_api))
            }
            Ok(Ok((_, StreamReady { error: Some(error), .. }))) => Err(self.refused(target.term, error)),
            Ok(Err(error)) => Err(link(error.to_string())),
            Err(_) => Err(link(format!("its agent did not answer within {} s", OPEN_MAX.as_secs()))),
        }
    }

    async fn ask_for_stream(&self, target: Target<'_>) -> Result<(MuxStream, StreamReady), FramingError> {
        let mut stream = self.mux.open().await?;
        let term = target.term;
        let purpose = match target.service {
            HostService::Engine => stream_header::Purpose::Docker(DockerStream { term }),
            HostService::Agent => stream_header::Purpose::Agent(AgentStream { term }),
        };
        let header = StreamHeader { purpose: Some(purpose) };
        write_message(&mut stream, &header, MESSAGE_BYTES_MAX).await?;
        let ready = read_message(&mut stream, MESSAGE_BYTES_MAX).await?;
        Ok((stream, ready))
    }

    fn refused(&self, term: Option<u64>, error: StreamError) -> HubError {
        let host = self.host.clone();
        match (error.failure(), term) {
            (StreamFailure::Term, Some(term)) => {
                HubError::StaleTerm { host, term, obeyed: error.obeyed_term }
            }
            _ => HubError::Engine { host, message: error.message },
        }
    }
}

/// The agents that are connected here, by host.
#[derive(Clone, Default)]
pub(crate) struct Sessions {
    by_host: Arc<Mutex<HashMap<String, Session>>>,
}

impl Sessions {
    pub(crate) fn find(&self, host: &str) -> Option<Session> {
        self.by_host().get(host).cloned()
    }

    pub(crate) fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self.by_host().keys().cloned().collect();
        hosts.sort_unstable();
        hosts
    }

    /// Host and session of every agent.
    pub(crate) fn held(&self) -> Vec<(String, String)> {
        self.by_host().values().map(|session| (session.host.clone(), session.id.clone())).collect()
    }

    /// An agent dials again only when it has given its old link up, so the newer session is the right
    /// one, and the older one is closed.
    fn enter(&self, session: Session) -> Entered {
        let (host, id) = (session.host.clone(), session.id.clone());
        if let Some(older) = self.by_host().insert(host.clone(), session) {
            older.mux.close();
        }
        Entered { sessions: self.clone(), host, id }
    }

    /// Nobody can leave the map half-changed, so a panic elsewhere does not spoil it.
    fn by_host(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a session in the table as long as it lives; leaves a newer one of the same host alone.
struct Entered {
    sessions: Sessions,
    host: String,
    id: String,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut by_host = self.sessions.by_host();
        if by_host.get(&self.host).is_some_and(|session| session.id == self.id) {
            by_host.remove(&self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::proto::agent::Inventory;

    use super::*;

    #[test]
    fn a_heartbeat_changes_nothing_and_keeps_the_inventory() {
        let inventory = Some(Inventory { cpus: 2, ..Inventory::default() });
        let mut known = Report { inventory: inventory.clone(), engine_up: true, ..Report::default() };
        assert!(!take_over(&mut known, Report { engine_up: true, sent_at_ms: 5, ..Report::default() }));
        assert_eq!(known.inventory, inventory);
        assert_eq!(known.sent_at_ms, 5);
    }

    #[test]
    fn an_engine_that_went_away_and_another_inventory_are_changes() {
        let mut known = Report { engine_up: true, ..Report::default() };
        assert!(take_over(&mut known, Report { engine_error: "gone".into(), ..Report::default() }));
        assert!(take_over(
            &mut known,
            Report {
                engine_error: "gone".into(),
                inventory: Some(Inventory::default()),
                ..Report::default()
            }
        ));
    }
}
