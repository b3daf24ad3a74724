//! `skep server`: one manager.
//!
//! ```text
//!   ports bound ─► storage, Raft ─► hub ─► peer port ─► found the cluster (once) ─► API port, scheduler ─► until stopped
//! ```
//! The ports are bound before anything else, so that a taken port changes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use skep_api::{Api, Parts};
use skep_drivers::{DriverConfig, JoinFile};
use skep_hub::{Hub, TunnelService};
use skep_ledger::{Ledger, Request, Tx, transact};
use skep_model::ids::HostId;
use skep_model::{Refusal, access, manager, snapshot};
use skep_raft::{ManagerNode, RaftService, Replica, ReplicaConfig, StartError};
use skep_scheduler::effects::{Invitation, RealWorld};
use skep_sealing::SealingKey;
use skep_wire::channels::{PeerChannels, peer_server};
use skep_wire::pki::{self, Identity, LiveIdentity};
use skep_wire::proto::peer::members_server::MembersServer;
use skep_wire::proto::peer::tunnel_server::TunnelServer;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::InterceptorLayer;

use crate::admission::MembersService;
use crate::agreement::Agreement;
use crate::backups::Backups;
use crate::caretaker;
use crate::config::{ServerConfig, bytes_of_hex, known_members};
use crate::events::Registrar;
use crate::founding::{self, API_PORT, Founding, FoundingManager, PEER_PORT, RECOVERY_KEY_FILE, TOKEN_FILE};
use crate::joining::{self, Joining};
use crate::members::Members;
use crate::metrics;
use crate::ports::{self, ApiPort, BOUNDS, Receiving};
use crate::setup::{self, SETUP_CODE_FILE};

/// Where drivers that keep things on this computer keep them, where nothing else is said.
const LOCAL_ROOT: &str = "/var/lib/skep-local";

/// Before the beginnings of the cluster are tried to be recorded again.
const BEGIN_RETRY: Duration = Duration::from_millis(500);

#[derive(Args)]
#[command(
    after_help = "Examples:\n  skep server --data-dir /var/lib/skep        the first start founds a cluster of one manager\n  \
                        skep init --out founders --manager m1=10.0.0.11 …   for a cluster of three\n  \
                        skep server --join 10.0.0.11:8444 --token skj_… --advertise 10.0.0.14\n  \
                        skep server --reset-from-peers              the data is lost or damaged; the others have it\n  \
                        skep server --new-setup-code                nobody is administrator any more; stop the service first\n  \
                        skep server --check-config                  is what was changed in server.toml good?"
)]
pub(crate) struct Server {
    /// Where the manager keeps its identity, log and state
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    data_dir: PathBuf,
    /// At the first start: the address at which clients, hosts and other managers reach this one
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    advertise: IpAddr,
    /// At the first start: the port for managers and agents
    #[arg(long, value_name = "PORT", default_value_t = PEER_PORT)]
    peer_port: u16,
    /// At the first start: the port for clients
    #[arg(long, value_name = "PORT", default_value_t = API_PORT)]
    api_port: u16,
    /// At the first start: join the cluster of these managers (see: skep cluster join-command)
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    join: Vec<String>,
    /// The token to join with
    #[arg(long, env = "SKEP_JOIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// The name to join with [default: the cluster chooses]
    #[arg(long, value_name = "NAME", requires = "join")]
    name: Option<String>,
    /// Set the log and state aside and copy them from the other managers, under a new number; for a manager whose
    /// data was lost or damaged
    #[arg(long, conflicts_with_all = ["token", "name"])]
    reset_from_peers: bool,
    /// At the first start: make an administrator's token, for automation, instead of a code for the first administrator
    #[arg(long, conflicts_with_all = ["join", "reset_from_peers"])]
    admin_token: bool,
    /// Every administrator is lost: print a new code with which somebody becomes administrator, once
    #[arg(long, conflicts_with_all = ["join", "reset_from_peers", "admin_token"])]
    new_setup_code: bool,
    /// Only read server.toml and the certificates, as a start would, and say whether they are good; the manager may run
    #[arg(long, conflicts_with_all = ["join", "reset_from_peers", "admin_token", "new_setup_code"])]
    check_config: bool,
}

impl Server {
    pub(crate) async fn run(self) -> Result<()> {
        if self.check_config {
            let (config, _) = read(&self.data_dir)?;
            println!(
                "{} is good: manager {}, API at {}, managers and agents at {}",
                ServerConfig::path(&self.data_dir).display(),
                config.node,
                config.api_listen,
                config.peer_listen
            );
            return Ok(());
        }
        if let Some(reason) = joining::was_removed(&self.data_dir) {
            bail!("{reason}. To join again, use an empty folder: skep cluster join-command tells how");
        }
        if self.reset_from_peers {
            joining::reset_from_peers(&self.data_dir, &self.join).await?;
        } else if ServerConfig::exists(&self.data_dir) {
            if !self.join.is_empty() {
                tracing::info!("this folder is a manager's already: --join is not looked at");
            }
        } else if self.join.is_empty() {
            self.found_alone()?;
        } else {
            self.join().await?;
        }
        let (config, identity) = read(&self.data_dir)?;
        serve(&self.data_dir, &config, identity, self.new_setup_code).await
    }

    async fn join(&self) -> Result<()> {
        if self.data_dir.join("raft/CURRENT").exists() && !self.data_dir.join("joining").exists() {
            bail!(
                "{} has a log but no server.toml: restore the file, or use another folder",
                self.data_dir.display()
            );
        }
        let token = self.token.clone().context(
            "--join needs a token: --token TOKEN or SKEP_JOIN_TOKEN; skep cluster join-command prints one",
        )?;
        let joining = Joining {
            managers: self.join.clone(),
            token,
            name: self.name.clone().unwrap_or_default(),
            advertise: self.advertise,
            listen: if self.listens_everywhere() { Ipv4Addr::UNSPECIFIED.into() } else { self.advertise },
            peer_port: self.peer_port,
            api_port: self.api_port,
            local_root: LOCAL_ROOT.into(),
        };
        joining::join(&self.data_dir, &joining).await
    }

    /// Addresses of this machine alone are listened on alone.
    fn listens_everywhere(&self) -> bool {
        !self.advertise.is_loopback()
    }

    /// The first start on an empty folder: a cluster of one.
    fn found_alone(&self) -> Result<()> {
        if self.data_dir.join("raft").exists() {
            bail!(
                "{} has a log but no server.toml: restore the file, or use another folder",
                self.data_dir.display()
            );
        }
        let manager = FoundingManager {
            name: "m1".into(),
            peer: SocketAddr::new(self.advertise, self.peer_port),
            api: SocketAddr::new(self.advertise, self.api_port),
            listen_everywhere: self.listens_everywhere(),
        };
        let founding =
            Founding { admin_token: self.admin_token, ..Founding::of(&founding::new_cluster_id()) };
        // Inside the folder, because a service may write nowhere else. What an interrupted founding left is worthless.
        let staging = self.data_dir.join("founding");
        let _ = std::fs::remove_dir_all(&staging);
        founding::found(&staging, &founding, &[manager])?;
        let entrance = match self.admin_token {
            true => (TOKEN_FILE, TOKEN_FILE),
            false => ("m1/setup-code", SETUP_CODE_FILE),
        };
        // The configuration comes last: a folder that has one is complete.
        let parts = [
            ("m1/identity", "identity"),
            entrance,
            (RECOVERY_KEY_FILE, RECOVERY_KEY_FILE),
            ("m1/server.toml", "server.toml"),
        ];
        for (from, to) in parts {
            std::fs::rename(staging.join(from), self.data_dir.join(to))
                .with_context(|| format!("moving {to} into {}", self.data_dir.display()))?;
        }
        std::fs::remove_dir_all(&staging).context("removing the staging folder")?;
        eprintln!(
            "founded a cluster\nmove {} to a safe place that is not this machine: backups can be read with it and with \
             nothing else",
            self.data_dir.join(RECOVERY_KEY_FILE).display()
        );
        if self.admin_token {
            eprintln!("the administrator's token is in {}", self.data_dir.join(TOKEN_FILE).display());
        }
        Ok(())
    }
}

/// What a start goes by, if its parts belong together.
fn read(data: &Path) -> Result<(ServerConfig, LiveIdentity)> {
    let config = ServerConfig::load(data)?;
    let identity = LiveIdentity::open(data)?;
    let node = identity.now().node()?;
    if node != config.node {
        bail!("the certificate is manager {node}'s, but server.toml is manager {}'s", config.node);
    }
    Ok((config, identity))
}

async fn serve(data: &Path, config: &ServerConfig, live: LiveIdentity, new_setup_code: bool) -> Result<()> {
    let identity = live.now();
    let me = config.me().context("server.toml does not say who this manager is")?;
    let peer_listener = ports::bind("peer", config.peer_listen).await?;
    let api_listener = ports::bind("API", config.api_listen).await?;
    let metrics_listener = ports::bind_if_wanted("metrics", config.metrics_listen).await?;

    let channels = PeerChannels::new(live.manager_client_config()?, identity.cluster.clone(), config.node);
    let agreement = Agreement::start()?;
    let replica = start_replica(data, config, &agreement, channels.clone(), &identity).await?;
    let ledger: Arc<dyn Ledger> = Arc::new(replica.clone());

    let (managers_changed, managers) = watch::channel(config.founders_addresses());
    let members = Arc::new(Members::new(
        replica.clone(),
        channels.clone(),
        live.clone(),
        config.clone(),
        data.to_owned(),
    ));
    let registrar = Registrar::new(ledger.clone(), identity.clone(), &me.name)?;
    let hub = Hub::new(config.node, channels, Arc::new(registrar), managers.clone());
    let connections = ports::serve_peers(
        peer_listener,
        &live,
        hub.clone(),
        members.clone(),
        ledger.clone(),
        agreement.handle()?,
    )?;
    tokio::spawn(caretaker::follow_membership(members.clone(), managers_changed));
    tokio::spawn(caretaker::run(members.clone(), hub.clone()));
    agreement.handle()?.spawn(
        peer_server()
            .layer(InterceptorLayer::new(members.turn_away()))
            .add_service(MembersServer::new(MembersService(members.clone())))
            .add_service(RaftService::server(replica.clone()))
            .add_service(TunnelServer::new(TunnelService::new(hub.clone())))
            .serve_with_incoming(ReceiverStream::new(connections)),
    );

    let (drivers, sealing) = (drivers(&identity, config)?, sealing_key(&identity)?);
    let backups = Arc::new(Backups::new(replica.clone(), identity.clone(), &me.name, data));
    tokio::spawn(backups.clone().run(replica.leadership()));
    let api = Api::new(Parts {
        metrics: metrics::serve(metrics_listener, &replica, &hub, &live),
        ledger: ledger.clone(),
        cluster: members.clone(),
        hub: hub.clone(),
        snapshots: backups,
        drivers: drivers.clone(),
        spool: spool(data)?,
        sealing: sealing.clone(),
    })
    .limited_to(&config.limits);
    api.clone().keep_books();
    let api_port = ports::serve_api(api_listener, &live, skep_api::router(api), receiving(config))?;
    let world = RealWorld::new(&drivers, hub, invitation(identity, managers), sealing);
    tokio::spawn(skep_scheduler::run(ledger.clone(), Arc::new(world), me.name.clone(), replica.leadership()));
    begin(ledger, data, config, new_setup_code)?;
    tracing::info!(manager = me.name, api = me.api_url, "serving");

    tokio::select! {
        founded = replica.found() => founded?,
        reason = replica.must_end() => bail!("this manager must not go on: {reason}"),
        () = members.expelled() => return expelled(data, config, &replica).await,
        () = ports::stop_signal() => return Ok(()),
    }
    tokio::select! {
        reason = replica.must_end() => bail!("this manager must not go on: {reason}"),
        () = members.expelled() => return expelled(data, config, &replica).await,
        () = ports::stop_signal() => {}
    }
    tracing::info!(seconds = config.drain_delay_secs, "draining");
    members.drain();
    leave(&replica, api_port, Duration::from_secs(config.drain_delay_secs)).await;
    Ok(())
}

/// How clients come to this manager.
fn receiving(config: &ServerConfig) -> Receiving {
    let connections_per_address = config.limits.connections_per_address;
    Receiving { proxies: config.proxies(), connections_per_address, bounds: BOUNDS }
}

async fn start_replica(
    data: &Path,
    config: &ServerConfig,
    agreement: &Agreement,
    channels: PeerChannels,
    identity: &Identity,
) -> Result<Replica> {
    let started = agreement.handle()?.spawn(Replica::start(ReplicaConfig {
        cluster: identity.cluster.clone(),
        node: config.node,
        dir: data.join("raft"),
        founders: founders(data, config),
        channels,
        timing: config.timing.into(),
        lease_reads: config.lease_reads,
    }));
    started.await.context("starting the replica")?.map_err(with_way_out)
}

/// Stops so that no request fails for it: first another manager leads, and this one goes on serving while load balancers
/// notice; then clients are told to use another manager, and what they have asked for is finished.
async fn leave(replica: &Replica, api_port: ApiPort, drain_delay: Duration) {
    if replica.is_leader()
        && let Err(error) = replica.transfer_leadership(None).await
    {
        tracing::warn!(%error, "leadership could not be handed over yet");
    }
    tokio::time::sleep(drain_delay).await;
    api_port.close().await;
    replica.shutdown().await;
}

/// What drivers have to know.
fn drivers(identity: &Identity, config: &ServerConfig) -> Result<DriverConfig> {
    Ok(DriverConfig {
        cluster: identity.cluster.clone(),
        skep_binary: std::env::current_exe().context("finding this program")?,
        root: config.local_root.clone(),
    })
}

/// Derived from what every manager has, also in a cluster that was founded before there was anything to seal.
fn sealing_key(identity: &Identity) -> Result<Arc<SealingKey>> {
    let key = SealingKey::derive(&identity.registration_key, &identity.cluster);
    Ok(Arc::new(key.context("deriving the sealing key")?))
}

/// Where files lie that are on their way.
fn spool(data: &Path) -> Result<PathBuf> {
    let spool = data.join("spool");
    std::fs::create_dir_all(&spool).with_context(|| format!("making {}", spool.display()))?;
    Ok(spool)
}

/// The managers that may still have to found the cluster. Once any membership was known here that is over, and an empty
/// log means lost data: a lone founder, emptied after others had joined, must not found the cluster a second time.
fn founders(data: &Path, config: &ServerConfig) -> BTreeMap<u64, ManagerNode> {
    match known_members(data).is_empty() {
        true => config.founding_nodes(),
        false => BTreeMap::new(),
    }
}

/// Not a failure: somebody wanted it so, and a supervisor must not start this manager again.
async fn expelled(data: &Path, config: &ServerConfig, replica: &Replica) -> Result<()> {
    let name = config.me().map(|me| me.name.as_str()).unwrap_or_default();
    let reason = format!("{name} (manager {}) was removed from the cluster", config.node);
    joining::note_removed(data, &reason);
    tracing::warn!(manager = name, "this manager was removed from the cluster and stops");
    replica.shutdown().await;
    eprintln!("{reason}: it stops, and its data in {} is not needed any more", data.display());
    Ok(())
}

/// Data that cannot be trusted is not repaired here, and not served: the others have it.
fn with_way_out(error: StartError) -> anyhow::Error {
    let damaged = error.is_damage();
    let error = anyhow::Error::from(error);
    match damaged {
        true => error.context(
            "this manager's data is damaged; copy it from the others: skep server --reset-from-peers",
        ),
        false => error,
    }
}

/// How a new host finds its way here: the token is derived, so every manager makes the same.
fn invitation(identity: Identity, managers: watch::Receiver<Vec<String>>) -> Invitation {
    Arc::new(move |host: &HostId| JoinFile {
        cluster: identity.cluster.clone(),
        host_id: host.to_string(),
        managers: managers.borrow().clone(),
        ca_pem: identity.ca_pem.clone(),
        token: pki::registration_token(&identity.registration_key, &identity.cluster, host.as_str()),
    })
}

/// Lets the cluster begin, if it has not yet, and follows how its first administrator comes in.
fn begin(ledger: Arc<dyn Ledger>, data: &Path, config: &ServerConfig, new_setup_code: bool) -> Result<()> {
    if !config.founders.is_empty() {
        tokio::spawn(record_beginnings(ledger.clone(), config.clone()));
    }
    let me = config.me().context("server.toml does not say who this manager is")?;
    let renewed = new_setup_code.then(|| setup::renew(data)).transpose()?;
    tokio::spawn(setup::follow(ledger, data.to_owned(), me.clone(), renewed));
    Ok(())
}

/// The founders' numbers are taken, and what the first administrator comes in with and the first schedule of backups become
/// valid, with the first agreement of the cluster: whoever is let in finds a cluster that has nothing left to begin with.
/// Every founder tries.
async fn record_beginnings(ledger: Arc<dyn Ledger>, config: ServerConfig) {
    let token = config.admin_token.as_ref().map(|token| token.hash().map(|hash| (token.id.clone(), hash)));
    let token = match token.transpose() {
        Ok(token) => token,
        Err(error) => return tracing::error!(%error, "nobody will be able to sign in"),
    };
    let code = config.setup_code_sha256.as_deref().map(|hash| (hash, bytes_of_hex(hash)));
    let code = match code {
        Some((hash, None)) => {
            let error = format!("setup_code_sha256 is not hexadecimal: '{hash}'");
            return tracing::error!(error, "nobody will be able to sign in");
        }
        Some((_, bytes)) => bytes,
        None => None,
    };
    let founders: Vec<_> = config.founders.iter().map(|founder| (founder.id, founder.name.clone())).collect();
    let rule = |tx: &mut Tx<'_>| {
        manager::note_members(tx, &founders)?;
        snapshot::bootstrap(tx, config.recovery_recipient.as_deref())?;
        if let Some((id, hash)) = &token {
            access::bootstrap(tx, id, hash)?;
        }
        if let Some(hash) = &code {
            access::bootstrap_setup(tx, hash)?;
        }
        Ok::<_, Refusal>(())
    };
    while let Err(error) = transact(&*ledger, Request::new(), rule).await {
        tracing::debug!(%error, "the beginnings of the cluster could not be recorded yet");
        tokio::time::sleep(BEGIN_RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_checked_without_a_start() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let out = folder.path().join("founders");
        let here = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let manager =
            FoundingManager { name: "m1".into(), peer: here(1), api: here(2), listen_everywhere: false };
        founding::found(&out, &Founding::of("c1"), &[manager]).expect("founds");
        let data = out.join("m1");
        let (config, _) = read(&data).expect("is good");
        assert_eq!(config.api_listen, here(2));
        let good = std::fs::read_to_string(ServerConfig::path(&data)).expect("is there");
        for (changed, named) in [
            (format!("drain_delay = 3\n{good}"), "drain_delay"),
            (good.replace("node = 1", "node = 7"), "manager 7"),
        ] {
            std::fs::write(ServerConfig::path(&data), changed).expect("writes");
            let refused = format!("{:#}", read(&data).map(drop).expect_err("is wrong"));
            assert!(refused.contains("server.toml") && refused.contains(named), "{refused}");
        }
    }
}
