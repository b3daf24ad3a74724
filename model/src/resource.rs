//! The cloud ledger: what Skep is about to make, has made, or is giving back, outside of itself.
//!
//! A row is written before the driver is called and deleted after the driver said that nothing is left. So whatever
//! carries our tag and has no row here is an orphan, and whatever has no tag of ours is never touched.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use crate::ids::{EnvironmentId, HostId};
use crate::operation::Subject;
use crate::{CLUSTER, Ruling, host};

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
    /// Its host is gone, and it could not be given back; a planner goes on trying.
    #[serde(default)]
    pub left: Option<LeftBehind>,
}

/// What is still known of a machine whose host and environment are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// The host's name.
    pub name: String,
    /// The environment's name.
    pub environment: String,
    /// Since when.
    pub since: Timestamp,
    /// Why it could not be given back.
    pub why: String,
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
            left: None,
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

/// A machine that was left behind as the subject of an operation.
pub fn subject(row: &CloudResource, left: &LeftBehind) -> Subject {
    Subject::new("machine", &row.host, format!("{}/{}", left.environment, left.name))
}

/// Notes that its host goes without it.
pub fn leave(tx: &mut Tx<'_>, host: &HostId, name: &str, environment: &str, why: &str) -> Ruling<()> {
    if let Some(mut stored) = tx.get::<CloudResource>(CLUSTER, host.as_str())? {
        let (name, environment, why) = (name.to_owned(), environment.to_owned(), why.to_owned());
        stored.record.left = Some(LeftBehind { name, environment, since: tx.now(), why });
        tx.put(&stored.record);
    }
    Ok(())
}

/// Notes that the driver found nothing left.
pub fn released(tx: &mut Tx<'_>, host: &HostId) {
    tx.delete::<CloudResource>(CLUSTER, host.as_str());
}

/// Does nobody know a machine with this tag? If somebody does, says who.
///
/// A host that exists counts as well: between two machines of it there is no row. Ids are minted once, so that a tag
/// without row and host stays one.
pub fn orphaned(view: &View, tag: &str) -> Ruling<Result<(), String>> {
    if let Some(row) = view.get::<CloudResource>(CLUSTER, tag)? {
        return Ok(Err(format!("the cloud ledger has it, for environment {}", row.environment)));
    }
    Ok(match host::exists(view, tag)? {
        true => Err("its host exists".into()),
        false => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use skep_ledger::Ledger;

    use super::*;
    use crate::testing::Swarm;

    #[tokio::test]
    async fn a_tag_is_an_orphans_only_if_neither_row_nor_host_has_it() {
        let swarm = Swarm::of(1, 0).await;
        let tag = swarm.hosts[0].to_string();
        let asked = || orphaned(&swarm.ledger.view(), &tag).expect("reads");
        let why = asked().expect_err("it is in use");
        assert!(why.contains("cloud ledger"), "{why}");
        swarm
            .change(|tx| {
                released(tx, &swarm.hosts[0]);
                Ok(())
            })
            .await;
        assert_eq!(asked(), Err("its host exists".to_owned()), "between two machines");
        swarm.change(|tx| host::forget(tx, &swarm.environment, &swarm.hosts[0])).await;
        assert_eq!(asked(), Ok(()));
    }
}
