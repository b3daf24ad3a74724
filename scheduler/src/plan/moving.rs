//! Starts `move-host` for hosts whose nodes stand under an address that their machines do not have any more, or look for their
//! swarm where it is not.

use skep_ledger::ReadError;
use skep_model::environment::Environment;
use skep_model::host::{self, Host};
use skep_model::operation::workflow;

use super::{Decision, Picture};

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for environment in picture.at_work().filter(|environment| has_quorum(environment)) {
        let hosts = picture.hosts(environment);
        let must = || hosts.iter().filter(|host| host.is_ready() && host.must_rejoin().is_some());
        let mut managers: Vec<&Host> =
            must().filter(|host| host.is_swarm_manager() || host.has_seat()).collect();
        // One manager after the other, so that the swarm can agree. Workers come last: they are told where to look for managers.
        let next = match managers.is_empty() {
            true if hosts.iter().any(|host| host.has_seat()) => vec![],
            true => must().collect(),
            false if hosts.iter().any(|host| is_moving(picture, host)) => vec![],
            false => {
                managers.retain(|host| may_move(picture, hosts, host));
                managers.truncate(1);
                managers
            }
        };
        for host in next.into_iter().filter(|host| may_move(picture, hosts, host)) {
            decisions.push(Decision {
                workflow: workflow::MOVE_HOST,
                subject: host::subject(host),
                environment: environment.id.clone(),
                why: host.must_rejoin().unwrap_or_default(),
            });
        }
    }
    Ok(decisions)
}

/// A swarm that has lost its quorum is rescued first: nobody can leave it.
fn has_quorum(environment: &Environment) -> bool {
    environment.swarm.as_ref().is_some_and(|swarm| swarm.quorum_lost.is_none())
}

fn may_move(picture: &Picture, hosts: &[Host], host: &Host) -> bool {
    !host.rests(picture.now)
        && host.shares_address_with(hosts).is_none()
        && picture.free_again(&host::subject(host))
}

fn is_moving(picture: &Picture, host: &Host) -> bool {
    host.remembered.is_some() && !picture.is_free(&host::subject(host))
}
