//! Is this manager cut off from the others, for so long that its agents had better look for them? Pure.
//!
//! Whoever is cut off is of no use to its agents: for the others they are silent, and what they report is not written
//! down.

use std::time::Duration;

use tokio::time::Instant;

/// Since when no quorum of the managers has been reached from here.
#[derive(Debug, Default)]
pub(crate) struct Solitude {
    since: Option<Instant>,
}

impl Solitude {
    /// Takes down a look: was a quorum reached, or is there nobody else to reach? Says whether the agents are to be sent
    /// away; they find their way back if there is no better one, and are sent away again no earlier than `patience` later.
    pub(crate) fn looked(&mut self, in_company: bool, now: Instant, patience: Duration) -> bool {
        if in_company {
            self.since = None;
            return false;
        }
        let alone = now.duration_since(*self.since.get_or_insert(now)) > patience;
        if alone {
            self.since = None;
        }
        alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    /// What is answered to looks at these seconds, each with or without a quorum.
    fn answers(looks: &[(u64, bool)]) -> Vec<bool> {
        let (mut solitude, begun) = (Solitude::default(), Instant::now());
        let look = |(second, in_company): &(u64, bool)| {
            solitude.looked(*in_company, begun + Duration::from_secs(*second), PATIENCE)
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn agents_are_sent_away_by_whoever_is_cut_off_for_longer_than_a_hiccup() {
        assert_eq!(
            answers(&[(0, false), (10, false), (15, false), (16, false)]),
            [false, false, false, true]
        );
        assert_eq!(
            answers(&[(0, false), (14, true), (16, false), (30, false)]),
            [false; 4],
            "it was not alone in between"
        );
    }

    #[test]
    fn agents_that_came_back_for_want_of_a_better_manager_are_not_sent_away_at_once() {
        let looks = [(0, false), (20, false), (25, false), (39, false), (41, false)];
        assert_eq!(answers(&looks), [false, true, false, false, true]);
    }
}
