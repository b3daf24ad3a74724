//! Environments: isolated swarms with their hosts and stacks.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use crate::balance::Balance;
use crate::host::{Host, HostWish, Membership, Role};
use crate::ids::{EnvironmentId, HostId, OperationId};
use crate::name::Name;
use crate::networks::Networks;
use crate::operation::{Operation, Subject, workflow};
use crate::options::Options;
use crate::swarm_keys::SwarmKeys;
use crate::upkeep::Upkeep;
use crate::{CLUSTER, Refusal, Ruling, access, host, operation, registry, swarm_keys, template};

mod change;
mod pause;

pub use change::{Change, update};
pub use pause::{Pause, awake, pause, resume};
pub(crate) use pause::{lift, look_again, tasks_seen};

/// Environments in one cluster.
pub const ENVIRONMENTS_MAX: usize = 1_000;

/// What is wished for an environment, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// Unique in the cluster.
    pub name: Name,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The template it was made from.
    pub template: Name,
    /// How many swarm managers it keeps.
    pub swarm_managers: u8,
    /// The host label over whose values the swarm managers are spread, as evenly as the hosts allow.
    #[serde(default)]
    pub spread_over: Option<String>,
    /// What is done for its hosts without being asked.
    #[serde(default)]
    pub upkeep: Upkeep,
    /// The newest pass in which tasks were moved to hosts that had joined.
    #[serde(default)]
    pub balance: Option<Balance>,
    /// What packets between its hosts may have; none: as much as the narrowest of their links carries.
    pub mtu: Option<u16>,
    /// What else is wished for its networks.
    #[serde(default)]
    pub options: Options,
    /// Options, as templates call them, that were said for this environment and do not follow its template.
    #[serde(default)]
    pub own: BTreeSet<String>,
    /// Somebody wished it gone.
    pub removal: Option<Timestamp>,
    /// How many hosts it had then: how far its removal is can be counted from it.
    #[serde(default)]
    pub hosts_at_removal: usize,
    /// `create-environment` has come to its end.
    pub opened: bool,
    /// The host on which the swarm is begun. Written before that is tried, so that a second try, by whomever,
    /// begins no second swarm elsewhere.
    pub seed: Option<HostId>,
    /// Docker's id of the swarm that was there before it and is taken over; never begun or left by us on the way.
    #[serde(default)]
    pub adopted: Option<String>,
    /// The last operation that has seen the swarm's managers agree after they could not.
    #[serde(default)]
    pub rescued_by: Option<OperationId>,
    /// Somebody wished it to rest.
    #[serde(default)]
    pub pause: Option<Pause>,
    /// The version of the engine that was last wished for all of its hosts.
    #[serde(default)]
    pub engine_wish: Option<String>,
    /// The host whose engine may be changed now, or was last: one at a time.
    #[serde(default)]
    pub engine_turn: Option<HostId>,
    /// The swarm, once there is one.
    pub swarm: Option<Swarm>,
    /// What the networks of that swarm are like.
    #[serde(default)]
    pub networks: Networks,
    /// The swarm's keys and certificates.
    #[serde(default)]
    pub keys: SwarmKeys,
}

/// The swarm of an environment, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swarm {
    /// Docker's id of it.
    pub id: String,
    /// Nodes that are ready.
    pub nodes: usize,
    /// Managers among them.
    pub managers: usize,
    /// Since when its managers cannot agree on anything any more: too few of them are left. Nothing can be changed in
    /// the swarm then, and what was seen of it is out of date.
    #[serde(default)]
    pub quorum_lost: Option<Timestamp>,
}

impl Swarm {
    /// The swarm as one of its managers lists it; whoever can list it has a quorum.
    pub(crate) fn of(id: &str, nodes: &[(HostId, Membership)]) -> Swarm {
        let ready = || nodes.iter().map(|(_, node)| node).filter(|node| node.ready);
        let managers = ready().filter(|node| node.role == Role::Manager).count();
        Swarm { id: id.to_owned(), nodes: ready().count(), managers, quorum_lost: None }
    }
}

impl Record for Environment {
    const TABLE: &'static str = "environment";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.id.to_string()
    }
}

/// Which id a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EnvironmentName {
    name: Name,
    id: EnvironmentId,
}

impl Record for EnvironmentName {
    const TABLE: &'static str = "environment-name";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.name.to_string()
    }
}

/// A new environment as somebody asks for it.
#[derive(Debug, Clone)]
pub struct EnvironmentWish {
    /// Minted by the caller.
    pub id: EnvironmentId,
    /// Minted by the caller.
    pub operation: OperationId,
    /// The name.
    pub name: String,
    /// The template's name.
    pub template: String,
    /// Hosts to begin with: ids of each (host, operation), driver and its options.
    pub hosts: Vec<(HostId, OperationId)>,
    /// The driver of those hosts.
    pub driver: String,
    /// The driver's options.
    pub options: std::collections::BTreeMap<String, String>,
    /// What is wished otherwise than the template says.
    pub change: Change,
}

/// Asks for an environment with its first hosts, named `NAME-1`, `NAME-2`, ….
pub fn wish(tx: &mut Tx<'_>, wish: &EnvironmentWish) -> Ruling<Operation> {
    let name = Name::parse("an environment", &wish.name)?;
    let template = template::named(tx, &wish.template)?;
    if tx.get::<EnvironmentName>(CLUSTER, name.as_str())?.is_some() {
        return Err(Refusal::NameTaken { what: "an environment", name: wish.name.clone(), scope: None });
    }
    if tx.glance::<EnvironmentName>(CLUSTER)?.len() >= ENVIRONMENTS_MAX {
        return Err(Refusal::TooMany { what: "environments", limit: ENVIRONMENTS_MAX });
    }
    let mut environment = Environment {
        id: wish.id.clone(),
        name: name.clone(),
        created_at: tx.now(),
        template: template.name,
        swarm_managers: template.swarm_managers,
        spread_over: template.spread_over,
        upkeep: Upkeep::default(),
        balance: None,
        mtu: template.mtu,
        options: template.options,
        own: BTreeSet::new(),
        removal: None,
        hosts_at_removal: 0,
        opened: false,
        seed: None,
        adopted: None,
        rescued_by: None,
        pause: None,
        engine_wish: None,
        engine_turn: None,
        swarm: None,
        networks: Networks::default(),
        keys: SwarmKeys::default(),
    };
    wish.change.apply(&mut environment, tx.now())?;
    tx.put(&environment);
    tx.put(&EnvironmentName { name, id: wish.id.clone() });
    let subject = subject(&environment);
    let started = operation::start(
        tx,
        wish.operation.clone(),
        workflow::CREATE_ENVIRONMENT,
        subject,
        Some(&environment),
        None,
    )?;
    for (number, (id, operation)) in wish.hosts.iter().enumerate() {
        let wish = HostWish {
            id: id.clone(),
            operation: operation.clone(),
            name: format!("{}-{}", environment.name, number + 1),
            driver: wish.driver.clone(),
            options: wish.options.clone(),
            skip_preflight: false,
            labels: Default::default(),
        };
        host::wish(tx, &environment, &wish, Some(started.id.clone()))?;
    }
    Ok(started)
}

/// Asks for an environment to be removed with everything in it. Asking again gives the same operation.
pub fn remove(tx: &mut Tx<'_>, environment: &str, id: OperationId) -> Ruling<Operation> {
    let mut environment = named(tx, environment)?;
    let subject = subject(&environment);
    if environment.removal.is_some()
        && let Some(running) = operation::open_on(tx, &subject, workflow::REMOVE_ENVIRONMENT)?
    {
        return Ok(running);
    }
    environment.removal = Some(tx.now());
    environment.hosts_at_removal = tx.list::<Host>(environment.id.as_str())?.len();
    tx.put(&environment);
    // Whoever has paused something in it would hold up its removal for days.
    operation::let_go_all(tx, &environment)?;
    operation::start(tx, id, workflow::REMOVE_ENVIRONMENT, subject, Some(&environment), None)
}

/// Asks for a swarm that has lost its quorum to be begun anew on one of its managers. What that manager knows of services
/// and labels stays; what only the lost ones knew is gone.
pub fn rescue(tx: &mut Tx<'_>, environment: &str, from: &str, id: OperationId) -> Ruling<Operation> {
    let environment = usable(tx, environment)?;
    let from = host::named(tx, &environment, from)?;
    let hosts: Vec<Host> =
        tx.list::<Host>(environment.id.as_str())?.into_iter().map(|stored| stored.record).collect();
    let managers: Vec<&Host> = hosts.iter().filter(|host| host.is_swarm_manager()).collect();
    let reachable: Vec<&Host> = managers.iter().copied().filter(|host| host.is_ready()).collect();
    if !reachable.iter().any(|host| host.id == from.id) {
        let why = match from.is_swarm_manager() {
            true => format!("it is {}: {}", from.state().word, from.state().why),
            false => "it is no manager of the swarm".to_owned(),
        };
        let candidates = reachable.iter().map(|host| host.name.to_string()).collect();
        return Err(Refusal::CannotRescue { host: from.name.to_string(), why, candidates });
    }
    if environment.managers_agree(&hosts) {
        return Err(Refusal::HasQuorum {
            environment: environment.name.to_string(),
            reachable: reachable.len(),
            managers: managers.len(),
        });
    }
    plant(tx, &environment.id, &from.id)?;
    let subject = swarm(&environment);
    operation::start(tx, id, workflow::RESCUE_SWARM, subject, Some(&environment), None)
}

/// Decides where the swarm is begun.
pub fn plant(tx: &mut Tx<'_>, id: &EnvironmentId, seed: &HostId) -> Ruling<()> {
    if let Some(mut environment) = tx.get::<Environment>(CLUSTER, id.as_str())?
        && environment.seed.as_ref() != Some(seed)
    {
        environment.record.seed = Some(seed.clone());
        tx.put(&environment.record);
    }
    Ok(())
}

/// The swarm was not begun there after all: another host may be chosen.
pub(crate) fn uproot(tx: &mut Tx<'_>, id: &EnvironmentId, seed: &HostId) -> Ruling<()> {
    if let Some(mut environment) = tx.get::<Environment>(CLUSTER, id.as_str())?
        && environment.seed.as_ref() == Some(seed)
        && environment.swarm.is_none()
    {
        environment.record.seed = None;
        environment.record.adopted = None;
        tx.put(&environment.record);
    }
    Ok(())
}

/// Lets an environment go that has nothing left in it.
pub fn forget(tx: &mut Tx<'_>, id: &EnvironmentId) -> Ruling<()> {
    if let Some(environment) = tx.get::<Environment>(CLUSTER, id.as_str())? {
        tx.delete::<EnvironmentName>(CLUSTER, environment.name.as_str());
        tx.delete::<Environment>(CLUSTER, id.as_str());
        host::registration::revoke_all(tx, id)?;
        for subject in [subject(&environment), swarm(&environment), swarm_keys::lock(&environment)] {
            operation::forget_rest(tx, &subject);
        }
        registry::forget_all(tx, id)?;
        access::environment_gone(tx, id)?;
    }
    Ok(())
}

/// The environment of that name or id.
pub fn named(tx: &mut Tx<'_>, reference: &str) -> Ruling<Environment> {
    let id = match tx.get::<EnvironmentName>(CLUSTER, reference)? {
        Some(index) => index.id.to_string(),
        None => reference.to_owned(),
    };
    match tx.get::<Environment>(CLUSTER, &id)? {
        Some(stored) => Ok(stored.record),
        None => Err(not_found(reference)),
    }
}

/// The environment of that name or id that is not going away.
pub fn usable(tx: &mut Tx<'_>, reference: &str) -> Ruling<Environment> {
    let environment = named(tx, reference)?;
    match environment.removal {
        None => Ok(environment),
        Some(_) => Err(Refusal::BeingRemoved { what: "environment", name: environment.name.to_string() }),
    }
}

/// Like [`named`], for readers.
pub fn find(view: &View, reference: &str) -> Ruling<skep_ledger::Stored<Environment>> {
    let id = match view.get::<EnvironmentName>(CLUSTER, reference)? {
        Some(index) => index.id.to_string(),
        None => reference.to_owned(),
    };
    view.get::<Environment>(CLUSTER, &id)?.ok_or_else(|| not_found(reference))
}

/// The environment as the subject of an operation.
pub fn subject(environment: &Environment) -> Subject {
    Subject::new("environment", &environment.id, &environment.name)
}

/// Its swarm as the subject of an operation.
pub fn swarm(environment: &Environment) -> Subject {
    Subject::new("swarm", &environment.id, &environment.name)
}

fn not_found(reference: &str) -> Refusal {
    Refusal::NotFound { what: "environment", name: reference.to_owned(), scope: None }
}

impl Environment {
    /// The one word for people, and why.
    pub fn state(&self, hosts: &[impl std::ops::Deref<Target = Host>]) -> (&'static str, String) {
        let hosts: Vec<&Host> = hosts.iter().map(|host| &**host).collect();
        let active = hosts.iter().filter(|host| host.is_active()).count();
        let mut message = match hosts.len() {
            0 => "no hosts yet".to_owned(),
            total => format!("{active} of {total} hosts active"),
        };
        let trouble = self.swarm_trouble(&hosts);
        let resting = self.resting(&hosts);
        match (&self.removal, self.opened) {
            (Some(_), _) => ("deleting", message),
            (None, false) => ("creating", message),
            (None, true) if trouble.is_some() => ("degraded", trouble.unwrap_or_default()),
            (None, true) if resting.is_some() => resting.unwrap_or_default(),
            (None, true) if active < hosts.len() => {
                if let Some(host) = hosts.iter().find(|host| !host.is_active()) {
                    let state = host.state();
                    message = format!("{message}; {} is {}: {}", host.name, state.word, state.why);
                }
                ("degraded", message)
            }
            (None, true) => ("active", message),
        }
    }

    /// Can the managers of the swarm agree, as far as is known? What the swarm said last counts more than who is left
    /// among the hosts: lost managers may have been removed since.
    pub fn managers_agree(&self, hosts: &[Host]) -> bool {
        let quorum_lost = self.swarm.as_ref().is_some_and(|swarm| swarm.quorum_lost.is_some());
        let managers = hosts.iter().filter(|host| host.is_swarm_manager());
        let reachable = managers.clone().filter(|host| host.is_ready() && !host.swarm_locked).count();
        !quorum_lost && reachable > managers.count() / 2
    }

    /// Could the other managers of the swarm agree, before and after this one is a manager no more? If not, says why. With
    /// no other manager there is nobody to ask: then another host takes over first.
    pub fn managers_agree_without(&self, host: &Host, hosts: &[Host]) -> Result<(), String> {
        let others = || hosts.iter().filter(|other| other.id != host.id && other.is_swarm_manager());
        let away: Vec<_> = others()
            .filter(|other| !(other.answers() && other.is_seen_ready()))
            .map(|other| other.name.as_str())
            .collect();
        let all = others().count();
        if !host.is_swarm_manager() || all == 0 || all - away.len() > all / 2 {
            return Ok(());
        }
        Err(format!(
            "the other swarm managers could not agree without it: {} cannot be reached. Bring them back, or remove \
             them first",
            away.join(", ")
        ))
    }

    /// What keeps the swarm as a whole from being changed, and what to do.
    fn swarm_trouble(&self, hosts: &[&Host]) -> Option<String> {
        let swarm = self.swarm.as_ref()?;
        let managers: Vec<_> = hosts.iter().filter(|host| host.is_swarm_manager()).collect();
        let away: Vec<_> =
            managers.iter().filter(|host| !host.answers()).map(|host| host.name.as_str()).collect();
        let (all, there) = (managers.len(), managers.len() - away.len());
        if all == 0 || (swarm.quorum_lost.is_none() && there > 0) {
            return None;
        }
        let what = match swarm.quorum_lost {
            Some(since) => format!(
                "the swarm has lost its quorum: {there} of {all} swarm managers can be reached; since {since:.0}"
            ),
            None => format!("no manager of the swarm can be reached: 0 of {all}"),
        };
        let needed = all / 2 + 1;
        let rescue = |survivor: &Host| format!("skep env rescue {} --from {}", self.name, survivor.name);
        let help = match managers.iter().find(|host| host.answers()) {
            Some(survivor) if away.is_empty() => format!(
                "look whether the hosts reach each other on port 2377; if managers were lost for good: {}",
                rescue(survivor)
            ),
            Some(survivor) => format!(
                "bring {} back (see: skep host ls); if they are lost for good: {}",
                away.join(", "),
                rescue(survivor)
            ),
            None => format!("bring {} back (see: skep host ls)", away.join(", ")),
        };
        Some(format!(
            "{what}. Tasks go on running, but nothing can be changed until {needed} of {all} answer: {help}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use skep_ledger::Stored;
    use uuid::Uuid;

    use super::*;
    use crate::host::{Agent, Inventory, Machine, Registration, WishedRole};
    use crate::placement::{Availability, Placement};

    fn environment(quorum_lost: Option<Timestamp>) -> Environment {
        Environment {
            id: EnvironmentId::new(Uuid::from_u128(9)),
            name: Name::parse("an environment", "prod").expect("a name"),
            created_at: Timestamp::UNIX_EPOCH,
            template: Name::parse("a template", "default").expect("a name"),
            swarm_managers: 3,
            spread_over: None,
            upkeep: Upkeep::default(),
            balance: None,
            mtu: None,
            options: Options::default(),
            own: BTreeSet::new(),
            removal: None,
            hosts_at_removal: 0,
            opened: true,
            seed: None,
            adopted: None,
            rescued_by: None,
            pause: None,
            engine_wish: None,
            engine_turn: None,
            swarm: Some(Swarm { id: "s".into(), nodes: 3, managers: 3, quorum_lost }),
            networks: Networks::default(),
            keys: SwarmKeys::default(),
        }
    }

    fn managers(answer: [bool; 3]) -> Vec<Stored<Host>> {
        let manager = |(number, up): (usize, bool)| {
            let membership = Membership {
                node: format!("n{number}"),
                role: Role::Manager,
                leader: false,
                ready: true,
                availability: Availability::Active,
                reachable: true,
            };
            let record = Host {
                id: HostId::new(Uuid::from_u128(number as u128)),
                environment: EnvironmentId::new(Uuid::from_u128(9)),
                name: Name::parse("a host", &format!("web-{}", number + 1)).expect("a name"),
                created_at: Timestamp::UNIX_EPOCH,
                driver: Some("local".into()),
                options: Default::default(),
                role: WishedRole::Auto,
                skip_preflight: false,
                removal: None,
                keeps_machine: false,
                renewal: None,
                replaces: None,
                adopted: None,
                machine: Some(Machine { id: "m".into(), address: "10.0.0.1".into() }),
                registration: Some(Registration { key_hash: vec![], at: Timestamp::UNIX_EPOCH }),
                agent: Agent {
                    connected: up,
                    engine_up: up,
                    since: Some(Timestamp::UNIX_EPOCH),
                    ..Agent::default()
                },
                inventory: Some(Inventory::default()),
                preflight: None,
                placement: Placement::default(),
                engine_wish: None,
                membership: Some(membership),
                standing: None,
                remembered: None,
                moved_at: None,
                join_error: String::new(),
                parted: false,
                evacuated: false,
                node_since: None,
                was_ready: true,
                machine_lost: None,
                given_up: None,
                networks: None,
                nfs: None,
                swarm_locked: false,
            };
            Stored { record, revision: 1 }
        };
        answer.into_iter().enumerate().map(manager).collect()
    }

    #[test]
    fn a_swarm_without_quorum_is_degraded_and_says_what_to_do() {
        let lost = environment(Some(Timestamp::UNIX_EPOCH));
        let (word, why) = lost.state(&managers([true, false, false]));
        assert_eq!(word, "degraded");
        let begins = "the swarm has lost its quorum: 1 of 3 swarm managers can be reached; since 1970-01-01T00:00:00Z.";
        assert!(why.starts_with(begins), "{why}");
        assert!(why.contains("until 2 of 3 answer") && why.contains("bring web-2, web-3 back"), "{why}");
        assert!(why.ends_with("if they are lost for good: skep env rescue prod --from web-1"), "{why}");
    }

    #[test]
    fn a_swarm_of_which_no_manager_answers_says_so_without_guessing_at_its_quorum() {
        let (word, why) = environment(None).state(&managers([false; 3]));
        assert_eq!(word, "degraded");
        assert!(why.starts_with("no manager of the swarm can be reached: 0 of 3."), "{why}");
        assert!(!why.contains("quorum"), "{why}");
    }

    #[test]
    fn one_host_that_is_away_is_named_with_its_reason() {
        let (word, why) = environment(None).state(&managers([true, true, false]));
        assert_eq!(word, "degraded");
        let begins = "2 of 3 hosts active; web-3 is unreachable: the agent has not been heard since";
        assert!(why.starts_with(begins), "{why}");
        assert_eq!(environment(None).state(&managers([true; 3])), ("active", "3 of 3 hosts active".into()));
    }
}

#[cfg(test)]
#[path = "environment_rescue_tests.rs"]
mod rescue_tests;
