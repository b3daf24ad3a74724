//! What a manager shows of itself besides its doors: Raft, its store, the cluster as it sees it, its agents.
//!
//! Everything is read when somebody asks; nothing here runs beside the work. Each name has its paragraph in
//! `docs/reference/metrics.md`, and a test compares the two.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use skep_api::Metrics;
use skep_hub::Hub;
use skep_raft::{Distribution, Replica, STATES};
use skep_wire::pki::LiveIdentity;
use tokio::net::TcpListener;

use crate::ports;

/// A database larger than this is worth a person's attention: 100 000 objects take some hundred MiB.
const DATABASE_BYTES_ALARM: u64 = 4 * 1024 * 1024 * 1024;

/// Between two looks at the size of the database.
const SIZE_LOOK_EVERY: Duration = Duration::from_secs(60);

/// When certificates end: which one, and the moment in seconds since 1970.
type CertificateExpiries = Arc<dyn Fn() -> Vec<(String, i64)> + Send + Sync>;

/// Where the figures come from.
struct Figures {
    replica: Replica,
    hub: Hub,
    leader_changes: Arc<AtomicU64>,
    certificates: CertificateExpiries,
}

impl Figures {
    fn new(replica: Replica, hub: Hub, certificates: CertificateExpiries) -> Figures {
        let leader_changes = replica.leader_changes();
        Figures { replica, hub, leader_changes, certificates }
    }

    fn raft(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let vitals = self.replica.vitals();
        let states = STATES.iter().map(|state| (*state, i64::from(*state == vitals.state)));
        family(encoder, "skep_raft_state", "What the replica is: 1 for one of the states", "state", states)?;
        gauge(encoder, "skep_raft_term", "The current term", vitals.term)?;
        gauge(encoder, "skep_raft_commit_index", "The newest committed entry", vitals.commit_index)?;
        gauge(encoder, "skep_raft_applied_index", "The newest applied entry", vitals.applied_index)?;
        let lags = vitals.peers.iter().map(|peer| (peer.name.as_str(), whole(peer.lag_entries)));
        let help = "On the leader: entries that another manager is behind";
        family(encoder, "skep_raft_peer_lag_entries", help, "peer", lags)?;
        let help = "On the leader: since when another manager has not answered";
        let contacts = vitals.peers.iter().filter_map(|peer| Some((peer.name.as_str(), peer.last_contact?)));
        let contacts = contacts.map(|(name, age)| (name, age.as_secs_f64()));
        family(encoder, "skep_raft_peer_last_contact_seconds", help, "peer", contacts)?;
        let changes = self.leader_changes.load(Ordering::Relaxed);
        let help = "How often another manager became the leader";
        let counter = ConstCounter::new(changes);
        counter.encode(encoder.encode_descriptor(
            "skep_raft_leader_changes",
            help,
            None,
            MetricType::Counter,
        )?)?;
        gauge(encoder, "skep_cluster_voters", "Managers that vote", vitals.voters as u64)?;
        let help = "How many more managers may fail; only the leader says";
        let metric =
            encoder.encode_descriptor("skep_cluster_failure_tolerance", help, None, MetricType::Gauge)?;
        match vitals.failure_tolerance {
            Some(more) => ConstGauge::new(whole(more as u64)).encode(metric),
            None => Ok(()),
        }
    }

    fn store(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let meters = self.replica.storage_meters();
        let help = "From handing entries to the store until they are durable";
        histogram(encoder, "skep_raft_append_duration_seconds", help, &meters.append.distribution())?;
        let help = "Syncs of the write-ahead log";
        histogram(encoder, "skep_raft_fsync_duration_seconds", help, &meters.sync.distribution())?;
        let sizes = match self.replica.storage_sizes() {
            Ok(sizes) => sizes,
            // The other figures are all the more wanted then.
            Err(error) => {
                tracing::warn!(%error, "the store could not be measured for the metrics");
                return Ok(());
            }
        };
        gauge(encoder, "skep_storage_database_bytes", "All files of the database", sizes.database_bytes)?;
        gauge(encoder, "skep_storage_wal_bytes", "The write-ahead log", sizes.wal_bytes)?;
        gauge(encoder, "skep_storage_log_entries", "Entries of the log that are kept", sizes.log_entries)?;
        let at = sizes.snapshot_at.map_or(0, seconds);
        gauge(
            encoder,
            "skep_raft_last_snapshot_timestamp_seconds",
            "When the last snapshot was made; 0: never",
            at,
        )
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let version = [(env!("CARGO_PKG_VERSION"), 1)];
        family(&mut encoder, "skep_build_info", "The program's version; always 1", "version", version)?;
        self.raft(&mut encoder)?;
        self.store(&mut encoder)?;
        let agents = self.hub.local_hosts().len() as u64;
        gauge(&mut encoder, "skep_agent_connections", "Agents that are connected to this manager", agents)?;
        let expiries = (self.certificates)();
        let expiries = expiries.iter().map(|(kind, at)| (kind.as_str(), *at));
        let help = "When a certificate of this manager ends";
        family(&mut encoder, "skep_cert_expiry_timestamp_seconds", help, "kind", expiries)
    }
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

/// Puts everything together that this manager shows; serves it without a token too, if there is a listener.
pub(crate) fn serve(
    listener: Option<TcpListener>,
    replica: &Replica,
    hub: &Hub,
    live: &LiveIdentity,
) -> Arc<Metrics> {
    let live = live.clone();
    let certificates: CertificateExpiries = Arc::new(move || {
        // One that cannot be read is told of where it is renewed.
        let expiries = live.certificate_expiries().unwrap_or_default();
        expiries.into_iter().map(|expiry| (expiry.kind.to_owned(), expiry.at)).collect()
    });
    let figures = Figures::new(replica.clone(), hub.clone(), certificates);
    let metrics = Arc::new(Metrics::new(Arc::new(replica.clone())).with(figures));
    tokio::spawn(watch_size(replica.clone()));
    if let Some(listener) = listener {
        ports::serve_metrics(listener, metrics.clone().router());
    }
    metrics
}

/// Says in the log when the database has become too large, once each time.
async fn watch_size(replica: Replica) {
    let mut told = false;
    loop {
        let sizes = replica.storage_sizes();
        let bytes = sizes.map_or(0, |sizes| sizes.database_bytes);
        let alarming = bytes > DATABASE_BYTES_ALARM;
        if alarming && !told {
            tracing::error!(
                bytes,
                limit_bytes = DATABASE_BYTES_ALARM,
                "the database is larger than a cluster should need: see what writes so much, or take a snapshot"
            );
        }
        told = alarming;
        tokio::time::sleep(SIZE_LOOK_EVERY).await;
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(whole(value)).encode(metric)
}

fn family<'a, N>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (&'a str, N)>,
) -> fmt::Result
where
    ConstGauge<N>: prometheus_client::encoding::EncodeMetric,
{
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (which, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&[(label, which)])?)?;
    }
    Ok(())
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    seen: &Distribution,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(seen.sum_seconds, seen.count, &seen.classes, None)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
