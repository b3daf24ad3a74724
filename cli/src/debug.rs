//! `skep debug bundle`: what somebody needs who is to find out what is wrong, in one file.
//!
//! It holds what the API shows, as it is now, and nothing that only its owner should see: no tokens, no recipes, no options of
//! drivers, no audit. A part that cannot be had says why, and the rest is there all the same.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::context;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::session::Session;
use crate::value::{items, list_at, text_at};

/// Lists of the API, each with what is left out of its objects.
const PARTS: &[Part] = &[
    Part { name: "operations", path: &["v1", "operations"], without: &[] },
    Part { name: "environments", path: &["v1", "environments"], without: &[] },
    Part { name: "drivers", path: &["v1", "drivers"], without: &[] },
];

/// The same of each environment.
const PARTS_OF_ENVIRONMENTS: &[Part] = &[
    Part { name: "hosts", path: &["hosts"], without: &["/spec/options"] },
    Part { name: "stacks", path: &["stacks"], without: &["/spec"] },
    Part { name: "tasks", path: &["tasks"], without: &[] },
];

struct Part {
    name: &'static str,
    path: &'static [&'static str],
    /// Pointers to what is not taken along.
    without: &'static [&'static str],
}

/// What a bundle can end with.
const EXITS: &[Exit] = &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Interrupted];

/// Looking for what is wrong.
#[derive(Debug, Args)]
pub struct Debug {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write what is needed to find out what is wrong into one file, without secrets
    #[command(
        long_about = "Write what is needed to find out what is wrong into one file, without secrets\n\nIn it: the settings of this client \
                      and where they come from, the cluster, what each manager says of itself with its metrics, \
                      environments, hosts, stacks, tasks and operations. Not in it: tokens, recipes, options of drivers, the \
                      audit. Names and addresses are; read it before you pass it on.",
        before_long_help = "Examples:\n  skep debug bundle\n  skep debug bundle skep.json",
        after_long_help = exit::help(EXITS)
    )]
    Bundle {
        /// The file to write, which must not be there [default: skep-debug-TIME.json]
        file: Option<PathBuf>,
    },
}

pub(crate) async fn run(command: Debug, session: &Session) -> Result<(), Failure> {
    let Verb::Bundle { file } = command.verb;
    let now = Timestamp::now();
    let file =
        file.unwrap_or_else(|| PathBuf::from(format!("skep-debug-{}.json", now.strftime("%Y%m%dT%H%M%SZ"))));
    let writing = |source| Failure::File { doing: format!("write {}", file.display()), source };
    // Made first: what takes a while should not be lost at its end.
    let mut out =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).map_err(writing)?;
    let bundle = bundle(now, session).await;
    let text = format!("{bundle:#}\n");
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(writing)?;
    session.screen.result(&format!("{}\n", file.display()));
    let missing = missing(&bundle);
    if !missing.is_empty() {
        session.screen.note(&format!("Not in it, because it could not be had: {}.", missing.join(", ")));
    }
    Ok(())
}

async fn bundle(now: Timestamp, session: &Session) -> Value {
    let mut bundle = Map::new();
    bundle.insert("made_at".into(), json!(now.to_string()));
    bundle.insert(
        "client".into(),
        json!({"version": env!("CARGO_PKG_VERSION"), "settings": context::shown_settings(session)}),
    );
    bundle.insert("meta".into(), had(&["v1", "meta"], Client::get, session).await);
    bundle.insert("cluster".into(), had(&["v1", "cluster"], Client::get, session).await);
    for part in PARTS {
        bundle.insert(part.name.into(), part_of(part, &[], session).await);
    }
    let mut managers = Map::new();
    for member in list_at(&bundle["cluster"], "/members") {
        if let (Some(name), Some(url)) = (text_at(member, "/name"), text_at(member, "/api_url")) {
            managers.insert(name, of_manager(&url, session).await);
        }
    }
    bundle.insert("managers".into(), managers.into());
    let names: Vec<String> = items(&bundle["environments"])
        .iter()
        .filter_map(|environment| text_at(environment, "/metadata/name"))
        .collect();
    let mut environments = Map::new();
    for name in names {
        let mut parts = Map::new();
        for part in PARTS_OF_ENVIRONMENTS {
            parts.insert(part.name.into(), part_of(part, &["v1", "environments", &name], session).await);
        }
        environments.insert(name, parts.into());
    }
    bundle.insert("in_environments".into(), environments.into());
    bundle.into()
}

/// A list as the API shows it, without what is left out.
async fn part_of(part: &Part, before: &[&str], session: &Session) -> Value {
    let mut list = had(&[before, part.path].concat(), Client::list, session).await;
    for pointer in part.without {
        leave_out(&mut list, pointer);
    }
    list
}

/// What the API shows, or why it does not.
async fn had(
    path: &[&str],
    ask: impl AsyncFnOnce(&Client, &[&str], &[(&str, &str)]) -> Result<Value, Failure>,
    session: &Session,
) -> Value {
    let answer = match session.client() {
        Ok(client) => match ask(client, path, &[]).await {
            // Without a leader, what one manager knows is all there is.
            Err(failure) if failure.may_pass() => client.get_stale(path).await,
            answer => answer,
        },
        Err(failure) => Err(failure),
    };
    answer.unwrap_or_else(|failure| json!({"error": failure.to_string()}))
}

/// Takes a member out of each item.
fn leave_out(answer: &mut Value, pointer: &str) {
    let (parent, member) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    for item in answer.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(Value::Object(members)) = item.pointer_mut(parent) {
            members.remove(member);
        }
    }
}

async fn of_manager(url: &str, session: &Session) -> Value {
    let ask = async |path: &[&str], query: &[(&str, &str)]| {
        let client = Client::of_one(url, &session.settings, session.screen.clone())?;
        client.raw(Method::GET, path, query, &HeaderMap::new(), None).await?.text().await
    };
    let told = |answer: Result<String, Failure>| match answer {
        Ok(text) => json!(text.lines().collect::<Vec<_>>()),
        Err(failure) => json!({"error": failure.to_string()}),
    };
    json!({
        "ready": told(ask(&["readyz"], &[("verbose", "")]).await),
        "metrics": told(ask(&["metrics"], &[]).await),
    })
}

/// The parts that say why they are not there.
fn missing(bundle: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        let Some(members) = value.as_object() else { return };
        match members.get("error") {
            Some(Value::String(_)) if members.len() == 1 => found.push(path.to_owned()),
            _ => members.iter().for_each(|(name, value)| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                walk(value, &path, found);
            }),
        }
    }
    let mut found = Vec::new();
    walk(bundle, "", &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_left_out_and_missing_ones_are_named() {
        let mut hosts =
            json!({"items": [{"spec": {"options": {"password": "x"}, "role": "auto"}}, {"kind": "Host"}]});
        leave_out(&mut hosts, "/spec/options");
        assert_eq!(hosts, json!({"items": [{"spec": {"role": "auto"}}, {"kind": "Host"}]}));
        let bundle = json!({"meta": {"error": "no leader"}, "in_environments": {"prod": {"hosts": hosts,
                            "tasks": {"error": "not allowed"}}}, "operations": {"items": [{"error": "x"}]}});
        assert_eq!(missing(&bundle), ["in_environments/prod/tasks", "meta"]);
    }
}
