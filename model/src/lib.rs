//! The nouns of Skep and the rules about them.
//!
//! A rule is a plain function on a transaction, `fn(&mut Tx, …) -> Result<…, Refusal>`: it reads, decides and says
//! what to write; it has no clock, no randomness and no I/O, so it can be tried on a thousand states in a test.
//! Ids are minted by the caller before the rule runs, because a rule may be decided several times.
//!
//! Who writes what: people write wishes (`spec`, `removal`), agents and drivers write facts (`machine`, `agent`,
//! `swarm`), the scheduler writes decisions ([`operation`]). No field has two authors.

pub mod access;
pub mod audit;
pub mod balance;
pub mod differences;
pub mod doctor;
pub mod environment;
pub mod fact;
pub mod health;
pub mod host;
mod host_state;
pub mod ids;
pub mod manager;
pub mod name;
pub mod networks;
pub mod nfs;
pub mod operation;
pub mod options;
pub mod placement;
pub mod preflight;
pub mod recipe;
pub mod refusal;
pub mod registry;
pub mod resource;
pub mod sans;
pub mod sealed;
pub mod snapshot;
pub mod stack;
pub mod subnet;
pub mod swarm_keys;
pub mod swarm_state;
pub mod template;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token_terms;
pub mod upgrade;
pub mod upkeep;

/// The partition of everything that belongs to no environment.
pub const CLUSTER: &str = "cluster";

pub use refusal::Refusal;

/// What every rule answers.
pub type Ruling<T> = Result<T, Refusal>;
