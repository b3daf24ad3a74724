//! What is wrong with single hosts, and between what they say of themselves.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::kind::{self, Kind};
use super::{Disk, Facts, Finding, HostSeen, Seen, Unsaid};
use crate::networks::TooNarrow;

/// Leases, certificates and logs are compared across machines; a second is what people notice in logs.
const CLOCK_WARNING_MS: u64 = 1_000;

/// A token or certificate that was just made is not valid yet on a machine that is this far behind.
const CLOCK_ERROR_MS: u64 = 15_000;

/// What Docker Swarm cannot do without.
const FEATURES_NEEDED: &[&str] = &["overlay", "vxlan", "br_netfilter"];

/// What only a part of it needs, and what is said when it is missing.
const FEATURES_FOR_SOME: &[(&str, &Kind)] =
    &[("xfrm", &kind::ENCRYPTION_MISSING), ("ip_vs", &kind::ROUTING_MESH_MISSING)];

/// An image of usual size needs 2 GiB while it is unpacked.
const DISK_WARNING: Little = Little { percent: 10, bytes: 2 * 1024 * 1024 * 1024 };

/// Below that, not even logs can be written for long.
const DISK_ERROR: Little = Little { percent: 2, bytes: 200 * 1024 * 1024 };

/// Less than one of both.
struct Little {
    percent: u64,
    bytes: u64,
}

impl Little {
    fn is(&self, disk: &Disk) -> bool {
        // A small file system is not full because it is small.
        let part = disk.free_bytes < disk.total_bytes / 100 * self.percent;
        part || (disk.free_bytes < self.bytes && disk.total_bytes >= self.bytes)
    }
}

pub(super) fn findings(seen: &Seen) -> Vec<Finding> {
    let has_swarm = seen.hosts.iter().any(|host| host.node.is_some());
    let mut findings: Vec<Finding> = seen.hosts.iter().flat_map(|host| of_host(host, has_swarm)).collect();
    findings.extend(seen.hosts.iter().flat_map(narrow));
    findings.extend(
        seen.hosts.iter().filter_map(|host| Some(found(&kind::NFS_UNUSABLE, host, host.nfs.clone()?))),
    );
    findings.extend(seen.hosts.iter().filter(|_| seen.encrypted).filter_map(cannot_encrypt));
    findings.extend(seen.hosts.iter().filter_map(|host| certificate(host, seen.at)));
    findings.extend(engine_versions(&seen.hosts));
    findings.extend(addresses(&seen.hosts));
    findings.extend(hostnames(&seen.hosts));
    findings
}

fn of_host(host: &HostSeen, has_swarm: bool) -> Vec<Finding> {
    let found = |kind, seen: String| found(kind, host, seen);
    let mut findings = vec![];
    match &host.facts {
        Err(Unsaid::Unreached(why)) => findings.push(found(&kind::AGENT_UNREACHABLE, why.clone())),
        Err(Unsaid::Declined(_)) => {}
        Ok(facts) => {
            if let Err(why) = &facts.engine {
                findings.push(found(&kind::ENGINE_UNREACHABLE, why.clone()));
            }
            findings.extend(clock(facts).map(|(kind, seen)| found(kind, seen)));
            findings.extend(features(facts).into_iter().map(|(kind, seen)| found(kind, seen)));
            findings.extend(disks(facts).into_iter().map(|(kind, seen)| found(kind, seen)));
        }
    }
    // Whose engine is silent cannot be a node; that would be the same finding twice.
    let answers = said(host).is_some_and(|facts| facts.engine.is_ok());
    match host.node {
        None if has_swarm && answers => {
            findings.push(found(&kind::NOT_IN_SWARM, "the swarm does not list the host".into()));
        }
        Some(node) if !node.ready && answers => {
            findings.push(found(&kind::NODE_DOWN, "the swarm sees the node as down".into()));
        }
        _ => {}
    }
    findings
}

fn narrow(host: &HostSeen) -> Vec<Finding> {
    let finding = |(what, link): &(TooNarrow, u16)| {
        let kind = match what {
            TooNarrow::Environment(_) => &kind::LINK_TOO_NARROW,
            TooNarrow::Bridge(_) => &kind::BRIDGE_TOO_WIDE,
            TooNarrow::Engine(_) => &kind::ENGINE_NETWORK_TOO_WIDE,
        };
        found(kind, host, format!("the host's link carries packets of {link} bytes; {what}"))
    };
    host.too_narrow.iter().map(finding).collect()
}

fn cannot_encrypt(host: &HostSeen) -> Option<Finding> {
    let missing = said(host)?.features.get("xfrm") == Some(&false);
    let seen = "the environment's networks are encrypted, and the kernel does not have xfrm".to_owned();
    missing.then(|| found(&kind::ENCRYPTION_NEEDED, host, seen))
}

fn certificate(host: &HostSeen, now: Timestamp) -> Option<Finding> {
    let certificate = host.node?.certificate?;
    let (kind, tense) = match certificate {
        ended if now >= ended.to => (&kind::CERTIFICATE_ENDED, "was"),
        late if late.renewal_is_late(now) => (&kind::CERTIFICATE_NOT_RENEWED, "is"),
        _ => return None,
    };
    Some(found(kind, host, format!("the node's certificate {tense} valid until {:.0}", certificate.to)))
}

fn clock(facts: &Facts) -> Option<(&'static Kind, String)> {
    // What a slow line may have added is not held against the clock.
    let off = facts.clock_ahead_ms.unsigned_abs().saturating_sub(facts.clock_uncertain_ms);
    let kind = match off {
        off if off > CLOCK_ERROR_MS => &kind::CLOCK_WRONG,
        off if off > CLOCK_WARNING_MS => &kind::CLOCK_DIFFERS,
        _ => return None,
    };
    let how = if facts.clock_ahead_ms > 0 { "ahead of" } else { "behind" };
    let off = facts.clock_ahead_ms.unsigned_abs();
    Some((kind, format!("the host's clock is {}.{:03} s {how} the manager's", off / 1000, off % 1000)))
}

fn features(facts: &Facts) -> Vec<(&'static Kind, String)> {
    let is_missing = |name: &&str| facts.features.get(*name) == Some(&false);
    let missing: Vec<&str> = FEATURES_NEEDED.iter().copied().filter(is_missing).collect();
    let mut findings = vec![];
    if !missing.is_empty() {
        let seen = format!("the kernel does not have {}", missing.join(", "));
        findings.push((&kind::FEATURE_MISSING, seen));
    }
    let for_some = FEATURES_FOR_SOME.iter().filter(|(name, _)| is_missing(name));
    findings.extend(for_some.map(|(name, kind)| (*kind, format!("the kernel does not have {name}"))));
    findings
}

/// Two folders on one file system are one finding.
fn disks(facts: &Facts) -> Vec<(&'static Kind, String)> {
    let mut findings: Vec<(&'static Kind, String)> = vec![];
    let mut told: Vec<(u64, u64)> = vec![];
    for disk in &facts.disks {
        let kind = match disk {
            disk if DISK_ERROR.is(disk) => &kind::DISK_FULL,
            disk if DISK_WARNING.is(disk) => &kind::DISK_LOW,
            _ => continue,
        };
        if told.contains(&(disk.total_bytes, disk.free_bytes)) {
            continue;
        }
        told.push((disk.total_bytes, disk.free_bytes));
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let seen = format!(
            "{} MiB of {} MiB are free at {} ({})",
            mib(disk.free_bytes),
            mib(disk.total_bytes),
            disk.path,
            disk.keeps
        );
        findings.push((kind, seen));
    }
    findings
}

/// One finding for each host that is not of the version that most have.
fn engine_versions(hosts: &[HostSeen]) -> Vec<Finding> {
    let with_version = |host| Some((host, major_minor(said(host)?.engine.as_ref().ok()?)?));
    let versions: Vec<(&HostSeen, &str)> = hosts.iter().filter_map(with_version).collect();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, version) in &versions {
        *count.entry(version).or_default() += 1;
    }
    let Some((usual, _)) = count.iter().max_by_key(|(_, count)| **count) else { return vec![] };
    let others = versions.iter().filter(|(_, version)| version != usual);
    let finding = |host: &HostSeen, version: &str| {
        let seen = format!("the engine is of version {version}, most others are of {usual}");
        found(&kind::ENGINE_VERSIONS_DIFFER, host, seen)
    };
    others.map(|(host, version)| finding(host, version)).collect()
}

fn major_minor(version: &str) -> Option<&str> {
    let (major, rest) = version.split_once('.')?;
    let minor = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    version.get(..major.len() + 1 + minor)
}

/// Only the address by which others reach a host counts: addresses of Docker's own bridges are the same everywhere.
fn addresses(hosts: &[HostSeen]) -> Vec<Finding> {
    let has = |host: &HostSeen, address: &String| {
        host.address == *address || said(host).is_some_and(|facts| facts.addresses.contains(address))
    };
    let double = |(at, host): (usize, &HostSeen)| {
        let mut others = hosts.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other);
        let other = others.find(|other| !host.address.is_empty() && has(other, &host.address))?;
        let seen = format!("{} has the host's address {} as well", other.name, host.address);
        Some(Finding { other: Some(other.name.clone()), ..found(&kind::ADDRESS_DUPLICATE, host, seen) })
    };
    hosts.iter().enumerate().filter_map(double).collect()
}

fn hostnames(hosts: &[HostSeen]) -> Vec<Finding> {
    let double = |(at, host): (usize, &HostSeen)| {
        let own = hostname(host)?;
        let mut others = hosts.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other);
        let other = others.find(|other| hostname(other) == Some(own))?;
        let seen = format!("its machine and that of {} both call themselves {own}", other.name);
        Some(Finding { other: Some(other.name.clone()), ..found(&kind::HOSTNAME_DUPLICATE, host, seen) })
    };
    hosts.iter().enumerate().filter_map(double).collect()
}

fn hostname(host: &HostSeen) -> Option<&str> {
    said(host).map(|facts| facts.hostname.as_str()).filter(|name| !name.is_empty())
}

fn said(host: &HostSeen) -> Option<&Facts> {
    host.facts.as_ref().ok()
}

fn found(kind: &'static Kind, host: &HostSeen, seen: String) -> Finding {
    Finding { kind, host: host.name.clone(), from: vec![], other: None, seen }
}
