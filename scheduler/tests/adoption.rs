//! A swarm that was there before is taken over without anything being done to it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::SignedDuration;
use skep_ledger::{Ledger, MemoryLedger, Request, Term, View, transact};
use skep_model::environment::{self, Environment, EnvironmentWish};
use skep_model::fact::Fact;
use skep_model::host::adoption::Node;
use skep_model::host::registration::{self, Offer, TokenWish};
use skep_model::host::{self, Host, Inventory, Membership, Role, WishedRole};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::operation::Operation;
use skep_model::placement::Availability;
use skep_model::{CLUSTER, Ruling};
use skep_scheduler::plan::{self, Ids, Picture};
use skep_scheduler::{Effect, EffectError, Engine, Turned, World};
use uuid::Uuid;

/// No story here takes more rounds.
const ROUNDS_MAX: usize = 100;

/// A swarm of two managers and a worker, of which the managers' list is all that is ever asked for.
#[derive(Default)]
struct Found {
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl World for Found {
    async fn perform(
        &self,
        effect: &Effect,
        view: &View,
        operation: &Operation,
        _: Term,
    ) -> Result<Vec<Fact>, EffectError> {
        let environment = match effect {
            Effect::AdoptSwarm { environment, .. }
            | Effect::ObserveSwarm { environment }
            | Effect::JoinSwarm { environment, .. } => environment,
            Effect::OpenEnvironment(_) => return Ok(skep_scheduler::effects::decided(effect, operation)),
            other => panic!("nobody asked for: {other}"),
        };
        self.asked.lock().expect("nobody panicked").push(effect.to_string());
        let hosts = view.list::<Host>(environment.as_str()).expect("reads");
        let node = |host: &Host| Membership {
            node: host.adopted.clone().expect("all were nodes before"),
            role: if host.name.as_str() == "m-3" { Role::Worker } else { Role::Manager },
            leader: host.name.as_str() == "m-1",
            ready: true,
            availability: Availability::Active,
            reachable: true,
        };
        let nodes = hosts.iter().map(|host| (host.id.clone(), node(host))).collect();
        Ok(vec![Fact::SwarmSeen(environment.clone(), "s1".into(), nodes)])
    }
}

async fn change(ledger: &MemoryLedger, mut rule: impl FnMut(&mut skep_ledger::Tx<'_>) -> Ruling<()> + Send) {
    transact(ledger, Request::new(), |tx| rule(tx)).await.expect("commits");
}

async fn settle(ledger: &Arc<MemoryLedger>, engine: &Engine) {
    for _ in 0..ROUNDS_MAX {
        let picture = Picture::of(ledger.view(), ledger.now()).expect("reads");
        for decision in plan::decide(&picture).expect("decides") {
            engine.start(&decision, &Ids::mint(Uuid::now_v7)).await.expect("starts");
        }
        let operations = ledger.view().list::<Operation>(CLUSTER).expect("reads");
        let open: Vec<_> = operations.into_iter().filter(|operation| !operation.ended()).collect();
        if open.is_empty() {
            return;
        }
        for operation in open {
            while engine.turn(&operation.id).await.expect("turns") == Turned::Moved {}
        }
        ledger.set_now(ledger.now() + SignedDuration::from_millis(100));
    }
    panic!("it does not settle");
}

async fn comes(ledger: &MemoryLedger, number: u8, manager: bool) {
    let (name, address) = (format!("m-{number}"), format!("10.90.0.{number}"));
    let id = HostId::new(Uuid::from_u128(10 + u128::from(number)));
    let swarm = if manager { "s1".to_owned() } else { String::new() };
    let node = Node { id: format!("n{number}"), manager, swarm, managers: vec!["n1".into(), "n2".into()] };
    let offer = Offer {
        token: "t1",
        key_hash: &[number],
        name: &name,
        address: &address,
        node: Some(node),
        adopt: true,
        host: id.clone(),
        operation: OperationId::new(Uuid::from_u128(20 + u128::from(number))),
    };
    change(ledger, |tx| {
        registration::enrol(tx, &offer)?;
        host::reported(tx, id.as_str(), "m1", "s", Some(Inventory::default()), Ok(()))
    })
    .await;
}

#[tokio::test]
async fn a_swarm_is_taken_over_with_its_roles_and_nothing_is_done_to_it() {
    let ledger = MemoryLedger::new();
    let wish = EnvironmentWish {
        id: EnvironmentId::new(Uuid::from_u128(1)),
        operation: OperationId::new(Uuid::from_u128(2)),
        name: "old".into(),
        template: "default".into(),
        hosts: vec![],
        driver: "local".into(),
        options: Default::default(),
        change: Default::default(),
    };
    let token = TokenWish {
        id: "t1".into(),
        role: WishedRole::Auto,
        labels: Default::default(),
        life: SignedDuration::from_hours(1),
        uses: 3,
    };
    change(&ledger, |tx| {
        environment::wish(tx, &wish)?;
        let environment = environment::usable(tx, "old")?;
        registration::create_token(tx, &environment, &token).map(drop)
    })
    .await;
    let world = Arc::new(Found::default());
    let engine = Engine::new(ledger.clone(), world.clone(), "m1", ledger.term());
    for (number, manager) in [(1, true), (3, false), (2, true)] {
        comes(&ledger, number, manager).await;
        settle(&ledger, &engine).await;
    }
    let hosts = ledger.view().list_all::<Host>().expect("reads");
    let mut seen: Vec<_> = hosts
        .iter()
        .map(|host| (host.name.to_string(), host.state().word, host.membership.clone().map(|node| node.role)))
        .collect();
    seen.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = |name: &str, role| (name.to_owned(), "active", Some(role));
    assert_eq!(
        seen,
        [expected("m-1", Role::Manager), expected("m-2", Role::Manager), expected("m-3", Role::Worker)]
    );
    let place =
        ledger.view().get::<Environment>(CLUSTER, wish.id.as_str()).expect("reads").expect("is there");
    assert_eq!((place.swarm.as_ref().map(|swarm| swarm.id.as_str()), place.swarm_managers), (Some("s1"), 2));
    let asked = world.asked.lock().expect("nobody panicked");
    assert_eq!(asked.first().map(String::as_str), Some("take over the swarm of m-1 as it is"), "{asked:?}");
}
