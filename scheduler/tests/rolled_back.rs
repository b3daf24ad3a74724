//! `skep up` never says "deployed" of what Docker has rolled back: the operation fails at once, with Docker's reason.

use std::sync::Arc;

use async_trait::async_trait;
use skep_ledger::{Ledger, Term, View};
use skep_model::CLUSTER;
use skep_model::fact::Fact;
use skep_model::ids::{OperationId, StackId};
use skep_model::operation::{Operation, State};
use skep_model::stack::{self, ServiceSeen, Stack, StackWish};
use skep_model::testing::Swarm;
use skep_scheduler::{Effect, EffectError, Engine, Turned, World};
use uuid::Uuid;

/// No service takes more turns to be deployed here.
const TURNS_MAX: usize = 50;

/// All tasks run; `failed` says whether they are those that were deployed.
struct Deployed {
    failed: &'static str,
}

#[async_trait]
impl World for Deployed {
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
    let place = Swarm::of(1, 0).await;
    let deploying = OperationId::new(Uuid::from_u128(6));
    let stack = StackWish {
        id: StackId::new(Uuid::from_u128(5)),
        operation: deploying.clone(),
        name: "shop".into(),
        document: "services:\n  web:\n    image: busybox:1\n".into(),
        variables: Default::default(),
    };
    place.change(|tx| stack::deploy(tx, "prod", &stack).map(drop)).await;
    let ledger = &place.ledger;
    let engine = Engine::new(ledger.clone(), Arc::new(Deployed { failed }), "m1", ledger.term());
    for _ in 0..TURNS_MAX {
        if engine.turn(&deploying).await.expect("it moves") == Turned::Ended {
            break;
        }
    }
    let view = ledger.view();
    let operation =
        view.get::<Operation>(CLUSTER, deploying.as_str()).expect("reads").expect("is there").record;
    let stack = view.get::<Stack>(place.environment.as_str(), "shop").expect("reads").expect("is there");
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
