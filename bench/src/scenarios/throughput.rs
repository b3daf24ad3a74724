//! Workloads in alternating rounds: how many requests are answered, and how soon (P1, P2, P3).

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Effort, MEMBERS, WARM_UP};
use crate::chart::Bar;
use crate::etcd::Etcd;
use crate::load::{Client, Fleet, KEYS, KeyClient, Round, Work, fill};
use crate::random::Random;
use crate::report::{Finding, Report, rounds};
use crate::skep::{Skep, TemplateWriter};
use crate::statistics::{ratio, rounded};
use crate::system::{Clients, Cluster, Freshness};

/// Which members are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Leader,
    Follower,
    All,
}

/// Through which of Skep's doors. etcd has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Grpc,
    Rest,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    PerSecond,
    /// Theirs over ours, so that more is better here too.
    P50,
}

/// One workload.
struct Workload {
    id: &'static str,
    label: &'static str,
    door: Door,
    work: Work,
    place: Place,
    clients: usize,
    value_bytes: usize,
    by: By,
    /// The ratio that is wanted; without one it is only told.
    target: Option<f64>,
}

const LINEARIZABLE: Work = Work::Read(Freshness::Linearizable);
const STALE: Work = Work::Read(Freshness::Stale);
const MIXED: Work = Work::Mixed { writes_percent: 10 };

const fn writes(id: &'static str, label: &'static str, clients: usize, value_bytes: usize) -> Workload {
    let (door, work, place, by) = (Door::Grpc, Work::Write, Place::Leader, By::PerSecond);
    Workload { id, label, door, work, place, clients, value_bytes, by, target: Some(1.0) }
}

const fn reads(label: &'static str, work: Work, place: Place, target: Option<f64>) -> Workload {
    Workload { work, place, target, ..writes("P3", label, 64, 256) }
}

/// In the order of the report.
const WORKLOADS: &[Workload] = &[
    writes("P1", "durable write, 1 client, 256 B", 1, 256),
    writes("P1", "durable write, 64 clients, 256 B", 64, 256),
    writes("P1", "durable write, 256 clients, 256 B", 256, 256),
    writes("P1", "durable write, 64 clients, 1 KiB", 64, 1024),
    Workload { target: None, ..writes("P1", "durable write, 1 client, 1 KiB", 1, 1024) },
    Workload { target: None, ..writes("P1", "durable write, 256 clients, 1 KiB", 256, 1024) },
    Workload {
        place: Place::Follower,
        target: None,
        ..writes("P1", "durable write to a follower, 1 client", 1, 256)
    },
    Workload {
        place: Place::All,
        target: None,
        ..writes("P1", "durable write to all three, 64 clients", 64, 256)
    },
    Workload { door: Door::Rest, target: Some(0.7), ..writes("P2", "REST write, 1 client", 1, 256) },
    Workload { door: Door::Rest, target: Some(0.7), ..writes("P2", "REST write, 64 clients", 64, 256) },
    Workload { door: Door::Rest, target: Some(0.7), ..writes("P2", "REST write, 256 clients", 256, 256) },
    reads("linearizable read, leader, 64 clients", LINEARIZABLE, Place::Leader, Some(1.2)),
    reads("linearizable read, follower, 64 clients", LINEARIZABLE, Place::Follower, Some(1.2)),
    reads("linearizable read, all three, 64 clients", LINEARIZABLE, Place::All, Some(1.2)),
    reads("stale read, one member, 64 clients", STALE, Place::Follower, Some(1.0)),
    reads("stale read, all three, 64 clients", STALE, Place::All, Some(1.0)),
    Workload {
        clients: 1,
        by: By::P50,
        ..reads("p50 of a linearizable read, follower, 1 client", LINEARIZABLE, Place::Follower, Some(1.0))
    },
    reads("90 % reads, 10 % writes, all three, 64 clients", MIXED, Place::All, None),
];

/// What the mixed workload is compared with in the chart, although nothing is demanded of it.
const AS_FAST: f64 = 1.0;

/// Both clusters, filled.
pub(crate) struct Arena<'a> {
    pub(crate) skep: &'a mut Cluster<Skep>,
    pub(crate) etcd: &'a mut Cluster<Etcd>,
    pub(crate) effort: Effort,
}

/// One workload as it went.
struct Comparison {
    label: &'static str,
    target: Option<f64>,
    ratio: f64,
    detail: Value,
}

impl Arena<'_> {
    /// Gives both the keys that will be read and overwritten.
    pub(crate) async fn fill(&mut self) -> Result<()> {
        let value = value(256);
        let leader = self.etcd.settled().await?;
        fill(&connected(&self.etcd.clients, 64, |_| leader).await?, KEYS, &value).await?;
        let leader = self.skep.settled().await?;
        fill(&connected(&self.skep.clients, 64, |_| leader).await?, KEYS, &value).await
    }

    /// Runs the workloads of a target whose labels contain `named`. `more` goes into the detail of the finding.
    pub(crate) async fn measure(&mut self, id: &'static str, named: &str, report: &mut Report, more: Value) {
        let mut compared = vec![];
        let every = self.effort.every_workload;
        let wanted = |workload: &&Workload| workload.target.is_some() || workload.work == MIXED || every;
        let ours = |workload: &&Workload| workload.id == id && workload.label.contains(named);
        for workload in WORKLOADS.iter().filter(ours).filter(wanted) {
            match self.compare(workload).await.with_context(|| workload.label.to_owned()) {
                Ok(comparison) => compared.push(comparison),
                Err(error) => return report.add(Finding::failed(id, &error)),
            }
        }
        for comparison in &compared {
            let target = comparison.target.unwrap_or(AS_FAST);
            report.bar(Bar { label: comparison.label.to_owned(), ratio: comparison.ratio, target });
        }
        report.add(finding(id, &compared, more));
    }

    async fn compare(&mut self, workload: &Workload) -> Result<Comparison> {
        let leader = self.etcd.settled().await?;
        let theirs = key_clients(&self.etcd.clients, workload, leader).await?;
        let leader = self.skep.settled().await?;
        let (ours, theirs) = match workload.door {
            Door::Grpc => {
                let ours = key_clients(&self.skep.clients, workload, leader).await?;
                self.alternate(ours, theirs).await?
            }
            Door::Rest => {
                let mut ours = vec![];
                for client in 0..workload.clients {
                    let rest = self.skep.clients.connect_rest(workload.place.member(leader, client)).await?;
                    ours.push(TemplateWriter::new(rest));
                }
                self.alternate(ours, theirs).await?
            }
        };
        let compared = workload.by.compare(&ours, &theirs);
        let ratio = compared.context("there were no rounds")?;
        let (our, their) = (rounds(&ours), rounds(&theirs));
        told(workload.label, ratio, &our, &their);
        let detail = json!({ "workload": workload.label, "ratio": rounded(ratio, 3), "target": workload.target,
            "compared_by": format!("{:?}", workload.by), "skep": our, "etcd": their });
        Ok(Comparison { label: workload.label, target: workload.target, ratio, detail })
    }

    /// Each goes first as often as the other.
    async fn alternate(
        &self,
        ours: Vec<impl Client>,
        theirs: Vec<impl Client>,
    ) -> Result<(Vec<Round>, Vec<Round>)> {
        let (mut ours, mut theirs) = (Fleet::new(ours), Fleet::new(theirs));
        let (mut our_rounds, mut their_rounds) = (vec![], vec![]);
        theirs.round(WARM_UP).await.context("etcd")?;
        ours.round(WARM_UP).await.context("Skep")?;
        for number in 0..self.effort.rounds {
            if number % 2 == 1 {
                our_rounds.push(ours.round(self.effort.round).await.context("Skep")?);
            }
            their_rounds.push(theirs.round(self.effort.round).await.context("etcd")?);
            if number % 2 == 0 {
                our_rounds.push(ours.round(self.effort.round).await.context("Skep")?);
            }
        }
        Ok((our_rounds, their_rounds))
    }
}

/// The heading of the lines that follow.
pub(crate) fn heading() {
    let (what, ratio) = ("requests per second; latencies in ms, each Skep etcd", "ratio");
    println!("  {what:<52} {:>8} {:>8} {ratio:>6} {:>16} {:>16}", "Skep", "etcd", "p50", "p99");
}

fn told(label: &str, ratio: f64, our: &Value, their: &Value) {
    let pair = |field: &str| format!("{} {}", our[field], their[field]);
    let per_second = |of: &Value| of["per_second"].as_f64().unwrap_or_default();
    println!(
        "  {label:<52} {:>8.0} {:>8.0} {ratio:>6.2} {:>16} {:>16}",
        per_second(our),
        per_second(their),
        pair("p50_ms"),
        pair("p99_ms")
    );
}

impl Place {
    fn member(self, leader: usize, client: usize) -> usize {
        match self {
            Place::Leader => leader,
            Place::Follower => (leader + 1) % MEMBERS,
            Place::All => client % MEMBERS,
        }
    }
}

impl By {
    fn compare(self, ours: &[Round], theirs: &[Round]) -> Option<f64> {
        let of = |rounds: &[Round], field: fn(&Round) -> f64| rounds.iter().map(field).collect::<Vec<_>>();
        match self {
            By::PerSecond => {
                ratio(&of(ours, |round| round.per_second), &of(theirs, |round| round.per_second))
            }
            By::P50 => ratio(&of(theirs, |round| round.p50_ms), &of(ours, |round| round.p50_ms)),
        }
    }
}

/// A target is met if each of its workloads meets it; what is told is the one that is nearest to missing it.
fn finding(id: &'static str, compared: &[Comparison], mut more: Value) -> Finding {
    let demanded = compared.iter().filter_map(|comparison| Some((comparison.ratio, comparison.target?)));
    let worst = demanded.clone().min_by(|one, other| (one.0 / one.1).total_cmp(&(other.0 / other.1)));
    more["workloads"] = compared.iter().map(|comparison| comparison.detail.clone()).collect();
    Finding {
        id,
        measured: worst.map_or(Value::Null, |(ratio, _)| json!(rounded(ratio, 3))),
        target: worst.map_or(Value::Null, |(_, target)| json!(target)),
        pass: demanded.clone().count() > 0 && demanded.clone().all(|(ratio, target)| ratio >= target),
        detail: more,
    }
}

async fn key_clients<C: Clients>(
    clients: &C,
    workload: &Workload,
    leader: usize,
) -> Result<Vec<KeyClient<C::Session>>> {
    let sessions =
        connected(clients, workload.clients, |client| workload.place.member(leader, client)).await?;
    let value = value(workload.value_bytes);
    Ok(sessions.into_iter().map(|session| KeyClient::new(session, workload.work, value.clone())).collect())
}

/// A connection per client.
pub(crate) async fn connected<C: Clients>(
    clients: &C,
    count: usize,
    member: impl Fn(usize) -> usize,
) -> Result<Vec<C::Session>> {
    let mut sessions = Vec::with_capacity(count);
    for client in 0..count {
        sessions.push(clients.connect(member(client)).await?);
    }
    Ok(sessions)
}

/// A value that no compression makes smaller.
pub(crate) fn value(bytes: usize) -> Bytes {
    Random::seeded(bytes as u64).bytes(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(ratio: f64, target: Option<f64>) -> Comparison {
        Comparison { label: "x", target, ratio, detail: json!({ "ratio": ratio }) }
    }

    fn round(per_second: f64, p50_ms: f64) -> Round {
        Round { per_second, p50_ms, p99_ms: p50_ms, answered: 1 }
    }

    #[test]
    fn a_target_is_missed_if_one_of_its_workloads_misses_it() {
        let told = comparison(0.1, None);
        let compared = [comparison(1.1, Some(1.0)), told, comparison(1.1, Some(1.2))];
        let missed = finding("P3", &compared, json!({}));
        assert_eq!((missed.measured, missed.target, missed.pass), (json!(1.1), json!(1.2), false));
        assert_eq!(missed.detail["workloads"].as_array().map(Vec::len), Some(3));
        assert!(finding("P3", &compared[..2], json!({})).pass);
    }

    #[test]
    fn more_is_better_also_where_latencies_are_compared() {
        let (ours, theirs) = ([round(300.0, 0.1)], [round(100.0, 0.2)]);
        assert_eq!(By::PerSecond.compare(&ours, &theirs), Some(3.0));
        assert_eq!(By::P50.compare(&ours, &theirs), Some(2.0));
    }

    #[test]
    fn every_demanded_target_has_workloads() {
        for id in ["P1", "P2", "P3"] {
            assert!(WORKLOADS.iter().any(|workload| workload.id == id && workload.target.is_some()), "{id}");
        }
    }

    #[test]
    fn a_follower_is_never_the_leader_and_all_are_asked_evenly() {
        assert!((0..MEMBERS).all(|leader| Place::Follower.member(leader, 0) != leader));
        let asked: std::collections::BTreeSet<_> =
            (0..6).map(|client| Place::All.member(1, client)).collect();
        assert_eq!(asked.len(), MEMBERS);
    }
}
