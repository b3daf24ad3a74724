//! `skep up` never says "deployed" of what Docker has rolled back: the operation fails at once, with Docker's reason.

use std::sync::Arc;

use async_trait::async_trait;
use skep_ledger::{Ledger, MemoryLedger, Request, Term, View, transact};
use skep_model::environment::{self, EnvironmentWish};
use skep_model::fact::{self, Fact};
use skep_model::host::{self, Inventory, Machine, Membership, Role};
use skep_model::ids::{EnvironmentId, HostId, OperationId, StackId};
use skep_model::operation::{Operation, State};
use skep_model::placement::Availability;
use skep_model::stack::{self, ServiceSeen, Stack, StackWish};
use skep_model::{CLUSTER, Ruling};
use skep_scheduler::{Effect, EffectError, Engine, Turned, World};
use uuid::Uuid;

/// No service takes more turns to be deployed here.
const TURNS_MAX: usize = 50;

/// All tasks run; `failed` says whether they are those that were deployed.
struct Swarm {
    failed: &'static str,
}

#[async_trait]
impl World for Swarm {
    async fn perform(
        &self,
        effect: &Effect,
        _: &View,
        _: &Operation,
        _: Term,
    ) -> Result<Vec<Fact>, EffectError> {
        Ok(match effect {
            Effect::EnsureNetworks { environment, stack, generation } => {
                vec![Fact::StackNetworksMade(environment.clone(), stack.clone(), *generation)]
            }
            Effect::EnsureServices { environment, stack, generation } => {
                let made = Fact::StackServicesMade(
                    environment.clone(),
                    stack.clone(),
                    *generation,
                    Default::default(),
                );
                vec![made]
            }
            Effect::ObserveStack { environment, stack, generation, .. } => {
                let web = ServiceSeen {
                    name: "web".into(),
                    running: 1,
                    desired: 1,
                    updating: false,
                    error: String::new(),
                    failed: self.failed.into(),
                };
                vec![Fact::StackSeen(environment.clone(), stack.clone(), *generation, vec![web])]
            }
            other => panic!("nobody asked for: {other}"),
        })
    }
}

async fn deployed(failed: &'static str) -> (Operation, (&'static str, String)) {
    let ledger = MemoryLedger::new();
    let id = |number| Uuid::from_u128(number);
    let (environment, host, deploying) =
        (EnvironmentId::new(id(1)), HostId::new(id(3)), OperationId::new(id(6)));
    let wish = EnvironmentWish {
        id: environment.clone(),
        operation: OperationId::new(id(2)),
        name: "prod".into(),
        template: "default".into(),
        hosts: vec![(host.clone(), OperationId::new(id(4)))],
        driver: "local".into(),
        options: Default::default(),
    };
    let stack = StackWish {
        id: StackId::new(id(5)),
        operation: deploying.clone(),
        name: "shop".into(),
        document: "services:\n  web:\n    image: busybox:1\n".into(),
        variables: Default::default(),
    };
    let node = Membership {
        node: "n1".into(),
        role: Role::Manager,
        leader: true,
        ready: true,
        availability: Availability::Active,
        reachable: true,
    };
    transact(&*ledger, Request::new(), |tx| -> Ruling<()> {
        environment::wish(tx, &wish)?;
        let machine = Machine { id: "vm".into(), address: "10.90.0.1".into() };
        fact::record(tx, &Fact::MachineExists(environment.clone(), host.clone(), machine))?;
        host::reported(tx, host.as_str(), "m1", "s", Some(Inventory::default()), Ok(()))?;
        let nodes = vec![(host.clone(), node.clone())];
        fact::record(tx, &Fact::SwarmSeen(environment.clone(), "swarm".into(), nodes))?;
        stack::deploy(tx, "prod", &stack).map(drop)
    })
    .await
    .expect("commits");
    let engine = Engine::new(ledger.clone(), Arc::new(Swarm { failed }), "m1", ledger.term());
    for _ in 0..TURNS_MAX {
        if engine.turn(&deploying).await.expect("it moves") == Turned::Ended {
            break;
        }
    }
    let view = ledger.view();
    let operation =
        view.get::<Operation>(CLUSTER, deploying.as_str()).expect("reads").expect("is there").record;
    let stack = view.get::<Stack>(environment.as_str(), "shop").expect("reads").expect("is there");
    (operation, stack.state())
}

#[tokio::test]
async fn a_rolled_back_update_fails_the_deployment_with_its_reason() {
    let (operation, stack) = deployed("").await;
    assert_eq!((operation.state, stack.0), (State::Succeeded, "active"));

    let reason = "Docker has rolled the update back (rollback completed); the error of its task: exit (7)";
    let (operation, stack) = deployed(reason).await;
    assert_eq!(operation.state, State::Failed);
    assert!(operation.message.contains(&format!("service web: {reason}")), "{}", operation.message);
    assert_eq!(stack, ("degraded", format!("web: {reason}")));
}
