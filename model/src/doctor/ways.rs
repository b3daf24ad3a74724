//! Which host is checked with which. Pairs grow with the square of the hosts; what is checked must not.

/// Up to here every host is checked with every other: 870 ways.
const ALL_PAIRS_HOSTS_MAX: usize = 30;

/// Above, each host is checked with that many that follow it in the list, besides the swarm's managers. Filters differ
/// between groups of hosts, and a ring crosses every border between groups.
const NEIGHBOURS: usize = 5;

/// The ways to check.
#[derive(Debug, PartialEq, Eq)]
pub struct Ways {
    /// For each host, to whom it sends, in order.
    pub targets: Vec<Vec<usize>>,
    /// Every host is checked with every other.
    pub complete: bool,
}

/// Chooses them. Says for each host whether it is a manager of the swarm. Each pair is checked both ways.
pub fn ways(managers: &[bool]) -> Ways {
    let count = managers.len();
    let complete = count <= ALL_PAIRS_HOSTS_MAX;
    let near = |a: usize, b: usize| (b + count - a) % count <= NEIGHBOURS;
    let checked =
        |a: usize, b: usize| a != b && (complete || managers[a] || managers[b] || near(a, b) || near(b, a));
    let targets = (0..count).map(|from| (0..count).filter(|to| checked(from, *to)).collect()).collect();
    Ways { targets, complete }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize, managers: usize) -> Ways {
        ways(&(0..count).map(|at| at < managers).collect::<Vec<_>>())
    }

    #[test]
    fn few_hosts_are_all_checked_with_each_other() {
        assert_eq!(hosts(0, 0), Ways { targets: vec![], complete: true });
        assert_eq!(hosts(3, 1).targets, [vec![1, 2], vec![0, 2], vec![0, 1]]);
        let all = hosts(ALL_PAIRS_HOSTS_MAX, 3);
        assert!(all.complete && all.targets.iter().all(|targets| targets.len() == ALL_PAIRS_HOSTS_MAX - 1));
    }

    #[test]
    fn many_hosts_are_checked_with_the_managers_and_with_their_neighbours_both_ways() {
        let many = hosts(1_000, 3);
        assert!(!many.complete);
        assert_eq!(many.targets[0].len(), 999);
        assert_eq!(many.targets[500], [0, 1, 2, 495, 496, 497, 498, 499, 501, 502, 503, 504, 505]);
        assert!(many.targets[999].contains(&3) && many.targets[3].contains(&999));
        for (from, targets) in many.targets.iter().enumerate() {
            assert!(targets.iter().all(|to| many.targets[*to].contains(&from)), "{from}");
        }
    }
}
