//! What is shown of what is stored.

use serde_json::json;
use skep_ledger::Ledger;
use skep_model::fact::{self, Fact};
use skep_model::health::{self, Finding};
use skep_model::host::{self, Inventory, Machine, Membership, Role};
use skep_model::placement::Availability;

use crate::support::{Door, put, rule};

const RECIPE: &str =
    "services:\n  web:\n    image: whoami:1\n    ports: ['8080:80']\n    deploy: {replicas: 2}\n";

#[tokio::test]
async fn every_answer_says_who_answered_and_how_new_it_is() {
    let door = Door::new().await;
    for path in ["/v1/environments", "/v1/nothing", "/livez", "/v1/meta"] {
        let answer = door.get(path).await;
        assert_eq!((answer.header("skep-node"), answer.header("skep-revision")), ("m1", "1"), "{path}");
        assert!(!answer.header("skep-request-id").is_empty());
    }
}

#[tokio::test]
async fn the_manager_and_its_cluster_describe_themselves() {
    let door = Door::new().await;
    let meta = door.get("/v1/meta").await.body;
    let expected = json!({"version": env!("CARGO_PKG_VERSION"), "cluster": "c1", "node": "m1", "epoch": 2, "revision": 1});
    assert_eq!(meta, expected);
    let cluster = door.get("/v1/cluster").await.body;
    assert_eq!((&cluster["leader"], &cluster["failure_tolerance"]), (&json!("m1"), &json!(0)));
    let members = door.get("/v1/cluster/members?consistency=stale").await.body;
    assert_eq!(members["items"][0]["name"], "m1");
    assert!(members["items"][0]["api_url"].is_null() && members["revision"] == 7, "{members}");
}

#[tokio::test]
async fn built_in_templates_are_there_and_others_can_be_imported() {
    let door = Door::new().await;
    let document = "name: small\ndescription: one\nswarm: {managers: 1}\nnetwork: {mtu: 1400}\n";
    let answer = door.send(&crate::support::post("/v1/templates", json!({"document": document}))).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (201, "/v1/templates/small"));
    let spec = &answer.body["spec"];
    assert_eq!(
        (&spec["description"], &spec["swarm_managers"], &spec["spread_over"], &spec["mtu"]),
        (&json!("one"), &json!(1), &json!(null), &json!(1400))
    );
    assert_eq!(
        (&spec["public"], &spec["encrypted"], &spec["nfs"]),
        (&json!(true), &json!(false), &json!(null))
    );
    assert_eq!(door.get("/v1/templates/small").await.body["spec"], *spec);
    let all = door.get("/v1/templates").await.body;
    let names: Vec<_> =
        all["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["default", "single", "small"]);
    assert!(all["items"][0]["metadata"]["created_at"].is_null());
    door.get("/v1/templates/large").await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn what_a_template_is_exported_as_is_imported_as_the_same_and_replaces_it() {
    let door = Door::new().await;
    let import =
        async |wish: serde_json::Value| door.send(&crate::support::post("/v1/templates", wish)).await;
    let first = import(json!({"document": "network: {mtu: 1400}\n", "name": "web"})).await;
    assert_eq!(first.status.as_u16(), 201, "{first:?}");
    let exported = first.body["spec"]["document"].as_str().expect("is text").to_owned();
    import(json!({"document": exported})).await.is_problem(409, "SKP-1301");
    let again = import(json!({"document": exported, "replace": true})).await;
    assert_eq!(again.body["spec"], first.body["spec"]);
    import(json!({"document": "name: default\n", "replace": true})).await.is_problem(409, "SKP-1342");
    let foreign = "isPublic: \"true\"\nstacks:\n- name: hc\n  template_id: library:infra*healthcheck\n";
    let foreign = import(json!({"document": foreign, "name": "seed"})).await;
    assert_eq!(foreign.body["notes"].as_array().map(Vec::len), Some(1), "{foreign:?}");
    let removed = door.send(&crate::support::delete("/v1/templates/web")).await;
    assert_eq!(removed.status.as_u16(), 200);
    door.get("/v1/templates/web").await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn a_plan_says_what_applying_would_do() {
    let door = Door::new().await;
    door.environment("prod").await;
    let update = json!({"spec": {"mtu": 1400, "swarm_managers": 5}});
    let answer = door.send(&crate::support::patch("/v1/environments/prod", update)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["type"]),
        (202, &json!("update-environment")),
        "{answer:?}"
    );
    let shown = door.get("/v1/environments/prod").await.body;
    assert_eq!((&shown["spec"]["mtu"], &shown["spec"]["swarm_managers"]), (&json!(1400), &json!(5)));
    let plan = door.get("/v1/environments/prod/plan").await.body;
    let ways: Vec<_> =
        plan["differences"].as_array().expect("a list").iter().map(|line| &line["way"]).collect();
    assert_eq!(ways, ["kept", "kept"], "{plan}");
    let auto = json!({"spec": {"mtu": null}});
    door.send(&crate::support::patch("/v1/environments/prod", auto)).await;
    assert!(door.get("/v1/environments/prod").await.body["spec"]["mtu"].is_null());
    let apply = json!({"if_revision": 1});
    let apply = crate::support::post("/v1/environments/prod/actions/apply", apply);
    door.send(&apply).await.is_problem(409, "SKP-1343");
    let apply = json!({"follow": ["swarm.managers"]});
    let apply = crate::support::post("/v1/environments/prod/actions/apply", apply);
    assert_eq!(door.send(&apply).await.status.as_u16(), 202);
    assert_eq!(door.get("/v1/environments/prod").await.body["spec"]["swarm_managers"], 3);
}

#[tokio::test]
async fn what_is_wrong_is_shown_with_its_reason_and_since_when() {
    let door = Door::new().await;
    door.environment("prod").await;
    let host = door.host("prod", "web-1").await;
    let environment = door.find("prod").id;
    let node = Membership {
        node: "n1".into(),
        role: Role::Manager,
        leader: true,
        ready: true,
        availability: Availability::Active,
        reachable: true,
    };
    rule(&*door.ledger, |tx| {
        let machine = Machine { id: "vm".into(), address: "10.90.0.1".into() };
        fact::record(tx, &Fact::MachineExists(environment.clone(), host.clone(), machine))?;
        host::registration::register(tx, host.as_str(), b"key", true)?;
        host::reported(tx, host.as_str(), "m1", "s1", Some(Inventory::default()), Ok(()))?;
        let nodes = vec![(host.clone(), node.clone())];
        fact::record(tx, &Fact::SwarmSeen(environment.clone(), "swarm".into(), nodes))?;
        fact::record(tx, &Fact::EnvironmentOpened(environment.clone())).map(|()| true)
    })
    .await;
    let shown = door.get("/v1/environments/prod").await.body;
    assert_eq!(
        (&shown["status"]["state"], &shown["status"]["swarm"]["quorum"]),
        (&json!("active"), &json!(true))
    );

    let looked = door.ledger.view().revision();
    rule(&*door.ledger, |tx| {
        health::record(tx, &environment, looked, &[Finding::QuorumLost])?;
        host::disconnected(tx, host.as_str(), "s1").map(|()| true)
    })
    .await;
    let status = door.get("/v1/environments/prod").await.body["status"].clone();
    assert_eq!((&status["state"], &status["swarm"]["quorum"]), (&json!("degraded"), &json!(false)));
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("the swarm has lost its quorum: 0 of 1 swarm managers can be reached"),
        "{message}"
    );
    assert!(status["swarm"]["quorum_lost_at"].is_string(), "{status}");
    let status = door.get("/v1/environments/prod/hosts/web-1").await.body["status"].clone();
    assert_eq!((&status["state"], &status["since"]), (&json!("unreachable"), &status["agent"]["since"]));
    assert!(
        status["since"].is_string() && status["message"].as_str().unwrap().contains("not been heard since")
    );
}

#[tokio::test]
async fn hosts_are_shown_by_name_and_by_id() {
    let door = Door::new().await;
    door.environment("prod").await;
    let id = door.host("prod", "web-1").await;
    let by_name = door.get("/v1/environments/prod/hosts/web-1").await.body;
    assert_eq!(door.get(&format!("/v1/environments/prod/hosts/{id}")).await.body, by_name);
    assert_eq!(by_name["metadata"]["env"], "prod");
    assert_eq!(
        by_name["spec"],
        json!({"driver": "local", "role": "auto", "skip_preflight": false, "options": {}, "availability": "active",
               "labels": {}})
    );
    assert_eq!(by_name["status"]["state"], "creating");
    assert_eq!(by_name["status"]["agent"], json!({"connected": false, "manager": null, "since": null}));
    assert!(by_name["status"]["operation"].as_str().unwrap().starts_with("op_"));
    let list = door.get("/v1/environments/prod/hosts").await.body;
    assert_eq!(list["items"], json!([by_name]));
    let environment = door.get("/v1/environments/prod").await.body;
    assert_eq!(environment["status"]["hosts"], json!({"total": 1, "active": 0}));
    door.get("/v1/environments/prod/hosts/web-2").await.is_problem(404, "SKP-1203");
    door.get("/v1/environments/dev/hosts").await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn a_stack_is_shown_as_it_was_understood_and_without_its_variables() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.host("prod", "web-1").await;
    let wish = put(
        "/v1/environments/prod/stacks/shop",
        json!({"recipe": RECIPE, "variables": {"PASSWORD": "hidden"}}),
    );
    let answer = door.send(&wish).await;
    assert_eq!((answer.status.as_u16(), &answer.body["target"]), (202, &json!("stack/shop")));
    let stack = door.get("/v1/environments/prod/stacks/shop").await.body;
    let ports = json!([{"published": 8080, "target": 80, "protocol": "tcp", "mode": "ingress"}]);
    assert_eq!(
        stack["spec"]["services"],
        json!([{"name": "web", "image": "whoami:1", "replicas": 2, "ports": ports}])
    );
    assert_eq!((&stack["spec"]["recipe"], &stack["status"]["state"]), (&json!(RECIPE), &json!("deploying")));
    assert_eq!(stack["status"]["operation"], answer.body["id"]);
    assert!(!stack.to_string().contains("hidden"));
    assert_eq!(door.get("/v1/environments/prod/stacks").await.body["items"], json!([stack]));
}

#[tokio::test]
async fn drivers_say_whether_they_work_here() {
    let door = Door::new().await;
    let list = door.get("/v1/drivers").await.body;
    for (driver, kind) in list["items"].as_array().unwrap().iter().zip(skep_drivers::DRIVERS) {
        assert_eq!(driver["name"], kind.name);
        let problem = (kind.available)(&crate::support::drivers(door.spool.path().to_owned()))
            .err()
            .map(|error| error.to_string());
        assert_eq!((&driver["available"], &driver["reason"]), (&json!(problem.is_none()), &json!(problem)));
    }
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused() {
    let door = Door::new().await;
    for (path, word) in [
        ("/v1/environments?consistancy=stale", "consistancy"),
        ("/v1/environments?consistency=fresh", "fresh"),
        ("/v1/operations?state=done", "done"),
        ("/v1/meta?verbose=1", "verbose"),
    ] {
        let answer = door.get(path).await;
        answer.is_problem(400, "SKP-1001");
        assert!(answer.detail().contains(word), "{answer:?}");
    }
}

#[tokio::test]
async fn a_name_that_would_tear_a_key_apart_is_no_name() {
    let door = Door::new().await;
    door.get("/v1/environments/a%00b").await.is_problem(400, "SKP-1001");
    door.get("/v1/environments/a%2Fb").await.is_problem(404, "SKP-1203");
}
