//! What agents found, in the words of the rules that judge it.
//!
//! Apart from the route, because it is only about two forms of the same thing: places of hosts stay the same in both.

use std::collections::{BTreeMap, BTreeSet};

use skep_hub::{AskError, HostFactsAt, HostProbed};
use skep_ledger::Stored;
use skep_model::doctor::{Connection, Disk, Facts, HostSeen, NodeSeen, OVERLAY_PORT, Seen, Unsaid, WaySeen};
use skep_model::host::Host;
use skep_wire::proto::agent::{DiskUse, Heard, ProbeProtocol, SentTo, TcpOutcome};

/// What was seen of these hosts.
pub(super) fn seen(hosts: &[Stored<Host>], probed: Vec<HostProbed>, packet_bytes_needed: u32) -> Seen {
    let arrived: Vec<Arrived> = probed.iter().map(Arrived::at).collect();
    let mut ways = vec![];
    for (from, sender) in probed.iter().enumerate() {
        for sent in sender.sent.iter().flat_map(|sent| &sent.peers) {
            let to = sent.peer as usize;
            // An agent that names hosts that it was not asked about is not believed.
            if let (Some(host), Some(arrived)) = (hosts.get(from), arrived.get(to)) {
                ways.push(way(from, to, sent, arrived, &address(host)));
            }
        }
    }
    let hosts = hosts.iter().zip(probed).map(|(host, probed)| host_seen(host, probed)).collect();
    Seen { hosts, ways, packet_bytes_needed }
}

/// Where the others reach a host.
pub(super) fn address(host: &Host) -> String {
    host.machine.as_ref().map(|machine| machine.address.clone()).unwrap_or_default()
}

fn host_seen(host: &Stored<Host>, probed: HostProbed) -> HostSeen {
    let address = address(host);
    // Datagrams are tried over IPv4 only; that is no fault of the network.
    let v6 = address.contains(':').then(|| "datagrams are tried over IPv4 only".to_owned());
    HostSeen {
        name: host.name.to_string(),
        address,
        node: host.membership.as_ref().map(|_| NodeSeen {
            manager: host.is_swarm_manager(),
            ready: host.membership.as_ref().is_some_and(|node| node.ready),
        }),
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
