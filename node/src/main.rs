//! The `skep` binary: manager, agent, throw-away cluster and client in one file.
//!
//! Only wiring: what the parts do is in their crates. A failure to start is one line that says what was tried and
//! what to do, and exit code 1.

mod admission;
mod agent;
mod agreement;
mod backups;
mod busy;
mod caretaker;
mod config;
mod dev;
mod events;
mod founding;
mod gathered;
mod joining;
mod logging;
mod members;
mod metrics;
mod opening;
mod ports;
mod proxies;
mod proxy_protocol;
mod recover;
mod restore;
mod sans;
mod server;
mod setup;
mod solitude;
mod unread;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use skep_cli::GlobalFlags;

/// Skep manages Docker Swarm environments from a highly available cluster.
#[derive(Parser)]
#[command(name = "skep", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    flags: GlobalFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a throw-away cluster on this machine: real managers, real Docker hosts
    Dev(dev::Dev),
    /// Run a manager
    Server(server::Server),
    /// Write the data folders of managers that found a cluster together
    Init(founding::Init),
    /// Run the agent of a host
    Agent(agent::Agent),
    #[command(flatten)]
    Client(skep_cli::Command),
}

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    skep_cli::complete(Cli::command);
    let matches = skep_cli::grouped(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let can_be_rehearsed = matches!(&cli.command, Command::Client(command) if command.can_be_rehearsed());
    if cli.flags.dry_run && !can_be_rehearsed {
        return said(Err(
            "this command has no dry run\n  fix         leave --dry-run out; nothing was done".into()
        ));
    }
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::from(error).context("starting the runtime")),
    };
    runtime.block_on(async {
        let outcome = match cli.command {
            Command::Dev(dev) => dev.run().await,
            Command::Server(server) => {
                logging::to_stderr();
                server.run().await
            }
            Command::Init(init) => init.run(),
            Command::Agent(agent) => {
                logging::to_stderr();
                return agent.run().await;
            }
            Command::Client(mut command) => {
                if let Some(places) = command.doctor_agent() {
                    agent::look(places).await;
                }
                if let Some(told) = skep_cli::told_by_itself(&mut skep_cli::grouped(Cli::command()), &command)
                {
                    return said(told);
                }
                return match (command.recover(), command.restore()) {
                    (Some(recover), _) => recover::run(recover, &cli.flags).await,
                    (_, Some(restore)) => restore::run(restore, &cli.flags),
                    (None, None) => ExitCode::from(skep_cli::run(command, cli.flags).await),
                };
            }
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        }
    })
}

fn said(told: Result<String, String>) -> ExitCode {
    use std::io::Write as _;
    match told {
        Ok(text) => {
            // A reader that has had enough is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::from(2)
        }
    }
}

/// A client waits more than it works. A manager takes as many threads as there are processors, and one for its agreement:
/// measured, that answers more at every number of clients than to leave one out for it.
fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    let mut runtime = match command {
        Command::Client(_) | Command::Init(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
