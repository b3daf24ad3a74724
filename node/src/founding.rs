//! Founding a cluster: its authority, a certificate for each manager, and what the first administrator comes in with.
//!
//! Founders know each other from the start, by files that one command writes and a person carries to the machines.
//! So nobody has to be trusted before there are certificates.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use skep_api::LimitsConfig;
use skep_backup::RecoveryKey;
use skep_model::access;
use skep_wire::pki::Identity;

use crate::config::{AdminToken, Founder, ServerConfig, TimingPreset};
use crate::proxies::{ForwardedHeader, ProxyProtocol};
use crate::setup::{self, SETUP_CODE_FILE};

/// Where the first administrator's token is left, once, readable by its owner only, if one was asked for.
pub(crate) const TOKEN_FILE: &str = "admin-token";

/// Where the key that opens the cluster's backups is left, once, readable by its owner only.
pub(crate) const RECOVERY_KEY_FILE: &str = "recovery-key";

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
    /// A name under which clients reach all managers, such as a load balancer's; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// The folder in which each manager's data folder is written; must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// For managers in different places: more patience with the network
    #[arg(long)]
    wan: bool,
    /// For automation: write an administrator's token that does not end, instead of a code for the first administrator
    #[arg(long)]
    admin_token: bool,
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
    /// Names of all managers together, such as a load balancer's.
    pub(crate) names: Vec<String>,
    pub(crate) local_root: PathBuf,
    /// Make an administrator's token, and not a code with which a person becomes administrator.
    pub(crate) admin_token: bool,
    /// Set if the cluster is restored from a backup.
    pub(crate) inherited: Option<Inherited>,
}

/// What a restored cluster has from the one that it continues.
pub(crate) struct Inherited {
    /// Of a manager, whose own certificate and key are not looked at.
    pub(crate) authority: Identity,
    /// The first number that no manager had.
    pub(crate) first_node: u64,
}

impl Founding {
    /// A cluster of this name, with what is usual.
    pub(crate) fn of(cluster: &str) -> Founding {
        Founding {
            cluster: cluster.to_owned(),
            timing: TimingPreset::Lan,
            drain_delay_secs: 10,
            names: vec![],
            local_root: "/var/lib/skep-local".into(),
            admin_token: false,
            inherited: None,
        }
    }
}

impl Init {
    pub(crate) fn run(self) -> Result<()> {
        let managers = founders(&self.managers)?;
        let timing = if self.wan { TimingPreset::Wan } else { TimingPreset::Lan };
        let admin_token = self.admin_token;
        let founding = Founding { timing, names: self.names, admin_token, ..Founding::of(&new_cluster_id()) };
        if self.out.exists() {
            bail!("{} exists already; nothing was written", self.out.display());
        }
        let code = found(&self.out, &founding, &managers)?;
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
        match (code, managers.first()) {
            (Some(code), Some(first)) => {
                let url = format!("https://{}", first.api);
                println!("{}", setup::told(&code, &url, &self.out.join(&first.name)));
                println!(
                    "Each manager prints it too when it starts, until it is used. It is in {}.",
                    self.out.join(SETUP_CODE_FILE).display()
                );
            }
            _ => println!("The administrator's token is in {}", self.out.join(TOKEN_FILE).display()),
        }
        println!("The recovery key is in {}.", self.out.join(RECOVERY_KEY_FILE).display());
        println!(
            "Backups can be read with it and with nothing else. Keep it where no manager is, and delete it here."
        );
        Ok(())
    }
}

/// What `--manager NAME=ADDRESS` says, each time.
pub(crate) fn founders(texts: &[String]) -> Result<Vec<FoundingManager>> {
    let managers = texts.iter().map(|text| founder(text)).collect::<Result<Vec<_>>>()?;
    if !FOUNDERS_ALLOWED.contains(&managers.len()) {
        bail!("{} managers cannot found a cluster: use one of {FOUNDERS_ALLOWED:?}", managers.len());
    }
    if let Some(twice) = managers.iter().enumerate().find_map(|(at, manager)| {
        managers[..at].iter().find(|other| other.name == manager.name || other.peer == manager.peer)
    }) {
        bail!("--manager: {} or its address is named twice", twice.name);
    }
    Ok(managers)
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

/// What the first administrator comes in with: the text, and what managers keep of it.
enum Entrance {
    Token(String, AdminToken),
    SetupCode(String, String),
}

impl Entrance {
    fn make(founding: &Founding) -> Result<Entrance> {
        if founding.admin_token {
            let (text, kept) = new_token()?;
            return Ok(Entrance::Token(text, kept));
        }
        let (code, hash) = setup::new_code()?;
        Ok(Entrance::SetupCode(code, skep_wire::random::hex(&hash)))
    }
}

/// Writes `out/<name>/` for each manager, what the first administrator comes in with, and the recovery key of a cluster that has
/// none yet. Answers the setup code, if there is one.
pub(crate) fn found(out: &Path, founding: &Founding, managers: &[FoundingManager]) -> Result<Option<String>> {
    if !FOUNDERS_ALLOWED.contains(&managers.len()) {
        bail!("{} managers cannot found a cluster: use one of {FOUNDERS_ALLOWED:?}", managers.len());
    }
    let entrance = Entrance::make(founding)?;
    let (admin_token, setup_code_sha256) = match &entrance {
        Entrance::Token(_, kept) => (Some(kept.clone()), None),
        Entrance::SetupCode(_, kept) => (None, Some(kept.clone())),
    };
    let first_node = founding.inherited.as_ref().map_or(1, |inherited| inherited.first_node);
    // A restored state knows its recipients.
    let recovery_key = founding.inherited.is_none().then(RecoveryKey::generate);
    let founders: Vec<Founder> = managers
        .iter()
        .zip(first_node..)
        .map(|(manager, id)| Founder {
            id,
            name: manager.name.clone(),
            peer_address: manager.peer.to_string(),
            api_url: format!("https://{}", manager.api),
        })
        .collect();
    let mut first = founding.inherited.as_ref().map(|inherited| inherited.authority.clone());
    for (manager, node) in managers.iter().zip(first_node..) {
        let own = [manager.peer.ip(), manager.api.ip()].map(|address| address.to_string());
        let addresses: Vec<String> = own.into_iter().chain(founding.names.iter().cloned()).collect();
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
            metrics_listen: None,
            trusted_proxies: vec![],
            proxy_protocol: ProxyProtocol::Off,
            forwarded_header: ForwardedHeader::default(),
            limits: LimitsConfig::default(),
            timing: founding.timing,
            lease_reads: false,
            drain_delay_secs: founding.drain_delay_secs,
            local_root: founding.local_root.clone(),
            admin_token: admin_token.clone(),
            setup_code_sha256: setup_code_sha256.clone(),
            recovery_recipient: recovery_key.as_ref().map(|key| key.recipient().to_string()),
            founders: founders.clone(),
            joined: None,
        };
        write_data_folder(&out.join(&manager.name), &identity, &config)?;
        first.get_or_insert(identity);
    }
    if let Some(key) = &recovery_key {
        write_secret(&out.join(RECOVERY_KEY_FILE), &key_file(&founding.cluster, key))?;
    }
    match entrance {
        Entrance::Token(text, _) => {
            write_secret(&out.join(TOKEN_FILE), &text)?;
            Ok(None)
        }
        Entrance::SetupCode(code, _) => {
            for manager in managers {
                write_secret(&out.join(&manager.name).join(SETUP_CODE_FILE), &code)?;
            }
            write_secret(&out.join(SETUP_CODE_FILE), &code)?;
            Ok(Some(code))
        }
    }
}

/// A key file as the program `age` reads it too.
fn key_file(cluster: &str, key: &RecoveryKey) -> String {
    format!(
        "# Recovery key of the Skep cluster {cluster}: opens its backups; without it nobody can.\n\
         # Keep it where no manager is, at least twice, and delete it here.\n\
         # public key: {}\n{}",
        key.recipient(),
        key.reveal()
    )
}

/// A data folder that is complete once its configuration is there.
fn write_data_folder(data: &Path, identity: &Identity, config: &ServerConfig) -> Result<()> {
    make_private_folder(data)?;
    identity.save(data)?;
    config.save(data)
}

/// A folder that only its owner can look into, with those above it.
pub(crate) fn make_private_folder(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("making {}", folder.display()))
}

fn new_token() -> Result<(String, AdminToken)> {
    let id = &skep_wire::random::name()[..8];
    let secret = skep_wire::random::hex(&skep_wire::random::bytes::<24>());
    let token = format!("{}{id}_{secret}", access::TOKEN_PREFIX);
    let (id, hash) = access::parse(&token).context("making a token")?;
    Ok((token, AdminToken { id, sha256: skep_wire::random::hex(&hash) }))
}

/// Writes a file that only its owner can read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
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
            names: vec!["skep.example.com".into()],
            out: out.clone(),
            wan: false,
            admin_token: false,
        };
        init.run().expect("founds");
        let identities: Vec<_> =
            ["m1", "m2", "m3"].iter().map(|name| Identity::load(&out.join(name)).expect("loads")).collect();
        assert!(identities.iter().all(|identity| identity.ca_pem == identities[0].ca_pem));
        assert!(identities.iter().all(|identity| {
            identity.addresses().expect("reads").contains(&"skep.example.com".to_owned())
        }));
        let nodes: Vec<_> =
            identities.iter().map(|identity| identity.node().expect("is a manager's")).collect();
        assert_eq!(nodes, [1, 2, 3]);
        let code = fs::read_to_string(out.join(SETUP_CODE_FILE)).expect("reads");
        let hash = access::setup_code_hash(&code).expect("is a code");
        for name in ["m1", "m2", "m3"] {
            let config = ServerConfig::load(&out.join(name)).expect("loads");
            assert_eq!(config.setup_code_sha256, Some(skep_wire::random::hex(&hash)));
            assert_eq!(config.admin_token, None, "nobody comes in with a token unless it was asked for");
            assert_eq!(fs::read_to_string(out.join(name).join(SETUP_CODE_FILE)).expect("reads"), code);
        }
        assert!(!out.join(TOKEN_FILE).exists());
        let key = fs::read_to_string(out.join(RECOVERY_KEY_FILE)).expect("reads");
        let key = RecoveryKey::parse_file(&key).expect("is a key");
        let config = ServerConfig::load(&out.join("m2")).expect("loads");
        assert_eq!(config.recovery_recipient, Some(key.recipient().to_string()));
    }

    #[test]
    fn a_token_is_made_where_it_is_asked_for_and_no_code_then() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let managers = founders(&["m1=10.0.0.1".into()]).expect("are founders");
        let founding = Founding { admin_token: true, ..Founding::of("c1") };
        assert_eq!(found(dir.path(), &founding, &managers).expect("founds"), None);
        let token = fs::read_to_string(dir.path().join(TOKEN_FILE)).expect("reads");
        let (id, hash) = access::parse(token.trim()).expect("is a token");
        let config = ServerConfig::load(&dir.path().join("m1")).expect("loads");
        let kept = AdminToken { id, sha256: skep_wire::random::hex(&hash) };
        assert_eq!((config.admin_token, config.setup_code_sha256), (Some(kept), None));
        assert!(
            !dir.path().join(SETUP_CODE_FILE).exists()
                && !dir.path().join("m1").join(SETUP_CODE_FILE).exists()
        );
    }

    #[test]
    fn bad_founders_are_refused_and_nothing_is_written() {
        let dir = tempfile::tempdir().expect("makes a folder");
        for managers in [
            vec!["m1=10.0.0.1", "m2=10.0.0.2"],
            vec!["m1"],
            vec!["m1=nowhere"],
            vec!["M=10.0.0.1"],
            vec!["m1=10.0.0.1", "m1=10.0.0.2", "m3=10.0.0.3"],
            vec!["m1=10.0.0.1", "m2=10.0.0.1", "m3=10.0.0.3"],
        ] {
            let out = dir.path().join("founders");
            let managers = managers.into_iter().map(String::from).collect();
            assert!(
                Init { managers, names: vec![], out: out.clone(), wan: false, admin_token: false }
                    .run()
                    .is_err()
            );
            assert!(!out.exists());
        }
    }
}
