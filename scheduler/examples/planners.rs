//! How long a pass of all planners takes: `cargo run --release -p skep-scheduler --example planners`.
//!
//! Environments with a swarm each, everything well, as it is nearly always: then a pass must find out that there is nothing
//! to do.

use std::time::{Duration, Instant};

use skep_ledger::{Ledger, MemoryLedger, Request, Tx, transact};
use skep_model::environment::{self, EnvironmentWish};
use skep_model::fact::{self, Fact};
use skep_model::host::{self, Inventory, Machine, Membership, Role};
use skep_model::ids::{EnvironmentId, HostId, OperationId};
use skep_model::operation::Active;
use skep_model::placement::Availability;
use skep_model::{CLUSTER, Ruling};
use skep_scheduler::plan::{self, Picture};
use uuid::Uuid;

/// Passes whose median is told.
const PASSES: usize = 21;

/// Hosts written in one transaction; more would exceed its bounds.
const HOSTS_AT_ONCE: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for (environments, hosts) in [(20, 50), (20, 1_000)] {
        let ledger = MemoryLedger::new();
        for number in 0..environments {
            write_environment(&ledger, number, hosts).await;
        }
        let mut passes: Vec<Duration> = (0..PASSES).map(|_| pass(&ledger)).collect();
        passes.sort_unstable();
        let (median, longest) = (passes[PASSES / 2], passes[PASSES - 1]);
        println!(
            "{environments} environments of {hosts} hosts: a pass takes {:.1} ms (median), {:.1} ms (longest of {PASSES})",
            median.as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3
        );
    }
}

fn pass(ledger: &MemoryLedger) -> Duration {
    let began = Instant::now();
    let picture = Picture::of(ledger.view(), ledger.now()).expect("reads");
    let decisions = plan::decide(&picture).expect("decides");
    let took = began.elapsed();
    assert!(decisions.is_empty(), "everything is well, and yet: {}", decisions[0]);
    took
}

async fn write_environment(ledger: &MemoryLedger, number: usize, hosts: usize) {
    let place = EnvironmentId::new(Uuid::from_u128(number as u128 + 1));
    let id = |host: usize| HostId::new(Uuid::from_u128((number * 1_000_000 + host + 1_000) as u128));
    let wish = EnvironmentWish {
        id: place.clone(),
        operation: OperationId::new(Uuid::now_v7()),
        name: format!("env-{number}"),
        template: "default".into(),
        hosts: vec![],
        driver: "local".into(),
        options: Default::default(),
    };
    change(ledger, |tx| environment::wish(tx, &wish).map(drop)).await;
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
        .await;
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
        .await;
    }
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

async fn change(ledger: &MemoryLedger, mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<()> + Send) {
    transact(ledger, Request::new(), |tx| rule(tx)).await.expect("commits");
}
