//! Makes the ready hosts of an environment into one swarm with the wished number of managers.
//!
//! Begun on one host, so that the environment is usable from the first; further hosts join as managers until there
//! are enough, then as workers. Started by a planner whenever hosts and swarm disagree, so it also takes in hosts
//! that come later and evens out the number of managers.

use skep_model::host::{Host, Role, WishedRole};
use skep_model::operation::workflow;

use crate::swarm_roles::{by_wish, next_change};
use crate::{At, Effect, Next, Step, Workflow};

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::FORM_SWARM,
    steps: &[
        Step::new("init", init).leaving("the swarm that was begun stays"),
        Step::new("join", join).leaving("hosts that have joined stay in the swarm"),
        Step::new("roles", roles).leaving("hosts keep the roles that they have got"),
        Step::new("verify", verify),
    ],
};

fn init(at: &At) -> Next {
    let Some(environment) = at.environment.as_ref().filter(|_| !at.environment_goes()) else {
        return Next::Turn("the environment is being removed".into());
    };
    if at.hosts.iter().any(|host| host.membership.is_some()) {
        return Next::Done;
    }
    let planted = environment.seed.as_ref().and_then(|seed| at.hosts.iter().find(|host| host.id == *seed));
    match planted
        .filter(|host| host.removal.is_none())
        .or_else(|| by_wish(at.hosts.iter().filter(|host| host.is_ready())).first().copied())
    {
        Some(host) if host.is_ready() => Next::Do(Effect::InitSwarm {
            environment: environment.id.clone(),
            host: host.id.clone(),
            name: host.name.clone(),
        }),
        Some(host) => Next::Wait(format!("the swarm was begun on {}, which is not ready", host.name)),
        None => Next::Wait("no host is ready".into()),
    }
}

pub(super) fn join(at: &At) -> Next {
    let mut managers = managers(at).count();
    let mut joins = vec![];
    for host in by_wish(at.hosts.iter().filter(|host| host.is_ready() && host.membership.is_none())) {
        let manages = managers < wanted(at) && host.role != WishedRole::Worker;
        let role = if manages { Role::Manager } else { Role::Worker };
        managers += usize::from(role == Role::Manager);
        joins.push((host.id.clone(), host.name.clone(), role));
    }
    match &at.environment {
        Some(environment) if !joins.is_empty() && !at.environment_goes() => {
            Next::Do(Effect::JoinSwarm { environment: environment.id.clone(), joins })
        }
        _ => Next::Done,
    }
}

pub(super) fn roles(at: &At) -> Next {
    match next_change(&at.hosts, wanted(at)) {
        Some((host, role)) => super::set_role(host, role),
        None => Next::Done,
    }
}

pub(super) fn verify(at: &At) -> Next {
    // A host that has become ready meanwhile is the next run's business; one that was ready before and is down would be
    // waited for in vain.
    let on_its_way = |host: &&Host| host.membership.is_some() && !host.was_ready;
    let unready = |host: &&Host| host.is_ready() && on_its_way(host) && !host.is_active();
    match (&at.environment, at.hosts.iter().find(unready)) {
        (Some(environment), Some(_)) => {
            Next::Do(Effect::ObserveSwarm { environment: environment.id.clone() })
        }
        _ => Next::Done,
    }
}

fn managers(at: &At) -> impl Iterator<Item = &Host> {
    at.hosts.iter().filter(|host| host.is_swarm_manager() && host.removal.is_none())
}

fn wanted(at: &At) -> usize {
    at.environment.as_ref().map_or(1, |environment| usize::from(environment.swarm_managers))
}
