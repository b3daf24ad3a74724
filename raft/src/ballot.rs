//! The vote that this replica stands by, for those who must know it at once.
//!
//! openraft tells of its vote in its metrics, but a little later. Here it is as soon as a later one begins to be saved,
//! which is before anybody hears of it: so whoever reads here that this replica follows a leader knows that it has
//! promised nothing to a later one.

use std::sync::{Arc, Mutex, PoisonError};

use skep_ledger::Term;

use crate::types::Vote;

/// The newest vote. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Ballot(Arc<Mutex<Option<Vote>>>);

impl Ballot {
    pub(crate) fn cast(&self, vote: Option<Vote>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = vote;
    }

    /// The term in which this replica follows `leader`, who may be this replica itself; none if it follows another one,
    /// or nobody.
    pub(crate) fn follows(&self, leader: u64) -> Option<Term> {
        let vote = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        vote.filter(|vote| vote.committed && vote.leader_id.voted_for == leader)
            .map(|vote| vote.leader_id.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_established_leader_is_followed() {
        let ballot = Ballot::default();
        assert_eq!(ballot.follows(1), None);
        ballot.cast(Some(Vote::new(3, 1)));
        assert_eq!(ballot.follows(1), None, "it is only a candidate");
        ballot.cast(Some(Vote::new_committed(3, 1)));
        assert_eq!((ballot.follows(1), ballot.follows(2)), (Some(3), None));
        ballot.cast(Some(Vote::new(4, 2)));
        assert_eq!(ballot.follows(1), None, "somebody else may lead by now");
    }
}
