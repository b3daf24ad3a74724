//! `skep template`: what environments start from.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use crate::client::{Call, Payload};
use crate::failure::Failure;
use crate::noun::Noun;
use crate::session::Session;
use crate::table::{Column, Show};
use crate::{exit, input};

pub(crate) const TEMPLATE: Noun = Noun {
    word: "template",
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

/// Templates.
#[derive(Debug, Args)]
pub struct Template {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the templates (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep template ls",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Show everything about a template
    #[command(
        before_long_help = "Examples:\n  skep template inspect swarm",
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

pub(crate) async fn run(command: Template, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => session.print_list(&TEMPLATE, &client.get(&["v1", "templates"], &[]).await?),
        Verb::Inspect { name } => {
            session
                .print_one(&TEMPLATE, &client.get(&["v1", "templates", TEMPLATE.named(&name)?], &[]).await?);
        }
        Verb::Import { file } => {
            let body = json!({"document": input::text(&file).await?});
            let call = Call {
                method: Method::POST,
                path: &["v1", "templates"],
                query: &[],
                payload: Payload::Json(&body),
            };
            session.print_done(&TEMPLATE, &client.write(call).await?, "imported");
        }
    }
    Ok(())
}
