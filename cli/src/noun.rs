//! What the kinds of things have in common for a client: a word, a place in the API, a name, a table.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::failure::Failure;
use crate::session::Session;
use crate::table::Column;
use crate::value::text_at;
use crate::{
    audit, cluster, driver, env, group, host, image, manager, member, operation, orphan, registration,
    registry, role, snapshot, stack, task, template, token, user,
};

/// A kind of thing that can be listed.
pub(crate) struct Noun {
    /// As in `skep WORD ls` and in `WORD/NAME`.
    pub(crate) word: &'static str,
    /// Where the API has all of them.
    pub(crate) path: &'static [&'static str],
    /// Where its name stands in the object.
    pub(crate) name: &'static str,
    /// Its table, in this order.
    pub(crate) columns: &'static [Column],
    /// What to do when there is none yet.
    pub(crate) when_none: &'static str,
}

/// In the path of a kind of things: the chosen environment's name.
pub(crate) const CHOSEN: &str = "{environment}";

/// What follows a noun on the command line; each has a verb that may be left out.
#[derive(Debug, Args)]
pub struct Verbs<V: Subcommand> {
    #[command(subcommand)]
    pub(crate) verb: Option<V>,
}

/// Every kind of thing.
pub(crate) const NOUNS: &[&Noun] = &[
    &cluster::MANAGER,
    &manager::JOIN_TOKEN,
    &env::ENV,
    &template::TEMPLATE,
    &host::HOST,
    &registration::REGISTRATION_TOKEN,
    &registry::REGISTRY,
    &stack::STACK,
    &task::TASK,
    &operation::OPERATION,
    &image::IMAGE,
    &driver::DRIVER,
    &orphan::ORPHAN,
    &snapshot::SNAPSHOT,
    &user::USER,
    &group::GROUP,
    &role::ROLE,
    &member::MEMBER,
    &token::TOKEN,
    &audit::AUDIT,
];

impl Noun {
    /// The name in `NAME` or `WORD/NAME`, as `-o name` prints it.
    pub(crate) fn named<'a>(&self, reference: &'a str) -> Result<&'a str, Failure> {
        let name =
            reference.strip_prefix(self.word).and_then(|rest| rest.strip_prefix('/')).unwrap_or(reference);
        // As segments of a path these would name something else.
        if matches!(name, "" | "." | "..") {
            return Err(Failure::usage(
                format!("'{reference}' is not a name"),
                format!("see the names with: skep {} ls", self.word),
            ));
        }
        Ok(name)
    }

    /// Where all of them are, or what follows in the path.
    pub(crate) fn at<'a>(&self, more: &[&'a str], session: &'a Session) -> Result<Vec<&'a str>, Failure> {
        let mut path = vec!["v1"];
        for segment in self.path {
            path.push(if *segment == CHOSEN { session.environment()? } else { segment });
        }
        path.extend(more);
        Ok(path)
    }

    /// Prints all of them.
    pub(crate) async fn list(&self, query: &[(&str, &str)], session: &Session) -> Result<(), Failure> {
        let all = session.client()?.list(&self.at(&[], session)?, query).await?;
        session.print_list(self, &all);
        Ok(())
    }

    /// Prints everything about one.
    pub(crate) async fn inspect(&self, reference: &str, session: &Session) -> Result<(), Failure> {
        let client = session.client()?;
        let path = self.at(&[self.named(reference)?], session)?;
        session.print_one(self, &client.get(&path, &[]).await?);
        Ok(())
    }

    /// The name of an object.
    pub(crate) fn name_of(&self, object: &Value) -> String {
        text_at(object, self.name).unwrap_or_default()
    }

    /// `WORD/NAME`.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Show;

    #[test]
    fn every_table_begins_with_a_name_and_ends_with_an_age_or_free_text() {
        for noun in NOUNS {
            let first = noun.columns.first().expect("a column");
            assert!(matches!(first.show, Show::Text(pointer) if pointer == noun.name), "{}", noun.word);
            assert!(!first.wide, "{}", noun.word);
            let last = noun.columns.last().expect("a column");
            let ends = matches!(last.show, Show::Age(_) | Show::Free(_) | Show::FreeWith(_));
            assert!(ends && !last.wide, "{}", noun.word);
            let titles: Vec<&str> = noun.columns.iter().map(|column| column.title).collect();
            assert!(titles.iter().all(|title| *title == title.to_uppercase()), "{titles:?}");
        }
    }

    #[test]
    fn a_reference_may_carry_the_type() {
        assert_eq!(host::HOST.named("host/web-1").expect("a name"), "web-1");
        assert_eq!(host::HOST.named("web-1").expect("a name"), "web-1");
        assert_eq!(host::HOST.named("hostess").expect("a name"), "hostess");
        for wrong in ["", "..", "host/", "host/.."] {
            assert_eq!(host::HOST.named(wrong).expect_err("no name").exit() as u8, 2);
        }
    }
}
