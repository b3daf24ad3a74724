//! Three replicas in this process, each with its own folder, peer port and runtime; real TLS, real disks.
//!
//! Ending a node's runtime ends all its tasks and connections at once, as the end of its process would. Everything
//! that a test asks of a replica runs in that runtime, so that nothing of the node outlives it elsewhere.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_ledger::{Committed, Ledger, Record, Request, TransactError, Tx, View, transact};
use skep_raft::{ManagerNode, RaftService, Replica, ReplicaConfig, StartError, Timing};
use skep_storage::Store;
use skep_wire::accept::{Accepted, ManagerConnection, accept};
use skep_wire::channels::{PeerChannels, peer_server};
use skep_wire::pki::{self, Identity};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

/// Nothing that a test waits for takes longer, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

const CLUSTER: &str = "c1";

/// A number that tests change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) name: String,
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) ballast: String,
}

impl Counter {
    pub(crate) fn new(name: impl Into<String>, value: u64) -> Counter {
        Counter { name: name.into(), value, ballast: String::new() }
    }
}

impl Record for Counter {
    const TABLE: &'static str = "counters";

    fn partition(&self) -> &str {
        "tests"
    }

    fn id(&self) -> String {
        self.name.clone()
    }
}

/// The counter's value in a view.
pub(crate) fn value(view: &View, name: &str) -> Option<u64> {
    view.get::<Counter>("tests", name).expect("readable").map(|counter| counter.value)
}

/// All counters in a view, by name.
pub(crate) fn values(view: &View) -> BTreeMap<String, u64> {
    let counters = view.list_all::<Counter>().expect("readable");
    counters.into_iter().map(|counter| (counter.name.clone(), counter.value)).collect()
}

/// Adds one; answers the new value.
pub(crate) fn increment(tx: &mut Tx<'_>, name: &str) -> Result<u64, String> {
    let now = tx.get::<Counter>("tests", name).map_err(|error| error.to_string())?;
    let value = now.map_or(0, |counter| counter.value) + 1;
    tx.put(&Counter::new(name, value));
    Ok(value)
}

/// The members of a test's cluster; they need not all run.
pub(crate) struct Cluster {
    identity: Identity,
    founders: BTreeMap<u64, ManagerNode>,
    dirs: BTreeMap<u64, TempDir>,
    running: BTreeMap<u64, Node>,
    lease_reads: bool,
}

/// A running replica.
struct Node {
    replica: Replica,
    runtime: Runtime,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, node) in std::mem::take(&mut self.running) {
            // A runtime must not be waited for where others run.
            node.runtime.shutdown_background();
        }
    }
}

impl Cluster {
    /// Three replicas that have founded a cluster and know a leader.
    pub(crate) async fn founded() -> Cluster {
        Cluster::of_three().await.found().await
    }

    /// The same, and their readers trust the leader's lease.
    #[allow(dead_code, reason = "not every test program does")]
    pub(crate) async fn founded_with_leases() -> Cluster {
        let mut cluster = Cluster::of_three().await;
        cluster.lease_reads = true;
        cluster.found().await
    }

    async fn found(mut self) -> Cluster {
        let cluster = &mut self;
        for node in 1..=3 {
            cluster.start(node).await;
        }
        let founding = [1, 2, 3].map(|node| cluster.on(node, |replica| async move { replica.found().await }));
        for founded in futures::future::join_all(founding).await {
            founded.expect("founded");
        }
        cluster.leader().await;
        self
    }

    /// Three replicas-to-be, none of them started.
    pub(crate) async fn of_three() -> Cluster {
        let mut founders = BTreeMap::new();
        let mut dirs = BTreeMap::new();
        for node in 1..=3_u64 {
            // Clients dial from 127.0.0.1, so none of their ports is ever one of these.
            let listener = TcpListener::bind(format!("127.0.0.{}:0", node + 1)).await.expect("bound");
            let peer_address = listener.local_addr().expect("bound").to_string();
            let api_url = format!("https://{peer_address}");
            founders.insert(node, ManagerNode { name: format!("m{node}"), peer_address, api_url });
            dirs.insert(node, tempfile::tempdir().expect("a folder"));
        }
        let identity = Identity::create(CLUSTER, 1, &[]).expect("created");
        Cluster { identity, founders, dirs, running: BTreeMap::new(), lease_reads: false }
    }

    /// Starts a replica on its folder and serves its peer port.
    pub(crate) async fn start(&mut self, node: u64) {
        let identity = self.identity.for_manager(node, &[]).expect("issued");
        let address: SocketAddr = self.founders[&node].peer_address.parse().expect("an address");
        let config = || self.config(node);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let deadline = Instant::now() + DEADLINE;
        // The folder is free once the last piece of work of the node's earlier life has ended.
        let replica = loop {
            match runtime.spawn(Replica::start(config())).await.expect("no panic") {
                Ok(replica) => break replica,
                Err(StartError::Storage(error)) if Instant::now() < deadline => {
                    assert!(error.to_string().contains("in use"), "starting node {node}: {error}");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => panic!("starting node {node}: {error}"),
            }
        };
        let serving = serve(address, identity, replica.clone());
        runtime.spawn(serving).await.expect("no panic");
        self.running.insert(node, Node { replica, runtime });
    }

    /// What a replica is started with.
    pub(crate) fn config(&self, node: u64) -> ReplicaConfig {
        let identity = self.identity.for_manager(node, &[]).expect("issued");
        let tls = pki::manager_client_config(&identity).expect("a configuration");
        ReplicaConfig {
            cluster: CLUSTER.into(),
            node,
            dir: self.dirs[&node].path().to_owned(),
            founders: self.founders.clone(),
            channels: PeerChannels::new(tls, CLUSTER, node),
            timing: Timing::Lan,
            lease_reads: self.lease_reads,
        }
    }

    /// The store of a replica that does not run, to be changed behind its back.
    #[allow(dead_code, reason = "not every test program changes one")]
    pub(crate) async fn store(&self, node: u64) -> Store {
        let identity = skep_storage::Identity { cluster: CLUSTER.into(), node };
        eventually("the folder is free", || async { Store::open(self.dirs[&node].path(), &identity) }).await
    }

    /// Ends a replica from one moment to the next.
    pub(crate) async fn kill(&mut self, node: u64) {
        let Node { replica, runtime } = self.running.remove(&node).expect("it runs");
        drop(replica);
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DEADLINE));
        ended.await.expect("no panic");
    }

    /// Takes everything from a replica that does not run.
    pub(crate) fn empty(&mut self, node: u64) {
        assert!(!self.running.contains_key(&node));
        self.dirs.insert(node, tempfile::tempdir().expect("a folder"));
    }

    /// Who runs.
    pub(crate) fn running(&self) -> Vec<u64> {
        self.running.keys().copied().collect()
    }

    /// Who runs and is not `node`.
    pub(crate) fn others(&self, node: u64) -> Vec<u64> {
        self.running.keys().copied().filter(|other| *other != node).collect()
    }

    /// Does something with a replica, in its own runtime. The future does not borrow the cluster, so a test can go
    /// on with it meanwhile.
    pub(crate) fn on<F, Fut>(
        &self,
        node: u64,
        work: F,
    ) -> impl Future<Output = Fut::Output> + Send + use<F, Fut>
    where
        F: FnOnce(Replica) -> Fut,
        Fut: Future<Output: Send> + Send + 'static,
    {
        let Node { replica, runtime } = &self.running[&node];
        let working = runtime.spawn(work(replica.clone()));
        async move { working.await.expect("no panic, and the node runs until this is done") }
    }

    /// Lets a rule decide at one replica.
    pub(crate) async fn transact<A>(
        &self,
        node: u64,
        request: Request,
        rule: impl FnMut(&mut Tx<'_>) -> Result<A, String> + Send + 'static,
    ) -> Result<Committed<A>, TransactError<String>>
    where
        A: Serialize + serde::de::DeserializeOwned + Send + 'static,
    {
        self.on(node, |replica| async move { transact(&replica, request, rule).await }).await
    }

    /// Writes a counter at one replica; answers the revision.
    pub(crate) async fn write(&self, node: u64, name: &str, value: u64) -> u64 {
        let counter = Counter::new(name, value);
        let written = self.transact(node, Request::new(), move |tx| {
            tx.put(&counter);
            Ok(())
        });
        written.await.unwrap_or_else(|error| panic!("writing {name} at node {node}: {error}")).revision
    }

    /// A linearizable view at one replica.
    pub(crate) async fn fresh(&self, node: u64) -> View {
        let view = self.on(node, |replica| async move { replica.fresh_view().await }).await;
        view.unwrap_or_else(|error| panic!("reading at node {node}: {error}"))
    }

    /// What one replica has applied so far.
    pub(crate) fn local(&self, node: u64) -> View {
        self.running[&node].replica.view()
    }

    /// Waits until one of the running replicas leads, as its scheduler would see it; answers it with its term.
    pub(crate) async fn leader(&self) -> (u64, u64) {
        let leads = self.running.iter().map(|(node, running)| {
            let _inside = running.runtime.enter();
            (*node, running.replica.leadership())
        });
        let leads: Vec<_> = leads.collect();
        let highest =
            || leads.iter().filter_map(|(node, term)| Some((term.borrow().as_ref().copied()?, *node))).max();
        let leader =
            eventually("one leads", || async { highest().ok_or_else(|| format!("{leads:?}")) }).await;
        (leader.1, leader.0)
    }

    /// Waits until a replica has applied a revision.
    pub(crate) async fn reached(&self, node: u64, revision: u64) {
        eventually(&format!("node {node} has applied {revision}"), || async {
            let at = self.local(node).revision();
            if at >= revision { Ok(()) } else { Err(at) }
        })
        .await;
    }
}

/// Waits for a condition; if it does not come true, the test fails with what was seen last.
pub(crate) async fn eventually<T, S: Debug, Fut>(what: &str, mut look: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Result<T, S>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(state) => {
                assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}; last: {state:?}")
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn serve(address: SocketAddr, identity: Identity, replica: Replica) {
    let listener = eventually("the port is free", || TcpListener::bind(address)).await;
    let tls = pki::peer_server_config(&identity).expect("a configuration");
    let (managers, connections) = mpsc::channel::<std::io::Result<ManagerConnection>>(16);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, managers) = (tls.clone(), managers.clone());
            tokio::spawn(async move {
                if let Ok(Accepted::Manager(connection)) = accept(tls, tcp, CLUSTER).await {
                    let _ = managers.send(Ok(connection)).await;
                }
            });
        }
    });
    tokio::spawn(
        peer_server()
            .add_service(RaftService::server(replica))
            .serve_with_incoming(ReceiverStream::new(connections)),
    );
}
