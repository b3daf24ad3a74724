//! `skep server`: one manager.
//!
//! ```text
//!   ports bound ─► storage, Raft ─► hub ─► peer port ─► found the cluster (once) ─► API port, scheduler ─► until stopped
//! ```
//! The ports are bound before anything else, so that a taken port changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use skep_api::{Api, Parts};
use skep_drivers::{DriverConfig, JoinFile};
use skep_hub::{Hub, TunnelService};
use skep_ledger::{Ledger, Request, Tx, transact};
use skep_model::ids::HostId;
use skep_model::{access, snapshot};
use skep_raft::{RaftService, Replica, ReplicaConfig};
use skep_scheduler::effects::{Invitation, RealWorld};
use skep_wire::channels::{PeerChannels, peer_server};
use skep_wire::pki::{self, Identity};
use skep_wire::proto::peer::tunnel_server::TunnelServer;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;

use crate::backups::Backups;
use crate::config::ServerConfig;
use crate::events::Registrar;
use crate::founding::{self, API_PORT, Founding, FoundingManager, PEER_PORT, RECOVERY_KEY_FILE, TOKEN_FILE};
use crate::members::Members;
use crate::ports;

/// Before the administrator's token is tried to be recorded again.
const TOKEN_RETRY: Duration = Duration::from_millis(500);

#[derive(Args)]
#[command(
    after_help = "Examples:\n  skep server --data-dir /var/lib/skep        the first start founds a cluster of one manager\n  \
                        skep init --out founders --manager m1=10.0.0.11 …   for a cluster of three"
)]
pub(crate) struct Server {
    /// Where the manager keeps its identity, log and state
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    data_dir: PathBuf,
    /// At the first start of a single manager: the address at which clients and hosts reach it
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    advertise: IpAddr,
}

impl Server {
    pub(crate) async fn run(self) -> Result<()> {
        if !ServerConfig::exists(&self.data_dir) {
            self.found_alone()?;
        }
        let config = ServerConfig::load(&self.data_dir)?;
        let identity = Identity::load(&self.data_dir)?;
        if identity.node()? != config.node {
            bail!(
                "the certificate is manager {}'s, but server.toml is manager {}'s",
                identity.node()?,
                config.node
            );
        }
        serve(&self.data_dir, &config, identity).await
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
            peer: SocketAddr::new(self.advertise, PEER_PORT),
            api: SocketAddr::new(self.advertise, API_PORT),
            listen_everywhere: !self.advertise.is_loopback(),
        };
        let founding = Founding::of(&founding::new_cluster_id());
        // Inside the folder, because a service may write nowhere else. What an interrupted founding left is worthless.
        let staging = self.data_dir.join("founding");
        let _ = std::fs::remove_dir_all(&staging);
        founding::found(&staging, &founding, &[manager])?;
        // The configuration comes last: a folder that has one is complete.
        let parts = [
            ("m1/identity", "identity"),
            (TOKEN_FILE, TOKEN_FILE),
            (RECOVERY_KEY_FILE, RECOVERY_KEY_FILE),
            ("m1/server.toml", "server.toml"),
        ];
        for (from, to) in parts {
            std::fs::rename(staging.join(from), self.data_dir.join(to))
                .with_context(|| format!("moving {to} into {}", self.data_dir.display()))?;
        }
        std::fs::remove_dir_all(&staging).context("removing the staging folder")?;
        eprintln!(
            "founded a cluster; the administrator's token is in {}\nmove {} to a safe place that is not this machine: \
             backups can be read with it and with nothing else",
            self.data_dir.join(TOKEN_FILE).display(),
            self.data_dir.join(RECOVERY_KEY_FILE).display()
        );
        Ok(())
    }
}

async fn serve(data: &std::path::Path, config: &ServerConfig, identity: Identity) -> Result<()> {
    let me = config.founder().context("this manager is not among the founders")?;
    let peer_listener = ports::bind("peer", config.peer_listen).await?;
    let api_listener = ports::bind("API", config.api_listen).await?;

    let channels =
        PeerChannels::new(pki::manager_client_config(&identity)?, identity.cluster.clone(), config.node);
    let replica = Replica::start(ReplicaConfig {
        cluster: identity.cluster.clone(),
        node: config.node,
        dir: data.join("raft"),
        founders: config.founding_nodes(),
        channels: channels.clone(),
        timing: config.timing.into(),
    })
    .await?;
    let ledger: Arc<dyn Ledger> = Arc::new(replica.clone());

    let (_managers, managers) = watch::channel(
        config.founders.iter().map(|founder| founder.peer_address.clone()).collect::<Vec<_>>(),
    );
    let registrar = Registrar::new(ledger.clone(), identity.clone(), &me.name)?;
    let hub = Hub::new(config.node, channels, Arc::new(registrar), managers.clone());
    let connections = ports::serve_peers(peer_listener, &identity, hub.clone(), ledger.clone())?;
    tokio::spawn(
        peer_server()
            .add_service(RaftService::server(replica.clone()))
            .add_service(TunnelServer::new(TunnelService::new(hub.clone())))
            .serve_with_incoming(ReceiverStream::new(connections)),
    );

    let drivers = DriverConfig {
        cluster: identity.cluster.clone(),
        skep_binary: std::env::current_exe().context("finding this program")?,
        root: config.local_root.clone(),
    };
    let members = Arc::new(Members::new(replica.clone(), &identity.cluster, &me.name));
    let spool = data.join("spool");
    std::fs::create_dir_all(&spool).with_context(|| format!("making {}", spool.display()))?;
    let backups = Arc::new(Backups::new(replica.clone(), identity.clone(), &me.name, data));
    tokio::spawn(backups.clone().run(replica.leadership()));
    let api = Api::new(Parts {
        ledger: ledger.clone(),
        cluster: members.clone(),
        hub: hub.clone(),
        snapshots: backups,
        drivers: drivers.clone(),
        spool,
    });
    ports::serve_api(api_listener, &identity, skep_api::router(api))?;
    let world = RealWorld::new(&drivers, hub, invitation(identity, managers));
    tokio::spawn(skep_scheduler::run(ledger.clone(), Arc::new(world), me.name.clone(), replica.leadership()));
    tokio::spawn(record_beginnings(ledger, config.clone()));
    tracing::info!(manager = me.name, api = me.api_url, "serving");

    tokio::select! {
        founded = replica.found() => founded?,
        reason = replica.must_end() => bail!("this manager must not go on: {reason}"),
        () = ports::stop_signal() => return Ok(()),
    }
    tokio::select! {
        reason = replica.must_end() => bail!("this manager must not go on: {reason}"),
        () = ports::stop_signal() => {}
    }
    tracing::info!(seconds = config.drain_delay_secs, "draining");
    members.drain();
    tokio::time::sleep(Duration::from_secs(config.drain_delay_secs)).await;
    replica.shutdown().await;
    Ok(())
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

/// The first administrator's token and the first schedule of backups become valid with the first agreement of the
/// cluster; every founder tries.
async fn record_beginnings(ledger: Arc<dyn Ledger>, config: ServerConfig) {
    let token = &config.admin_token;
    let hash = match token.hash() {
        Ok(hash) => hash,
        Err(error) => return tracing::error!(%error, "nobody will be able to sign in"),
    };
    let rule = |tx: &mut Tx<'_>| {
        snapshot::bootstrap(tx, config.recovery_recipient.as_deref())?;
        access::bootstrap(tx, &token.id, &hash)
    };
    while let Err(error) = transact(&*ledger, Request::new(), rule).await {
        tracing::debug!(%error, "the beginnings of the cluster could not be recorded yet");
        tokio::time::sleep(TOKEN_RETRY).await;
    }
}
