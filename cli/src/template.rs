//! `skep template`: what environments start from.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use crate::client::Payload;
use crate::failure::Failure;
use crate::noun::{Noun, Verbs};
use crate::session::Session;
use crate::table::{Column, Show};
use crate::{exit, input};

pub(crate) const TEMPLATE: Noun = Noun {
    word: "template",
    path: &["templates"],
    name: "/metadata/name",
    columns: &[
        Column::new("NAME", Show::Text("/metadata/name")),
        Column::wide("ID", Show::Text("/metadata/id")),
        Column::new("MANAGERS", Show::Text("/spec/swarm_managers")),
        Column::new("MTU", Show::Text("/spec/mtu")),
        Column::new("PUBLIC", Show::Text("/spec/public")),
        Column::new("AGE", Show::Age("/metadata/created_at")),
        Column::new("DESCRIPTION", Show::Free("/spec/description")),
    ],
    when_none: "No templates yet. Import one: skep template import FILE",
};

/// What can be done with templates.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the templates (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep template ls",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Show everything about a template
    #[command(
        before_long_help = "Examples:\n  skep template inspect default",
        after_long_help = exit::help(exit::READS)
    )]
    Inspect {
        /// The template's name or id
        name: String,
    },
    /// Import a template from a YAML file
    #[command(
        before_long_help = "Examples:\n  skep template import swarm.yaml\n  cat swarm.yaml | skep template import -",
        after_long_help = exit::help(exit::WRITES)
    )]
    Import {
        /// The file; - reads standard input
        file: PathBuf,
    },
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => TEMPLATE.list(&[], session).await,
        Verb::Inspect { name } => TEMPLATE.inspect(&name, session).await,
        Verb::Import { file } => import(&file, session).await,
    }
}

async fn import(file: &Path, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let body = json!({"document": input::text(file).await?});
    let path = TEMPLATE.at(&[], session)?;
    let imported = client.write(Method::POST, &path, &[], Payload::Json(&body)).await?;
    session.print_done(&TEMPLATE, &imported, "imported");
    Ok(())
}
