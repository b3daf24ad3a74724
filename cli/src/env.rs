//! `skep env`: environments, each an isolated swarm with its hosts and stacks.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::noun::{Noun, Verbs};
use crate::options;
use crate::plan::{self, Apply, Plan};
use crate::session::{Session, Started};
use crate::table::{Column, Show};
use crate::upgrade::{self, EngineWish};
use crate::value::{items, text_at};
use crate::wishes::Wishes;
use crate::{member, swarm_keys, swarm_state, template};

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
        Column::wide("SPREAD", Show::Text("/spec/spread_over")),
        Column::wide("MTU", Show::Text("/status/networks/mtu")),
        Column::wide("AUTOLOCK", Show::Text("/spec/autolock")),
        Column::wide("SWARM", Show::Text("/status/swarm/id")),
        Column::wide("OPERATION", Show::Text("/status/operation")),
        Column::new("AGE", Show::Age("/metadata/created_at")),
        Column::new("MESSAGE", Show::Free("/status/message")),
    ],
    when_none: "No environments yet. Create one: skep env create NAME (from another template: -t, see skep template ls)",
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
        before_long_help = "Examples:\n  skep env create prod -t default --hosts 3 --driver local\n  skep env create test -t default\n  skep env create edge -t default --mtu 1400 --address-pool 10.20.0.0/16",
        after_long_help = exit::help(exit::WAITS)
    )]
    Create(Create),
    /// Change what is wished for an environment: its swarm managers, its networks, its upkeep, its keys
    #[command(
        long_about = "Change what is wished for an environment: its swarm managers, its networks, its upkeep, its keys\n\nWhat is not \
                      named stays as it is. Waits until what can be done at once is done: networks that are in use stay as they \
                      are, and a network that is made later has what is wished now.\n\nWith autolock on, the keys with which \
                      managers of the swarm read their own state are encrypted on disk. A manager whose engine starts waits \
                      for the unlock key, and Skep gives it: a disk that was stolen is of no use alone. Skep keeps the key sealed; show it with \
                      skep env unlock-key and keep it in a safe place as well.",
        before_long_help = "Examples:\n  skep env update prod --managers 5 --spread zone\n  skep env update prod --mtu auto\n  skep env update prod --encrypted on\n  skep env update prod --nfs server=10.0.0.2,path=/exports\n  skep env update prod --manager-patience 10m --dry-run\n  skep env update prod --autolock on\n  skep env update prod --certificate-days 30",
        after_long_help = exit::help(exit::WAITS)
    )]
    Update(Update),
    /// Show everything about an environment
    #[command(
        before_long_help = "Examples:\n  skep env inspect prod\n  skep env inspect prod -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Inspect {
        /// The environment's name or id
        name: String,
    },
    /// Show what the template as it is now, and wishes, would change about an environment
    #[command(
        long_about = "Show what the template as it is now, and wishes, would change about an environment\n\nEach line says how \
                      it would be brought about: live (applying does it), next-join (when a host joins again), rebuild \
                      (somebody has to make something anew), kept (it was said for the environment itself). Nothing is \
                      changed.",
        before_long_help = "Examples:\n  skep env plan prod\n  skep env plan prod --exit-code     in scripts: 10 if something would change",
        after_long_help = exit::help(plan::EXITS)
    )]
    Plan(Plan),
    /// Take over what the template says now, and bring about what is not so yet
    #[command(
        before_long_help = "Examples:\n  skep env apply prod\n  skep env apply prod --if-revision 81240\n  skep env apply prod --follow network.mtu",
        after_long_help = exit::help(exit::WAITS)
    )]
    Apply(Apply),
    /// Show and say who has which role in the environment
    #[command(
        visible_alias = "member",
        before_long_help = "Examples:\n  skep env members -e prod\n  skep env members add user/ann --role owner -e prod",
        after_long_help = exit::help(exit::READS)
    )]
    Members {
        #[command(subcommand)]
        verb: Option<member::Verb>,
    },
    /// Templates: what environments start from; as skep template
    #[command(hide = true, alias = "templates", after_long_help = exit::help(exit::READS))]
    Template(Verbs<template::Verb>),
    /// Replace the tokens with which nodes join the swarm
    #[command(
        before_long_help = "Examples:\n  skep env rotate-tokens prod",
        after_long_help = exit::help(exit::WAITS)
    )]
    RotateTokens {
        /// The environment's name or id
        name: String,
    },
    /// Replace the swarm's certificate authority and wait until all nodes have new certificates
    #[command(
        long_about = "Replace the swarm's certificate authority and wait until all nodes have new certificates\n\nNodes go on \
                      working meanwhile. One that is down keeps the rotation open: bring it back or remove it. Join tokens \
                      are new afterwards, too.",
        before_long_help = "Examples:\n  skep env rotate-ca prod\n  skep env rotate-ca prod --detach",
        after_long_help = exit::help(exit::WAITS)
    )]
    RotateCa {
        /// The environment's name or id
        name: String,
    },
    /// Replace the key that managers of the swarm need when their engines start
    #[command(
        before_long_help = "Examples:\n  skep env rotate-unlock-key prod",
        after_long_help = exit::help(exit::WAITS)
    )]
    RotateUnlockKey {
        /// The environment's name or id
        name: String,
    },
    /// Print the unlock key of the swarm; who asks is logged
    #[command(
        before_long_help = "Examples:\n  skep env unlock-key prod",
        after_long_help = exit::help(exit::READS)
    )]
    UnlockKey {
        /// The environment's name or id
        name: String,
    },
    /// Give managers of the swarm that wait for it the unlock key
    #[command(
        long_about = "Give managers of the swarm that wait for it the unlock key\n\nSkep does that by itself. This does it now, \
                      or with a key that Skep does not know because it was changed by other means.",
        before_long_help = "Examples:\n  skep env unlock prod\n  skep env unlock prod --key-file key.txt",
        after_long_help = exit::help(exit::WAITS)
    )]
    Unlock(swarm_keys::Unlock),
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
    /// Save what the managers of a swarm know: services, networks, secrets, configs, keys
    #[command(
        long_about = "Save what the managers of a swarm know: services, networks, secrets, configs, keys\n\nFor the day on which \
                      all of them are lost and none is left to rescue the swarm. Encrypted to the recovery keys of the \
                      cluster. Volumes and images are not in it. The engine that it is read from stands still for a moment; \
                      its containers do not.",
        before_long_help = "Examples:\n  skep env backup prod prod.swarm\n  skep env backup prod prod.swarm --from prod-2",
        after_long_help = exit::help(exit::READS)
    )]
    Backup(swarm_state::Backup),
    /// Begin a swarm anew from a backup, on a host that is ready
    #[command(
        long_about = "Begin a swarm anew from a backup, on a host that is ready\n\nFor when all managers of the swarm are lost; if \
                      one is left, 'skep env rescue' keeps more. Services, networks, secrets and configs are as they were \
                      when the backup was made. Hosts that were part of the swarm join it anew, and tasks on them begin \
                      anew. The backup is decrypted here; the recovery key is sent nowhere.",
        before_long_help = "Examples:\n  skep env restore prod prod.swarm --to prod-4 --recovery-key-file recovery-key\n  skep env restore prod prod.swarm --to prod-4 --recovery-key-file recovery-key --confirm prod     in scripts",
        after_long_help = exit::help(exit::WAITS)
    )]
    Restore(swarm_state::Restore),
    /// Let an environment rest: its hosts take no tasks until it is resumed
    #[command(
        visible_alias = "deactivate",
        long_about = "Let an environment rest: its hosts take no tasks until it is resumed\n\nEvery node is drained, and the \
                      command ends when the last task has stopped. Services stay as they are, hosts and their swarm go on, and \
                      nothing is deployed or changed meanwhile (SKP-1351). Cancelled, it lets the hosts take tasks as before.",
        before_long_help = "Examples:\n  skep env pause test\n  skep env pause test --yes     in scripts",
        after_long_help = exit::help(exit::WAITS)
    )]
    Pause {
        /// The environment's name or id
        name: String,
    },
    /// Let an environment that rests be at work again, with everything as it was
    #[command(
        visible_alias = "activate",
        before_long_help = "Examples:\n  skep env resume test\n  skep env resume test --detach",
        after_long_help = exit::help(exit::WAITS)
    )]
    Resume {
        /// The environment's name or id
        name: String,
    },
    /// Give all hosts of an environment another engine, one after the other
    #[command(
        long_about = "Give all hosts of an environment another engine, one after the other\n\nWorkers first, the swarm's leader \
                      last. Each host's tasks move away, its engine is changed, and it is seen to serve before the next one \
                      begins; never while the swarm's managers could not agree without it. What fails pauses the operation, \
                      with the reason, and the exit code is 7: mend it, then skep operation resume ID.",
        before_long_help = "Examples:\n  skep env upgrade prod --to 29.1.2 --dry-run\n  skep env upgrade prod --to 29.1.2\n  skep env upgrade prod     all hosts get the newest that one of them has",
        after_long_help = exit::help(exit::WAITS)
    )]
    Upgrade {
        /// The environment's name or id
        name: String,
        #[command(flatten)]
        wish: EngineWish,
    },
    /// Destroy an environment with its hosts and stacks
    #[command(
        long_about = "Destroy an environment with its hosts and stacks\n\nIt ends in any case. A machine that its driver does \
                      not take back is named, the exit code is 7, and Skep goes on trying: skep operation ls.",
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
    #[arg(short, long, value_name = "TEMPLATE", default_value = "default")]
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
    #[command(flatten)]
    wishes: Wishes,
}

/// What is to be changed.
#[derive(Debug, Args)]
pub struct Update {
    /// The environment's name or id
    name: String,
    #[command(flatten)]
    wishes: Wishes,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => ENV.list(&[], session).await,
        Verb::Create(wish) => create(wish, session).await,
        Verb::Update(wish) => update(wish, session).await,
        Verb::Inspect { name } => ENV.inspect(&name, session).await,
        Verb::Plan(wish) => plan::plan(wish, session).await,
        Verb::Apply(wish) => plan::apply(wish, session).await,
        Verb::RotateTokens { name } => swarm_keys::rotate(&name, "rotate-tokens", session).await,
        Verb::RotateCa { name } => swarm_keys::rotate(&name, "rotate-ca", session).await,
        Verb::RotateUnlockKey { name } => swarm_keys::rotate(&name, "rotate-unlock-key", session).await,
        Verb::Template(command) => template::run(command, session).await,
        Verb::Members { verb } => member::run(verb, session).await,
        Verb::UnlockKey { name } => swarm_keys::show_unlock_key(&name, session).await,
        Verb::Unlock(wish) => swarm_keys::unlock(wish, session).await,
        Verb::Rescue { name, from } => rescue(ENV.named(&name)?, &from, session).await,
        Verb::Backup(wish) => swarm_state::back_up(&wish, session).await,
        Verb::Restore(wish) => swarm_state::restore(&wish, session).await,
        Verb::Pause { name } => pause(ENV.named(&name)?, session).await,
        Verb::Resume { name } => resume(ENV.named(&name)?, session).await,
        Verb::Upgrade { name, wish } => upgrade::run(&ENV, &[name], &wish, session).await,
        Verb::Rm { name } => remove(ENV.named(&name)?, session).await,
    }
}

async fn create(wish: Create, session: &Session) -> Result<(), Failure> {
    let hosts = wish.hosts.map(
        |count| json!({"count": count, "driver": wish.driver, "options": options::object(&wish.options)}),
    );
    let mut body = json!({"name": wish.name, "template": wish.template, "hosts": hosts});
    let spec = wish.wishes.spec();
    // A manager of an earlier version knows no such field.
    if !spec.is_empty() {
        body["spec"] = spec.into();
    }
    let path = ENV.at(&[], session)?;
    let operation = session.client()?.write(Method::POST, &path, &[], Payload::Json(&body)).await;
    session.finish(&ENV, "created", vec![Started { name: wish.name, operation }]).await
}

async fn update(wish: Update, session: &Session) -> Result<(), Failure> {
    let spec = wish.wishes.spec();
    if spec.is_empty() {
        let hint = "see what can be changed: skep env update --help";
        return Err(Failure::usage("nothing is to be changed", hint));
    }
    let (client, path) = (session.client()?, ENV.at(&[ENV.named(&wish.name)?], session)?);
    let body = json!({"spec": spec});
    if session.settings.dry_run {
        let would_be = client.write(Method::PATCH, &path, &[], Payload::Json(&body)).await?;
        session.print_one(&ENV, &would_be);
        return Ok(());
    }
    let operation = client.write(Method::PATCH, &path, &[], Payload::Json(&body)).await;
    session.finish(&ENV, "updated", vec![Started { name: wish.name, operation }]).await
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

async fn pause(name: &str, session: &Session) -> Result<(), Failure> {
    session.confirm(&format!("All services of environment {name} stop until it is resumed")).await?;
    act(name, "pause", "paused", session).await
}

async fn resume(name: &str, session: &Session) -> Result<(), Failure> {
    act(name, "resume", "resumed", session).await
}

async fn act(name: &str, action: &str, done: &str, session: &Session) -> Result<(), Failure> {
    let path = ENV.at(&[name, "actions", action], session)?;
    let operation = session.client()?.write(Method::POST, &path, &[], Payload::Nothing).await;
    session.finish(&ENV, done, vec![Started { name: name.to_owned(), operation }]).await
}

async fn remove(name: &str, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let path = ENV.at(&[name], session)?;
    let environment = client.get(&path, &[]).await?;
    let stacks = client.list(&ENV.at(&[name, "stacks"], session)?, &[]).await?;
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
