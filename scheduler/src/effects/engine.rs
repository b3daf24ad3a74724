//! Other engines for hosts: changed by the driver where that is its business, by the host's agent otherwise.
//!
//! The operation's id is the key under which an agent knows a change, so asking again, by whichever leader, finds what was
//! begun. What has failed is begun anew by another operation only.

use bollard::models::LocalNodeState;
use skep_hub::{AskError, EngineChange};
use skep_model::fact::Fact;
use skep_model::host::Host;
use skep_model::operation::Operation;

use super::own_words::{local_state, members_confirmed};
use super::swarm::listed;
use super::{RealWorld, Site};
use crate::world::EffectError;

impl RealWorld {
    /// Begins the change, or finds that it was begun, or that there is nothing to change.
    pub(super) async fn change_engine(
        &self,
        site: &Site,
        host: &Host,
        version: &str,
        operation: &Operation,
    ) -> Result<Vec<Fact>, EffectError> {
        let (environment, id) = (host.environment.clone(), host.id.clone());
        if let Some(driver) = &host.driver {
            let changed = self.driver(driver)?.change_engine(&self.key(&host.id), version).await;
            if changed.map_err(super::machine::failed)? {
                return Ok(vec![Fact::EngineChanged(environment, id, version.to_owned())]);
            }
        }
        let mut facts = self.observe_engine(site, host, version, operation).await?;
        facts.push(Fact::EngineChangeBegun(environment, id, operation.id.clone()));
        Ok(facts)
    }

    /// Has the host's engine started anew. `false` if that was done for this key already; drivers do not remember keys.
    pub(super) async fn start_anew(&self, site: &Site, host: &Host, key: &str) -> Result<bool, EffectError> {
        if let Some(driver) = &host.driver {
            let restarted = self.driver(driver)?.restart_engine(&self.key(&host.id)).await;
            if restarted.map_err(super::machine::failed)? {
                return Ok(true);
            }
        }
        let asked = site.hub.restart_engine(host.id.as_str(), site.term, key).await;
        match asked.map_err(|error| not_asked(host, "to start its engine anew", &error))? {
            EngineChange::Running => Ok(true),
            EngineChange::Done { .. } => Ok(false),
            EngineChange::Failed { code, said } => Err(EffectError::lasting(format!(
                "the engine of {} has to be started anew, and that has ended with {code}: {said}. On that host: systemctl \
                 restart docker",
                host.name
            ))),
        }
    }

    /// Asks the host's agent how far it is.
    pub(super) async fn observe_engine(
        &self,
        site: &Site,
        host: &Host,
        version: &str,
        operation: &Operation,
    ) -> Result<Vec<Fact>, EffectError> {
        let key = operation.id.as_str();
        let asked = site.hub.change_engine(host.id.as_str(), site.term, version, key).await;
        let told = asked.map_err(|error| not_asked(host, "for another engine", &error))?;
        match told {
            EngineChange::Running => Ok(vec![]),
            EngineChange::Done { version: now } if now == version => {
                Ok(vec![Fact::EngineChanged(host.environment.clone(), host.id.clone(), now)])
            }
            EngineChange::Done { version: now } => Err(EffectError::lasting(format!(
                "the change of the engine of {} has ended well, and the engine is {now}",
                host.name
            ))),
            EngineChange::Failed { code, said } => Err(EffectError::lasting(format!(
                "the change of the engine of {} has ended with {code}: {said}",
                host.name
            ))),
        }
    }
}

/// Says whether the host serves: its engine answers with this version and takes itself for a node, and the swarm sees it
/// ready.
pub(super) async fn verify(site: &Site, host: &Host, version: &str) -> Result<Vec<Fact>, EffectError> {
    let docker = site.docker(host);
    let told = docker.version().await.map_err(docker.failed("asking the engine for its version"))?;
    let now = told.version.unwrap_or_default();
    if now != version {
        return Err(EffectError::passing(format!("the engine of {} is {now}", host.name)));
    }
    if host.membership.is_some() && local_state(&docker).await?.state != LocalNodeState::ACTIVE {
        return Err(EffectError::passing(format!("the engine of {} is not in its swarm yet", host.name)));
    }
    let (environment, id) = (host.environment.clone(), host.id.clone());
    let verified = Fact::EngineVerified(environment.clone(), id.clone(), now);
    if host.membership.is_none() {
        return Ok(vec![verified]);
    }
    let (swarm, nodes) = listed(&site.manager(None)?).await?;
    let members = members_confirmed(site, &nodes).await;
    let is_ready = members.iter().any(|(member, node)| *member == id && node.ready);
    let mut facts = vec![Fact::SwarmSeen(environment, swarm, members)];
    facts.extend(is_ready.then_some(verified));
    Ok(facts)
}

pub(super) fn not_asked(host: &Host, what: &str, error: &AskError) -> EffectError {
    let told = format!("asking the agent of {} {what}: {error}", host.name);
    match error.may_pass() {
        true => EffectError::passing(told),
        false => EffectError::lasting(told),
    }
}
