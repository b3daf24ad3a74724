//! Founding a cluster: its authority, a certificate for each manager, and the first administrator's token.
//!
//! Founders know each other from the start, by files that one command writes and a person carries to the machines.
//! So nobody has to be trusted before there are certificates.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use skep_model::access;
use skep_wire::pki::Identity;

use crate::config::{AdminToken, Founder, ServerConfig, TimingPreset};

/// Where the first administrator's token is left, once, readable by its owner only.
pub(crate) const TOKEN_FILE: &str = "admin-token";

/// The API port where nothing else is said.
pub(crate) const API_PORT: u16 = 8443;
/// The port for managers and agents where nothing else is said.
pub(crate) const PEER_PORT: u16 = 8444;

/// Longer silence than a packet's way round the world; see the timing presets.
const FOUNDERS_ALLOWED: &[usize] = &[1, 3, 5, 7];

#[derive(Args)]
#[command(after_help = "Example:\n  skep init --out founders --manager m1=10.0.0.11 --manager m2=10.0.0.12 \
                        --manager m3=10.0.0.13\n  scp -r founders/m1 root@10.0.0.11:/var/lib/skep   (and so on), \
                        then on each: skep server --data-dir /var/lib/skep")]
pub(crate) struct Init {
    /// A founding manager and the address at which others reach it; 1, 3, 5 or 7 times
    #[arg(long = "manager", value_name = "NAME=ADDRESS", required = true)]
    managers: Vec<String>,
    /// The folder in which each manager's data folder is written; must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// For managers in different places: more patience with the network
    #[arg(long)]
    wan: bool,
}

/// One manager of a cluster that is being founded.
pub(crate) struct FoundingManager {
    pub(crate) name: String,
    /// Where others reach it, and what it listens on.
    pub(crate) peer: SocketAddr,
    /// Where clients reach it.
    pub(crate) api: SocketAddr,
    /// Listen on every address instead of only the one that is told to others.
    pub(crate) listen_everywhere: bool,
}

/// What all managers of a new cluster have in common.
pub(crate) struct Founding {
    pub(crate) cluster: String,
    pub(crate) timing: TimingPreset,
    pub(crate) drain_delay_secs: u64,
    pub(crate) local_root: PathBuf,
}

impl Init {
    pub(crate) fn run(self) -> Result<()> {
        let managers = self.managers.iter().map(|text| founder(text)).collect::<Result<Vec<_>>>()?;
        let founding = Founding {
            cluster: new_cluster_id(),
            timing: if self.wan { TimingPreset::Wan } else { TimingPreset::Lan },
            drain_delay_secs: 10,
            local_root: "/var/lib/skep-local".into(),
        };
        if self.out.exists() {
            bail!("{} exists already; nothing was written", self.out.display());
        }
        found(&self.out, &founding, &managers)?;
        println!(
            "Cluster {} with {} managers. Carry each folder to its machine:",
            founding.cluster,
            managers.len()
        );
        for manager in &managers {
            println!(
                "  {} -> /var/lib/skep on {}",
                self.out.join(&manager.name).display(),
                manager.peer.ip()
            );
        }
        println!("Then on each machine: skep server --data-dir /var/lib/skep");
        println!("The administrator's token is in {}", self.out.join(TOKEN_FILE).display());
        Ok(())
    }
}

fn founder(text: &str) -> Result<FoundingManager> {
    let (name, address) = text
        .split_once('=')
        .with_context(|| format!("--manager {text}: write it as NAME=ADDRESS, for instance m1=10.0.0.11"))?;
    skep_model::name::Name::parse("a manager", name)?;
    let ip: IpAddr =
        address.parse().with_context(|| format!("--manager {text}: '{address}' is not an IP address"))?;
    Ok(FoundingManager {
        name: name.to_owned(),
        peer: SocketAddr::new(ip, PEER_PORT),
        api: SocketAddr::new(ip, API_PORT),
        // Nobody reaches a loopback address from elsewhere, and a computer has many: one for each manager on it.
        listen_everywhere: !ip.is_loopback(),
    })
}

/// A name of a cluster that no other cluster has.
pub(crate) fn new_cluster_id() -> String {
    format!("c{}", &skep_wire::random::name()[..12])
}

/// Writes `out/<name>/` for each manager and the token.
pub(crate) fn found(out: &Path, founding: &Founding, managers: &[FoundingManager]) -> Result<()> {
    if !FOUNDERS_ALLOWED.contains(&managers.len()) {
        bail!("{} managers cannot found a cluster: use one of {FOUNDERS_ALLOWED:?}", managers.len());
    }
    let (token, admin_token) = new_token()?;
    let founders: Vec<Founder> = managers
        .iter()
        .zip(1..)
        .map(|(manager, id)| Founder {
            id,
            name: manager.name.clone(),
            peer_address: manager.peer.to_string(),
            api_url: format!("https://{}", manager.api),
        })
        .collect();
    let mut first: Option<Identity> = None;
    for (manager, node) in managers.iter().zip(1..) {
        let addresses: Vec<String> =
            [manager.peer.ip(), manager.api.ip()].iter().map(ToString::to_string).collect();
        let identity = match &first {
            None => Identity::create(&founding.cluster, node, &addresses)?,
            Some(first) => first.for_manager(node, &addresses)?,
        };
        let listen = |address: SocketAddr| match manager.listen_everywhere {
            true => SocketAddr::new(IpAddr::from([0, 0, 0, 0]), address.port()),
            false => address,
        };
        let config = ServerConfig {
            node,
            peer_listen: listen(manager.peer),
            api_listen: listen(manager.api),
            timing: founding.timing,
            drain_delay_secs: founding.drain_delay_secs,
            local_root: founding.local_root.clone(),
            admin_token: Some(admin_token.clone()),
            founders: founders.clone(),
            joined: None,
        };
        write_data_folder(&out.join(&manager.name), &identity, &config)?;
        first.get_or_insert(identity);
    }
    write_secret(&out.join(TOKEN_FILE), &token)
}

/// A data folder that is complete once its configuration is there.
fn write_data_folder(data: &Path, identity: &Identity, config: &ServerConfig) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("making {}", data.display()))?;
    identity.save(data)?;
    config.save(data)
}

fn new_token() -> Result<(String, AdminToken)> {
    let id = &skep_wire::random::name()[..8];
    let secret = skep_wire::random::hex(&skep_wire::random::bytes::<24>());
    let token = format!("{}{id}_{secret}", access::TOKEN_PREFIX);
    let (id, hash) = access::parse(&token).context("making a token")?;
    Ok((token, AdminToken { id, sha256: skep_wire::random::hex(&hash) }))
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = open.with_context(|| format!("writing {}", path.display()))?;
    std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes())
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_founder_gets_a_folder_of_its_own_and_all_share_one_authority() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let out = dir.path().join("founders");
        let init = Init {
            managers: ["m1=10.0.0.1", "m2=10.0.0.2", "m3=10.0.0.3"].map(String::from).into(),
            out: out.clone(),
            wan: false,
        };
        init.run().expect("founds");
        let identities: Vec<_> =
            ["m1", "m2", "m3"].iter().map(|name| Identity::load(&out.join(name)).expect("loads")).collect();
        assert!(identities.iter().all(|identity| identity.ca_pem == identities[0].ca_pem));
        let nodes: Vec<_> =
            identities.iter().map(|identity| identity.node().expect("is a manager's")).collect();
        assert_eq!(nodes, [1, 2, 3]);
        assert!(access::parse(fs::read_to_string(out.join(TOKEN_FILE)).expect("reads").trim()).is_some());
    }

    #[test]
    fn bad_founders_are_refused_and_nothing_is_written() {
        let dir = tempfile::tempdir().expect("makes a folder");
        for managers in
            [vec!["m1=10.0.0.1", "m2=10.0.0.2"], vec!["m1"], vec!["m1=nowhere"], vec!["M=10.0.0.1"]]
        {
            let out = dir.path().join("founders");
            let managers = managers.into_iter().map(String::from).collect();
            assert!(Init { managers, out: out.clone(), wan: false }.run().is_err());
            assert!(!out.exists());
        }
    }
}
