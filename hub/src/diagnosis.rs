//! A diagnosis of hosts and of the network between them: agents look, and what they found is told in the words of the rules
//! that judge it.
//!
//! ```text
//!   Patient, targets ─► plan ─► (agents probe) ─► HostProbed ─► Seen ─► judged by `skep_model::doctor`
//! ```
//! Here and not where it is asked for, because the door asks for people and the scheduler for hosts that are about to join.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use skep_model::doctor::{
    Connection, Disk, Facts, HostSeen, NodeSeen, OVERLAY_PORT, PACKET_BYTES_TRIED, PORTS, Protocol, Seen,
    Unsaid, WaySeen,
};
use skep_model::networks::TooNarrow;
use skep_wire::proto::agent::{AgentFailureKind, DiskUse, Heard, ProbeProtocol, SentTo, TcpOutcome};

use crate::Hub;
use crate::probe::{HostFactsAt, HostProbed, ProbeHost, ProbePlan};
use crate::request::AskError;

/// A host that is looked at.
#[derive(Debug, Clone)]
pub struct Patient {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    /// Its node in the swarm, as it is recorded.
    pub node: Option<NodeSeen>,
    /// What its link is too narrow for, and what the link carries.
    pub too_narrow: Vec<(TooNarrow, u16)>,
    /// What stands in the way of volumes on NFS there, as it was found last.
    pub nfs: Option<String>,
}

/// What a diagnosis has brought.
#[derive(Debug)]
pub struct Diagnosed {
    /// What was seen, in the order of the patients.
    pub seen: Seen,
    /// Hosts that took part in another diagnosis at the same time, by name: what was seen of them is not all.
    pub busy: Vec<String>,
}

impl Hub {
    /// Has the hosts looked at. `targets` says for each to which others it sends; packets of `packet_bytes_needed` must pass,
    /// and `encrypted` ones if networks are. Takes a few seconds.
    pub async fn diagnose(
        &self,
        patients: &[Patient],
        targets: Vec<Vec<usize>>,
        packet_bytes_needed: u32,
        encrypted: bool,
    ) -> Diagnosed {
        let probed = self.probe(&plan(patients, targets, packet_bytes_needed)).await;
        let busy = patients.iter().zip(&probed).filter(|(_, probed)| is_busy(probed));
        let busy = busy.map(|(patient, _)| patient.name.clone()).collect();
        let (hosts, ways) = seen(patients, probed);
        let at = Timestamp::now();
        Diagnosed { seen: Seen { hosts, ways, packet_bytes_needed, encrypted, at }, busy }
    }
}

fn plan(patients: &[Patient], targets: Vec<Vec<usize>>, needed: u32) -> ProbePlan {
    let ports = |protocol, is_manager| {
        let meant = PORTS.iter().filter(move |port| port.protocol == protocol);
        meant.filter(move |port| is_manager || !port.managers_only).map(|port| port.number).collect()
    };
    let host = |(patient, targets): (&Patient, Vec<usize>)| ProbeHost {
        id: patient.id.clone(),
        address: patient.address.clone(),
        tcp_ports: ports(Protocol::Tcp, patient.node.is_some_and(|node| node.manager)),
        targets,
    };
    let sizes: BTreeSet<u32> = PACKET_BYTES_TRIED.iter().copied().chain([needed]).collect();
    ProbePlan {
        hosts: patients.iter().zip(targets).map(host).collect(),
        udp_ports: ports(Protocol::Udp, false),
        sizes_port: OVERLAY_PORT,
        sizes: sizes.into_iter().collect(),
    }
}

fn is_busy(probed: &HostProbed) -> bool {
    let busy = |error: &AskError| matches!(error, AskError::Refused(failure) if failure.kind() == AgentFailureKind::Busy);
    probed.heard.as_ref().is_err_and(busy) || probed.sent.as_ref().is_err_and(busy)
}

fn seen(patients: &[Patient], probed: Vec<HostProbed>) -> (Vec<HostSeen>, Vec<WaySeen>) {
    let arrived: Vec<Arrived> = probed.iter().map(Arrived::at).collect();
    let mut ways = vec![];
    for (from, sender) in probed.iter().enumerate() {
        for sent in sender.sent.iter().flat_map(|sent| &sent.peers) {
            let to = sent.peer as usize;
            // An agent that names hosts that it was not asked about is not believed.
            if let (Some(patient), Some(arrived)) = (patients.get(from), arrived.get(to)) {
                ways.push(way(from, to, sent, arrived, &patient.address));
            }
        }
    }
    let hosts = patients.iter().zip(probed).map(|(patient, probed)| host_seen(patient, probed)).collect();
    (hosts, ways)
}

fn host_seen(patient: &Patient, probed: HostProbed) -> HostSeen {
    // Datagrams are tried over IPv4 only; that is no fault of the network.
    let v6 = patient.address.contains(':').then(|| "datagrams are tried over IPv4 only".to_owned());
    HostSeen {
        name: patient.name.clone(),
        address: patient.address.clone(),
        node: patient.node,
        too_narrow: patient.too_narrow.clone(),
        nfs: patient.nfs.clone(),
        facts: probed.facts.map(facts).map_err(unsaid),
        deaf: v6.or(probed.heard.err().map(|error| error.to_string())),
        mute: probed.sent.err().map(|error| error.to_string()),
    }
}

fn unsaid(error: AskError) -> Unsaid {
    match error.is_its_answer() {
        true => Unsaid::Declined(error.to_string()),
        false => Unsaid::Unreached(error.to_string()),
    }
}

fn facts(at: HostFactsAt) -> Facts {
    let HostFactsAt { facts, clock_ahead_ms, clock_uncertain_ms } = at;
    let disk = |disk: &skep_wire::proto::agent::DiskSpace| Disk {
        keeps: match disk.r#use() {
            DiskUse::Engine => "images, containers and volumes",
            DiskUse::Agent => "the agent's key",
            DiskUse::Unspecified => "something else",
        },
        path: disk.path.clone(),
        total_bytes: disk.total_bytes,
        free_bytes: disk.free_bytes,
    };
    Facts {
        disks: facts.disks.iter().map(disk).collect(),
        hostname: facts.hostname,
        addresses: facts.addresses,
        clock_ahead_ms,
        clock_uncertain_ms,
        features: facts.features.into_iter().collect(),
        engine: match facts.engine_error.is_empty() {
            true => Ok(facts.engine_version),
            false => Err(facts.engine_error),
        },
    }
}

/// What has arrived at one host.
#[derive(Default)]
struct Arrived {
    /// Sizes of datagrams, by sender and port.
    datagrams: BTreeMap<(usize, u16), Vec<u32>>,
    /// Beginnings of connections, by address and port.
    connections: BTreeSet<(String, u16)>,
}

impl Arrived {
    fn at(probed: &HostProbed) -> Arrived {
        let mut arrived = Arrived::default();
        let Ok(Heard { packets }) = &probed.heard else { return arrived };
        for packet in packets {
            // What is no port was not asked for.
            let Ok(port) = u16::try_from(packet.port) else { continue };
            match packet.protocol() {
                ProbeProtocol::Udp => {
                    // Several addresses may stand for one sender.
                    let sizes = arrived.datagrams.entry((packet.sender as usize, port)).or_default();
                    sizes.extend(&packet.sizes);
                }
                ProbeProtocol::Tcp => {
                    arrived.connections.insert((packet.address.clone(), port));
                }
                ProbeProtocol::Unspecified => {}
            }
        }
        arrived
    }

    fn sizes(&self, from: usize, port: u16) -> impl Iterator<Item = u32> {
        self.datagrams.get(&(from, port)).into_iter().flatten().copied()
    }
}

fn way(from: usize, to: usize, sent: &SentTo, arrived: &Arrived, address_of_sender: &str) -> WaySeen {
    let connection = |attempt: &skep_wire::proto::agent::TcpAttempt| {
        let what = match attempt.outcome() {
            TcpOutcome::Connected => Connection::Accepted,
            TcpOutcome::Refused => Connection::Refused,
            TcpOutcome::TimedOut => Connection::Unanswered,
            TcpOutcome::Failed | TcpOutcome::Unspecified => Connection::Failed(attempt.message.clone()),
        };
        Some((u16::try_from(attempt.port).ok()?, what))
    };
    let connections_arrived = arrived.connections.iter().filter(|(address, _)| address == address_of_sender);
    let datagrams_arrived = arrived.datagrams.keys().filter(|(sender, _)| *sender == from);
    WaySeen {
        from,
        to,
        connections: sent.connections.iter().filter_map(connection).collect(),
        connections_arrived: connections_arrived.map(|(_, port)| *port).collect(),
        datagrams_arrived: datagrams_arrived.map(|(_, port)| *port).collect(),
        datagrams_failed: Some(sent.datagram_error.clone()).filter(|error| !error.is_empty()),
        largest_sent: sent.largest_sent,
        largest_arrived: arrived.sizes(from, OVERLAY_PORT).max().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::proto::agent::{HeardPackets, Sent, TcpAttempt};

    use super::*;

    fn heard(protocol: ProbeProtocol, port: u32, address: &str, sender: u32, sizes: &[u32]) -> HeardPackets {
        HeardPackets { protocol: protocol.into(), port, address: address.into(), sender, sizes: sizes.into() }
    }

    #[test]
    fn a_way_is_what_one_host_sent_and_the_other_heard() {
        let probed = HostProbed {
            facts: Err(AskError::OutOfPlace),
            heard: Ok(Heard {
                packets: vec![
                    heard(ProbeProtocol::Udp, 4789, "10.0.0.1", 1, &[48, 1400]),
                    heard(ProbeProtocol::Udp, 4789, "192.0.2.1", 1, &[1450]),
                    heard(ProbeProtocol::Udp, 7946, "10.0.0.9", 9, &[48]),
                    heard(ProbeProtocol::Tcp, 2377, "10.0.0.1", 0, &[]),
                    heard(ProbeProtocol::Tcp, 7946, "10.0.0.9", 0, &[]),
                ],
            }),
            sent: Ok(Sent::default()),
        };
        let attempt =
            |port, outcome: TcpOutcome| TcpAttempt { port, outcome: outcome.into(), message: "no".into() };
        let sent = SentTo {
            peer: 0,
            connections: vec![attempt(2377, TcpOutcome::TimedOut), attempt(7946, TcpOutcome::Failed)],
            largest_sent: 1500,
            datagram_error: String::new(),
        };
        let way = way(1, 0, &sent, &Arrived::at(&probed), "10.0.0.1");
        assert_eq!((way.largest_sent, way.largest_arrived, way.datagrams_failed), (1500, 1450, None));
        assert_eq!((way.datagrams_arrived, way.connections_arrived), ([4789].into(), [2377].into()));
        let connections = [(2377, Connection::Unanswered), (7946, Connection::Failed("no".into()))];
        assert_eq!(way.connections, connections.into());
    }
}
