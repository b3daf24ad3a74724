//! `skep image`: bringing images onto the hosts without a registry.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use crate::client::Payload;
use crate::env::ENV;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::input;
use crate::noun::{CHOSEN, Noun};
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::items;

/// One image on one host.
pub(crate) const IMAGE: Noun = Noun {
    word: "host",
    path: &["environments", CHOSEN, "images"],
    name: "/host",
    columns: &[
        Column::new("HOST", Show::Text("/host")),
        Column::new("IMAGE", Show::Text("/image")),
        Column::new("OK", Show::Text("/ok")),
        Column::new("MESSAGE", Show::Free("/message")),
    ],
    when_none: "No active host in this environment: the image went nowhere.",
};

/// Images.
#[derive(Debug, Args)]
pub struct Image {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Load an image archive onto every active host of the environment
    #[command(
        before_long_help = "Examples:\n  skep image load web.tar\n  docker save web:1 | skep image load -\n  skep image load rootfs.tar --import tools:1",
        after_long_help = exit::help(&[
            Exit::Done, Exit::Failed, Exit::Usage, Exit::NotFound, Exit::NotAllowed, Exit::Unreachable, Exit::Unknown,
            Exit::Partly, Exit::Interrupted,
        ])
    )]
    Load(Load),
}

#[derive(Debug, Args)]
struct Load {
    /// An archive as `docker save` writes it; - reads standard input
    file: PathBuf,
    /// The file is a root file system; make an image of this name from it
    #[arg(long, value_name = "NAME:TAG")]
    import: Option<String>,
}

pub(crate) async fn run(command: Image, session: &Session) -> Result<(), Failure> {
    let Verb::Load(wish) = command.verb;
    load(wish, session).await
}

async fn load(wish: Load, session: &Session) -> Result<(), Failure> {
    let path = IMAGE.at(&[], session)?;
    let client = session.client()?;
    // Finds a manager that answers before the bytes flow: standard input can be sent only once.
    client.get(&ENV.at(&[session.environment()?], session)?, &[]).await?;
    let opened = AtomicBool::new(false);
    let open = || {
        if opened.swap(true, Ordering::SeqCst) && input::is_stdin(&wish.file) {
            return Err(io::Error::other("it has been sent already, and cannot be read twice"));
        }
        input::body(&wish.file)
    };
    let query: Vec<(&str, &str)> = wish.import.iter().map(|name| ("import", name.as_str())).collect();
    let answer = client.write(Method::POST, &path, &query, Payload::Stream(&open)).await?;
    session.print_list(&IMAGE, &answer);
    verdict(items(&answer))
}

fn verdict(hosts: &[Value]) -> Result<(), Failure> {
    let total = hosts.len();
    match hosts.iter().filter(|host| host["ok"] != true).count() {
        0 => Ok(()),
        failed if failed == total => Err(Failure::EachFailed { total, exit: Exit::Failed }),
        failed => Err(Failure::Partly { failed, total }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn partly_loaded_is_told_from_not_loaded() {
        let (well, ill) = (json!({"ok": true}), json!({"ok": false}));
        assert!(verdict(&[well.clone(), well.clone()]).is_ok());
        assert_eq!(verdict(&[well, ill.clone()]).expect_err("one failed").exit(), Exit::Partly);
        assert_eq!(verdict(&[ill]).expect_err("all failed").exit(), Exit::Failed);
    }
}
