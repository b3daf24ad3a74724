//! The real agent, started and stopped as its process would be.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use skep_agent::{AgentConfig, AgentError, Entrance, JoinFile, LogFiles};
use skep_wire::framing::{MESSAGE_BYTES_MAX, write_message};
use skep_wire::mux::{Incoming, Mux, MuxStream};
use skep_wire::pki::{self, ALPN_AGENT};
use skep_wire::proto::agent::{Inventory, Report, ReportStream, StreamHeader, stream_header::Purpose};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{CLUSTER, DEADLINE, Engine, HOST, Manager};

pub(crate) struct RunningAgent {
    dir: TempDir,
    config: AgentConfig,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), AgentError>>,
}

impl RunningAgent {
    /// Joins the cluster of `trusted`; the join file names these managers.
    pub(crate) fn join(engine: &Engine, trusted: &Manager, managers: &[&Manager]) -> RunningAgent {
        RunningAgent::start(engine, trusted.join_file(managers))
    }

    pub(crate) fn start(engine: &Engine, join: JoinFile) -> RunningAgent {
        let dir = tempfile::tempdir().unwrap();
        let join_file = dir.path().join("join.json");
        write_secret(&join_file, &serde_json_text(&join));
        let config = AgentConfig {
            state_dir: dir.path().join("state"),
            docker_socket: engine.socket(),
            join_file: Some(join_file),
            offering: None,
            address: None,
            entrance: Entrance::default(),
            logs: LogFiles::default(),
        };
        RunningAgent::run(dir, config)
    }

    pub(crate) async fn restart_without_join_file(self) -> RunningAgent {
        let mut config = self.config.clone();
        config.join_file = None;
        let dir = self.stop().await;
        RunningAgent::run(dir, config)
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.running).await.unwrap().unwrap().unwrap();
        self.dir
    }

    /// Would it find this manager after a restart?
    pub(crate) fn has_written_down(&self, manager: &Manager) -> bool {
        let membership = self.config.state_dir.join("membership.json");
        std::fs::read_to_string(membership).unwrap().contains(&manager.address)
    }

    /// From now on its writes fail, as on a full disk: where its next file would be, something is in the way. (Root writes
    /// wherever permissions forbid it.)
    pub(crate) fn can_write_nothing(&self) {
        for file in ["membership.new", "term.new"] {
            std::fs::create_dir(self.config.state_dir.join(file)).unwrap();
        }
    }

    /// Waits until the agent would find this manager after a restart.
    pub(crate) async fn has_learnt_of(&self, manager: &Manager) {
        let learnt = async {
            while !self.has_written_down(manager) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, learnt).await.expect("the agent learns of the other manager");
    }

    /// Why it stopped by itself.
    pub(crate) async fn ended(self) -> Result<(), AgentError> {
        tokio::time::timeout(DEADLINE, self.running).await.expect("the agent ends by itself").unwrap()
    }

    fn run(dir: TempDir, config: AgentConfig) -> RunningAgent {
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(skep_agent::run(config.clone(), shutdown.clone()));
        RunningAgent { dir, config, shutdown, running }
    }
}

fn serde_json_text(join: &JoinFile) -> String {
    serde_json::to_string(join).unwrap()
}

fn write_secret(path: &PathBuf, text: &str) {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The remains of an agent's link whose other end has gone without a word: it reported once, and never
/// answers anything. It lives as long as this value.
pub(crate) async fn silent_agent(manager: &Manager) -> (Mux, Incoming, MuxStream) {
    let key_pem = pki::generate_key().unwrap();
    let csr = pki::certificate_request(&key_pem, HOST).unwrap();
    let certificate_pem = manager.identity.authority().unwrap().sign_host_csr(&csr, HOST).unwrap();
    let certified = (certificate_pem.as_str(), key_pem.as_str());
    let tls = pki::client_config(&manager.identity.ca_pem, Some(certified), &[ALPN_AGENT]).unwrap();
    let tcp = tokio::net::TcpStream::connect(&manager.address).await.unwrap();
    let name = pki::managers_server_name(CLUSTER).unwrap();
    let io = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await.unwrap();
    let (mux, incoming) = Mux::client(io);
    let mut stream = mux.open().await.unwrap();
    let header = StreamHeader { purpose: Some(Purpose::Report(ReportStream {})) };
    write_message(&mut stream, &header, MESSAGE_BYTES_MAX).await.unwrap();
    let report =
        Report { session: "silent".into(), inventory: Some(Inventory::default()), ..Report::default() };
    write_message(&mut stream, &report, MESSAGE_BYTES_MAX).await.unwrap();
    (mux, incoming, stream)
}
