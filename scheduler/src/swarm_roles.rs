//! Which of a swarm's nodes should be its managers: one change at a time, towards what is wished.
//!
//! One more is promoted before one is demoted, so the swarm never has fewer managers than it should on the way.

use std::cmp::Ordering;

use skep_model::host::{Host, Role, WishedRole};

/// The next change of a node's role; none if roles are as wished, or as near to it as the present nodes allow.
///
/// Managers are counted as members, whether they can be seen or not: one that is down for a while is still one.
pub(crate) fn next_change(hosts: &[Host], wanted: usize) -> Option<(&Host, Role)> {
    let managers = || hosts.iter().filter(|host| host.is_swarm_manager() && host.removal.is_none());
    let leads = |host: &Host| host.membership.as_ref().is_some_and(|node| node.leader);
    let heir = hosts
        .iter()
        .filter(|host| host.is_active() && !host.is_swarm_manager() && host.role != WishedRole::Worker)
        .min_by_key(|host| host.role);
    // The leader last: the others would have to elect a new one.
    let surplus = managers().enumerate().max_by_key(|(at, host)| (host.role, !leads(host), *at));
    let surplus = surplus.map(|(_, host)| host);
    match managers().count().cmp(&wanted) {
        Ordering::Less => heir.map(|host| (host, Role::Manager)),
        Ordering::Greater => surplus.map(|host| (host, Role::Worker)),
        Ordering::Equal => {
            let better = |heir: &&Host| surplus.is_some_and(|surplus| heir.role < surplus.role);
            heir.filter(better).map(|host| (host, Role::Manager))
        }
    }
}

/// The order in which hosts that are not in the swarm yet should become managers.
pub(crate) fn by_wish<'a>(hosts: impl Iterator<Item = &'a Host>) -> Vec<&'a Host> {
    let mut hosts: Vec<_> = hosts.collect();
    hosts.sort_by_key(|host| host.role);
    hosts
}
