//! Which part a host should play in its swarm, wished after it was made.
//!
//! A wish that nothing could follow from is refused, with the reason: Skep keeps the wished number of swarm managers, so one
//! goes only if another can come, and one comes only if another may go.

use skep_ledger::Tx;

use super::{Host, WishedRole, staying, subject};
use crate::environment::{self, Environment};
use crate::ids::OperationId;
use crate::operation::{self, Operation, workflow};
use crate::{Refusal, Ruling};

/// Wishes a part in the swarm for a host. The operation brings the swarm's roles in order; a host that is in no swarm yet gets
/// its part when it joins.
pub fn wish(
    tx: &mut Tx<'_>,
    environment: &Environment,
    reference: &str,
    role: WishedRole,
    id: OperationId,
) -> Ruling<Operation> {
    let host = staying(tx, environment, reference)?;
    let hosts: Vec<Host> =
        tx.list::<Host>(environment.id.as_str())?.into_iter().map(|stored| stored.record).collect();
    match role {
        WishedRole::Manager => may_manage(environment, &host, &hosts)?,
        WishedRole::Worker => may_stop_managing(environment, &host, &hosts)?,
        WishedRole::Auto => {}
    }
    let host = Host { role, ..host };
    tx.put(&host);
    let (workflow, subject) = match host.membership {
        Some(_) => (workflow::FORM_SWARM, environment::swarm(environment)),
        None => (workflow::UPDATE_HOST, subject(&host)),
    };
    operation::start(tx, id, workflow, subject, Some(environment), None)
}

/// Refused if all managers that are wanted are there, each because somebody wants it.
fn may_manage(environment: &Environment, host: &Host, hosts: &[Host]) -> Ruling<()> {
    let managers: Vec<&Host> =
        hosts.iter().filter(|other| other.is_swarm_manager() && other.removal.is_none()).collect();
    let full = managers.len() >= usize::from(environment.swarm_managers);
    if host.is_swarm_manager() || !full || managers.iter().any(|other| other.role != WishedRole::Manager) {
        return Ok(());
    }
    let names: Vec<_> = managers.iter().map(|other| other.name.as_str()).collect();
    Err(Refusal::RoleWithoutEffect {
        host: host.name.to_string(),
        why: format!(
            "the environment keeps {} swarm managers, and those that it has are all meant to be: {}",
            environment.swarm_managers,
            names.join(", ")
        ),
    })
}

/// Refused if nobody could take its place, or the others could not agree without it.
fn may_stop_managing(environment: &Environment, host: &Host, hosts: &[Host]) -> Ruling<()> {
    if !host.is_swarm_manager() {
        return Ok(());
    }
    let able = |other: &&Host| {
        let stays = other.id != host.id && other.removal.is_none() && other.role != WishedRole::Worker;
        stays && (other.is_swarm_manager() || other.is_active())
    };
    let (able, wanted) = (hosts.iter().filter(able).count(), usize::from(environment.swarm_managers));
    let spared = |why: String| Refusal::CannotBeSpared { host: host.name.to_string(), why };
    if able < wanted {
        return Err(spared(format!(
            "the environment keeps {wanted} swarm managers, and {able} other hosts can be one"
        )));
    }
    environment.managers_agree_without(host, hosts).map_err(spared)
}

#[cfg(test)]
mod tests {
    use skep_ledger::{Request, TransactError, transact};
    use uuid::Uuid;

    use super::*;
    use crate::testing::Swarm;

    async fn wished(swarm: &Swarm, number: usize, role: WishedRole) -> Result<Operation, String> {
        let place = swarm.environment();
        let name = format!("prod-{number}");
        let ruled = transact(&*swarm.ledger, Request::new(), |tx| {
            wish(tx, &place, &name, role, OperationId::new(Uuid::now_v7()))
        });
        ruled.await.map(|committed| committed.answer).map_err(|error| match error {
            TransactError::Refused(refusal) => format!("{}: {refusal}", refusal.code()),
            other => other.to_string(),
        })
    }

    #[tokio::test]
    async fn a_manager_is_demoted_if_another_host_can_take_its_place() {
        let swarm = Swarm::of(3, 1).await;
        let operation = wished(&swarm, 1, WishedRole::Worker).await.expect("prod-4 can");
        assert_eq!(operation.workflow, workflow::FORM_SWARM);
        let refused = wished(&swarm, 2, WishedRole::Worker).await.expect_err("who else?");
        assert!(refused.starts_with("SKP-1323"), "{refused}");
        assert!(refused.contains("3 swarm managers, and 2 other hosts can be one"), "{refused}");
        let auto = wished(&swarm, 1, WishedRole::Auto).await;
        assert!(auto.is_ok(), "{auto:?}");
    }

    #[tokio::test]
    async fn a_manager_without_which_the_others_could_not_agree_is_not_demoted() {
        let swarm = Swarm::of(3, 2).await;
        swarm.silent(2).await;
        swarm.seen(|number, node| node.ready = number != 2).await;
        let refused = wished(&swarm, 1, WishedRole::Worker).await.expect_err("would cost the quorum");
        assert!(refused.contains("prod-2"), "{refused}");
        assert!(wished(&swarm, 5, WishedRole::Worker).await.is_ok(), "it is none");
    }

    #[tokio::test]
    async fn a_promotion_that_nothing_could_follow_from_is_refused() {
        let swarm = Swarm::of(3, 1).await;
        for number in 1..=3 {
            wished(&swarm, number, WishedRole::Manager).await.expect("they are");
        }
        let refused = wished(&swarm, 4, WishedRole::Manager).await.expect_err("there is no room");
        assert!(refused.starts_with("SKP-1324") && refused.contains("prod-1, prod-2, prod-3"), "{refused}");
        wished(&swarm, 2, WishedRole::Auto).await.expect("makes room");
        wished(&swarm, 4, WishedRole::Manager).await.expect("takes its place");
    }
}
