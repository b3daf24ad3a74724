//! The client commands of `skep`, over the published API and nothing else.
//!
//! One file per noun holds its command, its table and its calls. Around them: `settings` (who and where), `client` (several
//! managers as one), `wait` and `progress` (following operations), `failure` and `exit` (how commands end).
//! This crate knows the API as a stranger would; it shares no type with the managers, so an older client keeps working.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on may panic"))]

mod about;
mod api;
mod apply;
mod audit;
mod client;
mod cluster;
mod context;
mod debug;
mod device;
mod doctor;
mod document;
mod driver;
mod env;
mod event;
mod exit;
mod explain;
mod failure;
mod flags;
mod group;
mod help;
mod host;
mod image;
mod input;
mod itself;
mod lb_config;
mod live;
mod manager;
mod member;
mod noun;
mod operation;
mod operation_log;
mod options;
mod orphan;
mod plan;
mod progress;
mod project;
mod reference;
mod registration;
mod registry;
mod role;
mod screen;
mod session;
mod settings;
mod setup;
mod shortcut;
mod snapshot;
mod sse;
mod stack;
mod statistics;
mod swarm_keys;
mod swarm_state;
mod table;
mod targets;
mod task;
mod template;
mod terminal;
mod token;
mod until;
mod upgrade;
mod user;
mod value;
mod wait;
mod wishes;

use std::path::Path;

use clap::{CommandFactory, Parser, Subcommand};

pub use cluster::Recover;
pub use doctor::AgentPlaces;
pub use doctor::checks::Check;
pub use exit::{EXIT_CODES, Exit, Meaning, exit_codes_page};
pub use flags::{Consistency, GlobalFlags, Output, ProgressStyle};
pub use help::grouped;
pub use itself::told_by_itself;
pub use live::complete;
pub use reference::reference_page;
pub use screen::Screen;
pub use settings::Variables;
pub use snapshot::Restore;

use failure::Failure;
use noun::Verbs;
use project::Project;
use session::Session;
use settings::{ConfigFile, Settings};

/// Every client command.
///
/// A program that adds its own commands must switch clap's help subcommand off and hand its whole tree to [`help`].
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploy a compose file as a stack
    #[command(
        before_long_help = "Examples:\n  skep up\n  skep up -f compose.yml --stack shop\n  skep up -f compose.yml --stack shop --set TAG=1.9 --env-file prod.env",
        after_long_help = exit::help(exit::WAITS)
    )]
    Up(stack::Up),
    /// List tasks: where they run and how they are
    #[command(
        before_long_help = "Examples:\n  skep ps\n  skep ps shop",
        after_long_help = exit::help(exit::READS)
    )]
    Ps(task::Ps),
    /// Stacks: deployed recipes
    #[command(visible_alias = "stacks", after_long_help = exit::help(exit::READS))]
    Stack(Verbs<stack::Verb>),
    /// Environments: isolated swarms with their hosts and stacks
    #[command(visible_aliases = ["envs", "environment", "environments"], after_long_help = exit::help(exit::READS))]
    Env(Verbs<env::Verb>),
    /// Templates: what environments start from
    #[command(visible_alias = "templates", after_long_help = exit::help(exit::READS))]
    Template(Verbs<template::Verb>),
    /// Hosts: the machines of an environment
    #[command(visible_alias = "hosts", after_long_help = exit::help(exit::READS))]
    Host(Verbs<host::Verb>),
    /// Drivers: where hosts can come from
    #[command(visible_alias = "drivers", after_long_help = exit::help(exit::READS))]
    Driver(Verbs<driver::Verb>),
    /// Registries: where the environment logs in to pull images
    #[command(visible_alias = "registries", after_long_help = exit::help(exit::READS))]
    Registry(Verbs<registry::Verb>),
    /// Images: bring them onto the hosts without a registry
    #[command(visible_alias = "images")]
    Image(image::Image),
    /// The cluster of managers
    #[command(visible_alias = "clusters", after_long_help = exit::help(exit::READS))]
    Cluster(Verbs<cluster::Verb>),
    /// Snapshots: backups of the whole cluster
    #[command(visible_alias = "snapshots", after_long_help = exit::help(exit::READS))]
    Snapshot(Verbs<snapshot::Verb>),
    /// Operations: what the cluster is doing and has done
    #[command(
        name = "operation",
        visible_aliases = ["op", "ops", "operations"],
        after_long_help = exit::help(exit::READS)
    )]
    Operation(Verbs<operation::Verb>),
    /// Events: what changes, as it happens
    #[command(visible_alias = "events", after_long_help = exit::help(exit::READS))]
    Event(Verbs<event::Verb>),
    /// The audit: who has done what, and who was not allowed to
    #[command(after_long_help = exit::help(exit::READS))]
    Audit(Verbs<audit::Verb>),
    /// Checks: what is wrong, why, and what helps
    Doctor(doctor::Doctor),
    /// What somebody needs who is to find out what is wrong
    Debug(debug::Debug),
    /// Users: people with an account
    #[command(visible_alias = "users", after_long_help = exit::help(exit::READS))]
    User(Verbs<user::Verb>),
    /// Groups: users who have roles together
    #[command(visible_alias = "groups", after_long_help = exit::help(exit::READS))]
    Group(Verbs<group::Verb>),
    /// Roles: what one may do who has them
    #[command(visible_alias = "roles", after_long_help = exit::help(exit::READS))]
    Role(Verbs<role::Verb>),
    /// API keys and sessions: with what programs and people come in
    #[command(visible_alias = "tokens", after_long_help = exit::help(exit::READS))]
    Token(Verbs<token::Verb>),
    /// Show where the cluster stands: as skep cluster status
    #[command(before_long_help = "Examples:\n  skep status\n  skep status -o json", after_long_help = exit::help(exit::READS))]
    Status,
    /// Show everything about things of any type
    #[command(
        before_long_help = "Examples:\n  skep inspect host/web-1\n  skep inspect env/prod stack/shop -e prod",
        after_long_help = exit::help(exit::READS)
    )]
    Inspect(shortcut::Things),
    /// Remove things of any type, as the rm of their type does
    #[command(
        before_long_help = "Examples:\n  skep rm stack/shop\n  skep rm host/web-1 host/web-2 --yes\n  skep rm env/test --confirm test",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Rm(shortcut::Things),
    /// Wait until things are in a state, or gone
    #[command(
        before_long_help = "Examples:\n  skep wait host/web-1 host/web-2\n  skep wait stack/shop --for state=active --timeout 5m\n  skep wait env/test --for deleted\n  skep wait op/op_1",
        after_long_help = exit::help(until::EXITS)
    )]
    Wait(until::Wait),
    /// Make things as files say them: what is so already stays, the rest is created or changed
    #[command(
        before_long_help = "Examples:\n  skep apply -f people.yaml\n  skep apply -f folder -f more.yaml --dry-run\n  cat people.yaml | skep apply -f -",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Apply(apply::Files),
    /// Remove what files say
    #[command(
        before_long_help = "Examples:\n  skep delete -f people.yaml --dry-run\n  skep delete -f people.yaml --yes",
        after_long_help = exit::help(exit::WAITS_FOR_SEVERAL)
    )]
    Delete(apply::Files),
    /// Call the API with the context's token: for what there is no command for
    #[command(
        long_about = "Call the API with the context's token: for what there is no command for\n\nA change gets an idempotency \
                      key and is done at most once, however often it has to be sent. JSON is printed as with -o json (also \
                      -o yaml, --jq, --format); anything else as it comes.",
        before_long_help = "Examples:\n  skep api GET /v1/environments/prod\n  skep api GET /v1/templates --paginate --jq .items[].metadata.name\n  skep api POST /v1/groups @group.json\n  skep api PUT /v1/environments/prod/members/user/ann -d {\"role\":\"owner\"}\n  skep api GET /v1/users/ann -i -H If-None-Match:*",
        after_long_help = exit::help(exit::WRITES)
    )]
    Api(api::Api),
    /// Sign in, and remember the server as a context
    #[command(
        long_about = "Sign in, and remember the server as a context\n\nThe address, the certificate authority and the token are kept in \
                      the configuration folder, the token readable by you only. From then on every command goes there, unless \
                      flags or variables say otherwise.\n\nA new cluster waits for its first administrator: the first login asks for the \
                      setup code that the managers have printed, and for the name and the password that are to be yours.",
        before_long_help = "Examples:\n  skep login https://skep.example.com:8443\n  skep login https://skep.example.com:8443 --user ann --password-file pw.txt\n  skep login https://10.0.0.11:8443 --ca-file ca.pem --setup-code-file setup-code --user ann --password-file pw.txt\n  skep login https://skep.example.com:8443 --device\n  skep login https://10.0.0.11:8443,https://10.0.0.12:8443 --ca-file ca.pem --token-file key.txt --context prod",
        after_long_help = exit::help(exit::WRITES)
    )]
    Login(context::Login),
    /// Sign out: the session ends, and its token is forgotten
    #[command(
        before_long_help = "Examples:\n  skep logout\n  skep logout prod",
        after_long_help = exit::help(exit::WRITES)
    )]
    Logout(context::Logout),
    /// Show or choose the context, and the environment to work in
    #[command(
        name = "use",
        before_long_help = "Examples:\n  skep use                 what is chosen\n  skep use prod            another context\n  skep use prod/shop       and the environment shop there\n  skep use /shop           another environment in the same context\n  skep use -               what was chosen before",
        after_long_help = exit::help(&[Exit::Done, Exit::Usage])
    )]
    Use(context::Use),
    /// Contexts: servers, and who one is there
    #[command(visible_alias = "contexts", after_long_help = exit::help(&[Exit::Done, Exit::Usage]))]
    Context(Verbs<context::Verb>),
    /// Print a configuration for a load balancer in front of the managers
    #[command(
        before_long_help = "Examples:\n  skep lb-config haproxy > haproxy.cfg\n  skep lb-config haproxy --listen 10.0.0.5:443 --balancer-ca-file /etc/haproxy/skep-ca.pem\n  skep lb-config nginx --listen 0.0.0.0:443",
        after_long_help = exit::help(exit::READS)
    )]
    LbConfig(lb_config::LbConfig),
    /// Explain a type and its fields, an error or a finding; works without a server
    #[command(
        long_about = "Explain a type and its fields, an error or a finding; works without a server\n\nOf a type: what stands in its \
                      objects, as the API shows them and files for skep apply say them, with the type of each field, what \
                      has to be said (required), what nobody can say (read-only), and what it means. Of an error or a \
                      finding: what it means and what helps.",
        before_long_help = "Examples:\n  skep explain host\n  skep explain env.spec.nfs\n  skep explain SKP-1203\n  skep explain SKF-104",
        after_long_help = exit::help(&[Exit::Done, Exit::Usage])
    )]
    Explain(explain::Explain),
    /// Print a script that completes commands in a shell
    #[command(
        long_about = "Print a script that completes commands in a shell\n\nWith --live the shell asks this program, which asks the \
                      managers, for a quarter of a second at most. Its form may change with each version, so put this into \
                      ~/.bashrc: source <(skep completion bash --live). Without --live the script is for a file.",
        before_long_help = "Examples:\n  skep completion bash > /etc/bash_completion.d/skep\n  skep completion zsh > ~/.zfunc/_skep\n  skep completion bash --live",
        after_long_help = exit::help(&[Exit::Done, Exit::Usage])
    )]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
        /// Also names of hosts, stacks and the like, which the managers are asked for
        #[arg(long)]
        live: bool,
    },
    /// Write manual pages
    #[command(
        before_long_help = "Examples:\n  skep man --dir /usr/local/share/man/man1",
        after_long_help = exit::help(&[Exit::Done, Exit::Usage])
    )]
    Man {
        /// The folder to write into
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: std::path::PathBuf,
    },
    /// Show whose token is used, and what they may
    #[command(before_long_help = "Examples:\n  skep whoami", after_long_help = exit::help(exit::READS))]
    Whoami,
    /// Show the versions of the client and of the server
    #[command(
        before_long_help = "Examples:\n  skep version\n  skep version -o json",
        after_long_help = exit::help(&[Exit::Done, Exit::Usage, Exit::Interrupted])
    )]
    Version,
    /// Show the help of a command, or a topic (contexts, environment, exit-codes, formats, waiting)
    #[command(
        before_long_help = "Examples:\n  skep help host create\n  skep help exit-codes\n  skep help topics",
        after_long_help = exit::help(&[Exit::Done, Exit::Usage])
    )]
    Help {
        /// A command's words, or a topic
        words: Vec<String>,
    },
}

impl Command {
    /// What managers do, they can rehearse; what is changed on this machine, nobody does.
    #[must_use]
    pub fn can_be_rehearsed(&self) -> bool {
        match self {
            Command::Login(_)
            | Command::Logout(_)
            | Command::Use(_)
            | Command::Context(_)
            | Command::Debug(_)
            | Command::Man { .. } => false,
            _ => self.recover().is_none() && self.restore().is_none(),
        }
    }

    /// The verb of `cluster` that works on this machine's data folder and not over the API: a program that also
    /// contains the manager runs it itself.
    #[must_use]
    pub fn recover(&self) -> Option<&Recover> {
        match self {
            Command::Cluster(Verbs { verb: Some(cluster::Verb::Recover(recover)) }) => Some(recover),
            _ => None,
        }
    }

    /// The verb of `doctor` about the agent of this machine: a program that also contains the agent looks at it, and
    /// says what it has found before it runs the command.
    pub fn doctor_agent(&mut self) -> Option<&mut AgentPlaces> {
        match self {
            Command::Doctor(doctor) => doctor.agent(),
            _ => None,
        }
    }

    /// The verb of `snapshot` that writes data folders of managers; as [`Command::recover`].
    #[must_use]
    pub fn restore(&self) -> Option<&Restore> {
        match self {
            Command::Snapshot(Verbs { verb: Some(snapshot::Verb::Restore(restore)) }) => Some(restore),
            _ => None,
        }
    }
}

/// The command line of the client alone; a larger program flattens the same two parts into its own.
#[derive(Debug, Parser)]
#[command(
    name = "skep",
    about = "Skep manages Docker Swarm environments from a highly available cluster.",
    disable_help_subcommand = true,
    disable_version_flag = true
)]
pub struct ClientLine {
    /// Flags of every command.
    #[command(flatten)]
    pub flags: GlobalFlags,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Runs a command for this process, until its end or Ctrl-C, and returns its exit code.
pub async fn run(command: Command, flags: GlobalFlags) -> u8 {
    let interrupt = async {
        // Where no handler can be installed, Ctrl-C ends the process by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // A folder that is gone has no project.
    let folder = std::env::current_dir().unwrap_or_default();
    run_until(command, flags, Variables::of_process(), &folder, Screen::of_process(), interrupt).await
}

/// Runs a command with the given environment variables, folder and streams, until its end or the interrupt.
pub async fn run_until(
    command: Command,
    flags: GlobalFlags,
    variables: Variables,
    folder: &Path,
    screen: Screen,
    interrupt: impl Future<Output = ()>,
) -> u8 {
    if let Some(told) = told_by_itself(&mut grouped(ClientLine::command()), &command) {
        return match told {
            Ok(text) => {
                screen.result(&text);
                Exit::Done as u8
            }
            Err(what) => {
                screen.note(&Failure::usage(what, "see all commands with: skep --help").text());
                Exit::Usage as u8
            }
        };
    }
    let settings = resolve(&command, &flags, &variables, folder);
    let mut session = match settings {
        Ok(settings) => Session::new(settings, screen),
        Err(failure) => {
            screen.note(&failure.shown(flags.output));
            return failure.exit() as u8;
        }
    };
    let result = tokio::select! {
        result = dispatch(command, &session) => result,
        () = interrupt => Err(session.interrupted()),
    };
    let result = match (result, session.unprinted()) {
        (Ok(()), Some(failure)) => Err(failure),
        (result, _) => result,
    };
    match result {
        Ok(()) => {
            if flags.dry_run && !session.settings.quiet {
                session.screen.note("Dry run: nothing was changed.");
            }
            Exit::Done as u8
        }
        Err(failure) => {
            if !matches!(failure, Failure::Ended(_)) {
                session.report(&failure);
            }
            failure.exit_code()
        }
    }
}

fn resolve(
    command: &Command,
    flags: &GlobalFlags,
    variables: &Variables,
    folder: &Path,
) -> Result<Settings, Failure> {
    if flags.dry_run && !command.can_be_rehearsed() {
        return Err(Failure::no_dry_run());
    }
    let (project, file) = (Project::around(folder)?, ConfigFile::load(variables)?);
    match command {
        Command::Login(login) => login.settings(flags, variables, &project, &file),
        _ => Settings::resolve(flags, variables, &project, &file),
    }
}

async fn dispatch(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::Up(command) => stack::up(command, session).await,
        Command::Ps(command) => task::run(command, session).await,
        Command::Stack(command) => stack::run(command, session).await,
        Command::Env(command) => env::run(command, session).await,
        Command::Template(command) => template::run(command, session).await,
        Command::Host(command) => host::run(command, session).await,
        Command::Driver(command) => driver::run(command, session).await,
        Command::Registry(command) => registry::run(command, session).await,
        Command::Image(command) => image::run(command, session).await,
        Command::Cluster(command) => cluster::run(command, session).await,
        Command::Snapshot(command) => snapshot::run(command, session).await,
        Command::Operation(command) => operation::run(command, session).await,
        Command::Event(command) => event::run(command, session).await,
        Command::Audit(command) => audit::run(command, session).await,
        Command::Doctor(command) => doctor::run(command, session).await,
        Command::Debug(command) => debug::run(command, session).await,
        Command::User(command) => user::run(command, session).await,
        Command::Group(command) => group::run(command, session).await,
        Command::Role(command) => role::run(command, session).await,
        Command::Token(command) => token::run(command, session).await,
        Command::Status => cluster::run(Verbs { verb: Some(cluster::Verb::Status) }, session).await,
        Command::Inspect(command) => shortcut::inspect(command, session).await,
        Command::Rm(command) => shortcut::remove(command, session).await,
        Command::Wait(command) => until::run(command, session).await,
        Command::Apply(command) => apply::apply(command, session).await,
        Command::Delete(command) => apply::delete(command, session).await,
        Command::Api(command) => api::run(command, session).await,
        Command::Login(command) => context::login(command, session).await,
        Command::Logout(command) => context::logout(command, session).await,
        Command::Use(command) => context::choose(&command, session),
        Command::Context(command) => context::run(command, session).await,
        Command::Whoami => about::whoami(session).await,
        Command::Version => about::version(session).await,
        Command::LbConfig(command) => lb_config::run(command, session).await,
        Command::Explain(command) => explain::run(&command, session),
        // They need no session; `run_until` has answered them.
        Command::Help { .. } | Command::Completion { .. } | Command::Man { .. } => Ok(()),
    }
}
