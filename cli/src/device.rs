//! Signing in on one machine with the approval of another: `skep login --device` here, `skep login approve CODE` there (RFC 8628).

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use skep_codes::Code;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Payload};
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::Noun;
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::{clean, text_at};

/// How long to wait before asking again, where the server says nothing; and by how much longer if that was too soon
/// (RFC 8628, 3.5).
const INTERVAL_SECONDS: u64 = 5;

/// How long codes are valid where the server says nothing.
const EXPIRES_SECONDS: u64 = 600;

/// A device that waits; found by its short code only, so there is no list.
const DEVICE: Noun = Noun {
    word: "device",
    path: &["device-codes"],
    name: "/user_code",
    columns: &[
        Column::new("CODE", Show::Text("/user_code")),
        Column::new("CALLS ITSELF", Show::Free("/client")),
        Column::new("FROM", Show::Text("/address")),
        Column::new("STATE", Show::State("/state")),
    ],
    when_none: "",
};

/// Shows a short code, waits until somebody has approved it, and answers with the session's token.
pub(crate) async fn come_in(client: &Client, session: &Session) -> Result<String, Failure> {
    let asked = json!({"client": own_name()});
    let codes = client.write(Method::POST, &["v1", "device-codes"], &[], Payload::Json(&asked)).await?;
    let user_code = clean(&text_at(&codes, "/user_code").unwrap_or_default());
    session.screen.note(&format!(
        "On a machine where you are signed in:\n\n    skep login approve {user_code}\n\nWaiting …"
    ));
    let seconds = |member: &str, default| codes.get(member).and_then(Value::as_u64).unwrap_or(default);
    let mut interval = Duration::from_secs(seconds("interval", INTERVAL_SECONDS));
    let deadline = Instant::now() + Duration::from_secs(seconds("expires_in", EXPIRES_SECONDS));
    let body = json!({"device_code": text_at(&codes, "/device_code")});
    let path = ["v1", "device-codes", "actions", "exchange"];
    loop {
        sleep(interval).await;
        let failure = match client.write(Method::POST, &path, &[], Payload::Json(&body)).await {
            Ok(made) => return Ok(text_at(&made, "/token").unwrap_or_default()),
            Err(failure) => failure,
        };
        let code = match &failure {
            Failure::Refused(refusal) => Code::named(&text_at(&refusal.problem, "/code").unwrap_or_default()),
            _ => None,
        };
        match code {
            Some(Code::AuthorizationPending) => {}
            Some(Code::SlowDown) => interval += Duration::from_secs(INTERVAL_SECONDS),
            _ if failure.may_pass() && Instant::now() < deadline => {}
            _ => return Err(failure),
        }
    }
}

/// Lets a device come in as whoever is signed in here, after a look at it.
pub(crate) async fn approve(code: &str, session: &Session) -> Result<(), Failure> {
    let code = DEVICE.named(code)?;
    let device = session.client()?.get(&DEVICE.at(&[code], session)?, &[]).await?;
    let text = |pointer: &str| clean(&text_at(&device, pointer).unwrap_or_default());
    let from = Some(text("/address")).filter(|address| !address.is_empty());
    let from = from.map_or_else(String::new, |address| format!(" at {address}"));
    let question = format!("'{}'{from} comes in, and may do what you may", text("/client"));
    session.confirm(&question).await?;
    decide(code, "approve", "approved", session).await
}

/// Keeps a device out.
pub(crate) async fn deny(code: &str, session: &Session) -> Result<(), Failure> {
    decide(DEVICE.named(code)?, "deny", "denied", session).await
}

async fn decide(code: &str, action: &str, done: &str, session: &Session) -> Result<(), Failure> {
    let path = DEVICE.at(&[code, "actions", action], session)?;
    let device = session.client()?.write(Method::POST, &path, &[], Payload::Nothing).await?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&device),
        _ => session.print_done(&DEVICE, &device, done),
    }
    Ok(())
}

/// By what a person recognizes this machine.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let host: String = host.trim().chars().filter(plain).take(63).collect();
    let version = env!("CARGO_PKG_VERSION");
    if host.is_empty() { format!("skep {version}") } else { format!("skep {version} on {host}") }
}
