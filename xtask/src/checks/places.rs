//! Nothing in the repository depends on the computer on which it was written.

use anyhow::Result;

use crate::finding::Finding;
use crate::repository::{File, Repository};

pub(super) const RULE: &str = "places";

/// Things that are not the same everywhere.
struct Places {
    texts: &'static [&'static str],
    instead: &'static str,
}

const PLACES: &[Places] = &[
    Places {
        texts: &["/work/", "/root/", "/tmp/design"],
        instead: "write a path below the repository, a folder made for the purpose, or $HOME",
    },
    Places {
        texts: &[
            "index.crates.io",
            "static.crates.io",
            "registry-1.docker.io",
            "registry.npmjs.org",
            "deb.debian.org",
        ],
        instead: "which mirror packages come from is set on each computer, outside of the repository",
    },
];

/// Written by cargo.
const LOCK_FILE: &str = "Cargo.lock";

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    // This file has to name what it looks for.
    let files = repository.files.iter().filter(|file| file.path != LOCK_FILE && file.path != file!());
    Ok(files.flat_map(mentions).collect())
}

fn mentions(file: &File) -> Vec<Finding> {
    let mut findings = vec![];
    for (number, line) in file.lines() {
        for places in PLACES {
            let found = places.texts.iter().filter(|text| line.contains(*text));
            findings.extend(
                found.map(|text| Finding::new(RULE, &file.path, number, format!("'{text}'"), places.instead)),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_computer_are_found() {
        let repository = Repository::of(&[
            ("deploy/setup.sh", "cd /work/main\ncd \"$HOME/.cache\"\n"),
            ("Cargo.lock", "static.crates.io"),
        ]);
        let findings = check(&repository).expect("checks");
        let found: Vec<_> = findings.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
        assert_eq!(found, [("deploy/setup.sh", 1)]);
    }
}
