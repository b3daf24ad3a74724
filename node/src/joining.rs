//! How this machine becomes a manager of a cluster that exists: with a token, or with the certificate of a manager
//! whose data is lost.
//!
//! ```text
//!   key kept in joining/ ─► a manager is asked ─► number, certificate, keys ─► identity, raft/ ─► server.toml (last)
//! ```
//! Whatever is interrupted is simply repeated: the kept key makes the managers answer with the same number, and a
//! folder without `server.toml` is not a manager's yet.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use skep_api::LimitsConfig;
use skep_wire::framing::{MESSAGE_BYTES_MAX, read_message, write_message};
use skep_wire::pki::{self, Identity, JoinToken, Joiner, LiveIdentity, managers_server_name};
use skep_wire::proto::peer::{JoinReply, JoinRequest, Joined, MemberRefusal, join_reply::Outcome};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use crate::config::{Founder, ServerConfig, TimingPreset, known_members};
use crate::members::code;
use crate::ports;
use crate::proxies::{ForwardedHeader, ProxyProtocol};

/// How long managers are asked before joining is given up: several elections.
const JOIN_MAX: Duration = Duration::from_secs(60);

/// Between two rounds over all managers.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// A manager that has not accepted a connection by then is passed over.
const DIAL_MAX: Duration = Duration::from_secs(3);

/// The managers' own bound for the decision, and the way.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Says that the manager of this folder was removed; holds the reason.
const REMOVED_FILE: &str = "removed";

/// A manager-to-be.
pub(crate) struct Joining {
    /// Peer addresses of managers.
    pub(crate) managers: Vec<String>,
    /// The token's text.
    pub(crate) token: String,
    /// The wished name; empty lets the leader choose.
    pub(crate) name: String,
    /// Where others reach this machine.
    pub(crate) advertise: IpAddr,
    /// What to listen on, apart from the port.
    pub(crate) listen: IpAddr,
    pub(crate) peer_port: u16,
    pub(crate) api_port: u16,
    pub(crate) local_root: PathBuf,
}

/// Joins with a token, on a folder that is no manager's yet.
pub(crate) async fn join(data: &Path, joining: &Joining) -> Result<()> {
    let token = JoinToken::parse(Joiner::Manager, &joining.token)
        .context("the join token is not one: copy all of what 'skep cluster join-command' has printed")?;
    let staging = Staging::open(data)?;
    let request = JoinRequest {
        cluster: token.cluster.clone(),
        token: joining.token.trim().to_owned(),
        csr_pem: staging.request()?,
        name: joining.name.clone(),
        peer_address: SocketAddr::new(joining.advertise, joining.peer_port).to_string(),
        api_url: format!("https://{}", SocketAddr::new(joining.advertise, joining.api_port)),
        replaces: None,
    };
    let joined = ask_all(&joining.managers, token.client_config()?, &request).await?;
    if !token.means(&joined.ca_pem) {
        bail!("the manager that answered belongs to another cluster than the token");
    }
    let listen = |port| SocketAddr::new(joining.listen, port);
    let config = ServerConfig {
        node: joined.node,
        peer_listen: listen(joining.peer_port),
        api_listen: listen(joining.api_port),
        metrics_listen: None,
        trusted_proxies: vec![],
        proxy_protocol: ProxyProtocol::Off,
        forwarded_header: ForwardedHeader::default(),
        limits: LimitsConfig::default(),
        timing: timing(&joined)?,
        lease_reads: joined.lease_reads,
        drain_delay_secs: joined.drain_delay_secs,
        local_root: joining.local_root.clone(),
        admin_token: None,
        setup_code_sha256: None,
        recovery_recipient: None,
        founders: vec![],
        joined: Some(myself(&joined, &request)),
    };
    let identity = staging.identity(&joined, &request.cluster)?;
    staging.install(data, &identity, &config, joined.epoch)?;
    eprintln!("joined cluster {} as {} (manager {})", request.cluster, joined.name, joined.node);
    Ok(())
}

/// Comes back under a new number after the data was lost or damaged; the old log is set aside, not deleted.
pub(crate) async fn reset_from_peers(data: &Path, more_managers: &[String]) -> Result<()> {
    let config = ServerConfig::load(data).context("only a folder that was a manager's can be reset")?;
    let me = config.me().context("server.toml does not say who this manager is")?;
    let live = LiveIdentity::open(data)
        .context("without its identity a manager cannot come back: join with a token")?;
    // Held while the folder changes: a manager that still runs would notice too late.
    let _not_running = ports::bind("peer", config.peer_listen)
        .await
        .context("this manager seems to run: stop it before its data is replaced")?;
    let mut managers = more_managers.to_vec();
    let others = known_members(data).into_iter().chain(config.founders.clone());
    managers.extend(others.filter(|other| other.id != config.node).map(|other| other.peer_address));
    managers.sort_unstable();
    managers.dedup();
    managers.retain(|address| *address != me.peer_address);
    if managers.is_empty() {
        bail!(
            "no other manager is known that could hold the data. If there is one, name it with --join HOST:PORT; \
             otherwise restore a backup. Nothing was changed"
        );
    }
    let staging = Staging::open(data)?;
    let request = JoinRequest {
        cluster: live.now().cluster,
        token: String::new(),
        csr_pem: staging.request()?,
        name: me.name.clone(),
        peer_address: me.peer_address.clone(),
        api_url: me.api_url.clone(),
        replaces: None,
    };
    let joined = ask_all(&managers, live.rejoin_client_config()?, &request).await?;
    let identity = staging.identity(&joined, &request.cluster)?;
    let aside = set_aside(data)?;
    let config = ServerConfig {
        node: joined.node,
        timing: timing(&joined)?,
        lease_reads: joined.lease_reads,
        founders: vec![],
        joined: Some(myself(&joined, &request)),
        ..config
    };
    staging.install(data, &identity, &config, joined.epoch)?;
    eprintln!(
        "{} comes back as manager {}{}; its state is being copied from the others",
        joined.name,
        joined.node,
        aside.map(|aside| format!(", its old data is in {}", aside.display())).unwrap_or_default()
    );
    Ok(())
}

/// Notes that this folder's manager was removed, so that the next start says so at once.
pub(crate) fn note_removed(data: &Path, reason: &str) {
    if let Err(error) = fs::write(data.join(REMOVED_FILE), format!("{reason}\n")) {
        tracing::warn!(%error, "that this manager was removed could not be noted");
    }
}

/// Why this folder's manager must not start, if it was removed.
pub(crate) fn was_removed(data: &Path) -> Option<String> {
    fs::read_to_string(data.join(REMOVED_FILE)).ok().map(|reason| reason.trim().to_owned())
}

fn myself(joined: &Joined, request: &JoinRequest) -> Founder {
    Founder {
        id: joined.node,
        name: joined.name.clone(),
        peer_address: request.peer_address.clone(),
        api_url: request.api_url.clone(),
    }
}

fn timing(joined: &Joined) -> Result<TimingPreset> {
    match joined.timing.as_str() {
        "lan" => Ok(TimingPreset::Lan),
        "wan" => Ok(TimingPreset::Wan),
        other => {
            bail!("the cluster has the timing '{other}', which this version does not know: use its version")
        }
    }
}

fn set_aside(data: &Path) -> Result<Option<PathBuf>> {
    let raft = data.join("raft");
    if !raft.exists() {
        return Ok(None);
    }
    let aside = data.join(format!("raft.set-aside-{}", jiff::Timestamp::now().as_second()));
    fs::rename(&raft, &aside).with_context(|| format!("setting {} aside", raft.display()))?;
    Ok(Some(aside))
}

/// `joining/` in the data folder: the key, until the rest is there.
struct Staging {
    dir: PathBuf,
    key_pem: String,
}

impl Staging {
    fn open(data: &Path) -> Result<Staging> {
        let dir = data.join("joining");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.with_context(|| format!("making {}", dir.display()))?;
        let path = dir.join("manager.key");
        if let Ok(key_pem) = fs::read_to_string(&path)
            && pki::certificate_request(&key_pem, "").is_ok()
        {
            return Ok(Staging { dir, key_pem });
        }
        let key_pem = pki::generate_key()?;
        let writing = || -> std::io::Result<()> {
            // A key that was written in part is none.
            let _ = fs::remove_file(&path);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            std::io::Write::write_all(&mut file, key_pem.as_bytes())?;
            file.sync_all()
        };
        writing().with_context(|| format!("writing {}", path.display()))?;
        Ok(Staging { dir, key_pem })
    }

    fn request(&self) -> Result<String> {
        Ok(pki::certificate_request(&self.key_pem, "a new manager")?)
    }

    /// What was answered, as an identity; checked, because the rest depends on it.
    fn identity(&self, joined: &Joined, cluster: &str) -> Result<Identity> {
        let key = joined.registration_key.clone().try_into();
        let identity = Identity {
            cluster: cluster.to_owned(),
            ca_pem: joined.ca_pem.clone(),
            ca_key_pem: joined.ca_key_pem.clone(),
            manager_pem: joined.certificate_pem.clone(),
            manager_key_pem: self.key_pem.clone(),
            registration_key: key.ok().context("the manager's answer has no registration key")?,
        };
        identity.authority().context("checking the authority that the manager has sent")?;
        LiveIdentity::new(identity.clone()).context("checking the certificate that the manager has sent")?;
        if identity.node()? != joined.node {
            bail!("the certificate that the manager has sent is not for manager {}", joined.node);
        }
        Ok(identity)
    }

    /// The configuration comes last: a folder that has one is complete.
    fn install(&self, data: &Path, identity: &Identity, config: &ServerConfig, epoch: u64) -> Result<()> {
        skep_raft::prepare(&data.join("raft"), &identity.cluster, config.node, epoch)?;
        identity.save(data)?;
        config.save(data)?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))
    }
}

/// Asks manager after manager until one accepts, one refuses for good, or time is up.
async fn ask_all(managers: &[String], tls: Arc<ClientConfig>, request: &JoinRequest) -> Result<Joined> {
    let deadline = Instant::now() + JOIN_MAX;
    loop {
        let mut said = vec![];
        for manager in managers {
            match ask(manager, tls.clone(), request).await {
                Ok(Ok(joined)) => return Ok(joined),
                Ok(Err(refused)) if for_good(&refused) => {
                    bail!("{manager} refuses: {}. Nothing was changed here", refused.message)
                }
                Ok(Err(refused)) => said.push(format!("{manager}: {}", refused.message)),
                Err(error) => said.push(format!("{manager}: {error:#}")),
            }
        }
        if Instant::now() > deadline {
            bail!("no manager has let this one in within {} s: {}", JOIN_MAX.as_secs(), said.join("; "));
        }
        tracing::info!(said = said.join("; "), "no manager has let this one in yet");
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// Elections and other changes pass; everything else is an answer.
fn for_good(refused: &MemberRefusal) -> bool {
    !matches!(refused.code.as_str(), code::NOT_LEADER | code::BUSY | code::UNKNOWN)
}

async fn ask(
    manager: &str,
    tls: Arc<ClientConfig>,
    request: &JoinRequest,
) -> Result<Result<Joined, MemberRefusal>> {
    let name = managers_server_name(&request.cluster)?;
    let dialling = async {
        let tcp = TcpStream::connect(manager).await.context("connecting")?;
        TlsConnector::from(tls).connect(name, tcp).await.context("recognising the manager")
    };
    let mut io = timeout(DIAL_MAX, dialling).await.context("connecting took too long")??;
    let asking = async {
        write_message(&mut io, request, MESSAGE_BYTES_MAX).await?;
        read_message::<JoinReply, _>(&mut io, MESSAGE_BYTES_MAX).await
    };
    let reply = timeout(ANSWER_MAX, asking).await.context("no answer in time")?.context("asking")?;
    match reply.outcome {
        Some(Outcome::Joined(joined)) => Ok(Ok(joined)),
        Some(Outcome::Refused(refused)) => Ok(Err(refused)),
        None => bail!("an answer that neither accepts nor refuses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_joiner_keeps_its_key() {
        let data = tempfile::tempdir().expect("makes a folder");
        let first = Staging::open(data.path()).expect("opens");
        let again = Staging::open(data.path()).expect("opens");
        assert_eq!(first.key_pem, again.key_pem);
        fs::write(data.path().join("joining/manager.key"), &first.key_pem[..40]).expect("writes");
        let cut = Staging::open(data.path()).expect("opens");
        assert_ne!(cut.key_pem, first.key_pem, "half a key is none");
    }

    #[tokio::test]
    async fn nonsense_is_refused_before_anything_is_written() {
        let data = tempfile::tempdir().expect("makes a folder");
        let joining = Joining {
            managers: vec!["127.0.0.1:1".into()],
            token: "skj_nonsense".into(),
            name: String::new(),
            advertise: [127, 0, 0, 1].into(),
            listen: [127, 0, 0, 1].into(),
            peer_port: 1,
            api_port: 2,
            local_root: "/nowhere".into(),
        };
        let error = join(data.path(), &joining).await.expect_err("is refused");
        assert!(error.to_string().contains("join-command"), "{error}");
        reset_from_peers(data.path(), &[]).await.expect_err("nothing to reset");
        assert_eq!(fs::read_dir(data.path()).expect("reads").count(), 0);
    }
}
