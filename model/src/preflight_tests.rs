//! What holds a host back, and above all what does not.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::doctor::{Connection, Facts, HostSeen, NodeSeen, Seen, WaySeen, examine, kind};
use crate::preflight::{Checked, about};
use crate::testing::Swarm;

/// A new host in the first place, then managers and workers of the swarm; all is well.
fn seen(managers: usize, workers: usize) -> Seen {
    let host = |at: usize| HostSeen {
        name: if at == 0 { "new".into() } else { format!("h{at}") },
        address: format!("10.0.0.{at}"),
        node: (at > 0).then_some(NodeSeen { manager: at <= managers, ready: true, certificate: None }),
        too_narrow: vec![],
        nfs: None,
        facts: Ok(Facts {
            hostname: format!("machine-{at}"),
            addresses: vec![format!("10.0.0.{at}")],
            clock_ahead_ms: 0,
            clock_uncertain_ms: 0,
            disks: vec![],
            features: BTreeMap::new(),
            engine: Ok("28.1.2".into()),
        }),
        deaf: None,
        mute: None,
    };
    let way = |(from, to): (usize, usize)| {
        let answer = if to == 0 { Connection::Refused } else { Connection::Accepted };
        let ports = [2377, 7946].into_iter().filter(|port| *port != 2377 || (1..=managers).contains(&to));
        WaySeen {
            from,
            to,
            connections: ports.map(|port| (port, answer.clone())).collect(),
            connections_arrived: [2377, 7946].into(),
            datagrams_arrived: [4789, 7946].into(),
            largest_sent: 1500,
            largest_arrived: 1500,
            ..WaySeen::default()
        }
    };
    let count = 1 + managers + workers;
    let ways = (1..count).flat_map(|peer| [(0, peer), (peer, 0)]).map(way).collect();
    Seen {
        hosts: (0..count).map(host).collect(),
        ways,
        packet_bytes_needed: 1_500,
        encrypted: false,
        at: Timestamp::UNIX_EPOCH,
    }
}

/// A connection to that port of these members is not answered.
fn block(seen: &mut Seen, port: u16, members: impl Fn(usize) -> bool) {
    for way in seen.ways.iter_mut().filter(|way| way.from == 0 && members(way.to)) {
        if let Some(connection) = way.connections.get_mut(&port) {
            *connection = Connection::Unanswered;
        }
    }
}

fn checked(seen: &Seen) -> Checked {
    about(seen, &examine(seen), 0)
}

fn codes(checked: &Checked) -> Vec<(&str, bool)> {
    checked.findings.iter().map(|found| (found.code.as_str(), found.holds)).collect()
}

#[test]
fn a_good_network_holds_nobody_and_tells_with_whom_it_was_checked() {
    let checked = checked(&seen(1, 2));
    assert_eq!(codes(&checked), []);
    assert_eq!((checked.peers.len(), checked.unchecked.len(), checked.reason_to_hold()), (3, 0, None));
}

#[test]
fn a_host_that_reaches_no_manager_is_held_however_many_workers_it_reaches() {
    let mut seen = seen(1, 6);
    block(&mut seen, 2377, |_| true);
    let checked = checked(&seen);
    assert_eq!(codes(&checked), [("SKF-202", true)]);
    let why = checked.reason_to_hold().expect("holds");
    assert!(why.starts_with("SKF-202: from new to h1: 2377/tcp"), "{why}");
    assert!(why.contains(kind::MANAGEMENT_BLOCKED.fix), "what helps: {why}");
}

#[test]
fn a_host_at_which_gossip_does_not_arrive_is_held() {
    let mut seen = seen(1, 2);
    for way in seen.ways.iter_mut().filter(|way| way.to == 0) {
        way.datagrams_arrived.remove(&7946);
    }
    assert_eq!(codes(&checked(&seen)), [("SKF-204", true)]);
}

#[test]
fn one_bad_member_among_several_keeps_nobody_out() {
    let mut seen = seen(3, 0);
    block(&mut seen, 7946, |to| to == 2);
    assert_eq!(codes(&checked(&seen)), [("SKF-203", false)]);
    block(&mut seen, 7946, |to| to != 3);
    assert_eq!(codes(&checked(&seen)), [("SKF-203", true), ("SKF-203", true)]);
}

#[test]
fn overlay_packets_and_clocks_are_told_and_hold_nobody() {
    let mut seen = seen(1, 0);
    for way in &mut seen.ways {
        way.datagrams_arrived.remove(&4789);
    }
    let facts = seen.hosts[0].facts.as_mut().expect("has said");
    facts.clock_ahead_ms = 60_000;
    let checked = checked(&seen);
    assert_eq!(codes(&checked), [("SKF-112", false), ("SKF-205", false), ("SKF-205", false)]);
    assert_eq!(checked.reason_to_hold(), None);
}

#[test]
fn a_host_that_moved_is_no_flaw_because_the_swarm_still_lists_it_as_it_was() {
    let mut moved = seen(2, 1);
    moved.hosts[0].node = Some(NodeSeen { manager: true, ready: false, certificate: None });
    assert_eq!(codes(&checked(&moved)), []);
}

#[test]
fn what_is_wrong_between_others_is_nobodys_business_here() {
    let mut seen = seen(1, 1);
    seen.hosts[2].facts.as_mut().expect("has said").clock_ahead_ms = 60_000;
    seen.hosts[1].facts.as_mut().expect("has said").engine = Err("no socket".into());
    assert_eq!(codes(&checked(&seen)), []);
}

#[test]
fn two_machines_with_one_address_hold_the_new_one_whichever_of_them_shows_it() {
    let mut has_others = seen(1, 1);
    has_others.hosts[0].facts.as_mut().expect("has said").addresses.push("10.0.0.2".into());
    let mut its_is_had = seen(1, 1);
    its_is_had.hosts[2].facts.as_mut().expect("has said").addresses.push("10.0.0.0".into());
    for seen in [has_others, its_is_had] {
        assert_eq!(codes(&checked(&seen)), [("SKF-151", true)]);
    }
}

#[test]
fn what_could_not_be_found_out_is_told_and_holds_nobody() {
    let mut deaf = seen(1, 0);
    deaf.hosts[0].deaf = Some("no raw sockets".into());
    deaf.ways.iter_mut().filter(|way| way.to == 0).for_each(|way| way.datagrams_arrived.clear());
    let told = checked(&deaf);
    assert_eq!((codes(&told), told.unchecked.len()), (vec![], 1), "{:?}", told.unchecked);
    let mut alone = seen(1, 0);
    alone.ways.clear();
    let told = checked(&alone);
    assert!(told.peers.is_empty() && told.unchecked[0].contains("no member"), "{told:?}");
    assert_eq!(told.reason_to_hold(), None);
}

#[tokio::test]
async fn a_check_counts_at_the_address_at_which_it_was_made() {
    let swarm = Swarm::of(1, 1).await;
    let holds = crate::preflight::Found {
        code: "SKF-202".into(),
        host: "prod-1".into(),
        from: vec!["prod-2".into()],
        seen: "2377/tcp".into(),
        holds: true,
    };
    let host = |change: fn(&mut crate::host::Host)| {
        let mut host = swarm.host(2);
        host.membership = None;
        let checked =
            Checked { address: "10.90.0.2".into(), findings: vec![holds.clone()], ..Checked::default() };
        host.preflight = Some(crate::preflight::Preflight { at: host.created_at, checked });
        change(&mut host);
        host
    };
    let held = host(|_| {});
    assert!(!held.may_join(true) && held.may_join(false), "the first has nobody to be checked with");
    assert!(held.state().why.contains("skep host check prod-2 --skip-preflight"), "{}", held.state().why);
    assert!(host(|host| host.skip_preflight = true).may_join(true));
    let moved = host(|host| host.machine.as_mut().expect("has one").address = "10.90.0.9".into());
    assert!(!moved.may_join(true) && moved.held_back().is_none(), "it is to be checked again");
    assert!(host(|host| host.preflight = None).may_join(true), "it was a node before");
}
