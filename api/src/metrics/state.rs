//! What the state and its watchers say, counted when somebody asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use skep_ledger::{Ledger, Revision, View};
use skep_model::environment::Environment;
use skep_model::host::Host;
use skep_model::operation::Operation;
use skep_model::{CLUSTER, Ruling};

use crate::rest::operation::OperationState;
use crate::watches::Watches;

/// Operations that have ended and are kept make no new label: workflows and states are closed lists.
type Counts = BTreeMap<(String, String), u64>;

/// Who follows changes, and who had to start over.
pub(super) struct Streams {
    watches: Watches,
    ledger: Arc<dyn Ledger>,
}

/// Operations and hosts by state.
pub(super) struct Objects {
    ledger: Arc<dyn Ledger>,
    /// Counted for this revision; whoever asks again before something has changed is answered from here.
    counted: Mutex<Option<(Revision, Arc<Counted>)>>,
}

#[derive(Default)]
struct Counted {
    operations: Counts,
    hosts: Counts,
    /// When the first certificate of a node ends, in seconds since 1970, by environment.
    certificates: BTreeMap<String, i64>,
}

impl Streams {
    pub(super) fn new(watches: Watches, ledger: Arc<dyn Ledger>) -> Streams {
        Streams { watches, ledger }
    }
}

impl Objects {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Objects {
        Objects { ledger, counted: Mutex::new(None) }
    }

    fn counted(&self) -> Ruling<Arc<Counted>> {
        let view = self.ledger.view();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((revision, known)) = &*counted
            && *revision == view.revision()
        {
            return Ok(known.clone());
        }
        let fresh = Arc::new(Counted {
            operations: operations(&view)?,
            hosts: hosts(&view)?,
            certificates: certificates(&view)?,
        });
        *counted = Some((view.revision(), fresh.clone()));
        Ok(fresh)
    }
}

fn operations(view: &View) -> Ruling<Counts> {
    let mut counts = Counts::new();
    for operation in view.list::<Operation>(CLUSTER)? {
        let state = OperationState::of(&operation).name();
        *counts.entry((state.to_owned(), operation.record.workflow)).or_default() += 1;
    }
    Ok(counts)
}

fn hosts(view: &View) -> Ruling<Counts> {
    let mut counts = Counts::new();
    for environment in view.list::<Environment>(CLUSTER)? {
        for host in view.list::<Host>(environment.id.as_str())? {
            *counts.entry((environment.name.to_string(), host.state().word.to_owned())).or_default() += 1;
        }
    }
    Ok(counts)
}

fn certificates(view: &View) -> Ruling<BTreeMap<String, i64>> {
    let mut first = BTreeMap::new();
    for environment in view.list::<Environment>(CLUSTER)? {
        let hosts = view.list::<Host>(environment.id.as_str())?;
        let ends =
            hosts.iter().filter_map(|host| host.swarm_certificate()).map(|validity| validity.to.as_second());
        first.extend(ends.min().map(|end| (environment.name.to_string(), end)));
    }
    Ok(first)
}

impl Collector for Streams {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Clients that follow changes at this manager";
        let mut streams = encoder.encode_descriptor("skep_watch_streams", help, None, MetricType::Gauge)?;
        for (kind, count) in self.watches.counts() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(streams.encode_family(&[("kind", kind)])?)?;
        }
        let meters = self.ledger.feed().meters();
        let help = "Watchers that had to start over";
        let mut resets = encoder.encode_descriptor("skep_watch_resets", help, None, MetricType::Counter)?;
        for (reason, count) in [
            ("history", meters.resets_history),
            ("slow", meters.resets_slow),
            ("replaced", meters.resets_replaced),
        ] {
            ConstCounter::new(count).encode(resets.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counted = self.counted().map_err(|error| {
            tracing::error!(%error, "the state could not be counted for the metrics");
            fmt::Error
        })?;
        for (name, help, labels, counts) in [
            ("skep_operations", "Operations that can be looked up", ("state", "type"), &counted.operations),
            ("skep_hosts", "Hosts", ("env", "state"), &counted.hosts),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for ((first, second), count) in counts {
                let labels = [(labels.0, first.as_str()), (labels.1, second.as_str())];
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "When the first certificate of a node of the swarm ends, in seconds since 1970";
        let name = "skep_swarm_cert_expiry_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (environment, end) in &counted.certificates {
            ConstGauge::new(*end).encode(family.encode_family(&[("env", environment.as_str())])?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}
