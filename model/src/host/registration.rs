//! Registration: which key speaks for a host, and how machines that no driver made become hosts.
//!
//! ```text
//!   driver's machine:   wished ─► its one-time token ─► its key
//!   anybody's machine:            a token of the environment, its name and address ─► host and key at once
//!   either, later:                                                                   its key is enough
//! ```
//! A token's secret is not here: it is derived from a key that every manager has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use super::adoption::{self, Node};
use super::{Host, Machine, Registration, WishedRole, by_id, new_host, start};
use crate::environment::{self, Environment};
use crate::ids::{EnvironmentId, HostId, OperationId};
use crate::placement::{Change, Placement};
use crate::token_terms::{self, Bounds};
use crate::{CLUSTER, Refusal, Ruling};

/// Life of a registration token where nothing else is said.
pub const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// Longest life of a registration token: it may stand in the start-up script of machines that come and go.
pub const TOKEN_LIFE_MAX: SignedDuration = SignedDuration::from_hours(365 * 24);

/// How many machines may register with one token: as many as an environment can have.
pub const TOKEN_USES_MAX: u32 = super::HOSTS_PER_ENVIRONMENT_MAX as u32;

/// Registration tokens of one environment; more than that nobody has an eye on.
pub const TOKENS_PER_ENVIRONMENT_MAX: usize = 100;

/// What a registration token is still good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationToken {
    /// Its name; public.
    pub id: String,
    /// Whose hosts register with it.
    pub environment: EnvironmentId,
    /// Which part they should play in the swarm.
    pub role: WishedRole,
    /// The labels that their nodes get.
    pub labels: BTreeMap<String, String>,
    /// How many more may register with it.
    pub uses_left: u32,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Record for RegistrationToken {
    const TABLE: &'static str = "registration-token";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.id.clone()
    }
}

/// Which host a key speaks for, so that a machine that asks twice is one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostKey {
    hash: Vec<u8>,
    host: HostId,
}

impl Record for HostKey {
    const TABLE: &'static str = "host-key";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        key_index(&self.hash)
    }
}

/// A wish for a registration token; the id is minted by the caller.
#[derive(Debug, Clone)]
pub struct TokenWish {
    /// The new token's id.
    pub id: String,
    /// Which part the hosts should play in the swarm.
    pub role: WishedRole,
    /// The labels that their nodes get.
    pub labels: BTreeMap<String, String>,
    /// How long it is valid.
    pub life: SignedDuration,
    /// How many may register with it.
    pub uses: u32,
}

/// A machine that offers itself as a host; its token's secret was right.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// The token's id.
    pub token: &'a str,
    /// SHA-256 of its public key.
    pub key_hash: &'a [u8],
    /// The wished name.
    pub name: &'a str,
    /// Where other hosts reach it.
    pub address: &'a str,
    /// The node of a swarm that its engine is already.
    pub node: Option<Node>,
    /// Its swarm is to be taken over as it is.
    pub adopt: bool,
    /// The host's id, minted by the caller.
    pub host: HostId,
    /// The id of the operation that takes it in, minted by the caller.
    pub operation: OperationId,
}

/// What came of an attempt to register as a host that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Registered {
    /// It may have a certificate.
    Welcome,
    /// Another key speaks for the host.
    TokenUsed,
    /// No key speaks for the host yet, and there is no token to begin with.
    TokenMissing,
    /// There is no such host, or it is going away.
    Unknown,
}

/// Makes a registration token. Ended tokens go on this occasion.
pub fn create_token(
    tx: &mut Tx<'_>,
    environment: &Environment,
    wish: &TokenWish,
) -> Ruling<RegistrationToken> {
    const BOUNDS: Bounds = Bounds {
        life: ("the life of a registration token", TOKEN_LIFE_MAX),
        uses: ("the number of uses of a registration token", TOKEN_USES_MAX),
    };
    let now = tx.now();
    let expires_at = token_terms::end(now, wish.life, wish.uses, &BOUNDS)?;
    // Refused now rather than when the first machine comes.
    labelled(&wish.labels)?;
    let (ended, valid): (Vec<_>, Vec<_>) =
        tx.glance::<RegistrationToken>(CLUSTER)?.into_iter().partition(|token| token.expires_at <= now);
    for ended in ended {
        tx.delete::<RegistrationToken>(CLUSTER, &ended.id);
    }
    if valid.iter().filter(|token| token.environment == environment.id).count() >= TOKENS_PER_ENVIRONMENT_MAX
    {
        let what = "registration tokens in an environment";
        return Err(Refusal::TooMany { what, limit: TOKENS_PER_ENVIRONMENT_MAX });
    }
    let token = RegistrationToken {
        id: wish.id.clone(),
        environment: environment.id.clone(),
        role: wish.role,
        labels: wish.labels.clone(),
        uses_left: wish.uses,
        expires_at,
        created_at: now,
    };
    tx.put(&token);
    Ok(token)
}

/// Makes a registration token worthless. Hosts that registered with it stay.
pub fn revoke_token(tx: &mut Tx<'_>, environment: &Environment, id: &str) -> Ruling<RegistrationToken> {
    let found = tx.get::<RegistrationToken>(CLUSTER, id)?.map(|stored| stored.record);
    let token = found.filter(|token| token.environment == environment.id).ok_or_else(|| {
        let scope = Some(environment.name.to_string());
        Refusal::NotFound { what: "registration token", name: id.to_owned(), scope }
    })?;
    tx.delete::<RegistrationToken>(CLUSTER, id);
    Ok(token)
}

/// The environment goes, and nothing registers in it any more.
pub(crate) fn revoke_all(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Ruling<()> {
    for token in tx.list::<RegistrationToken>(CLUSTER)? {
        if token.environment == *environment {
            tx.delete::<RegistrationToken>(CLUSTER, &token.id);
        }
    }
    Ok(())
}

/// The registration tokens of an environment, ended ones included.
pub fn tokens(view: &View, environment: &Environment) -> Ruling<Vec<RegistrationToken>> {
    let tokens = view.list::<RegistrationToken>(CLUSTER)?.into_iter().map(|stored| stored.record);
    Ok(tokens.filter(|token| token.environment == environment.id).collect())
}

/// Is there still a token of this id that a machine may register with?
pub fn is_useful(view: &View, id: &str, now: Timestamp) -> Ruling<bool> {
    let token = view.get::<RegistrationToken>(CLUSTER, id)?;
    Ok(token.is_some_and(|token| token.is_useful(now)))
}

/// Makes the machine that offers itself a host, or finds that it is one. The same key is the same host, so that a
/// machine whose answer was lost can repeat its offer, also after it has used the token up.
pub fn enrol(tx: &mut Tx<'_>, offer: &Offer<'_>) -> Ruling<HostId> {
    if let Some(known) = tx.get::<HostKey>(CLUSTER, &key_index(offer.key_hash))? {
        return match by_id(tx, known.host.as_str())?.filter(|host| host.removal.is_some()) {
            None => Ok(known.host.clone()),
            Some(host) => Err(Refusal::BeingRemoved { what: "host", name: host.name.to_string() }),
        };
    }
    let now = tx.now();
    let token = tx.get::<RegistrationToken>(CLUSTER, offer.token)?.map(|stored| stored.record);
    let mut token = token.filter(|token| token.is_useful(now)).ok_or(Refusal::RegistrationTokenUseless)?;
    let environment = environment::usable(tx, token.environment.as_str())?;
    let address = free_address(tx, &environment, offer.address)?;
    let adopted = adoption::admit(tx, &environment, offer.name, offer.node.as_ref(), offer.adopt)?;
    let host = Host {
        machine: Some(Machine { id: String::new(), address }),
        registration: Some(Registration { key_hash: offer.key_hash.to_vec(), at: now }),
        placement: labelled(&token.labels)?,
        role: adopted.map_or(token.role, |node| adoption::role(token.role, node)),
        adopted: adopted.map(|node| node.id.clone()),
        ..new_host(tx, &environment, offer.host.clone(), offer.name, None)?
    };
    if let Some(node) = adopted {
        adoption::take_over(tx, &environment, &host.id, node);
    }
    token.uses_left -= 1;
    tx.put(&token);
    tx.put(&HostKey { hash: offer.key_hash.to_vec(), host: host.id.clone() });
    start(tx, &environment, &host, offer.operation.clone(), None)?;
    Ok(host.id)
}

/// Decides whether a key may speak for a host that exists: it does already, or it is the first, and `invited` by the
/// host's one-time token.
pub fn register(tx: &mut Tx<'_>, id: &str, key_hash: &[u8], invited: bool) -> Ruling<Registered> {
    let Some(mut host) = by_id(tx, id)?.filter(|host| host.removal.is_none()) else {
        return Ok(Registered::Unknown);
    };
    match &host.registration {
        Some(known) if known.key_hash == key_hash => Ok(Registered::Welcome),
        Some(_) => Ok(Registered::TokenUsed),
        None if !invited => Ok(Registered::TokenMissing),
        None => {
            host.registration = Some(Registration { key_hash: key_hash.to_vec(), at: tx.now() });
            tx.put(&host);
            Ok(Registered::Welcome)
        }
    }
}

pub(super) fn forget_key(tx: &mut Tx<'_>, host: &Host) {
    if let Some(registration) = &host.registration {
        tx.delete::<HostKey>(CLUSTER, &key_index(&registration.key_hash));
    }
}

impl RegistrationToken {
    fn is_useful(&self, now: Timestamp) -> bool {
        self.expires_at > now && self.uses_left > 0
    }
}

pub(super) fn labelled(labels: &BTreeMap<String, String>) -> Ruling<Placement> {
    let mut placement = Placement::default();
    if !labels.is_empty() {
        let set = labels.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
        placement.change(&Change::Labels(set.collect()))?;
    }
    Ok(placement)
}

/// Two hosts of one swarm under one address would be taken for one: clones of a machine, or two private networks that
/// look alike.
fn free_address(tx: &mut Tx<'_>, environment: &Environment, told: &str) -> Ruling<String> {
    let usable =
        |address: &IpAddr| !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
    let address = told.parse::<IpAddr>().ok().filter(usable).ok_or_else(|| Refusal::InvalidValue {
        what: "the address of a host",
        value: format!("'{told}'"),
        allowed: "it must be an IP address at which the other hosts of the environment reach it".into(),
    })?;
    let address = address.to_string();
    let hosts = tx.list::<Host>(environment.id.as_str())?;
    let has_it = |host: &Host| host.machine.as_ref().is_some_and(|machine| machine.address == address);
    match hosts.iter().find(|host| has_it(host)) {
        None => Ok(address),
        Some(host) => Err(Refusal::AddressTaken { address, host: host.name.to_string() }),
    }
}

fn key_index(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;
