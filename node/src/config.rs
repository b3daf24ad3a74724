//! What one manager must know before it can ask anybody: `server.toml` in its data folder.
//!
//! Only what differs between managers, or is needed before they can agree, is in the file; everything else is
//! replicated state. Unknown keys are refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use skep_api::LimitsConfig;
use skep_raft::{ManagerNode, Timing};

use crate::proxies::{ForwardedHeader, Network, Proxies, ProxyProtocol};

/// The file's name.
const FILE: &str = "server.toml";

/// `server.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerConfig {
    /// This manager's number.
    pub(crate) node: u64,
    /// Where other managers and agents are listened for.
    pub(crate) peer_listen: SocketAddr,
    /// Where the API is listened for.
    pub(crate) api_listen: SocketAddr,
    /// Where metrics are served without a token, for a collector on this computer; left out: only on the API port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Load balancers whose word about where clients are is believed: addresses and networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) trusted_proxies: Vec<Network>,
    /// Whether they begin connections with a PROXY header.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) proxy_protocol: ProxyProtocol,
    /// In which header they say for whom they ask.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) forwarded_header: ForwardedHeader,
    /// How much one of those who ask may ask for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) limits: LimitsConfig,
    /// How long silence means that the leader is gone.
    #[serde(default)]
    pub(crate) timing: TimingPreset,
    /// Readers trust the leader's lease instead of asking a follower: faster, and right only while the clocks of all
    /// managers run equally fast. The same on all managers; change it while all of them are stopped.
    #[serde(default)]
    pub(crate) lease_reads: bool,
    /// How long a draining manager goes on serving, so that load balancers notice.
    #[serde(default = "drain_delay")]
    pub(crate) drain_delay_secs: u64,
    /// Where drivers that keep things on this computer keep them.
    #[serde(default = "local_root")]
    pub(crate) local_root: PathBuf,
    /// The first administrator's token, if one was asked for: only its hash. Founders have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) admin_token: Option<AdminToken>,
    /// What the code is recognized by with which the first administrator comes in: its SHA-256 in hexadecimal. Founders have it,
    /// unless there is a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) setup_code_sha256: Option<String>,
    /// To whom backups are encrypted from the beginning: the public half of the recovery key. Founders have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recovery_recipient: Option<String>,
    /// The managers that found the cluster together, this one included; none if it joined later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) founders: Vec<Founder>,
    /// This manager, if it joined a cluster that existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) joined: Option<Founder>,
}

/// The file in which a manager keeps who the others are, for the day when its log cannot tell any more.
const MEMBERS_FILE: &str = "members.toml";

/// `members.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KnownMembers {
    #[serde(default)]
    members: Vec<Founder>,
}

/// How long silence means that the leader is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TimingPreset {
    /// Managers in one network.
    #[default]
    Lan,
    /// Managers in different places.
    Wan,
}

/// Public part and hash of a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminToken {
    /// The public part.
    pub(crate) id: String,
    /// SHA-256 in hexadecimal.
    pub(crate) sha256: String,
}

/// One of the managers that found the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Founder {
    /// Its number.
    pub(crate) id: u64,
    /// Its name.
    pub(crate) name: String,
    /// Where its peer port is reached.
    pub(crate) peer_address: String,
    /// Where its API is reached.
    pub(crate) api_url: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn drain_delay() -> u64 {
    10
}

fn local_root() -> PathBuf {
    "/var/lib/skep-local".into()
}

impl ServerConfig {
    /// Where the founders are reached by managers and agents.
    pub(crate) fn founders_addresses(&self) -> Vec<String> {
        self.founders.iter().map(|founder| founder.peer_address.clone()).collect()
    }

    pub(crate) fn exists(data: &Path) -> bool {
        data.join(FILE).exists()
    }

    pub(crate) fn path(data: &Path) -> PathBuf {
        data.join(FILE)
    }

    pub(crate) fn load(data: &Path) -> Result<ServerConfig> {
        let path = ServerConfig::path(data);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let config: ServerConfig = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        if config.me().is_none() {
            bail!(
                "in {}: manager {} is neither among the founders nor the one that joined",
                path.display(),
                config.node
            );
        }
        if config.trusted_proxies.is_empty() && config.proxy_protocol != ProxyProtocol::Off {
            bail!(
                "in {}: proxy_protocol is on, but nobody may speak it: name the load balancers in trusted_proxies",
                path.display()
            );
        }
        Ok(config)
    }

    /// Whose word counts about where clients are.
    pub(crate) fn proxies(&self) -> Proxies {
        Proxies {
            trusted: self.trusted_proxies.clone(),
            protocol: self.proxy_protocol,
            header: self.forwarded_header,
        }
    }

    pub(crate) fn save(&self, data: &Path) -> Result<()> {
        let path = ServerConfig::path(data);
        let text = toml::to_string(self).context("writing the configuration")?;
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// This manager, as a founder or as one that joined.
    pub(crate) fn me(&self) -> Option<&Founder> {
        self.joined.iter().chain(&self.founders).find(|manager| manager.id == self.node)
    }

    pub(crate) fn founding_nodes(&self) -> BTreeMap<u64, ManagerNode> {
        let node = |founder: &Founder| ManagerNode {
            name: founder.name.clone(),
            peer_address: founder.peer_address.clone(),
            api_url: founder.api_url.clone(),
        };
        self.founders.iter().map(|founder| (founder.id, node(founder))).collect()
    }
}

/// The managers as they were known last; none if that was never written.
pub(crate) fn known_members(data: &Path) -> Vec<Founder> {
    let text = std::fs::read_to_string(data.join(MEMBERS_FILE)).unwrap_or_default();
    toml::from_str::<KnownMembers>(&text).unwrap_or_default().members
}

/// Keeps who the managers are.
pub(crate) fn save_known_members(data: &Path, members: Vec<Founder>) -> Result<()> {
    let path = data.join(MEMBERS_FILE);
    let text = toml::to_string(&KnownMembers { members }).context("writing the known managers")?;
    let new = path.with_extension("new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, &path))
        .with_context(|| format!("writing {}", path.display()))
}

impl AdminToken {
    /// The hash's bytes.
    pub(crate) fn hash(&self) -> Result<Vec<u8>> {
        let text = &self.sha256;
        bytes_of_hex(text).with_context(|| format!("admin_token.sha256 is not hexadecimal: '{text}'"))
    }
}

/// The bytes that two hexadecimal digits each stand for.
pub(crate) fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

impl From<TimingPreset> for Timing {
    fn from(preset: TimingPreset) -> Timing {
        match preset {
            TimingPreset::Lan => Timing::Lan,
            TimingPreset::Wan => Timing::Wan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ServerConfig {
        ServerConfig {
            node: 1,
            peer_listen: "127.0.0.1:8444".parse().expect("is an address"),
            api_listen: "127.0.0.1:8443".parse().expect("is an address"),
            metrics_listen: Some("127.0.0.1:9464".parse().expect("is an address")),
            trusted_proxies: vec!["10.1.0.0/16".parse().expect("is a network")],
            proxy_protocol: ProxyProtocol::Optional,
            forwarded_header: ForwardedHeader::Forwarded,
            limits: LimitsConfig { reads_per_second: 7, ..LimitsConfig::default() },
            timing: TimingPreset::Lan,
            lease_reads: false,
            drain_delay_secs: 10,
            local_root: local_root(),
            admin_token: Some(AdminToken { id: "a".into(), sha256: "00".into() }),
            setup_code_sha256: None,
            recovery_recipient: None,
            joined: None,
            founders: vec![Founder {
                id: 1,
                name: "m1".into(),
                peer_address: "127.0.0.1:8444".into(),
                api_url: "https://127.0.0.1:8443".into(),
            }],
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().expect("makes a folder");
        config().save(dir.path()).expect("writes");
        assert_eq!(ServerConfig::load(dir.path()).expect("reads"), config());
    }

    #[test]
    fn a_manager_that_joined_is_no_founder_and_knows_itself() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let founder = config().founders.remove(0);
        let joined = Founder { id: 4, name: "m4".into(), ..founder };
        let config =
            ServerConfig { node: 4, admin_token: None, founders: vec![], joined: Some(joined), ..config() };
        config.save(dir.path()).expect("writes");
        let read = ServerConfig::load(dir.path()).expect("reads");
        assert_eq!(read.me().map(|me| me.name.as_str()), Some("m4"));
        assert!(read.founding_nodes().is_empty());

        save_known_members(dir.path(), vec![read.me().expect("is known").clone()]).expect("writes");
        assert_eq!(known_members(dir.path()).len(), 1);
    }

    fn read(added: &str) -> Result<ServerConfig> {
        let dir = tempfile::tempdir().expect("makes a folder");
        let plain = ServerConfig {
            trusted_proxies: vec![],
            proxy_protocol: ProxyProtocol::Off,
            forwarded_header: ForwardedHeader::default(),
            limits: LimitsConfig::default(),
            ..config()
        };
        let text = format!("{added}\n{}", toml::to_string(&plain).expect("writes"));
        std::fs::write(dir.path().join(FILE), text).expect("writes");
        ServerConfig::load(dir.path())
    }

    #[test]
    fn proxies_and_limits_are_read_and_what_makes_no_sense_is_refused_by_name() {
        let read_well =
            read("trusted_proxies = [\"10.0.0.5\"]\nproxy_protocol = \"required\"").expect("reads");
        assert!(read_well.proxies().trusts("10.0.0.5".parse().expect("is an address")));
        assert_eq!(read_well.limits, LimitsConfig::default());
        let limited = read("limits = { writes_per_second = 0, watches = 5 }").expect("reads").limits;
        assert_eq!((limited.writes_per_second, limited.watches, limited.sessions), (0, 5, 20));
        for (wrong, named) in [
            ("trusted_proxies = [\"proxy.local\"]", "proxy.local"),
            ("proxy_protocol = \"optional\"", "trusted_proxies"),
            ("proxy_protocol = \"maybe\"", "maybe"),
            ("limits = { reads = 1 }", "reads"),
            ("limits = { watches = -1 }", "watches"),
        ] {
            let error = format!("{:#}", read(wrong).expect_err("is refused"));
            assert!(error.contains(named) && error.contains(FILE), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_limits_that_are_written_about_are_those_that_there_are() {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests");
        let page = Path::new(&here).join("../docs/reference/limits.md");
        let text = std::fs::read_to_string(page).expect("reads");
        let block = text.split("```toml\n[limits]\n").nth(1).and_then(|rest| rest.split("```").next());
        let written: LimitsConfig = toml::from_str(block.expect("is there")).expect("reads");
        assert_eq!(written, LimitsConfig::default());
        let lines = block.iter().flat_map(|block| block.lines()).filter(|line| line.contains('=')).count();
        let all = toml::Table::try_from(written).expect("is a table");
        assert_eq!(lines, all.len(), "each is written about");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let text = format!("tming = \"lan\"\n{}", toml::to_string(&config()).expect("writes"));
        std::fs::write(dir.path().join(FILE), text).expect("writes");
        let error = format!("{:#}", ServerConfig::load(dir.path()).expect_err("is refused"));
        assert!(error.contains("tming") && error.contains(FILE), "{error}");
    }
}
