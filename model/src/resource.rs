//! The cloud ledger: what Skep is about to make, has made, or is giving back, outside of itself.
//!
//! A row is written before the driver is called and deleted after the driver said that nothing is left. So whatever
//! carries our tag and has no row here is an orphan, and whatever has no tag of ours is never touched.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx};

use crate::ids::{EnvironmentId, HostId};
use crate::{CLUSTER, Ruling};

/// One machine that exists, or may exist, because of Skep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudResource {
    /// The tag by which the driver finds it again.
    pub host: HostId,
    /// Whose it is.
    pub environment: EnvironmentId,
    /// Who can find and release it.
    pub driver: String,
    /// When the call was about to be made.
    pub intended_at: Timestamp,
    /// The driver's own name for it, once it is known to exist.
    pub machine: Option<String>,
}

impl Record for CloudResource {
    const TABLE: &'static str = "cloud-resource";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.host.to_string()
    }
}

/// Notes that a machine is about to be asked for. Noting it again is fine.
pub fn intend(tx: &mut Tx<'_>, host: &HostId, environment: &EnvironmentId, driver: &str) -> Ruling<()> {
    if tx.get::<CloudResource>(CLUSTER, host.as_str())?.is_none() {
        let intended_at = tx.now();
        tx.put(&CloudResource {
            host: host.clone(),
            environment: environment.clone(),
            driver: driver.to_owned(),
            intended_at,
            machine: None,
        });
    }
    Ok(())
}

/// Notes the driver's answer.
pub fn made(tx: &mut Tx<'_>, host: &HostId, machine: &str) -> Ruling<()> {
    if let Some(mut stored) = tx.get::<CloudResource>(CLUSTER, host.as_str())? {
        stored.record.machine = Some(machine.to_owned());
        tx.put(&stored.record);
    }
    Ok(())
}

/// Notes that the driver found nothing left.
pub fn released(tx: &mut Tx<'_>, host: &HostId) {
    tx.delete::<CloudResource>(CLUSTER, host.as_str());
}
