//! Reads and changes of the nouns, which are those of REST in other words.

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::{Client, POOL, json as shown, message, method};
use crate::contract::{Route, routes};
use crate::support::{Ask, Door};

async fn door_with_things() -> Door {
    let door = Door::new().await;
    door.environment("prod").await;
    door.host("prod", "web-1").await;
    let client = Client::new(&door);
    for (procedure, request) in [
        ("AccessService/CreateUser", json!({"wish": {"name": "ann", "password": "correct horse battery"}})),
        ("AccessService/CreateGroup", json!({"wish": {"name": "ops"}})),
        (
            "AccessService/SetEnvironmentMember",
            json!({
                "environment": "prod", "kind": "user", "member": "ann", "wish": {"role": "member"},
            }),
        ),
        ("TokenService/CreateToken", json!({"wish": {"name": "ci"}})),
    ] {
        client.call(procedure, request).await.unwrap_or_else(|status| panic!("{procedure}: {status:?}"));
    }
    door
}

/// A document without what is empty, which protobuf does not tell from what is absent, and times in one form.
fn essence(document: &Value) -> Value {
    match document {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), essence(value)));
            Value::Object(fields.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(values) => values.iter().map(essence).collect(),
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(time) => json!(time.to_string()),
            Err(_) => document.clone(),
        },
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[tokio::test]
async fn every_read_tells_what_its_route_tells() {
    let door = door_with_things().await;
    let client = Client::new(&door);
    let operation = door.get("/v1/operations").await.body["items"][0]["id"].as_str().unwrap().to_owned();
    let names = [
        ("environment", "prod"),
        ("host", "web-1"),
        ("template", "default"),
        ("user", "ann"),
        ("group", "ops"),
        ("role", "member"),
        ("driver", "local"),
        ("operation", operation.as_str()),
        ("schedule", "default"),
    ];
    let mut compared = 0;
    for Route { procedure, method, path, streams, .. } in routes() {
        if method != "GET" || streams {
            continue;
        }
        let mut fields = serde_json::Map::new();
        let mut place = path.clone();
        for (name, value) in names {
            if path.contains(&format!("{{{name}}}")) {
                place = place.replace(&format!("{{{name}}}"), value);
                fields.insert(name.into(), json!(value));
            }
        }
        if place.contains('{') {
            continue;
        }
        let told = client.call(&procedure, Value::Object(fields)).await;
        let answer = door.send(&Ask::new(Method::GET, &place)).await;
        if answer.status != 200 {
            assert_eq!(told.unwrap_err().message(), answer.detail(), "{procedure}");
            continue;
        }
        let told = told.unwrap_or_else(|status| panic!("{procedure}: {status:?}"));
        assert_eq!(essence(&told.message), essence(&answer.body), "{procedure}");
        assert_eq!(told.header("skep-revision"), answer.header("skep-revision"), "{procedure}");
        compared += 1;
    }
    assert!(compared > 25, "only {compared} reads could be compared");
}

#[tokio::test]
async fn a_wish_is_answered_with_the_operation_that_fulfils_it() {
    let door = Door::new().await;
    let client = Client::new(&door);
    let wish = json!({"wish": {"name": "prod", "template": "default", "spec": {"swarm_managers": 3}}});
    let told = client.call("EnvironmentService/CreateEnvironment", wish).await.unwrap();
    let operation = &told.message["operation"];
    assert_eq!(
        (&operation["type"], &operation["target"]),
        (&json!("create-environment"), &json!("environment/prod"))
    );
    let id = operation["id"].as_str().unwrap();
    assert_eq!(told.header("location"), format!("/v1/operations/{id}"));
    assert_eq!(told.header("skep-node"), "m1");
    let shown =
        client.call("EnvironmentService/GetEnvironment", json!({"environment": "prod"})).await.unwrap();
    assert_eq!(shown.message["spec"]["swarm_managers"], 3);
    assert_eq!(told.header("skep-revision"), shown.header("skep-revision"));
    let list = client.call("EnvironmentService/ListEnvironments", json!({})).await.unwrap();
    assert_eq!(list.message["items"][0]["metadata"]["name"], "prod");
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_tells_what_would_begin() {
    let door = Door::new().await;
    let client = Client::new(&door);
    let wish = json!({"wish": {"name": "prod", "template": "default"}, "dry_run": true});
    let told = client.call("EnvironmentService/CreateEnvironment", wish).await.unwrap();
    assert!(told.message["operation"].is_null(), "{told:?}");
    assert_eq!(told.message["would_begin"]["items"][0]["target"], "environment/prod");
    let list = client.call("EnvironmentService/ListEnvironments", json!({})).await.unwrap();
    assert!(list.message["items"].is_null(), "{list:?}");
}

#[tokio::test]
async fn a_call_that_is_repeated_with_its_key_changes_things_once() {
    let door = Door::new().await;
    let client = Client::new(&door).with("idempotency-key", "k1");
    let wish = json!({"wish": {"name": "prod", "template": "default"}});
    let first = client.call("EnvironmentService/CreateEnvironment", wish.clone()).await.unwrap();
    assert!(first.metadata.get("idempotency-replayed").is_none());
    let again = client.call("EnvironmentService/CreateEnvironment", wish).await.unwrap();
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(first.message["operation"]["id"], again.message["operation"]["id"]);
    // The same request over REST is the same request.
    let ask = crate::support::post("/v1/environments", json!({"name": "other", "template": "default"}));
    door.send(&ask.with("idempotency-key", "k1")).await.is_problem(422, "SKP-1007");
}

#[tokio::test]
async fn a_change_is_made_only_to_what_was_seen() {
    let door = Door::new().await;
    let client = Client::new(&door);
    let role =
        |permission: &str| json!({"role": "deployer", "wish": {"spec": {"permissions": [permission]}}});
    client.call("AccessService/SetRole", role("view:host")).await.unwrap();
    let get = json!({"role": "deployer"});
    let seen = client.call("AccessService/GetRole", get.clone()).await.unwrap().header("etag").to_owned();
    let careful = client.with("if-match", &seen);
    careful.call("AccessService/SetRole", role("view:stack")).await.unwrap();
    let refused = careful.call("AccessService/SetRole", role("view:log")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let now = client.call("AccessService/GetRole", get).await.unwrap();
    assert_eq!(refused.metadata().get("etag").unwrap(), now.header("etag"));
    assert_eq!(now.message["spec"]["permissions"], json!(["view:stack"]));
    let only_new = client.with("if-none-match", "*").call("AccessService/SetRole", role("view:log")).await;
    assert_eq!(only_new.unwrap_err().code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn a_wish_in_part_says_which_numbers_are_whole_and_what_is_taken_back() {
    let door = Door::new().await;
    door.environment("prod").await;
    let client = Client::new(&door);
    for (mtu, expected) in [(json!(1400), json!(1400)), (json!(null), json!(null))] {
        let change = json!({"environment": "prod", "wish": {"spec": {"mtu": mtu}}});
        let told = client.call("EnvironmentService/UpdateEnvironment", change).await.unwrap();
        assert_eq!(told.message["operation"]["type"], "update-environment", "{told:?}");
        let get = json!({"environment": "prod"});
        let shown = client.call("EnvironmentService/GetEnvironment", get).await.unwrap();
        assert_eq!(shown.message["spec"]["mtu"], expected, "{shown:?}");
    }
}

#[tokio::test]
async fn queries_are_passed_on() {
    let door = Door::new().await;
    for name in ["a", "b", "c"] {
        door.environment(name).await;
    }
    let client = Client::new(&door);
    let page = client.call("OperationService/ListOperations", json!({"limit": 2})).await.unwrap();
    assert_eq!(page.message["items"].as_array().unwrap().len(), 2);
    let cursor = &page.message["next_cursor"];
    let rest = client.call("OperationService/ListOperations", json!({"cursor": cursor})).await.unwrap();
    assert_eq!(rest.message["items"].as_array().unwrap().len(), 1);
    let none = client
        .call("OperationService/ListOperations", json!({"state": ["failed", "cancelled"]}))
        .await
        .unwrap();
    assert!(none.message["items"].is_null(), "{none:?}");
    let stale =
        client.call("EnvironmentService/ListEnvironments", json!({"consistency": "stale"})).await.unwrap();
    assert_eq!(stale.header("skep-consistency"), "stale");
}

#[tokio::test]
async fn whoever_signs_in_gets_a_key_that_opens_this_door() {
    let door = door_with_things().await;
    let stranger = Client::new(&door).without_token();
    let credentials =
        json!({"credentials": {"user": "ann", "password": "correct horse battery", "provider": "local"}});
    let told = stranger.call("TokenService/SignIn", credentials).await.unwrap();
    let token = told.message["token"].as_str().unwrap();
    let ann = stranger.with("authorization", &format!("Bearer {token}"));
    assert_eq!(ann.call("MetaService/Whoami", json!({})).await.unwrap().message["principal"], "ann");
}

#[tokio::test]
async fn a_change_is_in_the_audit_under_its_route() {
    let door = Door::new().await;
    let client = Client::new(&door);
    let wish = json!({"wish": {"name": "prod", "template": "default"}});
    client.call("EnvironmentService/CreateEnvironment", wish).await.unwrap();
    let audit = client.call("AuditService/ListAudit", json!({})).await.unwrap();
    let entry = &audit.message["items"][0];
    assert_eq!((&entry["call"], &entry["principal"]), (&json!("POST /v1/environments"), &json!("admin")));
}

/// The client of these tests would not notice if it lost fields itself.
#[test]
fn what_the_tests_read_is_what_was_written() {
    let kind = method("HostService/CreateHost").input();
    let document =
        json!({"environment": "prod", "wish": {"name": "web-1", "driver": "local", "options": {"a": "b"}}});
    assert_eq!(shown(&message(&kind, document.clone())), document);
    assert!(POOL.services().count() > 10);
}
