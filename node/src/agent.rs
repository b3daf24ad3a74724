//! `skep agent`: wires the command line to the agent.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use skep_agent::AgentConfig;
use tokio_util::sync::CancellationToken;

#[derive(Args)]
#[command(after_help = "Example:\n  skep agent --join /etc/skep/join.json")]
pub(crate) struct Agent {
    /// Where the agent keeps its key, its certificate and what it remembers
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep-agent")]
    state_dir: PathBuf,
    /// The engine's socket
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    docker_socket: PathBuf,
    /// How to join a cluster; needed for the first start
    #[arg(long, value_name = "FILE")]
    join: Option<PathBuf>,
}

impl Agent {
    pub(crate) async fn run(self) -> Result<()> {
        let shutdown = CancellationToken::new();
        let signalled = shutdown.clone();
        tokio::spawn(async move {
            crate::ports::stop_signal().await;
            signalled.cancel();
        });
        let config = AgentConfig {
            state_dir: self.state_dir,
            docker_socket: self.docker_socket,
            join_file: self.join,
        };
        Ok(skep_agent::run(config, shutdown).await?)
    }
}
