//! Who may ask for what: every role at every route, as the door answers, compared with the table that people read.

use std::fmt::Write as _;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use skep_api::ROUTES;
use skep_ledger::Ledger as _;
use skep_model::access::{self, ActsAs, Caller, RoleWish, Scope, Subject, TokenKind, TokenWish, UserWish};
use skep_model::environment;
use skep_model::ids::UserId;
use skep_model::name::Name;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::documents::reference;
use crate::support::{Ask, Door, delete, post, put, rule};

/// Those who ask, as the columns of the table: a word, and the role in the environment `prod`.
const CALLERS: &[(&str, Option<&str>)] = &[
    ("user", None),
    ("readonly", Some("readonly")),
    ("restricted", Some("restricted")),
    ("member", Some("member")),
    ("owner", Some("owner")),
];

/// The token of a user with that name, as [`sign_in`] makes it.
fn token(name: &str) -> String {
    format!("skp_{}_secret", name.replace('-', ""))
}

/// A user who comes with [`token`].
pub async fn user(door: &Door, name: &str) {
    let by = Caller::administrator("admin");
    let wish = UserWish {
        id: UserId::new(Uuid::now_v7()),
        name: name.into(),
        password: "none".into(),
        admin: false,
    };
    rule(&*door.ledger, |tx| access::create_user(tx, &by, &wish).map(|_| true)).await;
    let acts_as = ActsAs::User(Name::parse("a user", name).unwrap());
    sign_in(door, name, acts_as).await;
}

async fn sign_in(door: &Door, name: &str, acts_as: ActsAs) {
    let by = Caller::administrator("admin");
    let (id, hash) = access::parse(&token(name)).unwrap();
    let wish = TokenWish { id, hash, acts_as, kind: TokenKind::Key, name: String::new(), life: None };
    rule(&*door.ledger, |tx| access::create_token(tx, &by, &wish).map(|_| true)).await;
}

async fn bind(door: &Door, place: Option<&str>, subject: &str, role: &str) {
    let by = Caller::administrator("admin");
    let (kind, name) = subject.split_once('/').unwrap();
    rule(&*door.ledger, |tx| {
        let scope = match place {
            Some(place) => Scope::from(&environment::named(tx, place)?),
            None => Scope::Cluster,
        };
        access::bind(tx, &by, &scope, &Subject::parse(kind, name)?, role).map(|_| true)
    })
    .await;
}

/// An environment `prod` with one user per role.
async fn door_with_roles() -> Door {
    let door = Door::new().await;
    door.environment("prod").await;
    for (name, role) in CALLERS {
        user(&door, name).await;
        if let Some(role) = role {
            bind(&door, Some("prod"), &format!("user/{name}"), role).await;
        }
    }
    door
}

pub fn by(ask: Ask, name: &str) -> Ask {
    ask.with("authorization", &format!("Bearer {}", token(name)))
}

/// What the door says, as the table has it.
async fn verdict(door: &Door, ask: &Ask) -> &'static str {
    let response = door.router.clone().oneshot(ask.request()).await.unwrap();
    let status = response.status();
    if status.is_success() {
        // A stream of changes would have no end.
        return "yes";
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or_default();
    let hidden = detail == "there is no environment named 'prod'"
        || detail.starts_with("there is no operation named 'op_");
    match (status, problem["code"].as_str()) {
        (StatusCode::UNAUTHORIZED, Some("SKP-1101")) => "401",
        (StatusCode::FORBIDDEN, Some("SKP-1102")) => "403",
        (StatusCode::NOT_FOUND, _) if hidden => "404",
        // It came as far as what was asked, and that was not well asked.
        _ if status.is_client_error() || status == StatusCode::BAD_GATEWAY => "yes",
        _ => panic!("{ask:?}: {status} {problem}"),
    }
}

#[tokio::test]
async fn every_role_may_at_every_route_what_the_table_says() {
    let mut rows = vec![];
    let door = door_with_roles().await;
    let operation = door.environment("other").await.body["id"].as_str().unwrap().to_owned();
    let prods = operation_of(&door, "prod").await;
    for (method, path, _) in ROUTES {
        let place: Vec<_> = path
            .split('/')
            .map(|part| match part {
                "{environment}" => "prod",
                "{operation}" => prods.as_str(),
                part if part.starts_with('{') => "x",
                part => part,
            })
            .collect();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let dry_run = if method == Method::GET { "" } else { "?dry_run=true" };
        let ask = Ask::new(method, &format!("{}{dry_run}", place.join("/")));
        let mut row = vec![verdict(&door, &ask.clone().without_token()).await];
        for (name, _) in CALLERS {
            row.push(verdict(&door, &by(ask.clone(), name)).await);
        }
        row.push(verdict(&door, &ask).await);
        rows.push(row);
    }
    assert_ne!(operation, prods);
    let table = page(&rows);
    let path = reference("access.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = written.split_once("<!-- routes -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /routes -->\n").unwrap();
    let wanted = format!("{before}<!-- routes -->\n{table}<!-- /routes -->\n{after}");
    if std::env::var_os("UPDATE_ACCESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(
        written == wanted,
        "docs/reference/access.md does not say what the door does; read the difference after: \
         UPDATE_ACCESS=1 cargo test -p skep-api every_role"
    );
}

async fn operation_of(door: &Door, environment: &str) -> String {
    let operations = door.get("/v1/operations").await;
    let items = operations.body["items"].as_array().unwrap();
    let of_it = items.iter().find(|operation| operation["env"] == environment).unwrap();
    of_it["id"].as_str().unwrap().to_owned()
}

fn page(rows: &[Vec<&str>]) -> String {
    let names = CALLERS.iter().map(|(name, _)| *name);
    let columns: Vec<_> = ["route", "nobody"].into_iter().chain(names).chain(["admin"]).collect();
    let mut text = format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for ((method, path, _), row) in ROUTES.iter().zip(rows) {
        writeln!(text, "| `{method} {path}` | {} |", row.join(" | ")).unwrap();
    }
    text
}

#[test]
fn every_route_stands_in_the_table_once() {
    let document: Value = serde_json::from_str(skep_api::document()).unwrap();
    let mut described: Vec<_> = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.push((path.clone(), method.to_uppercase()));
        }
    }
    let mut listed: Vec<_> =
        ROUTES.iter().map(|(method, path, _)| ((*path).to_owned(), (*method).to_owned())).collect();
    described.sort();
    listed.sort();
    assert_eq!(listed, described, "api/src/access.rs says who may ask for each route");
}

#[tokio::test]
async fn lists_show_what_the_caller_may_see() {
    let door = door_with_roles().await;
    door.environment("other").await;
    let names = async |who: &str| {
        let answer = door.send(&by(Ask::new(Method::GET, "/v1/environments"), who)).await;
        let items = answer.body["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("user").await, Vec::<String>::new());
    assert_eq!(names("readonly").await, ["prod"]);
    let operations = async |who: &str| {
        let answer = door.send(&by(Ask::new(Method::GET, "/v1/operations"), who)).await;
        answer.body["items"].as_array().unwrap().len()
    };
    assert_eq!((operations("user").await, operations("readonly").await), (0, 1));
    assert_eq!(door.get("/v1/operations").await.body["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_topic_of_an_environment_that_is_hidden_is_not_there() {
    let door = door_with_roles().await;
    let follow = |who: &str| by(Ask::new(Method::GET, "/v1/events?topics=host:prod/*&index=1&wait=0s"), who);
    door.send(&follow("user")).await.is_problem(404, "SKP-1203");
    assert_eq!(door.send(&follow("readonly")).await.status, 200);
}

#[tokio::test]
async fn only_what_the_caller_may_see_is_told_as_it_happens() {
    let door = door_with_roles().await;
    let since = door.get("/v1/environments").await.header("skep-revision").to_owned();
    door.environment("other").await;
    let told = async |who: &str| {
        let path = format!("/v1/events?index={since}&wait=0s");
        let answer = door.send(&by(Ask::new(Method::GET, &path), who)).await;
        answer.body["events"].as_array().unwrap().len()
    };
    assert_eq!(told("readonly").await, 0);
    bind(&door, Some("other"), "user/readonly", "readonly").await;
    assert_eq!(told("readonly").await, 2, "the environment and its operation");
}

#[tokio::test]
async fn whoever_makes_an_environment_owns_it() {
    let door = door_with_roles().await;
    let wish = post("/v1/environments", json!({"name": "own", "template": "single"}));
    assert_eq!(door.send(&by(wish, "user")).await.status, 202);
    let members = door.send(&by(Ask::new(Method::GET, "/v1/environments/own/members"), "user")).await;
    assert_eq!(members.body["items"][0]["member"], "user/user");
    assert_eq!(members.body["items"][0]["role"], "owner");
    let whoami = door.send(&by(Ask::new(Method::GET, "/v1/whoami"), "user")).await.body;
    assert_eq!(whoami["principal"], "user");
    assert!(whoami["environments"]["own"].as_array().unwrap().contains(&json!("manage:member")));
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_at_once() {
    let door = door_with_roles().await;
    let look = || by(Ask::new(Method::GET, "/v1/environments/prod/hosts"), "readonly");
    assert_eq!(door.send(&look()).await.status, 200);
    assert_eq!(door.send(&delete("/v1/environments/prod/members/user/readonly")).await.status, 200);
    door.send(&look()).await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn groups_give_their_members_what_they_have() {
    let door = door_with_roles().await;
    assert_eq!(door.send(&post("/v1/groups", json!({"name": "dev"}))).await.status, 201);
    assert_eq!(
        door.send(&put("/v1/environments/prod/members/group/dev", json!({"role": "member"}))).await.status,
        200
    );
    let look = || by(Ask::new(Method::GET, "/v1/environments/prod/hosts"), "user");
    door.send(&look()).await.is_problem(404, "SKP-1203");
    assert_eq!(door.send(&Ask::new(Method::PUT, "/v1/groups/dev/members/user")).await.status, 200);
    assert_eq!(door.send(&look()).await.status, 200);
    assert_eq!(door.get("/v1/groups/dev").await.body["spec"]["members"], json!(["user"]));
    assert_eq!(door.send(&delete("/v1/groups/dev")).await.status, 200);
    door.send(&look()).await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn nobody_gives_or_takes_more_than_they_have() {
    let door = door_with_roles().await;
    let set = |role: &str, who: &str| {
        by(put("/v1/environments/prod/members/user/user", json!({"role": role})), who)
    };
    door.send(&set("readonly", "member")).await.is_problem(403, "SKP-1102");
    assert_eq!(door.send(&set("owner", "owner")).await.status, 200);
    // Somebody who may say who is a member, and little else.
    let wish = RoleWish {
        name: "doorkeeper".into(),
        description: String::new(),
        permissions: vec!["view:environment".into(), "manage:member".into(), "view:member".into()],
    };
    let admin = Caller::administrator("admin");
    rule(&*door.ledger, |tx| access::set_role(tx, &admin, &wish).map(|_| true)).await;
    user(&door, "keeper").await;
    bind(&door, Some("prod"), "user/keeper", "doorkeeper").await;
    door.send(&set("member", "keeper")).await.is_problem(403, "SKP-1103");
    let unseat = by(delete("/v1/environments/prod/members/user/user"), "keeper");
    door.send(&unseat).await.is_problem(403, "SKP-1103");
    assert_eq!(door.send(&set("doorkeeper", "owner")).await.status, 200);
    assert_eq!(door.send(&unseat).await.status, 200, "what they have themselves they may take");
}

#[tokio::test]
async fn a_role_is_made_changed_and_kept_while_somebody_has_it() {
    let door = door_with_roles().await;
    let set = |permissions: Value| put("/v1/roles/deployer", json!({"spec": {"permissions": permissions}}));
    let wrong = door.send(&set(json!(["view:everything"]))).await;
    wrong.is_problem(422, "SKP-1202");
    assert!(wrong.detail().contains("view:environment"), "{wrong:?}");
    assert_eq!(door.send(&set(json!(["view:environment", "manage:stack"]))).await.status, 200);
    bind(&door, Some("prod"), "user/user", "deployer").await;
    let look = || by(Ask::new(Method::GET, "/v1/environments/prod/hosts"), "user");
    door.send(&look()).await.is_problem(403, "SKP-1102");
    let again = set(json!(["view:environment", "view:host"])).with("if-match", "*");
    assert_eq!(door.send(&again).await.status, 200);
    assert_eq!(door.send(&look()).await.status, 200, "a role that is changed is changed for whoever has it");
    let used = door.send(&delete("/v1/roles/deployer")).await;
    used.is_problem(409, "SKP-1309");
    assert!(used.detail().contains("user/user"), "{used:?}");
    door.send(&put("/v1/roles/owner", json!({"spec": {"permissions": ["view:host"]}})))
        .await
        .is_problem(409, "SKP-1342");
    assert_eq!(door.send(&delete("/v1/environments/prod/members/user/user")).await.status, 200);
    assert_eq!(door.send(&delete("/v1/roles/deployer")).await.status, 200);
}

#[tokio::test]
async fn a_key_of_an_environment_may_there_what_its_role_says() {
    let door = door_with_roles().await;
    door.environment("other").await;
    let everything = post("/v1/environments/prod/tokens", json!({"role": "admin", "name": "ci"}));
    door.send(&everything).await.is_problem(422, "SKP-1202");
    let wish = json!({"role": "restricted", "name": "ci"});
    let made = door.send(&by(post("/v1/environments/prod/tokens", wish), "owner")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let key = made.body["token"].as_str().unwrap().to_owned();
    let with_key = |ask: Ask| ask.with("authorization", &format!("Bearer {key}"));
    let get = |path: &str| with_key(Ask::new(Method::GET, path));
    assert_eq!(door.send(&get("/v1/environments/prod/hosts")).await.status, 200);
    door.send(&get("/v1/environments/other/hosts")).await.is_problem(404, "SKP-1203");
    door.send(&with_key(post("/v1/environments/prod/hosts", json!({})))).await.is_problem(403, "SKP-1102");
    door.send(&with_key(post("/v1/tokens", json!({})))).await.is_problem(403, "SKP-1102");
    let whoami = door.send(&get("/v1/whoami")).await.body;
    assert_eq!(whoami["principal"], format!("prod/{}", made.body["id"].as_str().unwrap()));
    // Whoever made it goes; it stays, until it is revoked.
    assert_eq!(door.send(&delete("/v1/users/owner")).await.status, 200);
    assert_eq!(door.send(&get("/v1/environments/prod/hosts")).await.status, 200);
    let place = format!("/v1/environments/prod/tokens/{}", made.body["id"].as_str().unwrap());
    door.send(&delete(&place.replace("prod", "other"))).await.is_problem(404, "SKP-1203");
    assert_eq!(door.send(&delete(&place)).await.status, 200);
    door.send(&get("/v1/whoami")).await.is_problem(401, "SKP-1101");
}

#[tokio::test]
async fn a_key_is_shown_once_also_if_the_request_is_repeated_and_rotation_makes_it_worthless() {
    let door = door_with_roles().await;
    let ask = || by(post("/v1/tokens", json!({"name": "laptop"})), "user").with("idempotency-key", "k1");
    let (first, again) = (door.send(&ask()).await, door.send(&ask()).await);
    assert_eq!(
        (first.status, first.body["token"].clone()),
        (StatusCode::CREATED, again.body["token"].clone())
    );
    let list = door.send(&by(Ask::new(Method::GET, "/v1/tokens"), "user")).await;
    assert_eq!(list.body["items"].as_array().unwrap().len(), 2, "it was made once: {list:?}");
    assert!(!list.body.to_string().contains("secret") && list.body["items"][1]["token"].is_null());
    let key = |answer: &Value| answer["token"].as_str().unwrap().to_owned();
    let with =
        |key: &str| Ask::new(Method::GET, "/v1/whoami").with("authorization", &format!("Bearer {key}"));
    assert_eq!(door.send(&with(&key(&first.body))).await.body["principal"], "user");
    let place = format!("/v1/tokens/{}/actions/rotate", first.body["id"].as_str().unwrap());
    let rotated = door.send(&by(Ask::new(Method::POST, &place), "user")).await;
    door.send(&with(&key(&first.body))).await.is_problem(401, "SKP-1101");
    assert_eq!(door.send(&with(&key(&rotated.body))).await.body["principal"], "user");
    door.send(&by(Ask::new(Method::POST, &place), "readonly")).await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn people_sign_in_with_their_password_and_out_again() {
    let door = Door::new().await;
    let password = "correct horse battery";
    let made = door.send(&post("/v1/users", json!({"name": "ann", "password": password}))).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert!(!made.body.to_string().contains("argon2"), "{made:?}");
    let sign_in = |user: &str, password: &str| {
        post("/v1/sessions", json!({"user": user, "password": password})).without_token()
    };
    let session = door.send(&sign_in("ann", password)).await;
    assert_eq!(
        (session.status, session.body["kind"].as_str()),
        (StatusCode::CREATED, Some("session")),
        "{session:?}"
    );
    let token = session.body["token"].as_str().unwrap().to_owned();
    let with = |ask: Ask| ask.with("authorization", &format!("Bearer {token}"));
    let whoami = door.send(&with(Ask::new(Method::GET, "/v1/whoami"))).await.body;
    assert_eq!(
        (whoami["principal"].as_str(), whoami["token"]["kind"].as_str()),
        (Some("ann"), Some("session"))
    );
    let mut problems = vec![];
    for (user, password) in [("ann", "wrong horse battery"), ("nobody", password)] {
        let mut answer = door.send(&sign_in(user, password)).await;
        answer.is_problem(401, "SKP-1104");
        answer.body["request_id"] = Value::Null;
        problems.push(answer.body);
    }
    assert_eq!(problems[0], problems[1], "which of the two was wrong is not told");
    assert_eq!(door.send(&with(delete("/v1/tokens/current"))).await.status, 200);
    door.send(&with(Ask::new(Method::GET, "/v1/whoami"))).await.is_problem(401, "SKP-1101");
}

#[tokio::test]
async fn passwords_are_not_guessed_here() {
    let door = Door::new().await;
    door.send(&post("/v1/users", json!({"name": "ann", "password": "correct horse battery"}))).await;
    let sign_in =
        |password: &str| post("/v1/sessions", json!({"user": "ann", "password": password})).without_token();
    for _ in 0..5 {
        door.send(&sign_in("wrong")).await.is_problem(401, "SKP-1104");
    }
    let refused = door.send(&sign_in("correct horse battery")).await;
    refused.is_problem(429, "SKP-1105");
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
}

#[tokio::test]
async fn another_password_ends_the_sessions_and_needs_the_one_of_before() {
    let door = Door::new().await;
    let (old, new) = ("correct horse battery", "staple correct horse");
    door.send(&post("/v1/users", json!({"name": "ann", "password": old}))).await;
    let sign_in = async |password: &str| {
        door.send(&post("/v1/sessions", json!({"user": "ann", "password": password})).without_token()).await
    };
    let token = |answer: &Value| format!("Bearer {}", answer["token"].as_str().unwrap());
    let (one, other) = (token(&sign_in(old).await.body), token(&sign_in(old).await.body));
    let change = |body: Value| put("/v1/users/ann/password", body).with("authorization", &one);
    door.send(&change(json!({"password": new}))).await.is_problem(401, "SKP-1104");
    door.send(&change(json!({"password": "short", "current": old}))).await.is_problem(422, "SKP-1202");
    let changed = door.send(&change(json!({"password": new, "current": old}))).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let whoami = |token: &str| Ask::new(Method::GET, "/v1/whoami").with("authorization", token);
    assert_eq!(door.send(&whoami(&one)).await.status, 200, "the session that asked goes on");
    door.send(&whoami(&other)).await.is_problem(401, "SKP-1101");
    assert_eq!(sign_in(old).await.status, 401);
    assert_eq!(sign_in(new).await.status, 201);
}

#[tokio::test]
async fn a_user_who_is_disabled_stays_out_and_one_who_is_removed_leaves_no_key_behind() {
    let door = door_with_roles().await;
    let whoami = || by(Ask::new(Method::GET, "/v1/whoami"), "member");
    assert_eq!(door.send(&Ask::new(Method::POST, "/v1/users/member/actions/disable")).await.status, 200);
    door.send(&whoami()).await.is_problem(401, "SKP-1101");
    assert_eq!(door.send(&Ask::new(Method::POST, "/v1/users/member/actions/enable")).await.status, 200);
    assert_eq!(door.send(&whoami()).await.status, 200);
    assert_eq!(door.send(&delete("/v1/users/member")).await.status, 200);
    door.send(&whoami()).await.is_problem(401, "SKP-1101");
    let members = door.get("/v1/environments/prod/members").await.body;
    assert!(!members.to_string().contains("user/member"), "{members}");
    user(&door, "second").await;
    door.send(&post("/v1/users", json!({"name": "member", "password": "correct horse battery"}))).await;
    let members = door.get("/v1/environments/prod/members").await.body;
    assert!(
        !members.to_string().contains("user/member"),
        "another one of that name begins with nothing: {members}"
    );
}

#[tokio::test]
async fn somebody_who_may_do_everything_is_always_left() {
    let door = Door::new().await;
    door.send(&delete("/v1/tokens/one")).await.is_problem(409, "SKP-1310");
    let password = "correct horse battery";
    let made =
        door.send(&post("/v1/users", json!({"name": "ops", "password": password, "admin": true}))).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(door.send(&delete("/v1/tokens/one")).await.status, 200, "ops is left");
    let session =
        door.send(&post("/v1/sessions", json!({"user": "ops", "password": password})).without_token()).await;
    let token = format!("Bearer {}", session.body["token"].as_str().unwrap());
    for path in ["/v1/users/ops", "/v1/role-bindings/user/ops"] {
        door.send(&delete(path).with("authorization", &token)).await.is_problem(409, "SKP-1310");
    }
    let disable = Ask::new(Method::POST, "/v1/users/ops/actions/disable").with("authorization", &token);
    door.send(&disable).await.is_problem(409, "SKP-1310");
}

/// A zero byte separates the parts of a key.
#[tokio::test]
async fn what_could_not_be_a_name_is_not_looked_up() {
    let door = Door::new().await;
    door.environment("prod").await;
    door.send(&post("/v1/users", json!({"name": "ops", "password": "correct horse battery"}))).await;
    let odd = "a\0b";
    for path in ["/v1/role-bindings/user/ops", "/v1/environments/prod/members/user/ops"] {
        door.send(&put(path, json!({ "role": odd }))).await.is_problem(422, "SKP-1006");
    }
    for (action, member) in [("rescue", "from"), ("restore", "to")] {
        let ask = post(&format!("/v1/environments/prod/actions/{action}"), json!({ member: odd }));
        door.send(&ask).await.is_problem(422, "SKP-1006");
    }
    let state = Ask::new(Method::GET, "/v1/environments/prod/swarm-state?from=a%00b");
    door.send(&state).await.is_problem(400, "SKP-1001");
}

#[tokio::test]
async fn when_a_key_was_used_last_is_written_down_now_and_then() {
    let door = door_with_roles().await;
    let list = || by(Ask::new(Method::GET, "/v1/tokens"), "user");
    let used = async || door.send(&list()).await.body["items"][0]["last_used_at"].clone();
    assert!(used().await.is_null());
    door.api.note_uses().await;
    let (once, revision) = (used().await, door.ledger.view().revision());
    assert!(once.is_string(), "{once}");
    door.api.note_uses().await;
    assert_eq!((used().await, door.ledger.view().revision()), (once, revision), "it is known well enough");
}
