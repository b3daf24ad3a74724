//! When a swarm may be begun anew, and on which host.

use skep_ledger::{Ledger, MemoryLedger, Request, TransactError, transact};
use uuid::Uuid;

use super::*;
use crate::testing::Swarm;

/// Three swarm managers and a worker; the agents of the hosts with these numbers are silent.
async fn swarm_without(silent: &[usize]) -> Swarm {
    let swarm = Swarm::of(3, 1).await;
    for number in silent {
        swarm.silent(*number).await;
    }
    swarm
}

async fn rescued(ledger: &MemoryLedger, from: &str) -> Result<Operation, Refusal> {
    let id = OperationId::new(Uuid::now_v7());
    match transact(ledger, Request::new(), |tx| rescue(tx, "prod", from, id.clone())).await {
        Ok(committed) => Ok(committed.answer),
        Err(TransactError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_swarm_whose_managers_can_agree_is_not_begun_anew() {
    let swarm = swarm_without(&[1]).await;
    let refused = rescued(&swarm.ledger, "prod-2").await.expect_err("is refused");
    assert_eq!(refused.code(), "SKP-1305");
    assert!(refused.to_string().contains("2 of 3 managers can be reached"), "{refused}");
}

#[tokio::test]
async fn only_a_manager_that_can_be_reached_rescues_and_the_others_are_not_suggested() {
    let swarm = swarm_without(&[1, 3]).await;
    for (from, why) in [("prod-4", "no manager of the swarm"), ("prod-1", "unreachable")] {
        let refused = rescued(&swarm.ledger, from).await.expect_err("is refused");
        assert!(refused.code() == "SKP-1306" && refused.to_string().contains(why), "{refused}");
        assert_eq!(refused.hint().as_deref(), Some("these can: prod-2"));
    }
    assert_eq!(rescued(&swarm.ledger, "prod-2").await.expect("is begun").workflow, workflow::RESCUE_SWARM);
    let view = swarm.ledger.view();
    let environment = find(&view, "prod").expect("is there");
    let host = host::find(&view, &environment, "prod-2").expect("is there");
    assert_eq!(environment.seed.as_ref(), Some(&host.id), "where the swarm is begun from now on");
}

/// Somebody removes the dead managers first, as one does with dead hosts: the survivor cannot agree with itself alone.
#[tokio::test]
async fn a_swarm_is_rescued_even_if_its_lost_managers_were_removed_before() {
    let swarm = swarm_without(&[1, 3]).await;
    swarm
        .change(|tx| {
            let mut environment = named(tx, "prod")?;
            if let Some(seen) = &mut environment.swarm {
                seen.quorum_lost = Some(tx.now());
            }
            tx.put(&environment);
            [1, 3]
                .into_iter()
                .try_for_each(|number| host::forget(tx, &environment.id, &swarm.hosts[number - 1]))
        })
        .await;
    let view = swarm.ledger.view();
    let hosts = view.list::<Host>(swarm.environment.as_str()).expect("reads");
    let (word, why) = swarm.environment().state(&hosts);
    assert!(word == "degraded" && why.contains("skep env rescue prod --from prod-2"), "{why}");
    rescued(&swarm.ledger, "prod-2").await.expect("is begun");
}
