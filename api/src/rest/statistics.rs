//! How busy a host was in the last hour, fetched from its agent when somebody asks.
//!
//! Nothing of it is stored at a manager, so any manager answers, also while the managers have no leader: that is when people
//! ask.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_hub::{AskError, ContainerSeries, HostSeries, Series, Statistics};
use skep_ledger::View;
use skep_model::host::Host;
use skep_model::{environment, host};
use skep_wire::proto::agent::StatisticsRequest;
use skep_wire::statistics::SAMPLE_INTERVAL;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::extract::{Consistency, Params, Place, Reference, Within};
use crate::problem::{Code, Problem, Refused, Reply};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(stats))
}

/// What is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Only samples later than this time, as one of `at` of the answer before.
    since: Option<Timestamp>,
    /// Whether the containers of the host are told as well.
    #[serde(default = "yes")]
    #[param(required = false, default = true)]
    containers: bool,
    /// How fresh the knowledge must be of which host is meant. By default as fresh as possible, which without a leader is what
    /// the answering manager knows.
    #[serde(default)]
    #[param(inline, required = false)]
    consistency: Consistency,
}

fn yes() -> bool {
    true
}

/// How busy a host was in the last hour. All series have one value for each time in `at`; null is a gap: the value is not
/// known, which does not mean zero.
#[derive(Debug, Serialize, ToSchema)]
struct HostStatistics {
    #[schema(example = "HostStatistics")]
    kind: &'static str,
    /// The host's name.
    host: String,
    /// The environment's name.
    environment: String,
    /// How often samples are taken. Agents keep one hour; a restarted agent begins anew.
    interval_seconds: u64,
    /// When samples were taken, oldest first, by the host's clock.
    at: Vec<Timestamp>,
    /// The host itself.
    series: HostStatisticsSeries,
    /// Its containers, also those that ended in the last hour.
    containers: Vec<ContainerStatistics>,
    /// Running containers of which nothing is kept, because there are more than 200.
    containers_left_out: u32,
}

/// The host itself.
#[derive(Debug, Serialize, ToSchema)]
struct HostStatisticsSeries {
    /// Share of all processors together: 100 is all of them.
    cpu_percent: Vec<Option<f64>>,
    /// Memory that is neither free nor could be freed at once.
    memory_used_bytes: Vec<Option<u64>>,
    /// Memory that there is.
    memory_total_bytes: Vec<Option<u64>>,
    /// What cannot be written any more on the file system with Docker's data.
    disk_used_bytes: Vec<Option<u64>>,
    /// How large that file system is.
    disk_total_bytes: Vec<Option<u64>>,
    /// Over all interfaces that leave the host.
    network_received_bytes_per_second: Vec<Option<u64>>,
    /// Over all interfaces that leave the host.
    network_sent_bytes_per_second: Vec<Option<u64>>,
}

/// A container of the host.
#[derive(Debug, Serialize, ToSchema)]
struct ContainerStatistics {
    /// Docker's id of it.
    id: String,
    /// Its name.
    name: String,
    /// The swarm service that it belongs to.
    service: Option<String>,
    /// The swarm task that it is.
    task: Option<String>,
    /// The memory that it may use; that of the host if nothing else was said.
    memory_limit_bytes: Option<u64>,
    series: ContainerStatisticsSeries,
}

/// How busy a container was.
#[derive(Debug, Serialize, ToSchema)]
struct ContainerStatisticsSeries {
    /// As `docker stats` counts: 100 is one whole processor.
    cpu_percent: Vec<Option<f64>>,
    /// Without file cache that could be freed at once, as `docker stats` counts.
    memory_used_bytes: Vec<Option<u64>>,
    /// Over all its networks; null if it has none of its own.
    network_received_bytes_per_second: Vec<Option<u64>>,
    /// Over all its networks; null if it has none of its own.
    network_sent_bytes_per_second: Vec<Option<u64>>,
}

/// Tells how busy a host and its containers were in the last hour.
///
/// The host's agent keeps a sample for every ten seconds and is asked when you ask; nothing of it is stored at the managers.
#[utoipa::path(get, path = "/v1/environments/{environment}/hosts/{host}/stats", operation_id = "host_stats",
    params(Asked, Within, ("host" = String, Path, description = "Its name or id")),
    responses((status = 200, body = HostStatistics, description = "What its agent has kept"), Refused))]
async fn stats(
    State(api): State<Api>,
    Place((environment, host)): Place<(Reference, Reference)>,
    Params(asked): Params<Asked>,
) -> Reply<Json<HostStatistics>> {
    let view = read(&api, asked.consistency).await?;
    let environment = environment::find(&view, &environment)?;
    let host = host::find(&view, &environment, &host)?;
    let since_ms = asked.since.map(|since| u64::try_from(since.as_millisecond()).unwrap_or_default());
    let request = StatisticsRequest { since_ms, host_only: !asked.containers };
    let statistics =
        api.parts.hub.statistics(host.id.as_str(), request).await.map_err(|error| unheard(&host, &error))?;
    Ok(Json(HostStatistics::new(&environment.name, &host, statistics)))
}

/// Without a leader the host is still there, and what is known of it is hardly out of date.
async fn read(api: &Api, consistency: Consistency) -> Reply<View> {
    match (consistency, api.read(consistency).await) {
        (Consistency::Default, Err(_)) => Ok(api.ledger().view()),
        (_, read) => read,
    }
}

fn unheard(host: &Host, error: &AskError) -> Box<Problem> {
    let detail = format!("host '{}' does not tell its statistics: {error}", host.name);
    let hint = match error.is_its_answer() {
        true => "update the agent on the host",
        false => "see how it is: skep host ls",
    };
    Problem::new(Code::EngineUnreachable, detail).hinting(hint)
}

impl HostStatistics {
    fn new(environment: &impl ToString, host: &Host, statistics: Statistics) -> HostStatistics {
        // A time that no calendar has can only come from a broken clock.
        let at = |time_ms: &i64| Timestamp::from_millisecond(*time_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        HostStatistics {
            kind: "HostStatistics",
            host: host.name.to_string(),
            environment: environment.to_string(),
            interval_seconds: SAMPLE_INTERVAL.as_secs(),
            at: statistics.times_ms.iter().map(at).collect(),
            series: HostStatisticsSeries::new(statistics.host),
            containers: statistics.containers.into_iter().map(ContainerStatistics::new).collect(),
            containers_left_out: statistics.containers_left_out,
        }
    }
}

impl HostStatisticsSeries {
    fn new(series: HostSeries) -> HostStatisticsSeries {
        HostStatisticsSeries {
            cpu_percent: percent(&series.cpu),
            memory_used_bytes: series.memory_used_bytes,
            memory_total_bytes: series.memory_total_bytes,
            disk_used_bytes: series.disk_used_bytes,
            disk_total_bytes: series.disk_total_bytes,
            network_received_bytes_per_second: series.received_bytes_per_second,
            network_sent_bytes_per_second: series.sent_bytes_per_second,
        }
    }
}

impl ContainerStatistics {
    fn new(container: ContainerSeries) -> ContainerStatistics {
        let said = |text: String| Some(text).filter(|text| !text.is_empty());
        ContainerStatistics {
            id: container.id,
            name: container.name,
            service: said(container.service),
            task: said(container.task),
            memory_limit_bytes: container.memory_limit_bytes,
            series: ContainerStatisticsSeries {
                cpu_percent: percent(&container.cpu),
                memory_used_bytes: container.memory_used_bytes,
                network_received_bytes_per_second: container.received_bytes_per_second,
                network_sent_bytes_per_second: container.sent_bytes_per_second,
            },
        }
    }
}

/// From hundredths of a percent.
fn percent(hundredths: &Series) -> Vec<Option<f64>> {
    hundredths.iter().map(|value| value.map(|value| value as f64 / 100.0)).collect()
}
