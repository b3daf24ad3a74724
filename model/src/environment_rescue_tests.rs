//! When a swarm may be begun anew, and on which host.

use skep_ledger::{Ledger, MemoryLedger, Request, TransactError, transact};
use uuid::Uuid;

use super::*;
use crate::fact::{self, Fact};
use crate::host::{Inventory, Machine, Membership, Role};
use crate::placement::Availability;

/// Three swarm managers and a worker; the agents of the named hosts are silent.
async fn swarm_without(silent: &[&str]) -> std::sync::Arc<MemoryLedger> {
    let ledger = MemoryLedger::new();
    let hosts: Vec<_> = (1..=4).map(|number| HostId::new(Uuid::from_u128(number))).collect();
    let id = EnvironmentId::new(Uuid::from_u128(100));
    let operation = || OperationId::new(Uuid::now_v7());
    let wished = EnvironmentWish {
        id: id.clone(),
        operation: operation(),
        name: "prod".into(),
        template: "default".into(),
        hosts: hosts.iter().map(|id| (id.clone(), operation())).collect(),
        driver: "local".into(),
        options: Default::default(),
    };
    let begun = transact(&*ledger, Request::new(), |tx| -> Ruling<()> {
        wish(tx, &wished)?;
        let mut members = vec![];
        for (number, host) in hosts.iter().enumerate() {
            let machine = Machine { id: host.to_string(), address: format!("10.90.0.{number}") };
            fact::record(tx, &Fact::MachineExists(id.clone(), host.clone(), machine))?;
            host::registration::register(tx, host.as_str(), b"key", true)?;
            host::reported(tx, host.as_str(), "m1", "s", Some(Inventory::default()), Ok(()))?;
            let role = if number < 3 { Role::Manager } else { Role::Worker };
            let (node, availability) = (format!("node-{number}"), Availability::Active);
            members.push((
                host.clone(),
                Membership { node, role, leader: number == 0, ready: true, reachable: true, availability },
            ));
            if silent.contains(&format!("prod-{}", number + 1).as_str()) {
                host::disconnected(tx, host.as_str(), "s")?;
            }
        }
        fact::record(tx, &Fact::SwarmSeen(id.clone(), "swarm".into(), members))
    });
    begun.await.expect("commits");
    ledger
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
    let ledger = swarm_without(&["prod-1"]).await;
    let refused = rescued(&ledger, "prod-2").await.expect_err("is refused");
    assert_eq!(refused.code(), "SKP-1305");
    assert!(refused.to_string().contains("2 of 3 managers can be reached"), "{refused}");
}

#[tokio::test]
async fn only_a_manager_that_can_be_reached_rescues_and_the_others_are_not_suggested() {
    let ledger = swarm_without(&["prod-1", "prod-3"]).await;
    for (from, why) in [("prod-4", "no manager of the swarm"), ("prod-1", "unreachable")] {
        let refused = rescued(&ledger, from).await.expect_err("is refused");
        assert!(refused.to_string().contains(why), "{refused}");
        assert_eq!(refused.hint().as_deref(), Some("these can: prod-2"));
    }
    assert_eq!(rescued(&ledger, "prod-2").await.expect("is begun").workflow, workflow::RESCUE_SWARM);
    let view = ledger.view();
    let environment = find(&view, "prod").expect("is there");
    let host = host::find(&view, &environment, "prod-2").expect("is there");
    assert_eq!(environment.seed.as_ref(), Some(&host.id), "where the swarm is begun from now on");
}
