//! Users: people with an account.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Stored, Tx, View};

use super::binding::{self, Subject};
use super::role::{self, ADMIN};
use super::{ActsAs, Caller, Token, TokenKind, TokenOwner, device, token};
use crate::ids::UserId;
use crate::name::Name;
use crate::{CLUSTER, Refusal, Ruling};

/// Users in one cluster.
const USERS_MAX: usize = 10_000;

/// The provider of accounts whose passwords are kept here.
pub const LOCAL: &str = "local";

/// A person with an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id: another user of the same name later is not this one.
    pub id: UserId,
    /// Unique in the cluster.
    pub name: Name,
    /// Who says that it is them: `local`.
    pub provider: String,
    /// What the password is compared with, as a PHC string; never shown.
    pub password: String,
    /// The groups that it belongs to.
    pub groups: BTreeSet<Name>,
    /// Since when it may not come in.
    pub disabled_at: Option<Timestamp>,
    /// Who has made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

impl Record for User {
    const TABLE: &'static str = "user";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.name.to_string()
    }
}

/// A new user as somebody asks for it.
#[derive(Debug, Clone)]
pub struct UserWish {
    /// Minted by the caller.
    pub id: UserId,
    /// The name.
    pub name: String,
    /// The PHC string of the password.
    pub password: String,
    /// May it do everything, everywhere?
    pub admin: bool,
}

/// All users, in the order of their names.
pub fn users(view: &View) -> Ruling<Vec<Stored<User>>> {
    Ok(view.list::<User>(CLUSTER)?)
}

/// The user of that name.
pub fn find_user(view: &View, name: &str) -> Ruling<Stored<User>> {
    view.get::<User>(CLUSTER, name)?.ok_or_else(|| not_found(name))
}

/// Makes a user who may what everybody may, or everything.
pub fn create_user(tx: &mut Tx<'_>, by: &Caller, wish: &UserWish) -> Ruling<User> {
    let name = Name::parse("a user", &wish.name)?;
    // What the first administrator's token is called everywhere.
    if name.as_str() == ADMIN {
        return Err(Refusal::NameTaken { what: "a user", name: name.to_string(), scope: None });
    }
    if tx.get::<User>(CLUSTER, name.as_str())?.is_some() {
        return Err(Refusal::NameTaken { what: "a user", name: name.to_string(), scope: None });
    }
    if tx.glance::<User>(CLUSTER)?.len() >= USERS_MAX {
        return Err(Refusal::TooMany { what: "users", limit: USERS_MAX });
    }
    let user = User {
        id: wish.id.clone(),
        name,
        provider: LOCAL.into(),
        password: wish.password.clone(),
        groups: BTreeSet::new(),
        disabled_at: None,
        created_by: by.principal.clone(),
        created_at: tx.now(),
    };
    tx.put(&user);
    if wish.admin {
        super::bind(tx, by, &super::Scope::Cluster, &Subject::User(user.name.clone()), ADMIN)?;
    }
    Ok(user)
}

/// Another password. Whoever is signed in with the one before is signed out, except the session that asks; API keys stay.
pub fn set_password(tx: &mut Tx<'_>, by: &Caller, name: &str, password: &str) -> Ruling<User> {
    let mut user = named(tx, name)?;
    may_act_as(tx, by, &user)?;
    password.clone_into(&mut user.password);
    tx.put(&user);
    drop_keys(tx, &user, |token| token.kind == TokenKind::Session && token.id != by.token)?;
    Ok(user)
}

/// Keeps a user out until it is enabled again; its keys wait as well.
pub fn disable_user(tx: &mut Tx<'_>, by: &Caller, name: &str) -> Ruling<User> {
    let mut user = named(tx, name)?;
    may_act_as(tx, by, &user)?;
    let now = tx.now();
    user.disabled_at.get_or_insert(now);
    tx.put(&user);
    drop_keys(tx, &user, |token| token.kind == TokenKind::Session)?;
    ensure_administrator(tx)?;
    Ok(user)
}

/// Lets a user come in again.
pub fn enable_user(tx: &mut Tx<'_>, by: &Caller, name: &str) -> Ruling<User> {
    let mut user = named(tx, name)?;
    may_act_as(tx, by, &user)?;
    user.disabled_at = None;
    tx.put(&user);
    Ok(user)
}

/// Lets a user go, with its keys and roles. What it has made stays.
pub fn remove_user(tx: &mut Tx<'_>, by: &Caller, name: &str) -> Ruling<User> {
    let user = named(tx, name)?;
    may_act_as(tx, by, &user)?;
    drop_keys(tx, &user, |_| true)?;
    binding::subject_gone(tx, &Subject::User(user.name.clone()))?;
    tx.delete::<User>(CLUSTER, name);
    ensure_administrator(tx)?;
    Ok(user)
}

/// Whoever sets somebody's password can be them, and so must be able to give all that they have.
fn may_act_as(tx: &mut Tx<'_>, by: &Caller, user: &User) -> Ruling<()> {
    if by.user() == Some(&user.name) {
        return Ok(());
    }
    let groups = user.groups.iter().cloned().map(Subject::Group);
    for subject in groups.chain([Subject::User(user.name.clone())]) {
        for (scope, role) in binding::roles_of(tx, &subject)? {
            let role = role::named(tx, role.as_str())?;
            by.may_give(&role, &scope)?;
        }
    }
    Ok(())
}

/// With its keys and sessions goes what would become one.
fn drop_keys(tx: &mut Tx<'_>, user: &User, which: impl Fn(&Token) -> bool) -> Ruling<()> {
    token::drop_tokens(tx, &TokenOwner::from(&ActsAs::User(user.name.clone())), which)?;
    device::user_gone(tx, &user.name)
}

/// Somebody who can come in may do everything: else nobody could let anybody in ever again.
pub(crate) fn ensure_administrator(tx: &mut Tx<'_>) -> Ruling<()> {
    let now = tx.now();
    if token::owned(tx, &TokenOwner::from(&ActsAs::Cluster))?.iter().any(|token| !token.has_ended(now)) {
        return Ok(());
    }
    let subjects = binding::with_cluster_role(tx, ADMIN)?;
    let (mut groups, can_come_in) = (BTreeSet::new(), |user: &User| user.disabled_at.is_none());
    for subject in subjects {
        match subject {
            Subject::User(name) => {
                if tx.get::<User>(CLUSTER, name.as_str())?.is_some_and(|user| can_come_in(&user)) {
                    return Ok(());
                }
            }
            Subject::Group(name) => {
                groups.insert(name);
            }
        }
    }
    // Everybody is looked at only if nobody has the role without a group.
    let through_group = |user: &User| can_come_in(user) && !user.groups.is_disjoint(&groups);
    match !groups.is_empty() && tx.list::<User>(CLUSTER)?.iter().any(|user| through_group(user)) {
        true => Ok(()),
        false => Err(Refusal::LastAdministrator),
    }
}

pub(super) fn named(tx: &mut Tx<'_>, name: &str) -> Ruling<User> {
    Ok(tx.get::<User>(CLUSTER, name)?.ok_or_else(|| not_found(name))?.record)
}

fn not_found(name: &str) -> Refusal {
    Refusal::NotFound { what: "user", name: name.to_owned(), scope: None }
}
