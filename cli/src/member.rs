//! `skep env members`: who has which role in an environment.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::noun::{CHOSEN, Noun};
use crate::session::Session;
use crate::table::{Column, Show};

pub(crate) const MEMBER: Noun = Noun {
    word: "member",
    path: &["environments", CHOSEN, "members"],
    name: "/member",
    columns: &[
        Column::new("MEMBER", Show::Text("/member")),
        Column::new("ROLE", Show::Text("/role")),
        Column::new("GIVEN BY", Show::Text("/created_by")),
        Column::new("AGE", Show::Age("/created_at")),
    ],
    when_none: "Nobody has a role here; administrators may do everything. Give one: skep env members add user/NAME --role ROLE",
};

/// What can be done with members.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List who has which role (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep env members ls -e prod",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Give users or groups a role, in place of the one that they have had
    #[command(
        visible_alias = "set",
        before_long_help = "Examples:\n  skep env members add user/ann -e prod\n  skep env members add group/dev user/ben --role restricted -e prod",
        after_long_help = exit::help(exit::WRITES)
    )]
    Add {
        /// user/NAME or group/NAME
        #[arg(required = true, value_parser = member)]
        members: Vec<(String, String)>,
        /// The role: owner, member, restricted, readonly, or one of your own; see skep role ls
        #[arg(long, value_name = "ROLE", default_value = "member")]
        role: String,
    },
    /// Take somebody's role away
    #[command(
        before_long_help = "Examples:\n  skep env members rm user/ann -e prod",
        after_long_help = exit::help(exit::WRITES)
    )]
    Rm {
        /// user/NAME or group/NAME
        #[arg(required = true, value_parser = member)]
        members: Vec<(String, String)>,
    },
}

pub(crate) async fn run(verb: Option<Verb>, session: &Session) -> Result<(), Failure> {
    match verb.unwrap_or(Verb::Ls) {
        Verb::Ls => MEMBER.list(&[], session).await,
        Verb::Add { members, role } => {
            for (kind, name) in &members {
                let path = MEMBER.at(&[kind, name], session)?;
                let body = json!({"role": role});
                let set = session.client()?.write(Method::PUT, &path, &[], Payload::Json(&body)).await?;
                session.print_done(&MEMBER, &set, &format!("is {role}"));
            }
            Ok(())
        }
        Verb::Rm { members } => {
            for (kind, name) in &members {
                let path = MEMBER.at(&[kind, name], session)?;
                let gone = session.client()?.write(Method::DELETE, &path, &[], Payload::Nothing).await?;
                session.print_done(&MEMBER, &gone, "has no role any more");
            }
            Ok(())
        }
    }
}

/// `user/NAME` or `group/NAME`; a bare name is a user's.
fn member(text: &str) -> Result<(String, String), String> {
    let (kind, name) = text.split_once('/').unwrap_or(("user", text));
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('/');
    match kind {
        "user" | "group" if plain(name) => Ok((kind.to_owned(), name.to_owned())),
        _ => Err("write user/NAME or group/NAME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_a_user_or_a_group() {
        let both = |kind: &str, name: &str| Ok((kind.to_owned(), name.to_owned()));
        assert_eq!(member("user/ann"), both("user", "ann"));
        assert_eq!(member("group/dev"), both("group", "dev"));
        assert_eq!(member("ann"), both("user", "ann"));
        for wrong in ["", "user/", "robot/x", "user/a/b", "group/.."] {
            assert!(member(wrong).is_err(), "{wrong}");
        }
    }
}
