//! Sessions that browsers keep in a cookie, and what other pages cannot do with them.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Ask, Door, TOKEN, delete, post};

const PASSWORD: &str = "correct horse battery";

/// A browser that is signed in: its cookie, and what it proves with that it shows our page.
struct Browser {
    cookie: String,
    csrf: String,
    id: String,
}

async fn door() -> Door {
    let door = Door::new().await;
    let made = door.send(&post("/v1/users", json!({"name": "ann", "password": PASSWORD}))).await;
    assert_eq!(made.status, 201, "{made:?}");
    door
}

async fn signed_in(door: &Door) -> (Browser, Answer) {
    let body = json!({"user": "ann", "password": PASSWORD, "cookie": true});
    let session = door.send(&post("/v1/sessions", body).without_token()).await;
    assert_eq!(session.status, 201, "{session:?}");
    let text = |member: &str| session.body[member].as_str().unwrap().to_owned();
    let (cookie, _) = session.header("set-cookie").split_once(';').unwrap();
    let browser = Browser { cookie: cookie.to_owned(), csrf: text("csrf"), id: text("id") };
    (browser, session)
}

impl Browser {
    fn with_cookie(&self, ask: Ask) -> Ask {
        ask.without_token().with("cookie", &format!("theme=dark; {}", self.cookie))
    }

    fn get(&self, path: &str) -> Ask {
        self.with_cookie(Ask::new(Method::GET, path))
    }
}

#[tokio::test]
async fn what_cannot_be_a_name_is_refused_like_a_wrong_one() {
    let door = Door::new().await;
    for name in ["", "a\0b", "Ann", "\u{d5}"] {
        let refused = door
            .send(&post("/v1/sessions", json!({"user": name, "password": PASSWORD})).without_token())
            .await;
        assert_eq!(refused.status, 401, "{name:?}: {refused:?}");
    }
}

#[tokio::test]
async fn the_session_is_in_a_cookie_that_no_script_reads() {
    let door = door().await;
    let (browser, session) = signed_in(&door).await;
    let set = session.header("set-cookie");
    let attributes: Vec<_> = set.split("; ").skip(1).collect();
    assert_eq!(attributes, ["Path=/", "Max-Age=43200", "HttpOnly", "Secure", "SameSite=Lax"]);
    assert!(browser.cookie.starts_with("__Host-skep=skp_"));
    assert!(session.body["token"].is_null());
    let secret = browser.cookie.rsplit('_').next().unwrap();
    assert!(!session.body.to_string().contains(secret), "{session:?}");
    let whoami = door.send(&browser.get("/v1/whoami")).await;
    assert_eq!(whoami.body["principal"], "ann", "{whoami:?}");
}

#[tokio::test]
async fn a_change_needs_more_than_the_cookie() {
    let door = door().await;
    let ((browser, _), (other, _)) = (signed_in(&door).await, signed_in(&door).await);
    let make = || browser.with_cookie(post("/v1/tokens", json!({"name": "laptop"})));
    let refused = door.send(&make()).await;
    refused.is_problem(403, "SKP-1112");
    assert!(!refused.body.to_string().contains(&browser.csrf), "{refused:?}");
    door.send(&make().with("x-skep-csrf", "")).await.is_problem(403, "SKP-1112");
    door.send(&make().with("x-skep-csrf", &other.csrf)).await.is_problem(403, "SKP-1112");
    door.send(&make().with("origin", "https://skep.example.com").with("host", "skep.example.com"))
        .await
        .is_problem(403, "SKP-1112");
    assert_eq!(door.send(&make().with("x-skep-csrf", &browser.csrf)).await.status, 201);
    // A page that was loaded again asks for it.
    let current = door.send(&browser.get("/v1/sessions/current")).await.body;
    assert_eq!((&current["csrf"], &current["id"]), (&json!(browser.csrf), &json!(browser.id)));
    assert!(current["token"].is_null(), "{current}");
}

#[tokio::test]
async fn a_connection_that_becomes_another_is_asked_for_by_our_own_page() {
    let door = door().await;
    let (browser, _) = signed_in(&door).await;
    let logs = || {
        let ask = browser.get("/v1/environments/x/hosts/x/logs");
        ask.with("upgrade", "skep-frames").with("host", "skep.example.com")
    };
    door.send(&logs()).await.is_problem(403, "SKP-1112");
    door.send(&logs().with("origin", "https://evil.example.com")).await.is_problem(403, "SKP-1112");
    // From here on it is about whether there is such a thing.
    let ours = door.send(&logs().with("origin", "https://skep.example.com")).await;
    ours.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn a_token_in_the_header_goes_before_the_cookie() {
    let door = door().await;
    let (browser, _) = signed_in(&door).await;
    let whoami = |token: &str| browser.get("/v1/whoami").with("authorization", token);
    let by_header = door.send(&whoami(&format!("Bearer {TOKEN}"))).await;
    assert_eq!(by_header.body["principal"], "admin", "{by_header:?}");
    door.send(&whoami("Bearer skp_x_y")).await.is_problem(401, "SKP-1101");
    let key =
        Ask::new(Method::GET, "/v1/whoami").without_token().with("cookie", &format!("__Host-skep={TOKEN}"));
    door.send(&key).await.is_problem(401, "SKP-1101");
}

#[tokio::test]
async fn signing_out_ends_the_session_and_clears_the_cookie() {
    let door = door().await;
    let (browser, _) = signed_in(&door).await;
    let sign_out = || browser.with_cookie(delete("/v1/sessions/current"));
    door.send(&sign_out()).await.is_problem(403, "SKP-1112");
    assert_eq!(door.send(&browser.get("/v1/whoami")).await.status, 200);
    let gone = door.send(&sign_out().with("x-skep-csrf", &browser.csrf)).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    assert!(gone.header("set-cookie").starts_with("__Host-skep=; Path=/; Max-Age=0;"), "{gone:?}");
    door.send(&browser.get("/v1/whoami")).await.is_problem(401, "SKP-1101");
}

#[tokio::test]
async fn people_see_and_end_their_own_sessions() {
    let door = door().await;
    let ((one, _), (other, _)) = (signed_in(&door).await, signed_in(&door).await);
    door.send(&post("/v1/users", json!({"name": "ben", "password": PASSWORD}))).await;
    let bens = post("/v1/sessions", json!({"user": "ben", "password": PASSWORD})).without_token();
    let bens = door.send(&bens).await.body;
    assert!(bens["token"].is_string() && bens["csrf"].is_null(), "{bens}");
    let key = one.with_cookie(post("/v1/tokens", json!({}))).with("x-skep-csrf", &one.csrf);
    let key = door.send(&key).await.body;
    let ids = async || {
        let list = door.send(&one.get("/v1/sessions")).await.body;
        let items: Vec<Value> = list["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut both = [one.id.clone(), other.id.clone()];
    let mut listed = ids().await;
    both.sort();
    listed.sort();
    assert_eq!(listed, both, "neither the key nor another's session");
    let end = |id: &str| {
        let ask = one.with_cookie(delete(&format!("/v1/sessions/{id}")));
        ask.with("x-skep-csrf", &one.csrf)
    };
    for foreign in [bens["id"].as_str().unwrap(), key["id"].as_str().unwrap(), "nothing"] {
        let refused = door.send(&end(foreign)).await;
        refused.is_problem(404, "SKP-1203");
        assert!(refused.detail().contains("session"), "{refused:?}");
    }
    let ended = door.send(&end(&other.id)).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    assert!(!ended.headers.contains_key("set-cookie"), "it is not the one that asks");
    door.send(&other.get("/v1/whoami")).await.is_problem(401, "SKP-1101");
    assert_eq!(ids().await, std::slice::from_ref(&one.id));
    // Whoever comes with a key has no session that is current.
    let keyed = format!("Bearer {}", key["token"].as_str().unwrap());
    let current = Ask::new(Method::GET, "/v1/sessions/current").with("authorization", &keyed);
    door.send(&current).await.is_problem(404, "SKP-1203");
}
