//! Makes the ready hosts of an environment into one swarm with the wished number of managers.
//!
//! Begun on one host, so that the environment is usable from the first; further hosts join as managers until there
//! are enough, then as workers. Started by a planner whenever hosts and swarm disagree, so it also takes in hosts
//! that come later, evens out the number of managers, spreads them, and replaces one that was lost (`swarm_roles`).

use skep_model::environment::Environment;
use skep_model::host::{Host, Role, WishedRole};
use skep_model::networks::wanted;
use skep_model::nfs::unasked;
use skep_model::operation::workflow;

use super::check_host::has_members;
use crate::swarm_roles::{self, Roles, by_wish};
use crate::{At, Effect, Late, Next, Step, Workflow};

const JOIN: &str = "join";

/// Each host gives reaching, mounting and writing less than half a minute. What is not known by then is asked for again before
/// a deployment that needs it.
pub(super) const NFS_MAX_SECS: i64 = 60;

/// Time to make the ingress network anew. Without it everything works but the size of packets that are published.
const NETWORKS_MAX_SECS: i64 = 60;

/// Time for hosts to join. One that cannot does not keep the others from their roles; it is tried again by the next run.
const JOIN_MAX_SECS: i64 = 120;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::FORM_SWARM,
    steps: &[
        Step::new("init", init).leaving("the swarm that was begun stays"),
        Step::new("networks", networks)
            .leaving("the swarm's networks stay as they are")
            .within(NETWORKS_MAX_SECS, Late::GoOn),
        Step::new(JOIN, join)
            .leaving("hosts that have joined stay in the swarm")
            .within(JOIN_MAX_SECS, Late::GoOn),
        Step::new("nfs", nfs).within(NFS_MAX_SECS, Late::GoOn),
        Step::new("roles", roles).leaving("hosts keep the roles that they have got"),
        Step::new("verify", verify_all),
    ],
};

pub(super) fn init(at: &At) -> Next {
    let Some(environment) = at.environment.as_ref().filter(|_| !at.environment_goes()) else {
        return Next::Turn("the environment is being removed".into());
    };
    if at.hosts.iter().any(|host| host.membership.is_some()) {
        return Next::Done;
    }
    let planted = environment.seed.as_ref().and_then(|seed| at.hosts.iter().find(|host| host.id == *seed));
    match planted.filter(|host| host.removal.is_none()).or_else(|| {
        let ready = by_wish(at.hosts.iter().filter(|host| host.is_ready()));
        // Where it could not be begun is tried last.
        ready.into_iter().min_by_key(|host| !host.join_error.is_empty())
    }) {
        Some(host) if host.is_ready() => {
            let (place, host, name) = (environment.id.clone(), host.id.clone(), host.name.clone());
            Next::Do(match environment.adopted {
                Some(_) => Effect::AdoptSwarm { environment: place, host, name },
                None => Effect::InitSwarm { environment: place, host, name },
            })
        }
        Some(host) => Next::Wait(format!("the swarm was begun on {}, which is not ready", host.name)),
        None => Next::Wait("no host is ready".into()),
    }
}

/// A swarm that was just begun has no service yet that uses the networks that Docker has made. One that has is changed only
/// if somebody asks for it (`update-environment`).
fn networks(at: &At) -> Next {
    let new = |environment: &&Environment| {
        environment.networks.pools.is_some() && environment.networks.made_for.is_none()
    };
    match at.environment.as_ref().filter(new).filter(|_| !at.environment_goes()) {
        Some(environment) => Next::Do(Effect::SetNetworks {
            environment: environment.id.clone(),
            made_for: wanted(environment, &at.hosts),
        }),
        None => Next::Done,
    }
}

pub(super) fn join(at: &At) -> Next {
    let mut managers = managers(at).count();
    let mut joins = vec![];
    for host in by_wish(at.hosts.iter().filter(|host| is_outside(at, host))) {
        let manages = managers < managers_wanted(at) && host.role != WishedRole::Worker;
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

/// Hosts that have joined try out the environment's NFS server; one that cannot use it says so and stays.
pub(super) fn nfs(at: &At) -> Next {
    match &at.environment {
        Some(environment) if unasked(environment, &at.hosts, &at.operation.id).next().is_some() => {
            Next::Do(Effect::ObserveNfs { environment: environment.id.clone() })
        }
        _ => Next::Done,
    }
}

/// May it be taken in? Whoever is held back waits for the network between it and the swarm.
fn is_outside(at: &At, host: &Host) -> bool {
    host.is_ready() && host.membership.is_none() && host.may_join(has_members(at))
}

pub(super) fn roles(at: &At) -> Next {
    let Some(environment) = &at.environment else { return Next::Done };
    match swarm_roles::next(environment, &at.hosts) {
        Roles::Change(host, role, _) => super::set_role(host, role),
        Roles::Settling => Next::Do(Effect::ObserveSwarm { environment: environment.id.clone() }),
        Roles::AsWished => Next::Done,
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

/// As [`verify`]; and whoever was to join and is still outside is named. A host that was away for that moment was not asked
/// to, and is the next run's business.
fn verify_all(at: &At) -> Next {
    let Some(join) = at.operation.steps.iter().find(|step| step.name == JOIN) else { return verify(at) };
    // So is one that came later, or whose network was found good only later.
    let might = |host: &Host| {
        let checked = host.preflight.as_ref().map(|preflight| preflight.at);
        join.ended_at
            .is_some_and(|ended| host.agent.since.max(host.agent.engine_since).max(checked) <= Some(ended))
    };
    let asked = |host: &Host| !(host.join_error.is_empty() && join.message.is_empty());
    let outside = |host: &&Host| is_outside(at, host) && might(host) && asked(host);
    match (verify(at), at.hosts.iter().find(outside)) {
        (Next::Done, Some(host)) => {
            let why = if host.join_error.is_empty() { &join.message } else { &host.join_error };
            Next::Turn(format!("{} could not join: {why}", host.name))
        }
        (next, _) => next,
    }
}

fn managers(at: &At) -> impl Iterator<Item = &Host> {
    at.hosts.iter().filter(|host| host.is_swarm_manager() && host.removal.is_none())
}

fn managers_wanted(at: &At) -> usize {
    at.environment.as_ref().map_or(1, |environment| usize::from(environment.swarm_managers))
}
