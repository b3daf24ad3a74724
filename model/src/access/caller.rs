//! Whoever asks, found by a token.

use std::collections::BTreeSet;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use jiff::Timestamp;
use skep_ledger::{Record as _, Topic, View};

use super::Permission::{self, *};
use super::{
    ActsAs, Binding, Grants, Role, Scope, Subject, Token, TokenKind, User, bindings_of, find_role, parse,
};
use crate::name::Name;
use crate::{CLUSTER, Refusal, Ruling};

/// What every account may in the cluster. In Rancher 1.6, too, a user makes environments and owns them.
const EVERY_USER: &[Permission] = &[CreateEnvironment, ViewTemplate, ViewDriver];

/// What every API key of an environment may outside of it: see what is there to choose from.
const EVERY_KEY: &[Permission] = &[ViewTemplate, ViewDriver];

/// Whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// A user's name; `ENVIRONMENT/key` for an environment's key; `admin` for the first administrator's token.
    pub principal: String,
    /// For whom it speaks.
    pub acts_as: ActsAs,
    /// Its groups.
    pub groups: Vec<Name>,
    /// What it may.
    pub grants: Grants,
    /// The id of the token that it came with.
    pub token: String,
    /// Does it come with a session, rather than with a key?
    pub has_session: bool,
    /// When that token ends.
    pub expires_at: Option<Timestamp>,
    /// When that token was last seen, as far as it was written down.
    pub last_used_at: Option<Timestamp>,
}

impl Caller {
    /// May do everything; for what Skep does by itself.
    pub fn administrator(principal: &str) -> Caller {
        Caller {
            principal: principal.to_owned(),
            acts_as: ActsAs::Cluster,
            groups: vec![],
            grants: Grants::everything(),
            token: String::new(),
            has_session: false,
            expires_at: None,
            last_used_at: None,
        }
    }

    /// The user, if it is one.
    pub fn user(&self) -> Option<&Name> {
        match &self.acts_as {
            ActsAs::User(name) => Some(name),
            ActsAs::Cluster | ActsAs::Environment { .. } => None,
        }
    }

    /// Is the token worth nothing any more?
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Nobody gives away what they have not got themselves.
    pub fn may_give(&self, role: &Role, scope: &Scope) -> Ruling<()> {
        let lacks = |permission: &Permission| !self.grants.has(*permission, scope);
        match role.allows().into_iter().find(lacks) {
            None => Ok(()),
            Some(permission) => Err(Refusal::BeyondOwn {
                role: role.name.to_string(),
                permission: permission.as_str().to_owned(),
            }),
        }
    }
}

/// All that the answer of [`caller`] is made of, beside its arguments: whoever remembers it forgets it when any of this
/// changes.
pub fn caller_depends_on() -> [Topic; 4] {
    [Token::TABLE, User::TABLE, Binding::TABLE, Role::TABLE].map(Topic::table)
}

/// Whose token this is; `None` if it is not valid, for whatever reason. Takes as long for a wrong secret as for a right one.
pub fn caller(view: &View, token: &str, now: Timestamp) -> Ruling<Option<Caller>> {
    let Some((id, hash)) = parse(token) else {
        return Ok(None);
    };
    let Some(known) = view.get::<Token>(CLUSTER, &id)? else {
        return Ok(None);
    };
    match verify_slices_are_equal(&known.hash, &hash) {
        Ok(()) => of_token(view, &known, now),
        Err(_) => Ok(None),
    }
}

/// The same caller, as it is in this view; `None` if its token is worth nothing any more.
pub fn again(view: &View, caller: &Caller, now: Timestamp) -> Ruling<Option<Caller>> {
    match view.get::<Token>(CLUSTER, &caller.token)? {
        Some(known) => of_token(view, &known, now),
        None => Ok(None),
    }
}

fn of_token(view: &View, known: &Token, now: Timestamp) -> Ruling<Option<Caller>> {
    if known.has_ended(now) {
        return Ok(None);
    }
    let mut caller = Caller {
        acts_as: known.acts_as.clone(),
        grants: Grants::default(),
        token: known.id.clone(),
        has_session: known.kind == TokenKind::Session,
        expires_at: known.expires_at,
        last_used_at: known.last_used_at,
        ..Caller::administrator(&known.principal)
    };
    match &known.acts_as {
        ActsAs::Cluster => caller.grants = Grants::everything(),
        ActsAs::Environment { id, role } => {
            caller.grants.add(&Scope::Cluster, EVERY_KEY.iter().copied());
            caller.grants.add(&Scope::Environment(id.clone()), allowed_by(view, role)?);
        }
        ActsAs::User(name) => {
            let user = view.get::<User>(CLUSTER, name.as_str())?;
            let Some(user) = user.filter(|user| user.disabled_at.is_none()) else { return Ok(None) };
            caller.grants.add(&Scope::Cluster, EVERY_USER.iter().copied());
            caller.groups = user.groups.iter().cloned().collect();
            let groups = caller.groups.iter().cloned().map(Subject::Group);
            for subject in groups.chain([Subject::User(name.clone())]) {
                for binding in bindings_of(view, &subject)? {
                    caller.grants.add(&binding.scope, allowed_by(view, &binding.role)?);
                }
            }
        }
    }
    Ok(Some(caller))
}

/// A role that is gone allows nothing.
fn allowed_by(view: &View, role: &Name) -> Ruling<BTreeSet<Permission>> {
    match find_role(view, role.as_str()) {
        Ok((role, _)) => Ok(role.allows()),
        Err(Refusal::NotFound { .. }) => Ok(BTreeSet::new()),
        Err(refusal) => Err(refusal),
    }
}
