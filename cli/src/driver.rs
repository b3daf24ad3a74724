//! `skep driver`: where hosts can come from.

use clap::{Args, Subcommand};

use crate::exit;
use crate::failure::Failure;
use crate::noun::Noun;
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::text_at;

pub(crate) const DRIVER: Noun = Noun {
    word: "driver",
    name: "/name",
    columns: &[
        Column::new("NAME", Show::Text("/name")),
        Column::new("AVAILABLE", Show::Text("/available")),
        Column::new("DESCRIPTION", Show::With(|driver| text_at(driver, "/description"))),
        Column::new("REASON", Show::Free("/reason")),
    ],
    when_none: "",
};

/// Drivers.
#[derive(Debug, Args)]
pub struct Driver {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the drivers and whether they can be used here (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep driver ls",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
}

pub(crate) async fn run(command: Driver, session: &Session) -> Result<(), Failure> {
    let Verb::Ls = command.verb.unwrap_or(Verb::Ls);
    session.print_list(&DRIVER, &session.client()?.get(&["v1", "drivers"], &[]).await?);
    Ok(())
}
