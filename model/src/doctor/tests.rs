//! Each finding is raised by one change of a healthy environment, and a healthy environment has none.

use super::*;

/// Three hosts of which the first manages the swarm, and everything between them passes.
fn healthy() -> Seen {
    let host = |at: usize| HostSeen {
        name: format!("h{at}"),
        address: format!("10.0.0.{at}"),
        node: Some(NodeSeen { manager: at == 0, ready: true, certificate: Some(valid()) }),
        facts: Ok(Facts {
            hostname: format!("machine-{at}"),
            // The bridge has the same address on every host, and is not how they reach each other.
            addresses: vec![format!("10.0.0.{at}"), "172.17.0.1".into()],
            clock_ahead_ms: -400,
            clock_uncertain_ms: 10,
            disks: vec![disk("images", 100 * GIB, 50 * GIB), disk("keys", 100 * GIB, 50 * GIB)],
            features: FEATURES.iter().map(|name| ((*name).to_owned(), true)).collect(),
            engine: Ok("28.1.2".into()),
        }),
        too_narrow: vec![],
        nfs: None,
        deaf: None,
        mute: None,
    };
    let way = |(from, to): (usize, usize)| WaySeen {
        from,
        to,
        connections: [2377, 7946]
            .into_iter()
            .filter(|port| to == 0 || *port != 2377)
            .map(|port| (port, Connection::Accepted))
            .collect(),
        connections_arrived: [2377, 7946].into(),
        datagrams_arrived: [4789, 7946].into(),
        datagrams_failed: None,
        largest_sent: 1500,
        largest_arrived: 1500,
    };
    let pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
    Seen {
        hosts: (0..3).map(host).collect(),
        ways: pairs.into_iter().map(way).collect(),
        packet_bytes_needed: 1_500,
        encrypted: false,
        at: at(50),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// A certificate of which half the life is over.
fn valid() -> Validity {
    Validity { from: at(0), to: at(100) }
}

const GIB: u64 = 1024 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;
const FEATURES: [&str; 5] = ["overlay", "vxlan", "ip_vs", "br_netfilter", "xfrm"];

fn disk(keeps: &'static str, total_bytes: u64, free_bytes: u64) -> Disk {
    Disk { keeps, path: format!("/{keeps}"), total_bytes, free_bytes }
}

fn facts(seen: &mut Seen, at: usize) -> &mut Facts {
    seen.hosts[at].facts.as_mut().expect("it has said")
}

fn way(seen: &mut Seen, from: usize, to: usize) -> &mut WaySeen {
    seen.ways.iter_mut().find(|way| (way.from, way.to) == (from, to)).expect("it was tried")
}

/// Code, host, where from.
type Expected = &'static [(&'static str, &'static str, &'static [&'static str])];

struct Case {
    what: &'static str,
    change: fn(&mut Seen),
    found: Expected,
}

const HOST_CASES: &[Case] = &[
    Case { what: "nothing is wrong", change: |_| {}, found: &[] },
    Case {
        what: "the certificate of a node was not renewed in time",
        change: |seen| {
            seen.hosts[2].node.as_mut().expect("a node").certificate =
                Some(Validity { from: at(0), to: at(55) })
        },
        found: &[("SKF-242", "h2", &[])],
    },
    Case {
        what: "the certificate of a node is not valid any more",
        change: |seen| {
            seen.hosts[2].node.as_mut().expect("a node").certificate =
                Some(Validity { from: at(0), to: at(50) })
        },
        found: &[("SKF-241", "h2", &[])],
    },
    Case {
        what: "an agent is silent",
        change: |seen| {
            seen.hosts[1].facts = Err(Unsaid::Unreached("no manager holds it".into()));
            seen.ways.retain(|way| way.from != 1 && way.to != 1);
        },
        found: &[("SKF-101", "h1", &[])],
    },
    Case {
        what: "an agent is of an earlier version and does not say how its host is",
        change: |seen| seen.hosts[1].facts = Err(Unsaid::Declined("it does not know the request".into())),
        found: &[],
    },
    Case {
        what: "an engine is silent",
        change: |seen| facts(seen, 1).engine = Err("no socket".into()),
        found: &[("SKF-102", "h1", &[])],
    },
    Case {
        what: "a host is no node of the swarm",
        change: |seen| seen.hosts[2].node = None,
        found: &[("SKF-103", "h2", &[])],
    },
    Case {
        what: "there is no swarm yet",
        change: |seen| seen.hosts.iter_mut().for_each(|host| host.node = None),
        found: &[],
    },
    Case {
        what: "a node is down",
        change: |seen| {
            seen.hosts[2].node = Some(NodeSeen { manager: false, ready: false, certificate: None })
        },
        found: &[("SKF-104", "h2", &[])],
    },
    Case {
        what: "a node is down because its engine is",
        change: |seen| {
            seen.hosts[2].node = Some(NodeSeen { manager: false, ready: false, certificate: None });
            facts(seen, 2).engine = Err("no socket".into());
        },
        found: &[("SKF-102", "h2", &[])],
    },
    Case {
        what: "a clock is a little off",
        change: |seen| facts(seen, 0).clock_ahead_ms = -1_400,
        found: &[("SKF-111", "h0", &[])],
    },
    Case {
        what: "a clock may be off only because the line is slow",
        change: |seen| (facts(seen, 0).clock_ahead_ms, facts(seen, 0).clock_uncertain_ms) = (1_400, 500),
        found: &[],
    },
    Case {
        what: "a clock is far off",
        change: |seen| facts(seen, 0).clock_ahead_ms = 3_600_000,
        found: &[("SKF-112", "h0", &[])],
    },
    Case {
        what: "the kernel lacks what every swarm needs",
        change: |seen| {
            facts(seen, 1).features.insert("vxlan".into(), false);
            facts(seen, 1).features.insert("br_netfilter".into(), false);
        },
        found: &[("SKF-121", "h1", &[])],
    },
    Case {
        what: "the kernel has no IPVS",
        change: |seen| facts(seen, 1).features.extend([("ip_vs".to_owned(), false)]),
        found: &[("SKF-123", "h1", &[])],
    },
    Case {
        what: "the kernel does not say what it has",
        change: |seen| facts(seen, 1).features.clear(),
        found: &[],
    },
    Case {
        what: "the kernel cannot encrypt",
        change: |seen| facts(seen, 1).features.extend([("xfrm".to_owned(), false)]),
        found: &[("SKF-122", "h1", &[])],
    },
    Case {
        what: "a disk is nearly full, and both folders are on it",
        change: |seen| {
            facts(seen, 1).disks = vec![disk("images", 100 * GIB, 9 * GIB), disk("keys", 100 * GIB, 9 * GIB)]
        },
        found: &[("SKF-131", "h1", &[])],
    },
    Case {
        what: "a part is left that is too little for an image",
        change: |seen| facts(seen, 1).disks = vec![disk("images", 10 * GIB, GIB + 500 * MIB)],
        found: &[("SKF-131", "h1", &[])],
    },
    Case {
        what: "a small file system is not full because it is small",
        change: |seen| facts(seen, 1).disks = vec![disk("keys", 150 * MIB, 100 * MIB)],
        found: &[],
    },
    Case {
        what: "a disk is full",
        change: |seen| facts(seen, 1).disks = vec![disk("images", 10 * GIB, 150 * MIB)],
        found: &[("SKF-132", "h1", &[])],
    },
    Case {
        what: "an engine was not upgraded with the others",
        change: |seen| facts(seen, 2).engine = Ok("20.10.24+dfsg1".into()),
        found: &[("SKF-141", "h2", &[])],
    },
    Case {
        what: "an engine is a repair ahead",
        change: |seen| facts(seen, 2).engine = Ok("28.1.9-rc1".into()),
        found: &[],
    },
    Case {
        what: "a machine has another one's address too",
        change: |seen| facts(seen, 2).addresses.push("10.0.0.1".into()),
        found: &[("SKF-151", "h1", &[])],
    },
    Case {
        what: "two machines call themselves the same",
        change: |seen| facts(seen, 2).hostname = "machine-1".into(),
        found: &[("SKF-152", "h1", &[]), ("SKF-152", "h2", &[])],
    },
];

const NETWORK_CASES: &[Case] = &[
    Case {
        what: "nothing passes one way",
        change: |seen| {
            let way = way(seen, 0, 1);
            way.connections.insert(7946, Connection::Unanswered);
            way.connections_arrived.clear();
            way.datagrams_arrived.clear();
        },
        found: &[("SKF-201", "h1", &["h0"])],
    },
    Case {
        what: "workers do not reach the manager",
        change: |seen| {
            for from in [1, 2] {
                way(seen, from, 0).connections.insert(2377, Connection::Unanswered);
                way(seen, from, 0).connections_arrived.clear();
            }
        },
        found: &[("SKF-202", "h0", &["h1", "h2"])],
    },
    Case {
        what: "connections are refused although there is an engine in the swarm",
        change: |seen| drop(way(seen, 1, 2).connections.insert(7946, Connection::Refused)),
        found: &[("SKF-203", "h2", &["h1"])],
    },
    Case {
        what: "connections are refused because there is no node yet, as the other ports of a host without a swarm",
        change: |seen| {
            seen.hosts.iter_mut().for_each(|host| host.node = None);
            way(seen, 1, 2).connections.insert(7946, Connection::Refused);
        },
        found: &[],
    },
    Case {
        what: "answers to connections get lost",
        change: |seen| drop(way(seen, 1, 2).connections.insert(7946, Connection::Unanswered)),
        found: &[("SKF-203", "h2", &["h1"])],
    },
    Case {
        what: "gossip does not pass",
        change: |seen| way(seen, 1, 2).datagrams_arrived.retain(|port| *port != 7946),
        found: &[("SKF-204", "h2", &["h1"])],
    },
    Case {
        what: "overlay networks do not pass, one way",
        change: |seen| way(seen, 0, 2).datagrams_arrived.retain(|port| *port != 4789),
        found: &[("SKF-205", "h2", &["h0"])],
    },
    Case {
        what: "the sender's own filter drops datagrams",
        change: |seen| {
            way(seen, 0, 2).datagrams_arrived.clear();
            way(seen, 0, 2).datagrams_failed = Some("not permitted".into());
        },
        found: &[("SKF-204", "h2", &["h0"]), ("SKF-205", "h2", &["h0"])],
    },
    Case {
        what: "nobody could listen, so that nothing is known of datagrams",
        change: |seen| {
            seen.hosts[2].deaf = Some("no raw sockets".into());
            way(seen, 0, 2).datagrams_arrived.clear();
            way(seen, 1, 2).datagrams_arrived.clear();
        },
        found: &[],
    },
    Case {
        what: "the link of one host is narrower than the networks that were made",
        change: |seen| {
            let wide = [TooNarrow::Environment(1500), TooNarrow::Bridge(1500), TooNarrow::Engine(1500)];
            seen.hosts[1].too_narrow = wide.map(|what| (what, 1400)).into();
        },
        found: &[("SKF-251", "h1", &[]), ("SKF-252", "h1", &[]), ("SKF-253", "h1", &[])],
    },
    Case {
        what: "networks are encrypted, and one kernel cannot do that",
        change: |seen| {
            seen.encrypted = true;
            facts(seen, 1).features.insert("xfrm".into(), false);
        },
        found: &[("SKF-254", "h1", &[]), ("SKF-122", "h1", &[])],
    },
    Case {
        what: "one host cannot mount the NFS server",
        change: |seen| seen.hosts[2].nfs = Some("it is not reached".into()),
        found: &[("SKF-255", "h2", &[])],
    },
    Case {
        what: "the way is narrower than overlay networks need",
        change: |seen| way(seen, 0, 2).largest_arrived = 1400,
        found: &[("SKF-211", "h2", &["h0"])],
    },
    Case {
        what: "overlay networks were made for the narrow way, which the interface does not know",
        change: |seen| {
            seen.packet_bytes_needed = 1400;
            way(seen, 0, 2).largest_arrived = 1400;
        },
        found: &[("SKF-212", "h2", &["h0"])],
    },
    Case {
        what: "interfaces and networks were made for the narrow way",
        change: |seen| {
            seen.packet_bytes_needed = 1400;
            for way in &mut seen.ways {
                (way.largest_sent, way.largest_arrived) = (1400, 1400);
            }
        },
        found: &[],
    },
    Case {
        what: "where overlay networks do not pass at all, their size is no second finding",
        change: |seen| {
            way(seen, 0, 2).datagrams_arrived.remove(&4789);
            way(seen, 0, 2).largest_arrived = 0;
        },
        found: &[("SKF-205", "h2", &["h0"])],
    },
];

fn examined(case: &Case) -> Report {
    let mut seen = healthy();
    (case.change)(&mut seen);
    examine(&seen)
}

#[test]
fn each_thing_that_is_wrong_is_found_and_nothing_else() {
    for case in HOST_CASES.iter().chain(NETWORK_CASES) {
        let report = examined(case);
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|it| {
                (it.kind.code, it.host.as_str(), it.from.iter().map(String::as_str).collect::<Vec<_>>())
            })
            .collect();
        let expected: Vec<_> =
            case.found.iter().map(|(code, host, from)| (*code, *host, from.to_vec())).collect();
        assert_eq!(found, expected, "{}: {:#?}", case.what, report.findings);
        assert!(report.findings.iter().all(|finding| !finding.seen.is_empty()), "{}", case.what);
    }
}

#[test]
fn every_kind_is_raised_by_a_case_and_has_a_code_of_its_own() {
    let cases = HOST_CASES.iter().chain(NETWORK_CASES);
    let raised: BTreeSet<&str> = cases.flat_map(|case| case.found).map(|(code, _, _)| *code).collect();
    let known: Vec<&str> = kind::KINDS.iter().map(|kind| kind.code).collect();
    assert_eq!(raised.into_iter().collect::<Vec<_>>(), known);
    let reasons: BTreeSet<&str> = kind::KINDS.iter().map(|kind| kind.reason).collect();
    assert_eq!(reasons.len(), known.len());
}

#[test]
fn errors_come_first_and_what_was_seen_names_the_hosts() {
    let mut seen = healthy();
    facts(&mut seen, 0).clock_ahead_ms = 2_000;
    way(&mut seen, 0, 2).datagrams_arrived.remove(&4789);
    way(&mut seen, 1, 2).datagrams_arrived.remove(&4789);
    let said: Vec<String> = examine(&seen).findings.into_iter().map(|finding| finding.seen).collect();
    assert_eq!(
        said,
        [
            "from h0, h1 to h2: 4789/udp: datagrams do not arrive",
            "the host's clock is 2.000 s ahead of the manager's"
        ]
    );
}

#[test]
fn what_could_not_be_found_out_is_told() {
    let mut seen = healthy();
    seen.hosts[0].facts = Err(Unsaid::Unreached("no manager holds it".into()));
    seen.hosts[1].deaf = Some("no raw sockets".into());
    seen.hosts[2].mute = Some("no answer".into());
    let told: Vec<_> = examine(&seen).unchecked.into_iter().map(|row| (row.host, row.why)).collect();
    let row = |host: &str, why: &str| (host.to_owned(), why.to_owned());
    assert_eq!(told, [row("h0", "no manager holds it"), row("h1", "no raw sockets"), row("h2", "no answer")]);
}

#[test]
fn a_way_tells_each_port_that_its_host_needs() {
    let mut seen = healthy();
    seen.hosts[2].deaf = Some("no raw sockets".into());
    way(&mut seen, 0, 2).datagrams_arrived.clear();
    let report = examine(&seen);
    let ports = |from, to| -> Vec<String> {
        let way = report.ways.iter().find(|way| (way.from, way.to) == (from, to)).expect("judged");
        way.ports.iter().map(|seen| format!("{} {:?}", seen.port, seen.passes)).collect()
    };
    assert_eq!(
        ports(1, 0),
        ["2377/tcp Some(true)", "7946/tcp Some(true)", "7946/udp Some(true)", "4789/udp Some(true)"]
    );
    assert_eq!(ports(0, 2), ["7946/tcp Some(true)", "7946/udp None", "4789/udp None"]);
}
