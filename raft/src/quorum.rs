//! Which change of the voters leaves a cluster that can still agree: pure, so that every case can be tried.
//!
//! A change of the voters is itself agreed on by the voters before and after it. One that leaves too few reachable
//! voters would never end, and nothing after it would be agreed on either; so it is refused before it begins.

/// A voter, and whether it answers at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Voter {
    pub(crate) id: u64,
    pub(crate) reachable: bool,
}

/// Fewest voters that an automatic removal may leave: with two, the next loss stops the cluster.
pub const VOTERS_AFTER_CLEANUP_MIN: usize = 3;

/// How many of this many voters must agree.
pub(crate) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// May this voter go? The reason, if not.
pub(crate) fn may_leave(voters: &[Voter], gone: u64) -> Result<(), String> {
    let rest: Vec<_> = voters.iter().filter(|voter| voter.id != gone).collect();
    let reachable = rest.iter().filter(|voter| voter.reachable).count();
    let needed = quorum(rest.len());
    match rest.len() {
        0 => Err("it is the only manager that votes: nobody would be left who knows the state".into()),
        _ if reachable < needed => Err(format!(
            "{} voters would be left, of which {needed} must agree, but only {reachable} can be reached",
            rest.len()
        )),
        _ => Ok(()),
    }
}

/// May these, all reachable, vote from now on? The reason, if not.
pub(crate) fn may_vote(voters: &[Voter], more: usize) -> Result<(), String> {
    let reachable = voters.iter().filter(|voter| voter.reachable).count() + more;
    let needed = quorum(voters.len() + more);
    match reachable >= needed {
        true => Ok(()),
        false => Err(format!(
            "there would be {} voters, of which {needed} must agree, but only {reachable} can be reached",
            voters.len() + more
        )),
    }
}

/// May this voter, which has been unreachable for long, be removed by itself? Only if enough voters stay, and one
/// more of them may fail: an automatism must not use up the last reserve.
pub(crate) fn may_be_cleaned_up(voters: &[Voter], dead: u64) -> bool {
    let rest: Vec<_> = voters.iter().filter(|voter| voter.id != dead).collect();
    let reachable = rest.iter().filter(|voter| voter.reachable).count();
    rest.len() >= VOTERS_AFTER_CLEANUP_MIN && reachable > quorum(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"++-"`: three voters, of which the third is unreachable.
    fn voters(text: &str) -> Vec<Voter> {
        (1..).zip(text.chars()).map(|(id, sign)| Voter { id, reachable: sign == '+' }).collect()
    }

    #[test]
    fn a_voter_may_leave_if_the_others_can_agree_without_it() {
        for (who, gone, allowed) in [
            ("+", 1, false),
            ("++", 1, true),
            ("+-", 1, false),
            ("+-", 2, true),
            ("+++", 1, true),
            ("++-", 3, true),
            ("++-", 1, false),
            ("+--", 3, false),
            ("+++++", 5, true),
            ("+++--", 5, true),
            ("+++--", 1, false),
            ("++---", 5, false),
        ] {
            assert_eq!(may_leave(&voters(who), gone).is_ok(), allowed, "{who} without {gone}");
        }
    }

    #[test]
    fn the_reason_names_the_numbers() {
        let reason = may_leave(&voters("++-"), 1).expect_err("is refused");
        assert_eq!(reason, "2 voters would be left, of which 2 must agree, but only 1 can be reached");
    }

    #[test]
    fn more_voters_must_not_need_more_than_can_be_reached() {
        for (who, more, allowed) in [
            ("+", 1, true),
            ("+", 2, true),
            ("++-", 1, true),
            ("+--", 1, false),
            ("+--", 2, true),
            ("++---", 1, false),
        ] {
            assert_eq!(may_vote(&voters(who), more).is_ok(), allowed, "{who} and {more} more");
        }
    }

    #[test]
    fn cleaning_up_leaves_three_voters_and_a_reserve() {
        for (who, dead, allowed) in [
            ("++-", 3, false),
            ("+++-", 4, true),
            ("++--", 4, false),
            ("++++-", 5, true),
            ("+++--", 5, false),
            ("+++++-", 6, true),
            ("++++--", 6, true),
            ("+++---", 6, false),
        ] {
            assert_eq!(may_be_cleaned_up(&voters(who), dead), allowed, "{who} without {dead}");
        }
    }
}
