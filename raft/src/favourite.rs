//! Which follower makes a quorum together with the leader, where one is enough.
//!
//! Of three voters, the leader and one follower decide. Then the other one need not be sent every entry by itself: if it
//! gets several together, it syncs once for all of them, and so does its disk, its processor and the leader's. Known as
//! "thrifty" operation (Moraru, Andersen, Kaminsky: There Is More Consensus in Egalitarian Parliaments, SOSP 2013).
//!
//! The favourite is whoever acknowledged the newest entry first. One that becomes slow is overtaken by the other, which
//! gets the same entries a little later (see [`crate::pacing`]), and so loses its place by itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The choice, as one leader makes it. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Favourite(Arc<Mutex<Choice>>);

#[derive(Default)]
struct Choice {
    /// The followers, if any one of them is enough; otherwise none.
    followers: BTreeSet<u64>,
    /// Who acknowledged first the newest entry that anybody has acknowledged.
    chosen: Option<u64>,
    /// That entry.
    acknowledged: u64,
}

impl Favourite {
    /// Begins anew: `leader` leads these voters, or nobody is led from here.
    pub(crate) fn among(&self, voters: Option<&BTreeSet<u64>>, leader: u64) {
        let followers = voters.filter(|voters| voters.len() == 3 && voters.contains(&leader));
        let followers = followers.into_iter().flatten().copied().filter(|voter| *voter != leader).collect();
        *self.choice() = Choice { followers, ..Choice::default() };
    }

    /// The log of `follower` is durable up to `index`.
    pub(crate) fn acknowledged(&self, follower: u64, index: u64) {
        let mut choice = self.choice();
        if index > choice.acknowledged && choice.followers.contains(&follower) {
            choice.acknowledged = index;
            choice.chosen = Some(follower);
        }
    }

    /// Is another one enough, and known to answer?
    pub(crate) fn spares(&self, follower: u64) -> bool {
        let choice = self.choice();
        choice.followers.contains(&follower) && choice.chosen.is_some_and(|chosen| chosen != follower)
    }

    fn choice(&self) -> std::sync::MutexGuard<'_, Choice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: u64 = 1;

    fn three() -> Favourite {
        let favourite = Favourite::default();
        favourite.among(Some(&BTreeSet::from([1, 2, 3])), LEADER);
        favourite
    }

    #[test]
    fn whoever_acknowledges_first_spares_the_other() {
        let favourite = three();
        assert!(!favourite.spares(2) && !favourite.spares(3), "nobody is known to answer yet");
        favourite.acknowledged(3, 7);
        assert!(favourite.spares(2) && !favourite.spares(3));
        favourite.acknowledged(2, 7);
        assert!(favourite.spares(2), "it was second");
        favourite.acknowledged(2, 8);
        assert!(!favourite.spares(2) && favourite.spares(3), "it was first with the next");
    }

    #[test]
    fn a_larger_quorum_or_a_learner_spares_nobody() {
        let favourite = three();
        favourite.acknowledged(3, 7);
        assert!(!favourite.spares(4), "a learner");
        favourite.among(Some(&BTreeSet::from([1, 2, 3, 4, 5])), LEADER);
        favourite.acknowledged(3, 8);
        assert!((2..=5).all(|follower| !favourite.spares(follower)));
    }

    #[test]
    fn a_new_term_begins_anew() {
        let favourite = three();
        favourite.acknowledged(3, 70);
        favourite.among(Some(&BTreeSet::from([1, 2, 3])), LEADER);
        assert!(!favourite.spares(2));
        favourite.acknowledged(2, 8);
        assert!(favourite.spares(3), "what an earlier log held does not count");
    }
}
