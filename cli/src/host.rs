//! `skep host`: the machines of an environment.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::noun::{CHOSEN, Noun, Verbs};
use crate::options;
use crate::session::Session;
use crate::table::{Column, Show};
use crate::targets;
use crate::value::text_at;

pub(crate) const HOST: Noun = Noun {
    word: "host",
    path: &["environments", CHOSEN, "hosts"],
    name: "/metadata/name",
    columns: &[
        Column::new("NAME", Show::Text("/metadata/name")),
        Column::wide("ID", Show::Text("/metadata/id")),
        Column::new("STATE", Show::State("/status/state")),
        Column::new("SINCE", Show::Age("/status/since")),
        Column::new("SWARM", Show::With(swarm)),
        Column::new("ADDRESS", Show::Text("/status/address")),
        Column::new("CPU", Show::Text("/status/inventory/cpus")),
        Column::new("MEM", Show::Bytes("/status/inventory/memory_bytes")),
        Column::new("DOCKER", Show::Text("/status/inventory/engine_version")),
        Column::new("DRIVER", Show::Text("/spec/driver")),
        Column::wide("MACHINE", Show::Text("/status/machine")),
        Column::wide("ARCH", Show::Text("/status/inventory/architecture")),
        Column::wide("KERNEL", Show::Text("/status/inventory/kernel")),
        Column::wide("MTU", Show::Text("/status/inventory/mtu")),
        Column::wide("AGENT", Show::With(agent)),
        Column::wide("OPERATION", Show::Text("/status/operation")),
        Column::new("AGE", Show::Age("/metadata/created_at")),
        Column::new("MESSAGE", Show::Free("/status/message")),
    ],
    when_none: "No hosts in this environment yet. Create one: skep host create NAME --driver DRIVER (see: skep driver ls)",
};

/// What can be done with hosts.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the hosts of the environment (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep host ls\n  skep host ls -e prod -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Ls,
    /// Create hosts and wait until they are part of the swarm
    #[command(
        before_long_help = "Examples:\n  skep host create web-1 web-2 --driver local\n  skep host create web-3 --driver local --detach",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Create(Create),
    /// Show everything about a host
    #[command(
        before_long_help = "Examples:\n  skep host inspect web-1\n  skep host inspect web-1 -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Inspect {
        /// The host's name or id
        name: String,
    },
    /// Take hosts out of the swarm and give their machines back
    #[command(
        before_long_help = "Examples:\n  skep host rm web-1\n  skep host rm web-1 web-2 --yes",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Rm {
        /// The hosts' names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// What is to be created.
#[derive(Debug, Args)]
pub struct Create {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Where they come from (see: skep driver ls)
    #[arg(long, value_name = "DRIVER")]
    driver: String,
    /// An option of the driver; repeatable
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = options::pair)]
    options: Vec<(String, String)>,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => HOST.list(&[], session).await,
        Verb::Create(wish) => create(wish, session).await,
        Verb::Inspect { name } => HOST.inspect(&name, session).await,
        Verb::Rm { names } => targets::remove(&HOST, &names, about, session).await,
    }
}

async fn create(wish: Create, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let path = HOST.at(&[], session)?;
    let options = options::object(&wish.options);
    let started = targets::start(&wish.names, async |name| {
        let body = json!({"name": name, "driver": wish.driver, "options": options});
        client.write(Method::POST, &path, &[], Payload::Json(&body)).await
    })
    .await?;
    session.finish(&HOST, "created", started).await
}

/// What a person should know before the host goes.
fn about(name: &str, host: &Value) -> String {
    let state = text_at(host, "/status/state").unwrap_or_else(|| "unknown".into());
    let role = swarm(host).unwrap_or_else(|| "not in the swarm".into());
    format!("{name}: {state}, {role}, driver {}", text_at(host, "/spec/driver").unwrap_or_default())
}

/// `manager*leader`, `manager`, `worker`, `worker (down)`.
fn swarm(host: &Value) -> Option<String> {
    let role = text_at(host, "/status/swarm/role")?;
    let leads = host.pointer("/status/swarm/leader").and_then(Value::as_bool).unwrap_or(false);
    let ready = host.pointer("/status/swarm/ready").and_then(Value::as_bool).unwrap_or(true);
    let role = if leads { format!("{role}*leader") } else { role };
    Some(if ready { role } else { format!("{role} (down)") })
}

/// The manager that the agent is connected to.
fn agent(host: &Value) -> Option<String> {
    match host.pointer("/status/agent/connected")?.as_bool()? {
        true => Some(text_at(host, "/status/agent/manager").unwrap_or_else(|| "connected".into())),
        false => Some("away".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Look, render};

    #[test]
    fn the_table_of_hosts() {
        let hosts = [
            json!({"metadata": {"name": "edge-01", "id": "host_1", "created_at": "2026-11-14T10:00:00Z"},
                   "spec": {"driver": "local"},
                   "status": {"state": "active", "since": "2026-11-20T07:00:00Z", "message": null, "address": "10.90.0.2",
                              "swarm": {"node": "n1", "role": "manager", "leader": true},
                              "agent": {"connected": true, "manager": "m2"},
                              "inventory": {"cpus": 2, "memory_bytes": 4_294_967_296_u64, "engine_version": "29.1.2"}}}),
            json!({"metadata": {"name": "edge-02", "id": "host_2", "created_at": "2026-11-20T09:59:20Z"},
                   "spec": {"driver": "local"},
                   "status": {"state": "joining", "message": "waiting for swarm join", "address": null, "swarm": null,
                              "agent": {"connected": false, "manager": null}, "inventory": null}}),
            json!({"metadata": {"name": "edge-03", "id": "host_3", "created_at": "2026-11-14T10:00:00Z"},
                   "spec": {"driver": "local"},
                   "status": {"state": "swarm-down", "since": "2026-11-20T09:59:30Z", "message": "its node is down",
                              "swarm": {"node": "n3", "role": "worker", "leader": false, "ready": false}}}),
        ];
        let now = "2026-11-20T10:00:00Z".parse().expect("a time");
        let look = Look { now, relative: true, width: None, color: false, wide: false };
        assert_eq!(
            render(HOST.columns, &hosts, &look),
            "NAME      STATE        SINCE   SWARM            ADDRESS     CPU   MEM       DOCKER   DRIVER   AGE   MESSAGE\n\
             edge-01   active       3h      manager*leader   10.90.0.2   2     4.0 GiB   29.1.2   local    6d\n\
             edge-02   joining      -       -                -           -     -         -        local    40s   waiting for swarm join\n\
             edge-03   swarm-down   30s     worker (down)    -           -     -         -        local    6d    its node is down\n"
        );
        assert_eq!(agent(&hosts[0]).as_deref(), Some("m2"));
        assert_eq!(agent(&hosts[1]).as_deref(), Some("away"));
        assert_eq!(about("edge-02", &hosts[1]), "edge-02: joining, not in the swarm, driver local");
    }
}
