//! What engines list, and what is seen in it.

use serde_json::{Value, json};
use skep_ledger::{Ledger, MemoryLedger, Request, transact};
use skep_model::Ruling;
use skep_model::environment::{self, EnvironmentWish};
use skep_model::ids::{EnvironmentId, HostId, OperationId, StackId};
use skep_model::stack::{self, StackWish};
use uuid::Uuid;

use super::*;

/// A stack `shop` with one service `web`, deployed with the service hash `new`.
async fn shop(deploy: &str) -> Stack {
    let ledger = MemoryLedger::new();
    let id = |number| Uuid::from_u128(number);
    let wish = EnvironmentWish {
        id: EnvironmentId::new(id(1)),
        operation: OperationId::new(id(2)),
        name: "prod".into(),
        template: "default".into(),
        hosts: vec![(HostId::new(id(3)), OperationId::new(id(4)))],
        driver: "local".into(),
        options: Default::default(),
        change: Default::default(),
    };
    let stack = StackWish {
        id: StackId::new(id(5)),
        operation: OperationId::new(id(6)),
        name: "shop".into(),
        document: format!("services:\n  web:\n    image: busybox:1\n    deploy: {deploy}\n"),
        variables: Default::default(),
    };
    transact(&*ledger, Request::new(), |tx| -> Ruling<()> {
        environment::wish(tx, &wish)?;
        stack::deploy(tx, "prod", &stack).map(drop)
    })
    .await
    .expect("commits");
    let mut stack = ledger.view().list_all::<Stack>().expect("reads").remove(0).record;
    stack.services_made = stack.generation;
    stack.service_hashes.insert("web".into(), "new".into());
    stack
}

fn service(hash: &str, update: Value) -> Value {
    json!({
        "ID": "svc",
        "Spec": {
            "Name": "shop_web",
            "Labels": {"skep.service-hash": hash},
            "TaskTemplate": {"ContainerSpec": {"Labels": {"skep.task-hash": format!("task-of-{hash}")}}},
        },
        "UpdateStatus": update,
    })
}

fn task(version: &str, second: u32, state: &str, error: &str) -> Value {
    json!({
        "ServiceID": "svc",
        "CreatedAt": format!("2026-11-20T10:00:{second:02}Z"),
        "Spec": {"ContainerSpec": {"Labels": {"skep.task-hash": format!("task-of-{version}")}}},
        "Status": {"State": state, "Err": error},
        "DesiredState": if state == "failed" { "shutdown" } else { "running" },
    })
}

fn node(id: &str, zone: &str) -> Value {
    json!({"ID": id, "Spec": {"Role": "worker", "Availability": "active", "Labels": {"zone": zone}},
           "Status": {"State": "ready"}})
}

/// The stack as it is after the swarm has been looked at.
async fn look(deploy: &str, service: Value, tasks: Value, nodes: Value) -> Stack {
    let mut stack = shop(deploy).await;
    let services: Vec<Service> = serde_json::from_value(json!([service])).expect("services");
    let tasks: Vec<Task> = serde_json::from_value(tasks).expect("tasks");
    let nodes: Vec<Node> = serde_json::from_value(nodes).expect("nodes");
    let seen = of_stack(&stack, &services, &tasks, &nodes);
    stack.observed(stack.generation, &seen);
    stack
}

#[tokio::test]
async fn what_runs_as_deployed_is_active() {
    let update = json!({"State": "completed", "Message": "update completed"});
    let stack =
        look("{replicas: 1}", service("new", update), json!([task("new", 1, "running", "")]), json!([]))
            .await;
    assert!(stack.converged() && stack.failure().is_none(), "{:?}", stack.seen);
}

/// A past bug: all tasks run, so it was called deployed; but they were those of the version before.
#[tokio::test]
async fn an_update_that_docker_has_rolled_back_is_not_deployed_however_well_the_old_version_runs() {
    for (state, message, words) in [
        (
            "rollback_started",
            "update rolled back due to failure or early termination of task x1",
            "Docker is rolling the update back",
        ),
        ("rollback_completed", "rollback completed", "Docker has rolled the update back"),
        ("rollback_paused", "rollback paused due to failure", "could not finish that"),
    ] {
        let tasks = json!([
            task("old", 1, "running", ""),
            task("old", 1, "failed", "an error of long ago"),
            task("new", 2, "failed", "task: non-zero exit (7)"),
        ]);
        let update = json!({"State": state, "Message": message});
        let stack = look("{replicas: 1}", service("old", update), tasks, json!([])).await;
        assert!(!stack.converged(), "{state}: {:?}", stack.seen);
        let failure = stack.failure().expect("it says why");
        assert!(failure.starts_with("service web: "), "{failure}");
        for part in [words, message, "task: non-zero exit (7)"] {
            assert!(failure.contains(part), "{state}: {failure} should contain {part}");
        }
        assert_eq!(stack.state().0, "degraded");
    }
}

#[tokio::test]
async fn a_paused_update_fails_with_the_error_of_the_new_version() {
    let update =
        json!({"State": "paused", "Message": "update paused due to failure or early termination of task x1"});
    let tasks = json!([
        task("old", 3, "failed", "an error of the old version"),
        task("new", 2, "failed", "No such image: busybox:9"),
    ]);
    let stack = look("{replicas: 1}", service("new", update), tasks, json!([])).await;
    let failure = stack.failure().expect("it says why");
    assert!(failure.contains("stopped the update half-way (update paused"), "{failure}");
    assert!(failure.ends_with("No such image: busybox:9"), "{failure}");
}

/// Deployed, rolled back, and the version before deployed again: Docker still says "rolled back" of what is right.
#[tokio::test]
async fn a_rollback_to_what_is_wished_now_is_as_good_as_deployed() {
    let update = json!({"State": "rollback_completed", "Message": "rollback completed"});
    let stack =
        look("{replicas: 1}", service("new", update), json!([task("new", 1, "running", "")]), json!([]))
            .await;
    assert!(stack.converged(), "{:?}", stack.seen);
}

#[tokio::test]
async fn a_service_that_somebody_else_has_changed_is_told() {
    let tasks = json!([task("other", 1, "running", "")]);
    let stack = look("{replicas: 1}", service("other", json!(null)), tasks, json!([])).await;
    let failure = stack.failure().expect("it says so");
    assert!(failure.contains("not what was deployed") && failure.contains("somebody else"), "{failure}");
}

#[tokio::test]
async fn a_global_service_wants_one_task_on_every_node_that_its_constraints_allow() {
    let deploy = "{mode: global, placement: {constraints: [node.labels.zone == a]}}";
    let nodes = json!([node("n1", "a"), node("n2", "a"), node("n3", "b")]);
    let tasks = json!([task("new", 1, "running", ""), task("new", 1, "running", "")]);
    let stack = look(deploy, service("new", json!(null)), tasks, nodes).await;
    assert_eq!((stack.seen[0].running, stack.seen[0].desired), (2, 2));
    assert!(stack.converged());
}

#[tokio::test]
async fn the_error_of_a_failed_task_comes_before_that_of_one_that_waits() {
    let tasks = json!([
        task("new", 1, "failed", "an older error"),
        task("new", 2, "failed", "exec: \"nothing\": not found"),
        task("new", 3, "pending", "no suitable node (1 node not available for new tasks)"),
    ]);
    let stack = look("{replicas: 1}", service("new", json!(null)), tasks, json!([])).await;
    let error = &stack.seen[0].error;
    assert!(
        error.starts_with("exec: \"nothing\": not found; and another task waits: no suitable node"),
        "{error}"
    );
    let tasks = json!([task("new", 3, "pending", "no suitable node")]);
    let stack = look("{replicas: 1}", service("new", json!(null)), tasks, json!([])).await;
    assert_eq!(stack.seen[0].error, "no suitable node");
}
