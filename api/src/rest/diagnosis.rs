//! Diagnoses: the hosts of an environment and the network between them, checked now by their agents.
//!
//! Nothing is stored and nothing is changed, so any manager answers, also while the managers have no leader: that is when
//! people ask.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use skep_hub::Patient;
use skep_model::doctor::{self, NodeSeen, Seen};
use skep_model::environment::{self, Environment};
use skep_model::host::Host;
use skep_model::ids::EnvironmentId;
use skep_model::{networks, nfs};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::extract::{Place, Reference, Within};
use crate::problem::{Code, Problem, Refused, Reply};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(diagnose))
}

/// What a check has found.
#[derive(Debug, Serialize, ToSchema)]
struct Diagnosis {
    #[schema(example = "Diagnosis")]
    kind: &'static str,
    /// The environment's name.
    environment: String,
    /// Packets of this size, with all headers, must pass for the environment's overlay networks.
    packet_bytes_needed: u32,
    /// Every host was checked with every other; otherwise with the swarm's managers and some neighbours.
    all_pairs: bool,
    /// The hosts that were asked.
    hosts: Vec<DiagnosedHost>,
    /// The ways that were tried, each in one direction.
    ways: Vec<DiagnosedWay>,
    /// What is wrong; errors first.
    findings: Vec<DiagnosisFinding>,
    /// What could not be found out.
    unchecked: Vec<DiagnosisGap>,
}

/// A host that was asked.
#[derive(Debug, Serialize, ToSchema)]
struct DiagnosedHost {
    /// Its name.
    name: String,
    /// Where the others reach it.
    address: String,
    /// Did its agent answer?
    reached: bool,
    /// The engine's version; null if the engine has not answered.
    engine_version: Option<String>,
    /// How far its clock is ahead of the manager's; null if it did not say.
    clock_ahead_ms: Option<i64>,
}

/// The way from one host to another.
#[derive(Debug, Serialize, ToSchema)]
struct DiagnosedWay {
    /// Who sent.
    from: String,
    /// To whom.
    to: String,
    /// Each port that a swarm needs there.
    ports: Vec<DiagnosedPort>,
    /// The largest packet that has arrived, with all headers; null if that was not measured.
    packet_bytes: Option<u32>,
}

/// One port of a way.
#[derive(Debug, Serialize, ToSchema)]
struct DiagnosedPort {
    /// Number and protocol.
    #[schema(example = "4789/udp")]
    port: String,
    /// Does it pass? Null if that could not be found out.
    passes: Option<bool>,
}

/// Something that is wrong.
#[derive(Debug, Serialize, ToSchema)]
struct DiagnosisFinding {
    /// Stable and never reused.
    #[schema(example = "SKF-205")]
    code: &'static str,
    /// The same for programs.
    #[schema(example = "OVERLAY_BLOCKED")]
    reason: &'static str,
    /// `error` or `warning`.
    severity: String,
    /// The host that it is about; for the network the one at which nothing arrives.
    host: String,
    /// For the network: the hosts from which nothing arrives there.
    from: Vec<String>,
    /// What was seen.
    seen: String,
    /// Where it comes from.
    cause: &'static str,
    /// What helps.
    fix: &'static str,
}

/// Something that could not be found out.
#[derive(Debug, Serialize, ToSchema)]
struct DiagnosisGap {
    /// The host.
    host: String,
    /// What of it.
    what: String,
    /// Why.
    why: String,
}

/// Environments that are being checked by this manager.
#[derive(Clone, Default)]
pub(crate) struct Running {
    environments: Arc<Mutex<BTreeSet<EnvironmentId>>>,
}

/// Keeps an environment's check the only one as long as it lives.
struct Alone {
    running: Running,
    environment: EnvironmentId,
}

impl Running {
    fn begin(&self, environment: &Environment) -> Reply<Alone> {
        let mut environments = self.environments.lock().unwrap_or_else(PoisonError::into_inner);
        if !environments.insert(environment.id.clone()) {
            let detail = format!("environment '{}' is being checked already", environment.name);
            return Err(Problem::new(Code::DiagnosisRunning, detail).hinting("ask again in a few seconds"));
        }
        Ok(Alone { running: self.clone(), environment: environment.id.clone() })
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let environments = self.running.environments.lock();
        environments.unwrap_or_else(PoisonError::into_inner).remove(&self.environment);
    }
}

/// Checks the hosts of an environment and the network between them.
///
/// Takes a few seconds. Every agent tells how its host is; then all of them send to each other at once, on the ports that
/// a swarm needs, and tell what has arrived. What an answering host lacks, or a silent one, is a finding and not an error.
#[utoipa::path(post, path = "/v1/environments/{environment}/actions/diagnose", operation_id = "diagnose_environment",
    params(Within),
    responses((status = 200, body = Diagnosis, description = "What was found"), Refused))]
async fn diagnose(State(api): State<Api>, Place(reference): Place<Reference>) -> Reply<Json<Diagnosis>> {
    // Without a leader the hosts are still there, and what is known of them is hardly out of date.
    let view = match api.ledger().fresh_view().await {
        Ok(view) => view,
        Err(_) => api.ledger().view(),
    };
    let environment = environment::find(&view, &reference)?;
    let _alone = api.diagnoses.begin(&environment)?;
    let stored = view.list::<Host>(environment.id.as_str())?;
    let mut hosts: Vec<Host> = stored.into_iter().map(|stored| stored.record).collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let (hosts, left_out): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| gap(host).is_none());

    let managers: Vec<bool> = hosts.iter().map(|host| host.is_swarm_manager()).collect();
    let ways = doctor::ways(&managers);
    let needed = u32::from(networks::made_for(&environment, &hosts).mtu);
    let patients: Vec<Patient> = hosts.iter().map(|host| patient(&environment, host)).collect();
    let encrypted = environment.options.encrypted;
    let diagnosed = api.parts.hub.diagnose(&patients, ways.targets, needed, encrypted).await;
    let mut report = Diagnosis::new(&environment, &diagnosed.seen, ways.complete);
    report.unchecked.extend(left_out.iter().filter_map(gap));
    Ok(Json(report))
}

/// Why a host cannot be checked yet, or any more.
fn gap(host: &Host) -> Option<DiagnosisGap> {
    let why = match &host.machine {
        _ if host.removal.is_some() => "it is being removed".to_owned(),
        _ if host.registration.is_none() => "its agent has not registered yet".to_owned(),
        None => "its address is not known yet".to_owned(),
        Some(machine) if machine.address.parse::<IpAddr>().is_err() => {
            format!("'{}' is no IP address", machine.address)
        }
        Some(_) => return None,
    };
    Some(DiagnosisGap { host: host.name.to_string(), what: "the host and its network".into(), why })
}

fn patient(environment: &Environment, host: &Host) -> Patient {
    Patient {
        id: host.id.to_string(),
        name: host.name.to_string(),
        address: host.machine.as_ref().map(|machine| machine.address.clone()).unwrap_or_default(),
        node: NodeSeen::of(host),
        too_narrow: doctor::too_narrow(host),
        nfs: nfs::trouble(environment, host),
    }
}

impl Diagnosis {
    fn new(environment: &Environment, seen: &Seen, all_pairs: bool) -> Diagnosis {
        let report = doctor::examine(seen);
        let name = |at: usize| seen.hosts[at].name.clone();
        let way = |way: doctor::WayReport| DiagnosedWay {
            from: name(way.from),
            to: name(way.to),
            ports: way.ports.iter().map(DiagnosedPort::new).collect(),
            packet_bytes: way.packet_bytes.map(|(arrived, _)| arrived),
        };
        let gap =
            |gap: doctor::Unchecked| DiagnosisGap { host: gap.host, what: gap.what.into(), why: gap.why };
        Diagnosis {
            kind: "Diagnosis",
            environment: environment.name.to_string(),
            packet_bytes_needed: seen.packet_bytes_needed,
            all_pairs,
            hosts: seen.hosts.iter().map(DiagnosedHost::new).collect(),
            ways: report.ways.into_iter().map(way).collect(),
            findings: report.findings.into_iter().map(DiagnosisFinding::new).collect(),
            unchecked: report.unchecked.into_iter().map(gap).collect(),
        }
    }
}

impl DiagnosedHost {
    fn new(host: &doctor::HostSeen) -> DiagnosedHost {
        let facts = host.facts.as_ref().ok();
        DiagnosedHost {
            name: host.name.clone(),
            address: host.address.clone(),
            reached: !matches!(host.facts, Err(doctor::Unsaid::Unreached(_))),
            engine_version: facts.and_then(|facts| facts.engine.clone().ok()),
            clock_ahead_ms: facts.map(|facts| facts.clock_ahead_ms),
        }
    }
}

impl DiagnosedPort {
    fn new(seen: &doctor::PortSeen) -> DiagnosedPort {
        DiagnosedPort { port: seen.port.to_string(), passes: seen.passes }
    }
}

impl DiagnosisFinding {
    fn new(finding: doctor::Finding) -> DiagnosisFinding {
        let kind = finding.kind;
        DiagnosisFinding {
            code: kind.code,
            reason: kind.reason,
            severity: kind.severity.to_string(),
            host: finding.host,
            from: finding.from,
            seen: finding.seen,
            cause: kind.cause,
            fix: kind.fix,
        }
    }
}
