//! The REST door as its clients see it: requests in, status, headers and JSON out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(unreachable_pub, reason = "the modules of a test have no outside")]

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
