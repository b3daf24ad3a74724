//! Secrets are planted wherever one is taken, also where it does not belong and in requests that fail; then everything that
//! the door has said, counted, written down and logged is searched for them.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use crate::engines::Site;
use crate::support::{Answer, Ask, Door, post, put};

/// What every planted secret begins with.
const MARKER: &str = "planted-secret-7f3a91c2";

/// As the program logs when everything is asked for; what it never logs is in `node/src/logging.rs`.
const EVERYTHING: &str = "trace,bollard=warn,bollard::docker=warn,bollard::read=warn";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Everything that this process logs from now on.
    fn of_all() -> Log {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(EVERYTHING))
            .with_ansi(false)
            .with_writer(move || writer.clone());
        subscriber.init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// What was said, and where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn note(&mut self, place: impl Debug, text: impl Into<String>) {
        self.0.push((format!("{place:?}"), text.into()));
    }

    async fn send(&mut self, door: &Door, ask: &Ask) -> Answer {
        let answer = door.send(ask).await;
        self.note(ask, format!("{:?} {}", answer.headers, answer.body));
        answer
    }

    /// A request as it should be, and as people get it wrong. The answer of the first.
    async fn send_in_all_ways(&mut self, door: &Door, ask: &Ask, body: &Value) -> Answer {
        let answer = self.send(door, &ask.clone().bytes(body.to_string())).await;
        let text = body.to_string();
        let fields = body.as_object().unwrap();
        let mut wrong = vec![text[..text.len() - 2].to_owned(), format!("{text}}}"), format!("[{text}]")];
        for (field, value) in fields {
            // The secret alone, in the place of a number, below a field that does not exist, and not as text.
            wrong.push(value.to_string());
            for (other, _) in fields.iter().filter(|(_, value)| !value.is_string()) {
                let mut body = body.clone();
                body[other] = value.clone();
                wrong.push(body.to_string());
            }
            let mut body = body.clone();
            body["unknown"] = value.clone();
            wrong.push(body.to_string());
            body.as_object_mut().unwrap().remove("unknown");
            body[field] = json!({"value": value});
            wrong.push(body.to_string());
        }
        for body in wrong {
            self.send(door, &ask.clone().bytes(body)).await;
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded"] {
            self.send(door, &ask.clone().with("content-type", kind).bytes(text.clone())).await;
        }
        answer
    }
}

/// How a secret may have been written: as it is, in hexadecimal, and in Base64 wherever in the text it was.
fn forms(secret: &str) -> Vec<String> {
    let hex = |upper: bool| {
        let digits = |byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        secret.bytes().map(digits).collect::<String>()
    };
    let encoded = (0..3).map(|before| {
        let text = BASE64_STANDARD.encode([&vec![b'x'; before][..], secret.as_bytes()].concat());
        // What is at the ends depends on the neighbours.
        text[4..text.len() - 4].to_owned()
    });
    encoded.chain([secret.to_owned(), hex(false), hex(true)]).collect()
}

/// Where one of the secrets is to be found.
fn found(said: &Said, secrets: &[String]) -> Vec<String> {
    let forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let holds = |text: &String| forms.iter().any(|form| text.contains(form));
    let excerpt = |text: &String| {
        let form = forms.iter().find(|form| text.contains(*form)).unwrap();
        let at = text.find(form).unwrap();
        let from = (0..=at.saturating_sub(200)).rev().find(|from| text.is_char_boundary(*from)).unwrap();
        text[from..].chars().take(400).collect::<String>()
    };
    let places = said.0.iter().filter(|(_, text)| holds(text));
    places.map(|(place, text)| format!("{place}\n    … {}", excerpt(text))).collect()
}

/// Reads everything that can be read without naming anything.
async fn read_all(said: &mut Said, door: &Door) {
    let document: Value = serde_json::from_str(skep_api::document()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{environment}", "prod").replace("{registry}", "registry.example.com");
        // Changes are asked for below, with their end.
        if item["get"].is_null() || path.contains('{') || path == "/v1/events" {
            continue;
        }
        said.send(door, &Ask::new(Method::GET, &path)).await;
    }
    let topics = "environment,host:*,stack:*,template,audit,operation";
    let changes =
        said.send(door, &Ask::new(Method::GET, &format!("/v1/events?index=1&topics={topics}"))).await;
    assert!(changes.body["events"].as_array().is_some_and(|events| !events.is_empty()), "{changes:?}");
    let audit = said.send(door, &Ask::new(Method::GET, "/v1/audit?limit=1000")).await;
    assert!(audit.body.to_string().contains("SKP-1104"), "failed sign-ins are in it: {audit:?}");
}

fn json_ask(method: Method, path: &str) -> Ask {
    Ask::new(method, path).with("content-type", "application/json")
}

/// Sends every secret that a client can have. Those that the door has made are returned: each was shown once, and to its owner.
async fn plant(said: &mut Said, door: &Door, secret: impl Fn(&str) -> String) -> Vec<String> {
    let mut made = vec![];
    let credentials = json!({"name": "ann", "password": secret("password")});
    said.send_in_all_ways(door, &json_ask(Method::POST, "/v1/users"), &credentials).await;
    let sign_in = json!({"user": "ann", "password": secret("password")});
    let ask = json_ask(Method::POST, "/v1/sessions").without_token();
    let session = door.send(&ask.clone().bytes(sign_in.to_string())).await;
    assert_eq!(session.status, 201, "{session:?}");
    made.push(session.body["token"].as_str().unwrap().to_owned());
    let wrong = json!({"user": "ann", "password": secret("wrong-password")});
    said.send_in_all_ways(door, &ask, &wrong).await;
    let change = json!({"password": secret("new-password"), "current": secret("password")});
    said.send_in_all_ways(door, &json_ask(Method::PUT, "/v1/users/ann/password"), &change).await;
    for check in [false, true] {
        let login = json!({"user": "ann", "password": secret("registry"), "check": check});
        for server in ["registry.example.com", "down.example.com", "no registry"] {
            let path = format!("/v1/environments/prod/registries/{}", server.replace(' ', "%20"));
            said.send_in_all_ways(door, &json_ask(Method::PUT, &path), &login).await;
        }
    }
    let unlock = json!({"unlock_key": secret("unlock-key")});
    said.send_in_all_ways(door, &post("/v1/environments/prod/actions/unlock", json!({})), &unlock).await;
    // The wrong half of a recovery key.
    let schedule = json!({
        "enabled": true, "every_minutes": 60, "keep": 3, "recipients": [secret("AGE-SECRET-KEY-1")],
    });
    said.send_in_all_ways(door, &put("/v1/snapshot-schedules/default", json!({})), &schedule).await;
    let archive = Ask::new(Method::PUT, "/v1/environments/prod/hosts/a/swarm-state");
    said.send(door, &archive.bytes(secret("archive"))).await;
    for (name, path) in [
        ("key", "/v1/tokens"),
        ("environment-key", "/v1/environments/prod/tokens"),
        ("join", "/v1/cluster/join-tokens"),
        ("registration", "/v1/environments/prod/registration-tokens"),
    ] {
        let body = if name == "environment-key" { json!({"role": "member"}) } else { json!({}) };
        let shown = door.send(&post(path, body)).await;
        assert!(shown.status.is_success(), "{path}: {shown:?}");
        let token = shown.body["token"].as_str().or(shown.body["join"]["token"].as_str());
        made.extend(token.map(str::to_owned));
    }
    // Tokens that are none, that are, and that are in a path.
    for token in made.clone().into_iter().chain([format!("skp_x_{}", secret("token"))]) {
        let (id, password) = token.trim_start_matches("skp_").split_once('_').unwrap_or(("x", &token));
        let basic = BASE64_STANDARD.encode(format!("{id}:{password}"));
        for value in [format!("Bearer {token}"), format!("Basic {basic}"), token.clone()] {
            said.send(door, &Ask::new(Method::GET, "/v1/whoami").with("authorization", &value)).await;
            said.send(door, &Ask::new(Method::GET, "/v1/users").with("authorization", &value)).await;
        }
    }
    for token in made.iter().filter(|token| token.starts_with("skh_")) {
        let script = door.send(&Ask::new(Method::GET, &format!("/join/{token}")).without_token()).await;
        assert_eq!(script.status, 200, "{script:?}");
    }
    for path in ["/join/skh_{}", "/join/skh_{}/skep", "/join/{}"] {
        let path = path.replace("{}", &secret("registration"));
        said.send(door, &Ask::new(Method::GET, &path).without_token()).await;
    }
    made
}

#[tokio::test]
async fn no_secret_comes_out_that_was_planted() {
    let log = Log::of_all();
    let site = Site::with_hosts().await;
    let (door, mut said) = (&site.door, Said::default());
    let secret = |what: &str| format!("{MARKER}-{what}");
    let made = plant(&mut said, door, secret).await;
    assert_eq!(made.len(), 5, "{made:?}");
    door.api.write_collected().await;
    door.api.note_uses().await;
    door.api.seal_audit().await;
    read_all(&mut said, door).await;
    let logged = log.text();
    assert!(logged.contains("a request was answered"), "the log is there");
    for line in logged.lines() {
        said.note("the log", line);
    }
    assert!(said.0.len() > 300, "{} answers and lines are too few to be all", said.0.len());

    let planted = [MARKER.to_owned()];
    let found = [found(&said, &planted), found(&said, &made)].concat();
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_secret_is_found_in_every_form() {
    let written = |text: &str| {
        let mut said = Said::default();
        said.note("somewhere", format!("before {text} after"));
        found(&said, &[MARKER.to_owned()]).len()
    };
    let hex: String = MARKER.bytes().map(|byte| format!("{byte:02x}")).collect();
    for before in ["", "x", "xx", "xxx"] {
        assert_eq!(written(&BASE64_STANDARD.encode(format!("{before}{MARKER}-password"))), 1, "{before}");
    }
    for text in [MARKER, &hex, &hex.to_uppercase(), &format!("\"{MARKER}-x\"")] {
        assert_eq!(written(text), 1, "{text}");
    }
    assert_eq!(written("nothing of the kind"), 0);
}
