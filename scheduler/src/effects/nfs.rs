//! What hosts can do with the environment's NFS server, tried out by their agents.

use skep_hub::{AskError, NfsCheck, NfsFound, NfsReach};
use skep_model::fact::Fact;
use skep_model::host::Host;
use skep_model::ids::OperationId;
use skep_model::nfs::{Nfs, NfsSeen, Reach};
use skep_model::recipe::VolumeDriver;
use skep_model::stack::Stack;

use super::Site;
use crate::world::EffectError;

/// Asks those hosts that have not been asked about the present server.
pub(super) async fn observe(site: &Site, operation: &OperationId) -> Vec<Fact> {
    let Some(nfs) = &site.environment.options.nfs else { return vec![] };
    let hosts: Vec<&Host> = skep_model::nfs::unasked(&site.environment, &site.hosts, operation).collect();
    facts(nfs, operation, &ask(site, nfs, &hosts, vec![]).await)
}

/// Makes a folder for each of the stack's volumes, and insists that every host can mount them: a task may come to any.
pub(super) async fn prepare(
    site: &Site,
    stack: &Stack,
    generation: u64,
    operation: &OperationId,
) -> Result<Vec<Fact>, EffectError> {
    let checked = Fact::StackVolumesChecked(stack.environment.clone(), stack.name.clone(), generation);
    let folders: Vec<String> = stack
        .recipe
        .volumes
        .iter()
        .filter(|volume| volume.driver == VolumeDriver::Nfs)
        .map(|volume| volume.docker_name(stack.name.as_str()))
        .collect();
    let Some(nfs) = &site.environment.options.nfs else {
        return Err(EffectError::lasting(format!(
            "volumes of the stack are on NFS, and the environment has no server: skep env update {} --nfs server=…,path=…",
            site.environment.name
        )));
    };
    let hosts: Vec<&Host> = site.hosts.iter().filter(|host| host.is_active()).collect();
    let asked = ask(site, nfs, &hosts, folders).await;
    let troubles: Vec<String> = asked.iter().filter_map(trouble).collect();
    let mut facts = facts(nfs, operation, &asked);
    if !troubles.is_empty() {
        let message = format!("NFS server {nfs} cannot be used: {}", troubles.join("; "));
        return Err(EffectError::lasting(message).knowing(facts));
    }
    facts.push(checked);
    Ok(facts)
}

type Asked<'a> = (&'a Host, Result<NfsSeen, AskError>);

async fn ask<'a>(site: &Site, nfs: &Nfs, hosts: &[&'a Host], folders: Vec<String>) -> Vec<Asked<'a>> {
    let check = NfsCheck {
        server: nfs.server.clone(),
        path: nfs.path.clone(),
        options: nfs.options.clone(),
        folders,
    };
    let ids: Vec<&str> = hosts.iter().map(|host| host.id.as_str()).collect();
    let answers = site.hub.check_nfs(&ids, &check).await;
    let seen = |answer: Result<NfsFound, AskError>| answer.map(|found| seen(nfs, found));
    hosts.iter().copied().zip(answers.into_iter().map(seen)).collect()
}

fn seen(nfs: &Nfs, found: NfsFound) -> NfsSeen {
    let reach = match found.reach {
        NfsReach::Works => Reach::Works,
        NfsReach::NotWritable => Reach::NotWritable,
        NfsReach::NotMounted => Reach::NotMounted,
        NfsReach::NoClient => Reach::NoClient,
        NfsReach::Unreachable => Reach::Unreachable,
    };
    NfsSeen { nfs: nfs.clone(), reach, why: found.why, tried_by: None }
}

fn trouble((host, asked): &Asked<'_>) -> Option<String> {
    match asked {
        Ok(seen) => Some(format!("on {} {}", host.name, seen.trouble()?)),
        Err(error) => Some(format!("{} could not be asked: {error}", host.name)),
    }
}

/// Whoever did not answer keeps what was known before. Whoever answers that it does not know how is not asked again and again.
fn facts(nfs: &Nfs, operation: &OperationId, asked: &[Asked<'_>]) -> Vec<Fact> {
    let fact = |(host, asked): &Asked<'_>| {
        let seen = match asked {
            Ok(seen) => seen.clone(),
            Err(error) if error.is_its_answer() => {
                let why = error.to_string();
                NfsSeen { nfs: nfs.clone(), reach: Reach::NotMounted, why, tried_by: None }
            }
            Err(_) => return None,
        };
        let seen = NfsSeen { tried_by: Some(operation.clone()), ..seen };
        Some(Fact::NfsSeen(host.environment.clone(), host.id.clone(), seen))
    };
    asked.iter().filter_map(fact).collect()
}
