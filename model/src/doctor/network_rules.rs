//! What passes from one host to another, and what is wrong if it does not.

use std::collections::BTreeMap;

use super::kind::{self, Kind};
use super::{Connection, Finding, OVERLAY_PORT, PORTS, Port, Protocol, Seen, WaySeen};

/// Names in one sentence; the number tells the rest.
const NAMES_MAX: usize = 5;

/// One way, judged.
#[derive(Debug, Clone)]
pub struct WayReport {
    /// Who sent: a place in the list of hosts.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// Each port that was tried.
    pub ports: Vec<PortSeen>,
    /// The largest packet that has arrived, and the largest that the sender's interface let out; none if nothing is known.
    pub packet_bytes: Option<(u32, u32)>,
}

/// One port of a way.
#[derive(Debug, Clone)]
pub struct PortSeen {
    /// Which.
    pub port: &'static Port,
    /// Does it pass? None if that could not be found out.
    pub passes: Option<bool>,
    /// What was seen, if it does not.
    pub seen: String,
}

/// What passes where.
pub(super) fn judge(seen: &Seen) -> Vec<WayReport> {
    seen.ways.iter().map(|way| judge_way(seen, way)).collect()
}

fn judge_way(seen: &Seen, way: &WaySeen) -> WayReport {
    let to = &seen.hosts[way.to];
    let is_manager = to.node.is_some_and(|node| node.manager);
    let ports: Vec<PortSeen> = PORTS
        .iter()
        .filter(|port| is_manager || !port.managers_only)
        .map(|port| {
            let (passes, seen) = match port.protocol {
                Protocol::Tcp => connection(seen, way, port),
                Protocol::Udp => datagrams(seen, way, port),
            };
            PortSeen { port, passes, seen }
        })
        .collect();
    let is_measured = way.largest_sent > 0 && way.datagrams_arrived.contains(&OVERLAY_PORT);
    let packet_bytes = is_measured.then_some((way.largest_arrived, way.largest_sent));
    WayReport { from: way.from, to: way.to, ports, packet_bytes }
}

fn connection(seen: &Seen, way: &WaySeen, port: &Port) -> (Option<bool>, String) {
    // Where an engine is a node of the swarm somebody listens; elsewhere a refusal is an answer like any other.
    let is_node = seen.hosts[way.to].node.is_some_and(|node| node.ready);
    match way.connections.get(&port.number) {
        None => (None, String::new()),
        Some(Connection::Accepted) => (Some(true), String::new()),
        Some(Connection::Refused) if !is_node => (Some(true), String::new()),
        Some(Connection::Refused) => (Some(false), "the connection is refused".into()),
        Some(Connection::Unanswered) if way.connections_arrived.contains(&port.number) => {
            (Some(false), "the connection's first packet arrives, the answer to it does not come back".into())
        }
        Some(Connection::Unanswered) => (Some(false), "a connection is not answered".into()),
        Some(Connection::Failed(why)) => (Some(false), format!("a connection fails: {why}")),
    }
}

fn datagrams(seen: &Seen, way: &WaySeen, port: &Port) -> (Option<bool>, String) {
    if way.datagrams_arrived.contains(&port.number) {
        return (Some(true), String::new());
    }
    if seen.hosts[way.to].deaf.is_some() {
        return (None, String::new());
    }
    match &way.datagrams_failed {
        Some(why) => (Some(false), format!("datagrams cannot be sent: {why}")),
        None => (Some(false), "datagrams do not arrive".into()),
    }
}

/// Ways of the same kind to one host are one finding: whoever mends it mends it there.
pub(super) fn findings(seen: &Seen, ways: &[WayReport]) -> Vec<Finding> {
    let mut by_host: BTreeMap<(usize, &'static str, String), (&'static Kind, Vec<usize>)> = BTreeMap::new();
    for way in ways {
        for (kind, seen) in of_way(seen, way) {
            let entry = by_host.entry((way.to, kind.code, seen)).or_insert_with(|| (kind, vec![]));
            entry.1.push(way.from);
        }
    }
    let name = |at: &usize| seen.hosts[*at].name.clone();
    let finding = |((to, _, what), (kind, from)): ((usize, &str, String), (&'static Kind, Vec<usize>))| {
        let from: Vec<String> = from.iter().map(name).collect();
        let host = name(&to);
        let seen = format!("from {} to {host}: {what}", names(&from));
        Finding { kind, host, from, other: None, seen }
    };
    by_host.into_iter().map(finding).collect()
}

fn of_way(seen: &Seen, way: &WayReport) -> Vec<(&'static Kind, String)> {
    let known = || way.ports.iter().filter(|port| port.passes.is_some());
    let blocked: Vec<&PortSeen> = known().filter(|port| port.passes == Some(false)).collect();
    // One port alone says nothing about the others.
    if blocked.len() > 1 && blocked.len() == known().count() {
        return vec![(&kind::NOTHING_PASSES, "nothing that a swarm needs passes".into())];
    }
    let mut findings: Vec<(&'static Kind, String)> =
        blocked.iter().map(|port| (port.port.blocked, format!("{}: {}", port.port, port.seen))).collect();
    if let Some((arrived, sent)) = way.packet_bytes {
        let needed = seen.packet_bytes_needed;
        if arrived < needed {
            let seen = format!("packets of up to {arrived} bytes pass, overlay networks need {needed}");
            findings.push((&kind::PACKETS_TOO_SMALL, seen));
        } else if arrived < sent {
            let seen =
                format!("packets of up to {arrived} bytes pass, the sender's interface lets out {sent}");
            findings.push((&kind::PACKETS_LOST_ON_THE_WAY, seen));
        }
    }
    findings
}

fn names(names: &[String]) -> String {
    match names.len().checked_sub(NAMES_MAX) {
        Some(more) if more > 0 => format!("{} and {more} more", names[..NAMES_MAX].join(", ")),
        _ => names.join(", "),
    }
}
