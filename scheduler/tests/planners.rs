//! What planners start, and above all what they do not start again.

use skep_ledger::{Ledger, MemoryLedger, Request, transact};
use skep_model::Ruling;
use skep_model::environment::{self, EnvironmentWish};
use skep_model::fact::{self, Fact};
use skep_model::host::{self, Inventory, Machine, Membership, Role};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::placement::Availability;
use skep_scheduler::plan::{self, Picture};
use uuid::Uuid;

/// Four hosts in one swarm, three of them managers; the agent of one manager is gone.
async fn a_swarm_with_a_silent_manager() -> std::sync::Arc<MemoryLedger> {
    let ledger = MemoryLedger::new();
    let environment = EnvironmentId::new(Uuid::from_u128(100));
    let hosts: Vec<_> = (1..=4).map(|number| HostId::new(Uuid::from_u128(number))).collect();
    let wish = EnvironmentWish {
        id: environment.clone(),
        operation: OperationId::new(Uuid::from_u128(101)),
        name: "prod".into(),
        template: "default".into(),
        hosts: hosts.iter().map(|id| (id.clone(), OperationId::new(Uuid::now_v7()))).collect(),
        driver: "local".into(),
        options: Default::default(),
    };
    transact(&*ledger, Request::new(), |tx| -> Ruling<()> {
        environment::wish(tx, &wish)?;
        let mut members = vec![];
        for (number, id) in hosts.iter().enumerate() {
            let machine = Machine { id: id.to_string(), address: format!("10.90.0.{number}") };
            fact::record(tx, &Fact::MachineExists(environment.clone(), id.clone(), machine))?;
            host::reported(tx, id.as_str(), "m1", "s", Some(Inventory::default()), Ok(()))?;
            let role = if number < 3 { Role::Manager } else { Role::Worker };
            let node = format!("node-{number}");
            members.push((
                id.clone(),
                Membership {
                    node,
                    role,
                    leader: number == 0,
                    ready: true,
                    availability: Availability::Active,
                    reachable: true,
                },
            ));
        }
        fact::record(tx, &Fact::SwarmSeen(environment.clone(), "swarm".into(), members))?;
        host::disconnected(tx, hosts[1].as_str(), "s")
    })
    .await
    .expect("commits");
    ledger
}

#[tokio::test]
async fn a_silent_manager_is_still_a_manager_and_starts_nothing() {
    let ledger = a_swarm_with_a_silent_manager().await;
    let picture = Picture::of(ledger.view(), ledger.now()).expect("reads");
    assert_eq!(plan::decide(&picture).expect("decides"), []);
}

/// `form-swarm` would wait for it in vain, again and again. What is seen of the swarm tells when it is back.
#[tokio::test]
async fn a_node_that_was_ready_and_is_down_starts_nothing() {
    let ledger = a_swarm_with_a_silent_manager().await;
    let environment = EnvironmentId::new(Uuid::from_u128(100));
    let hosts = ledger.view().list::<host::Host>(environment.as_str()).expect("reads");
    let nodes: Vec<_> = hosts
        .iter()
        .map(|host| {
            let node = host.membership.clone().expect("a member");
            (host.id.clone(), Membership { ready: node.role == Role::Manager, ..node })
        })
        .collect();
    let seen = Fact::SwarmSeen(environment, "swarm".into(), nodes);
    let recorded = transact(&*ledger, Request::new(), |tx| fact::record(tx, &seen)).await;
    recorded.expect("commits");
    let picture = Picture::of(ledger.view(), ledger.now()).expect("reads");
    assert_eq!(plan::decide(&picture).expect("decides"), []);
}
