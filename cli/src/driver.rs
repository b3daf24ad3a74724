//! `skep driver`: where hosts can come from.

use clap::{Args, Subcommand};

use crate::exit;
use crate::failure::Failure;
use crate::noun::{Noun, Verbs};
use crate::orphan;
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::text_at;

pub(crate) const DRIVER: Noun = Noun {
    word: "driver",
    path: &["drivers"],
    name: "/name",
    columns: &[
        Column::new("NAME", Show::Text("/name")),
        Column::new("AVAILABLE", Show::Text("/available")),
        Column::new("DESCRIPTION", Show::With(|driver| text_at(driver, "/description"))),
        Column::new("REASON", Show::Free("/reason")),
    ],
    when_none: "",
};

/// What can be done with drivers.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the drivers and whether they can be used here (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep driver ls",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// List machines with this cluster's tag that the cluster knows nothing of, or remove them
    #[command(
        long_about = "List machines with this cluster's tag that the cluster knows nothing of, or remove them\n\nThey come about \
                      when a manager is lost in the middle of asking for a machine, and when a cluster is restored from an \
                      older backup. A machine without the tag, and one that the cluster knows, is never listed and never \
                      removed; that is looked up again right before each removal.",
        before_long_help = "Examples:\n  skep driver orphans\n  skep driver orphans local --remove\n  skep driver orphans local --remove --confirm local     in scripts",
        after_long_help = exit::help(ORPHANS_EXITS)
    )]
    Orphans(Orphans),
}

/// Which orphans, and what to do with them.
#[derive(Debug, Args)]
pub struct Orphans {
    /// The driver [default: all that work here]
    driver: Option<String>,
    /// Give them back to the driver, each with everything on it
    #[arg(long, requires = "driver")]
    remove: bool,
}

const ORPHANS_EXITS: &[exit::Exit] = &[
    exit::Exit::Done,
    exit::Exit::Failed,
    exit::Exit::Usage,
    exit::Exit::NotFound,
    exit::Exit::NotAllowed,
    exit::Exit::Conflict,
    exit::Exit::Unreachable,
    exit::Exit::Unknown,
    exit::Exit::Partly,
    exit::Exit::Interrupted,
];

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => DRIVER.list(&[], session).await,
        Verb::Orphans(Orphans { driver: Some(driver), remove: true }) => {
            orphan::remove(DRIVER.named(&driver)?, session).await
        }
        Verb::Orphans(Orphans { driver, .. }) => orphan::list(driver.as_deref(), session).await,
    }
}
