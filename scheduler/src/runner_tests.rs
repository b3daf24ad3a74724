//! Which changes wake whom, and when the history is looked through.

use skep_ledger::{MemoryLedger, Tx};
use skep_model::operation::Subject;

use super::*;

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
