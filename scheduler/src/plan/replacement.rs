//! Starts `replace-host` for hosts that are down for longer than their environment waits for them, where somebody has wished for
//! that. The new machine is made by the driver of the old.
//!
//! One after the other in an environment, and only while its managers agree and most of its hosts are well: if most are not, it
//! is the network or this cluster that is ill, and new machines would cost money and help nobody.

use jiff::{SignedDuration, Timestamp};
use skep_ledger::ReadError;
use skep_model::environment::Environment;
use skep_model::host::renewal::replacement;
use skep_model::host::{self, Host};
use skep_model::operation::workflow;

use super::{Decision, Picture};
use crate::swarm_roles::most_are_well;

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    let wishes_for_it = |environment: &&Environment| environment.upkeep.host_patience_secs > 0;
    for environment in picture.at_work().filter(wishes_for_it) {
        let hosts = picture.hosts(environment);
        let under_way = hosts.iter().any(|host| !picture.is_free(&replacement(host)));
        if under_way || !environment.managers_agree(hosts) || !most_are_well(hosts) {
            continue;
        }
        if let Some((host, since)) = longest_down(picture, environment, hosts) {
            let (name, state) = (&host.name, host.state().word);
            decisions.push(Decision {
                workflow: workflow::REPLACE_HOST,
                subject: replacement(host),
                environment: environment.id.clone(),
                why: format!("host {name} is {state} since {since:.0}; a new machine takes its place"),
            });
        }
    }
    Ok(decisions)
}

/// One that waits for its unlock key is down as well, but another machine would not help it.
fn longest_down<'a>(
    picture: &Picture,
    environment: &Environment,
    hosts: &'a [Host],
) -> Option<(&'a Host, Timestamp)> {
    let patience = SignedDuration::from_secs(environment.upkeep.host_patience_secs.into());
    let down = hosts.iter().filter_map(|host| Some((host, host.down_since()?)));
    down.filter(|(host, since)| {
        *since + patience <= picture.now && host.driver.is_some() && !host.swarm_locked
    })
    .filter(|(host, _)| picture.is_free(&host::subject(host)) && picture.free_again(&replacement(host)))
    .min_by_key(|(_, since)| *since)
}
