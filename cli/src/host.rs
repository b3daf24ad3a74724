//! `skep host`: the machines of an environment.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::exit;
use crate::failure::Failure;
use crate::noun::{CHOSEN, Noun, Verbs};
use crate::options;
use crate::registration::{self, Register};
use crate::session::Session;
use crate::statistics::{self, Stats};
use crate::table::{Column, Show};
use crate::targets;
use crate::terminal::{self, Exec, Logs, Ssh};
use crate::upgrade::{self, EngineWish};
use crate::value::{items, pairs, text_at};

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
        Column::wide("LABELS", Show::With(|host| pairs(host, "/spec/labels"))),
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
    when_none: "No hosts in this environment yet. Create one: skep host create NAME --driver DRIVER (see: skep driver ls); or \
                bring your own machine: skep host register",
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
        override_usage = "skep host create [OPTIONS] --driver <DRIVER> <NAME>...\n       skep host create [OPTIONS] --driver <DRIVER> --count <N> --name-prefix <PREFIX>",
        before_long_help = "Examples:\n  skep host create web-1 web-2 --driver local\n  skep host create web-3 --driver local --label rack=b --detach\n  skep host create --count 3 --name-prefix web- --driver local",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Create(Create),
    /// Print the line that makes any machine a host
    #[command(
        long_about = "Print the line that makes any machine a host\n\nFor machines that no driver has made: it installs the \
                      agent, and Docker if there is none, and the machine joins the swarm of the environment. It needs \
                      nothing but a way out to the managers' ports; nothing has to reach it from outside but the other \
                      hosts of the environment.",
        before_long_help = "Examples:\n  skep host register -e prod\n  skep host register --uses 5 --ttl 1d --label zone=eu-1 --role worker\n  skep host register --address eth1\n  skep host register --uses 100 --ttl 30d --as cloud-init\n  skep host register --as docker-run\n  skep host register -e old --adopt --uses 3",
        after_long_help = exit::help(exit::WRITES)
    )]
    Register(Register),
    /// Print the line that brings a machine in together with its swarm
    #[command(
        long_about = "Print the line that brings a machine in together with its swarm\n\nFor nodes of a Docker Swarm that is there \
                      already: the same as register --adopt. Run it on one of the swarm's managers first; the environment must \
                      have no swarm yet. Services, nodes, roles, labels and the swarm itself stay as they are. The other nodes \
                      follow with the same line; use one token for all of them with --uses.",
        before_long_help = "Examples:\n  skep env create old -t default\n  skep host adopt -e old --uses 5",
        after_long_help = exit::help(exit::WRITES)
    )]
    Adopt(Register),
    /// List the registration tokens of the environment
    #[command(
        visible_alias = "tokens",
        before_long_help = "Examples:\n  skep host registration-tokens",
        after_long_help = exit::help(exit::READS)
    )]
    RegistrationTokens,
    /// Make a registration token worthless; hosts that registered with it stay
    #[command(
        before_long_help = "Examples:\n  skep host revoke-token 019aa0c1b5f37d30a1e0c2d3e4f50617",
        after_long_help = exit::help(exit::WRITES)
    )]
    RevokeToken {
        /// The token's id
        id: String,
    },
    /// Show everything about a host
    #[command(
        before_long_help = "Examples:\n  skep host inspect web-1\n  skep host inspect web-1 -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Inspect {
        /// The host's name or id
        name: String,
    },
    /// Check the network between hosts and their swarm
    #[command(
        long_about = "Check the network between hosts and their swarm\n\nIt is checked before a host joins, and a host that the \
                      swarm could not reach is held back with the reason. This looks again at once, and tells what is wrong; \
                      skep host inspect shows everything that was found. For all hosts with each other: skep doctor env.",
        before_long_help = "Examples:\n  skep host check web-1\n  skep host check web-1 --skip-preflight",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Check(Check),
    /// Let hosts keep their tasks and take no more
    #[command(
        before_long_help = "Examples:\n  skep host cordon web-1\n  skep host cordon web-1 web-2",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Cordon(Names),
    /// Let hosts take tasks again, after cordon or evacuate
    #[command(
        before_long_help = "Examples:\n  skep host uncordon web-1",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Uncordon(Names),
    /// Move all tasks away from hosts and wait until the last one is gone
    #[command(
        long_about = "Move all tasks away from hosts and wait until the last one is gone\n\nThe hosts stay nodes of the \
                      swarm and take no tasks until they are uncordoned: for work on the machine itself.",
        before_long_help = "Examples:\n  skep host evacuate web-1\n  skep host evacuate web-1 --detach",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Evacuate(Names),
    /// Give hosts another engine
    #[command(
        long_about = "Give hosts another engine\n\nEach host's tasks move away, its engine is changed, and it takes tasks again once \
                      it is seen to serve. A swarm manager waits while the others could not agree without it. \
                      docs/how-to/environments.md tells how an engine is changed. For all hosts one after the other: skep env \
                      upgrade.",
        before_long_help = "Examples:\n  skep host upgrade web-1 --to 29.1.2 --dry-run\n  skep host upgrade web-1 --to 29.1.2",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Upgrade {
        #[command(flatten)]
        names: Names,
        #[command(flatten)]
        wish: EngineWish,
    },
    /// Set or remove labels of a host's node
    #[command(
        long_about = "Set or remove labels of a host's node\n\nServices choose nodes by labels: a placement constraint \
                      like node.labels.rack==b. A label set here comes back when the host joins the swarm again; labels \
                      that others have set stay.",
        before_long_help = "Examples:\n  skep host label web-1 rack=b zone=eu-1\n  skep host label web-1 zone-",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Label {
        /// The host's name or id
        name: String,
        /// KEY=VALUE sets a label, KEY- removes it
        #[arg(required = true, value_name = "KEY=VALUE|KEY-", value_parser = label)]
        labels: Vec<(String, Option<String>)>,
    },
    /// Show how busy hosts and their containers are, and were in the last hour
    #[command(
        long_about = "Show how busy hosts and their containers are, and were in the last hour\n\nEach host's agent keeps a \
                      sample for every ten seconds and is asked now; a host that does not answer has its reason in its \
                      line. CPU of a host is the share of all its processors; of a container, as docker stats counts it, \
                      100% is one whole processor. A dash or a blank is not zero: it is not known.",
        before_long_help = "Examples:\n  skep host stats\n  skep host stats web-1 web-2\n  skep host stats web-1 --containers\n  skep host stats web-1 --containers -o json",
        after_long_help = exit::help(statistics::EXITS)
    )]
    Stats(Stats),
    /// Run a command on a host, as root
    #[command(
        long_about = "Run a command on a host, as root\n\nThrough any manager and the agent's own connection: the host needs \
                      no SSH and nothing that reaches it from outside. The command ends when this one does, and its exit code is \
                      passed on.",
        before_long_help = "Examples:\n  skep host exec web-1 -- df -h\n  skep host exec web-1 -t -- top\n  skep host exec web-1 -i -- tar -x -C /srv",
        after_long_help = exit::help(exit::EXECUTES)
    )]
    Exec(Exec),
    /// Log in at a host, as root
    #[command(
        before_long_help = "Examples:\n  skep host ssh web-1\n  skep host ssh web-1 -- journalctl -f",
        after_long_help = exit::help(exit::EXECUTES)
    )]
    Ssh(Ssh),
    /// Show the log of a host's Docker, or of its agent
    #[command(
        before_long_help = "Examples:\n  skep host logs web-1\n  skep host logs web-1 --source agent -n 20 --follow",
        after_long_help = exit::help(exit::EXECUTES)
    )]
    Logs(Logs),
    /// Make hosts managers of the swarm, in the place of others if need be
    #[command(
        long_about = "Make hosts managers of the swarm, in the place of others if need be\n\nThe environment keeps its number of \
                      swarm managers. A host that is meant to be one goes before others, which become workers.",
        before_long_help = "Examples:\n  skep host promote web-4",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Promote(Names),
    /// Make hosts workers of the swarm; another host becomes a manager instead
    #[command(
        long_about = "Make hosts workers of the swarm; another host becomes a manager instead\n\nRefused if no other host can take \
                      its place, and if the other managers could not agree without it.",
        before_long_help = "Examples:\n  skep host demote web-1\n  skep host demote web-1 --auto     whatever the swarm needs",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Demote {
        /// The hosts' names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Do not insist on anything: let Skep choose again whether they are managers or workers
        #[arg(long)]
        auto: bool,
    },
    /// Give the machines of hosts back and make them anew; name, role and labels stay
    #[command(
        long_about = "Give the machines of hosts back and make them anew; name, role and labels stay\n\nTasks are moved away first, \
                      and the host leaves the swarm; everything else on the machine is destroyed with it. The new machine \
                      joins the swarm in its place. To have the new one first, see: skep host replace",
        before_long_help = "Examples:\n  skep host reprovision web-1\n  skep host reprovision web-1 web-2 --yes",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Reprovision(Names),
    /// Let a new host take the place of another, which is removed afterwards
    #[command(
        long_about = "Let a new host take the place of another, which is removed afterwards\n\nThe new one has the driver, options, \
                      role and labels of the old. Only when it does its part in the swarm, the old one is emptied and removed; \
                      if it cannot be made, the old one stays as it was.",
        before_long_help = "Examples:\n  skep host replace web-1\n  skep host replace web-1 --with web-7",
        after_long_help = exit::help(exit::WAITS)
    )]
    Replace {
        /// The host's name or id
        name: String,
        /// The new host's name [default: the next free number]
        #[arg(long = "with", value_name = "NEWNAME")]
        with: Option<String>,
    },
    /// Take hosts out of the swarm and give their machines back
    #[command(
        long_about = "Take hosts out of the swarm and give their machines back\n\nTheir tasks are moved away first. A machine that \
                      registered itself stays in any case, without its agent.",
        before_long_help = "Examples:\n  skep host rm web-1\n  skep host rm web-1 web-2 --yes\n  skep host rm web-1 --keep-machine\n  skep host rm --all --env test --confirm test     in scripts",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Rm {
        /// The hosts' names or ids
        #[arg(required_unless_present = "all", value_name = "NAME")]
        names: Vec<String>,
        /// All hosts of the environment; its name has to be typed, or given with --confirm
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Leave their machines as they are: they go on, and are yours; no driver gives them back any more
        #[arg(long)]
        keep_machine: bool,
    },
}

/// As many as an environment may have.
const COUNT_MAX: i64 = 1_000;

/// Which hosts.
#[derive(Debug, Args)]
pub struct Names {
    /// The hosts' names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// What is to be created.
#[derive(Debug, Args)]
pub struct Create {
    /// Their names
    #[arg(value_name = "NAME", required_unless_present_any = ["count", "name_prefix"], conflicts_with_all = ["count", "name_prefix"])]
    names: Vec<String>,
    /// How many, instead of their names: they are called PREFIX1, PREFIX2, …, without the names that are taken
    #[arg(long, value_name = "N", requires = "name_prefix", value_parser = clap::value_parser!(u16).range(1..=COUNT_MAX))]
    count: Option<u16>,
    /// What their names begin with, with --count
    #[arg(long, value_name = "PREFIX", requires = "count")]
    name_prefix: Option<String>,
    /// Where they come from (see: skep driver ls)
    // With --detach it is asked for later, by an error that knows what `-d` means elsewhere.
    #[arg(long, value_name = "DRIVER", required_unless_present = "detach")]
    driver: Option<String>,
    /// A label of their nodes, for placement constraints; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = options::pair)]
    labels: Vec<(String, String)>,
    /// An option of the driver; repeatable
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = options::pair)]
    options: Vec<(String, String)>,
    /// Let them join the swarm whatever is found about the network between them
    #[arg(long)]
    skip_preflight: bool,
}

/// What is to be checked.
#[derive(Debug, Args)]
pub struct Check {
    /// The hosts' names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Let them join the swarm whatever is found; with =false not any more
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_preflight: Option<bool>,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls) {
        Verb::Ls => HOST.list(&[], session).await,
        Verb::Create(wish) => create(wish, session).await,
        Verb::Register(wish) => registration::register(wish, session).await,
        Verb::Adopt(wish) => registration::adopt(wish, session).await,
        Verb::RegistrationTokens => registration::REGISTRATION_TOKEN.list(&[], session).await,
        Verb::RevokeToken { id } => registration::revoke(&id, session).await,
        Verb::Inspect { name } => HOST.inspect(&name, session).await,
        Verb::Check(wish) => check(wish, session).await,
        Verb::Cordon(Names { names }) => act(&names, "cordon", "cordoned", session).await,
        Verb::Uncordon(Names { names }) => act(&names, "uncordon", "uncordoned", session).await,
        Verb::Evacuate(Names { names }) => act(&names, "evacuate", "evacuated", session).await,
        Verb::Upgrade { names, wish } => upgrade::run(&HOST, &names.names, &wish, session).await,
        Verb::Label { name, labels } => set_labels(name, labels, session).await,
        Verb::Stats(command) => statistics::run(command, session).await,
        Verb::Exec(wish) => terminal::exec(wish, session).await,
        Verb::Ssh(wish) => terminal::ssh(wish, session).await,
        Verb::Logs(wish) => terminal::logs(wish, session).await,
        Verb::Promote(Names { names }) => set_role(&names, "manager", "promoted", session).await,
        Verb::Demote { names, auto: false } => set_role(&names, "worker", "demoted", session).await,
        Verb::Demote { names, auto: true } => {
            set_role(&names, "auto", "left to the swarm's needs", session).await
        }
        Verb::Reprovision(Names { names }) => {
            let doing = "Destroying and making anew the machines of hosts in";
            let names = targets::confirmed(&HOST, &names, about, doing, session).await?;
            act(&names, "reprovision", "reprovisioned", session).await
        }
        Verb::Replace { name, with } => replace(name, with, session).await,
        Verb::Rm { names, all, keep_machine } => {
            let about = if keep_machine { about_kept } else { about };
            let names = match all {
                true => every_host(about, session).await?,
                false => targets::confirmed(&HOST, &names, about, targets::REMOVING, session).await?,
            };
            match keep_machine {
                true => act(&names, "let-go", "removed, its machine stays", session).await,
                false => targets::remove_confirmed(&HOST, &names, session).await,
            }
        }
    }
}

/// The names of all hosts of the environment, once somebody has said that they are meant.
async fn every_host(about: fn(&str, &Value) -> String, session: &Session) -> Result<Vec<String>, Failure> {
    if session.settings.idempotency_key.is_some() {
        return Err(Failure::usage(
            "--idempotency-key repeats what was asked for, and --all would take hosts that have come since",
            "give the names of the hosts that were to be removed, instead of --all",
        ));
    }
    let env = session.environment()?;
    let hosts = session.client()?.list(&HOST.at(&[], session)?, &[]).await?;
    let hosts: Vec<_> = items(&hosts).iter().map(|host| (HOST.name_of(host), host)).collect();
    let names: Vec<String> = hosts.iter().map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        session.screen.note(&format!("environment {env} has no hosts"));
        return Ok(names);
    }
    if session.may_ask() && session.settings.confirm.is_none() {
        hosts.iter().for_each(|(name, host)| session.screen.note(&format!("  {}", about(name, host))));
    }
    let what = format!("All hosts of environment {env} are removed: {}", names.join(", "));
    session.confirm_by_name(&what, env).await?;
    Ok(names)
}

async fn create(wish: Create, session: &Session) -> Result<(), Failure> {
    let driver = wish.driver.as_deref().ok_or_else(no_driver)?;
    let client = session.client()?;
    let path = HOST.at(&[], session)?;
    let names = match (&wish.name_prefix, wish.count) {
        (Some(prefix), Some(count)) => free_names(prefix, count.into(), session).await?,
        _ => wish.names,
    };
    let options = options::object(&wish.options);
    let started = targets::start(&names, async |name| {
        let mut body = json!({"name": name, "driver": driver, "options": options});
        // Earlier managers know neither.
        if wish.skip_preflight {
            body["skip_preflight"] = true.into();
        }
        if !wish.labels.is_empty() {
            body["labels"] = options::object(&wish.labels);
        }
        client.write(Method::POST, &path, &[], Payload::Json(&body)).await
    })
    .await?;
    session.finish(&HOST, "created", started).await
}

/// Rancher and docker-machine take the driver with `-d`.
fn no_driver() -> Failure {
    Failure::usage(
        "no driver is chosen: -d is --detach, which does not wait for the hosts",
        "choose the driver with --driver DRIVER; see them with: skep driver ls",
    )
}

/// The next names with this beginning that no host of the environment has.
async fn free_names(prefix: &str, count: usize, session: &Session) -> Result<Vec<String>, Failure> {
    if session.settings.idempotency_key.is_some() {
        return Err(Failure::usage(
            "--idempotency-key repeats what was asked for, and --count would choose other names",
            "give the names of the hosts that were to be created, instead of --count and --name-prefix",
        ));
    }
    let hosts = session.client()?.list(&HOST.at(&[], session)?, &[]).await?;
    let taken: BTreeSet<String> = items(&hosts).iter().map(|host| HOST.name_of(host)).collect();
    let names = (1_u32..).map(|number| format!("{prefix}{number}"));
    Ok(names.filter(|name| !taken.contains(name)).take(count).collect())
}

async fn check(wish: Check, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let body = json!({"skip_preflight": wish.skip_preflight});
    let started = targets::start(&wish.names, async |name| {
        let path = HOST.at(&[HOST.named(name)?, "actions", "check"], session)?;
        client.write(Method::POST, &path, &[], Payload::Json(&body)).await
    })
    .await?;
    session.finish(&HOST, "checked", started).await
}

async fn act(names: &[String], action: &str, done: &str, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let started = targets::start(names, async |name| {
        let path = HOST.at(&[HOST.named(name)?, "actions", action], session)?;
        client.write(Method::POST, &path, &[], Payload::Nothing).await
    })
    .await?;
    session.finish(&HOST, done, started).await
}

async fn set_role(names: &[String], role: &str, done: &str, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let body = json!({"spec": {"role": role}});
    let started = targets::start(names, async |name| {
        let path = HOST.at(&[HOST.named(name)?], session)?;
        client.write(Method::PATCH, &path, &[], Payload::Json(&body)).await
    })
    .await?;
    session.finish(&HOST, done, started).await
}

async fn replace(name: String, with: Option<String>, session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    let names = targets::confirmed(&HOST, &[name], about, "Replacing by a new host in", session).await?;
    let body = json!({"name": with});
    let started = targets::start(&names, async |name| {
        let path = HOST.at(&[HOST.named(name)?, "actions", "replace"], session)?;
        client.write(Method::POST, &path, &[], Payload::Json(&body)).await
    })
    .await?;
    session.finish(&HOST, "replaced", started).await
}

async fn set_labels(
    name: String,
    labels: Vec<(String, Option<String>)>,
    session: &Session,
) -> Result<(), Failure> {
    let client = session.client()?;
    let labels: BTreeMap<String, Option<String>> = labels.into_iter().collect();
    let body = json!({"spec": {"labels": labels}});
    let started = targets::start(&[name], async |name| {
        let path = HOST.at(&[HOST.named(name)?], session)?;
        client.write(Method::PATCH, &path, &[], Payload::Json(&body)).await
    })
    .await?;
    session.finish(&HOST, "labelled", started).await
}

/// `KEY=VALUE`, or `KEY-` for a label that is to go.
fn label(text: &str) -> Result<(String, Option<String>), String> {
    match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) if !key.is_empty() => Ok((key.to_owned(), Some(value.to_owned()))),
        (None, Some(key)) if !key.is_empty() => Ok((key.to_owned(), None)),
        _ => Err("expected KEY=VALUE to set a label or KEY- to remove it".to_owned()),
    }
}

/// What a person should know before the host goes.
fn about(name: &str, host: &Value) -> String {
    let state = text_at(host, "/status/state").unwrap_or_else(|| "unknown".into());
    let role = swarm(host).unwrap_or_else(|| "not in the swarm".into());
    match text_at(host, "/spec/driver") {
        Some(driver) => format!("{name}: {state}, {role}, driver {driver}"),
        None => format!("{name}: {state}, {role}; the machine itself stays, without its agent"),
    }
}

/// The same for a host whose machine stays.
fn about_kept(name: &str, host: &Value) -> String {
    let state = text_at(host, "/status/state").unwrap_or_else(|| "unknown".into());
    let role = swarm(host).unwrap_or_else(|| "not in the swarm".into());
    let machine = text_at(host, "/status/machine").unwrap_or_else(|| "its machine".into());
    format!("{name}: {state}, {role}; {machine} stays, without its agent")
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

    #[test]
    fn a_label_is_set_or_removed() {
        assert_eq!(label("rack=b=c-"), Ok(("rack".into(), Some("b=c-".into()))));
        assert_eq!(label("rack="), Ok(("rack".into(), Some(String::new()))));
        assert_eq!(label("rack-"), Ok(("rack".into(), None)));
        assert!(label("rack").is_err() && label("=b").is_err() && label("-").is_err());
    }
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
