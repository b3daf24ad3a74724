//! Which changes wake whom, and when the history is looked through.

use async_trait::async_trait;
use skep_ledger::{MemoryLedger, Request, Tx, View, transact};
use skep_model::Ruling;
use skep_model::environment::{self, EnvironmentWish};
use skep_model::fact::Fact;
use skep_model::ids::{EnvironmentId, HostId};
use skep_model::operation::Subject;

use super::*;
use crate::{Effect, EffectError};

fn operation(workflow: &str) -> Operation {
    let view = MemoryLedger::new().view();
    let mut tx = Tx::new(&view, Timestamp::UNIX_EPOCH);
    let id = OperationId::new(Uuid::from_u128(1));
    let subject = Subject::new("host", "host_1", "web-1");
    let mut operation = operation::start(&mut tx, id, workflow, subject, None, None).expect("starts");
    operation.environment = Some((skep_model::ids::EnvironmentId::new(Uuid::from_u128(7)), "prod".into()));
    operation
}

#[test]
fn an_operation_is_woken_by_its_environment_and_by_nothing_else() {
    let operation = operation(workflow::CREATE_HOST);
    let (id, place) =
        (operation.id.to_string(), operation.environment.as_ref().expect("is set").0.to_string());
    let filter = concerns(&operation);
    for (table, partition, id, wakes) in [
        ("operation", CLUSTER, id.as_str(), true),
        ("operation", CLUSTER, "op_other", false),
        ("host", place.as_str(), "host_9", true),
        ("host", "env_other", "host_9", false),
        ("stack", place.as_str(), "shop", true),
        ("stack", "env_other", "shop", false),
        ("environment", CLUSTER, place.as_str(), true),
        ("environment", CLUSTER, "env_other", false),
        ("cloud-resource", CLUSTER, "host_1", true),
        ("cloud-resource", CLUSTER, "host_2", false),
        ("active-operation", CLUSTER, "host/host_2", false),
        ("operation-line", CLUSTER, id.as_str(), false),
    ] {
        assert_eq!(filter.matches(&Key::new(table, partition, id)), wakes, "{table}/{partition}/{id}");
    }
    let mut creates = self::operation(workflow::CREATE_ENVIRONMENT);
    creates.subject = Subject::new("environment", "env_1", "prod");
    let waits_for_hosts = concerns(&creates);
    assert!(waits_for_hosts.matches(&Key::new("active-operation", CLUSTER, "host/host_2")));
}

#[test]
fn the_history_is_looked_through_at_first_after_many_ends_and_now_and_then() {
    let (now, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
    assert!(History::default().is_due(now));
    assert!(!History { ended: 49, looked: Some(now) }.is_due(now));
    assert!(History { ended: 50, looked: Some(now) }.is_due(now));
    assert!(History { ended: 0, looked: Some(now) }.is_due(now + hour));
}

/// Where everything comes about and nothing becomes as it is wanted.
struct Fruitless;

#[async_trait]
impl World for Fruitless {
    async fn perform(&self, _: &Effect, _: &View, _: &Operation, _: Term) -> Result<Vec<Fact>, EffectError> {
        Ok(vec![])
    }
}

#[tokio::test]
async fn what_an_operation_writes_about_an_effect_in_vain_does_not_wake_it() {
    let ledger = MemoryLedger::new();
    let (host, id) = (HostId::new(Uuid::from_u128(3)), OperationId::new(Uuid::from_u128(4)));
    let wish = EnvironmentWish {
        id: EnvironmentId::new(Uuid::from_u128(1)),
        operation: OperationId::new(Uuid::from_u128(2)),
        name: "prod".into(),
        template: "default".into(),
        hosts: vec![(host, id.clone())],
        driver: "local".into(),
        options: Default::default(),
        change: Default::default(),
    };
    let wished =
        transact(&*ledger, Request::new(), |tx| -> Ruling<()> { environment::wish(tx, &wish).map(drop) });
    wished.await.expect("commits");
    let engine = Engine::new(ledger.clone(), Arc::new(Fruitless), "m1", ledger.term());
    let mut watch = Wakes::new(&engine, concern(&engine, &id).expect("reads"));
    let mut turned = engine.turn(&id).await.expect("turns");
    while turned == Turned::Moved {
        turned = engine.turn(&id).await.expect("turns");
    }
    assert!(matches!(turned, Turned::LooksAgain(_)), "{turned:?}");
    assert!(watch.changed().now_or_never().is_some(), "the attempt is written down");
    watch.drain();
    assert!(watch.changed().now_or_never().is_none(), "and is no reason to look again");
}
