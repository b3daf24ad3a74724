//! The kinds of things that files can hold, and what may stand in each.

use std::fmt;

use serde_json::Value;

use crate::member::MEMBER;
use crate::noun::{CHOSEN, Noun};
use crate::{env, group, registry, role, stack, template, user};

/// Who has which role in the cluster.
const ROLE_BINDING: Noun = Noun { word: "role-binding", path: &["role-bindings"], ..MEMBER };

/// A kind of things.
pub(crate) struct Kind {
    /// As documents say it, and the API.
    pub(crate) name: &'static str,
    pub(crate) noun: &'static Noun,
    /// What may stand under `spec`.
    pub(crate) fields: &'static [Field],
    /// Changing one begins an operation.
    pub(crate) operates: bool,
}

/// A field of a kind.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    takes: Takes,
    pub(crate) is_needed: bool,
}

/// What a field takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Text,
    TextOrNothing,
    Texts,
    Number,
    NumberOrNothing,
    Truth,
    Object(&'static [&'static str]),
    /// What the API shows and nobody says: it may stand there, so that what was shown can be applied.
    Shown,
}

/// Every kind, in the order in which they are made: what others name comes first.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "Role",
        noun: &role::ROLE,
        fields: &[may("description", Takes::Text), must("permissions", Takes::Texts)],
        operates: false,
    },
    Kind { name: "Template", noun: &template::TEMPLATE, fields: TEMPLATE_FIELDS, operates: false },
    Kind {
        name: "User",
        noun: &user::USER,
        fields: &[may("password_file", Takes::Text), may("groups", Takes::Shown)],
        operates: false,
    },
    Kind {
        name: "Group",
        noun: &group::GROUP,
        fields: &[may("description", Takes::Text), may("members", Takes::Texts)],
        operates: false,
    },
    Kind { name: "RoleBinding", noun: &ROLE_BINDING, fields: &[must("role", Takes::Text)], operates: false },
    Kind { name: "Environment", noun: &env::ENV, fields: ENVIRONMENT_FIELDS, operates: true },
    Kind { name: "Member", noun: &MEMBER, fields: &[must("role", Takes::Text)], operates: false },
    Kind {
        name: "Registry",
        noun: &registry::REGISTRY,
        fields: &[must("user", Takes::Text), must("password_file", Takes::Text), may("check", Takes::Truth)],
        operates: false,
    },
    Kind {
        name: "Stack",
        noun: &stack::STACK,
        fields: &[may("recipe", Takes::Text), may("recipe_file", Takes::Text), may("services", Takes::Shown)],
        operates: true,
    },
];

const TEMPLATE_FIELDS: &[Field] = &[
    may("document", Takes::Text),
    may("description", Takes::Text),
    may("public", Takes::Truth),
    may("swarm_managers", Takes::Number),
    may("spread_over", Takes::TextOrNothing),
    may("mtu", Takes::NumberOrNothing),
    may("encrypted", Takes::Truth),
    may("address_pools", Takes::Texts),
    may("subnet_size", Takes::NumberOrNothing),
    may("nfs", Takes::Object(NFS_FIELDS)),
];

const ENVIRONMENT_FIELDS: &[Field] = &[
    must("template", Takes::Text),
    may("swarm_managers", Takes::Number),
    may("spread_over", Takes::TextOrNothing),
    may("manager_patience_secs", Takes::Number),
    may("host_patience_secs", Takes::Number),
    may("rebalance", Takes::Truth),
    may("mtu", Takes::NumberOrNothing),
    may("encrypted", Takes::Truth),
    may("address_pools", Takes::Texts),
    may("subnet_size", Takes::NumberOrNothing),
    may("nfs", Takes::Object(NFS_FIELDS)),
    may("autolock", Takes::Truth),
    may("certificate_days", Takes::Number),
];

const NFS_FIELDS: &[&str] = &["server", "path", "options"];

const fn may(name: &'static str, takes: Takes) -> Field {
    Field { name, takes, is_needed: false }
}

const fn must(name: &'static str, takes: Takes) -> Field {
    Field { name, takes, is_needed: true }
}

impl fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl Kind {
    /// Whether its things are in environments.
    pub(crate) fn is_in_environment(&self) -> bool {
        self.noun.path.contains(&CHOSEN)
    }

    /// What is wrong with a spec, each with the field's name.
    pub(crate) fn faults(&self, spec: &serde_json::Map<String, Value>) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in spec {
            match self.fields.iter().find(|field| field.name == name) {
                None => {
                    faults.push(format!("spec.{name} is not known; {} has: {}", self.name, self.listed()))
                }
                Some(field) => faults.extend(field.fault(value)),
            }
        }
        for field in self.fields.iter().filter(|field| field.is_needed && !spec.contains_key(field.name)) {
            faults.push(format!("spec.{} is missing", field.name));
        }
        faults
    }

    fn listed(&self) -> String {
        let said = self.fields.iter().filter(|field| !field.is_shown());
        said.map(|field| field.name).collect::<Vec<_>>().join(", ")
    }

    /// Whether the field only shows something.
    pub(crate) fn only_shows(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name && field.is_shown())
    }
}

impl Field {
    fn fault(&self, value: &Value) -> Option<String> {
        let texts = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
        let fits = match self.takes {
            Takes::Text => value.is_string(),
            Takes::TextOrNothing => value.is_string() || value.is_null(),
            Takes::Texts => texts(value),
            Takes::Number => value.is_u64(),
            Takes::NumberOrNothing => value.is_u64() || value.is_null(),
            Takes::Truth => value.is_boolean(),
            Takes::Object(fields) => return self.object_fault(value, fields),
            Takes::Shown => true,
        };
        (!fits).then(|| format!("spec.{} takes {}", self.name, self.wanted()))
    }

    /// What it takes, in words.
    pub(crate) fn wanted(&self) -> &'static str {
        match self.takes {
            Takes::Text => "a text; a number or a truth value goes in quotes",
            Takes::TextOrNothing => "a text or null",
            Takes::Texts => "a list of texts",
            Takes::Number => "a whole number",
            Takes::NumberOrNothing => "a whole number or null",
            Takes::Truth => "true or false",
            Takes::Object(_) => "an object or null",
            Takes::Shown => "anything: it is only shown",
        }
    }

    /// Whether nobody says it: it may stand there because the API shows it.
    pub(crate) fn is_shown(&self) -> bool {
        matches!(self.takes, Takes::Shown)
    }

    fn object_fault(&self, value: &Value, fields: &[&str]) -> Option<String> {
        let all = fields.join(", ");
        let Some(members) = value.as_object() else {
            return (!value.is_null())
                .then(|| format!("spec.{} takes an object with {all}, or null", self.name));
        };
        members.iter().find_map(|(name, value)| match (fields.contains(&name.as_str()), value.is_string()) {
            (false, _) => Some(format!("spec.{}.{name} is not known; there are: {all}", self.name)),
            (true, false) => Some(format!("spec.{}.{name} takes a text", self.name)),
            (true, true) => None,
        })
    }
}
