//! Keys and certificates of a swarm: how they are wished, and what became of it.
//!
//! ```text
//!   settings   autolock, life of node certificates    a wish with a generation, brought into the swarm by `update-swarm`
//!   rotations  join tokens, authority, unlock key     an operation each: what was there before is noted, then replaced
//! ```
//! A rotation has no wish in the record: the operation is the wish. It notes what it will replace first, so that whoever
//! goes on after a change of leader sees whether it was replaced already. Docker has no key for that.

use serde::{Deserialize, Serialize};
use skep_ledger::Tx;

use crate::environment::{self, Environment};
use crate::host::Host;
use crate::ids::{EnvironmentId, OperationId};
use crate::operation::{Operation, Subject, workflow};
use crate::sealed::Sealed;
use crate::{Refusal, Ruling, operation};

/// The life of node certificates that Docker gives them if nothing else is said.
pub const CERTIFICATE_DAYS_USUAL: u32 = 90;

/// Ten years: longer is no rotation at all.
pub const CERTIFICATE_DAYS_MAX: u32 = 3_650;

/// What is wished for the keys of a swarm, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SwarmKeys {
    /// Wished: managers whose engines start need the unlock key before they take part.
    pub autolock: bool,
    /// Wished: how long a node's certificate is valid; none if Docker decides.
    pub certificate_days: Option<u32>,
    /// Wished: an unlock key that somebody has given, because the swarm has one that Skep does not know.
    pub given_unlock_key: Option<Sealed>,
    /// Counts the wishes.
    pub generation: u64,
    /// The generation that the swarm has.
    pub applied: u64,
    /// The swarm's unlock key, if it has one.
    pub unlock_key: Option<Sealed>,
    /// The one before it: an engine that was away during a rotation still needs it.
    pub former_unlock_key: Option<Sealed>,
    /// The last rotation of each kind.
    pub tokens: Rotation,
    /// Of the authority.
    pub authority: Rotation,
    /// Of the unlock key.
    pub unlock: Rotation,
    /// The last rotation of the authority after which all nodes were seen with new certificates.
    pub certified_by: Option<OperationId>,
    /// How far nodes have come with that.
    pub certificates: Option<Certificates>,
}

/// How far a rotation has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rotation {
    /// What was there before, as an operation has noted it.
    pub noted: Option<Noted>,
    /// The operation that has replaced it.
    pub done_by: Option<OperationId>,
}

/// What an operation is about to replace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// The operation.
    pub by: OperationId,
    /// Tells what was there from what comes, and nothing else.
    pub fingerprint: String,
}

/// Which nodes have certificates of the new authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// Nodes that have.
    pub renewed: usize,
    /// The names of those that have not.
    pub missing: Vec<String>,
}

/// What of a swarm can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwarmKey {
    /// The tokens with which nodes join.
    JoinTokens,
    /// The authority that signs the nodes' certificates.
    Authority,
    /// The key that managers need when their engines start.
    UnlockKey,
}

/// A change of the settings; what is not named stays. Part of what can be wished for an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Lock managers from now on, or not.
    pub autolock: Option<bool>,
    /// The life of node certificates.
    pub certificate_days: Option<u32>,
}

impl Change {
    /// Is anything named?
    pub(crate) fn is_any(&self) -> bool {
        *self != Change::default()
    }

    /// Writes it down. In a swarm that is still to be formed it applies from its beginning on. What the keys are already may
    /// be wished again: then the swarm is asked for its unlock key again.
    pub(crate) fn apply(&self, keys: &mut SwarmKeys) -> Ruling<()> {
        if let Some(days) = self.certificate_days.filter(|days| !(1..=CERTIFICATE_DAYS_MAX).contains(days)) {
            return Err(Refusal::InvalidValue {
                what: "the life of node certificates",
                value: format!("{days} days"),
                allowed: format!("use 1 to {CERTIFICATE_DAYS_MAX} days"),
            });
        }
        keys.autolock = self.autolock.unwrap_or(keys.autolock);
        keys.certificate_days = self.certificate_days.or(keys.certificate_days);
        keys.generation += u64::from(self.is_any());
        Ok(())
    }
}

impl SwarmKey {
    /// The workflow that replaces it.
    pub fn workflow(self) -> &'static str {
        match self {
            SwarmKey::JoinTokens => workflow::ROTATE_TOKENS,
            SwarmKey::Authority => workflow::ROTATE_AUTHORITY,
            SwarmKey::UnlockKey => workflow::ROTATE_UNLOCK_KEY,
        }
    }
}

impl std::fmt::Display for SwarmKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SwarmKey::JoinTokens => "join tokens",
            SwarmKey::Authority => "certificate authority",
            SwarmKey::UnlockKey => "unlock key",
        })
    }
}

impl SwarmKeys {
    /// Is there anything wished that the swarm does not have yet?
    pub fn outstanding(&self) -> bool {
        self.applied != self.generation
    }

    /// The last rotation of this kind.
    pub fn rotation(&self, key: SwarmKey) -> &Rotation {
        match key {
            SwarmKey::JoinTokens => &self.tokens,
            SwarmKey::Authority => &self.authority,
            SwarmKey::UnlockKey => &self.unlock,
        }
    }

    pub(crate) fn rotation_mut(&mut self, key: SwarmKey) -> &mut Rotation {
        match key {
            SwarmKey::JoinTokens => &mut self.tokens,
            SwarmKey::Authority => &mut self.authority,
            SwarmKey::UnlockKey => &mut self.unlock,
        }
    }

    /// The keys that may open a locked manager, the likeliest first.
    pub fn unlock_keys(&self) -> impl Iterator<Item = &Sealed> {
        [&self.unlock_key, &self.given_unlock_key, &self.former_unlock_key].into_iter().flatten()
    }

    /// The swarm has the settings of this generation, and this unlock key, if it has one.
    pub(crate) fn applied(&mut self, generation: u64, unlock_key: Option<&Sealed>) {
        self.applied = generation;
        self.take_over(unlock_key);
        if generation == self.generation {
            self.given_unlock_key = None;
        }
    }

    /// The swarm has this unlock key from now on. The one before is kept, also if there is none any more: a locked engine
    /// stays locked.
    pub(crate) fn take_over(&mut self, unlock_key: Option<&Sealed>) {
        if self.unlock_key.as_ref() == unlock_key {
            return;
        }
        let before = std::mem::replace(&mut self.unlock_key, unlock_key.cloned());
        if before.is_some() {
            self.former_unlock_key = before;
        }
    }
}

impl Rotation {
    /// Has this operation done it, or the one that it takes up again?
    pub fn is_done_by(&self, operation: &Operation) -> bool {
        self.done_by.as_ref().is_some_and(|by| *by == operation.id || operation.retry_of.as_ref() == Some(by))
    }

    /// What this operation is about to replace, if it has noted it.
    pub fn noted_by(&self, operation: &OperationId) -> Option<&str> {
        self.noted.as_ref().filter(|noted| noted.by == *operation).map(|noted| noted.fingerprint.as_str())
    }
}

/// Has a key of the swarm replaced.
pub fn rotate(tx: &mut Tx<'_>, reference: &str, key: SwarmKey, id: OperationId) -> Ruling<Operation> {
    let environment = environment::usable(tx, reference)?;
    let name = || environment.name.to_string();
    if environment.swarm.is_none() {
        return Err(Refusal::NoSwarm { environment: name() });
    }
    if key == SwarmKey::UnlockKey && environment.keys.unlock_key.is_none() {
        return Err(Refusal::NotAutolocked { environment: name() });
    }
    start(tx, &environment, key.workflow(), environment::swarm(&environment), id)
}

/// Has the locked managers of the swarm unlocked. `given` is a key that Skep may not know.
pub fn unlock(
    tx: &mut Tx<'_>,
    reference: &str,
    given: Option<&Sealed>,
    id: OperationId,
) -> Ruling<Operation> {
    let mut environment = environment::usable(tx, reference)?;
    let hosts = tx.list::<Host>(environment.id.as_str())?;
    if !hosts.iter().any(|host| host.swarm_locked) {
        return Err(Refusal::NothingLocked { environment: environment.name.to_string() });
    }
    if let Some(given) = given {
        environment.keys.given_unlock_key = Some(given.clone());
        // Once unlocked, the swarm is asked for the key that it has now.
        environment.keys.generation += 1;
        tx.put(&environment);
    }
    if environment.keys.unlock_keys().next().is_none() {
        return Err(Refusal::NotAutolocked { environment: environment.name.to_string() });
    }
    start(tx, &environment, workflow::UNLOCK_SWARM, lock(&environment), id)
}

/// The lock of a swarm as the subject of an operation. Not the swarm itself: that can be in the hands of an operation that
/// waits for the locked managers.
pub fn lock(environment: &Environment) -> Subject {
    Subject::new("swarm-lock", &environment.id, &environment.name)
}

/// With which words an environment's unlock key is sealed.
pub fn unlock_key_words(environment: &EnvironmentId) -> String {
    format!("unlock key of the swarm of {environment}")
}

fn start(
    tx: &mut Tx<'_>,
    environment: &Environment,
    workflow: &str,
    subject: Subject,
    id: OperationId,
) -> Ruling<Operation> {
    operation::start(tx, id, workflow, subject, Some(environment), None)
}

#[cfg(test)]
mod tests {
    use skep_codes::Code;
    use skep_ledger::{Request, TransactError, transact};
    use uuid::Uuid;

    use super::*;
    use crate::testing::Swarm;

    fn op(number: u128) -> OperationId {
        OperationId::new(Uuid::from_u128(number))
    }

    async fn refused(swarm: &Swarm, rule: impl Fn(&mut Tx<'_>) -> Ruling<Operation> + Send + Sync) -> Code {
        match transact(&*swarm.ledger, Request::new(), |tx| rule(tx)).await {
            Err(TransactError::Refused(refusal)) => refusal.code(),
            other => panic!("is not refused: {other:?}"),
        }
    }

    fn update(tx: &mut Tx<'_>, reference: &str, keys: &Change, id: OperationId) -> Ruling<Operation> {
        let change = environment::Change { keys: keys.clone(), ..Default::default() };
        environment::update(tx, reference, &change, id)
    }

    #[tokio::test]
    async fn settings_are_a_wish_with_a_generation_and_what_is_not_named_stays() {
        let swarm = Swarm::of(3, 0).await;
        let lock = Change { autolock: Some(true), ..Change::default() };
        let days = Change { certificate_days: Some(30), ..Change::default() };
        swarm.change(|tx| update(tx, "prod", &lock, op(1)).map(drop)).await;
        swarm.change(|tx| update(tx, "prod", &days, op(2)).map(drop)).await;
        let keys = swarm.environment().keys;
        assert_eq!(
            (keys.autolock, keys.certificate_days, keys.generation, keys.applied),
            (true, Some(30), 2, 0)
        );
        let never = Change { certificate_days: Some(0), ..Change::default() };
        assert_eq!(refused(&swarm, |tx| update(tx, "prod", &never, op(3))).await, "SKP-1202");
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_rotated_and_nothing_is_unlocked_that_is_not_locked() {
        let swarm = Swarm::of(3, 0).await;
        let rotated = refused(&swarm, |tx| rotate(tx, "prod", SwarmKey::UnlockKey, op(1))).await;
        assert_eq!(rotated, "SKP-1332");
        assert_eq!(refused(&swarm, |tx| unlock(tx, "prod", None, op(1))).await, "SKP-1333");
        swarm.host_is(2, |host| host.swarm_locked = true).await;
        assert_eq!(refused(&swarm, |tx| unlock(tx, "prod", None, op(1))).await, "SKP-1332");
        let given = Sealed::new(vec![1]);
        swarm.change(|tx| unlock(tx, "prod", Some(&given), op(1)).map(drop)).await;
        let keys = swarm.environment().keys;
        assert_eq!(keys.unlock_keys().collect::<Vec<_>>(), [&given]);
        assert!(keys.outstanding(), "the swarm is asked for its key afterwards");
    }

    #[test]
    fn the_unlock_key_before_is_kept_for_engines_that_were_away() {
        let (first, second) = (Sealed::new(vec![1]), Sealed::new(vec![2]));
        let mut keys = SwarmKeys::default();
        keys.take_over(Some(&first));
        keys.take_over(Some(&second));
        keys.applied(0, Some(&second));
        assert_eq!(keys.unlock_keys().collect::<Vec<_>>(), [&second, &first]);
        keys.applied(0, None);
        assert_eq!(keys.unlock_keys().collect::<Vec<_>>(), [&second], "its engines are still locked with it");
    }
}
