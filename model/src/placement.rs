//! What people wish for a host's node in the swarm: whether it takes tasks, and its labels.
//!
//! A wish is kept with the host and applied to its node by an operation. A node that joins later, or again, gets it
//! then; what others write into the swarm beside it stays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_ledger::Tx;

use crate::environment::Environment;
use crate::host::{self, Host};
use crate::ids::{EnvironmentId, HostId, OperationId};
use crate::operation::{self, Operation, workflow};
use crate::{Refusal, Ruling};

/// Labels of one host; Docker has no bound of its own, and each is sent to every swarm manager.
pub const LABELS_PER_HOST_MAX: usize = 64;

/// The longest key of a label.
const KEY_BYTES_MAX: usize = 128;

/// The longest value of a label.
const VALUE_BYTES_MAX: usize = 256;

/// Docker keeps these for itself, and Skep those of its own name.
const RESERVED: &[&str] = &["com.docker.", "io.docker.", "org.dockerproject.", "skep."];

/// Which tasks a node takes, in Docker's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Takes tasks.
    #[default]
    Active,
    /// Keeps its tasks and takes no more: cordoned.
    Pause,
    /// Takes no tasks and gives those away that it has: evacuated.
    Drain,
}

/// The wish for one host's node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Which tasks it takes.
    pub availability: Availability,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Raised by every change.
    pub generation: u64,
    /// The generation that its node has; zero for one that has joined since.
    pub applied: u64,
    /// What its node took before Skep drained it for a while. Written before that is done, and gone once the node takes it
    /// again.
    #[serde(default)]
    pub kept: Option<Availability>,
    /// The keys that were written into the swarm, so that a label that is not wished any more can be found there.
    pub written: Vec<String>,
}

/// What is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Which tasks it takes.
    Availability(Availability),
    /// Labels to set, and those without a value to remove.
    Labels(BTreeMap<String, Option<String>>),
}

impl Placement {
    /// Is there anything that its node does not have yet?
    pub fn outstanding(&self) -> bool {
        self.applied != self.generation
    }

    pub(crate) fn change(&mut self, change: &Change) -> Ruling<()> {
        match change {
            Change::Availability(availability) => self.availability = *availability,
            Change::Labels(labels) => {
                for (key, value) in labels {
                    check(key, value.as_deref())?;
                    match value {
                        Some(value) => drop(self.labels.insert(key.clone(), value.clone())),
                        None => drop(self.labels.remove(key)),
                    }
                }
            }
        }
        if self.labels.len() > LABELS_PER_HOST_MAX {
            return Err(Refusal::TooMany { what: "labels on a host", limit: LABELS_PER_HOST_MAX });
        }
        self.generation += 1;
        Ok(())
    }
}

/// Wishes something for a host's node; the operation applies it.
pub fn wish(
    tx: &mut Tx<'_>,
    environment: &Environment,
    reference: &str,
    change: &Change,
    id: OperationId,
) -> Ruling<Operation> {
    environment.check_awake()?;
    let mut host = host::staying(tx, environment, reference)?;
    host.placement.change(change)?;
    host.evacuated = false;
    tx.put(&host);
    operation::start(tx, id, workflow::UPDATE_HOST, host::subject(&host), Some(environment), None)
}

/// Notes what a host's node takes, before it is drained for a while. What was noted before is not forgotten.
pub fn keep(tx: &mut Tx<'_>, environment: &EnvironmentId, host: &HostId) -> Ruling<()> {
    let Some(mut stored) = tx.get::<Host>(environment.as_str(), host.as_str())? else {
        return Ok(());
    };
    let host = &mut stored.record;
    let takes = host.membership.as_ref().map(|node| node.availability);
    if let (None, Some(takes @ (Availability::Active | Availability::Pause))) = (host.placement.kept, takes) {
        host.placement.kept = Some(takes);
        tx.put(host);
    }
    Ok(())
}

/// Refuses what cannot be the key of a label.
pub(crate) fn check_key(key: &str) -> Ruling<()> {
    let refused = |allowed: String| {
        Err(Refusal::InvalidValue { what: "the key of a label", value: format!("'{key}'"), allowed })
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.chars().all(fits) {
        return refused(format!("use 1 to {KEY_BYTES_MAX} of a-z, A-Z, 0-9 and ._-/"));
    }
    if let Some(reserved) = RESERVED.iter().find(|reserved| key.starts_with(**reserved)) {
        return refused(format!("keys that begin with '{reserved}' are reserved"));
    }
    Ok(())
}

fn check(key: &str, value: Option<&str>) -> Ruling<()> {
    check_key(key)?;
    match value.filter(|value| value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control)) {
        None => Ok(()),
        Some(value) => Err(Refusal::InvalidValue {
            what: "the value of a label",
            value: format!("'{}'", value.escape_debug()),
            allowed: format!("use at most {VALUE_BYTES_MAX} bytes without control characters"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, Option<&str>)]) -> Change {
        let pair = |(key, value): &(&str, Option<&str>)| ((*key).to_owned(), value.map(str::to_owned));
        Change::Labels(pairs.iter().map(pair).collect())
    }

    #[test]
    fn labels_are_set_and_removed_and_each_change_is_a_generation() {
        let mut wished = Placement::default();
        assert!(!wished.outstanding());
        wished.change(&labels(&[("rack", Some("b")), ("zone", Some("1"))])).expect("is fine");
        wished.change(&labels(&[("zone", None), ("absent", None)])).expect("is fine");
        assert_eq!(wished.labels.into_iter().collect::<Vec<_>>(), [("rack".into(), "b".into())]);
        assert_eq!((wished.generation, wished.applied), (2, 0));
    }

    #[test]
    fn what_cannot_be_a_label_is_refused_with_what_can() {
        for (key, value, said) in [
            ("", Some("x"), "use 1 to 128"),
            ("with space", Some("x"), "'with space'"),
            ("skep.builder", Some("x"), "reserved"),
            ("com.docker.thing", None, "reserved"),
            ("rack", Some("line\nbreak"), "control characters"),
        ] {
            let mut wished = Placement::default();
            let refused = wished.change(&labels(&[(key, value)])).expect_err("is refused").to_string();
            assert!(refused.contains(said), "{refused}");
            assert_eq!(wished.generation, 0, "nothing is changed");
        }
    }
}
