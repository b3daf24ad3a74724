//! The network between hosts that are on their way into a swarm and some of its members, as their agents find it.

use skep_hub::Patient;
use skep_model::doctor::{self, NodeSeen};
use skep_model::environment::Environment;
use skep_model::fact::Fact;
use skep_model::host::Host;
use skep_model::ids::HostId;
use skep_model::name::Name;
use skep_model::preflight::{self, Checked};
use skep_model::{networks, nfs};

use super::Site;
use crate::world::EffectError;

/// Checks each of the hosts with the same members. What cannot be found out holds nobody.
pub(super) async fn check(
    site: &Site,
    hosts: &[(HostId, Name)],
    insist: Option<&HostId>,
) -> Result<Vec<Fact>, EffectError> {
    let named = || hosts.iter().filter_map(|(id, _)| site.host(id).ok());
    let (checked, unknown): (Vec<&Host>, Vec<&Host>) = named().partition(|host| host.has_ip_address());
    let mut facts: Vec<Fact> = unknown.into_iter().map(|host| fact(host, not_checkable(host))).collect();
    if !checked.is_empty() {
        facts.extend(diagnose(site, &checked).await?);
    }
    let held = |fact: &Fact| match fact {
        Fact::NetworkChecked(_, id, checked) if Some(id) == insist => checked.reason_to_hold(),
        _ => None,
    };
    match facts.iter().find_map(held) {
        Some(why) => Err(EffectError::passing(why).knowing(facts)),
        None => Ok(facts),
    }
}

async fn diagnose(site: &Site, checked: &[&Host]) -> Result<Vec<Fact>, EffectError> {
    let is_peer = |host: &&Host| checked.iter().all(|other| other.id != host.id);
    let peers: Vec<&Host> = preflight::peers(&site.hosts).into_iter().filter(is_peer).collect();
    let environment = &site.environment;
    let patients: Vec<Patient> =
        checked.iter().chain(&peers).map(|host| patient(environment, host)).collect();
    // Each of the ones sends to each of the others.
    let targets = |at| if at < checked.len() { checked.len()..patients.len() } else { 0..checked.len() };
    let targets = (0..patients.len()).map(|at| targets(at).collect()).collect();
    let needed = u32::from(networks::made_for(environment, &site.hosts).mtu);
    let diagnosed = site.hub.diagnose(&patients, targets, needed, environment.options.encrypted).await;
    if !diagnosed.busy.is_empty() {
        let busy = diagnosed.busy.join(", ");
        return Err(EffectError::passing(format!(
            "{busy} takes part in another check of the network just now"
        )));
    }
    let report = doctor::examine(&diagnosed.seen);
    let about = |(at, host): (usize, &&Host)| fact(host, preflight::about(&diagnosed.seen, &report, at));
    Ok(checked.iter().enumerate().map(about).collect())
}

fn patient(environment: &Environment, host: &Host) -> Patient {
    Patient {
        id: host.id.to_string(),
        name: host.name.to_string(),
        address: host.machine.as_ref().map(|machine| machine.address.clone()).unwrap_or_default(),
        node: NodeSeen::of(host),
        too_narrow: doctor::too_narrow(host),
        nfs: nfs::trouble(environment, host),
    }
}

fn fact(host: &Host, checked: Checked) -> Fact {
    Fact::NetworkChecked(host.environment.clone(), host.id.clone(), checked)
}

fn not_checkable(host: &Host) -> Checked {
    let address = host.machine.as_ref().map(|machine| machine.address.clone()).unwrap_or_default();
    let why = format!("the network: '{address}' is no IP address");
    Checked { address, unchecked: vec![why], ..Checked::default() }
}
