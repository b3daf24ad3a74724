//! The grammar of lists: which, in which order, how many, and what of them.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Ask, Door, delete, post};

const NAMES: [&str; 5] = ["edge-1", "edge-2", "lab", "prod", "test"];

async fn five() -> Door {
    let door = Door::new().await;
    for name in NAMES {
        door.environment(name).await;
    }
    door
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_is_chosen_is_what_fulfils_every_condition_in_one_of_its_values() {
    let door = five().await;
    door.host("prod", "web-1").await;
    for (query, expected) in [
        ("", NAMES.to_vec()),
        ("name=lab", vec!["lab"]),
        ("name=edge-*", vec!["edge-1", "edge-2"]),
        ("name=lab&name=prod", vec!["lab", "prod"]),
        ("name=edge-*&name=prod&q=PROD", vec!["prod"]),
        ("spec.template=default&name=t*", vec!["test"]),
        ("spec.template=another", vec![]),
        ("q=nothing-like-it", vec![]),
        ("sort=-name&limit=2", vec!["test", "prod"]),
        ("sort=created_at", NAMES.to_vec()),
    ] {
        let answer = door.get(&format!("/v1/environments?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        assert_eq!(names(&answer.body), expected, "{query}");
    }
}

#[tokio::test]
async fn pages_tell_everything_once_whatever_comes_and_goes_between_them() {
    let door = five().await;
    let first = door.get("/v1/environments?limit=2&count=true").await;
    assert_eq!((names(&first.body), &first.body["count"]), (vec!["edge-1", "edge-2"], &json!(5)));
    // The last one of the page goes before the next one is asked for, and one comes before it.
    door.send(&delete("/v1/environments/edge-2")).await;
    door.environment("a-new-one").await;
    let link = first.header("link").to_owned();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert!(link.ends_with("rel=\"next\""), "{link}");
    let second = door.get(next).await;
    assert_eq!(names(&second.body), ["lab", "prod"], "{second:?}");
    let cursor = second.body["next_cursor"].as_str().unwrap();
    let third = door.get(&format!("/v1/environments?limit=1000&count=true&cursor={cursor}")).await;
    assert_eq!(names(&third.body), ["test"]);
    assert_eq!(third.body["next_cursor"], Value::Null);
    assert!(!third.headers.contains_key("link"));
}

#[tokio::test]
async fn a_cursor_is_worth_nothing_for_another_question_or_another_caller() {
    let door = five().await;
    let cursor = |answer: &Answer| answer.body["next_cursor"].as_str().unwrap().to_owned();
    let mine = cursor(&door.get("/v1/environments?limit=1&name=*").await);
    let flipped: String = mine.chars().rev().collect();
    for query in [
        format!("cursor={mine}"),
        format!("name=*&sort=name&cursor={mine}"),
        format!("name=*&cursor={flipped}"),
        "name=*&cursor=0".into(),
        "name=*&cursor=".into(),
    ] {
        let answer = door.get(&format!("/v1/environments?{query}")).await;
        answer.is_problem(400, "SKP-1001");
        assert!(answer.detail().contains("cursor"), "{answer:?}");
    }
    assert_eq!(door.get(&format!("/v1/environments?limit=3&name=*&cursor={mine}")).await.status, 200);
    let user = json!({"name": "ann", "password": "a long enough password"});
    assert_eq!(door.send(&post("/v1/users", user)).await.status, 201);
    let session = json!({"user": "ann", "password": "a long enough password"});
    let session = door.send(&post("/v1/sessions", session).without_token()).await;
    let bearer = format!("Bearer {}", session.body["token"].as_str().unwrap());
    let ask = Ask::new(Method::GET, &format!("/v1/environments?name=*&cursor={mine}"));
    door.send(&ask.with("authorization", &bearer)).await.is_problem(400, "SKP-1001");
}

#[tokio::test]
async fn only_the_fields_that_are_wished_are_told() {
    let door = five().await;
    let answer = door.get("/v1/environments?name=lab&fields=name,spec.template").await;
    assert_eq!(answer.body["items"], json!([{"metadata": {"name": "lab"}, "spec": {"template": "default"}}]));
}

#[tokio::test]
async fn what_is_not_understood_is_named() {
    let door = five().await;
    for (query, named) in [
        ("nam=lab", "'nam'"),
        ("limit=0", "limit"),
        ("limit=many", "'many'"),
        ("count=maybe", "'maybe'"),
        ("sort=colour", "'colour'"),
        ("fields=colour", "'colour'"),
        ("consistency=sometimes", "sometimes"),
        ("colour.of=red", "'colour.of'"),
    ] {
        let answer = door.get(&format!("/v1/environments?{query}")).await;
        answer.is_problem(400, "SKP-1001");
        assert!(answer.detail().contains(named), "{query}: {answer:?}");
    }
    let answer = door.get("/v1/operations?state=sleeping").await;
    answer.is_problem(400, "SKP-1001");
    assert!(answer.detail().contains("sleeping"), "{answer:?}");
}

#[tokio::test]
async fn a_cursor_leads_on_for_a_quarter_of_an_hour() {
    let door = five().await;
    let first = door.get("/v1/environments?limit=1").await;
    let next = format!("/v1/environments?limit=1&cursor={}", first.body["next_cursor"].as_str().unwrap());
    let later = |minutes: i64| jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_mins(minutes);
    door.ledger.set_now(later(15));
    assert_eq!(door.get(&next).await.status, 200);
    door.ledger.set_now(later(16));
    door.get(&next).await.is_problem(410, "SKP-1013");
}
