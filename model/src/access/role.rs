//! Roles: sets of permissions with a name.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use super::Permission::{self, *};
use super::binding::Binding;
use super::{ActsAs, Caller, Scope, Token};
use crate::name::Name;
use crate::{CLUSTER, Refusal, Ruling};

/// Roles that people have made: more than that nobody can tell apart.
const ROLES_MAX: usize = 200;

/// The role that may do everything, in the whole cluster only.
pub(crate) const ADMIN: &str = "admin";

/// The role of whoever has made an environment.
pub(crate) const OWNER: &str = "owner";

/// The roles in environments that every cluster has: name, description, and what it may beyond the one before it.
const LEVELS: &[(&str, &str, &[Permission])] = &[
    (
        "readonly",
        "Sees everything, logs included, and changes nothing",
        &[ViewEnvironment, ViewMember, ViewHost, ViewStack, ViewLog, ViewRegistry],
    ),
    ("restricted", "Deploys stacks; sees hosts only", &[ManageStack, ManageImage, ManageRegistry]),
    ("member", "Does whatever does not change the environment itself", &[ManageHost, UseHost]),
    (
        OWNER,
        "Does everything in the environment, and says who else may",
        &[ManageEnvironment, ManageMember, ViewToken, ManageToken, ViewSecret],
    ),
];

/// A set of permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Unique in the cluster.
    pub name: Name,
    /// One line for people who choose.
    pub description: String,
    /// `VERB:TYPE` each. What a newer version has written and this one does not know allows nothing here.
    pub permissions: BTreeSet<String>,
    /// When it was made; absent for the built-in ones.
    pub created_at: Option<Timestamp>,
}

impl Record for Role {
    const TABLE: &'static str = "role";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        self.name.to_string()
    }
}

/// A role as somebody wants it.
#[derive(Debug, Clone)]
pub struct RoleWish {
    /// Its name.
    pub name: String,
    /// One line for people who choose.
    pub description: String,
    /// `VERB:TYPE` each.
    pub permissions: Vec<String>,
}

impl Role {
    /// What it allows, as far as this version knows.
    pub fn allows(&self) -> BTreeSet<Permission> {
        self.permissions.iter().filter_map(|text| Permission::parse(text)).collect()
    }

    /// Comes with Skep, and cannot be changed?
    pub fn is_built_in(&self) -> bool {
        self.created_at.is_none()
    }
}

/// All roles with the revision that wrote them (zero for built-in ones): these first, from the least to the most powerful.
pub fn roles(view: &View) -> Ruling<Vec<(Role, u64)>> {
    let built_in = LEVELS.iter().map(|(name, ..)| *name).chain([ADMIN]).filter_map(built_in);
    let made = view.list::<Role>(CLUSTER)?.into_iter().map(|stored| (stored.record, stored.revision));
    Ok(built_in.map(|role| (role, 0)).chain(made).collect())
}

/// The role of that name with the revision that wrote it.
pub fn find_role(view: &View, name: &str) -> Ruling<(Role, u64)> {
    if let Some(role) = built_in(name) {
        return Ok((role, 0));
    }
    let stored = view.get::<Role>(CLUSTER, name)?.ok_or_else(|| not_found(name))?;
    Ok((stored.record, stored.revision))
}

/// As [`find_role`], in a transaction.
pub(crate) fn named(tx: &mut Tx<'_>, name: &str) -> Ruling<Role> {
    match built_in(name) {
        Some(role) => Ok(role),
        None => Ok(tx.get::<Role>(CLUSTER, name)?.ok_or_else(|| not_found(name))?.record),
    }
}

/// The role of that name, to be given to somebody there; refused if it does not belong there, or allows more than who gives it may.
pub(super) fn to_give(tx: &mut Tx<'_>, by: &Caller, name: &str, scope: &Scope) -> Ruling<Role> {
    let role = named(tx, name)?;
    if role.name.as_str() == ADMIN && scope.environment().is_some() {
        return Err(Refusal::InvalidValue {
            what: "the role in an environment",
            value: ADMIN.into(),
            allowed: "it counts everywhere; in an environment use owner".into(),
        });
    }
    by.may_give(&role, scope)?;
    Ok(role)
}

/// Makes a role, or changes what one allows: whoever has it may that from then on, so whoever says so may it all.
pub fn set_role(tx: &mut Tx<'_>, by: &Caller, wish: &RoleWish) -> Ruling<Role> {
    let name = Name::parse("a role", &wish.name)?;
    if built_in(name.as_str()).is_some() {
        return Err(Refusal::BuiltIn { name: name.to_string(), cannot: "changed" });
    }
    let unknown = wish.permissions.iter().find(|text| Permission::parse(text).is_none());
    if let Some(unknown) = unknown {
        let known: Vec<_> = Permission::ALL.iter().map(|known| known.as_str()).collect();
        return Err(Refusal::InvalidValue {
            what: "a permission",
            value: unknown.clone(),
            allowed: format!("use {}", known.join(", ")),
        });
    }
    if wish.permissions.is_empty() {
        return Err(Refusal::InvalidValue {
            what: "the permissions of a role",
            value: "none".into(),
            allowed: "name at least one".into(),
        });
    }
    let before = tx.get::<Role>(CLUSTER, name.as_str())?;
    if before.is_none() && tx.glance::<Role>(CLUSTER)?.len() >= ROLES_MAX {
        return Err(Refusal::TooMany { what: "roles", limit: ROLES_MAX });
    }
    let created_at = before.map_or(Some(tx.now()), |before| before.record.created_at);
    let permissions = wish.permissions.iter().cloned().collect();
    let role = Role { name, description: wish.description.clone(), permissions, created_at };
    by.may_give(&role, &Scope::Cluster)?;
    tx.put(&role);
    Ok(role)
}

/// Lets a role go that nobody has any more.
pub fn remove_role(tx: &mut Tx<'_>, name: &str) -> Ruling<Role> {
    let role = named(tx, name)?;
    if role.is_built_in() {
        return Err(Refusal::BuiltIn { name: name.to_owned(), cannot: "removed" });
    }
    let bound = tx.list_all::<Binding>()?.into_iter().find(|binding| binding.role == role.name);
    let holder = bound.map(|binding| binding.subject.to_string());
    let keys = tx.list::<Token>(CLUSTER)?;
    let has_role =
        |token: &Token| matches!(&token.acts_as, ActsAs::Environment { role: has, .. } if *has == role.name);
    let key = keys.iter().find(|token| has_role(token)).map(|token| format!("API key {}", token.id));
    if let Some(by) = holder.or(key) {
        return Err(Refusal::InUse { what: "role", name: name.to_owned(), by });
    }
    tx.delete::<Role>(CLUSTER, name);
    Ok(role)
}

fn not_found(name: &str) -> Refusal {
    Refusal::NotFound { what: "role", name: name.to_owned(), scope: None }
}

fn built_in(name: &str) -> Option<Role> {
    let (description, permissions): (_, Vec<Permission>) = if name == ADMIN {
        ("Does everything, everywhere", Permission::ALL.to_vec())
    } else {
        let level = LEVELS.iter().position(|(level, ..)| *level == name)?;
        let upto = LEVELS.iter().take(level + 1);
        (LEVELS[level].1, upto.flat_map(|(_, _, adds)| adds.iter().copied()).collect())
    };
    Some(Role {
        name: Name::parse("a role", name).ok()?,
        description: description.to_owned(),
        permissions: permissions.iter().map(|permission| permission.as_str().to_owned()).collect(),
        created_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Reach;
    use super::*;

    fn allowed(name: &str) -> BTreeSet<Permission> {
        built_in(name).expect("is built in").allows()
    }

    /// The rows of Rancher 1.6's "Membership Related Permissions" that exist here: what each role may do beyond seeing.
    #[test]
    fn roles_of_environments_are_those_of_rancher() {
        for (what, owner, member, restricted) in [
            (ManageMember, true, false, false),
            (ManageHost, true, true, false),
            (ManageStack, true, true, true),
            (ManageRegistry, true, true, true),
            (ManageEnvironment, true, false, false),
        ] {
            for (role, may) in
                [("owner", owner), ("member", member), ("restricted", restricted), ("readonly", false)]
            {
                assert_eq!(allowed(role).contains(&what), may, "{role} {}", what.as_str());
            }
        }
        for role in ["owner", "member", "restricted", "readonly"] {
            for what in [ViewMember, ViewHost, ViewStack, ViewRegistry, ViewLog] {
                assert!(allowed(role).contains(&what), "{role} {}", what.as_str());
            }
            assert!(allowed(role).iter().all(|what| what.reach() == Reach::Environment), "{role}");
        }
    }

    #[test]
    fn whoever_owns_an_environment_may_do_everything_there_and_an_administrator_everywhere() {
        let here = Permission::ALL.iter().copied().filter(|what| what.reach() == Reach::Environment);
        assert_eq!(allowed(OWNER), here.collect());
        assert_eq!(allowed(ADMIN).len(), Permission::ALL.len());
    }

    #[test]
    fn permissions_are_read_as_they_are_written() {
        for permission in Permission::ALL {
            assert_eq!(Permission::parse(permission.as_str()), Some(*permission));
            assert!(permission.as_str().split_once(':').is_some() && !permission.about().is_empty());
        }
    }
}
