//! Tokens: API keys and sessions. Only their hashes are stored.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Stored, Tx, View};

use super::role::{self, ADMIN};
use super::{Caller, Scope, ensure_administrator, setup, user};
use crate::ids::EnvironmentId;
use crate::name::Name;
use crate::{CLUSTER, Refusal, Ruling};

/// What every token begins with, so that secret scanners recognize it.
pub const TOKEN_PREFIX: &str = "skp_";

/// Longest life of an API key that ends by itself.
pub const TOKEN_LIFE_MAX: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Keys and sessions of one owner: what is lost is revoked, not collected.
const TOKENS_PER_OWNER_MAX: usize = 100;

/// For whom a token speaks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActsAs {
    /// For the administrator who founded the cluster: may do everything.
    #[default]
    Cluster,
    /// For a user: may what the user may.
    User(Name),
    /// For an environment: may there what its role says, whoever made it.
    Environment {
        /// Which one.
        id: EnvironmentId,
        /// What it may there.
        role: Name,
    },
}

/// What a token is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Programs keep it.
    #[default]
    Key,
    /// Somebody has signed in.
    Session,
}

/// An API key or a session: `skp_<id>_<secret>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The public part.
    pub id: String,
    /// SHA-256 of the whole token.
    pub hash: Vec<u8>,
    /// Who speaks with it, in words.
    pub principal: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// For whom it speaks.
    #[serde(default)]
    pub acts_as: ActsAs,
    /// What it is for.
    #[serde(default)]
    pub kind: TokenKind,
    /// What people call it.
    #[serde(default)]
    pub name: String,
    /// When it ends; absent: when it is revoked.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// When it was last used, give or take some minutes.
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
    /// How often its secret was replaced.
    #[serde(default)]
    pub generation: u32,
}

impl Record for Token {
    const TABLE: &'static str = "token";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.id.clone()
    }
}

/// Whose tokens: the cluster's, a user's or an environment's, whatever their roles there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOwner(String);

impl From<&ActsAs> for TokenOwner {
    fn from(acts_as: &ActsAs) -> TokenOwner {
        match acts_as {
            ActsAs::Cluster => TokenOwner(CLUSTER.into()),
            ActsAs::User(name) => TokenOwner(format!("user/{name}")),
            ActsAs::Environment { id, .. } => id.into(),
        }
    }
}

impl From<&EnvironmentId> for TokenOwner {
    fn from(id: &EnvironmentId) -> TokenOwner {
        TokenOwner(format!("environment/{id}"))
    }
}

/// That an owner has a token. Each request looks for a token by its id; this is how rules find those of one owner,
/// without reading, and so without waiting for, everybody else's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owned {
    owner: String,
    token: String,
}

impl Record for Owned {
    const TABLE: &'static str = "token-of-owner";
    fn partition(&self) -> &str {
        &self.owner
    }
    fn id(&self) -> String {
        self.token.clone()
    }
}

impl Token {
    /// Is it worth nothing any more?
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// A new token; id and hash are minted by the caller.
#[derive(Debug, Clone)]
pub struct TokenWish {
    /// The public part.
    pub id: String,
    /// SHA-256 of the whole token.
    pub hash: Vec<u8>,
    /// For whom it speaks.
    pub acts_as: ActsAs,
    /// What it is for.
    pub kind: TokenKind,
    /// What people call it; may be empty.
    pub name: String,
    /// How long it is valid; absent: until it is revoked.
    pub life: Option<SignedDuration>,
}

/// The id and the hash of a token's text; `None` if it cannot be one.
pub fn parse(token: &str) -> Option<(String, Vec<u8>)> {
    id_and_hash(TOKEN_PREFIX, token)
}

/// The same of any text that is a prefix, an id, and a secret.
pub(super) fn id_and_hash(prefix: &str, text: &str) -> Option<(String, Vec<u8>)> {
    let (id, secret) = text.strip_prefix(prefix)?.split_once('_')?;
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    (plain(id) && plain(secret)).then(|| (id.to_owned(), digest(&SHA256, text.as_bytes()).as_ref().to_vec()))
}

/// Records the administrator's token of a new cluster. Repeating it changes nothing; a second administrator token
/// is not made this way, nor the first one again after it was revoked.
pub fn bootstrap(tx: &mut Tx<'_>, id: &str, hash: &[u8]) -> Ruling<bool> {
    if !setup::is_new(tx)? {
        return Ok(false);
    }
    admit_administrator(tx, id, hash)?;
    Ok(true)
}

/// Admits another administrator, beside those that are known: whoever restores a cluster may have lost their tokens. A setup code
/// that nobody has used is worth nothing from then on.
pub fn admit_administrator(tx: &mut Tx<'_>, id: &str, hash: &[u8]) -> Ruling<()> {
    setup::spend(tx)?;
    let created_at = tx.now();
    let token = Token {
        id: id.into(),
        hash: hash.into(),
        principal: ADMIN.into(),
        created_at,
        acts_as: ActsAs::Cluster,
        kind: TokenKind::Key,
        name: "first administrator".into(),
        expires_at: None,
        last_used_at: None,
        generation: 0,
    };
    add(tx, &token);
    Ok(())
}

fn add(tx: &mut Tx<'_>, token: &Token) {
    let TokenOwner(owner) = TokenOwner::from(&token.acts_as);
    tx.put(&Owned { owner, token: token.id.clone() });
    tx.put(token);
}

fn discard(tx: &mut Tx<'_>, token: &Token) {
    tx.delete::<Owned>(&TokenOwner::from(&token.acts_as).0, &token.id);
    tx.delete::<Token>(CLUSTER, &token.id);
}

/// The tokens of an owner, in the order in which they were made.
pub fn tokens(view: &View, owner: &TokenOwner) -> Ruling<Vec<Stored<Token>>> {
    let mut tokens = vec![];
    for owned in view.list::<Owned>(&owner.0)? {
        tokens.extend(view.get::<Token>(CLUSTER, &owned.token)?);
    }
    tokens.sort_by_key(|token| token.created_at);
    Ok(tokens)
}

/// Makes those tokens of an owner worthless for which `which` holds.
pub(super) fn drop_tokens(tx: &mut Tx<'_>, owner: &TokenOwner, which: impl Fn(&Token) -> bool) -> Ruling<()> {
    for token in owned(tx, owner)?.iter().filter(|token| which(token)) {
        discard(tx, token);
    }
    Ok(())
}

/// The tokens of an owner: nobody adds or removes one meanwhile.
pub(super) fn owned(tx: &mut Tx<'_>, owner: &TokenOwner) -> Ruling<Vec<Token>> {
    let mut tokens = vec![];
    for owned in tx.list::<Owned>(&owner.0)? {
        tokens.extend(tx.get::<Token>(CLUSTER, &owned.token)?.map(|stored| stored.record));
    }
    Ok(tokens)
}

/// The token of that id, if `wanted` holds for it: whatever somebody may not see is not there.
pub fn find_token(view: &View, id: &str, wanted: impl Fn(&Token) -> bool) -> Ruling<Stored<Token>> {
    view.get::<Token>(CLUSTER, id)?.filter(|token| wanted(token)).ok_or_else(|| not_found(id))
}

/// Makes a token. Those of the same owner that have ended go.
pub fn create_token(tx: &mut Tx<'_>, by: &Caller, wish: &TokenWish) -> Ruling<Token> {
    let now = tx.now();
    if wish.name.chars().count() > 100 || wish.name.chars().any(char::is_control) {
        return Err(Refusal::InvalidValue {
            what: "the name of a key",
            value: wish.name.chars().filter(|c| !c.is_control()).take(100).collect(),
            allowed: "use at most 100 visible characters".into(),
        });
    }
    if let Some(life) = wish.life.filter(|life| !life.is_positive() || *life > TOKEN_LIFE_MAX) {
        return Err(Refusal::InvalidValue {
            what: "the life of a key",
            value: format!("{} s", life.as_secs()),
            allowed: format!("1 second to {} days", TOKEN_LIFE_MAX.as_hours() / 24),
        });
    }
    let principal = principal(tx, by, wish)?;
    let mut valid = 0;
    for owned in tx.glance::<Owned>(&TokenOwner::from(&wish.acts_as).0)? {
        match tx.get::<Token>(CLUSTER, &owned.token)? {
            Some(token) if token.has_ended(now) => discard(tx, &token),
            Some(_) => valid += 1,
            None => {}
        }
    }
    if valid >= TOKENS_PER_OWNER_MAX {
        return Err(Refusal::TooMany { what: "keys and sessions of one owner", limit: TOKENS_PER_OWNER_MAX });
    }
    let token = Token {
        id: wish.id.clone(),
        hash: wish.hash.clone(),
        principal,
        created_at: now,
        acts_as: wish.acts_as.clone(),
        kind: wish.kind,
        name: wish.name.clone(),
        expires_at: wish.life.map(|life| now.checked_add(life).unwrap_or(Timestamp::MAX)),
        last_used_at: None,
        generation: 0,
    };
    add(tx, &token);
    Ok(token)
}

/// Who speaks with it; refused if it could do more than who makes it.
fn principal(tx: &mut Tx<'_>, by: &Caller, wish: &TokenWish) -> Ruling<String> {
    match &wish.acts_as {
        ActsAs::Cluster => Ok(ADMIN.into()),
        ActsAs::User(name) => Ok(user::named(tx, name.as_str())?.name.to_string()),
        ActsAs::Environment { id, role } => {
            let environment = crate::environment::usable(tx, id.as_str())?;
            role::to_give(tx, by, role.as_str(), &Scope::Environment(id.clone()))?;
            Ok(format!("{}/{}", environment.name, wish.id))
        }
    }
}

/// Makes a token worthless, if `wanted` holds for it.
pub fn revoke_token(tx: &mut Tx<'_>, id: &str, wanted: impl Fn(&Token) -> bool) -> Ruling<Token> {
    let token = named(tx, id, wanted)?;
    discard(tx, &token);
    ensure_administrator(tx)?;
    Ok(token)
}

/// Gives a key another secret, from now on; the one before is worthless.
pub fn rotate_token(
    tx: &mut Tx<'_>,
    id: &str,
    hash: impl Fn(u32) -> Vec<u8>,
    wanted: impl Fn(&Token) -> bool,
) -> Ruling<Token> {
    let mut token = named(tx, id, wanted)?;
    token.generation += 1;
    token.hash = hash(token.generation);
    tx.put(&token);
    Ok(token)
}

/// Notes when tokens were used.
pub fn used(tx: &mut Tx<'_>, uses: &BTreeMap<String, Timestamp>) -> Ruling<()> {
    for (id, at) in uses {
        if let Some(token) = tx.get::<Token>(CLUSTER, id)? {
            let last_used_at = token.last_used_at.max(Some(*at));
            tx.put(&Token { last_used_at, ..token.record });
        }
    }
    Ok(())
}

fn named(tx: &mut Tx<'_>, id: &str, wanted: impl Fn(&Token) -> bool) -> Ruling<Token> {
    let token = tx.get::<Token>(CLUSTER, id)?.filter(|token| wanted(token));
    Ok(token.ok_or_else(|| not_found(id))?.record)
}

fn not_found(id: &str) -> Refusal {
    Refusal::NotFound { what: "API key", name: id.to_owned(), scope: None }
}
