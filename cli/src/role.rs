//! `skep role`: sets of permissions with a name.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::noun::{Noun, Verbs};
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::list_at;

pub(crate) const ROLE: Noun = Noun {
    word: "role",
    path: &["roles"],
    name: "/metadata/name",
    columns: &[
        Column::new("NAME", Show::Text("/metadata/name")),
        Column::new("PERMISSIONS", Show::With(count)),
        Column::new("BUILT IN", Show::Text("/status/built_in")),
        Column::new("DESCRIPTION", Show::Free("/spec/description")),
    ],
    when_none: "No roles. That cannot be: some are built in.",
};

/// What can be done with roles.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the roles (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep role ls",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Show what a role allows
    #[command(before_long_help = "Examples:\n  skep role inspect member", after_long_help = exit::help(exit::READS))]
    Inspect {
        /// The role's name
        name: String,
    },
    /// Make a role, or change what one allows: whoever has it may that from then on
    #[command(
        before_long_help = "Examples:\n  skep role set deployer view:environment,view:stack,manage:stack\n  skep role inspect owner     shows how permissions are written",
        after_long_help = exit::help(exit::WRITES)
    )]
    Set {
        /// The role's name
        name: String,
        /// VERB:TYPE, separated by commas
        #[arg(required = true, value_delimiter = ',')]
        permissions: Vec<String>,
        /// One line about it
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// Remove a role that nobody has any more
    #[command(before_long_help = "Examples:\n  skep role rm deployer", after_long_help = exit::help(exit::WRITES))]
    Rm {
        /// The role's name
        name: String,
    },
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => ROLE.list(&[], session).await,
        Verb::Inspect { name } => ROLE.inspect(&name, session).await,
        Verb::Set { name, permissions, description } => {
            let body = json!({"spec": {"description": description, "permissions": permissions}});
            let path = ROLE.at(&[ROLE.named(&name)?], session)?;
            let client = session.client()?;
            // Somebody else may change it at the same moment; then they are not overwritten unseen.
            let seen = match client.get(&path, &[]).await {
                Ok(role) => role.pointer("/metadata/revision").and_then(Value::as_u64),
                Err(Failure::Refused(refusal)) if refusal.status == 404 => None,
                Err(failure) => return Err(failure),
            };
            let role = client.write(Method::PUT, &path, &[], Payload::JsonIf(&body, seen)).await?;
            session.print_done(&ROLE, &role, "set");
            Ok(())
        }
        Verb::Rm { name } => {
            let path = ROLE.at(&[ROLE.named(&name)?], session)?;
            let gone = session.client()?.write(Method::DELETE, &path, &[], Payload::Nothing).await?;
            session.print_done(&ROLE, &gone, "removed");
            Ok(())
        }
    }
}

fn count(role: &Value) -> Option<String> {
    Some(list_at(role, "/spec/permissions").len().to_string())
}
