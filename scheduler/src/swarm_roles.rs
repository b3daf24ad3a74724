//! Which of a swarm's nodes should be its managers: one change at a time, towards what is wished.
//!
//! ```text
//!   one was given up        ─► demote it, if another host can take its place
//!   too few managers        ─► promote the best host
//!   as many as wanted       ─► promote a better one than the worst: of a better wished role, or where fewer managers are
//!                              (spread); the worst is one too many then
//!   too many                ─► demote the worst, once enough others do their part
//! ```
//! One more is promoted before one is demoted, so the swarm never has fewer managers that do their part than it should on
//! the way. One that was given up does none, and goes first: with it, one that is promoted and does not get up at once would
//! be the second of four that is missing, and so the quorum. Every exchange makes the roles strictly better, so they come to
//! rest.

use std::cmp::{Ordering, Reverse};

use jiff::{SignedDuration, Timestamp};
use skep_model::environment::Environment;
use skep_model::host::{Host, Role, WishedRole};

/// How the roles of a swarm's nodes are.
#[derive(Debug)]
pub(crate) enum Roles<'a> {
    /// As wished, or as near to it as the present nodes allow.
    AsWished,
    /// This host should have this role, because of that.
    Change(&'a Host, Role, String),
    /// One manager too many, but one of them does not do its part yet and the others would be missed.
    Settling,
}

/// What is next.
///
/// Managers are counted as members, whether they can be seen or not: one that is down for a while is still one, until it
/// is given up ([`lost_manager`]), and so is one that has left for a moment to join anew.
pub(crate) fn next<'a>(environment: &Environment, hosts: &'a [Host]) -> Roles<'a> {
    let wanted = usize::from(environment.swarm_managers);
    let board = Board::of(environment, hosts);
    if let Some((lost, why)) = board.replaceable().filter(|_| board.count() <= wanted) {
        return Roles::Change(lost, Role::Worker, why);
    }
    match board.count().cmp(&wanted) {
        Ordering::Less => match board.heir() {
            Some(heir) => {
                let why = format!("the swarm has {} of {wanted} managers", board.count());
                Roles::Change(heir, Role::Manager, why)
            }
            None => Roles::AsWished,
        },
        Ordering::Equal => match board.exchange() {
            Some((heir, why)) => Roles::Change(heir, Role::Manager, why),
            None => Roles::AsWished,
        },
        Ordering::Greater => board.demotion(wanted),
    }
}

/// A manager that has been down for longer than the environment is patient and in whose place another host could be
/// promoted, and since when it is down.
///
/// Only while the swarm's managers can agree and most hosts are well: if most are not, it is the network or this cluster
/// that is ill, and moving managers about would help nobody.
pub(crate) fn lost_manager<'a>(
    environment: &Environment,
    hosts: &'a [Host],
    now: Timestamp,
) -> Option<(&'a Host, Timestamp)> {
    let patience = SignedDuration::from_secs(environment.upkeep.manager_patience_secs.into());
    let board = Board::of(environment, hosts);
    if patience.is_zero() || !can_agree(environment, hosts) || !most_are_well(hosts) {
        return None;
    }
    board.heir()?;
    let down = board.managers.iter().filter_map(|host| Some((*host, host.down_since()?)));
    down.filter(|(host, since)| !host.is_given_up() && *since + patience <= now)
        .min_by_key(|(_, since)| *since)
}

/// The order in which hosts that are not in the swarm should become managers; whoever was one has a place.
pub(crate) fn by_wish<'a>(hosts: impl Iterator<Item = &'a Host>) -> Vec<&'a Host> {
    let mut hosts: Vec<_> = hosts.collect();
    hosts.sort_by_key(|host| (host.role, !host.has_seat()));
    hosts
}

/// Are more than half of the hosts that were ever there doing their part?
pub(crate) fn most_are_well(hosts: &[Host]) -> bool {
    let known = || hosts.iter().filter(|host| host.was_ready && host.removal.is_none());
    2 * known().filter(|host| host.is_active()).count() > known().count()
}

/// Can the swarm's managers agree on a change, as far as is known?
fn can_agree(environment: &Environment, hosts: &[Host]) -> bool {
    let managers = || hosts.iter().filter(|host| host.is_swarm_manager());
    let there = managers().filter(|host| host.answers()).count();
    let quorum_lost = environment.swarm.as_ref().is_none_or(|swarm| swarm.quorum_lost.is_some());
    !quorum_lost && 2 * there > managers().count()
}

/// Managers, and hosts that could become one.
struct Board<'a> {
    managers: Vec<&'a Host>,
    /// Places that are kept for managers that have left to join anew.
    seats: usize,
    heirs: Vec<&'a Host>,
    label: Option<String>,
    may_replace: bool,
}

impl<'a> Board<'a> {
    fn of(environment: &Environment, hosts: &'a [Host]) -> Board<'a> {
        let manages = |host: &&Host| host.is_swarm_manager() && host.removal.is_none();
        let may_manage = |host: &&Host| {
            host.is_active() && !host.is_swarm_manager() && !host.leaves() && host.role != WishedRole::Worker
        };
        Board {
            managers: hosts.iter().filter(manages).collect(),
            seats: hosts.iter().filter(|host| host.has_seat()).count(),
            heirs: hosts.iter().filter(may_manage).collect(),
            label: environment.spread_over.clone(),
            may_replace: can_agree(environment, hosts) && most_are_well(hosts),
        }
    }

    /// How many managers there are, those included that are back in a moment.
    fn count(&self) -> usize {
        self.managers.len() + self.seats
    }

    /// The best host that is no manager.
    fn heir(&self) -> Option<&'a Host> {
        self.heirs.iter().copied().min_by_key(|host| (host.role, crowd(&self.label, &self.managers, host)))
    }

    /// A manager that was given up and in whose place another one can be promoted, and why.
    fn replaceable(&self) -> Option<(&'a Host, String)> {
        let lost = self.managers.iter().find(|host| host.is_given_up() && self.may_replace)?;
        let heir = self.heir()?;
        Some((lost, format!("it is {}, and {} takes its place", lost.state().word, heir.name)))
    }

    /// The host that should become a manager although there are enough, and why.
    fn exchange(&self) -> Option<(&'a Host, String)> {
        let heir = self.heir()?;
        let mut with_heir = self.managers.clone();
        with_heir.push(heir);
        let merit = |host: &Host| (host.role, crowd(&self.label, &with_heir, host));
        let worst = self.worst(&with_heir)?;
        if worst.role > heir.role {
            return Some((heir, format!("it is rather meant to be one than {}", worst.name)));
        }
        // Where a manager is down for a moment, only the wished roles are worth an exchange.
        if merit(worst) > merit(heir) && self.managers.iter().all(|host| host.is_active()) {
            let label = self.label.as_deref().unwrap_or_default();
            return Some((
                heir,
                format!("managers are spread over {label}, and where {} is there are more", worst.name),
            ));
        }
        None
    }

    /// One manager too many goes: first one that does not answer, then the worst of the others, as soon as it is not
    /// missed.
    fn demotion(&self, wanted: usize) -> Roles<'a> {
        let managers = &self.managers;
        let first = |is: fn(&Host) -> bool| managers.iter().copied().find(|host| is(host));
        if let Some(gone) = first(Host::is_given_up).or_else(|| first(|host| !host.answers())) {
            let enough = managers.iter().filter(|host| host.is_active()).count() * 2 > managers.len() - 1;
            let why = format!("{} others do their part and it is {}", managers.len() - 1, gone.state().word);
            return if enough { Roles::Change(gone, Role::Worker, why) } else { Roles::AsWished };
        }
        match (first(|host| !host.is_active()), self.worst(managers)) {
            (Some(_), _) => Roles::Settling,
            (None, Some(worst)) => {
                let why = format!("the swarm has {} managers and should have {wanted}", self.count());
                Roles::Change(worst, Role::Worker, why)
            }
            (None, None) => Roles::AsWished,
        }
    }

    /// The leader last: the others would have to elect a new one.
    fn worst(&self, managers: &[&'a Host]) -> Option<&'a Host> {
        let leads = |host: &Host| host.membership.as_ref().is_some_and(|node| node.leader);
        let key = |(at, host): &(usize, &Host)| {
            (host.role, crowd(&self.label, managers, host), Reverse(leads(host)), *at)
        };
        managers.iter().copied().enumerate().max_by_key(key).map(|(_, host)| host)
    }
}

/// How many of the managers that count have the host's value of the label. Hosts without the label have one value in
/// common: nobody knows that they are apart.
fn crowd(label: &Option<String>, managers: &[&Host], host: &Host) -> usize {
    let Some(label) = label else { return 0 };
    let value = |host: &Host| host.placement.labels.get(label).cloned();
    let mine = value(host);
    managers.iter().filter(|manager| !manager.is_given_up() && value(manager) == mine).count()
}

#[cfg(test)]
#[path = "swarm_roles_tests.rs"]
mod tests;
