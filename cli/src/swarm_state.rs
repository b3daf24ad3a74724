//! `skep env backup|restore`: what the managers of a swarm know, saved and brought back.
//!
//! The recovery key stays here: what is restored is decrypted before it is sent.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::client::Payload;
use crate::env::ENV;
use crate::failure::Failure;
use crate::flags::Output;
use crate::host::HOST;
use crate::session::{Session, Started};
use crate::snapshot::{LocalFile, Part, refuse_existing, required_key, unusable};
use crate::value::{bytes, text_at};

/// What is saved, and where.
#[derive(Debug, Args)]
pub struct Backup {
    /// The environment's name or id
    name: String,
    /// Where to write it; must not exist
    file: PathBuf,
    /// The manager of the swarm whose state it is; without it, one that does not lead
    #[arg(long, value_name = "HOST")]
    from: Option<String>,
}

/// What is restored, and where.
#[derive(Debug, Args)]
pub struct Restore {
    /// The environment's name or id
    name: String,
    #[command(flatten)]
    backup: LocalFile,
    /// The host that becomes the swarm's first manager; it must be ready
    #[arg(long, value_name = "HOST")]
    to: String,
    /// Also if managers of the swarm can be reached: they leave it, with everything that only they know
    #[arg(long)]
    replace: bool,
}

pub(crate) async fn back_up(wish: &Backup, session: &Session) -> Result<(), Failure> {
    let (name, file) = (ENV.named(&wish.name)?, wish.file.as_path());
    refuse_existing(file)?;
    let path = ENV.at(&[name, "swarm-state"], session)?;
    let query: Vec<(&str, &str)> = wish.from.iter().map(|from| ("from", from.as_str())).collect();
    let mut download = session.client()?.download(&path, &query).await?;
    let host = download.header("skep-swarm-state-host");
    let failed = |source| cannot_write(file, source);
    let mut part = Part::beside(file).map_err(failed)?;
    let mut count = 0_u64;
    while let Some(chunk) = download.chunk().await? {
        count += chunk.len() as u64;
        part.file.write_all(&chunk).map_err(failed)?;
    }
    part.keep(file).map_err(failed)?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&json!({"file": file, "host": host, "bytes": count})),
        Output::Name => session.screen.result(&format!("{}\n", file.display())),
        _ => session.screen.result(&format!(
            "Saved the state of the swarm of {name} as {host} has it ({}); only the recovery key opens it\n",
            bytes(count)
        )),
    }
    Ok(())
}

pub(crate) async fn restore(wish: &Restore, session: &Session) -> Result<(), Failure> {
    let (name, to) = (ENV.named(&wish.name)?, HOST.named(&wish.to)?);
    let file = wish.backup.file.as_path();
    let key = required_key(&wish.backup, session)?;
    let sealed = fs::read(file).map_err(|source| cannot_read(file, source))?;
    let archive = skep_backup::open(&sealed, &key).map_err(|error| unusable(file, &error))?;
    let client = session.client()?;
    let path = ENV.at(&[name, "hosts", to, "swarm-state"], session)?;
    let body = || Ok(reqwest::Body::from(archive.clone()));
    let brought = client.write(Method::PUT, &path, &[], Payload::Stream(&body)).await?;
    let text = |pointer: &str| text_at(&brought, pointer).unwrap_or_default();
    let what = format!(
        "The swarm of environment {name} is begun anew on {to} as host {} of {} knew it at {}: what has come since is gone, and \
         tasks on hosts that join it anew begin anew",
        text("/host"),
        text("/environment"),
        text("/taken_at")
    );
    session.confirm_by_name(&what, name).await?;
    let path = ENV.at(&[name, "actions", "restore"], session)?;
    let body = json!({"to": to, "replace": wish.replace});
    let operation = client.write(Method::POST, &path, &[], Payload::Json(&body)).await;
    session.finish(&ENV, "restored", vec![Started { name: name.to_owned(), operation }]).await
}

fn cannot_write(file: &Path, source: io::Error) -> Failure {
    Failure::File { doing: format!("write {}", file.display()), source }
}

fn cannot_read(file: &Path, source: io::Error) -> Failure {
    Failure::File { doing: format!("read {}", file.display()), source }
}
