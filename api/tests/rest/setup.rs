//! How the first administrator comes in, and how nobody else does.

use http::Method;
use serde_json::{Value, json};
use skep_ledger::Ledger as _;
use skep_model::access::{self, Permission};

use crate::support::{Answer, Ask, Door, NoHosts, TOKEN, delete, hub, identity, post, rule};

const CODE: &str = "7Q3KD-0R5TX-9M2WB-HCV4E";
const OTHER: &str = "7Q3KD-0R5TX-9M2WB-HCV4F";
const PASSWORD: &str = "correct horse battery";

fn set_up(code: &str, user: &str) -> Ask {
    post("/v1/setup", json!({"code": code, "user": user, "password": PASSWORD})).without_token()
}

async fn is_awaited(door: &Door) -> Value {
    door.send(&Ask::new(Method::GET, "/v1/auth-providers").without_token()).await.body["setup"].clone()
}

async fn sign_in(door: &Door, user: &str) -> String {
    let ask = post("/v1/sessions", json!({"user": user, "password": PASSWORD})).without_token();
    let session = door.send(&ask).await;
    format!("Bearer {}", session.body["token"].as_str().unwrap_or_else(|| panic!("{session:?}")))
}

#[tokio::test]
async fn the_code_makes_one_administrator_and_is_spent() {
    let door = Door::with_setup_code(CODE).await;
    assert_eq!(is_awaited(&door).await, true);
    door.send(&Ask::new(Method::GET, "/v1/users")).await.is_problem(401, "SKP-1101");
    for wrong in [OTHER, "", "7Q3KD"] {
        let refused = door.send(&set_up(wrong, "ann")).await;
        refused.is_problem(401, "SKP-1107");
        assert!(!refused.body.to_string().contains(CODE));
    }
    // However it is typed.
    let ask = set_up(" 7q3kd 0r5tx 9m2wb hcv4e\n", "ann").with("idempotency-key", "k1");
    let made = door.send(&ask).await;
    assert_eq!((made.status.as_u16(), &made.body["metadata"]["name"]), (201, &json!("ann")), "{made:?}");
    assert_eq!(is_awaited(&door).await, false);
    let again = door.send(&ask).await;
    assert_eq!((again.status.as_u16(), &again.body), (201, &made.body), "its answer may have been lost");
    assert_eq!(again.header("idempotency-replayed"), "true");
    door.send(&set_up(CODE, "ben")).await.is_problem(409, "SKP-1106");
    door.send(&set_up(OTHER, "ben")).await.is_problem(409, "SKP-1106");

    let ann = sign_in(&door, "ann").await;
    let whoami = door.send(&Ask::new(Method::GET, "/v1/whoami").with("authorization", &ann)).await.body;
    assert_eq!(whoami["permissions"].as_array().unwrap().len(), Permission::ALL.len());
    let users = door.send(&Ask::new(Method::GET, "/v1/users").with("authorization", &ann)).await.body;
    assert_eq!(users["items"].as_array().unwrap().len(), 1, "{users}");
    let gone = door.send(&delete("/v1/users/ann").with("authorization", &ann)).await;
    gone.is_problem(409, "SKP-1310");
}

#[tokio::test]
async fn of_two_who_have_the_code_one_comes_in() {
    let door = Door::with_setup_code(CODE).await;
    let (ann, ben) = (set_up(CODE, "ann"), set_up(CODE, "ben"));
    let (one, other) = tokio::join!(door.send(&ann), door.send(&ben));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{one:?} {other:?}");
    assert_eq!(access::users(&door.ledger.view()).unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_the_rest_does_not_spend_the_code() {
    let door = Door::with_setup_code(CODE).await;
    let with = |user: &str, password: &str, query: &str| {
        let body = json!({"code": CODE, "user": user, "password": password});
        post(&format!("/v1/setup{query}"), body).without_token()
    };
    door.send(&with("ann", "short", "")).await.is_problem(422, "SKP-1202");
    door.send(&with("Ann Smith", PASSWORD, "")).await.is_problem(422, "SKP-1201");
    door.send(&with("admin", PASSWORD, "")).await.is_problem(409, "SKP-1301");
    assert_eq!(door.send(&with("ann", PASSWORD, "?dry_run=true")).await.status, 200);
    assert_eq!(is_awaited(&door).await, true);
    assert_eq!(door.send(&with("ann", PASSWORD, "")).await.status, 201);
}

#[tokio::test]
async fn codes_are_not_guessed_here() {
    let door = Door::with_setup_code(CODE).await;
    for _ in 0..5 {
        door.send(&set_up(OTHER, "ann")).await.is_problem(401, "SKP-1107");
    }
    door.send(&set_up(OTHER, "ann")).await.is_problem(429, "SKP-1105");
    door.send(&set_up(CODE, "ann")).await.is_problem(429, "SKP-1105");
    assert_eq!(is_awaited(&door).await, true);
}

#[tokio::test]
async fn until_the_managers_have_agreed_on_the_code_it_is_tried_again() {
    let door = Door::unfounded(hub(&identity(), NoHosts::events()), |ledger| ledger);
    assert_eq!(is_awaited(&door).await, true);
    let early = door.send(&set_up(CODE, "ann")).await;
    early.is_problem(503, "SKP-3001");
    assert_eq!(early.body["outcome"], "not_started");
    let hash = access::setup_code_hash(CODE).unwrap();
    rule(&*door.ledger, |tx| access::bootstrap_setup(tx, &hash)).await;
    assert_eq!(door.send(&set_up(CODE, "ann")).await.status, 201);
}

#[tokio::test]
async fn a_cluster_with_a_token_waits_for_nobody() {
    let door = Door::new().await;
    assert_eq!(is_awaited(&door).await, false);
    door.send(&set_up(CODE, "ann")).await.is_problem(409, "SKP-1106");
}

#[tokio::test]
async fn how_somebody_became_administrator_is_written_down_without_the_code() {
    let door = Door::with_setup_code(CODE).await;
    door.send(&set_up(OTHER, "ann")).await;
    door.send(&set_up(CODE, "ann")).await;
    let ann = sign_in(&door, "ann").await;
    door.api.write_collected().await;
    let audit = door.send(&Ask::new(Method::GET, "/v1/audit").with("authorization", &ann)).await.body;
    let items = audit["items"].as_array().unwrap();
    let setups: Vec<_> = items.iter().filter(|entry| entry["route"] == "/v1/setup").collect();
    let told = |outcome: &str| {
        let entry = setups.iter().find(|entry| entry["outcome"] == outcome);
        entry.unwrap_or_else(|| panic!("{outcome}: {audit}"))["principal"].clone()
    };
    assert_eq!((told("done"), told("denied")), (json!("setup code"), json!("")));
    assert!(!audit.to_string().contains("HCV4"), "{audit}");
}

#[tokio::test]
async fn an_administrator_may_revoke_the_founders_token_and_not_have_it() {
    let door = Door::new().await;
    for (name, admin) in [("ops", true), ("ann", false)] {
        let made = post("/v1/users", json!({"name": name, "password": PASSWORD, "admin": admin}));
        assert_eq!(door.send(&made).await.status, 201);
    }
    let (ops, ann) = (sign_in(&door, "ops").await, sign_in(&door, "ann").await);
    let listed = async |who: &str| -> Answer {
        door.send(&Ask::new(Method::GET, "/v1/tokens").with("authorization", who)).await
    };
    let of = |answer: &Answer| {
        let items = answer.body["items"].as_array().unwrap();
        let mut principals: Vec<_> =
            items.iter().map(|item| item["principal"].as_str().unwrap().to_owned()).collect();
        principals.sort();
        principals
    };
    assert_eq!(of(&listed(&ops).await), ["admin", "ops"]);
    assert_eq!(of(&listed(&ann).await), ["ann"]);
    let rotate = Ask::new(Method::POST, "/v1/tokens/one/actions/rotate").with("authorization", &ops);
    door.send(&rotate).await.is_problem(404, "SKP-1203");
    door.send(&delete("/v1/tokens/one").with("authorization", &ann)).await.is_problem(404, "SKP-1203");
    let gone = door.send(&delete("/v1/tokens/one").with("authorization", &ops)).await;
    assert_eq!((gone.status.as_u16(), &gone.body["principal"]), (200, &json!("admin")), "{gone:?}");
    let founders = Ask::new(Method::GET, "/v1/whoami").with("authorization", &format!("Bearer {TOKEN}"));
    door.send(&founders).await.is_problem(401, "SKP-1101");
}
