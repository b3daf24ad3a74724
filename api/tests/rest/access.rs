//! Who may come in, and what is said to those who may not.

use http::Method;
use serde_json::Value;

use crate::support::{Ask, Door};

const OPEN: &[&str] = &["/livez", "/readyz", "/lbz", "/leaderz", "/v1/auth-providers", "/v1/openapi.json"];

/// Open as well: whoever asks proves by the body that they may.
const WITH_A_SECRET_IN_THE_BODY: &[&str] =
    &["/v1/device-codes", "/v1/device-codes/actions/exchange", "/v1/sessions", "/v1/setup"];

#[tokio::test]
async fn every_documented_route_is_closed_without_a_token() {
    let door = Door::new().await;
    let document: Value = serde_json::from_str(skep_api::document()).unwrap();
    let mut walked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let place: Vec<_> =
            path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = door.send(&Ask::new(method.clone(), &place.join("/")).without_token()).await;
            walked += 1;
            if OPEN.contains(&path.as_str()) {
                assert_eq!(answer.status, 200, "{method} {path}");
                assert_eq!(item["get"]["security"], serde_json::json!([{}]), "{path}");
            } else if WITH_A_SECRET_IN_THE_BODY.contains(&path.as_str()) && method == Method::POST {
                answer.is_problem(400, "SKP-1001");
                assert_eq!(item["post"]["security"], serde_json::json!([{}]), "{path}");
            } else if path.starts_with("/join/") {
                answer.is_problem(403, "SKP-1503");
                assert_eq!(
                    item["get"]["security"],
                    serde_json::json!([{}]),
                    "the token is in the path: {path}"
                );
            } else {
                answer.is_problem(401, "SKP-1101");
                assert_eq!(answer.header("www-authenticate"), "Bearer");
                assert!(item["get"]["security"].is_null(), "{path}");
            }
        }
    }
    assert!(walked > 25, "the document has {walked} operations only");
}

#[tokio::test]
async fn frames_are_for_those_who_offer_to_speak_them() {
    let door = Door::new().await;
    let path = "/v1/environments/x/hosts/x/logs";
    door.send(&Ask::new(Method::GET, path)).await.is_problem(426, "SKP-1008");
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_not_told() {
    let door = Door::new().await;
    let mut texts = vec![];
    for value in [
        "",
        "Bearer",
        "Bearer nonsense",
        "Bearer skp_one_wrong",
        "Bearer skp_two_secret",
        "Basic skp_one_secret",
    ] {
        let mut answer = door.send(&Ask::new(Method::GET, "/v1/whoami").with("authorization", value)).await;
        answer.is_problem(401, "SKP-1101");
        answer.body["request_id"] = Value::Null;
        texts.push(answer.body);
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:#?}");
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_told_only_to_those_who_may_come_in() {
    let door = Door::new().await;
    for path in ["/v1/nothing", "/", "/livez/", "/v1/environments/"] {
        let ask = Ask::new(Method::GET, path);
        door.send(&ask.clone().without_token()).await.is_problem(401, "SKP-1101");
        door.send(&ask).await.is_problem(404, "SKP-1002");
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_told_with_those_that_it_does() {
    let door = Door::new().await;
    let answer = door.send(&Ask::new(Method::PATCH, "/v1/environments")).await;
    answer.is_problem(405, "SKP-1003");
    assert!(answer.header("allow").contains("POST"), "{answer:?}");
}

#[tokio::test]
async fn the_token_says_who_is_asking() {
    let answer = Door::new().await.get("/v1/whoami").await;
    assert_eq!(answer.body["principal"], "admin");
    assert_eq!(answer.body["token"]["id"], "one");
    let permissions = answer.body["permissions"].as_array().unwrap();
    assert_eq!(permissions.len(), skep_model::access::Permission::ALL.len());
}
