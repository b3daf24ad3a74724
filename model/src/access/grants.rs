//! What somebody may, everywhere, and what is answered to somebody who may not.

use std::collections::{BTreeMap, BTreeSet};

use super::{Permission, Scope};
use crate::ids::EnvironmentId;

/// What somebody may. What is allowed in the cluster is allowed in every environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    cluster: BTreeSet<Permission>,
    environments: BTreeMap<EnvironmentId, BTreeSet<Permission>>,
}

/// May it be done?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No; and that it exists is no secret.
    Forbid,
    /// No, and not even that it exists is told.
    Hide,
}

impl Grants {
    /// Everything.
    pub fn everything() -> Grants {
        Grants { cluster: Permission::ALL.iter().copied().collect(), environments: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, scope: &Scope, permissions: impl IntoIterator<Item = Permission>) {
        let granted = match scope {
            Scope::Cluster => &mut self.cluster,
            Scope::Environment(id) => self.environments.entry(id.clone()).or_default(),
        };
        granted.extend(permissions);
    }

    /// Is it allowed there?
    pub fn has(&self, permission: Permission, scope: &Scope) -> bool {
        let there = scope.environment().and_then(|id| self.environments.get(id));
        self.cluster.contains(&permission) || there.is_some_and(|granted| granted.contains(&permission))
    }

    /// Is it allowed in every environment, also in those that will be?
    pub fn has_everywhere(&self, permission: Permission) -> bool {
        self.cluster.contains(&permission)
    }

    /// All that is allowed in the cluster, and so in every environment.
    pub fn everywhere(&self) -> &BTreeSet<Permission> {
        &self.cluster
    }

    /// All that is allowed in environments beyond that.
    pub fn environments(&self) -> &BTreeMap<EnvironmentId, BTreeSet<Permission>> {
        &self.environments
    }

    /// May it be done there?
    pub fn verdict(&self, permission: Permission, scope: &Scope) -> Verdict {
        match scope {
            _ if self.has(permission, scope) => Verdict::Allow,
            Scope::Environment(_) if !self.has(Permission::ViewEnvironment, scope) => Verdict::Hide,
            _ => Verdict::Forbid,
        }
    }
}
