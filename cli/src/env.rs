//! `skep env`: environments, each an isolated swarm with its hosts and stacks.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::noun::{Noun, Verbs};
use crate::options;
use crate::session::{Session, Started};
use crate::table::{Column, Show};
use crate::value::{items, text_at};

pub(crate) const ENV: Noun = Noun {
    word: "env",
    path: &["environments"],
    name: "/metadata/name",
    columns: &[
        Column::new("NAME", Show::Text("/metadata/name")),
        Column::wide("ID", Show::Text("/metadata/id")),
        Column::new("STATE", Show::State("/status/state")),
        Column::new("TEMPLATE", Show::Text("/spec/template")),
        Column::new("HOSTS", Show::With(hosts)),
        Column::new("MANAGERS", Show::With(managers)),
        Column::wide("MTU", Show::Text("/spec/mtu")),
        Column::wide("SWARM", Show::Text("/status/swarm/id")),
        Column::wide("OPERATION", Show::Text("/status/operation")),
        Column::new("AGE", Show::Age("/metadata/created_at")),
        Column::new("MESSAGE", Show::Free("/status/message")),
    ],
    when_none: "No environments yet. Create one: skep env create NAME -t TEMPLATE (see: skep template ls)",
};

/// What can be done with environments.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the environments (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep env ls\n  skep env ls -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Create an environment from a template, optionally with hosts
    #[command(
        before_long_help = "Examples:\n  skep env create prod -t default --hosts 3 --driver local\n  skep env create test -t default",
        after_long_help = exit::help(exit::WAITS)
    )]
    Create(Create),
    /// Show everything about an environment
    #[command(
        before_long_help = "Examples:\n  skep env inspect prod\n  skep env inspect prod -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Inspect {
        /// The environment's name or id
        name: String,
    },
    /// Begin a swarm that has lost its quorum anew on one of its managers
    #[command(
        long_about = "Begin a swarm that has lost its quorum anew on one of its managers\n\nFor when most of the swarm's \
                      managers are lost and do not come back. Services, networks, secrets and labels stay as that manager \
                      knows them; what only the lost ones knew is gone. The other hosts are taken in again, those that \
                      come back later as well.",
        before_long_help = "Examples:\n  skep env rescue prod --from prod-2\n  skep env rescue prod --from prod-2 --confirm prod     in scripts",
        after_long_help = exit::help(exit::WAITS)
    )]
    Rescue {
        /// The environment's name or id
        name: String,
        /// A manager of the swarm that can be reached (see: skep host ls)
        #[arg(long, value_name = "HOST")]
        from: String,
    },
    /// Destroy an environment with its hosts and stacks
    #[command(
        before_long_help = "Examples:\n  skep env rm test\n  skep env rm test --confirm test     in scripts",
        after_long_help = exit::help(exit::WAITS)
    )]
    Rm {
        /// The environment's name or id
        name: String,
    },
}

/// What is to be created.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    name: String,
    /// The template to start from
    #[arg(short, long, value_name = "TEMPLATE")]
    template: String,
    /// How many hosts to create at once
    #[arg(long, value_name = "N", requires = "driver")]
    hosts: Option<u32>,
    /// Where these hosts come from (see: skep driver ls)
    #[arg(long, value_name = "DRIVER", requires = "hosts")]
    driver: Option<String>,
    /// An option of the driver; repeatable
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = options::pair, requires = "hosts")]
    options: Vec<(String, String)>,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => ENV.list(&[], session).await,
        Verb::Create(wish) => create(wish, session).await,
        Verb::Inspect { name } => ENV.inspect(&name, session).await,
        Verb::Rescue { name, from } => rescue(ENV.named(&name)?, &from, session).await,
        Verb::Rm { name } => remove(ENV.named(&name)?, session).await,
    }
}

async fn create(wish: Create, session: &Session) -> Result<(), Failure> {
    let hosts = wish.hosts.map(
        |count| json!({"count": count, "driver": wish.driver, "options": options::object(&wish.options)}),
    );
    let body = json!({"name": wish.name, "template": wish.template, "hosts": hosts});
    let path = ENV.at(&[], session)?;
    let operation = session.client()?.write(Method::POST, &path, &[], Payload::Json(&body)).await;
    session.finish(&ENV, "created", vec![Started { name: wish.name, operation }]).await
}

async fn rescue(name: &str, from: &str, session: &Session) -> Result<(), Failure> {
    let what = format!(
        "The swarm of environment {name} is begun anew on {from} with what that host knows; what only lost managers knew is \
         gone, and they are taken out"
    );
    session.confirm_by_name(&what, name).await?;
    let path = ENV.at(&[name, "actions", "rescue"], session)?;
    let operation =
        session.client()?.write(Method::POST, &path, &[], Payload::Json(&json!({"from": from}))).await;
    session.finish(&ENV, "rescued", vec![Started { name: name.to_owned(), operation }]).await
}

async fn remove(name: &str, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let path = ENV.at(&[name], session)?;
    let environment = client.get(&path, &[]).await?;
    let stacks = client.get(&ENV.at(&[name, "stacks"], session)?, &[]).await?;
    let hosts = environment.pointer("/status/hosts/total").and_then(Value::as_u64).unwrap_or(0);
    let what = format!(
        "Environment {name} is destroyed with {hosts} hosts and {} stacks, and everything on them",
        items(&stacks).len()
    );
    session.confirm_by_name(&what, name).await?;
    let operation = client.write(Method::DELETE, &path, &[], Payload::Nothing).await;
    session.finish(&ENV, "removed", vec![Started { name: name.to_owned(), operation }]).await
}

/// Active of all hosts.
fn hosts(environment: &Value) -> Option<String> {
    let active = text_at(environment, "/status/hosts/active")?;
    Some(format!("{active}/{}", text_at(environment, "/status/hosts/total")?))
}

/// Swarm managers there are, of those wanted; or that they cannot agree on anything.
fn managers(environment: &Value) -> Option<String> {
    let there = text_at(environment, "/status/swarm/managers").unwrap_or_else(|| "0".into());
    let wanted = text_at(environment, "/spec/swarm_managers")?;
    match environment.pointer("/status/swarm/quorum").and_then(Value::as_bool) {
        // The number is what was seen last, and says nothing any more.
        Some(false) => Some(format!("no quorum/{wanted}")),
        _ => Some(format!("{there}/{wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swarm_without_quorum_is_not_counted() {
        let shown =
            |swarm: Value| managers(&json!({"spec": {"swarm_managers": 3}, "status": {"swarm": swarm}}));
        assert_eq!(shown(json!(null)).as_deref(), Some("0/3"));
        assert_eq!(shown(json!({"managers": 3, "quorum": true})).as_deref(), Some("3/3"));
        assert_eq!(shown(json!({"managers": 3, "quorum": false})).as_deref(), Some("no quorum/3"));
    }
}
