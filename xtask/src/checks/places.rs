//! Nothing in the repository depends on the computer on which it was written.

use anyhow::Result;

use crate::finding::Finding;
use crate::repository::{File, Repository};

pub(super) const RULE: &str = "places";

/// Something that is not the same everywhere.
struct Place {
    text: &'static str,
    instead: &'static str,
}

const PLACES: &[Place] = &[
    Place {
        text: "/work/",
        instead: A_PATH,
    },
    Place {
        text: "/tmp/design",
        instead: A_PATH,
    },
    Place {
        text: "/home/",
        instead: A_PATH,
    },
    Place {
        text: "/root/",
        instead: A_PATH,
    },
    Place {
        text: "/Users/",
        instead: A_PATH,
    },
    Place {
        text: "index.crates.io",
        instead: A_MIRROR,
    },
    Place {
        text: "static.crates.io",
        instead: A_MIRROR,
    },
    Place {
        text: "registry-1.docker.io",
        instead: A_MIRROR,
    },
    Place {
        text: "registry.npmjs.org",
        instead: A_MIRROR,
    },
    Place {
        text: "deb.debian.org",
        instead: A_MIRROR,
    },
    Place {
        text: "CARGO_REGISTRIES_",
        instead: A_MIRROR,
    },
];

const A_PATH: &str = "write a path below the repository, a folder made for the purpose, or $HOME";
const A_MIRROR: &str = "which mirror packages come from is set on each computer, outside of the repository";

/// Written by cargo.
const LOCK_FILE: &str = "Cargo.lock";

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    // This file has to name what it looks for.
    let files = repository
        .files
        .iter()
        .filter(|file| file.path != LOCK_FILE && file.path != file!());
    Ok(files.flat_map(mentions).collect())
}

fn mentions(file: &File) -> Vec<Finding> {
    let places = |(number, line): (usize, &str)| {
        let places = PLACES.iter().filter(|place| line.contains(place.text));
        let found: Vec<_> = places
            .map(|place| {
                Finding::new(
                    RULE,
                    &file.path,
                    number,
                    format!("'{}'", place.text),
                    place.instead,
                )
            })
            .collect();
        found
    };
    file.lines().flat_map(places).collect()
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
        let found: Vec<_> = findings
            .iter()
            .map(|finding| (finding.path.as_str(), finding.line))
            .collect();
        assert_eq!(found, [("deploy/setup.sh", 1)]);
    }
}
