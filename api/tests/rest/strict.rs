//! What a request has too much is named, whatever the request is: a misspelled wish must not be silently without effect.

use http::Method;
use serde_json::{Map, Value, json};

use crate::support::{Ask, Door, patch, post};

/// In no request.
const UNKNOWN: &str = "mispelled";

fn document() -> Value {
    serde_json::from_str(skep_api::document()).unwrap()
}

/// Every operation: its method, a path that could be one, and what is said about it.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut operations = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        let parts = path.split('/').map(|part| match part {
            "{kind}" => "user",
            _ if part.starts_with('{') => "x",
            _ => part,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            operations.push((method, path.clone(), operation.clone()));
        }
    }
    operations
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// The properties of an object that a schema may mean; one that may also be null is one of several.
fn properties<'a>(document: &'a Value, schema: &'a Value) -> Option<&'a Map<String, Value>> {
    let schema = resolved(document, schema);
    let mut one =
        ["oneOf", "anyOf", "allOf"].iter().flat_map(|word| schema[word].as_array().into_iter().flatten());
    schema["properties"].as_object().or_else(|| one.find_map(|one| properties(document, one)))
}

/// Bodies with an unknown field: at the top, and in each object and list of objects within.
fn bodies(document: &Value, schema: &Value, bodies: &mut Vec<Value>, wrap: &dyn Fn(Value) -> Value) {
    let Some(properties) = properties(document, schema) else { return };
    bodies.push(wrap(json!({UNKNOWN: 1})));
    for (name, inner) in properties {
        self::bodies(document, inner, bodies, &|value| wrap(json!({name.as_str(): value})));
        let items = &resolved(document, inner)["items"];
        self::bodies(document, items, bodies, &|value| wrap(json!({name.as_str(): [value]})));
    }
}

#[tokio::test]
async fn an_unknown_field_of_a_body_is_named_wherever_it_is() {
    let (door, document) = (Door::new().await, document());
    let mut sent = 0;
    for (method, path, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let mut wrong = vec![];
        bodies(&document, schema, &mut wrong, &|value| value);
        assert!(!wrong.is_empty(), "{method} {path} has a body without fields: {schema}");
        for body in wrong {
            let ask = Ask::new(method.clone(), &path)
                .with("content-type", "application/json")
                .with("upgrade", "skep-frames")
                .bytes(body.to_string());
            if path.ends_with("/exec") {
                // Its body is read when the connection can become frames, which one in a test cannot.
                assert_eq!(door.send(&ask).await.status, 426);
                continue;
            }
            let answer = door.send(&ask).await;
            assert_eq!(answer.status, 422, "{method} {path} {body}: {answer:?}");
            answer.is_problem(422, "SKP-1006");
            assert!(answer.detail().contains(UNKNOWN), "{method} {path} {body}: {answer:?}");
            sent += 1;
        }
    }
    assert!(sent >= 40, "{sent} bodies are too few to be all");
}

#[tokio::test]
async fn an_unknown_parameter_of_a_query_is_named_and_nothing_is_done() {
    let door = Door::new().await;
    let before = skep_ledger::Ledger::view(&*door.ledger).revision();
    for (method, path, _) in operations(&document()) {
        let answer = door.send(&Ask::new(method.clone(), &format!("{path}?{UNKNOWN}=1"))).await;
        assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
        answer.is_problem(400, "SKP-1001");
        assert!(answer.detail().contains(UNKNOWN), "{method} {path}: {answer:?}");
    }
    assert_eq!(skep_ledger::Ledger::view(&*door.ledger).revision(), before);
}

#[tokio::test]
async fn a_null_where_a_word_is_expected_is_of_another_form_and_no_bad_json() {
    let door = Door::new().await;
    let wish = json!({"role": null, "ttl_seconds": 60, "uses": 1});
    let made = door.send(&post("/v1/cluster/join-tokens", wish)).await;
    assert_eq!((made.status.as_u16(), &made.body["role"]), (201, &json!("voter")), "{made:?}");
    door.environment("prod").await;
    let wish = json!({"spec": {"availability": null}});
    let refused = door.send(&patch("/v1/environments/prod/hosts/x", wish)).await;
    assert_ne!(refused.body["code"], "SKP-1001", "{refused:?}");
}
