//! Begins a swarm anew from a backup that was brought to a host.
//!
//! ```text
//!   brought ─► (the engine leaves what it is in) ─► put in place ─► engine started anew
//!           ─► begun anew at the host's address ─► done, remembered on the host for this operation
//! ```
//! How far it is stands on the host, so whoever goes on with it finds that out there.

use bollard::models::LocalNodeState;
use skep_hub::{Restoring, SwarmStateError};
use skep_model::fact::Fact;
use skep_model::host::{Host, Membership, Role};
use skep_model::operation::Operation;
use skep_model::placement::Availability;

use super::own_words::local_state;
use super::reached::Reached;
use super::swarm::{self, leave_here, listed};
use super::{RealWorld, Site};
use crate::world::EffectError;

impl RealWorld {
    pub(super) async fn restore_swarm(
        &self,
        site: &Site,
        host: &Host,
        operation: &Operation,
    ) -> Result<Vec<Fact>, EffectError> {
        let docker = site.docker(host);
        let (id, term, key) = (host.id.as_str(), site.term, operation.id.as_str());
        let failed = |error| failed(host, &error);
        let mut begun = false;
        match site.hub.restoring(id, term).await.map_err(failed)? {
            Restoring::Done(by) if by == key => {}
            Restoring::No | Restoring::Done(_) => {
                return Err(EffectError::lasting(format!(
                    "what was to be restored is not on {} any more. Bring it there again: skep env restore",
                    host.name
                )));
            }
            Restoring::Brought => {
                if local_state(&docker).await?.state != LocalNodeState::INACTIVE {
                    leave_here(&docker).await?;
                }
                site.hub.put_swarm_state(id, term).await.map_err(failed)?;
                return self.start_with_it(site, host, operation).await;
            }
            Restoring::Placed => {
                if local_state(&docker).await?.state == LocalNodeState::INACTIVE {
                    return self.start_with_it(site, host, operation).await;
                }
                swarm::begin_anew(&docker, host).await?;
                site.hub.finish_swarm_state(id, term, key).await.map_err(failed)?;
                begun = true;
            }
        }
        self.ensure_found(site, host, operation, begun).await?;
        let mut facts = vec![Fact::SwarmRestored(site.environment.id.clone(), operation.id.clone())];
        facts.push(seen(site, &docker, host).await?);
        Ok(facts)
    }

    /// Has the engine started anew: the next try finds it with the state, or finds that it has not taken it.
    async fn start_with_it(
        &self,
        site: &Site,
        host: &Host,
        operation: &Operation,
    ) -> Result<Vec<Fact>, EffectError> {
        let name = &host.name;
        Err(match self.start_anew(site, host, &format!("{}-restore", operation.id)).await? {
            true => {
                EffectError::passing(format!("the engine of {name} starts anew with the state of the backup"))
            }
            false => EffectError::lasting(format!(
                "the engine of {name} was started anew and has not taken the state of the backup. On that host: journalctl \
                 -u docker"
            )),
        })
    }
}

/// Who is in the swarm. Nothing that was known of nodes counts: the host is another node than before.
async fn seen(site: &Site, docker: &Reached, host: &Host) -> Result<Fact, EffectError> {
    let own = Membership {
        node: local_state(docker).await?.node,
        role: Role::Manager,
        leader: true,
        ready: true,
        availability: Availability::Active,
        reachable: true,
    };
    let known = |known: &Host| {
        let membership = (known.id == host.id).then(|| own.clone());
        Host { membership, adopted: None, ..known.clone() }
    };
    let hosts: Vec<Host> = site.hosts.iter().map(known).collect();
    let (swarm, nodes) = listed(docker).await?;
    Ok(Fact::SwarmSeen(site.environment.id.clone(), swarm, swarm::members(&hosts, &nodes)))
}

fn failed(host: &Host, error: &SwarmStateError) -> EffectError {
    let said = format!("restoring the swarm on {}: {error}", host.name);
    match error {
        SwarmStateError::Agent(error) if error.may_pass() => EffectError::passing(said),
        SwarmStateError::Engine(_) | SwarmStateError::Late => EffectError::passing(said),
        _ => EffectError::lasting(said),
    }
}
