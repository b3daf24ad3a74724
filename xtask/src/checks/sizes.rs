//! Functions fit a screen, files can be read in one go.
//!
//! A ratchet: what is longer is named in [`LONGER`] with its length and a reason, may not grow, and is taken off the
//! list when it has become short.

use anyhow::Result;

use crate::finding::Finding;
use crate::repository::Repository;
use crate::rust::RustFile;

pub(super) const RULE: &str = "size";

/// Two screens. The usual function has ten lines.
const FUNCTION_LINES_MAX: usize = 80;

/// Without the tests inside it. The usual file has 100 to 300 lines.
const FILE_LINES_MAX: usize = 600;

/// Something that is longer, for now.
struct Longer {
    /// The file, or `file::function`.
    name: &'static str,
    /// As long as it is today.
    lines_max: usize,
    /// Why it is not divided.
    reason: &'static str,
}

const LONGER: &[Longer] = &[
    Longer { name: "model/src/fact.rs::record", lines_max: 120, reason: ONE_ARM_EACH },
    Longer { name: "scheduler/src/effect.rs::fmt", lines_max: 93, reason: ONE_ARM_EACH },
    Longer { name: "scheduler/src/effects/mod.rs::act", lines_max: 124, reason: ONE_ARM_EACH },
];

const ONE_ARM_EACH: &str = "one arm for each kind; in one match the compiler names the one that is missing";

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    compare(repository, LONGER)
}

fn compare(repository: &Repository, longer: &[Longer]) -> Result<Vec<Finding>> {
    let measured: Vec<Measured> = repository.rust_files()?.iter().flat_map(measure).collect();
    let too_long = measured.iter().filter_map(|measured| too_long(measured, longer));
    let no_longer =
        longer.iter().filter(|entry| !measured.iter().any(|it| it.name == entry.name && it.is_long()));
    let no_longer = no_longer.map(|entry| {
        Finding::new(
            RULE,
            file!(),
            1,
            format!("{} is in LONGER but is not too long any more ({})", entry.name, entry.reason),
            "take it off the list, so that it stays short",
        )
    });
    Ok(too_long.chain(no_longer).collect())
}

struct Measured {
    name: String,
    path: String,
    line: usize,
    lines: usize,
    lines_max: usize,
}

impl Measured {
    fn is_long(&self) -> bool {
        self.lines > self.lines_max
    }
}

fn measure(file: &RustFile) -> Vec<Measured> {
    let path = || file.path.clone();
    let mut measured = vec![Measured {
        name: path(),
        path: path(),
        line: 1,
        lines: file.product_lines,
        lines_max: FILE_LINES_MAX,
    }];
    measured.extend(file.functions.iter().map(|function| Measured {
        name: format!("{}::{}", file.path, function.name),
        path: path(),
        line: function.line,
        lines: function.lines,
        lines_max: FUNCTION_LINES_MAX,
    }));
    measured
}

fn too_long(measured: &Measured, longer: &[Longer]) -> Option<Finding> {
    let allowed = longer.iter().find(|entry| entry.name == measured.name);
    let lines_max = allowed.map_or(measured.lines_max, |entry| entry.lines_max);
    (measured.lines > lines_max).then(|| {
        Finding::new(
            RULE,
            &measured.path,
            measured.line,
            format!("{} has {} lines, at most {lines_max} are allowed", measured.name, measured.lines),
            "divide it by what its parts are for; if that would make it harder to read, say why in LONGER",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Longer = Longer { name: "a.rs::long", lines_max: 90, reason: "one table" };

    fn problems(function_lines: usize, longer: &[Longer]) -> Vec<String> {
        let text = format!("fn long() {{\n{}}}\n", "x();\n".repeat(function_lines - 2));
        let findings = compare(&Repository::of(&[("a.rs", &text)]), longer).expect("checks");
        findings.into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn long_functions_are_found_unless_they_are_listed_and_have_not_grown() {
        assert!(problems(80, &[]).is_empty());
        assert_eq!(problems(81, &[]), ["a.rs::long has 81 lines, at most 80 are allowed"]);
        assert!(problems(90, &[ENTRY]).is_empty());
        assert_eq!(problems(91, &[ENTRY]), ["a.rs::long has 91 lines, at most 90 are allowed"]);
    }

    #[test]
    fn an_entry_that_is_not_needed_is_found() {
        assert_eq!(
            problems(80, &[ENTRY]),
            ["a.rs::long is in LONGER but is not too long any more (one table)"]
        );
    }

    #[test]
    fn long_files_are_found_without_their_tests() {
        let product = "//! a\n".repeat(601);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "use a;\n".repeat(601));
        let repository = Repository::of(&[("product.rs", &product), ("tested.rs", &tests)]);
        let paths: Vec<_> =
            compare(&repository, &[]).expect("checks").into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["product.rs"]);
    }
}
