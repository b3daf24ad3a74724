//! `skep user`: people with an account.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::input;
use crate::noun::{Noun, Verbs};
use crate::session::Session;
use crate::setup;
use crate::table::{Column, Show};
use crate::value::{list_at, text_at};

pub(crate) const USER: Noun = Noun {
    word: "user",
    path: &["users"],
    name: "/metadata/name",
    columns: &[
        Column::new("NAME", Show::Text("/metadata/name")),
        Column::wide("ID", Show::Text("/metadata/id")),
        Column::new("STATE", Show::State("/status/state")),
        Column::new("GROUPS", Show::With(groups)),
        Column::wide("PROVIDER", Show::Text("/status/provider")),
        Column::wide("MADE BY", Show::Text("/status/created_by")),
        Column::new("AGE", Show::Age("/metadata/created_at")),
    ],
    when_none: "No users yet. Make one: skep user create NAME --password-file FILE",
};

/// What can be done with users.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the users (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep user ls\n  skep user ls -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Make a user, who may make environments, and nothing else until somebody gives it a role
    #[command(
        before_long_help = "Examples:\n  skep user create ann --password-file pw.txt\n  cat pw.txt | skep user create ann --password-file -\n  skep user create ops --password-file pw.txt --admin",
        after_long_help = exit::help(exit::WRITES)
    )]
    Create(Create),
    /// Show everything about a user
    #[command(before_long_help = "Examples:\n  skep user inspect ann", after_long_help = exit::help(exit::READS))]
    Inspect {
        /// The user's name
        name: String,
    },
    /// Give a user another password; sessions with the one before end, keys stay
    #[command(
        name = "passwd",
        before_long_help = "Examples:\n  skep user passwd     your own; asks for both\n  skep user passwd ann --password-file new.txt\n  skep user passwd ann --password-file new.txt --current-file old.txt     your own",
        after_long_help = exit::help(exit::WRITES)
    )]
    Password(Password),
    /// Give a user a role in the whole cluster, or take it away
    #[command(
        before_long_help = "Examples:\n  skep user set-role ann admin\n  skep user set-role ann readonly     sees every environment\n  skep user set-role ann none",
        after_long_help = exit::help(exit::WRITES)
    )]
    SetRole {
        /// The user's name
        name: String,
        /// The role's name, or none; see skep role ls
        role: String,
    },
    /// Keep a user out, with its keys, until it is enabled again
    #[command(before_long_help = "Examples:\n  skep user disable ann", after_long_help = exit::help(exit::WRITES))]
    Disable {
        /// The user's name
        name: String,
    },
    /// Let a user come in again
    #[command(before_long_help = "Examples:\n  skep user enable ann", after_long_help = exit::help(exit::WRITES))]
    Enable {
        /// The user's name
        name: String,
    },
    /// Remove a user, with its keys and roles; what it has made stays
    #[command(
        visible_alias = "remove",
        before_long_help = "Examples:\n  skep user rm ann\n  skep user rm ann --yes",
        after_long_help = exit::help(exit::WRITES)
    )]
    Rm {
        /// The user's name
        name: String,
    },
}

/// A new user.
#[derive(Debug, Args)]
pub struct Create {
    /// The name: 1 to 63 of a-z, 0-9 and '-'
    name: String,
    /// A file with the password, - for standard input. It is no argument, because others on this machine could read it
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// May do everything, everywhere
    #[arg(long)]
    admin: bool,
}

/// Another password.
#[derive(Debug, Args)]
pub struct Password {
    /// The user's name; without it: your own
    name: Option<String>,
    /// A file with the new password, - for standard input; without it: asked for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A file with the password of before, if it is your own
    #[arg(long, value_name = "FILE")]
    current_file: Option<PathBuf>,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => USER.list(&[], session).await,
        Verb::Create(wish) => create(wish, session).await,
        Verb::Inspect { name } => USER.inspect(&name, session).await,
        Verb::Password(wish) => set_password(wish, session).await,
        Verb::SetRole { name, role } => set_role("user", USER.named(&name)?, &role, session).await,
        Verb::Disable { name } => act(&name, "disable", "disabled", session).await,
        Verb::Enable { name } => act(&name, "enable", "enabled", session).await,
        Verb::Rm { name } => remove(&name, session).await,
    }
}

async fn create(wish: Create, session: &Session) -> Result<(), Failure> {
    let password = input::secret(&wish.password_file).await?;
    let body = json!({"name": USER.named(&wish.name)?, "password": password, "admin": wish.admin});
    let made =
        session.client()?.write(Method::POST, &USER.at(&[], session)?, &[], Payload::Json(&body)).await?;
    session.print_done(&USER, &made, "created");
    Ok(())
}

async fn set_password(wish: Password, session: &Session) -> Result<(), Failure> {
    let whose = match &wish.name {
        Some(name) => USER.named(name)?.to_owned(),
        None => own_name(session).await?,
    };
    let current = match &wish.current_file {
        Some(file) => Some(input::secret(file).await?),
        None if wish.name.is_none() && session.may_ask() => {
            Some(session.ask_for_secret(&format!("Present password of {whose}: ")).await?)
        }
        None => None,
    };
    let password = setup::new_password(wish.password_file.as_deref(), session).await?;
    let body = json!({"password": password, "current": current});
    let path = USER.at(&[&whose, "password"], session)?;
    let user = session.client()?.write(Method::PUT, &path, &[], Payload::Json(&body)).await?;
    session.print_done(&USER, &user, "has another password");
    Ok(())
}

/// Whose session or key this is.
async fn own_name(session: &Session) -> Result<String, Failure> {
    let whoami = session.client()?.get(&["v1", "whoami"], &[]).await?;
    let principal = text_at(&whoami, "/principal").unwrap_or_default();
    // Of an environment's key it has a '/'.
    match principal.as_str() {
        "" | "admin" => Err(Failure::usage("you are no user, and have no password", "name a user")),
        name if name.contains('/') => {
            Err(Failure::usage("a key of an environment has no password", "name a user"))
        }
        name => Ok(name.to_owned()),
    }
}

async fn act(name: &str, action: &str, done: &str, session: &Session) -> Result<(), Failure> {
    let path = USER.at(&[USER.named(name)?, "actions", action], session)?;
    let user = session.client()?.write(Method::POST, &path, &[], Payload::Nothing).await?;
    session.print_done(&USER, &user, done);
    Ok(())
}

async fn remove(name: &str, session: &Session) -> Result<(), Failure> {
    let name = USER.named(name)?;
    session.confirm(&format!("User {name} goes, with its keys and roles")).await?;
    let gone =
        session.client()?.write(Method::DELETE, &USER.at(&[name], session)?, &[], Payload::Nothing).await?;
    session.print_done(&USER, &gone, "removed");
    Ok(())
}

/// A role in the whole cluster for a user or a group; `none` takes it away.
pub(crate) async fn set_role(kind: &str, name: &str, role: &str, session: &Session) -> Result<(), Failure> {
    let path = ["v1", "role-bindings", kind, name];
    let client = session.client()?;
    let (binding, done) = match role {
        "none" => (
            client.write(Method::DELETE, &path, &[], Payload::Nothing).await?,
            "has no role any more".to_owned(),
        ),
        role => {
            let body = json!({"role": role});
            (
                client.write(Method::PUT, &path, &[], Payload::Json(&body)).await?,
                format!("is {role} everywhere"),
            )
        }
    };
    session.print_done(&crate::member::MEMBER, &binding, &done);
    Ok(())
}

fn groups(user: &Value) -> Option<String> {
    let groups: Vec<_> = list_at(user, "/spec/groups").iter().filter_map(Value::as_str).collect();
    Some(groups.join(",")).filter(|groups| !groups.is_empty())
}
