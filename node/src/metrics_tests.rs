//! What a manager shows, compared with what is written about it: the reference, the alert rules, the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use skep_ledger::Ledger;
use skep_raft::{ManagerNode, ReplicaConfig, Timing};
use skep_wire::channels::PeerChannels;
use skep_wire::pki::{self, Identity};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::*;
use crate::events::Registrar;

/// What a manager of a cluster of one shows.
async fn shown(dir: &Path) -> String {
    let identity = Identity::create("c1", 1, &[]).expect("an identity");
    let client = pki::manager_client_config(&identity).expect("a configuration");
    let channels = PeerChannels::new(client, "c1", 1);
    let me = ManagerNode { name: "m1".into(), ..ManagerNode::default() };
    let config = ReplicaConfig {
        cluster: "c1".into(),
        node: 1,
        dir: dir.to_owned(),
        founders: BTreeMap::from([(1, me)]),
        channels: channels.clone(),
        timing: Timing::Lan,
        lease_reads: false,
    };
    let replica = Replica::start(config).await.expect("starts");
    replica.found().await.expect("founds");
    let ledger: Arc<dyn Ledger> = Arc::new(replica.clone());
    let registrar = Registrar::new(ledger.clone(), identity, "m1").expect("a registrar");
    let hub = Hub::new(1, channels, Arc::new(registrar), watch::Sender::new(vec![]).subscribe());
    ledger.fresh_view().await.expect("leads");
    let certificates: CertificateExpiries = Arc::new(|| vec![("manager".into(), 7)]);
    let metrics = Metrics::new(ledger).with(Figures::new(replica.clone(), hub, certificates));
    let request = Request::get("/metrics").body(Body::empty()).expect("a request");
    let answer = Arc::new(metrics).router().oneshot(request).await.expect("answers");
    let bytes = to_bytes(answer.into_body(), usize::MAX).await.expect("is read");
    replica.shutdown().await;
    String::from_utf8(bytes.to_vec()).expect("is text")
}

fn repository(file: &str) -> String {
    let path =
        PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests")).join("..").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every word that looks like one of our names.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("skep_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_what_the_documents_say() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = shown(dir.path()).await;
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let ending = |kind: &str| if kind == "counter" { "_total" } else { "" };
    let kinds: BTreeMap<String, &str> =
        kinds.map(|(name, kind)| (format!("{name}{}", ending(kind)), kind)).collect();

    let page = repository("docs/reference/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let explained: BTreeMap<String, &str> =
        rows.map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap_or_default())).collect();
    assert_eq!(explained, kinds, "docs/reference/metrics.md, against what is shown");

    let known = |name: &str| {
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
        kinds.contains_key(name) || family.is_some_and(|name| kinds.get(name) == Some(&"histogram"))
    };
    for file in ["deploy/monitoring/alerts.yml", "deploy/monitoring/grafana.json", "docs/how-to/monitor.md"] {
        let text = repository(file);
        let unknown: Vec<_> = names(&text).into_iter().filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "{file} names what no manager shows: {unknown:?}");
    }
    for sample in [
        "skep_raft_state{state=\"leader\"} 1",
        "skep_cluster_voters 1",
        "skep_cluster_failure_tolerance 0",
        "skep_cert_expiry_timestamp_seconds{kind=\"manager\"} 7",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} in\n{text}");
    }
    let syncs = text.lines().find_map(|line| line.strip_prefix("skep_raft_fsync_duration_seconds_count "));
    assert!(syncs.and_then(|count| count.parse::<u64>().ok()) > Some(0), "{text}");
}

#[test]
fn every_alert_has_its_section() {
    let (alerts, page) = (repository("deploy/monitoring/alerts.yml"), repository("docs/how-to/monitor.md"));
    let after = |start: &'static str| {
        alerts.lines().filter_map(move |line| line.trim().strip_prefix(start)).collect::<Vec<_>>()
    };
    let (named, links) = (after("- alert: "), after("runbook: "));
    assert!(named.len() > 5 && named.len() == links.len());
    for (alert, link) in named.iter().zip(links) {
        assert!(page.contains(&format!("\n### {alert}\n")), "{alert} has no section");
        assert_eq!(link, format!("docs/how-to/monitor.md#{}", alert.to_lowercase()));
    }
}
