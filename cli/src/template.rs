//! `skep template`: what environments start from.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{DRY_RUN, Payload};
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::{Noun, Verbs};
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::{list_at, text_at};
use crate::{exit, input};

pub(crate) const TEMPLATE: Noun = Noun {
    word: "template",
    path: &["templates"],
    name: "/metadata/name",
    columns: &[
        Column::new("NAME", Show::Text("/metadata/name")),
        Column::wide("ID", Show::Text("/metadata/id")),
        Column::new("MANAGERS", Show::Text("/spec/swarm_managers")),
        Column::new("MTU", Show::With(mtu)),
        Column::wide("ENCRYPTED", Show::Text("/spec/encrypted")),
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
    /// Import templates from YAML files
    #[command(
        long_about = "Import templates from YAML files\n\nEnvironment templates of Rancher 1.6 are read as far as they mean something \
                      here; what does not is named with its line. A file without a name gives the template its own.",
        before_long_help = "Examples:\n  skep template import swarm.yaml\n  skep template import swarm.yaml --replace\n  cat swarm.yaml | skep template import -",
        after_long_help = exit::help(exit::WRITES)
    )]
    Import {
        /// The files; - reads standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Put it in the place of another of its name; environments made from that one stay as they are until it is applied
        #[arg(long)]
        replace: bool,
    },
    /// Put a template in the place of another of its name, as import --replace
    #[command(
        before_long_help = "Examples:\n  skep template update swarm.yaml\n  skep env plan prod     what that changes about an environment",
        after_long_help = exit::help(exit::WRITES)
    )]
    Update {
        /// The file; - reads standard input
        file: PathBuf,
    },
    /// Check files without importing them
    #[command(
        before_long_help = "Examples:\n  skep template validate swarm.yaml",
        after_long_help = exit::help(exit::WRITES)
    )]
    Validate {
        /// The files; - reads standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Write a template as YAML
    #[command(
        before_long_help = "Examples:\n  skep template export default > my.yaml",
        after_long_help = exit::help(exit::READS)
    )]
    Export {
        /// The template's name
        name: String,
    },
    /// Remove templates; environments made from them stay as they are
    #[command(
        before_long_help = "Examples:\n  skep template rm swarm",
        after_long_help = exit::help(exit::WRITES)
    )]
    Rm {
        /// The templates' names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => TEMPLATE.list(&[], session).await,
        Verb::Inspect { name } => TEMPLATE.inspect(&name, session).await,
        Verb::Import { files, replace } => import_all(&files, replace, session).await,
        Verb::Update { file } => import(&file, true, &[], session).await,
        Verb::Validate { files } => validate(&files, session).await,
        Verb::Export { name } => export(&name, session).await,
        Verb::Rm { names } => remove(&names, session).await,
    }
}

async fn import_all(files: &[PathBuf], replace: bool, session: &Session) -> Result<(), Failure> {
    for file in files {
        import(file, replace, &[], session).await?;
    }
    Ok(())
}

/// Replacing one of the same name is no reason to find a file wrong.
async fn validate(files: &[PathBuf], session: &Session) -> Result<(), Failure> {
    for file in files {
        import(file, true, &[DRY_RUN], session).await?;
    }
    Ok(())
}

async fn import(
    file: &Path,
    replace: bool,
    query: &[(&str, &str)],
    session: &Session,
) -> Result<(), Failure> {
    let client = session.client()?;
    let stem = file.file_stem().and_then(|stem| stem.to_str()).filter(|stem| *stem != "-");
    let body = json!({"document": input::text(file).await?, "name": stem, "replace": replace});
    let path = TEMPLATE.at(&[], session)?;
    let imported = client.write(Method::POST, &path, query, Payload::Json(&body)).await?;
    for note in list_at(&imported, "/notes").iter().filter_map(Value::as_str) {
        session.screen.note(note);
    }
    session.print_done(&TEMPLATE, &imported, if query.is_empty() { "imported" } else { "is valid" });
    Ok(())
}

async fn export(name: &str, session: &Session) -> Result<(), Failure> {
    let path = TEMPLATE.at(&[TEMPLATE.named(name)?], session)?;
    let template = session.client()?.get(&path, &[]).await?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&template),
        _ => session
            .screen
            .result(template.pointer("/spec/document").and_then(Value::as_str).unwrap_or_default()),
    }
    Ok(())
}

async fn remove(names: &[String], session: &Session) -> Result<(), Failure> {
    session.confirm(&format!("Templates are removed: {}", names.join(", "))).await?;
    for name in names {
        let path = TEMPLATE.at(&[TEMPLATE.named(name)?], session)?;
        let removed = session.client()?.write(Method::DELETE, &path, &[], Payload::Nothing).await?;
        session.print_done(&TEMPLATE, &removed, "removed");
    }
    Ok(())
}

fn mtu(template: &Value) -> Option<String> {
    Some(text_at(template, "/spec/mtu").unwrap_or_else(|| "auto".into()))
}
