//! What an effect has found is not written if the operation has gone on while it was under way, and is written if the
//! operation was only turned around: whoever gives back must know what there is.

use std::sync::Arc;

use async_trait::async_trait;
use skep_ledger::{Ledger, MemoryLedger, Request, Term, View, transact};
use skep_model::environment::{self, EnvironmentWish};
use skep_model::fact::Fact;
use skep_model::host::{Host, Machine};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::operation::{self, Operation};
use skep_model::{CLUSTER, Ruling};
use skep_scheduler::{Effect, EffectError, Engine, World};
use uuid::Uuid;

/// What happens to the operation while its effect is under way.
#[derive(Clone, Copy)]
enum Happens {
    Nothing,
    Turned,
    WentOn,
}

/// Makes the machine, and meanwhile something happens.
struct Meanwhile {
    ledger: Arc<MemoryLedger>,
    happens: Happens,
}

#[async_trait]
impl World for Meanwhile {
    async fn perform(
        &self,
        effect: &Effect,
        _: &View,
        operation: &Operation,
        _: Term,
    ) -> Result<Vec<Fact>, EffectError> {
        let Effect::EnsureMachine { environment, host, .. } = effect else {
            panic!("nobody asked for: {effect}");
        };
        let moved = |tx: &mut skep_ledger::Tx<'_>| -> Ruling<()> {
            let stored = tx.get::<Operation>(CLUSTER, operation.id.as_str())?;
            let mut operation = stored.expect("it is there").record;
            match self.happens {
                Happens::Nothing => return Ok(()),
                Happens::Turned => operation.turn("somebody has cancelled it", tx.now()),
                Happens::WentOn => operation.advance(tx.now()),
            }
            operation::save(tx, &operation)
        };
        transact(&*self.ledger, Request::new(), moved).await.expect("commits");
        let machine = Machine { id: "vm-1".into(), address: "10.90.0.9".into() };
        Ok(vec![Fact::MachineExists(environment.clone(), host.clone(), machine)])
    }
}

async fn machine_is_recorded(happens: Happens) -> bool {
    let ledger = MemoryLedger::new();
    let id = |number| Uuid::from_u128(number);
    let creating = OperationId::new(id(4));
    let wish = EnvironmentWish {
        id: EnvironmentId::new(id(1)),
        operation: OperationId::new(id(2)),
        name: "prod".into(),
        template: "default".into(),
        hosts: vec![(HostId::new(id(3)), creating.clone())],
        driver: "local".into(),
        options: Default::default(),
        change: Default::default(),
    };
    let wished =
        transact(&*ledger, Request::new(), |tx| -> Ruling<()> { environment::wish(tx, &wish).map(drop) });
    wished.await.expect("commits");
    let world = Arc::new(Meanwhile { ledger: ledger.clone(), happens });
    let engine = Engine::new(ledger.clone(), world, "m1", ledger.term());
    // It gets its steps, then the first of them is done.
    for _ in 0..2 {
        engine.turn(&creating).await.expect("it moves");
    }
    let hosts = ledger.view().list_all::<Host>().expect("reads");
    hosts[0].machine.is_some()
}

#[tokio::test]
async fn facts_are_written_unless_the_operation_has_gone_on() {
    assert!(machine_is_recorded(Happens::Nothing).await);
    assert!(machine_is_recorded(Happens::Turned).await, "there is a machine to be given back");
    assert!(!machine_is_recorded(Happens::WentOn).await, "a fact of a step that the operation has left");
}
