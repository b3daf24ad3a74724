//! Sends what other hosts hear: datagrams, and attempts to connect.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetStruct;
use skep_wire::proto::agent::{
    AgentFailureKind, ProbePeer, SendRequest, Sent, SentTo, TcpAttempt, TcpOutcome,
};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::packet::{self, PACKET_BYTES_MAX, PACKET_BYTES_MIN, RUN_BYTES};
use super::{NotProbed, PEERS_MAX, SIZES_MAX, invalid};

/// A first packet that was lost is repeated by the kernel after one second; a second chance is enough.
const CONNECT_MAX: Duration = Duration::from_millis(1_500);

/// The same, if the manager asks again for connections that are missing: longer than packets are on their way.
const QUICK_CONNECT_MAX: Duration = Duration::from_millis(300);

/// Datagrams get lost on good lines too. Three in a row do not.
const ROUNDS: usize = 3;

/// Between two rounds, so that one full queue does not swallow them all.
const ROUND_PAUSE: Duration = Duration::from_millis(150);

/// Peers served at the same time: bounds the burst that the host sends, and sockets, of which a process may have 1024
/// where nobody has set it otherwise. Four turns of [`CONNECT_MAX`] serve as many peers as there can be.
const PEERS_AT_ONCE_MAX: usize = 256;

/// What a socket is told so that its packets carry "do not fragment" and are limited by this host's interface only, not
/// by what the kernel remembers of the way: the way is what is asked about.
const IP_PMTUDISC_PROBE: libc::c_int = 3;

/// How a socket goes about the largest packet of a way.
#[derive(Clone, Copy)]
struct MtuDiscovery;

nix::setsockopt_impl!(
    MtuDiscovery,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int,
    SetStruct<libc::c_int>
);

/// Sends to every peer and tells what became of it.
pub(super) async fn to_all(request: &SendRequest) -> Result<Sent, NotProbed> {
    if request.peers.len() > PEERS_MAX {
        return Err(invalid(format!("{} peers are more than {PEERS_MAX}", request.peers.len())));
    }
    let run = super::run_id(&request.run)?;
    let peers = request.peers.iter().map(Peer::read).collect::<Result<Vec<_>, _>>()?;
    let socket = Arc::new(socket().map_err(|error| NotProbed {
        kind: AgentFailureKind::Failed,
        message: format!("opening a socket for datagrams: {error}"),
    })?);
    let (rounds, patience) = if request.quick { (1, QUICK_CONNECT_MAX) } else { (ROUNDS, CONNECT_MAX) };
    let room = Arc::new(Semaphore::new(PEERS_AT_ONCE_MAX));
    let mut sending = JoinSet::new();
    for peer in peers {
        let (socket, room, sender) = (socket.clone(), room.clone(), request.sender);
        sending.spawn(async move {
            // Never closed, so there is always a place sooner or later.
            let _place = room.acquire().await;
            peer.send(&socket, run, sender, rounds, patience).await
        });
    }
    let mut peers = sending.join_all().await;
    peers.sort_by_key(|sent| sent.peer);
    Ok(Sent { peers })
}

/// A peer as it is meant.
struct Peer {
    number: u32,
    address: IpAddr,
    tcp_ports: Vec<u16>,
    udp_ports: Vec<u16>,
    sizes_port: u16,
    /// From the smallest to the largest.
    sizes: Vec<usize>,
}

impl Peer {
    fn read(peer: &ProbePeer) -> Result<Peer, NotProbed> {
        let address = peer.address.parse();
        let mut sizes: Vec<usize> = peer.sizes.iter().map(|size| *size as usize).collect();
        sizes.sort_unstable();
        if sizes.len() > SIZES_MAX || sizes.last().is_some_and(|largest| *largest > PACKET_BYTES_MAX) {
            return Err(invalid(format!(
                "at most {SIZES_MAX} sizes up to {PACKET_BYTES_MAX} bytes are sent"
            )));
        }
        let sizes_port = if sizes.is_empty() { vec![1] } else { super::ports(&[peer.sizes_port])? };
        Ok(Peer {
            number: peer.peer,
            address: address.map_err(|_| invalid(format!("'{}' is no address", peer.address)))?,
            tcp_ports: super::ports(&peer.tcp_ports)?,
            udp_ports: super::ports(&peer.udp_ports)?,
            sizes_port: sizes_port[0],
            sizes,
        })
    }

    async fn send(
        &self,
        socket: &UdpSocket,
        run: [u8; RUN_BYTES],
        sender: u32,
        rounds: usize,
        patience: Duration,
    ) -> SentTo {
        let mut connecting = JoinSet::new();
        for port in &self.tcp_ports {
            connecting.spawn(connect(SocketAddr::new(self.address, *port), patience));
        }
        let (largest_sent, datagram_error) = match self.send_datagrams(socket, run, sender, rounds).await {
            Ok(largest_sent) => (largest_sent as u32, String::new()),
            Err(error) => (0, error.to_string()),
        };
        let mut connections = connecting.join_all().await;
        connections.sort_by_key(|attempt| attempt.port);
        SentTo { peer: self.number, connections, largest_sent, datagram_error }
    }

    /// Answers with the largest packet that the interface has taken.
    async fn send_datagrams(
        &self,
        socket: &UdpSocket,
        run: [u8; RUN_BYTES],
        sender: u32,
        rounds: usize,
    ) -> io::Result<usize> {
        if self.address.is_ipv6() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "datagrams are tried over IPv4 only"));
        }
        let mut largest_sent = 0;
        for round in 0..rounds {
            if round > 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            for port in &self.udp_ports {
                let payload = packet::payload(run, sender, PACKET_BYTES_MIN);
                socket.send_to(&payload, (self.address, *port)).await?;
            }
            for size in &self.sizes {
                let payload = packet::payload(run, sender, *size);
                match socket.send_to(&payload, (self.address, self.sizes_port)).await {
                    Ok(_) => largest_sent = largest_sent.max(*size),
                    Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(largest_sent)
    }
}

fn socket() -> io::Result<UdpSocket> {
    let socket = StdUdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    setsockopt(&socket, MtuDiscovery, &IP_PMTUDISC_PROBE)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

async fn connect(to: SocketAddr, patience: Duration) -> TcpAttempt {
    let (outcome, message) = match timeout(patience, TcpStream::connect(to)).await {
        Ok(Ok(_)) => (TcpOutcome::Connected, String::new()),
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused => (TcpOutcome::Refused, String::new()),
            io::ErrorKind::TimedOut => (TcpOutcome::TimedOut, String::new()),
            _ => (TcpOutcome::Failed, error.to_string()),
        },
        Err(_) => (TcpOutcome::TimedOut, String::new()),
    };
    TcpAttempt { port: to.port().into(), outcome: outcome.into(), message }
}
