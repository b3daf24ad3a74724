//! The REST door as its clients see it: requests in, status, headers and JSON out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(unreachable_pub, reason = "the modules of a test have no outside")]

/// What a ledger leaves to the one in its field `ledger` that differs from it only when something is proposed or read anew.
macro_rules! like_its_ledger {
    () => {
        fn view(&self) -> skep_ledger::View {
            self.ledger.view()
        }
        fn feed(&self) -> &skep_ledger::Feed {
            self.ledger.feed()
        }
        fn now(&self) -> jiff::Timestamp {
            self.ledger.now()
        }
    };
}

mod access;
mod audit;
mod browsers;
mod changes;
mod crowds;
mod devices;
mod diagnoses;
mod documents;
mod engines;
mod events;
mod freshness;
mod leaderless;
mod limits;
mod lists;
mod managers;
mod metrics;
mod operations;
mod orphans;
mod planted;
mod preconditions;
mod probes;
mod reads;
mod roles;
mod secrets;
mod setup;
mod snapshots;
mod statistics;
mod stream;
mod strict;
mod support;
