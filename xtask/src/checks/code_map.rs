//! ARCHITECTURE.md speaks of every crate, and the files that the documents name exist.

use anyhow::{Context, Result};

use super::arrows::DOCUMENT;
use crate::document;
use crate::finding::Finding;
use crate::repository::{File, Repository};

pub(super) const RULE: &str = "code map";

/// What people read to find their way; generated pages check themselves.
const GUIDES: &[&str] = &[DOCUMENT, "CONTRIBUTING.md", "README.md", "deploy/README.md"];

/// Endings by which a word in code type is taken for a file of ours.
const FILE_ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".proto", ".yml", ".sh", ".service", "/"];

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    let map = repository.file(DOCUMENT).with_context(|| format!("there is no {DOCUMENT}"))?;
    let mut findings = vec![];
    for package in repository.packages()? {
        let heading = format!("### `{}/`", package.folder);
        if !map.lines().any(|(_, line)| line.starts_with(&heading)) {
            findings.push(Finding::new(
                RULE,
                DOCUMENT,
                1,
                format!("the code map has no section '{heading}'"),
                "say in two or three sentences what the crate is for, and its invariants",
            ));
        }
    }
    for guide in GUIDES.iter().filter_map(|path| repository.file(path)) {
        findings.extend(missing_files(repository, guide));
    }
    Ok(findings)
}

fn missing_files(repository: &Repository, guide: &File) -> Vec<Finding> {
    document::code_words(guide)
        .into_iter()
        .filter(|word| names_a_file(repository, &word.text) && !repository.has(&word.text))
        .map(|word| {
            Finding::new(
                RULE,
                &guide.path,
                word.line,
                format!("it names `{}`, which does not exist", word.text),
                "name the file that has taken its place; write <name> for a file that is still to be made",
            )
        })
        .collect()
}

/// A path from the root: its first folder is one of ours and nothing in it is a placeholder.
fn names_a_file(repository: &Repository, word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let ends_like_one = FILE_ENDINGS.iter().any(|ending| word.ends_with(ending));
    let first = word.split('/').next().unwrap_or_default();
    plain && ends_like_one && word.contains('/') && repository.has(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_without_a_section_and_files_that_are_gone_are_found() {
        let map = "### `model/`\n\nStart at `model/src/host.rs`, then `model/src/gone.rs` and `model/src/<noun>.rs`; `a/b.rs` is not ours.\n";
        let repository = Repository::of(&[
            ("Cargo.toml", "[workspace]\nmembers = [\"model\", \"ledger\"]\n"),
            ("model/Cargo.toml", ""),
            ("ledger/Cargo.toml", ""),
            ("model/src/host.rs", ""),
            (DOCUMENT, map),
        ]);
        let findings = check(&repository).expect("checks");
        let problems: Vec<_> = findings.iter().map(|finding| finding.problem.as_str()).collect();
        assert_eq!(
            problems,
            [
                "the code map has no section '### `ledger/`'",
                "it names `model/src/gone.rs`, which does not exist"
            ]
        );
    }
}
