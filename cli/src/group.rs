//! `skep group`: users who have roles together.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::noun::{Noun, Verbs};
use crate::session::Session;
use crate::table::{Column, Show};
use crate::user::{self, USER};
use crate::value::list_at;

pub(crate) const GROUP: Noun = Noun {
    word: "group",
    path: &["groups"],
    name: "/metadata/name",
    columns: &[
        Column::new("NAME", Show::Text("/metadata/name")),
        Column::new("MEMBERS", Show::With(members)),
        Column::new("AGE", Show::Age("/metadata/created_at")),
        Column::new("DESCRIPTION", Show::Free("/spec/description")),
    ],
    when_none: "No groups yet. Make one: skep group create NAME",
};

/// What can be done with groups.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the groups (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep group ls",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Make a group with nobody in it
    #[command(
        before_long_help = "Examples:\n  skep group create dev\n  skep group create dev --description applications",
        after_long_help = exit::help(exit::WRITES)
    )]
    Create {
        /// The name: 1 to 63 of a-z, 0-9 and '-'
        name: String,
        /// One line about it
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// Show everything about a group
    #[command(before_long_help = "Examples:\n  skep group inspect dev", after_long_help = exit::help(exit::READS))]
    Inspect {
        /// The group's name
        name: String,
    },
    /// Take users into a group
    #[command(before_long_help = "Examples:\n  skep group add dev ann ben", after_long_help = exit::help(exit::WRITES))]
    Add {
        /// The group's name
        name: String,
        /// Who
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Take users out of a group
    #[command(before_long_help = "Examples:\n  skep group remove dev ben", after_long_help = exit::help(exit::WRITES))]
    Remove {
        /// The group's name
        name: String,
        /// Who
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Give a group a role in the whole cluster, or take it away
    #[command(
        before_long_help = "Examples:\n  skep group set-role ops admin\n  skep group set-role audit readonly\n  skep group set-role audit none",
        after_long_help = exit::help(exit::WRITES)
    )]
    SetRole {
        /// The group's name
        name: String,
        /// The role's name, or none; see skep role ls
        role: String,
    },
    /// Remove a group; its members lose what they had through it
    #[command(before_long_help = "Examples:\n  skep group rm dev --yes", after_long_help = exit::help(exit::WRITES))]
    Rm {
        /// The group's name
        name: String,
    },
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => GROUP.list(&[], session).await,
        Verb::Create { name, description } => create(&name, &description, session).await,
        Verb::Inspect { name } => GROUP.inspect(&name, session).await,
        Verb::Add { name, users } => each(&name, &users, Method::PUT, "in", session).await,
        Verb::Remove { name, users } => each(&name, &users, Method::DELETE, "not in", session).await,
        Verb::SetRole { name, role } => user::set_role("group", GROUP.named(&name)?, &role, session).await,
        Verb::Rm { name } => remove(&name, session).await,
    }
}

async fn create(name: &str, description: &str, session: &Session) -> Result<(), Failure> {
    let body = json!({"name": GROUP.named(name)?, "description": description});
    let made =
        session.client()?.write(Method::POST, &GROUP.at(&[], session)?, &[], Payload::Json(&body)).await?;
    session.print_done(&GROUP, &made, "created");
    Ok(())
}

async fn each(
    name: &str,
    users: &[String],
    method: Method,
    is: &str,
    session: &Session,
) -> Result<(), Failure> {
    let name = GROUP.named(name)?;
    for user in users {
        let path = GROUP.at(&[name, "members", USER.named(user)?], session)?;
        let user = session.client()?.write(method.clone(), &path, &[], Payload::Nothing).await?;
        session.print_done(&USER, &user, &format!("is {is} group/{name}"));
    }
    Ok(())
}

async fn remove(name: &str, session: &Session) -> Result<(), Failure> {
    let name = GROUP.named(name)?;
    session.confirm(&format!("Group {name} goes; its members lose what they have through it")).await?;
    let gone =
        session.client()?.write(Method::DELETE, &GROUP.at(&[name], session)?, &[], Payload::Nothing).await?;
    session.print_done(&GROUP, &gone, "removed");
    Ok(())
}

fn members(group: &Value) -> Option<String> {
    Some(list_at(group, "/spec/members").len().to_string())
}
