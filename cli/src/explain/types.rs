//! The words for types, as on the command line and in files, and the API's schemas of each.

/// A type that can be explained.
pub(super) struct Type {
    /// The word of the command line first, then whatever else people say.
    pub(super) words: &'static [&'static str],
    /// What the API shows.
    pub(super) schema: &'static str,
    /// What the API takes to make or change one.
    pub(super) wishes: &'static [&'static str],
    /// In files of `skep apply`.
    pub(super) kind: Option<&'static str>,
}

/// Every type, in the order in which they are listed.
pub(super) const TYPES: &[Type] = &[
    Type {
        kind: Some("Environment"),
        ..of(
            &["env", "envs", "environment", "environments"],
            "Environment",
            &["EnvironmentWish", "EnvironmentPatch"],
        )
    },
    Type { kind: Some("Template"), ..of(&["template", "templates"], "Template", &["TemplateWish"]) },
    of(&["host", "hosts"], "Host", &["HostWish", "HostPatch"]),
    Type { kind: Some("Stack"), ..of(&["stack", "stacks"], "Stack", &["StackWish"]) },
    Type { kind: Some("Registry"), ..of(&["registry", "registries"], "Registry", &["RegistryWish"]) },
    of(&["task", "tasks"], "Task", &[]),
    of(&["image", "images"], "Image", &[]),
    of(&["driver", "drivers"], "Driver", &[]),
    of(&["orphan", "orphans"], "Orphan", &[]),
    Type { kind: Some("User"), ..of(&["user", "users"], "User", &["UserCreation"]) },
    Type { kind: Some("Group"), ..of(&["group", "groups"], "Group", &["GroupWish"]) },
    Type { kind: Some("Role"), ..of(&["role", "roles"], "Role", &["RoleSetting"]) },
    Type { kind: Some("Member"), ..of(&["member", "members"], "RoleBinding", &["MemberWish"]) },
    Type {
        kind: Some("RoleBinding"),
        ..of(&["role-binding", "role-bindings", "rolebinding"], "RoleBinding", &["MemberWish"])
    },
    of(&["token", "tokens"], "ApiKey", &["ApiKeyWish"]),
    of(&["session", "sessions"], "Session", &[]),
    of(&["audit"], "AuditEntry", &[]),
    of(&["op", "ops", "operation", "operations"], "Operation", &[]),
    of(&["event", "events"], "Event", &[]),
    of(&["snapshot", "snapshots"], "Snapshot", &[]),
    of(&["snapshot-schedule", "snapshot-schedules"], "SnapshotSchedule", &["ScheduleSpec"]),
    of(&["cluster", "clusters"], "Cluster", &[]),
    of(&["manager", "managers"], "ClusterMember", &[]),
    of(&["join-token", "join-tokens"], "JoinToken", &["JoinTokenWish"]),
    of(&["registration-token", "registration-tokens"], "RegistrationToken", &["RegistrationTokenWish"]),
    of(&["plan", "plans"], "Plan", &[]),
    of(&["problem", "problems"], "Problem", &[]),
];

const fn of(words: &'static [&'static str], schema: &'static str, wishes: &'static [&'static str]) -> Type {
    Type { words, schema, wishes, kind: None }
}

impl Type {
    /// The one that a word means, whatever its case.
    pub(super) fn named(word: &str) -> Option<&'static Type> {
        let is_it = |known: &&str| known.eq_ignore_ascii_case(word);
        TYPES.iter().find(|kind| kind.words.iter().any(is_it))
    }

    /// As it is called on the command line.
    pub(super) fn word(&self) -> &'static str {
        self.words[0]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;
    use skep_codes::Code;

    use super::*;
    use crate::ClientLine;
    use crate::apply::kind::KINDS;
    use crate::noun::NOUNS;

    #[test]
    fn every_word_of_a_type_means_one() {
        let words: Vec<&str> = TYPES.iter().flat_map(|kind| kind.words).copied().collect();
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
        for noun in NOUNS {
            assert!(Type::named(noun.word).is_some(), "{}", noun.word);
        }
        for kind in KINDS {
            assert_eq!(Type::named(kind.name).and_then(|known| known.kind), Some(kind.name));
        }
        for command in ClientLine::command().get_subcommands() {
            if let Some(kind) = Type::named(command.get_name()) {
                for alias in command.get_all_aliases() {
                    assert_eq!(Type::named(alias).map(Type::word), Some(kind.word()), "{alias}");
                }
            }
        }
        for code in Code::ALL {
            assert!(Type::named(code.reason()).is_none(), "{} is a type, too", code.reason());
        }
    }
}
