//! Signing in on one machine with the approval of another.

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{Answer, Ask, Door, post};

const PASSWORD: &str = "correct horse battery";

/// A door, somebody who is signed in, and a device that waits.
struct Scene {
    door: Door,
    ann: String,
    codes: Value,
}

impl Scene {
    async fn new() -> Scene {
        let door = Door::new().await;
        door.send(&post("/v1/users", json!({"name": "ann", "password": PASSWORD}))).await;
        let sign_in = post("/v1/sessions", json!({"user": "ann", "password": PASSWORD})).without_token();
        let session = door.send(&sign_in).await;
        let ann = format!("Bearer {}", session.body["token"].as_str().unwrap());
        let asked = door.send(&ask("skep on build-7")).await;
        assert_eq!(asked.status, 201, "{asked:?}");
        Scene { door, ann, codes: asked.body }
    }

    fn text(&self, member: &str) -> String {
        self.codes[member].as_str().unwrap().to_owned()
    }

    async fn look(&self, user_code: &str) -> Answer {
        let path = format!("/v1/device-codes/{user_code}");
        self.door.send(&Ask::new(Method::GET, &path).with("authorization", &self.ann)).await
    }

    async fn act(&self, action: &str) -> Answer {
        let path = format!("/v1/device-codes/{}/actions/{action}", self.text("user_code"));
        self.door.send(&Ask::new(Method::POST, &path).with("authorization", &self.ann)).await
    }

    fn exchange(&self) -> Ask {
        let body = json!({"device_code": self.codes["device_code"]});
        post("/v1/device-codes/actions/exchange", body).without_token()
    }

    async fn exchanged(&self) -> Answer {
        self.door.send(&self.exchange()).await
    }

    fn wait(&self, seconds: i64) {
        self.door.ledger.set_now(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds));
    }
}

fn ask(client: &str) -> Ask {
    post("/v1/device-codes", json!({"client": client})).without_token()
}

#[tokio::test]
async fn a_device_comes_in_once_somebody_has_approved_it_and_once_only() {
    let scene = Scene::new().await;
    assert_eq!((&scene.codes["expires_in"], &scene.codes["interval"]), (&json!(600), &json!(5)));
    let user_code = scene.text("user_code");
    assert!(user_code.len() == 9 && user_code.as_bytes()[4] == b'-', "{user_code}");
    assert_eq!(scene.text("verification_uri"), "https://10.0.0.11:8443/device");

    scene.exchanged().await.is_problem(400, "SKP-1108");
    scene.exchanged().await.is_problem(400, "SKP-1109");
    // That was too often, so it is twice as long now.
    scene.wait(6);
    scene.exchanged().await.is_problem(400, "SKP-1109");
    scene.wait(30);
    let pending = scene.exchanged().await;
    pending.is_problem(400, "SKP-1108");
    assert_eq!(
        (&pending.body["reason"], &pending.body["retryable"]),
        (&json!("AUTHORIZATION_PENDING"), &json!(true))
    );

    let shown = scene.look(&user_code.to_lowercase().replace('-', "")).await;
    assert_eq!((&shown.body["client"], &shown.body["state"]), (&json!("skep on build-7"), &json!("open")));
    assert_eq!(shown.body["user_code"], user_code);
    let approved = scene.act("approve").await;
    assert_eq!(
        (approved.status.as_u16(), &approved.body["state"]),
        (200, &json!("approved")),
        "{approved:?}"
    );
    assert_eq!(scene.act("approve").await.status, 200, "it is so already");

    scene.wait(60);
    let keyed = scene.exchange().with("idempotency-key", "k1");
    let session = scene.door.send(&keyed).await;
    assert_eq!((session.status.as_u16(), &session.body["kind"]), (201, &json!("session")), "{session:?}");
    let again = scene.door.send(&keyed).await;
    assert_eq!(again.body, session.body, "its answer may have been lost");
    scene.exchanged().await.is_problem(400, "SKP-1110");
    scene.look(&user_code).await.is_problem(404, "SKP-1203");
    let token = format!("Bearer {}", session.body["token"].as_str().unwrap());
    let whoami = Ask::new(Method::GET, "/v1/whoami").with("authorization", &token);
    let whoami = scene.door.send(&whoami).await.body;
    assert_eq!((&whoami["principal"], &whoami["token"]["kind"]), (&json!("ann"), &json!("session")));
}

#[tokio::test]
async fn of_two_exchanges_at_once_one_gets_the_session() {
    let scene = Scene::new().await;
    assert_eq!(scene.act("approve").await.status, 200);
    let (one, other) = tokio::join!(scene.exchanged(), scene.exchanged());
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 400], "{one:?} {other:?}");
}

#[tokio::test]
async fn a_device_that_was_denied_stays_out() {
    let scene = Scene::new().await;
    assert_eq!(scene.act("approve").await.status, 200);
    assert_eq!(scene.act("deny").await.status, 200, "whoever has approved it thinks better of it");
    let denied = scene.exchanged().await;
    denied.is_problem(400, "SKP-1111");
    assert_eq!(denied.body["reason"], "ACCESS_DENIED");
    scene.act("approve").await.is_problem(409, "SKP-1308");
}

#[tokio::test]
async fn codes_end_after_ten_minutes() {
    let scene = Scene::new().await;
    scene.wait(590);
    scene.exchanged().await.is_problem(400, "SKP-1108");
    assert_eq!(scene.act("approve").await.status, 200);
    scene.wait(600);
    scene.exchanged().await.is_problem(400, "SKP-1110");
    scene.look(&scene.text("user_code")).await.is_problem(404, "SKP-1203");
    scene.act("approve").await.is_problem(404, "SKP-1203");
    // The next one that asks makes room.
    let before =
        scene.door.ledger.keys().iter().filter(|key| key.to_string().contains("device-login")).count();
    assert_eq!(scene.door.send(&ask("another")).await.status, 201);
    let after =
        scene.door.ledger.keys().iter().filter(|key| key.to_string().contains("device-login")).count();
    assert_eq!((before, after), (1, 1));
}

#[tokio::test]
async fn whoever_is_disabled_has_let_nobody_in() {
    let scene = Scene::new().await;
    assert_eq!(scene.act("approve").await.status, 200);
    let disable = Ask::new(Method::POST, "/v1/users/ann/actions/disable");
    assert_eq!(scene.door.send(&disable).await.status, 200);
    scene.exchanged().await.is_problem(400, "SKP-1111");
    let enable = Ask::new(Method::POST, "/v1/users/ann/actions/enable");
    assert_eq!(scene.door.send(&enable).await.status, 200);
    scene.exchanged().await.is_problem(400, "SKP-1111");
}

#[tokio::test]
async fn a_key_of_an_environment_lets_nobody_in() {
    let scene = Scene::new().await;
    scene.door.environment("prod").await;
    let made = scene.door.send(&post("/v1/environments/prod/tokens", json!({"role": "owner"}))).await;
    let key = format!("Bearer {}", made.body["token"].as_str().unwrap());
    let path = format!("/v1/device-codes/{}/actions/approve", scene.text("user_code"));
    let approve = Ask::new(Method::POST, &path).with("authorization", &key);
    scene.door.send(&approve).await.is_problem(403, "SKP-1102");
    scene.exchanged().await.is_problem(400, "SKP-1108");
}

#[tokio::test]
async fn neither_asking_nor_guessing_has_no_end() {
    let scene = Scene::new().await;
    for _ in 0..4 {
        assert_eq!(scene.door.send(&ask("x")).await.status, 201);
    }
    scene.door.send(&ask("x")).await.is_problem(429, "SKP-1105");
    for _ in 0..5 {
        scene.look("BBBB-BBBB").await.is_problem(404, "SKP-1203");
    }
    scene.look(&scene.text("user_code")).await.is_problem(429, "SKP-1105");
    for nonsense in ["", "skp_one_secret", "skd_0000000000000000_00"] {
        let ask = post("/v1/device-codes/actions/exchange", json!({"device_code": nonsense})).without_token();
        scene.door.send(&ask).await.is_problem(400, "SKP-1110");
    }
}

#[tokio::test]
async fn waiting_is_not_written_down_and_coming_in_is() {
    let scene = Scene::new().await;
    scene.exchanged().await.is_problem(400, "SKP-1108");
    scene.exchanged().await.is_problem(400, "SKP-1109");
    assert_eq!(scene.act("approve").await.status, 200);
    scene.wait(60);
    assert_eq!(scene.exchanged().await.status, 201);
    scene.door.api.write_collected().await;
    let audit = scene.door.get("/v1/audit").await.body;
    let items = audit["items"].as_array().unwrap();
    let calls =
        |part: &str| items.iter().filter(|entry| entry["route"].as_str().unwrap().ends_with(part)).count();
    assert_eq!((calls("exchange"), calls("approve"), calls("device-codes")), (1, 1, 1), "{audit}");
    let code = scene.text("device_code");
    assert!(!audit.to_string().contains(&code));
}
