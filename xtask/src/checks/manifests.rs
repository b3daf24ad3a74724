//! Every crate takes lints and versions of dependencies from the workspace, so that they are the same everywhere.

use anyhow::Result;
use toml::Value;

use crate::finding::Finding;
use crate::repository::{Package, Repository};

pub(super) const RULE: &str = "manifests";

const DEPENDENCY_TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    let mut findings = vec![];
    for package in repository.packages()? {
        let find = |text: &str| repository.file(&package.manifest).map_or(1, |file| file.line_with(text));
        if !is_from_workspace(package.table.get("lints")) {
            findings.push(Finding::new(
                RULE,
                &package.manifest,
                1,
                "the crate does not take the workspace's lints",
                "write `[lints]` with `workspace = true`",
            ));
        }
        for name in own_versions(&package) {
            findings.push(Finding::new(
                RULE,
                &package.manifest,
                find(&format!("{name} ")),
                format!("`{name}` has a version of its own"),
                "name it in the workspace's Cargo.toml and write `workspace = true` here",
            ));
        }
    }
    Ok(findings)
}

fn own_versions(package: &Package) -> Vec<String> {
    let tables = DEPENDENCY_TABLES.iter().filter_map(|table| package.table.get(*table)?.as_table());
    let own = |(name, value): (&String, &Value)| (!is_from_workspace(Some(value))).then(|| name.clone());
    tables.flatten().filter_map(own).collect()
}

fn is_from_workspace(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_and_versions_of_a_crates_own_are_found() {
        let repository = Repository::of(&[
            ("Cargo.toml", "[workspace]\nmembers = [\"a\", \"b\"]\n"),
            ("a/Cargo.toml", "[lints]\nworkspace = true\n[dependencies]\nserde.workspace = true\n"),
            (
                "b/Cargo.toml",
                "[dependencies]\nserde.workspace = true\n[dev-dependencies]\ntempfile = \"3\"\n",
            ),
        ]);
        let findings = check(&repository).expect("checks");
        let found: Vec<_> = findings.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
        assert_eq!(found, [("b/Cargo.toml", 1), ("b/Cargo.toml", 4)]);
    }
}
