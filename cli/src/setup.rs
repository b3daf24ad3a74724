//! The first administrator of a new cluster: asked for the code that its managers print, a name and a password.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Payload};
use crate::failure::Failure;
use crate::input;
use crate::session::Session;

/// Does the cluster wait for its first administrator? One of an earlier version never does.
pub(crate) async fn is_awaited(client: &Client) -> Result<bool, Failure> {
    let providers = client.get(&["v1", "auth-providers"], &[]).await?;
    Ok(providers.pointer("/setup").and_then(Value::as_bool).unwrap_or(false))
}

/// The code out of its file, or as somebody types it.
pub(crate) async fn code(file: Option<&Path>, session: &Session) -> Result<String, Failure> {
    if let Some(file) = file {
        return input::secret(file).await;
    }
    if !session.may_ask() {
        return Err(Failure::usage(
            "the cluster waits for its first administrator, who comes in with the setup code",
            "give --setup-code-file FILE, --user NAME and --password-file FILE; each manager that founded the cluster prints \
             the code, and has it in the file setup-code of its data folder",
        ));
    }
    session.screen.note("This cluster waits for an administrator: it will be you.");
    session.screen.note(
        "Its managers have printed a setup code: see journalctl -u skep-server, or what skep init has said.",
    );
    session.ask("Setup code: ").await
}

/// A password out of its file, or typed twice.
pub(crate) async fn new_password(file: Option<&Path>, session: &Session) -> Result<String, Failure> {
    if let Some(file) = file {
        return input::secret(file).await;
    }
    if !session.may_ask() {
        return Err(Failure::usage(
            "the password is missing",
            "give --password-file FILE, or - for standard input",
        ));
    }
    let password = session.ask_for_secret("New password, at least ten characters: ").await?;
    if session.ask_for_secret("Once more: ").await? != password {
        return Err(Failure::usage("the two passwords are not the same", "begin again"));
    }
    Ok(password)
}

/// Makes the first administrator.
pub(crate) async fn set_up(client: &Client, code: &str, user: &str, password: &str) -> Result<(), Failure> {
    let body = json!({"code": code, "user": user, "password": password});
    client.write(Method::POST, &["v1", "setup"], &[], Payload::Json(&body)).await.map(drop)
}
