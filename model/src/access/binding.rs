//! Who has which role, where.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Stored, Tx, View};

use super::role;
use super::{Caller, Group, TokenOwner, User, ensure_administrator, token};
use crate::environment::Environment;
use crate::ids::EnvironmentId;
use crate::name::Name;
use crate::{CLUSTER, Refusal, Ruling};

/// Users and groups with a role in one place.
const MEMBERS_MAX: usize = 1_000;

/// Somebody who can have a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A user.
    User(Name),
    /// Everybody in a group.
    Group(Name),
}

/// Where a role counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everywhere.
    Cluster,
    /// In one environment.
    Environment(EnvironmentId),
}

/// A role that somebody has somewhere; one per place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Who.
    pub subject: Subject,
    /// Where.
    pub scope: Scope,
    /// What.
    pub role: Name,
    /// Who said so.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// `subject` as a part of a key.
    key: String,
}

/// Stored with the subject, because that is how every request looks for them.
impl Record for Binding {
    const TABLE: &'static str = "role-binding";
    fn partition(&self) -> &str {
        &self.key
    }
    fn id(&self) -> String {
        self.scope.as_str().to_owned()
    }
}

/// The same by place: who has a role there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    subject: Subject,
    scope: Scope,
}

impl Record for Member {
    const TABLE: &'static str = "role-member";
    fn partition(&self) -> &str {
        self.scope.as_str()
    }
    fn id(&self) -> String {
        self.subject.to_string()
    }
}

impl Subject {
    /// `user` or `group`, and a name.
    pub fn parse(kind: &str, name: &str) -> Ruling<Subject> {
        match kind {
            "user" => Ok(Subject::User(Name::parse("a user", name)?)),
            "group" => Ok(Subject::Group(Name::parse("a group", name)?)),
            _ => Err(Refusal::InvalidValue {
                what: "a member",
                value: format!("{kind}/{name}"),
                allowed: "use user/NAME or group/NAME".into(),
            }),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::User(name) => write!(f, "user/{name}"),
            Subject::Group(name) => write!(f, "group/{name}"),
        }
    }
}

impl Scope {
    /// As a part of a key: the environment's id, or `cluster`.
    pub fn as_str(&self) -> &str {
        match self {
            Scope::Cluster => CLUSTER,
            Scope::Environment(id) => id.as_str(),
        }
    }

    /// The environment, if it is one.
    pub fn environment(&self) -> Option<&EnvironmentId> {
        match self {
            Scope::Cluster => None,
            Scope::Environment(id) => Some(id),
        }
    }
}

impl From<&Environment> for Scope {
    fn from(environment: &Environment) -> Scope {
        Scope::Environment(environment.id.clone())
    }
}

/// Who has a role there, in the order of their names.
pub fn members(view: &View, scope: &Scope) -> Ruling<Vec<Stored<Binding>>> {
    let mut bindings = vec![];
    for member in view.list::<Member>(scope.as_str())? {
        bindings.extend(view.get::<Binding>(&member.subject.to_string(), scope.as_str())?);
    }
    Ok(bindings)
}

/// What somebody has, everywhere.
pub fn bindings_of(view: &View, subject: &Subject) -> Ruling<Vec<Stored<Binding>>> {
    Ok(view.list::<Binding>(&subject.to_string())?)
}

/// Gives somebody a role there, in place of the one that they have had.
pub fn bind(tx: &mut Tx<'_>, by: &Caller, scope: &Scope, subject: &Subject, role: &str) -> Ruling<Binding> {
    exists(tx, subject)?;
    let role = role::to_give(tx, by, role, scope)?;
    if tx.get::<Member>(scope.as_str(), &subject.to_string())?.is_some() {
        // Whoever may not give a role must not take it either.
        may_take(tx, by, scope, subject)?;
    } else if tx.glance::<Member>(scope.as_str())?.len() >= MEMBERS_MAX {
        return Err(Refusal::TooMany { what: "members", limit: MEMBERS_MAX });
    }
    let (scope, subject) = (scope.clone(), subject.clone());
    let binding = Binding {
        key: subject.to_string(),
        role: role.name,
        created_by: by.principal.clone(),
        created_at: tx.now(),
        subject: subject.clone(),
        scope: scope.clone(),
    };
    tx.put(&Member { subject, scope });
    tx.put(&binding);
    ensure_administrator(tx)?;
    Ok(binding)
}

/// The role of whoever has made an environment. Keys and the first administrator's token need none.
pub fn own(tx: &mut Tx<'_>, by: &Caller, environment: &EnvironmentId) -> Ruling<()> {
    let Some(user) = by.user().cloned() else { return Ok(()) };
    let (subject, scope) = (Subject::User(user), Scope::Environment(environment.clone()));
    let role = role::named(tx, role::OWNER)?.name;
    let key = subject.to_string();
    tx.put(&Member { subject: subject.clone(), scope: scope.clone() });
    tx.put(&Binding { subject, scope, role, created_by: by.principal.clone(), created_at: tx.now(), key });
    Ok(())
}

/// Takes somebody's role there away.
pub fn unbind(tx: &mut Tx<'_>, by: &Caller, scope: &Scope, subject: &Subject) -> Ruling<Binding> {
    let binding = may_take(tx, by, scope, subject)?;
    drop_binding(tx, scope, subject);
    ensure_administrator(tx)?;
    Ok(binding)
}

fn may_take(tx: &mut Tx<'_>, by: &Caller, scope: &Scope, subject: &Subject) -> Ruling<Binding> {
    let binding = tx.get::<Binding>(&subject.to_string(), scope.as_str())?;
    let not_found = || Refusal::NotFound { what: "member", name: subject.to_string(), scope: None };
    let binding = binding.ok_or_else(not_found)?.record;
    let role = role::named(tx, binding.role.as_str())?;
    by.may_give(&role, scope)?;
    Ok(binding)
}

fn drop_binding(tx: &mut Tx<'_>, scope: &Scope, subject: &Subject) {
    tx.delete::<Member>(scope.as_str(), &subject.to_string());
    tx.delete::<Binding>(&subject.to_string(), scope.as_str());
}

/// Which roles somebody has, and where.
pub(super) fn roles_of(tx: &mut Tx<'_>, subject: &Subject) -> Ruling<Vec<(Scope, Name)>> {
    let bindings = tx.list::<Binding>(&subject.to_string())?;
    Ok(bindings.into_iter().map(|binding| (binding.record.scope, binding.record.role)).collect())
}

/// Nobody is bound to it any more: it goes.
pub(super) fn subject_gone(tx: &mut Tx<'_>, subject: &Subject) -> Ruling<()> {
    for binding in tx.list::<Binding>(&subject.to_string())? {
        drop_binding(tx, &binding.scope, subject);
    }
    Ok(())
}

/// Nobody has a role in it any more, and no key opens it.
pub(crate) fn environment_gone(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Ruling<()> {
    let scope = Scope::Environment(environment.clone());
    for member in tx.list::<Member>(scope.as_str())? {
        drop_binding(tx, &scope, &member.subject);
    }
    token::drop_tokens(tx, &TokenOwner::from(environment), |_| true)
}

/// Who has that role in the whole cluster.
pub(super) fn with_cluster_role(tx: &mut Tx<'_>, role: &str) -> Ruling<Vec<Subject>> {
    let mut subjects = vec![];
    for member in tx.list::<Member>(CLUSTER)? {
        let binding = tx.get::<Binding>(&member.subject.to_string(), CLUSTER)?;
        if binding.is_some_and(|binding| binding.role.as_str() == role) {
            subjects.push(member.record.subject);
        }
    }
    Ok(subjects)
}

fn exists(tx: &mut Tx<'_>, subject: &Subject) -> Ruling<()> {
    let (what, name, known) = match subject {
        Subject::User(name) => ("user", name, tx.get::<User>(CLUSTER, name.as_str())?.is_some()),
        Subject::Group(name) => ("group", name, tx.get::<Group>(CLUSTER, name.as_str())?.is_some()),
    };
    match known {
        true => Ok(()),
        false => Err(Refusal::NotFound { what, name: name.to_string(), scope: None }),
    }
}
