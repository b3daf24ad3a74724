//! Going back to what a backup of a swarm's state knows, when none of its managers is left to rescue it.

use skep_ledger::Tx;

use crate::environment::{self, Environment};
use crate::host::{self, Host};
use crate::ids::{EnvironmentId, OperationId};
use crate::operation::{self, Operation, workflow};
use crate::{CLUSTER, Refusal, Ruling};

/// What is asked for beside the backup itself, which is on the host already.
#[derive(Debug)]
pub struct RestoreWish<'a> {
    /// The environment's name or id.
    pub environment: &'a str,
    /// The host that becomes the swarm's only manager at first.
    pub to: &'a str,
    /// Also if managers of the swarm can be reached: they leave it.
    pub replace: bool,
}

/// Has the swarm begun anew from the backup that was brought to the host.
pub fn restore(tx: &mut Tx<'_>, wish: &RestoreWish<'_>, id: OperationId) -> Ruling<Operation> {
    let environment = environment::usable(tx, wish.environment)?;
    let to = host::named(tx, &environment, wish.to)?;
    if !to.is_ready() {
        let (host, state) = (to.name.to_string(), to.state());
        return Err(Refusal::CannotRestore { host, why: format!("it is {}: {}", state.word, state.why) });
    }
    let hosts = tx.list::<Host>(environment.id.as_str())?;
    let there = hosts.iter().filter(|host| host.is_swarm_manager() && host.answers());
    let managers: Vec<_> = there.map(|host| host.name.to_string()).collect();
    if !managers.is_empty() && !wish.replace {
        return Err(Refusal::SwarmIsThere { environment: environment.name.to_string(), managers });
    }
    environment::plant(tx, &environment.id, &to.id)?;
    operation::start(
        tx,
        id,
        workflow::RESTORE_SWARM,
        environment::swarm(&environment),
        Some(&environment),
        None,
    )
}

/// The environment's swarm is that of the backup. No host is known to be in it; those that are, are seen next.
pub(crate) fn restored(tx: &mut Tx<'_>, id: &EnvironmentId, operation: &OperationId) -> Ruling<()> {
    let now = tx.now();
    for stored in tx.list::<Host>(id.as_str())? {
        let mut host = stored.record;
        host.seen_in_swarm(None, now);
        host.was_ready = false;
        tx.put(&host);
    }
    if let Some(mut environment) = tx.get::<Environment>(CLUSTER, id.as_str())? {
        environment.record.swarm = None;
        // It has the settings of then, and is not locked.
        environment.record.keys.take_over(None);
        environment.record.keys.generation += 1;
        environment.record.rescued_by = Some(operation.clone());
        tx.put(&environment.record);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use skep_ledger::{Ledger, Request, TransactError, transact};
    use uuid::Uuid;

    use super::*;
    use crate::fact::{self, Fact};
    use crate::testing::Swarm;

    async fn restored(swarm: &Swarm, to: &str, replace: bool) -> Result<Operation, Refusal> {
        let id = OperationId::new(Uuid::now_v7());
        let wish = RestoreWish { environment: "prod", to, replace };
        match transact(&*swarm.ledger, Request::new(), |tx| restore(tx, &wish, id.clone())).await {
            Ok(committed) => Ok(committed.answer),
            Err(TransactError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn a_swarm_goes_back_to_a_backup_only_where_nobody_can_rescue_it_or_that_is_insisted_on() {
        let swarm = Swarm::of(2, 1).await;
        swarm.silent(1).await;
        let refused = restored(&swarm, "prod-3", false).await.expect_err("prod-2 knows more");
        assert!(refused.code() == "SKP-1334" && refused.to_string().contains("prod-2"), "{refused}");
        let refused = restored(&swarm, "prod-1", true).await.expect_err("is silent");
        assert!(refused.code() == "SKP-1335" && refused.to_string().contains("unreachable"), "{refused}");

        let begun = restored(&swarm, "prod-3", true).await.expect("is insisted on");
        assert_eq!(begun.workflow, workflow::RESTORE_SWARM);
        assert_eq!(swarm.environment().seed.as_ref(), Some(&swarm.hosts[2]), "where it is begun anew");
    }

    #[tokio::test]
    async fn nobody_is_in_the_restored_swarm_before_that_is_seen() {
        let swarm = Swarm::of(2, 1).await;
        let id = OperationId::new(Uuid::now_v7());
        let third = swarm.members(3).remove(2);
        let facts = [
            Fact::SwarmRestored(swarm.environment.clone(), id.clone()),
            Fact::SwarmSeen(swarm.environment.clone(), "swarm".into(), vec![third]),
        ];
        swarm.change(|tx| facts.iter().try_for_each(|fact| fact::record(tx, fact))).await;
        let hosts = swarm.ledger.view().list::<Host>(swarm.environment.as_str()).expect("reads");
        let members = hosts.iter().filter(|host| host.membership.is_some()).map(|host| host.name.as_str());
        assert_eq!(members.collect::<Vec<_>>(), ["prod-3"]);
        assert_eq!(swarm.environment().rescued_by, Some(id));
    }
}
