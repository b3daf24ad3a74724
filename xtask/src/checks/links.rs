//! Links between the documents lead somewhere.

use anyhow::Result;

use crate::document;
use crate::finding::Finding;
use crate::repository::{File, Repository};

pub(super) const RULE: &str = "links";

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    Ok(repository.ending(".md").flat_map(|file| dead_links(repository, file)).collect())
}

fn dead_links(repository: &Repository, file: &File) -> Vec<Finding> {
    document::links(file)
        .into_iter()
        .filter(|link| !leads_elsewhere(&link.text))
        .filter(|link| !repository.has(&resolved(&file.path, &link.text)))
        .map(|link| {
            Finding::new(
                RULE,
                &file.path,
                link.line,
                format!("the link to {} leads nowhere", link.text),
                "correct the path, or write the page",
            )
        })
        .collect()
}

/// Other sites are not asked: a check must not depend on them. Places within a page are found by their readers.
fn leads_elsewhere(target: &str) -> bool {
    target.contains("://") || target.starts_with('#') || target.starts_with("mailto:")
}

fn resolved(from: &str, target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_links_are_found_from_where_they_stand() {
        let page =
            "[a](../README.md#try-it) [b](other.md) [c](https://example.org) [d](#here)\n[e](gone.md)\n";
        let repository =
            Repository::of(&[("README.md", "[f](docs/)"), ("docs/page.md", page), ("docs/other.md", "")]);
        let findings = check(&repository).expect("checks");
        let found: Vec<_> = findings.iter().map(|finding| (finding.line, finding.problem.as_str())).collect();
        assert_eq!(found, [(2, "the link to gone.md leads nowhere")]);
    }
}
