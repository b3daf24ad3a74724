//! Hears the packets of a probe that reach this host.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use skep_wire::proto::agent::{AgentFailureKind, Heard, HeardPackets, ListenRequest, ProbeProtocol};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::packet::{self, LOOKED_AT_BYTES, MAGIC, Packet, RUN_BYTES};
use super::{NotProbed, PEERS_MAX, SIZES_MAX};

/// A probe takes a few seconds; a manager that has forgotten it does not make a host listen on.
const LISTEN_MAX: Duration = Duration::from_secs(10);

/// Packets that were on their way when the manager said that it is enough.
const LATE_MAX: Duration = Duration::from_millis(300);

/// The same, if the manager asks again for those that are missing.
const QUICK_LATE_MAX: Duration = Duration::from_millis(30);

/// Each host sends to two ports and may connect to two; whoever floods a host must not fill its memory.
const SENDERS_HEARD_MAX: usize = PEERS_MAX * 4;

/// Room for the packets of all hosts, should they come at the same moment.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Raw sockets that hear a probe.
pub(crate) struct Ears {
    duration: Duration,
    late: Duration,
    udp: UdpSocket,
    tcp: UdpSocket,
    record: Record,
}

/// What counts, and what has been heard of it.
struct Record {
    run: [u8; RUN_BYTES],
    udp_ports: Vec<u16>,
    tcp_ports: Vec<u16>,
    heard: BTreeMap<Sender, BTreeSet<u32>>,
}

/// Who was heard where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sender {
    protocol: ProbeProtocol,
    port: u16,
    from: Ipv4Addr,
    /// As the datagrams name it; connections name nobody.
    number: u32,
}

impl Ears {
    /// From now on everything is heard.
    pub(super) fn open(request: &ListenRequest) -> Result<Ears, NotProbed> {
        let record = Record {
            run: super::run_id(&request.run)?,
            udp_ports: super::ports(&request.udp_ports)?,
            tcp_ports: super::ports(&request.tcp_ports)?,
            heard: BTreeMap::new(),
        };
        Ok(Ears {
            duration: Duration::from_millis(request.duration_ms.into()).min(LISTEN_MAX),
            late: if request.quick { QUICK_LATE_MAX } else { LATE_MAX },
            udp: ear(Protocol::UDP, &datagrams_only()).map_err(not_opened)?,
            tcp: ear(Protocol::TCP, &beginnings_only()).map_err(not_opened)?,
            record,
        })
    }

    /// Hears until the time is over, or a moment longer than `enough`.
    pub(crate) async fn hear_until(self, enough: impl Future<Output = ()>) -> Heard {
        let Ears { duration, late, udp, tcp, mut record } = self;
        let ended = async {
            if timeout(duration, enough).await.is_ok() {
                tokio::time::sleep(late).await;
            }
        };
        tokio::pin!(ended);
        let (mut datagram, mut connection) = ([0; LOOKED_AT_BYTES], [0; LOOKED_AT_BYTES]);
        loop {
            let packet = tokio::select! {
                () = &mut ended => break,
                received = receive(&udp, &mut datagram) => received,
                received = receive(&tcp, &mut connection) => received,
            };
            match packet {
                Ok(packet) => record.note(packet),
                Err(error) => {
                    tracing::warn!(%error, "what arrives at this host cannot be heard any more");
                    break;
                }
            }
        }
        record.told()
    }
}

impl Record {
    fn note(&mut self, packet: Option<Packet>) {
        let (sender, bytes) = match packet {
            Some(Packet::Datagram { run, sender, from, port, bytes })
                if run == self.run && self.udp_ports.contains(&port) =>
            {
                (Sender { protocol: ProbeProtocol::Udp, port, from, number: sender }, Some(bytes))
            }
            Some(Packet::Connection { from, port }) if self.tcp_ports.contains(&port) => {
                (Sender { protocol: ProbeProtocol::Tcp, port, from, number: 0 }, None)
            }
            _ => return,
        };
        if self.heard.len() < SENDERS_HEARD_MAX || self.heard.contains_key(&sender) {
            let sizes = self.heard.entry(sender).or_default();
            if sizes.len() < SIZES_MAX {
                sizes.extend(bytes);
            }
        }
    }

    fn told(self) -> Heard {
        let packets = self.heard.into_iter().map(|(sender, sizes)| HeardPackets {
            protocol: sender.protocol.into(),
            port: sender.port.into(),
            address: sender.from.to_string(),
            sender: sender.number,
            sizes: sizes.into_iter().collect(),
        });
        Heard { packets: packets.collect() }
    }
}

/// The next packet; `None` if it is nothing of interest.
async fn receive(ear: &UdpSocket, buffer: &mut [u8; LOOKED_AT_BYTES]) -> io::Result<Option<Packet>> {
    let bytes = ear.recv(buffer).await?;
    Ok(packet::parse(&buffer[..bytes]))
}

/// A raw socket behind a filter of its own: a host's ordinary traffic must neither be copied nor crowd the probe out.
/// It is held as a `UdpSocket` because receiving is the same, and that type waits for it without unsafe code.
fn ear(protocol: Protocol, filter: &[SockFilter]) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol))?;
    socket.attach_filter(filter)?;
    // Less is not worth failing for.
    let _ = setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Instructions of the kernel's packet filter, as far as they are needed here.
mod instruction {
    /// X becomes the length of the IP header at this place.
    pub(super) const HEADER_LENGTH: u16 = 0xb1;
    /// A becomes the word that far behind X.
    pub(super) const WORD: u16 = 0x40;
    /// A becomes the byte that far behind X.
    pub(super) const BYTE: u16 = 0x50;
    /// A is masked.
    pub(super) const AND: u16 = 0x54;
    /// Goes on differently if A is this.
    pub(super) const IF_EQUAL: u16 = 0x15;
    /// Keeps that many bytes of the packet.
    pub(super) const KEEP: u16 = 0x06;
}

/// Datagrams that begin like those of a probe.
fn datagrams_only() -> [SockFilter; 7] {
    let [a, b, c, d, e, f, g, h] = MAGIC;
    [
        SockFilter::new(instruction::HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(instruction::WORD, 0, 0, 8),
        SockFilter::new(instruction::IF_EQUAL, 0, 3, u32::from_be_bytes([a, b, c, d])),
        SockFilter::new(instruction::WORD, 0, 0, 12),
        SockFilter::new(instruction::IF_EQUAL, 0, 1, u32::from_be_bytes([e, f, g, h])),
        SockFilter::new(instruction::KEEP, 0, 0, LOOKED_AT_BYTES as u32),
        SockFilter::new(instruction::KEEP, 0, 0, 0),
    ]
}

/// The first packets of connections: SYN without ACK.
fn beginnings_only() -> [SockFilter; 6] {
    [
        SockFilter::new(instruction::HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(instruction::BYTE, 0, 0, 13),
        SockFilter::new(instruction::AND, 0, 0, 0x12),
        SockFilter::new(instruction::IF_EQUAL, 0, 1, 0x02),
        SockFilter::new(instruction::KEEP, 0, 0, LOOKED_AT_BYTES as u32),
        SockFilter::new(instruction::KEEP, 0, 0, 0),
    ]
}

fn not_opened(error: io::Error) -> NotProbed {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => AgentFailureKind::NotPermitted,
        _ => AgentFailureKind::Failed,
    };
    NotProbed { kind, message: format!("opening a raw socket: {error}") }
}
