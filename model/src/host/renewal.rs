//! A new machine for a host: in its own place (reprovision), or as a new host that takes the place of the old (replace).
//!
//! Reprovisioned, a host keeps its record: name, role, labels. Between its two machines it belongs to the operation that
//! changes them; when that ends, however it ends, it is a host like others again.

use skep_ledger::Tx;

use super::registration::labelled;
use super::{Host, HostName, new_host, start, staying, subject};
use crate::environment::Environment;
use crate::ids::{HostId, OperationId};
use crate::operation::{self, Active, Operation, Subject, workflow};
use crate::{CLUSTER, Refusal, Ruling};

/// The host that is to take the place of another; its ids are minted by the caller.
#[derive(Debug, Clone)]
pub struct Successor {
    /// Its id.
    pub host: HostId,
    /// The operation that brings it to life.
    pub creation: OperationId,
    /// Its name; the next free number, if nothing is said.
    pub name: Option<String>,
}

/// Asks for a host's machine to be given back and made anew.
pub fn reprovision(
    tx: &mut Tx<'_>,
    environment: &Environment,
    reference: &str,
    id: OperationId,
) -> Ruling<Operation> {
    let host = staying(tx, environment, reference)?;
    needs_driver(environment, &host)?;
    let hosts: Vec<Host> =
        tx.list::<Host>(environment.id.as_str())?.into_iter().map(|stored| stored.record).collect();
    let spared = |why: String| Refusal::CannotBeSpared { host: host.name.to_string(), why };
    let others = hosts.iter().filter(|other| other.id != host.id && other.membership.is_some());
    if host.membership.is_some() && others.count() == 0 {
        return Err(spared("it is the only node of its swarm, which would be gone with all services".into()));
    }
    environment.managers_agree_without(&host, &hosts).map_err(spared)?;
    operation::start(tx, id, workflow::REPROVISION_HOST, subject(&host), Some(environment), None)
}

/// What the replacement of a host is about: a host has an operation of its own meanwhile, and so has the new one.
pub fn replacement(old: &Host) -> Subject {
    Subject::new("replacement", &old.id, &old.name)
}

/// Asks for a new host of the same kind, role and labels, and for the removal of the old one once the new one is there.
pub fn replace(
    tx: &mut Tx<'_>,
    environment: &Environment,
    reference: &str,
    successor: &Successor,
    id: OperationId,
) -> Ruling<Operation> {
    let old = staying(tx, environment, reference)?;
    begin_replacement(tx, environment, &old, successor, id, "")
}

/// The same for a host that is down, which nobody has asked for; none if it is not down any more.
pub fn replace_lost(
    tx: &mut Tx<'_>,
    environment: &Environment,
    old: &str,
    successor: &Successor,
    id: OperationId,
    reason: &str,
) -> Ruling<Option<Operation>> {
    match tx.get::<Host>(environment.id.as_str(), old)? {
        Some(old) if old.down_since().is_some() => {
            begin_replacement(tx, environment, &old, successor, id, reason).map(Some)
        }
        _ => Ok(None),
    }
}

fn begin_replacement(
    tx: &mut Tx<'_>,
    environment: &Environment,
    old: &Host,
    successor: &Successor,
    id: OperationId,
    reason: &str,
) -> Ruling<Operation> {
    needs_driver(environment, old)?;
    let subject = replacement(old);
    if let Some(active) = tx.get::<Active>(CLUSTER, &subject.index())? {
        let operation = active.operation.to_string();
        return Err(Refusal::OperationInProgress { subject: subject.to_string(), operation });
    }
    let name = match &successor.name {
        Some(name) => name.clone(),
        None => next_name(tx, old)?,
    };
    let host = Host {
        options: old.options.clone(),
        role: old.role,
        skip_preflight: old.skip_preflight,
        placement: labelled(&old.placement.labels)?,
        replaces: Some(old.id.clone()),
        ..new_host(tx, environment, successor.host.clone(), &name, old.driver.clone())?
    };
    let workflow = workflow::REPLACE_HOST;
    let operation = operation::start_because(tx, id, workflow, subject, Some(environment), reason)?;
    start(tx, environment, &host, successor.creation.clone(), Some(operation.id.clone()))?;
    Ok(operation)
}

/// Is a host there that takes the place of this one, and are both to stay until that is done?
pub(crate) fn goes_on(tx: &mut Tx<'_>, environment: &Environment, old: &str) -> Ruling<bool> {
    let hosts = tx.list::<Host>(environment.id.as_str())?;
    let stays = |host: &Host| host.removal.is_none();
    let successor = |host: &Host| host.replaces.as_ref().is_some_and(|replaced| replaced.as_str() == old);
    Ok(hosts.iter().any(|host| host.id.as_str() == old && stays(host))
        && hosts.iter().any(|host| successor(host) && stays(host)))
}

/// Nobody has taken a replacement up yet, and nobody will: the new host goes.
pub(crate) fn withdraw(tx: &mut Tx<'_>, environment: &Environment, old: &str) -> Ruling<()> {
    for stored in tx.list::<Host>(environment.id.as_str())? {
        let mut host = stored.record;
        if host.removal.is_none() && host.replaces.as_ref().is_some_and(|replaced| replaced.as_str() == old) {
            host.removal = Some(tx.now());
            tx.put(&host);
        }
    }
    Ok(())
}

/// An operation has come to its end: a host that it was about to make anew is not in its hands any more.
pub(crate) fn ended(tx: &mut Tx<'_>, operation: &Operation) -> Ruling<()> {
    let place = operation.environment.as_ref().filter(|_| operation.workflow == workflow::REPROVISION_HOST);
    let Some((environment, _)) = place else {
        return Ok(());
    };
    if let Some(mut host) = tx.get::<Host>(environment.as_str(), &operation.subject.id)?
        && host.renewal.as_ref() == Some(&operation.id)
    {
        host.record.renewal = None;
        // Its tasks may come back, and are to be moved away again the next time.
        host.record.evacuated = false;
        tx.put(&host.record);
    }
    Ok(())
}

fn needs_driver(environment: &Environment, host: &Host) -> Ruling<()> {
    match host.driver {
        Some(_) => Ok(()),
        None => {
            Err(Refusal::NoDriver { host: host.name.to_string(), environment: environment.name.to_string() })
        }
    }
}

/// `web-3` becomes `web-4`, or the next number that is free; `web` becomes `web-2`.
fn next_name(tx: &mut Tx<'_>, old: &Host) -> Ruling<String> {
    let (stem, number) = match old.name.as_str().rsplit_once('-') {
        Some((stem, number)) => match number.parse::<u32>() {
            Ok(number) => (stem.to_owned(), number),
            Err(_) => (old.name.to_string(), 1),
        },
        None => (old.name.to_string(), 1),
    };
    let mut next = number.saturating_add(1);
    loop {
        let name = format!("{stem}-{next}");
        // There are fewer hosts than numbers.
        if tx.get::<HostName>(old.environment.as_str(), &name)?.is_none() {
            return Ok(name);
        }
        next = next.saturating_add(1);
    }
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
