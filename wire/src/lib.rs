//! What Skep's own processes say to each other, and how they know who is speaking.
//!
//! Managers talk gRPC among themselves; an agent dials a manager and both open streams on that one
//! connection. All of it is TLS with certificates of the cluster's own authority. This crate holds
//! the messages, the certificates and the links; what to say is decided elsewhere.

pub mod accept;
pub mod channels;
pub mod frames;
pub mod framing;
pub mod mux;
pub mod pki;
pub mod proto;
pub mod random;
pub mod snapshot;
pub mod statistics;

/// The code of a registration's refusal that only means "not now": the agent asks again.
pub const REGISTER_UNAVAILABLE: &str = "UNAVAILABLE";

/// How often an agent reports: often enough that three lost reports still end a dead link soon.
pub const HEARTBEAT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// Silence after which either end of an agent's link gives the link up: three heartbeats.
pub const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(15);
