//! Keys and certificates of a swarm: settings, rotations, and the unlock key for engines that have started.
//!
//! Unlock keys come from the engine and go to the engine; in between they are sealed.

use std::time::Duration;

use bollard::models::{LocalNodeState, Node, Swarm, SwarmSpec};
use bollard::query_parameters::UpdateSwarmOptions;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use skep_model::fact::Fact;
use skep_model::host::Host;
use skep_model::ids::{HostId, OperationId};
use skep_model::name::Name;
use skep_model::operation::Operation;
use skep_model::sealed::Sealed;
use skep_model::swarm_keys::{CERTIFICATE_DAYS_USUAL, Certificates, Noted, SwarmKey, unlock_key_words};
use skep_sealing::{SealingKey, Secret};
use tokio::time::timeout;

use super::Site;
use super::own_words::local_state;
use super::reached::Reached;
use crate::world::EffectError;

/// An engine that has not answered by then has taken the key or does not answer at all; it is asked which.
const UNLOCK_MAX: Duration = Duration::from_secs(20);

const NANOSECONDS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

/// What the engine answers when it is asked for the key, and what it is told.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UnlockKey {
    unlock_key: String,
}

/// Brings settings into the swarm, and keeps the unlock key that it has then.
pub(super) async fn apply(
    site: &Site,
    generation: u64,
    sealing: &SealingKey,
) -> Result<Vec<Fact>, EffectError> {
    let wished = &site.environment.keys;
    if wished.generation != generation {
        return Err(EffectError::passing("something else is wished for the swarm meanwhile"));
    }
    let manager = site.manager(None)?;
    let days = wished.certificate_days.unwrap_or(CERTIFICATE_DAYS_USUAL);
    let expiry = i64::from(days) * NANOSECONDS_PER_DAY;
    change(&manager, UpdateSwarmOptions::default(), |spec| {
        let before = spec.clone();
        spec.encryption_config.get_or_insert_default().auto_lock_managers = Some(wished.autolock);
        // What nobody has wished is left as somebody else may have set it.
        if wished.certificate_days.is_some() {
            spec.ca_config.get_or_insert_default().node_cert_expiry = Some(expiry);
        }
        *spec != before
    })
    .await?;
    let key = match wished.autolock {
        true => Some(kept(site, sealing, unlock_key(&manager).await?)?),
        false => None,
    };
    Ok(vec![Fact::SwarmSettingsApplied(site.environment.id.clone(), generation, key)])
}

/// Notes what is there, so that it can be told whether it was replaced.
pub(super) async fn note(
    site: &Site,
    key: SwarmKey,
    by: &OperationId,
    sealing: &SealingKey,
) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let fingerprint = fingerprint(&manager, key, sealing).await?;
    let noted = Noted { by: by.clone(), fingerprint };
    Ok(vec![Fact::KeyNoted(site.environment.id.clone(), key, noted)])
}

/// Replaces what was noted, unless that was done already.
pub(super) async fn rotate(
    site: &Site,
    key: SwarmKey,
    operation: &Operation,
    sealing: &SealingKey,
) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let rotation = site.environment.keys.rotation(key);
    // Whoever takes up an operation that has failed after this does not do it a second time.
    if !rotation.is_done_by(operation) {
        let noted = rotation.noted_by(&operation.id);
        let noted =
            noted.ok_or_else(|| EffectError::lasting(format!("nobody has noted the {key} before")))?;
        if fingerprint(&manager, key, sealing).await? == noted {
            replace(&manager, key).await?;
        }
    }
    let unlock_key = match key {
        SwarmKey::UnlockKey => Some(kept(site, sealing, unlock_key(&manager).await?)?),
        SwarmKey::JoinTokens | SwarmKey::Authority => None,
    };
    Ok(vec![Fact::KeyRotated(site.environment.id.clone(), key, operation.id.clone(), unlock_key)])
}

async fn replace(manager: &Reached, key: SwarmKey) -> Result<(), EffectError> {
    let options = UpdateSwarmOptions {
        rotate_worker_token: key == SwarmKey::JoinTokens,
        rotate_manager_token: key == SwarmKey::JoinTokens,
        rotate_manager_unlock_key: key == SwarmKey::UnlockKey,
        ..UpdateSwarmOptions::default()
    };
    change(manager, options, |spec| {
        if key == SwarmKey::Authority {
            // Docker makes a new authority whenever this number changes, unless a certificate is given.
            let authority = spec.ca_config.get_or_insert_default();
            authority.force_rotate = Some(authority.force_rotate.unwrap_or_default() + 1);
            (authority.signing_ca_cert, authority.signing_ca_key) = (None, None);
        }
        true
    })
    .await
}

/// How far the nodes have come with their new certificates.
pub(super) async fn observe_certificates(
    site: &Site,
    operation: &Operation,
) -> Result<Vec<Fact>, EffectError> {
    let manager = site.manager(None)?;
    let swarm = manager.inspect_swarm().await.map_err(manager.failed("looking at the swarm"))?;
    let nodes = manager.list_nodes(None).await.map_err(manager.failed("listing the nodes"))?;
    let mut missing: Vec<String> =
        nodes.iter().filter(|node| !is_certified(node, &swarm)).map(node_name).collect();
    let renewed = nodes.len() - missing.len();
    if missing.is_empty() && swarm.root_rotation_in_progress == Some(true) {
        missing.push("the swarm itself".into());
    }
    let seen = Certificates { renewed, missing };
    Ok(vec![Fact::CertificatesSeen(site.environment.id.clone(), operation.id.clone(), seen)])
}

/// Does a node show a certificate of the authority that the swarm has, or is about to have?
fn is_certified(node: &Node, swarm: &Swarm) -> bool {
    let wanted = swarm.tls_info.as_ref().and_then(|tls| tls.cert_issuer_public_key.as_ref());
    let shown = node.description.as_ref().and_then(|description| description.tls_info.as_ref());
    wanted.is_some() && shown.and_then(|tls| tls.cert_issuer_public_key.as_ref()) == wanted
}

fn node_name(node: &Node) -> String {
    let hostname = node.description.as_ref().and_then(|description| description.hostname.clone());
    hostname.or_else(|| node.id.clone()).unwrap_or_default()
}

/// Gives engines the key that they wait for. Each answers once it takes part in the swarm, for which it can need the others.
pub(super) async fn unlock(
    site: &Site,
    hosts: &[(HostId, Name)],
    sealing: &SealingKey,
) -> Result<Vec<Fact>, EffectError> {
    let unlocked = join_all(hosts.iter().map(|(id, _)| unlock_one(site, id, sealing))).await;
    let (unlocked, failed): (Vec<_>, Vec<_>) = unlocked.into_iter().partition(Result::is_ok);
    // Who could not be unlocked is tried again, with the others out of the way.
    match failed.into_iter().find_map(Result::err) {
        Some(error) if unlocked.is_empty() => Err(error),
        _ => Ok(unlocked.into_iter().flatten().collect()),
    }
}

async fn unlock_one(site: &Site, id: &HostId, sealing: &SealingKey) -> Result<Fact, EffectError> {
    let host = site.host(id)?;
    let docker = site.docker(host);
    let is_locked = async || {
        let local = local_state(&docker).await?;
        Ok::<bool, EffectError>(local.state == LocalNodeState::LOCKED)
    };
    if is_locked().await? {
        let tried = timeout(UNLOCK_MAX, try_keys(site, host, &docker, sealing)).await;
        match tried {
            Ok(tried) => tried?,
            Err(_) if is_locked().await? => {
                let message = format!("the engine of {} does not say whether it is unlocked", host.name);
                return Err(EffectError::passing(message));
            }
            // It has taken the key, and waits for the other managers.
            Err(_) => {}
        }
    }
    Ok(Fact::EngineUnlocked(host.environment.clone(), host.id.clone()))
}

async fn try_keys(
    site: &Site,
    host: &Host,
    docker: &Reached,
    sealing: &SealingKey,
) -> Result<(), EffectError> {
    let mut said = EffectError::lasting("Skep knows no unlock key of the swarm");
    for sealed in site.environment.keys.unlock_keys() {
        let words = unlock_key_words(&site.environment.id);
        let key = sealing.open(&words, sealed.envelope());
        let key = key.map_err(|error| EffectError::lasting(format!("opening the unlock key: {error}")))?;
        let body = UnlockKey { unlock_key: key.reveal().to_owned() };
        let body = serde_json::to_vec(&body).map_err(EffectError::lasting)?;
        match docker.call("/swarm/unlock", Some(body)).await {
            Ok(_) => return Ok(()),
            // It is told with the last key; another may be right.
            Err(error) if error.to_string().contains("invalid key") => {
                said = EffectError::lasting(format!(
                    "the engine of {} does not take the unlock key: it was changed by other means. Give it the right one: \
                     skep env unlock {} --key-file FILE",
                    host.name, site.environment.name
                ));
            }
            Err(error) => return Err(docker.failed(&format!("unlocking {}", host.name))(error)),
        }
    }
    Err(said)
}

/// Changes the swarm's spec, unless `change` says that it was so already.
pub(super) async fn change(
    manager: &Reached,
    options: UpdateSwarmOptions,
    change: impl FnOnce(&mut SwarmSpec) -> bool,
) -> Result<(), EffectError> {
    let found = manager.inspect_swarm().await.map_err(manager.failed("looking at the swarm"))?;
    let mut spec = found.spec.unwrap_or_default();
    if !change(&mut spec) {
        return Ok(());
    }
    let version = found.version.and_then(|version| version.index).unwrap_or_default();
    let version = i64::try_from(version).map_err(EffectError::lasting)?;
    let options = UpdateSwarmOptions { version, ..options };
    manager.update_swarm(spec, options).await.map_err(manager.failed("changing the swarm"))
}

/// What tells a key that is there from the next one.
async fn fingerprint(manager: &Reached, key: SwarmKey, sealing: &SealingKey) -> Result<String, EffectError> {
    let looking = || manager.failed("looking at the swarm");
    let there = match key {
        SwarmKey::JoinTokens => {
            let tokens = manager.inspect_swarm().await.map_err(looking())?.join_tokens.unwrap_or_default();
            format!("{}\n{}", tokens.worker.unwrap_or_default(), tokens.manager.unwrap_or_default())
        }
        SwarmKey::UnlockKey => unlock_key(manager).await?.reveal().to_owned(),
        SwarmKey::Authority => {
            let spec = manager.inspect_swarm().await.map_err(looking())?.spec.unwrap_or_default();
            let rotations = spec.ca_config.and_then(|authority| authority.force_rotate).unwrap_or_default();
            return Ok(rotations.to_string());
        }
    };
    let fingerprint = sealing.fingerprint(there.as_bytes());
    Ok(fingerprint.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn unlock_key(manager: &Reached) -> Result<Secret, EffectError> {
    let answer = manager.call("/swarm/unlockkey", None).await;
    let answer = answer.map_err(manager.failed("asking for the unlock key"))?;
    // Whatever is wrong with the answer is not told: it can hold the key.
    let key: UnlockKey = serde_json::from_slice(&answer).map_err(|_| {
        EffectError::passing("the engine does not say the unlock key in a way that is understood")
    })?;
    match key.unlock_key.is_empty() {
        true => Err(EffectError::passing("the swarm has no unlock key yet")),
        false => Ok(Secret::new(key.unlock_key)),
    }
}

/// As it is kept already, if it is the same key: another envelope would look like another key.
fn kept(site: &Site, sealing: &SealingKey, key: Secret) -> Result<Sealed, EffectError> {
    let words = unlock_key_words(&site.environment.id);
    let known = site.environment.keys.unlock_key.as_ref();
    if let Some(known) = known.filter(|known| sealing.open(&words, known.envelope()).as_ref() == Ok(&key)) {
        return Ok(known.clone());
    }
    let sealed = sealing.seal(&words, &key);
    sealed.map(Sealed::new).map_err(|error| EffectError::lasting(format!("sealing the unlock key: {error}")))
}
