//! `skep registry`: registries to which an environment logs in, so that all its nodes can pull.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::input;
use crate::noun::{CHOSEN, Noun, Verbs};
use crate::session::Session;
use crate::table::{Column, Show};

pub(crate) const REGISTRY: Noun = Noun {
    word: "registry",
    path: &["environments", CHOSEN, "registries"],
    name: "/server",
    columns: &[
        Column::new("SERVER", Show::Text("/server")),
        Column::new("USER", Show::Text("/user")),
        Column::new("CHECKED", Show::Text("/checked")),
        Column::wide("CREATED", Show::Age("/created_at")),
        Column::new("AGE", Show::Age("/updated_at")),
    ],
    when_none: "No registries. Log in to one: skep registry login SERVER --user USER --password-file FILE",
};

/// What can be done with registries.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the registries to which the environment logs in (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep registry ls\n  skep registry ls -e prod",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Log in to a registry, or give another user or password
    #[command(
        long_about = "Log in to a registry, or give another user or password\n\nThe registry is asked first, through a host of \
                      the environment. Services get the login with the swarm, so that every node can pull their images, also one \
                      that joins later; tasks that run are not restarted. The password is kept sealed and never shown again.",
        before_long_help = "Examples:\n  skep registry login registry.example.com --user ann --password-file pw.txt\n  cat pw.txt | skep registry login 10.0.0.5:5000 --user ci --password-file -\n  skep registry login registry.example.com --user ann --password-file pw.txt --no-check",
        after_long_help = exit::help(exit::WRITES)
    )]
    Login(Login),
    /// Log out of a registry; services get no password for it any more
    #[command(
        before_long_help = "Examples:\n  skep registry logout registry.example.com",
        after_long_help = exit::help(exit::WRITES)
    )]
    Logout {
        /// HOST or HOST:PORT, as images name it
        server: String,
    },
    /// Show a registry, without the password
    #[command(
        before_long_help = "Examples:\n  skep registry inspect registry.example.com",
        after_long_help = exit::help(exit::READS)
    )]
    Inspect {
        /// HOST or HOST:PORT, as images name it
        server: String,
    },
}

/// A login.
#[derive(Debug, Args)]
pub struct Login {
    /// HOST or HOST:PORT, as images name it; docker.io for the Docker Hub
    server: String,
    /// The user
    #[arg(long, value_name = "USER")]
    user: String,
    /// A file with the password or token, - for standard input. It is no argument, because others on this machine could read it
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// Do not ask the registry whether the login is right: for one that does not run yet
    #[arg(long)]
    no_check: bool,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => REGISTRY.list(&[], session).await,
        Verb::Login(wish) => login(wish, session).await,
        Verb::Logout { server } => logout(&server, session).await,
        Verb::Inspect { server } => REGISTRY.inspect(&server, session).await,
    }
}

async fn login(wish: Login, session: &Session) -> Result<(), Failure> {
    let password = input::secret(&wish.password_file).await?;
    let body = json!({"user": wish.user, "password": password, "check": !wish.no_check});
    let path = REGISTRY.at(&[REGISTRY.named(&wish.server)?], session)?;
    let kept = session.client()?.write(Method::PUT, &path, &[], Payload::Json(&body)).await?;
    session.print_done(&REGISTRY, &kept, "logged in");
    Ok(())
}

async fn logout(server: &str, session: &Session) -> Result<(), Failure> {
    let path = REGISTRY.at(&[REGISTRY.named(server)?], session)?;
    let gone = session.client()?.write(Method::DELETE, &path, &[], Payload::Nothing).await?;
    session.print_done(&REGISTRY, &gone, "logged out");
    Ok(())
}
