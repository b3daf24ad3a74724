//! What was found when nobody had asked: facts about swarms, stacks and machines that change by themselves.
//!
//! Why not as [`crate::fact::Fact`]: facts of operations are written by whoever moves the operation. These come from
//! somebody who only looks, in the middle of whatever operations do, so they are written with more care: what was
//! changed after the look began is left alone, because the look may be older than the change. The next look is not.

use skep_ledger::{Revision, Stored, Tx};

use crate::environment::{Environment, Swarm};
use crate::host::moving::Standing;
use crate::host::{Host, Loss, MachineLost, Membership};
use crate::ids::{EnvironmentId, HostId};
use crate::name::Name;
use crate::stack::{ServiceSeen, Stack};
use crate::{CLUSTER, Ruling, host};

/// One thing that was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// The swarm of this id as one of its managers lists it: every node that is a host of ours.
    Swarm(String, Vec<(HostId, Membership)>),
    /// How a node stands among the others, as its own engine says.
    Node(HostId, Standing),
    /// The managers of the swarm cannot agree on anything any more.
    QuorumLost,
    /// The services of a stack's generation as the swarm shows them.
    Stack(Name, u64, Vec<ServiceSeen>),
    /// The hosts whose engines wait for the unlock key of the swarm; no other one that answers does.
    Locked(Vec<HostId>),
    /// What the driver says of the machine of a host whose agent is silent; nothing if it runs, as far as is known.
    Machine(HostId, Option<Loss>),
}

/// An agent's connection that no manager holds any more: the host, and the session that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unheld {
    /// Whose agent.
    pub host: String,
    /// Which connection.
    pub session: String,
}

/// Writes what a look found that began at revision `looked`.
pub fn record(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    looked: Revision,
    findings: &[Finding],
) -> Ruling<()> {
    for finding in findings {
        match finding {
            Finding::Swarm(id, nodes) => swarm_seen(tx, environment, looked, id, nodes)?,
            Finding::Node(id, standing) => node_seen(tx, environment, looked, id, standing)?,
            Finding::QuorumLost => quorum_lost(tx, environment, looked)?,
            Finding::Locked(hosts) => locked_seen(tx, environment, looked, hosts)?,
            Finding::Stack(name, generation, seen) => {
                stack_seen(tx, environment, looked, name, *generation, seen)?
            }
            Finding::Machine(id, loss) => machine_seen(tx, environment, looked, id, *loss)?,
        }
    }
    Ok(())
}

/// Writes down that agents are not connected which no manager holds. One that has come back meanwhile is left alone.
pub fn record_unheld(tx: &mut Tx<'_>, unheld: &[Unheld]) -> Ruling<()> {
    unheld.iter().try_for_each(|agent| host::disconnected(tx, &agent.host, &agent.session))
}

/// A host that is being removed is its removal's business.
fn swarm_seen(
    tx: &mut Tx<'_>,
    id: &EnvironmentId,
    looked: Revision,
    swarm: &str,
    nodes: &[(HostId, Membership)],
) -> Ruling<()> {
    let Some(mut environment) = tx.get::<Environment>(CLUSTER, id.as_str())?.filter(older_than(looked))
    else {
        return Ok(());
    };
    // Whatever another swarm says is not about this one.
    if environment.swarm.as_ref().is_none_or(|known| known.id != swarm) {
        return Ok(());
    }
    let now = tx.now();
    for host in tx.list::<Host>(id.as_str())?.into_iter().filter(older_than(looked)) {
        let seen = nodes.iter().find(|(id, _)| *id == host.id).map(|(_, node)| node.clone());
        let mut changed = host.record.clone();
        changed.seen_in_swarm(seen, now);
        if changed != host.record && changed.removal.is_none() {
            tx.put(&changed);
        }
    }
    let swarm = Some(Swarm::of(swarm, nodes));
    if environment.swarm != swarm {
        environment.record.swarm = swarm;
        tx.put(&environment.record);
    }
    Ok(())
}

fn node_seen(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    looked: Revision,
    id: &HostId,
    standing: &Standing,
) -> Ruling<()> {
    let now = tx.now();
    let host = tx.get::<Host>(environment.as_str(), id.as_str())?.filter(older_than(looked));
    if let Some(mut host) = host.filter(|host| host.removal.is_none())
        && host.standing.as_ref() != Some(standing)
    {
        host.record.stands(standing, now);
        tx.put(&host.record);
    }
    Ok(())
}

fn quorum_lost(tx: &mut Tx<'_>, id: &EnvironmentId, looked: Revision) -> Ruling<()> {
    let now = tx.now();
    if let Some(mut environment) = tx.get::<Environment>(CLUSTER, id.as_str())?.filter(older_than(looked))
        && let Some(swarm) = &mut environment.record.swarm
        && swarm.quorum_lost.is_none()
    {
        swarm.quorum_lost = Some(now);
        tx.put(&environment.record);
    }
    Ok(())
}

fn locked_seen(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    looked: Revision,
    locked: &[HostId],
) -> Ruling<()> {
    for host in tx.list::<Host>(environment.as_str())?.into_iter().filter(older_than(looked)) {
        let swarm_locked = locked.contains(&host.id);
        if host.swarm_locked != swarm_locked && host.removal.is_none() {
            tx.put(&Host { swarm_locked, ..host.record });
        }
    }
    Ok(())
}

fn stack_seen(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    looked: Revision,
    name: &Name,
    generation: u64,
    seen: &[ServiceSeen],
) -> Ruling<()> {
    let stack = tx.get::<Stack>(environment.as_str(), name.as_str())?.filter(older_than(looked));
    let Some(stack) = stack.filter(|stack| stack.removal.is_none()) else {
        return Ok(());
    };
    if (stack.generation, stack.services_made) != (generation, generation) {
        return Ok(());
    }
    let mut changed = stack.record.clone();
    changed.observed(generation, seen);
    if changed != stack.record {
        tx.put(&changed);
    }
    Ok(())
}

fn machine_seen(
    tx: &mut Tx<'_>,
    environment: &EnvironmentId,
    looked: Revision,
    id: &HostId,
    loss: Option<Loss>,
) -> Ruling<()> {
    let now = tx.now();
    let host = tx.get::<Host>(environment.as_str(), id.as_str())?.filter(older_than(looked));
    if let Some(mut host) = host.filter(|host| host.is_silent())
        && host.machine_lost.as_ref().map(|lost| lost.how) != loss
    {
        host.record.machine_lost = loss.map(|how| MachineLost { how, since: now });
        tx.put(&host.record);
    }
    Ok(())
}

/// Was it left alone since the look began? What this very transaction wrote has no revision yet.
fn older_than<T>(looked: Revision) -> impl Fn(&Stored<T>) -> bool {
    move |stored| stored.revision <= looked
}
