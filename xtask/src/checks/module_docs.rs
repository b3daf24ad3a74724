//! Every file begins with what it is for and why it is a file of its own.

use anyhow::Result;

use crate::finding::Finding;
use crate::repository::Repository;

pub(super) const RULE: &str = "module docs";

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    let undocumented = repository.ending(".rs").filter(|file| !file.text.starts_with("//! "));
    let finding = |path: &str| {
        Finding::new(
            RULE,
            path,
            1,
            "the file does not begin with `//!`",
            "say in its first lines what it is for, why it is separate and what it leaves to others",
        )
    };
    Ok(undocumented.map(|file| finding(&file.path)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_opening_is_found() {
        let repository = Repository::of(&[
            ("a.rs", "//! What and why.\n"),
            ("b.rs", "use std::fs;\n"),
            ("c.rs", "#![allow(x)]\n//! Too late.\n"),
        ]);
        let paths: Vec<_> =
            check(&repository).expect("checks").into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["b.rs", "c.rs"]);
    }
}
