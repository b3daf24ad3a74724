//! Who may import whom. The table in ARCHITECTURE.md is the source; the manifests must say the same.
//!
//! Equal, not "at most": an arrow that is allowed and not used is taken for a description of the code and is wrong.
//! Dependencies of tests are free, because they cannot reach the product.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::document;
use crate::finding::Finding;
use crate::repository::{Package, Repository};

pub(super) const RULE: &str = "arrows";

pub(super) const DOCUMENT: &str = "ARCHITECTURE.md";

/// What our own packages' names begin with; the rest is the folder.
const OWN: &str = "skep-";

struct Row {
    line: usize,
    level: u32,
    imports: BTreeSet<String>,
}

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    let rows = rows(repository)?;
    let mut findings = vec![];
    for package in repository.packages()? {
        match rows.get(&package.folder) {
            Some(row) => findings.extend(compare(repository, &package, row)),
            None => findings.push(Finding::new(
                RULE,
                DOCUMENT,
                1,
                format!("the arrow table has no row for `{}`", package.folder),
                "add one with its level, what it is and what it may import",
            )),
        }
    }
    findings.extend(rows.iter().flat_map(|(folder, row)| downward(folder, row, &rows)));
    Ok(findings)
}

fn rows(repository: &Repository) -> Result<BTreeMap<String, Row>> {
    let file = repository.file(DOCUMENT).with_context(|| format!("there is no {DOCUMENT}"))?;
    let table = document::table(file, &["level", "crate", "may import"]);
    let table = table.with_context(|| format!("{DOCUMENT} has no table with level, crate and may import"))?;
    let row = |(line, cells): (usize, Vec<String>)| {
        let level =
            cells[0].parse().with_context(|| format!("{DOCUMENT}:{line}: '{}' is no level", cells[0]))?;
        let imports = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Ok((cells[1].trim_matches('`').to_owned(), Row { line, level, imports }))
    };
    table.into_iter().map(row).collect()
}

fn compare(repository: &Repository, package: &Package, row: &Row) -> Vec<Finding> {
    let real = imports(package);
    let folder = &package.folder;
    let undrawn = real.difference(&row.imports).map(|import| {
        let line =
            repository.file(&package.manifest).map_or(1, |file| file.line_with(&format!("{OWN}{import}")));
        Finding::new(
            RULE,
            &package.manifest,
            line,
            format!("`{folder}` imports `{import}`, which the arrow table of {DOCUMENT} does not allow"),
            "move the code to where it belongs, or draw the arrow and say in the commit why it is needed",
        )
    });
    let unused = row.imports.difference(&real).map(|import| {
        Finding::new(
            RULE,
            DOCUMENT,
            row.line,
            format!("`{folder}` may import `{import}` but does not"),
            "take the arrow out of the table",
        )
    });
    undrawn.chain(unused).collect()
}

fn imports(package: &Package) -> BTreeSet<String> {
    let dependencies = package.table.get("dependencies").and_then(toml::Value::as_table);
    let own = |name: &String| name.strip_prefix(OWN).map(str::to_owned);
    dependencies.into_iter().flat_map(toml::Table::keys).filter_map(own).collect()
}

/// Arrows go to a lower level, so that there is a bottom from which to read and to build.
fn downward(folder: &str, row: &Row, rows: &BTreeMap<String, Row>) -> Vec<Finding> {
    let wrong = |import: &&String| rows.get(*import).is_none_or(|other| other.level >= row.level);
    row.imports
        .iter()
        .filter(wrong)
        .map(|import| {
            Finding::new(
                RULE,
                DOCUMENT,
                row.line,
                format!("the arrow from `{folder}` to `{import}` does not go down"),
                "a crate imports lower levels only: move what both need into a crate below them",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: (&str, &str) = ("Cargo.toml", "[workspace]\nmembers = [\"model\", \"ledger\"]\n");

    fn findings(model: &str, table_rows: &str) -> Vec<String> {
        let table = format!("| level | crate | what | may import |\n|---|---|---|---|\n{table_rows}");
        let files =
            [ROOT, ("model/Cargo.toml", model), ("ledger/Cargo.toml", ""), (DOCUMENT, table.as_str())];
        let findings = check(&Repository::of(&files)).expect("checks");
        findings
            .into_iter()
            .map(|finding| format!("{}:{} {}", finding.path, finding.line, finding.problem))
            .collect()
    }

    const BOTH: &str = "| 3 | `model` | nouns | `ledger` |\n| 2 | `ledger` | door | none |\n";

    #[test]
    fn a_table_that_is_true_is_fine() {
        let model = "[dependencies]\nserde = \"1\"\nskep-ledger.workspace = true\n[dev-dependencies]\nskep-api = \"1\"\n";
        assert_eq!(findings(model, BOTH), Vec::<String>::new());
    }

    #[test]
    fn arrows_that_are_not_drawn_or_not_used_are_found() {
        let found = findings("[dependencies]\n\nskep-raft.workspace = true\n", BOTH);
        assert_eq!(
            found,
            [
                "model/Cargo.toml:3 `model` imports `raft`, which the arrow table of ARCHITECTURE.md does not allow",
                "ARCHITECTURE.md:3 `model` may import `ledger` but does not",
            ]
        );
    }

    #[test]
    fn an_arrow_upwards_and_a_crate_without_a_row_are_found() {
        let found = findings("[dependencies]\nskep-ledger = \"1\"\n", "| 2 | `model` | nouns | `ledger` |\n");
        assert_eq!(
            found,
            [
                "ARCHITECTURE.md:1 the arrow table has no row for `ledger`",
                "ARCHITECTURE.md:3 the arrow from `model` to `ledger` does not go down",
            ]
        );
    }
}
