//! `skep env …` about the keys of a swarm: rotated, shown, given. Whether they are locked is a wish like others.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::client::Payload;
use crate::env::ENV;
use crate::failure::Failure;
use crate::flags::Output;
use crate::input;
use crate::session::{Session, Started};
use crate::value::text_at;

/// Which swarm, and with which key.
#[derive(Debug, Args)]
pub struct Unlock {
    /// The environment's name or id
    name: String,
    /// A file with the unlock key, - for standard input; only where Skep does not know the right one
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Replaces a key: `rotate-tokens`, `rotate-ca`, `rotate-unlock-key`.
pub(crate) async fn rotate(name: &str, action: &str, session: &Session) -> Result<(), Failure> {
    let name = ENV.named(name)?;
    let path = ENV.at(&[name, "actions", action], session)?;
    let operation = session.client()?.write(Method::POST, &path, &[], Payload::Nothing).await;
    session.finish(&ENV, "rotated", vec![Started { name: name.to_owned(), operation }]).await
}

/// Gives locked managers the key now.
pub(crate) async fn unlock(wish: Unlock, session: &Session) -> Result<(), Failure> {
    let name = ENV.named(&wish.name)?;
    let key = match &wish.key_file {
        Some(file) => Some(input::text(file).await?.trim().to_owned()),
        None => None,
    };
    let (path, body) = (ENV.at(&[name, "actions", "unlock"], session)?, json!({"unlock_key": key}));
    let operation = session.client()?.write(Method::POST, &path, &[], Payload::Json(&body)).await;
    session.finish(&ENV, "unlocked", vec![Started { name: name.to_owned(), operation }]).await
}

/// Prints the key.
pub(crate) async fn show_unlock_key(name: &str, session: &Session) -> Result<(), Failure> {
    let path = ENV.at(&[ENV.named(name)?, "actions", "show-unlock-key"], session)?;
    let key = session.client()?.write(Method::POST, &path, &[], Payload::Nothing).await?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&key),
        _ => session.screen.result(&format!("{}\n", text_at(&key, "/unlock_key").unwrap_or_default())),
    }
    Ok(())
}
