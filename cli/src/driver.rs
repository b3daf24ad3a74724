//! `skep driver`: where hosts can come from.

use clap::Subcommand;

use crate::exit;
use crate::failure::Failure;
use crate::noun::{Noun, Verbs};
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
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    let Verb::Ls = command.verb.unwrap_or(Verb::Ls);
    DRIVER.list(&[], session).await
}
