//! Has a swarm lost its quorum, or is it only choosing a leader? Pure.

use skep_model::host::Host;

/// So often in a row a swarm must say that it has no leader, although enough of its managers are there: an election, or
/// managers that do not reach each other. Looks come every few seconds then, and Docker's elections take up to 15 s.
pub(super) const LEADERLESS_LOOKS_MAX: u32 = 6;

/// Is the quorum lost, after the swarm has said `leaderless` times in a row that it has no leader?
pub(super) fn is_lost<'a>(hosts: impl Iterator<Item = &'a Host>, leaderless: u32) -> bool {
    let managers: Vec<&Host> = hosts.filter(|host| host.is_swarm_manager()).collect();
    let there = managers.iter().filter(|host| host.answers()).count();
    let too_few = there <= managers.len() / 2;
    (leaderless > 0 && too_few) || leaderless >= LEADERLESS_LOOKS_MAX
}
