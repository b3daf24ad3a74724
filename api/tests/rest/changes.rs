//! Wishes: what is accepted, what is refused and how, and what a repetition does.

use http::Method;
use serde_json::json;
use skep_ledger::Ledger;

use crate::support::{Ask, Door, delete, drivers, post, put};

const KEY: &str = "idempotency-key";

fn environment(name: &str) -> Ask {
    post("/v1/environments", json!({"name": name, "template": "default"}))
}

async fn environments(door: &Door) -> usize {
    door.get("/v1/environments").await.body["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_wish_is_answered_with_an_operation_that_can_be_read() {
    let door = Door::new().await;
    let answer = door.environment("prod").await;
    let id = answer.body["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/v1/operations/{id}"));
    assert_eq!(
        (&answer.body["type"], &answer.body["target"]),
        (&json!("create-environment"), &json!("environment/prod"))
    );
    assert_eq!(answer.header("skep-revision"), answer.body["revision"].to_string());
    assert!(answer.headers.get("idempotency-replayed").is_none());
    let read = door.get(answer.header("location")).await;
    assert_eq!((read.status.as_u16(), &read.body), (200, &answer.body));
    let shown = door.get("/v1/environments/prod").await.body;
    assert_eq!((&shown["status"]["state"], &shown["status"]["operation"]), (&json!("creating"), &json!(id)));
}

#[tokio::test]
async fn the_rules_refusals_are_told_with_their_codes() {
    let door = Door::new().await;
    door.environment("prod").await;
    let hosts = |count: usize| json!({"name": "big", "template": "default", "hosts": {"count": count, "driver": "local"}});
    for (ask, status, code) in [
        (environment("prod"), 409, "SKP-1301"),
        (post("/v1/environments", json!({"name": "dev", "template": "huge"})), 404, "SKP-1203"),
        (environment("Bad_Name"), 422, "SKP-1201"),
        (post("/v1/environments", hosts(1001)), 409, "SKP-1401"),
        (post("/v1/environments/dev/hosts", json!({"name": "a", "driver": "clouds"})), 422, "SKP-2001"),
        (post("/v1/templates", json!({"document": "name: x\nswarms: 3\n"})), 422, "SKP-2603"),
        (post("/v1/templates", json!({"document": "name: x\nswarm: {managers: 2}\n"})), 422, "SKP-2603"),
        (post("/v1/templates", json!({"document": "name: default\n"})), 409, "SKP-1342"),
        (
            put("/v1/environments/prod/stacks/shop", json!({"recipe": "services: {a: {image: b}}"})),
            409,
            "SKP-1303",
        ),
        (delete("/v1/environments/dev"), 404, "SKP-1203"),
        (delete("/v1/environments/prod/hosts/a"), 404, "SKP-1203"),
        (delete("/v1/environments/prod/stacks/a"), 404, "SKP-1203"),
    ] {
        let answer = door.send(&ask).await;
        answer.is_problem(status, code);
    }
    let taken = door.send(&environment("prod")).await;
    assert_eq!(taken.body["params"], json!({"what": "an environment", "name": "prod"}));
    assert_eq!(taken.body["reason"], "NAME_TAKEN");
    assert!(taken.body["hint"].is_string());
}

#[tokio::test]
async fn hosts_are_wished_if_their_driver_works_here() {
    let door = Door::new().await;
    door.environment("prod").await;
    let answer =
        door.send(&post("/v1/environments/prod/hosts", json!({"name": "web-1", "driver": "local"}))).await;
    let wish =
        json!({"name": "dev", "template": "single", "hosts": {"count": 2, "driver": "local", "options": {}}});
    let several = door.send(&post("/v1/environments", wish)).await;
    if let Err(error) =
        skep_drivers::check(&drivers(door.spool.path().to_owned()), "local", &Default::default())
    {
        answer.is_problem(422, "SKP-2001");
        several.is_problem(422, "SKP-2001");
        assert_eq!(answer.detail(), error.to_string());
        return;
    }
    assert_eq!((answer.status.as_u16(), &answer.body["target"]), (202, &json!("host/web-1")));
    assert_eq!(several.body["children"].as_array().unwrap().len(), 2);
    for child in several.body["children"].as_array().unwrap() {
        let child = door.get(&format!("/v1/operations/{}", child.as_str().unwrap())).await.body;
        assert_eq!((&child["parent"], &child["type"]), (&several.body["id"], &json!("create-host")));
    }
    assert_eq!(door.get(several.header("location")).await.body["children"], several.body["children"]);
    assert_eq!(door.get("/v1/environments/dev/hosts/dev-2").await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_not_understood_is_refused_with_its_place() {
    let door = Door::new().await;
    let wish = |body: &str| post("/v1/environments", json!(null)).bytes(body);
    let answer = door.send(&wish("{\"name\": \"prod\",\n \"template\": }")).await;
    answer.is_problem(400, "SKP-1001");
    assert_eq!(answer.body["errors"][0]["line"], 2);
    let answer = door.send(&wish("{\"name\": \"prod\",\n \"templat\": \"default\"}")).await;
    answer.is_problem(422, "SKP-1006");
    assert!(answer.detail().contains("unknown field `templat`"), "{answer:?}");
    assert_eq!(answer.body["errors"][0]["line"], 2);
    let nested =
        "{\"name\":\"a\",\"template\":\"b\",\"hosts\":{\"count\":1,\"driver\":\"local\",\"optons\":{}}}";
    assert!(door.send(&wish(nested)).await.detail().contains("`optons`"));
    door.send(&wish("{\"name\":\"a\",\"template\":\"b\\u0000c\"}")).await.is_problem(422, "SKP-1006");
    door.send(&wish("")).await.is_problem(400, "SKP-1001");
    door.send(&environment("prod").with("content-type", "text/plain")).await.is_problem(415, "SKP-1005");
    door.send(&wish(&"x".repeat(1024 * 1024 + 1))).await.is_problem(413, "SKP-1004");
    assert_eq!(environments(&door).await, 0);
}

#[tokio::test]
async fn a_recipe_is_refused_line_by_line() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.host("prod", "web-1").await;
    let recipe = "services:\n  web:\n    image: whoami:1\n    prots: ['80']\n    build: .\n";
    let answer = door.send(&put("/v1/environments/prod/stacks/shop", json!({"recipe": recipe}))).await;
    answer.is_problem(422, "SKP-2601");
    let errors = answer.body["errors"].as_array().unwrap();
    assert_eq!(errors.iter().map(|error| error["line"].clone()).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(errors[0]["pointer"], "services.web.prots");
    assert!(errors[0]["detail"].as_str().unwrap().contains("'ports'"), "{errors:?}");
    door.get("/v1/environments/prod/stacks/shop").await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn a_recipe_that_the_environment_has_no_room_for_is_refused() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.host("prod", "web-1").await;
    let wish = |name: &str, recipe: &str| {
        put(&format!("/v1/environments/prod/stacks/{name}"), json!({"recipe": recipe}))
    };
    let on_hosts =
        "services:\n  web:\n    image: whoami:1\n    ports: [{target: 80, published: 8080, mode: host}]\n";
    assert_eq!(door.send(&wish("shop", on_hosts)).await.status, 202);
    let taken = door.send(&wish("blog", on_hosts)).await;
    taken.is_problem(409, "SKP-2602");
    assert_eq!(taken.body["params"], json!({"port": "8080/tcp", "by": "shop/web"}));
    let shared = "services:\n  web:\n    image: whoami:1\n    volumes: ['data:/data']\nvolumes:\n  data: {driver: nfs}\n";
    door.send(&wish("wiki", shared)).await.is_problem(409, "SKP-1344");
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_changes_nothing() {
    let door = Door::new().await;
    let ask = environment("prod").with(KEY, "0198f2c1-d5a2-7e0f-8d3a-6b1c2d3e4f50");
    let first = door.send(&ask).await;
    door.send(&delete("/v1/environments/prod")).await;
    let again = door.send(&ask).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (202, "true"));
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("location"), first.header("location"));
    assert!(first.headers.get("idempotency-replayed").is_none());
    assert_eq!(environments(&door).await, 1);
}

#[tokio::test]
async fn a_repeated_deployment_is_not_deployed_again() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.host("prod", "web-1").await;
    let ask = put("/v1/environments/prod/stacks/shop", json!({"recipe": "services: {a: {image: b}}"}));
    let first = door.send(&ask.clone().with(KEY, "k")).await;
    let again = door.send(&ask.clone().with(KEY, "k")).await;
    assert_eq!((&again.body["id"], again.header("idempotency-replayed")), (&first.body["id"], "true"));
    let other = door.send(&ask.with(KEY, "l")).await;
    assert_ne!(other.body["id"], first.body["id"]);
    assert_eq!(other.body["state"], "queued");
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let door = Door::new().await;
    door.send(&environment("prod").with(KEY, "k")).await;
    for other in [environment("dev"), environment("Bad_Name")] {
        door.send(&other.with(KEY, "k")).await.is_problem(422, "SKP-1007");
    }
    // The same key elsewhere, or another key here, are other requests.
    assert_eq!(door.send(&delete("/v1/environments/prod").with(KEY, "k")).await.status, 202);
    door.send(&environment("prod").with(KEY, "l")).await.is_problem(409, "SKP-1301");
    door.send(&environment("prod")).await.is_problem(409, "SKP-1301");
    for key in ["", &"x".repeat(256), "ü", "a\tb"] {
        door.send(&environment("new").with(KEY, key)).await.is_problem(400, "SKP-1001");
    }
    assert_eq!(environments(&door).await, 1);
}

#[tokio::test]
async fn a_refused_request_may_succeed_later_with_the_same_key() {
    let door = Door::new().await;
    let ask = post("/v1/environments", json!({"name": "prod", "template": "small"})).with(KEY, "k");
    door.send(&ask).await.is_problem(404, "SKP-1203");
    door.send(&post("/v1/templates", json!({"document": "name: small\n"}))).await;
    let answer = door.send(&ask).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert!(answer.headers.get("idempotency-replayed").is_none());
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.host("prod", "web-1").await;
    let before = door.ledger.view().revision();
    let recipe = json!({"recipe": "services: {a: {image: b}}"});
    for (ask, workflow) in [
        (
            post("/v1/environments?dry_run=true", json!({"name": "dev", "template": "default"})),
            "create-environment",
        ),
        (put("/v1/environments/prod/stacks/shop?dry_run=true", recipe), "deploy-stack"),
        (delete("/v1/environments/prod/hosts/web-1?dry_run=true"), "remove-host"),
        (delete("/v1/environments/prod?dry_run=true"), "remove-environment"),
    ] {
        let answer = door.send(&ask.with(KEY, "k")).await;
        assert_eq!(answer.status, 200, "{workflow}: {answer:?}");
        let started: Vec<_> =
            answer.body["items"].as_array().unwrap().iter().map(|item| &item["type"]).collect();
        assert_eq!(started, [workflow]);
    }
    let template = post("/v1/templates?dry_run=true", json!({"document": "name: small\n"}));
    assert_eq!(door.send(&template).await.body["metadata"]["name"], "small");
    assert_eq!(door.ledger.view().revision(), before);
    door.send(&post("/v1/environments?dry_run=true", json!({"name": "prod", "template": "default"})))
        .await
        .is_problem(409, "SKP-1301");
    assert_eq!(door.ledger.view().revision(), before);
}

#[tokio::test]
async fn removing_an_environment_again_gives_the_same_operation() {
    let door = Door::new().await;
    door.environment("prod").await;
    let first = door.send(&delete("/v1/environments/prod")).await;
    let again = door.send(&delete("/v1/environments/prod")).await;
    assert_eq!(first.body["id"], again.body["id"]);
    assert_eq!(door.get("/v1/environments/prod").await.body["status"]["state"], "deleting");
    let host = post("/v1/environments/prod/hosts", json!({"name": "a", "driver": "local"}));
    let refused = door.send(&host).await;
    assert!(["SKP-1302", "SKP-2001"].contains(&refused.body["code"].as_str().unwrap()), "{refused:?}");
    let method = Ask::new(Method::PUT, "/v1/environments/prod");
    door.send(&method).await.is_problem(405, "SKP-1003");
}
