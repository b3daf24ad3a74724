//! Starts `form-swarm` wherever ready hosts and swarm disagree.

use skep_ledger::{ReadError, Tx};
use skep_model::Ruling;
use skep_model::environment::{self, Environment};
use skep_model::host::{Host, Role};
use skep_model::operation::workflow;

use super::{Decision, Picture};
use crate::swarm_roles::{self, Roles, lost_manager};

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for environment in picture.environments.iter().filter(|environment| environment.removal.is_none()) {
        let subject = environment::swarm(environment);
        if !picture.free(&subject) {
            continue;
        }
        let hosts = picture.hosts(environment);
        let is_member = |host: &Host| host.membership.is_some();
        let is_voice = |host: &Host| host.is_swarm_manager() && host.answers();
        // Nothing can be done through managers none of whom answers, and whoever rescues or restores the swarm need not wait for
        // attempts.
        if hosts.iter().any(is_member) && !hosts.iter().any(is_voice) {
            continue;
        }
        // Only hosts that were on their way before are still taken into an environment that rests.
        if environment.pause.is_some() && hosts.iter().all(|host| host.was_ready) {
            continue;
        }
        let lost = || {
            let (host, since) = lost_manager(environment, hosts, picture.now)?;
            let (name, state) = (&host.name, host.state().word);
            let what = format!("host {name}, a manager of the swarm, is {state} since {since:.0}");
            Some(format!("{what}; another one takes its place"))
        };
        let why = match disagreement(environment, hosts).or_else(lost) {
            None if picture.free_again(&subject) => refused(hosts),
            why => why,
        };
        if let Some(why) = why {
            let environment = environment.id.clone();
            decisions.push(Decision { workflow: workflow::FORM_SWARM, subject, environment, why });
        }
    }
    Ok(decisions)
}

fn disagreement(environment: &Environment, hosts: &[Host]) -> Option<String> {
    if let Some(host) = outside(hosts).find(|host| host.join_error.is_empty()) {
        return Some(format!("host {} is ready and in no swarm", host.name));
    }
    // One that was ready before is down, not on its way: nothing that `form-swarm` does brings it back, and when it comes
    // back by itself that is seen (see `health`).
    let on_its_way = |host: &&Host| host.membership.is_some() && !host.was_ready;
    if let Some(host) = hosts.iter().filter(on_its_way).find(|host| host.is_ready() && !host.is_active()) {
        return Some(format!("the swarm does not see host {} ready", host.name));
    }
    match swarm_roles::next(environment, hosts) {
        Roles::Change(host, Role::Manager, why) => {
            Some(format!("host {} should be a manager of the swarm: {why}", host.name))
        }
        Roles::Change(host, Role::Worker, why) => {
            Some(format!("host {} should be no manager of the swarm any more: {why}", host.name))
        }
        // When it does its part, that is seen.
        Roles::Settling | Roles::AsWished => None,
    }
}

/// Writes down which manager the swarm is to do without from now on, if there is one.
pub(super) fn give_up_lost_manager(tx: &mut Tx<'_>, environment: &Environment) -> Ruling<()> {
    let hosts = tx.list::<Host>(environment.id.as_str())?;
    let hosts: Vec<Host> = hosts.into_iter().map(|stored| stored.record).collect();
    if let Some((host, since)) = lost_manager(environment, &hosts, tx.now()) {
        tx.put(&Host { given_up: Some(since), ..host.clone() });
    }
    Ok(())
}

/// A host that could not join before. Nothing is new about it, so it is tried more and more seldom.
fn refused(hosts: &[Host]) -> Option<String> {
    let host = outside(hosts).next()?;
    Some(format!("host {} could not join the swarm: {}", host.name, host.join_error))
}

/// Hosts that may be taken in. Whoever is held back is looked at again by `check-host`.
fn outside(hosts: &[Host]) -> impl Iterator<Item = &Host> {
    let has_members = hosts.iter().any(|host| host.membership.is_some());
    hosts
        .iter()
        .filter(move |host| host.is_ready() && host.membership.is_none() && host.may_join(has_members))
}
