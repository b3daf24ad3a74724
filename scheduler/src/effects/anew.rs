//! A manager whose swarm was begun anew (`docker swarm init --force-new-cluster`) has to be found by the others, and that takes
//! more than Docker does.
//!
//! It has to take part in the gossip of nodes about their networks, or overlay networks end at it and no other node can join as
//! one that is reached.
//!
//! Engines do not always begin that again: nothing listens at port 7946 until they are started anew, see
//! <https://github.com/moby/moby/issues/36860>. So whoever begins one anew looks whether somebody listens.
//!
//! And a manager that joins has to answer it, or the two have no quorum for ever. It answers at the address that the swarm's log
//! has, which after a beginning under another address is the one before: so the swarm is told (`Hub::tell_swarm_address`). But whom
//! it answers follows what it has read so far. It is sent the log from the beginning, in parts of 64 KiB, and answers the first
//! part to an address of long ago; or a snapshot, if the log begins later, and answers whom that names: one from before may not know
//! the one who begins anew. So a snapshot is made and the log before it dropped.

use std::time::Duration;

use bollard::models::SwarmSpec;
use bollard::query_parameters::UpdateSwarmOptions;
use skep_model::fact::Fact;
use skep_model::host::Host;
use skep_model::operation::Operation;
use tokio::time::{Instant, sleep};

use super::engine::not_asked;
use super::own_words::local_state;
use super::reached::Reached;
use super::{RealWorld, Site, rejoin, swarm, swarm_keys};
use crate::world::EffectError;

/// Where nodes tell each other about networks, over TCP and UDP.
const GOSSIP_PORT: u16 = 7946;

/// An engine that begins the gossip again by itself does so within a few hundred milliseconds.
const AFTER_BEGINNING_MAX: Duration = Duration::from_secs(3);

/// One that has just been started has containers to look after.
const AFTER_START_MAX: Duration = Duration::from_secs(20);

/// Entries of the log between two snapshots, where nobody has changed that (`docker swarm update --snapshot-interval`).
const SNAPSHOT_ENTRIES_USUAL: u64 = 10_000;

/// Entries of the log that are kept before a snapshot, where nobody has changed that.
const ENTRIES_KEPT_USUAL: u64 = 500;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

impl RealWorld {
    pub(super) async fn rescue_swarm(
        &self,
        site: &Site,
        host: &Host,
        operation: &Operation,
    ) -> Result<Vec<Fact>, EffectError> {
        let begun = swarm::rescue(site, host).await?;
        self.ensure_found(site, host, operation, begun).await?;
        swarm::rescued(site, host, operation).await
    }

    pub(super) async fn advertise_manager(
        &self,
        site: &Site,
        host: &Host,
        operation: &Operation,
    ) -> Result<Vec<Fact>, EffectError> {
        let begun = rejoin::advertise(site, host).await?;
        self.ensure_found(site, host, operation, begun).await?;
        rejoin::advertised(site, host).await
    }

    /// Sees to it that others find the host; `begun`: its swarm was begun anew just now.
    pub(super) async fn ensure_found(
        &self,
        site: &Site,
        host: &Host,
        operation: &Operation,
        begun: bool,
    ) -> Result<(), EffectError> {
        self.ensure_gossip(site, host, operation, begun).await?;
        ensure_answered(site, host).await
    }

    /// Starts the host's engine anew if it takes no part in the gossip.
    ///
    /// The engine is on its way then, and whether that has helped is seen with the next try.
    async fn ensure_gossip(
        &self,
        site: &Site,
        host: &Host,
        operation: &Operation,
        begun: bool,
    ) -> Result<(), EffectError> {
        let patience = if begun { AFTER_BEGINNING_MAX } else { AFTER_START_MAX };
        if takes_part(site, host, patience).await? {
            return Ok(());
        }
        tracing::info!(host.name = %host.name, "its engine takes no part in the gossip and is started anew");
        let why =
            format!("the engine of {} starts anew: the swarm's gossip does not work without", host.name);
        Err(match self.start_anew(site, host, operation.id.as_str()).await? {
            true => EffectError::passing(why),
            false => EffectError::lasting(format!(
                "the engine of {} was started anew, and still nothing listens at its port {GOSSIP_PORT}",
                host.name
            )),
        })
    }
}

/// Does it, or begin to within this time?
async fn takes_part(site: &Site, host: &Host, patience: Duration) -> Result<bool, EffectError> {
    let address = swarm::address(host)?;
    let deadline = Instant::now() + patience;
    loop {
        let connects = site.hub.connects(host.id.as_str(), address, GOSSIP_PORT).await;
        if connects.map_err(|error| not_asked(host, "whether its engine listens", &error))? {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(LOOK).await;
    }
}

/// Managers that join answer the host where it is. Only who leads can be told, and whoever began a swarm anew does; where another
/// one leads, its managers were back and nothing was begun.
async fn ensure_answered(site: &Site, host: &Host) -> Result<(), EffectError> {
    let docker = site.docker(host);
    let node = local_state(&docker).await?.node;
    let seen = async || {
        let node = docker.inspect_node(&node).await.map_err(docker.failed("looking at its own node"))?;
        Ok::<_, EffectError>(node.manager_status.unwrap_or_default())
    };
    let status = seen().await?;
    if status.leader != Some(true) {
        return Ok(());
    }
    let address = swarm::address_with_port(host)?;
    if status.addr.as_ref() != Some(&address) {
        let told = site.hub.tell_swarm_address(host.id.as_str(), site.term, &address).await;
        told.map_err(|error| {
            EffectError::passing(format!("telling the swarm where {} is: {error}", host.name))
        })?;
        let known = seen().await?.addr.unwrap_or_default();
        if known != address {
            return Err(EffectError::passing(format!(
                "managers of the swarm look for {} at {known}, and it is at {address}",
                host.name
            )));
        }
    }
    make_snapshot(&docker).await
}

/// Has the manager write down the swarm as it is and drop its log up to there, by letting it do so after every change for a moment.
async fn make_snapshot(manager: &Reached) -> Result<(), EffectError> {
    let set = async |(entries, kept): (u64, u64)| {
        let mut before = (None, None);
        let change_spec = |spec: &mut SwarmSpec| {
            let raft = spec.raft.get_or_insert_default();
            before.0 = raft.snapshot_interval.replace(entries);
            before.1 = raft.log_entries_for_slow_followers.replace(kept);
            before != (Some(entries), Some(kept))
        };
        swarm_keys::change(manager, UpdateSwarmOptions::default(), change_spec).await.map(|()| before)
    };
    // Docker does not hear of 0.
    let (entries, kept) = set((1, 1)).await?;
    // Whoever was interrupted in between does not know any more what it was.
    let known = |before: Option<u64>, usual| before.filter(|before| *before > 1).unwrap_or(usual);
    set((known(entries, SNAPSHOT_ENTRIES_USUAL), known(kept, ENTRIES_KEPT_USUAL))).await.map(drop)
}
