//! Stacks: recipes that became Swarm services with one name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Stored, Tx, View};

use crate::environment::{self, Environment};
use crate::host::Host;
use crate::ids::{EnvironmentId, OperationId, StackId};
use crate::name::Name;
use crate::operation::{Operation, Subject, workflow};
use crate::recipe::{self, PortMode, Recipe};
use crate::{Refusal, Ruling, operation};

/// What is wished for a stack, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Its id.
    pub id: StackId,
    /// Whose it is.
    pub environment: EnvironmentId,
    /// Unique in the environment; Docker's namespace of the stack.
    pub name: Name,
    /// When it was first deployed.
    pub created_at: Timestamp,
    /// When it was last deployed.
    pub updated_at: Timestamp,
    /// The compose file as it was given.
    pub document: String,
    /// The variables it was given with.
    pub variables: BTreeMap<String, String>,
    /// What was understood.
    pub recipe: Recipe,
    /// Counts the deployments; facts say which one they are about.
    pub generation: u64,
    /// Somebody wished it gone.
    pub removal: Option<Timestamp>,
    /// The generation whose volumes can be mounted on every host.
    #[serde(default)]
    pub volumes_checked: u64,
    /// The generation whose networks exist.
    pub networks_made: u64,
    /// The generation whose services exist.
    pub services_made: u64,
    /// The hash of each service's specification as it was given to the swarm, by the service's name. A service that
    /// shows another one has been changed since: rolled back by Docker, or updated by somebody else.
    #[serde(default)]
    pub service_hashes: BTreeMap<String, String>,
    /// Which login to which registry the services were given: when it was made, by the registry's address.
    #[serde(default)]
    pub logins: BTreeMap<String, Timestamp>,
    /// The services as they were seen last.
    pub seen: Vec<ServiceSeen>,
    /// The generation that was seen.
    pub seen_generation: u64,
    /// The newest generation that has run as wished at some time: what is missing since then is a fault, not a
    /// deployment on its way.
    #[serde(default)]
    pub settled: u64,
    /// Nothing of it is left in the swarm.
    pub withdrawn: bool,
}

/// A service as the swarm shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSeen {
    /// Its name within the stack.
    pub name: String,
    /// Tasks that run, or have completed if that is all they should.
    pub running: u64,
    /// Tasks that should.
    pub desired: u64,
    /// An update is still being rolled out.
    pub updating: bool,
    /// The newest error of a task, if one keeps it from running.
    pub error: String,
    /// Why it is not what was deployed and will not become so by waiting: rolled back, paused, or changed by somebody
    /// else. Empty if nothing of that kind is so.
    #[serde(default)]
    pub failed: String,
}

impl Record for Stack {
    const TABLE: &'static str = "stack";
    fn partition(&self) -> &str {
        self.environment.as_str()
    }
    fn id(&self) -> String {
        self.name.to_string()
    }
}

/// A deployment as somebody asks for it.
#[derive(Debug, Clone)]
pub struct StackWish {
    /// Minted by the caller; used if the stack is new.
    pub id: StackId,
    /// Minted by the caller.
    pub operation: OperationId,
    /// The name.
    pub name: String,
    /// The compose file.
    pub document: String,
    /// Values for its variables.
    pub variables: BTreeMap<String, String>,
}

/// Asks for a stack to be deployed, new or again.
pub fn deploy(tx: &mut Tx<'_>, environment: &str, wish: &StackWish) -> Ruling<Operation> {
    let environment = environment::awake(tx, environment)?;
    let name = Name::parse("a stack", &wish.name)?;
    let recipe =
        recipe::parse(&wish.document, &wish.variables).map_err(|errors| Refusal::InvalidRecipe { errors })?;
    if tx.list::<Host>(environment.id.as_str())?.iter().all(|host| host.removal.is_some()) {
        return Err(Refusal::NoHosts { environment: environment.name.to_string() });
    }
    host_ports_free(tx, &environment, &name, &recipe)?;
    if recipe.uses_nfs() && environment.options.nfs.is_none() {
        return Err(Refusal::NoNfs { environment: environment.name.to_string() });
    }
    let now = tx.now();
    let known = tx.get::<Stack>(environment.id.as_str(), name.as_str())?.map(|stored| stored.record);
    if known.as_ref().is_some_and(|stack| stack.removal.is_some()) {
        return Err(Refusal::BeingRemoved { what: "stack", name: wish.name.clone() });
    }
    let stack = Stack {
        id: known.as_ref().map_or(wish.id.clone(), |stack| stack.id.clone()),
        environment: environment.id.clone(),
        name,
        created_at: known.as_ref().map_or(now, |stack| stack.created_at),
        updated_at: now,
        document: wish.document.clone(),
        variables: wish.variables.clone(),
        recipe,
        generation: known.as_ref().map_or(1, |stack| stack.generation + 1),
        removal: None,
        volumes_checked: known.as_ref().map_or(0, |stack| stack.volumes_checked),
        networks_made: known.as_ref().map_or(0, |stack| stack.networks_made),
        services_made: known.as_ref().map_or(0, |stack| stack.services_made),
        service_hashes: known.as_ref().map_or(BTreeMap::new(), |stack| stack.service_hashes.clone()),
        logins: known.as_ref().map_or(BTreeMap::new(), |stack| stack.logins.clone()),
        seen: known.as_ref().map_or(vec![], |stack| stack.seen.clone()),
        settled: known.as_ref().map_or(0, |stack| stack.settled),
        seen_generation: known.map_or(0, |stack| stack.seen_generation),
        withdrawn: false,
    };
    tx.put(&stack);
    let (id, subject) = (wish.operation.clone(), subject(&stack));
    operation::start(tx, id, workflow::DEPLOY_STACK, subject, Some(&environment), None)
}

/// Asks for a stack to be removed from the swarm.
pub fn remove(tx: &mut Tx<'_>, environment: &str, name: &str, id: OperationId) -> Ruling<Operation> {
    let environment = environment::named(tx, environment)?;
    let stored = tx.get::<Stack>(environment.id.as_str(), name)?;
    let mut stack = stored.ok_or_else(|| not_found(&environment, name))?.record;
    if stack.removal.is_some() {
        return Err(Refusal::BeingRemoved { what: "stack", name: name.to_owned() });
    }
    stack.removal = Some(tx.now());
    tx.put(&stack);
    operation::start(tx, id, workflow::REMOVE_STACK, subject(&stack), Some(&environment), None)
}

/// The stack of that name.
pub fn find(view: &View, environment: &Environment, name: &str) -> Ruling<Stored<Stack>> {
    view.get::<Stack>(environment.id.as_str(), name)?.ok_or_else(|| not_found(environment, name))
}

/// Lets a stack go of which nothing is left.
pub(crate) fn forget(tx: &mut Tx<'_>, environment: &EnvironmentId, name: &Name) -> Ruling<()> {
    if let Some(stack) = tx.get::<Stack>(environment.as_str(), name.as_str())? {
        operation::forget_rest(tx, &subject(&stack));
        tx.delete::<Stack>(environment.as_str(), name.as_str());
    }
    Ok(())
}

/// The stack as the subject of an operation.
pub fn subject(stack: &Stack) -> Subject {
    Subject::new("stack", &stack.id, &stack.name)
}

/// A port published on the hosts themselves can belong to one service of the environment only.
fn host_ports_free(tx: &mut Tx<'_>, environment: &Environment, name: &Name, recipe: &Recipe) -> Ruling<()> {
    let wanted = published(recipe);
    for other in tx.list::<Stack>(environment.id.as_str())? {
        if other.name == *name || other.removal.is_some() {
            continue;
        }
        let theirs = published(&other.recipe);
        if let Some((port, (_, service))) =
            wanted.keys().find_map(|port| theirs.get_key_value(port).map(|found| (port, found)))
        {
            return Err(Refusal::HostPortTaken {
                port: port.clone(),
                by: format!("{}/{service}", other.name),
            });
        }
    }
    Ok(())
}

fn published(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut ports = BTreeMap::new();
    for service in &recipe.services {
        for port in service.ports.iter().filter(|port| port.mode == PortMode::Host) {
            if let Some(published) = port.published {
                ports.insert(format!("{published}/{}", port.protocol), service.name.clone());
            }
        }
    }
    ports
}

fn not_found(environment: &Environment, name: &str) -> Refusal {
    Refusal::NotFound { what: "stack", name: name.to_owned(), scope: Some(environment.name.to_string()) }
}

impl Stack {
    /// Do all services of the newest generation run as wished?
    pub fn converged(&self) -> bool {
        self.services_made == self.generation
            && self.seen_generation == self.generation
            && self.seen.len() == self.recipe.services.len()
            && self.seen.iter().all(ServiceSeen::is_well)
    }

    /// Takes over how the services of a generation were seen.
    pub fn observed(&mut self, generation: u64, seen: &[ServiceSeen]) {
        self.seen = seen.to_vec();
        self.seen_generation = generation;
        if self.converged() {
            self.settled = generation;
        }
    }

    /// Why a service of the newest generation will not become what was deployed, if that is so.
    pub fn failure(&self) -> Option<String> {
        let current = self.services_made == self.generation && self.seen_generation == self.generation;
        let failed = self.seen.iter().filter(|service| !service.failed.is_empty());
        let words: Vec<_> =
            failed.map(|service| format!("service {}: {}", service.name, service.failed)).collect();
        (current && !words.is_empty()).then(|| words.join("; "))
    }

    /// The one word for people, and why.
    pub fn state(&self) -> (&'static str, String) {
        if self.removal.is_some() {
            return ("removing", String::new());
        }
        let (made, settled) = (self.services_made == self.generation, self.settled == self.generation);
        let trouble = self.seen.iter().filter_map(|service| service.trouble(settled));
        let trouble = trouble.collect::<Vec<_>>().join("; ");
        match self.converged() {
            true => ("active", String::new()),
            false if made && !trouble.is_empty() => ("degraded", trouble),
            _ => ("deploying", trouble),
        }
    }
}

impl ServiceSeen {
    /// Does it run as wished?
    pub fn is_well(&self) -> bool {
        self.running >= self.desired && !self.updating && self.failed.is_empty()
    }

    /// What is wrong with it, beginning with its name. Tasks that are missing are no fault before all have run once.
    fn trouble(&self, settled: bool) -> Option<String> {
        let few = || format!("{} of {} tasks run", self.running, self.desired);
        match (self.failed.as_str(), self.error.as_str()) {
            ("", "") if settled && self.running < self.desired => Some(format!("{}: {}", self.name, few())),
            ("", "") => None,
            ("", error) if settled => Some(format!("{}: {}: {error}", self.name, few())),
            ("", error) => Some(format!("{}: {error}", self.name)),
            (failed, _) => Some(format!("{}: {failed}", self.name)),
        }
    }
}
