//! Channels between managers over real TLS: who may answer, and what happens when a manager restarts,
//! moves, or is somebody else.

#![allow(clippy::unwrap_used, reason = "a failed step of a test may panic")]

use std::time::Duration;

use skep_wire::accept::{Accepted, accept};
use skep_wire::channels::{ChannelError, PeerChannels, Purpose, peer_server};
use skep_wire::pki::{Identity, PeerName, Role, manager_client_config, peer_server_config};
use skep_wire::proto::peer::frame::Part;
use skep_wire::proto::peer::tunnel_client::TunnelClient;
use skep_wire::proto::peer::tunnel_server::{Tunnel, TunnelServer};
use skep_wire::proto::peer::{Empty, Frame, HeldAgentsReply, TunnelReady};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

const CLUSTER: &str = "c1";
const DEADLINE: Duration = Duration::from_secs(60);

/// Answers with the caller's name, as the certificate says, and its own node id.
struct WhoIsThere {
    node: u64,
}

#[async_trait]
impl Tunnel for WhoIsThere {
    type OpenStream = tokio_stream::Iter<std::array::IntoIter<Result<Frame, Status>, 1>>;

    async fn open(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::OpenStream>, Status> {
        let caller = request.extensions().get::<PeerName>().expect("every request has its caller's name");
        let Role::Manager(caller) = caller.role else { panic!("not a manager") };
        let ready =
            TunnelReady { engine_api: format!("{caller} called {}", self.node), error: None, service: 0 };
        Ok(Response::new(tokio_stream::iter([Ok(Frame { part: Some(Part::Ready(ready)) })])))
    }

    async fn held_agents(&self, _: Request<Empty>) -> Result<Response<HeldAgentsReply>, Status> {
        Err(Status::unimplemented("nobody asks here"))
    }
}

/// A manager's peer port; ends when the value is dropped.
struct Port {
    address: String,
    running: CancellationToken,
}

impl Port {
    async fn open(identity: &Identity, address: &str) -> Port {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let running = CancellationToken::new();
        let node = identity.node().unwrap();
        let tls = peer_server_config(identity).unwrap();
        let (managers, accepted) = mpsc::channel::<Result<_, std::io::Error>>(4);
        let server = peer_server()
            .add_service(TunnelServer::new(WhoIsThere { node }))
            .serve_with_incoming_shutdown(ReceiverStream::new(accepted), running.clone().cancelled_owned());
        tokio::spawn(server);
        let accepting = async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(Accepted::Manager(connection)) = accept(tls.clone(), tcp, CLUSTER).await {
                    managers.send(Ok(connection)).await.unwrap();
                }
            }
        };
        tokio::spawn(running.clone().run_until_cancelled_owned(accepting));
        Port { address, running }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.running.cancel();
    }
}

async fn call(channels: &PeerChannels, node: u64, purpose: Purpose) -> Result<String, Status> {
    let channel = channels.get_for(node, purpose).unwrap();
    let request = tokio_stream::iter([Frame { part: Some(Part::End(true)) }]);
    let mut answer = TunnelClient::new(channel).open(request).await?.into_inner();
    match answer.message().await?.and_then(|frame| frame.part) {
        Some(Part::Ready(ready)) => Ok(ready.engine_api),
        other => panic!("not the answer: {other:?}"),
    }
}

async fn until_answered(channels: &PeerChannels, node: u64) -> String {
    let answered = async {
        loop {
            match call(channels, node, Purpose::Raft).await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, answered).await.expect("the manager answers")
}

fn two() -> (Identity, Identity, PeerChannels) {
    let first = Identity::create(CLUSTER, 1, &[]).unwrap();
    let second = first.for_manager(2, &[]).unwrap();
    let channels = PeerChannels::new(manager_client_config(&first).unwrap(), CLUSTER, 1);
    (first, second, channels)
}

#[tokio::test]
async fn every_purpose_reaches_the_manager_and_both_know_who_is_there() {
    let (_, second, channels) = two();
    let port = Port::open(&second, "127.0.0.1:0").await;
    channels.set(2, port.address.clone());
    for purpose in [Purpose::Raft, Purpose::Heartbeat, Purpose::Bulk] {
        assert_eq!(call(&channels, 2, purpose).await.unwrap(), "1 called 2");
    }
    assert_eq!(channels.nodes(), [2]);
}

#[tokio::test]
async fn a_manager_that_restarted_or_moved_is_reached_again() {
    let (_, second, channels) = two();
    let port = Port::open(&second, "127.0.0.1:0").await;
    let address = port.address.clone();
    channels.set(2, address.clone());
    assert_eq!(until_answered(&channels, 2).await, "1 called 2");

    drop(port);
    let gone = async { while call(&channels, 2, Purpose::Raft).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, gone).await.expect("requests fail while the manager is away");
    let port = Port::open(&second, &address).await;
    assert_eq!(until_answered(&channels, 2).await, "1 called 2");

    drop(port);
    let elsewhere = Port::open(&second, "127.0.0.1:0").await;
    channels.set(2, elsewhere.address.clone());
    assert_eq!(until_answered(&channels, 2).await, "1 called 2");
}

#[tokio::test]
async fn another_manager_at_the_address_is_not_taken_for_the_one_that_was_meant() {
    let (first, _, channels) = two();
    let third = Port::open(&first.for_manager(3, &[]).unwrap(), "127.0.0.1:0").await;
    channels.set(2, third.address.clone());
    call(&channels, 2, Purpose::Raft).await.expect_err("that is manager 3");

    let foreign = Identity::create(CLUSTER, 2, &[]).unwrap();
    let foreign = Port::open(&foreign, "127.0.0.1:0").await;
    channels.set(2, foreign.address.clone());
    call(&channels, 2, Purpose::Raft).await.expect_err("that is another cluster's manager 2");
}

#[tokio::test]
async fn unknown_managers_and_oneself_are_not_called() {
    let (_, _, channels) = two();
    assert!(matches!(channels.get(2), Err(ChannelError::UnknownPeer { node: 2 })));
    channels.set(2, "127.0.0.1:1");
    channels.get(2).unwrap();
    channels.remove(2);
    assert!(matches!(channels.get(2), Err(ChannelError::UnknownPeer { node: 2 })));
    channels.set(1, "127.0.0.1:1");
    assert!(matches!(channels.get(1), Err(ChannelError::Own { node: 1 })));
    assert_eq!(channels.nodes(), [] as [u64; 0]);
}
