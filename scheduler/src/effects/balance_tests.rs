//! Which service's tasks are placed anew, and above all which are not.

use serde_json::{Value, json};

use super::*;

fn nodes(names: &[&str]) -> Vec<Node> {
    let node = |name: &&str| {
        let (name, zone) = name.split_once('@').unwrap_or((name, ""));
        let labels = json!({"zone": zone});
        json!({"ID": name, "Spec": {"Role": "worker", "Availability": "active", "Labels": labels}, "Status": {"State": "ready"}})
    };
    serde_json::from_value(names.iter().map(node).collect()).expect("nodes as an engine tells them")
}

/// A service with its tasks on these nodes.
struct Placed {
    name: &'static str,
    on: &'static [&'static str],
    constraints: &'static [&'static str],
    update: Value,
    forced: u64,
    tasks_forced: u64,
}

fn placed(name: &'static str, on: &'static [&'static str]) -> Placed {
    Placed { name, on, constraints: &[], update: json!(null), forced: 0, tasks_forced: 0 }
}

fn asked(nodes: &[Node], all: &[Placed], moved: &[&str]) -> Option<Seen> {
    let service = |placed: &Placed| {
        let template =
            json!({"ForceUpdate": placed.forced, "Placement": {"Constraints": placed.constraints}});
        json!({
            "ID": format!("id-{}", placed.name),
            "Spec": {
                "Name": placed.name,
                "Mode": {"Replicated": {"Replicas": placed.on.len()}},
                "TaskTemplate": template,
            },
            "UpdateStatus": placed.update,
        })
    };
    let task = |placed: &Placed, node: &str| {
        json!({
            "ServiceID": format!("id-{}", placed.name),
            "NodeID": node,
            "DesiredState": "running",
            "Status": {"State": "running"},
            "Spec": {"ForceUpdate": placed.tasks_forced},
        })
    };
    let services = serde_json::from_value(all.iter().map(service).collect()).expect("services");
    let tasks = all.iter().flat_map(|placed| placed.on.iter().map(move |node| task(placed, node))).collect();
    let tasks: Vec<Task> = serde_json::from_value(tasks).expect("tasks");
    let services: Vec<Service> = services;
    let moved: Vec<String> = moved.iter().map(|name| (*name).to_owned()).collect();
    next(nodes, &services, &tasks, &moved)
}

fn moves(name: &str) -> Option<Seen> {
    Some(Seen::Move(name.into()))
}

const EVEN: Option<Seen> = Some(Seen::Ends(End::Even));

#[test]
fn the_service_with_most_to_gain_moves_first_and_each_moves_once() {
    let nodes = nodes(&["a", "b", "new"]);
    let all = || [placed("small", &["a", "b"]), placed("large", &["a", "a", "b", "b"])];
    assert_eq!(asked(&nodes, &all(), &[]), moves("large"));
    assert_eq!(asked(&nodes, &all(), &["large"]), moves("small"));
    assert_eq!(asked(&nodes, &all(), &["large", "small"]), EVEN);
}

#[test]
fn what_is_even_enough_what_is_alone_and_what_may_not_run_there_stays() {
    let three = nodes(&["a", "b", "new"]);
    assert_eq!(asked(&three, &[placed("web", &["a", "b"])], &[]), EVEN, "a task more is not clearly more");
    assert_eq!(
        asked(&three, &[placed("one", &["a"]), placed("two", &["a"])], &[]),
        EVEN,
        "no replica would be left"
    );
    let bound = Placed { constraints: &["node.labels.zone==x"], ..placed("web", &["a", "a"]) };
    assert_eq!(asked(&nodes(&["a@x", "new@y"]), &[bound], &[]), EVEN);
    assert_eq!(asked(&[], &[], &[]), EVEN);
}

#[test]
fn no_more_than_a_few_services_move_in_one_pass() {
    let three = nodes(&["a", "b", "new"]);
    let web = [placed("web", &["a", "a", "b", "b"])];
    assert_eq!(asked(&three, &web, &["1", "2", "3", "4"]), moves("web"));
    assert_eq!(asked(&three, &web, &["1", "2", "3", "4", "5"]), EVEN);
}

#[test]
fn nothing_moves_while_a_service_is_on_its_way_and_nothing_more_once_one_has_stopped() {
    let three = nodes(&["a", "b", "new"]);
    let with = |state: &str| Placed { update: json!({"State": state}), ..placed("other", &["a", "b"]) };
    let web = || placed("web", &["a", "a", "b", "b"]);
    assert_eq!(asked(&three, &[web(), with("updating")], &[]), None);
    assert_eq!(asked(&three, &[web(), with("completed")], &[]), moves("web"));
    for state in ["paused", "rollback_paused", "rollback_completed"] {
        let stopped = asked(&three, &[web(), with(state)], &["other"]);
        assert!(matches!(stopped, Some(Seen::Ends(End::Stopped(why))) if why.contains("other")), "{state}");
    }
    assert_eq!(
        asked(&three, &[web(), with("rollback_completed")], &[]),
        moves("web"),
        "that was another update"
    );
    // Docker has not begun what it was asked for a moment ago: the tasks are those from before.
    let asked_for = Placed { forced: 1, ..placed("other", &["a", "b"]) };
    assert_eq!(asked(&three, &[web(), asked_for], &["other"]), None);
    let through = Placed { forced: 1, tasks_forced: 1, ..placed("other", &["a", "b"]) };
    assert_eq!(asked(&three, &[web(), through], &["other"]), moves("web"));
}
