//! The door of gRPC as its clients see it: messages in, status, metadata and messages out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(unreachable_pub, reason = "the modules of a test have no outside")]

mod client;
mod contract;
mod health;
mod nouns;
mod refusals;
mod watches;

#[path = "../rest/support.rs"]
#[allow(dead_code, reason = "the door is set up as for REST, and asked otherwise")]
mod support;
