//! Fits openraft to our storage and network, and is the replicated [`Ledger`](skep_ledger::Ledger).
//!
//! ```text
//!   Replica::propose ─► leader? ─yes─► Gathering ─► openraft ─► Store (log) ─► quorum ─► apply ─► Store (state), Feed
//!                          └─no──► gRPC Propose to the leader
//!   Replica::fresh_view ─► read index from the leader ─► wait until applied here ─► RocksDB snapshot
//! ```
//!
//! Everything that knows an openraft type is in this crate. What the bytes of a transaction mean is decided by
//! `skep_ledger::apply`; where they lie, by `skep-storage`.

mod backup;
mod ballot;
mod codec;
#[cfg(test)]
mod conformance;
mod digest;
mod digests;
mod epoch;
mod founding;
mod gathering;
mod growth;
mod leadership;
mod log_store;
mod members;
mod network;
mod pacing;
mod pending;
mod proposing;
mod quorum;
mod read_index;
mod recovery;
mod replica;
mod service;
mod snapshots;
mod state_machine;
mod status;
mod types;
mod vitals;

pub use skep_storage::Distribution;

pub use crate::backup::{Export, Restoration, RestoreError, RestorePoint};
pub use crate::epoch::EpochGuard;
pub use crate::members::{ChangeError, Member, Members, prepare};
pub use crate::quorum::VOTERS_AFTER_CLEANUP_MIN;
pub use crate::recovery::{Findings, FoundMember, RecoverError, Recovered, inspect, recover};
pub use crate::replica::{Replica, ReplicaConfig, SnapshotError, StartError, Timing};
pub use crate::service::RaftService;
pub use crate::status::{ClusterStatus, MemberStatus};
pub use crate::types::ManagerNode;
pub use crate::vitals::{PeerVitals, STATES, Vitals};
