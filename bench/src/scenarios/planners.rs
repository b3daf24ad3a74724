//! How long a pass of all planners takes (P10): the leader looks at everything after every change.
//!
//! Environments with a swarm each, everything well, as it is nearly always: then a pass must find out that there is nothing
//! to do. A pass reads the environments in which something has changed since the one before; managers that do not lead look as
//! well, so that the first pass of a new leader is like any other. Only the very first one of a process reads everything: that
//! is told, and is no pass that anybody waits for. The state is in this process's memory: reading it from the disk's cache is
//! left out.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skep_ledger::{Ledger as _, MemoryLedger, Request, Tx, transact};
use skep_model::environment::{self, EnvironmentWish};
use skep_model::fact::{self, Fact};
use skep_model::host::{self, Inventory, Machine, Membership, Role};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::operation::Active;
use skep_model::placement::Availability;
use skep_model::{CLUSTER, Ruling};
use skep_scheduler::plan::{self, Known, Picture};
use uuid::Uuid;

use crate::report::Finding;
use crate::statistics::{largest, median, rounded};

const PASS_MAX_MS: f64 = 50.0;

/// Passes whose median is told.
const PASSES: usize = 21;

/// Hosts written in one transaction; more would exceed its bounds.
const HOSTS_AT_ONCE: usize = 100;

const ENVIRONMENTS: usize = 20;

/// A thousand hosts altogether, and a thousand in each environment.
const HOSTS_PER_ENVIRONMENT: [usize; 2] = [50, 1_000];

/// P10.
pub(crate) async fn passes() -> Result<Finding> {
    let (mut medians, mut details) = (vec![], vec![]);
    for hosts in HOSTS_PER_ENVIRONMENT {
        let ledger = MemoryLedger::new();
        for number in 0..ENVIRONMENTS {
            write_environment(&ledger, number, hosts).await?;
        }
        let (mut first, mut later) = (vec![], vec![]);
        for round in 0..PASSES {
            let (took, known) = pass(&ledger, &Known::default())?;
            first.push(took);
            one_host_changes(&ledger, round).await?;
            later.push(pass(&ledger, &known)?.0);
        }
        medians.extend(median(&later));
        details.push(json!({
            "hosts": ENVIRONMENTS * hosts,
            "pass_that_reads_everything": told(&first),
            "pass_after_a_host_has_changed": told(&later),
        }));
    }
    let slowest = largest(&medians).context("no pass was timed")?;
    Ok(Finding {
        id: "P10",
        measured: json!({ "pass_ms": rounded(slowest, 1) }),
        target: json!({ "pass_ms": PASS_MAX_MS }),
        pass: slowest <= PASS_MAX_MS,
        detail: json!({ "environments": ENVIRONMENTS, "passes": details }),
    })
}

fn told(passes_ms: &[f64]) -> Value {
    let ms = |value: Option<f64>| value.map(|value| rounded(value, 2));
    json!({ "median_ms": ms(median(passes_ms)), "longest_ms": ms(largest(passes_ms)) })
}

/// Everything is decided in one pass, so nobody waits for a second one.
fn pass(ledger: &MemoryLedger, known: &Known) -> Result<(f64, Known)> {
    let began = Instant::now();
    let picture = Picture::after(known, ledger.view(), ledger.now())?;
    let decisions = plan::decide(&picture)?;
    let took = began.elapsed().as_secs_f64() * 1_000.0;
    ensure!(decisions.is_empty(), "everything is well, and yet: {}", decisions[0]);
    Ok((took, picture.into_known()))
}

/// Its agent has dialled again, for instance.
async fn one_host_changes(ledger: &MemoryLedger, round: usize) -> Result<()> {
    let (place, id) = (environment_id(round % ENVIRONMENTS), host_id(round % ENVIRONMENTS, 0));
    let session = format!("s{round}");
    change(ledger, |tx| {
        debug_assert!(tx.get::<host::Host>(place.as_str(), id.as_str())?.is_some());
        host::reported(tx, id.as_str(), "m2", &session, None, Ok(()))
    })
    .await
}

fn environment_id(number: usize) -> EnvironmentId {
    EnvironmentId::new(Uuid::from_u128(number as u128 + 1))
}

fn host_id(environment: usize, host: usize) -> HostId {
    HostId::new(Uuid::from_u128((environment * 1_000_000 + host + 1_000) as u128))
}

async fn write_environment(ledger: &MemoryLedger, number: usize, hosts: usize) -> Result<()> {
    let place = environment_id(number);
    let id = |host: usize| host_id(number, host);
    let wish = EnvironmentWish {
        id: place.clone(),
        operation: OperationId::new(Uuid::now_v7()),
        name: format!("env-{number}"),
        template: "default".into(),
        hosts: vec![],
        driver: "local".into(),
        options: Default::default(),
        change: Default::default(),
    };
    change(ledger, |tx| environment::wish(tx, &wish).map(drop)).await?;
    let numbers: Vec<usize> = (0..hosts).collect();
    let mut members = vec![];
    for some in numbers.chunks(HOSTS_AT_ONCE) {
        change(ledger, |tx| {
            let environment = environment::named(tx, &wish.name)?;
            for host in some {
                let wish = host::HostWish {
                    id: id(*host),
                    operation: OperationId::new(Uuid::now_v7()),
                    name: format!("host-{host}"),
                    driver: "local".into(),
                    options: Default::default(),
                    skip_preflight: false,
                    labels: Default::default(),
                };
                host::wish(tx, &environment, &wish, None)?;
                let address = format!("10.{number}.{}.{}", host / 250, host % 250 + 1);
                let machine = Machine { id: wish.id.to_string(), address };
                fact::record(tx, &Fact::MachineExists(place.clone(), wish.id.clone(), machine))?;
                host::reported(tx, wish.id.as_str(), "m1", "s", Some(Inventory::default()), Ok(()))?;
                // Its creation is over.
                tx.delete::<Active>(CLUSTER, &format!("host/{}", wish.id));
            }
            Ok(())
        })
        .await?;
        members.extend(some.iter().map(|host| (id(*host), member(*host))));
    }
    // A swarm is seen as a whole; the memory has no bounds that would forbid it.
    for some in members.chunks(HOSTS_AT_ONCE) {
        change(ledger, |tx| {
            for (id, member) in some {
                if let Some(mut host) = tx.get::<host::Host>(place.as_str(), id.as_str())? {
                    host.record.membership = Some(member.clone());
                    host.record.was_ready = true;
                    tx.put(&host.record);
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn member(host: usize) -> Membership {
    Membership {
        node: format!("node-{host}"),
        role: if host < 3 { Role::Manager } else { Role::Worker },
        leader: host == 0,
        ready: true,
        availability: Availability::Active,
        reachable: true,
    }
}

async fn change(ledger: &MemoryLedger, mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<()> + Send) -> Result<()> {
    transact(ledger, Request::new(), |tx| rule(tx)).await.map(drop).context("writing what planners look at")
}
