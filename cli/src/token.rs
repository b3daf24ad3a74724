//! `skep token`: API keys, your own and those of environments.

use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::{Noun, Verbs};
use crate::options::duration;
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::text_at;

const COLUMNS: &[Column] = &[
    Column::new("ID", Show::Text("/id")),
    Column::new("NAME", Show::Text("/name")),
    Column::new("KIND", Show::Text("/kind")),
    Column::new("SPEAKS FOR", Show::Text("/principal")),
    Column::new("ROLE", Show::Text("/role")),
    Column::new("LAST USED", Show::Age("/last_used_at")),
    Column::new("EXPIRES", Show::Text("/expires_at")),
    Column::new("AGE", Show::Age("/created_at")),
];

pub(crate) const TOKEN: Noun = Noun {
    word: "token",
    path: &["tokens"],
    name: "/id",
    columns: COLUMNS,
    when_none: "No API keys. Make one: skep token create",
};

/// Those of one environment.
const OF_ENVIRONMENT: Noun = Noun { path: &["environments", crate::noun::CHOSEN, "tokens"], ..TOKEN };

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List your keys and sessions, or with --of-env those of the environment (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep token ls\n  skep token ls --of-env -e prod",
        after_long_help = exit::help(exit::READS)
    )]
    Ls {
        #[command(flatten)]
        of: Of,
    },
    /// Make an API key; it is shown this once
    #[command(
        long_about = "Make an API key; it is shown this once\n\nYour own key may what you may. With --role it is a key of the \
                      environment: it may there what the role says, and stays when you go.",
        before_long_help = "Examples:\n  skep token create --name laptop\n  skep token create --expires 90d > key.txt\n  skep token create --role restricted -e prod --name ci",
        after_long_help = exit::help(exit::WRITES)
    )]
    Create(Create),
    /// Give a key another secret; the one before is worthless from then on
    #[command(
        before_long_help = "Examples:\n  skep token rotate 3f9c2a7be01d4c55 > key.txt\n  skep token rotate 3f9c2a7be01d4c55 --of-env -e prod",
        after_long_help = exit::help(exit::WRITES)
    )]
    Rotate {
        /// The key's id: what stands between skp_ and the next _
        id: String,
        #[command(flatten)]
        of: Of,
    },
    /// Make keys or sessions worthless
    #[command(
        visible_alias = "rm",
        before_long_help = "Examples:\n  skep token revoke 3f9c2a7be01d4c55\n  skep token revoke 3f9c2a7be01d4c55 --of-env -e prod",
        after_long_help = exit::help(exit::WRITES)
    )]
    Revoke {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        of: Of,
    },
}

/// Whose keys.
#[derive(Debug, Args)]
pub struct Of {
    /// Keys of the environment, not your own
    #[arg(long)]
    of_env: bool,
}

/// A new key.
#[derive(Debug, Args)]
pub struct Create {
    /// What you call it
    #[arg(long, value_name = "TEXT", default_value = "")]
    name: String,
    /// Make it a key of the environment, with this role
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// How long it is valid (12h, 90d); without it until it is revoked
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls { of: Of { of_env: false } }) {
        Verb::Ls { of } => of.noun().list(&[], session).await,
        Verb::Create(wish) => create(wish, session).await,
        Verb::Rotate { id, of } => {
            let path = of.noun().at(&[TOKEN.named(&id)?, "actions", "rotate"], session)?;
            let key = session.client()?.write(Method::POST, &path, &[], Payload::Nothing).await?;
            print(of.noun(), &key, session);
            Ok(())
        }
        Verb::Revoke { ids, of } => {
            for id in &ids {
                let path = of.noun().at(&[TOKEN.named(id)?], session)?;
                let gone = session.client()?.write(Method::DELETE, &path, &[], Payload::Nothing).await?;
                session.print_done(&TOKEN, &gone, "revoked");
            }
            Ok(())
        }
    }
}

impl Of {
    fn noun(&self) -> &'static Noun {
        if self.of_env { &OF_ENVIRONMENT } else { &TOKEN }
    }
}

async fn create(wish: Create, session: &Session) -> Result<(), Failure> {
    let ttl_seconds = wish.expires.map(|life| life.as_secs());
    let (noun, body) = match wish.role {
        Some(role) => (&OF_ENVIRONMENT, json!({"name": wish.name, "role": role, "ttl_seconds": ttl_seconds})),
        None => (&TOKEN, json!({"name": wish.name, "ttl_seconds": ttl_seconds})),
    };
    let key =
        session.client()?.write(Method::POST, &noun.at(&[], session)?, &[], Payload::Json(&body)).await?;
    print(noun, &key, session);
    Ok(())
}

/// The key alone goes to standard output, so that it can go straight into a file.
fn print(noun: &Noun, key: &Value, session: &Session) {
    match session.output(Output::Table) {
        Output::Json => session.print_json(key),
        _ if session.settings.dry_run => session.print_done(noun, key, "made"),
        _ => {
            session.screen.note("This key is shown only now; whoever has it may what it may.");
            session.screen.result(&format!("{}\n", text_at(key, "/token").unwrap_or_default()));
        }
    }
}
