//! Groups: users who have roles together.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Stored, Tx, View};

use super::binding::{self, Subject};
use super::{Caller, User, ensure_administrator, user};
use crate::access::role;
use crate::name::Name;
use crate::{CLUSTER, Refusal, Ruling};

/// Groups in one cluster.
const GROUPS_MAX: usize = 1_000;

/// Groups of one user: each request looks at all of their roles.
const GROUPS_PER_USER_MAX: usize = 50;

/// Users who have roles together. Who they are stands with the users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Unique in the cluster.
    pub name: Name,
    /// One line about it.
    pub description: String,
    /// Who has made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

impl Record for Group {
    const TABLE: &'static str = "group";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.name.to_string()
    }
}

/// All groups, in the order of their names.
pub fn groups(view: &View) -> Ruling<Vec<Stored<Group>>> {
    Ok(view.list::<Group>(CLUSTER)?)
}

/// The group of that name.
pub fn find_group(view: &View, name: &str) -> Ruling<Stored<Group>> {
    view.get::<Group>(CLUSTER, name)?.ok_or_else(|| not_found(name))
}

/// Makes a group with nobody in it.
pub fn create_group(tx: &mut Tx<'_>, by: &Caller, name: &str, description: &str) -> Ruling<Group> {
    let name = Name::parse("a group", name)?;
    if tx.get::<Group>(CLUSTER, name.as_str())?.is_some() {
        return Err(Refusal::NameTaken { what: "a group", name: name.to_string(), scope: None });
    }
    if tx.glance::<Group>(CLUSTER)?.len() >= GROUPS_MAX {
        return Err(Refusal::TooMany { what: "groups", limit: GROUPS_MAX });
    }
    let description = description.to_owned();
    let group = Group { name, description, created_by: by.principal.clone(), created_at: tx.now() };
    tx.put(&group);
    Ok(group)
}

/// Lets a group go; its members lose what they had through it.
pub fn remove_group(tx: &mut Tx<'_>, by: &Caller, name: &str) -> Ruling<Group> {
    let group = named(tx, name)?;
    may_change(tx, by, &group)?;
    for user in tx.list::<User>(CLUSTER)? {
        if user.groups.contains(&group.name) {
            let mut user = user.record;
            user.groups.remove(&group.name);
            tx.put(&user);
        }
    }
    binding::subject_gone(tx, &Subject::Group(group.name.clone()))?;
    tx.delete::<Group>(CLUSTER, name);
    ensure_administrator(tx)?;
    Ok(group)
}

/// Takes a user into a group. Repeating it changes nothing.
pub fn add_member(tx: &mut Tx<'_>, by: &Caller, name: &str, user: &str) -> Ruling<User> {
    let group = named(tx, name)?;
    may_change(tx, by, &group)?;
    let mut user = user::named(tx, user)?;
    if user.groups.insert(group.name) {
        if user.groups.len() > GROUPS_PER_USER_MAX {
            return Err(Refusal::TooMany { what: "groups of a user", limit: GROUPS_PER_USER_MAX });
        }
        tx.put(&user);
    }
    Ok(user)
}

/// Takes a user out of a group.
pub fn remove_member(tx: &mut Tx<'_>, by: &Caller, name: &str, user: &str) -> Ruling<User> {
    let group = named(tx, name)?;
    may_change(tx, by, &group)?;
    let mut user = user::named(tx, user)?;
    if !user.groups.remove(&group.name) {
        return Err(Refusal::NotFound { what: "member", name: format!("user/{}", user.name), scope: None });
    }
    tx.put(&user);
    ensure_administrator(tx)?;
    Ok(user)
}

/// Who is in a group has its roles, so whoever says who is in it gives them.
fn may_change(tx: &mut Tx<'_>, by: &Caller, group: &Group) -> Ruling<()> {
    for (scope, role) in binding::roles_of(tx, &Subject::Group(group.name.clone()))? {
        let role = role::named(tx, role.as_str())?;
        by.may_give(&role, &scope)?;
    }
    Ok(())
}

fn named(tx: &mut Tx<'_>, name: &str) -> Ruling<Group> {
    Ok(tx.get::<Group>(CLUSTER, name)?.ok_or_else(|| not_found(name))?.record)
}

fn not_found(name: &str) -> Refusal {
    Refusal::NotFound { what: "group", name: name.to_owned(), scope: None }
}
