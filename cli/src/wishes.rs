//! What can be wished for an environment, the same when it is created and later.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::options::{self, OFF};

/// The wishes; what is not said stays as the template or the environment says it.
#[derive(Debug, Default, Args)]
pub(crate) struct Wishes {
    /// How many of its hosts are swarm managers: 1, 3, 5 or 7
    #[arg(long, value_name = "N")]
    managers: Option<u8>,
    /// Spread the swarm managers over the values of this host label; off: over none
    #[arg(long, value_name = "LABEL|off")]
    spread: Option<String>,
    /// How long a swarm manager may be down before another host takes its place; off: for ever [default: 5m]
    #[arg(long, value_name = "TIME|off", value_parser = options::duration_or_off)]
    manager_patience: Option<Duration>,
    /// How long a host may be down before a new machine from its driver takes its place; off: for ever [default: off]
    #[arg(long, value_name = "TIME|off", value_parser = options::duration_or_off)]
    host_patience: Option<Duration>,
    /// Move tasks to hosts that have joined, a few services at a time [default: off]
    #[arg(long, value_name = "on|off")]
    rebalance: Option<Switch>,
    /// The largest packets between its hosts, with which its networks are made; auto: what the narrowest link carries
    #[arg(long, value_name = "BYTES|auto", value_parser = mtu)]
    mtu: Option<Mtu>,
    /// Whether its overlay networks are encrypted from host to host
    #[arg(long, value_name = "on|off")]
    encrypted: Option<Switch>,
    /// A range out of which its swarm takes networks, such as 10.20.0.0/16; repeatable. Only until the swarm is begun
    #[arg(long = "address-pool", value_name = "RANGE")]
    address_pools: Vec<String>,
    /// The prefix of each network taken out of an address pool; 24 if not said
    #[arg(long, value_name = "BITS")]
    subnet_size: Option<u8>,
    /// Where volumes of driver nfs lie: server=HOST,path=/EXPORT[,options=…]; none: nowhere
    #[arg(long, value_name = "SERVER", value_parser = nfs)]
    nfs: Option<Value>,
    /// Whether managers of the swarm whose engines start wait for the unlock key, which Skep gives them
    #[arg(long, value_name = "on|off")]
    autolock: Option<Switch>,
    /// How many days a node's certificate is valid; nodes get new ones when the old ones are renewed
    #[arg(long, value_name = "N")]
    certificate_days: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Mtu(Option<u16>);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn mtu(text: &str) -> Result<Mtu, String> {
    match text {
        "auto" => Ok(Mtu(None)),
        text => text
            .parse()
            .map(|bytes| Mtu(Some(bytes)))
            .map_err(|_| "write bytes, such as 1400, or auto".into()),
    }
}

/// Options have commas themselves, so they come last.
fn nfs(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let wrong = || "write server=HOST,path=/EXPORT, then perhaps ,options=nfsvers=4,hard; or none".to_owned();
    let (place, options) = text.split_once(",options=").unwrap_or((text, ""));
    let (mut server, mut path) = (None, None);
    for part in place.split(',') {
        match part.split_once('=') {
            Some(("server", value)) => server = Some(value),
            Some(("path", value)) => path = Some(value),
            _ => return Err(wrong()),
        }
    }
    match (server, path) {
        (Some(server), Some(path)) => Ok(json!({"server": server, "path": path, "options": options})),
        _ => Err(wrong()),
    }
}

impl Wishes {
    /// As the API reads them; empty if nothing is wished.
    pub(crate) fn spec(&self) -> Map<String, Value> {
        let Wishes {
            managers,
            spread,
            manager_patience,
            host_patience,
            rebalance,
            mtu,
            encrypted,
            address_pools,
            subnet_size,
            nfs,
            autolock,
            certificate_days,
        } = self;
        let on = |switch: Switch| json!(matches!(switch, Switch::On));
        let seconds = |time: Duration| json!(time.as_secs());
        let label = |label: &String| if label == OFF { Value::Null } else { json!(label) };
        let fields = [
            ("swarm_managers", managers.map(|managers| json!(managers))),
            ("spread_over", spread.as_ref().map(label)),
            ("manager_patience_secs", manager_patience.map(seconds)),
            ("host_patience_secs", host_patience.map(seconds)),
            ("rebalance", rebalance.map(on)),
            ("mtu", mtu.map(|Mtu(bytes)| json!(bytes))),
            ("encrypted", encrypted.map(on)),
            ("address_pools", (!address_pools.is_empty()).then(|| json!(address_pools))),
            ("subnet_size", subnet_size.map(|bits| json!(bits))),
            ("nfs", nfs.clone()),
            ("autolock", autolock.map(on)),
            ("certificate_days", certificate_days.map(|days| json!(days))),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    #[test]
    fn only_what_is_named_is_sent_and_off_is_said() {
        let wished = |words: &str| {
            let words = std::iter::once("update").chain(words.split_whitespace());
            let matched = Wishes::augment_args(clap::Command::new("update")).get_matches_from(words);
            Value::Object(Wishes::from_arg_matches(&matched).expect("parses").spec())
        };
        assert_eq!(wished(""), json!({}));
        let off = json!({"spread_over": null, "manager_patience_secs": 0, "host_patience_secs": 0, "rebalance": false});
        assert_eq!(wished("--spread off --manager-patience off --host-patience off --rebalance off"), off);
        let some = json!({"swarm_managers": 5, "spread_over": "zone", "rebalance": true});
        assert_eq!(wished("--managers 5 --spread zone --rebalance on"), some);
        let keys = json!({"autolock": true, "certificate_days": 30});
        assert_eq!(wished("--autolock on --certificate-days 30"), keys);
    }

    #[test]
    fn only_what_is_said_is_sent_and_auto_is_null() {
        assert_eq!(Value::Object(Wishes::default().spec()), json!({}));
        let wishes = Wishes { mtu: mtu("auto").ok(), encrypted: Some(Switch::Off), ..Wishes::default() };
        assert_eq!(Value::Object(wishes.spec()), json!({"mtu": null, "encrypted": false}));
        assert!(mtu("large").is_err());
    }

    #[test]
    fn a_server_is_named_with_its_path_and_options_that_have_commas() {
        let said = json!({"server": "a", "path": "/b", "options": "nfsvers=4,hard"});
        assert_eq!(nfs("server=a,path=/b,options=nfsvers=4,hard"), Ok(said));
        assert_eq!(nfs("none"), Ok(Value::Null));
        for wrong in ["", "server=a", "path=/b", "a:/b", "server=a,path=/b,hard"] {
            assert!(nfs(wrong).is_err(), "{wrong}");
        }
    }
}
