//! The cluster's network: one bridge, one /24, chosen once and then kept.

use std::net::Ipv4Addr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::address::{self, Subnet};
use super::files::{self, Lock};
use super::layout::Layout;
use super::tools;
use crate::DriverError;

/// What machines and managers of one cluster meet on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The interface.
    pub bridge: String,
    /// The addresses on it.
    pub subnet: Subnet,
    /// This computer's address on it.
    pub gateway: Ipv4Addr,
}

/// What is kept in `network.json`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    cluster: String,
    bridge: String,
    pub(super) subnet: Subnet,
    gateway: Ipv4Addr,
    /// The last byte of the address that was given out most recently.
    #[serde(default)]
    pub(super) last_host: Option<u8>,
}

/// One route as `ip -json route` tells it.
#[derive(Deserialize)]
struct Route {
    dst: String,
    #[serde(default)]
    dev: Option<String>,
}

/// Chooses the network if that was not done, and makes the bridge if it is not there.
pub(super) fn ensure(layout: &Layout) -> Result<Network, DriverError> {
    let _held = hold(layout)?;
    let record = match files::read(&layout.network_file())? {
        Some(record) => record,
        None => choose(layout)?,
    };
    ensure_bridge(layout, &record)?;
    Ok(Network { bridge: record.bridge, subnet: record.subnet, gateway: record.gateway })
}

/// Whoever holds this hands out networks and addresses.
pub(super) fn hold(layout: &Layout) -> Result<Lock, DriverError> {
    files::lock(&layout.lock())
}

pub(super) fn record(layout: &Layout) -> Result<Option<Record>, DriverError> {
    files::read(&layout.network_file())
}

/// Chooses and makes the bridge in one go: from then on the route tells every other cluster that it is taken.
fn choose(layout: &Layout) -> Result<Record, DriverError> {
    let _alone = files::lock(Path::new(files::COMPUTER_LOCK))?;
    let mut taken: Vec<Subnet> = routes()?.into_iter().map(|(subnet, _)| subnet).collect();
    taken.extend(other_clusters(layout)?);
    let subnet = address::choose_subnet(&layout.tag, &taken).ok_or(DriverError::NoFreeSubnet)?;
    let record = Record {
        cluster: layout.cluster.clone(),
        bridge: layout.bridge(),
        subnet,
        gateway: subnet.gateway(),
        last_host: None,
    };
    files::write(&layout.network_file(), &record)?;
    ensure_bridge(layout, &record)?;
    tracing::info!(cluster = %layout.cluster, subnet = %subnet, bridge = %record.bridge, "local network chosen");
    Ok(record)
}

fn ensure_bridge(layout: &Layout, record: &Record) -> Result<(), DriverError> {
    let trying = "making the bridge";
    let bridge = layout.bridge();
    let mut commands = Vec::new();
    if !exists(&bridge) {
        still_free(record)?;
        // With an address of its own; else the bridge takes over its lowest port's, which comes and goes.
        let link = address::link_address(record.gateway);
        commands.push(format!("link add {bridge} address {link} type bridge"));
    }
    commands.push(format!("addr replace {}/{} dev {bridge}", record.gateway, record.subnet.length()));
    commands.push(format!("link set {bridge} up"));
    tools::ip_batch(trying, &[], &commands)
}

/// After a restart of the computer the bridge is gone, and its network may meanwhile lead elsewhere.
fn still_free(record: &Record) -> Result<(), DriverError> {
    match routes()?.into_iter().find(|(subnet, _)| subnet.overlaps(&record.subnet)) {
        None => Ok(()),
        Some((subnet, device)) => Err(DriverError::SubnetTaken {
            subnet: record.subnet.to_string(),
            route: format!("{subnet} dev {}", device.unwrap_or_default()),
        }),
    }
}

fn routes() -> Result<Vec<(Subnet, Option<String>)>, DriverError> {
    let trying = "reading the routes";
    let arguments = ["-4", "-json", "route", "show", "table", "all"];
    let text = tools::run(trying, "ip", &arguments)?;
    let routes: Vec<Route> = serde_json::from_str(&text).map_err(|error| DriverError::Command {
        trying,
        command: format!("ip {}", arguments.join(" ")),
        detail: error.to_string(),
    })?;
    // What does not parse is `default`, and that takes nothing.
    Ok(routes.into_iter().filter_map(|route| Some((route.dst.parse().ok()?, route.dev))).collect())
}

/// Networks of other clusters below this root, also of those whose bridge is not there now.
fn other_clusters(layout: &Layout) -> Result<Vec<Subnet>, DriverError> {
    let mut subnets = Vec::new();
    for tag in files::names(&layout.root)? {
        let file = layout.root.join(tag).join("network.json");
        // A broken file of another cluster is that cluster's trouble.
        if let Ok(Some(record)) = files::read::<Record>(&file) {
            subnets.push(record.subnet);
        }
    }
    Ok(subnets)
}

pub(super) fn exists(interface: &str) -> bool {
    interfaces().iter().any(|name| name == interface)
}

/// The interfaces of the namespace this process is in. (`/sys/class/net` shows those of the namespace that
/// mounted it, which may be another.)
pub(super) fn interfaces() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    // Two lines of headings, then `name: counters`.
    table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}
