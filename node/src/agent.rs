//! `skep agent`: wires the command line to the agent.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use skep_agent::{AddressChoice, AgentConfig, AgentError, Checked, Entrance, LogFiles, Offering, Verdict};
use skep_cli::{AgentPlaces, Check};
use tokio_util::sync::CancellationToken;

/// The managers do not want this host, and asking again does not help: its unit does not start it again.
const REFUSED: u8 = 5;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  skep agent --join /etc/skep/join.json\n  skep agent --token skh_… --managers 10.0.0.11:8444,10.0.0.12:8444 --address eth1\n\n\
                  'skep host register' prints a command that installs and starts all this on a machine."
)]
pub(crate) struct Agent {
    /// Where the agent keeps its key, its certificate and what it remembers
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep-agent", env = "SKEP_AGENT_STATE_DIR")]
    state_dir: PathBuf,
    /// The engine's socket
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/var/run/docker.sock",
        env = "SKEP_AGENT_DOCKER_SOCKET"
    )]
    docker_socket: PathBuf,
    /// The join file of a host that a driver has made; needed for its first start
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    join: Option<PathBuf>,
    /// The token with which this machine offers itself as a host; needed for the first start
    #[arg(long, requires = "managers", env = "SKEP_AGENT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Managers to register at
    #[arg(long, value_name = "HOST:PORT[,…]", value_delimiter = ',', env = "SKEP_AGENT_MANAGERS")]
    managers: Vec<String>,
    /// The host's name in its environment [default: this machine's own]
    #[arg(long, env = "SKEP_AGENT_NAME")]
    name: Option<String>,
    /// The address at which the other hosts reach this one, or the interface that has it [default: from where it
    /// reaches the managers]
    #[arg(long, value_name = "IP|INTERFACE", env = "SKEP_AGENT_ADDRESS")]
    address: Option<AddressChoice>,
    /// Take the swarm over that this machine's engine is a node of, as it is: only into an environment without a swarm, or
    /// one that has taken over the same
    #[arg(long, env = "SKEP_AGENT_ADOPT", value_parser = clap::builder::BoolishValueParser::new())]
    adopt: bool,
    /// This agent runs in a container that sees the host's processes: commands for the host are run there
    #[arg(long, env = "SKEP_AGENT_IN_CONTAINER", value_parser = clap::builder::BoolishValueParser::new())]
    in_container: bool,
    /// The engine's log, if it is not in the journal
    #[arg(long, value_name = "FILE", env = "SKEP_AGENT_ENGINE_LOG", hide_short_help = true)]
    engine_log: Option<PathBuf>,
    /// This agent's log, if it is not in the journal
    #[arg(long, value_name = "FILE", env = "SKEP_AGENT_LOG", hide_short_help = true)]
    agent_log: Option<PathBuf>,
}

impl Agent {
    pub(crate) async fn run(self) -> ExitCode {
        let shutdown = CancellationToken::new();
        let signalled = shutdown.clone();
        tokio::spawn(async move {
            crate::ports::stop_signal().await;
            signalled.cancel();
        });
        let (managers, name, adopt) = (self.managers, self.name, self.adopt);
        let config = AgentConfig {
            state_dir: self.state_dir,
            docker_socket: self.docker_socket,
            join_file: self.join,
            offering: self.token.map(|token| Offering { token, managers, name, adopt }),
            address: self.address,
            entrance: if self.in_container { Entrance::FirstProcess } else { Entrance::Here },
            logs: LogFiles { engine: self.engine_log, agent: self.agent_log },
        };
        match skep_agent::run(config, shutdown).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(removed @ AgentError::Removed) => {
                eprintln!("{removed}");
                ExitCode::SUCCESS
            }
            Err(refused @ AgentError::Refused { .. }) => {
                eprintln!("error: {refused}");
                ExitCode::from(REFUSED)
            }
            Err(error) => crate::failed(&error.into()),
        }
    }
}

/// Looks at the agent of this machine, for `skep doctor agent`.
pub(crate) async fn look(places: &mut AgentPlaces) {
    let checked = skep_agent::check_up(&places.state_dir, &places.docker_socket).await;
    places.found = Some(checked.into_iter().map(told).collect());
}

fn told(Checked { check, verdict, message, fix }: Checked) -> Check {
    let about = "agent";
    match verdict {
        Verdict::Ok => Check::ok(about, check, message),
        Verdict::Warning => Check::warning(about, check, message, fix),
        Verdict::Error => Check::error(about, check, message, fix),
    }
}
