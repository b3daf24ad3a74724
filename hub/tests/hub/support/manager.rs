//! A manager without Raft: its peer port, its hub, and a memory of what hosts told it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use skep_agent::JoinFile;
use skep_hub::{Admitted, Hub, HubEvents, RegisterRefusal, TunnelService};
use skep_wire::accept::{Accepted, accept};
use skep_wire::channels::{PeerChannels, peer_server};
use skep_wire::pki::{self, Authority, Identity};
use skep_wire::proto::agent::{RegisterRequest, Report};
use skep_wire::proto::peer::tunnel_server::TunnelServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{CLUSTER, DEADLINE, HOST};

pub(crate) struct Manager {
    pub(crate) hub: Hub,
    pub(crate) identity: Identity,
    pub(crate) address: String,
    node: u64,
    channels: PeerChannels,
    known: watch::Sender<Vec<String>>,
    events: Arc<Events>,
    running: CancellationToken,
}

#[derive(Clone, Debug)]
enum Event {
    Connected(Report),
    Reported(Report),
    Disconnected,
}

struct Events {
    authority: Authority,
    identity: Identity,
    seen: watch::Sender<Vec<Event>>,
    unavailable: AtomicU32,
}

#[async_trait]
impl HubEvents for Events {
    async fn register(&self, request: RegisterRequest) -> Result<Admitted, RegisterRefusal> {
        if self
            .unavailable
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok()
        {
            return Err(RegisterRefusal::unavailable("there is no leader"));
        }
        let key = &self.identity.registration_key;
        if !pki::verify_registration_token(key, CLUSTER, &request.host_id, &request.token) {
            return Err(RegisterRefusal {
                code: "TOKEN_INVALID".into(),
                message: "not this host's token".into(),
            });
        }
        Ok(Admitted {
            certificate_pem: self.authority.sign_host_csr(&request.csr_pem, &request.host_id).unwrap(),
            host_id: request.host_id,
            ca_pem: self.identity.ca_pem.clone(),
        })
    }

    async fn renew(&self, host: &str, csr_pem: &str) -> Result<String, RegisterRefusal> {
        Ok(self.authority.sign_host_csr(csr_pem, host).unwrap())
    }

    async fn connected(&self, host: &str, _session: &str, report: &Report) {
        assert_eq!(host, HOST);
        self.seen.send_modify(|seen| seen.push(Event::Connected(report.clone())));
    }

    async fn reported(&self, _host: &str, _session: &str, report: &Report) {
        assert!(report.inventory.is_some(), "a reported change is complete");
        self.seen.send_modify(|seen| seen.push(Event::Reported(report.clone())));
    }

    async fn disconnected(&self, _host: &str, _session: &str) {
        self.seen.send_modify(|seen| seen.push(Event::Disconnected));
    }
}

impl Manager {
    /// Two managers of one cluster that know each other.
    pub(crate) async fn two() -> (Manager, Manager) {
        let identity = Identity::create(CLUSTER, 1, &[]).unwrap();
        let other = identity.for_manager(2, &[]).unwrap();
        let (first, second) = (Manager::start(identity, 1).await, Manager::start(other, 2).await);
        first.knows(&second);
        second.knows(&first);
        (first, second)
    }

    pub(crate) async fn start(identity: Identity, node: u64) -> Manager {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let channels = PeerChannels::new(pki::manager_client_config(&identity).unwrap(), CLUSTER, node);
        let events = Arc::new(Events {
            authority: identity.authority().unwrap(),
            identity: identity.clone(),
            seen: watch::Sender::new(Vec::new()),
            unavailable: AtomicU32::new(0),
        });
        let known = watch::Sender::new(vec![address.clone()]);
        let hub = Hub::new(node, channels.clone(), events.clone(), known.subscribe());
        let running = CancellationToken::new();
        tokio::spawn(serve(listener, identity.clone(), hub.clone(), running.clone()));
        Manager { hub, identity, address, node, channels, known, events, running }
    }

    /// Tells this manager where another one is.
    pub(crate) fn knows(&self, other: &Manager) {
        self.channels.set(other.node, other.address.clone());
    }

    /// Until then agents learn only of this manager, so that a test knows where they are.
    pub(crate) fn tells_agents_about(&self, other: &Manager) {
        self.known.send_modify(|known| known.push(other.address.clone()));
    }

    /// Ends the port and every connection on it, as the end of the process would.
    pub(crate) fn stop(&self) {
        self.running.cancel();
    }

    pub(crate) fn join_file(&self, managers: &[&Manager]) -> JoinFile {
        JoinFile {
            cluster: CLUSTER.into(),
            host_id: HOST.into(),
            managers: managers.iter().map(|manager| manager.address.clone()).collect(),
            ca_pem: self.identity.ca_pem.clone(),
            token: pki::registration_token(&self.identity.registration_key, CLUSTER, HOST),
        }
    }

    pub(crate) fn refuse_as_unavailable(&self, times: u32) {
        self.events.unavailable.store(times, Ordering::SeqCst);
    }

    pub(crate) async fn connected(&self) -> Report {
        self.connected_other_than("").await
    }

    pub(crate) async fn connected_other_than(&self, session: &str) -> Report {
        self.seen("connected", |event| match event {
            Event::Connected(report) if report.session != session => Some(report.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn reported(&self, is_it: impl Fn(&Report) -> bool) -> Report {
        self.seen("reported", |event| match event {
            Event::Reported(report) if is_it(report) => Some(report.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn disconnected(&self) {
        self.seen("disconnected", |event| matches!(event, Event::Disconnected).then_some(())).await;
    }

    /// A session is told and entered into the table at about the same time.
    pub(crate) async fn hub_has(&self, host: &str) {
        let appeared = async {
            while !self.hub.local_hosts().iter().any(|held| held == host) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, appeared).await.expect("the agent is connected to this manager");
    }

    async fn seen<T>(&self, what: &str, find: impl Fn(&Event) -> Option<T>) -> T {
        let mut seen = self.events.seen.subscribe();
        let waiting = seen.wait_for(|seen| seen.iter().any(|event| find(event).is_some()));
        if let Ok(seen) = tokio::time::timeout(DEADLINE, waiting).await {
            return seen.unwrap().iter().find_map(find).unwrap();
        }
        panic!("waited for {what}; seen: {:#?}", self.events.seen.borrow());
    }
}

async fn serve(listener: TcpListener, identity: Identity, hub: Hub, running: CancellationToken) {
    let tls = pki::peer_server_config(&identity).unwrap();
    let (managers, accepted) = mpsc::channel::<Result<_, std::io::Error>>(16);
    let grpc = peer_server()
        .add_service(TunnelServer::new(TunnelService::new(hub.clone())))
        .serve_with_incoming(ReceiverStream::new(accepted));
    let grpc = running.clone().run_until_cancelled_owned(grpc);
    // Everything that serves a connection is dropped with this future.
    let _grpc = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(grpc));
    let accepting = async {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (tls, hub, managers) = (tls.clone(), hub.clone(), managers.clone());
            let serving = async move {
                match accept(tls, tcp, CLUSTER).await {
                    Ok(Accepted::Manager(connection)) => {
                        managers.send(Ok(connection)).await.unwrap_or_default()
                    }
                    Ok(Accepted::Agent { io, host_id }) => hub.serve_agent(io, host_id).await,
                    Ok(Accepted::Registration(io)) => hub.serve_registration(io).await,
                    Ok(Accepted::Join { .. }) => {}
                    Err(error) => eprintln!("turned away: {error}"),
                }
            };
            tokio::spawn(running.clone().run_until_cancelled_owned(serving));
        }
    };
    running.run_until_cancelled(accepting).await;
}
